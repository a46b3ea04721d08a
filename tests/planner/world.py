"""A look at a cluster, built by hand for planner tests: the quickstart campaign, and evidence added piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.domain.loading import load
from reconciler.domain.schedule import rate_at
from reconciler.model.observed import (
    AttemptSeen,
    CheckpointSeen,
    EvaluationSeen,
    FolderAbsent,
    FolderSeen,
    Inside,
    Job,
    JobState,
    LegSeen,
    ListAbsent,
    ListSeen,
    LogPoint,
    LogWindow,
    Observed,
    Receipt,
    TrainLog,
    Unread,
)
from reconciler.model.plan import Action, ActionKind, Plan
from reconciler.model.status import StageStatus
from reconciler.model.strategy import ExternalSource
from reconciler.planner.desired import Desired, Site
from reconciler.planner.ended import FLUSH_GRACE_S
from reconciler.planner.lists import read_lists
from reconciler.planner.planner import plan

MANIFESTS = Path(__file__).parent / "manifests"
"""The quickstart campaign as it once was: tests count on its numbers, so tuning the real one breaks none of them."""
SITE = Site("/w", "/r", "/launcher", "# the converter\n")
NOW_S = 1_000_000.0
ENDED_S = NOW_S - FLUSH_GRACE_S
"""When jobs ended: long enough ago for all of their output to be there."""


def quickstart(edit: Callable[[str], str] = lambda text: text, retry: frozenset[str] = frozenset()) -> Desired:
    """The quickstart campaign as desired, after `edit` has been at each file's text."""
    files = [(path.name, edit(path.read_text()).encode()) for path in sorted(MANIFESTS.glob("*.yaml"))]
    loaded = load(files)
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    return Desired(loaded.catalog, "quickstart", "c" * 40, False, SITE, retry)


def swapped(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """An edit of the quickstart manifests; each old text must stand in exactly one place of them."""
    whole = "".join(path.read_text() for path in sorted(MANIFESTS.glob("*.yaml")))
    for old, _ in pairs:
        assert whole.count(old) == 1, f"{old!r} stands in {whole.count(old)} places"

    def edit(text: str) -> str:
        for old, new in pairs:
            text = text.replace(old, new)
        return text

    return edit


def lists_of(desired: Desired) -> dict[str, ListSeen | ListAbsent | Unread]:
    """A two-row data list for every path the campaign names."""
    labels = {
        path: label for paths in (desired.list_paths(), desired.validation_paths()) for label, path in paths.items()
    }
    return {
        path: ListSeen(f"0.75 /data/{label}-a text\n0.25 /data/{label}-b more\n", f"sha of {label}")
        for path, label in labels.items()
    }


def folders_of(desired: Desired) -> dict[str, FolderSeen | FolderAbsent | Unread]:
    """Every folder that a source names, with the checkpoints that are asked for by their iteration."""
    ranks = {
        desired.site.path(source.path): source.data_parallel or 0
        for stage in desired.stages
        for source in (stage.spec.source, *(strategy.source for strategy in stage.spec.strategies))
        if isinstance(source, ExternalSource)
    }
    return {
        path: FolderSeen(
            tuple(
                CheckpointSeen(
                    int(wish.number), True, "", ranks.get(path, 0), universal=wish.universal, inside=Inside()
                )
                for wish in wishes
            ),
            latest_universal=next((int(wish.number) for wish in wishes if wish.universal), None),
        )
        for path, wishes in desired.asked_folders().items()
    }


@dataclass
class World:
    """Evidence that grows as actions are carried out by hand."""

    desired: Desired
    jobs: list[Job] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    attempts: dict[tuple[str, str], AttemptSeen] = field(default_factory=dict)
    applied: str | None = None
    lists: dict[str, ListSeen | ListAbsent | Unread] = field(default_factory=dict)
    """Answers for paths of data lists other than a good list."""
    folders: dict[str, FolderSeen | FolderAbsent | Unread] = field(default_factory=dict)
    """Answers for folders of checkpoints other than one with what is wanted of it."""
    logs: dict[str, TrainLog] = field(default_factory=dict)
    """Logs of sources that were made elsewhere."""

    def look(self) -> Observed:
        """What one look finds now."""
        return Observed(
            NOW_S,
            "here",
            tuple(self.jobs),
            tuple(self.attempts.values()),
            tuple(self.receipts),
            lists_of(self.desired) | self.lists,
            self.applied,
            folders=folders_of(self.desired) | self.folders,
            logs=self.logs,
        )

    def plan(self) -> Plan:
        """The planner's answer to it."""
        return plan(self.desired, self.look())

    def status(self, stage: str) -> StageStatus:
        """Where a stage is."""
        return next(status for status in self.plan().stages if status.stage == stage)

    def wanting(self, desired: Desired) -> World:
        """The same cluster under other manifests."""
        return replace(self, desired=desired)

    def the_action(self) -> Action:
        """The one action of the plan, beside upkeep."""
        (action,) = [action for action in self.plan().actions if action.upkeep is None]
        return action

    def seen(self, action: Action) -> AttemptSeen:
        """The attempt of an action, made on first use from its recipe file."""
        key = (action.key.stage, action.key.attempt)
        if key not in self.attempts:
            recipe = next((f.text for f in action.files if f.path.endswith("/recipe.json")), None)
            self.attempts[key] = AttemptSeen(*key, recipe)
        return self.attempts[key]

    def submit(self, action: Action) -> str:
        """Start the action's job; returns its id."""
        self.seen(action)
        job_id = f"{len(self.jobs)}.here"
        started_s = ENDED_S - 60
        self.jobs.append(Job(job_id, "name", JobState.RUNNING, "R", str(action.key), started_s=started_s))
        self.receipts.append(Receipt(str(action.key), started_s, True, job_id))
        return job_id

    def end(self, job_id: str, *, exit_status: int = 0, substate: int = 92, comment: str = "") -> None:
        """End a job."""
        at = next(i for i, job in enumerate(self.jobs) if job.job_id == job_id)
        self.jobs[at] = replace(
            self.jobs[at],
            state=JobState.FINISHED,
            letter="F",
            exit_status=exit_status,
            substate=substate,
            comment=comment,
            ended_s=ENDED_S,
        )

    def leg(self, action: Action, **changes: object) -> None:
        """Change what lies in the action's leg."""
        attempt = self.seen(action)
        legs = {leg.index: leg for leg in attempt.legs}
        leg = legs.get(action.key.leg, LegSeen(action.key.leg))
        legs[action.key.leg] = replace(leg, **changes)  # type: ignore[arg-type]
        self.attempts[attempt.stage, attempt.attempt] = replace(
            attempt, legs=tuple(legs[index] for index in sorted(legs))
        )

    def trained(self, action: Action, iteration: int, loss: float = 2.0) -> None:
        """The job of this action ran, saved at `iteration`, and ended."""
        job_id = self.submit(action)
        leg = next((g for g in self.seen(action).legs if g.index == action.key.leg), LegSeen(action.key.leg))
        saved = (*leg.checkpoints, CheckpointSeen(iteration, True, "", 1, 10))
        self.leg(
            action,
            checkpoints=saved,
            latest=iteration,
            tracker=iteration,
            logs=(*leg.logs, log_of(action, iteration, loss)),
        )
        self.end(job_id)

    def evaluated(self, action: Action, losses: Mapping[str, float]) -> None:
        """The evaluation job of this action ran and ended."""
        self.end(self.submit(action))
        _, leg, iteration = action.key.detail.split("-")
        attempt = self.seen(action)
        made = EvaluationSeen(int(leg), int(iteration), self.results(losses), str(action.key))
        self.attempts[attempt.stage, attempt.attempt] = replace(attempt, evaluations=(*attempt.evaluations, made))

    def results(self, losses: Mapping[str, float]) -> dict[str, float]:
        """Losses by validation set, under the names that their evaluation gives its results."""
        names = read_lists(self.desired, self.look()).validation
        return {names[label]: loss for label, loss in losses.items()}

    def judged(self, action: Action) -> None:
        """The verdict of this action was written."""
        attempt = self.seen(action)
        text = next(f.text for f in action.files if "/verdicts/" in f.path)
        self.attempts[attempt.stage, attempt.attempt] = replace(attempt, verdicts={"final": text})
        self.receipts.append(Receipt(str(action.key), NOW_S, True))

    def converted(self, action: Action, iteration: int) -> None:
        """The conversion job of this action ran and ended."""
        self.end(self.submit(action))
        self.leg(action, converted=iteration)

    def carry_out(self, losses: Mapping[str, float]) -> ActionKind:
        """Do the one next action with success; evaluations find `losses`."""
        action = self.the_action()
        match action.key.kind:
            case ActionKind.TRAIN:
                self.trained(action, iterations_of(action))
            case ActionKind.CONVERT:
                self.converted(action, 1)
            case ActionKind.EVALUATE:
                self.evaluated(action, losses)
            case ActionKind.JUDGE:
                self.judged(action)
            case _:
                raise AssertionError("nothing was wrong")
        return action.key.kind

    def until(self, kind: ActionKind, losses: Mapping[str, float] | None = None) -> Action:
        """Carry out actions up to the next one of a kind, which is returned and not carried out."""
        for _ in range(20):
            action = self.the_action()
            if action.key.kind is kind:
                return action
            self.carry_out(losses or SAME)
        raise AssertionError(f"no {kind} came")

    def rewrite(self, action: Action, **changes: object) -> None:
        """Change what was seen of the action's attempt."""
        attempt = self.seen(action)
        self.attempts[attempt.stage, attempt.attempt] = replace(attempt, **changes)  # type: ignore[arg-type]

    def finish_stage(self, losses: Mapping[str, float]) -> list[ActionKind]:
        """Carry out actions until the stage that is in work is done or has failed; returns their kinds."""
        kinds: list[ActionKind] = []
        while not kinds or kinds[-1] is not ActionKind.JUDGE:
            kinds.append(self.carry_out(losses))
        return kinds


def iterations_of(action: Action) -> int:
    """The iterations that a training action's launcher is told to reach."""
    assert action.job is not None
    launches = action.job.values["launches"]
    assert isinstance(launches, list)
    return int(launches[0]["environment"]["TRAIN_ITERS"])


def rate(action: Action, iteration: int) -> float:
    """The learning rate that the launcher logs there; the plateau's where nothing is trained."""
    if action.trains is None:
        return 2e-3
    leg = action.trains.recipe.legs[action.trains.leg]
    return rate_at(leg.curve, leg.position + max(0, iteration))


def log_of(action: Action, iteration: int, loss: float, **changes: object) -> TrainLog:
    """A healthy log that falls from `loss` + 1 to `loss`, at the rates that the recipe has."""
    fifth = max(1, iteration // 5)
    windows = tuple(
        LogWindow(i * fifth + 1, (i + 1) * fifth, loss + 1 - i / 4, loss, loss + 2, rate(action, i * fifth), fifth, 0)
        for i in range(5)
    )
    points = tuple(LogPoint(at, loss, rate(action, at)) for at in range(iteration - 2, iteration + 1))
    log = TrainLog(str(action.key), first=points, last=points, windows=windows, saved=(iteration,))
    return replace(log, **changes)  # type: ignore[arg-type]


SAME = {"val-D0": 2.0, "val-D1": 2.5, "val-D2": 3.0, "val-D3": 3.5}
"""Losses that never change: nothing is learned, nothing is forgotten."""
FORGOT_D0 = SAME | {"val-D0": 2.0 + 0.31}
"""Past the strong gate's 0.30."""


def launch_of(action: Action) -> tuple[dict[str, str], list[str]]:
    """(environment, arguments) of a job with one call of the launcher."""
    assert action.job is not None
    launches = action.job.values["launches"]
    assert isinstance(launches, list)
    (launch,) = launches
    return launch["environment"], launch["arguments"]


def after(stages: int, desired: Desired | None = None, losses: Mapping[str, float] | None = None) -> World:
    """A world in which so many stages are done on their first rung."""
    world = World(desired or quickstart())
    for _ in range(stages):
        world.finish_stage(losses or SAME)
    return world
