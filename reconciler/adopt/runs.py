"""Runs that were found → stages in order: where each began, how far it trained, along which schedule. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.adopt.course import Course, course_of
from reconciler.adopt.facts import Fact, Known, truth
from reconciler.adopt.launcher_names import WORDS
from reconciler.adopt.reading import known_of, logs_of
from reconciler.launcher.oracle import same_folder
from reconciler.model.legacy import Run, RunJob, Survey
from reconciler.model.observed import CheckpointSeen
from reconciler.model.quantities import counted

FRESH_S = 1800.0
"""A log that was written to more recently may be of a run that goes on."""
HELD_FIXED = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "sequence_length",
    "global_batch",
    "tensor",
    "pipeline",
    "precision",
)


class NotAdopted(Exception):
    """Why no manifests can be written; `fix` says what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Start:
    """What a run began from."""

    folder: str
    """Empty for random weights."""
    iteration: int
    """Of the checkpoint in that folder; 0 where that is not known."""
    counted_from: int
    """Where the run's own iteration counter stood before its first step."""
    warms_anew: bool
    source: str
    """Where this is from, in words for a comment."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One run that is adopted."""

    run: Run
    save: CheckpointSeen
    known: Known
    start: Start
    course: Course
    length: Fact
    parent: Trained | None = None

    @property
    def iterations(self) -> int:
        """Steps that it trained."""
        return self.course.trained

    @property
    def tokens_per_iteration(self) -> int:
        """Global batch × sequence length."""
        return (self.known.integer("global_batch") or 0) * (self.known.integer("sequence_length") or 0)

    @property
    def tokens(self) -> int:
        """All that it drew."""
        return self.iterations * self.tokens_per_iteration


@dataclass(frozen=True, slots=True)
class Adopted:
    """Runs in order, each before those that continue from it, and what a person should know of them."""

    runs: tuple[Trained, ...]
    warnings: tuple[str, ...]


def adopted(survey: Survey, ranks: int, iteration: int | None = None) -> Adopted:
    """The runs of a survey, as stages. `ranks` are those of one node of the cluster.

    Raises:
        NotAdopted: there is none that can be; the message says why, and what to do.
    """
    if not survey.runs:
        raise NotAdopted(
            f"{survey.path} holds no checkpoint: neither it nor a folder right under it has a global_stepN folder",
            "Name the run's SAVE folder, the one that holds `latest`.",
        )
    if iteration is not None and len(survey.runs) > 1:
        raise NotAdopted(f"--iteration is of one run, and {survey.path} holds {len(survey.runs)}", "Name one of them.")
    warnings = list(survey.unread)
    _must_be_over(survey, iteration, warnings)
    starts = {run.folder: _start(run, survey, ranks) for run in survey.runs}
    chosen = {run.folder: _save(run, iteration or _continued_at(run, starts), warnings) for run in survey.runs}
    found: list[Trained] = []
    for run in _ordered(survey.runs, starts):
        found.append(_trained(run, chosen[run.folder], starts[run.folder], (survey, ranks), found, warnings))
    _must_agree(found)
    return Adopted(tuple(found), tuple(dict.fromkeys(warnings)))


# --- which checkpoint


def _must_be_over(survey: Survey, iteration: int | None, warnings: list[str]) -> None:
    """A run that goes on has no end yet."""
    live = [job for job in survey.jobs if job.live]
    if live and iteration is None:
        raise NotAdopted(
            f"{_told(live)}, so the run is not over: where it ends is not known",
            "Adopt it when that has ended (`qstat`, `qdel`), or as it stood at a checkpoint: --iteration N.",
        )
    if live:
        warnings.append(f"{_told(live)}: the stage stands for the run as it was at {iteration}")
    ended = {job.run for job in survey.jobs if not job.live}
    for run in survey.runs:
        newest = max((log.changed_s for log in run.logs), default=0.0)
        if survey.now_s - newest < FRESH_S and run.folder not in ended and not live:
            minutes = int((survey.now_s - newest) // 60)
            ago = f"{counted(minutes, 'minute')} ago" if minutes >= 1 else "just now"
            warnings.append(
                f"a log of {run.folder} was written to {ago}, and PBS knows no job of yours that wrote it: "
                "make sure that nobody's job goes on there"
            )


def _told(live: Sequence[RunJob]) -> str:
    """Which jobs are live, and what of each names a run."""
    jobs = ", ".join(f"{job.job_id} ({job.letter}; its {job.named_by} names {job.run})" for job in live)
    return f"job {jobs} is live" if len(live) == 1 else f"jobs {jobs} are live"


def _save(run: Run, iteration: int | None, warnings: list[str]) -> CheckpointSeen:
    """The complete checkpoint that the stage ends at; of one that is there in both forms, the universal one."""
    whole = [s for s in run.saves if s.complete and (not s.universal or s.iteration == run.latest_universal)]
    for save in run.saves:
        if save.why_not and save.iteration > max((s.iteration for s in whole), default=-1):
            warnings.append(
                f"{run.folder}: the checkpoint at iteration {save.iteration} is not complete: {save.why_not}"
            )
    wanted = [save for save in whole if iteration is None or save.iteration == iteration]
    if not wanted:
        there = ", ".join(str(save.iteration) for save in whole[-8:]) or "none"
        why = next((f": {s.why_not}" for s in run.saves if s.iteration == iteration and s.why_not), "")
        last = "" if iteration is not None else next((f" ({s.why_not})" for s in reversed(run.saves) if s.why_not), "")
        what = f"no complete checkpoint at iteration {iteration}{why}" if iteration else f"no complete checkpoint{last}"
        raise NotAdopted(f"{run.folder} has {what}; complete ones: {there}", "Name another iteration: --iteration N.")
    newest = max(save.iteration for save in wanted)
    return max((save for save in wanted if save.iteration == newest), key=lambda save: save.universal)


def _continued_at(run: Run, starts: dict[str, Start]) -> int | None:
    """Where another run went on from this one: that is its end, whatever it trained after it."""
    at = [start.iteration for start in starts.values() if start.iteration and same_folder(start.folder, run.folder)]
    whole = {save.iteration for save in run.saves if not save.why_not}
    return next((iteration for iteration in at if iteration in whole), None)


# --- where it began


def _start(run: Run, survey: Survey, ranks: int) -> Start:
    """By the first job's log, else by the script, else by the last job's arguments; else random weights are assumed."""
    newest = max(run.saves, key=lambda save: save.iteration)
    logs = logs_of(run, newest)
    if logs:
        first = logs[0]
        name = first.path.rsplit("/", 1)[-1]
        own = not first.loaded_from or same_folder(first.loaded_from, run.folder)
        if (first.random or own) and first.first == 1:
            return Start("", 0, 0, False, f"from the log ({name}): it loads nothing and begins at iteration 1")
        if not own:
            begins = (first.first or 1) - 1
            anew = begins == 0 and truth(first.arguments.get("finetune"))
            at = first.loaded_iteration or 0
            return Start(first.loaded_from, at, begins, anew, f"from the log ({name}): loaded at iteration {at}")
        begins = (first.first or 1) - 1
        return Start(
            "",
            0,
            0,
            False,
            f"TODO: the first log that is there ({name}) goes on at iteration {begins}; random weights before it are "
            "assumed",
        )
    known, _ = known_of(run, newest, survey, ranks)
    load = known.fact("load")
    if load is not None and str(load.value).startswith("/") and not same_folder(str(load.value), run.folder):
        anew = truth(known.text("finetune"))
        return Start(str(load.value), 0, 0, anew, load.source)
    return Start("", 0, 0, False, "TODO: nothing tells what it began from; random weights are assumed")


def _ordered(runs: Sequence[Run], starts: dict[str, Start]) -> list[Run]:
    """Each run after the one that it continues from."""
    left, done = list(runs), list[Run]()
    while left:
        ready = [
            run for run in left if not any(_continues(starts[run.folder], other) for other in left if other is not run)
        ]
        if not ready:
            raise NotAdopted("the runs continue from each other in a circle: " + ", ".join(run.folder for run in left))
        done += ready
        left = [run for run in left if run not in ready]
    roots = [run for run in done if not any(_continues(starts[run.folder], other) for other in done)]
    if len(roots) > 1:
        raise NotAdopted(
            f"{counted(len(roots), 'run')} here begin by themselves: {', '.join(run.folder for run in roots)}. "
            "The stages of a campaign continue from one another",
            "Adopt each into a campaign of its own: reconcile adopt PATH/RUN …",
        )
    return done


def _continues(start: Start, other: Run) -> bool:
    return bool(start.folder) and same_folder(start.folder, other.folder)


# --- what it trained


def _trained(
    run: Run,
    save: CheckpointSeen,
    start: Start,
    survey: tuple[Survey, int],
    before: Sequence[Trained],
    warnings: list[str],
) -> Trained:
    known, trouble = known_of(run, save, *survey)
    warnings += trouble
    warnings += [f"{run.folder}: {why}" for why in run.unread]
    warnings += [f"{run.folder}: {told}" for told in known.contradictions(WORDS)]
    if not known.integer("global_batch") or not known.integer("sequence_length"):
        raise NotAdopted(
            f"{run.folder}: nothing tells its global batch and sequence length: its checkpoint has no arguments, it "
            "has no log, and its folder's name is none of the launcher's",
            "Name its launch script or a log: --script FILE, --log FILE.",
        )
    parent = next((earlier for earlier in before if _continues(start, earlier.run)), None)
    if parent is not None and start.iteration not in (0, parent.save.iteration):
        warnings.append(
            f"{run.folder} went on from iteration {start.iteration} of {parent.run.folder}, which is not complete "
            f"there: its stage is said to go on from {parent.save.iteration}"
        )
    trained = save.iteration - start.counted_from
    if trained <= 0:
        raise NotAdopted(
            f"{run.folder} trained nothing: it began at iteration {start.counted_from} of {save.iteration}"
        )
    if not start.folder or start.warms_anew:
        begins = 0
    else:
        begins = parent.course.ends if parent is not None else max(1, start.iteration)
    before_it = parent.course if parent is not None else None
    course, length = course_of(known, begins=begins, trained=trained, warms_anew=start.warms_anew, before=before_it)
    _checked(run, save, known, course, warnings)
    return Trained(run, save, known, _with_parent(start, parent), course, length, parent)


def _with_parent(start: Start, parent: Trained | None) -> Start:
    return start if parent is None else replace(start, iteration=parent.save.iteration)


def _checked(run: Run, save: CheckpointSeen, known: Known, course: Course, warnings: list[str]) -> None:
    """Where the counters inside and the rate do not come to what follows from iterations."""
    position, batch = known.number("position"), known.integer("global_batch") or 0
    if position is not None and abs(position - course.ends) > 1:
        warnings.append(
            f"{run.folder}: the scheduler inside stands at {position:g} iterations, but by its counters the run is at "
            f"{course.ends}: was the batch changed on the way?"
        )
    tokens = save.inside.trained_tokens if save.inside is not None else None
    step = batch * (known.integer("sequence_length") or 0)
    if tokens and abs(tokens - save.iteration * step) > step:
        warnings.append(
            f"{run.folder}: it has counted {tokens} tokens, but {save.iteration} iterations of {step} are "
            f"{save.iteration * step}: was the batch changed on the way?"
        )
    logged = [log for log in logs_of(run, save) if log.last == save.iteration and log.last_rate is not None]
    rate = save.inside.rate if save.inside is not None and save.inside.rate is not None else None
    seen = rate if rate is not None else logged[-1].last_rate if logged else None
    declared = course.rate
    if seen is not None and declared is not None and abs(seen - declared) > 1e-3 * max(seen, declared, 1e-12):
        warnings.append(
            f"{run.folder}: the rate at iteration {save.iteration} is {seen:.6g}, "
            f"but its schedule comes to {declared:.6g}"
        )


def _must_agree(runs: Sequence[Trained]) -> None:
    """What the cookbook holds fixed over the stages of a campaign."""
    first = runs[0]
    for other in runs[1:]:
        differ = [name for name in HELD_FIXED if other.known.text(name) != first.known.text(name)]
        if differ:
            told = ", ".join(f"{WORDS[name]} {first.known.text(name)} and {other.known.text(name)}" for name in differ)
            raise NotAdopted(
                f"{first.run.folder} and {other.run.folder} differ in what one campaign holds fixed: {told}",
                "Adopt each into a campaign of its own: reconcile adopt PATH/RUN …",
            )
