"""What is likely not meant: each known trap of the launcher as a rule with a code, the numbers, and a fix.

Rules read the forecast and the call; they change neither. What each code means is in `codes`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from reconciler.launcher.callwords import Call
from reconciler.launcher.flags import AFTER_EXTRA, FLAGS, READ_BY_NOTHING, SPECIAL_TO_SHELL
from reconciler.launcher.forecast import Finding, Forecast, Mode, State, stop
from reconciler.launcher.oracle import foretell, loads_where_it_saves, same_folder, tagged_iteration
from reconciler.launcher.ratetraps import RATE_RULES
from reconciler.launcher.scriptreader import Script
from reconciler.launcher.settings import Settings, flags_of
from reconciler.launcher.valuetraps import VALUE_RULES
from reconciler.model.problems import Severity

DOES_NOTHING: Final = {
    "no-load-optim": "optimizer states are loaded all the same",
    "no-load-lr-state": "the schedule is loaded all the same",
    "exit-on-missing-checkpoint": "a missing checkpoint still starts training from random weights",
    "timescale": "it is read and not passed on (always 10)",
    "valid-data-path": "it is ignored when a data list is given, and the launcher always gives one",
}
_NAMES: Final = """
MODEL_ARCH SEQ TP PP SP WORLD_SIZE MICRO_BATCH GRAD_ACC_STEPS GLOBAL_BATCH TRAIN_TOKENS TRAIN_ITERS TRAIN_ITER LR
LR_DECAY_STYLE LR_WARMUP_FRAC LR_DECAY_ITERS OVERRIDE_CKPT_OPT_PARAM SAVE LOAD CKPT_DIR SAVE_INTERVAL DTYPE OPT
DATA_FILE_LIST NGPU_PER_HOST ZERO_STAGE ROPE_THETA TOKENIZER_TYPE TOKENIZER_MODEL HEADS NLAYERS HIDDEN NUM_KV_HEAD
FFN_HIDDEN_SIZE EVAL_INTERVAL EVAL_ITERS TRAIN_SPLIT VAL_SPLIT TEST_SPLIT
"""
_SETTINGS: Final = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule judges."""

    script: Script
    call: Call
    forecast: Forecast
    state: State | None

    @property
    def settings(self) -> Settings:
        """The call's settings."""
        return self.forecast.settings


def judge(
    script: Script, state: State | None = None, *, nodes: int | None = None, ranks_per_node: int | None = None
) -> Forecast:
    """The forecast of the script's first call, with every finding: errors first, then warnings, by code."""
    forecast = foretell(script, state, nodes=nodes, ranks_per_node=ranks_per_node)
    subject = Subject(script, script.calls[0], forecast, state)
    found = [*forecast.findings, *(finding for rule in RULES for finding in rule(subject))]
    found += [finding for of_values in VALUE_RULES for finding in of_values(forecast.settings)]
    if not forecast.settings.has("skip-train"):
        found += [finding for rule in RATE_RULES for finding in rule(forecast, state)]
    ordered = sorted(dict.fromkeys(found), key=lambda f: (f.severity is not Severity.ERROR, f.code))
    stopped = any(finding.code == "ORA018" for finding in found)
    return replace(forecast, findings=tuple(ordered), schedule=None if stopped else forecast.schedule)


def _not_read(subject: Subject) -> Iterator[Finding]:
    call = subject.call
    for name, unknown in sorted(call.unknown.items()):
        if name in _SETTINGS:
            shown = "" if unknown.raw == f"${name}" else f"={unknown.raw[:80]}"
            where = "" if unknown.why.startswith("line ") else f" (line {unknown.line})"
            yield Finding("ORA001", f"{name}{shown} is not known: {unknown.why}{where}", "write it out")
    for unknown in call.unknown_arguments:
        each = ", or check each way by itself" if unknown.raw in subject.settings.open_arguments else ""
        yield Finding("ORA001", f"argument {unknown.raw[:80]} is not known: {unknown.why}", f"write it out{each}")


def _not_judged(subject: Subject) -> Iterator[Finding]:
    call = subject.call
    if len(subject.script.calls) > 1 or call.repeats:
        lines = ", ".join(str(other.line) for other in subject.script.calls)
        calls = f"{len(subject.script.calls)} calls of the launcher (lines {lines})"
        if len(subject.script.calls) == 1:
            calls = f"the launcher is called in a loop (line {lines})"
        yield Finding("ORA002", f"{calls}; only the first is judged", "check each call by itself")
    if subject.script.windows:
        yield stop(
            "ORA028",
            "lines end as on Windows, and bash takes the carriage return into the last word of each: the launcher is "
            "not found, or its values are no numbers",
            "sed -i 's/\\r$//' FILE",
        )
    unsure = sorted(set(call.unsure) & _SETTINGS)
    if unsure:
        yield Finding(
            "ORA006",
            f"{call.unsure[unsure[0]]} is read in after {', '.join(unsure)} and may set them anew; it is not read here",
            "read other files in first, and make settings after them",
        )
    if call.submitted is not None and call.launcher == "train_alcf.sh":
        yield Finding(
            "ORA029",
            "train_alcf.sh is submitted itself: it does not change to the folder of the submission, so it looks for "
            "ALCF/helpers.sh in the home folder",
            'submit a script of your own: cd "${PBS_O_WORKDIR}", then the settings, then `bash train_alcf.sh`',
        )
    if call.launcher != "train_alcf.sh":
        yield Finding(
            "ORA002",
            f"{call.launcher} sets variables of its own before it calls train_alcf.sh, which are not seen here",
            f"check {call.launcher} itself",
        )


def _not_seen(subject: Subject) -> Iterator[Finding]:
    submitted = subject.call.submitted is not None
    for name, line in sorted(subject.call.unexported.items()):
        if name in _SETTINGS:
            yield Finding(
                "ORA003",
                f"{name} is set at line {line} and not {'passed by qsub' if submitted else 'exported'}: the launcher "
                "never sees it",
                f"add `-v {name}=…` to qsub, or set it in the script that is submitted"
                if submitted
                else f"write `export {name}=…`, or put it before `bash` on the same line",
            )


def _without_effect(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    for name in sorted(set(settings.environment) & set(READ_BY_NOTHING)):
        instead = READ_BY_NOTHING[name]
        used = f" ({instead} is {settings.given(instead) or 'at its default'})" if instead.isupper() else ""
        if name.startswith("LR_WARMUP"):
            used = f": the warm-up is {settings.warmup_fraction} of the schedule, LR_WARMUP_FRAC" + (
                "" if settings.given("LR_WARMUP_FRAC") else "'s default"
            )
        value = settings.environment[name][:40]
        wanted = instead if "=" in instead or name == "LR_WARMUP_ITERS" else f"{instead}={value}"
        yield Finding("ORA004", f"{name}={value} is read by nothing{used}", f"use {wanted}")
    for flag, value in settings.flags.items():
        if flag in AFTER_EXTRA:
            variable = AFTER_EXTRA[flag]
            what = f"--{flag}={value}" if value else f"--{flag}"
            yield Finding(
                "ORA005",
                f"{what} has no effect: the launcher gives its own --{flag} after it, and the last one counts",
                f"set {variable or 'the architecture'} in the environment instead",
            )
        if flag in DOES_NOTHING:
            yield Finding("ORA007", f"--{flag} does nothing here: {DOES_NOTHING[flag]}", f"leave --{flag} out")


def _unknown_flags(subject: Subject) -> Iterator[Finding]:
    loose = flags_of(subject.call.words).loose
    for flag in subject.settings.flags:
        if flag not in FLAGS:
            close = difflib.get_close_matches(flag.replace("-", "_"), [f.replace("-", "_") for f in FLAGS], 1, 0.75)
            known = next((f for f in sorted(FLAGS) if close and f.replace("-", "_") == close[0]), "")
            yield stop(
                "ORA018",
                f"error: unrecognized arguments: --{flag[:60]}",
                f"did you mean --{known}?" if known else f"leave --{flag[:60]} out",
            )
    if loose:
        yield stop("ORA018", f"error: unrecognized arguments: {' '.join(loose)[:80]}", "flags begin with two dashes")


def _second_shell(subject: Subject) -> Iterator[Finding]:
    values = {name: text for name, text in subject.settings.environment.items() if name in _SETTINGS}
    arguments = {f"argument {text[:40]}": text for text in subject.call.arguments}
    for name, text in sorted((values | arguments).items()):
        special = sorted(set(text) & SPECIAL_TO_SHELL | set(text[:1]) & {"~", "#"})
        blank = any(character.isspace() for character in text) and name in _SETTINGS
        if special or blank:
            what = " ".join(special) or "a blank"
            yield Finding(
                "ORA008",
                f"{name} holds {what}, which a second shell reads again: the launcher joins everything into one string",
                "use only letters, digits and . _ - / = : , @ + %",
            )


def _loading(subject: Subject) -> Iterator[Finding]:
    settings, forecast = subject.settings, subject.forecast
    if settings.has("skip-train"):
        return
    yield from _first_job_flags(settings)
    target, start = forecast.train_iters, forecast.start_iteration
    if target is not None and start is not None and start and start >= target:
        yield Finding(
            "ORA022",
            f"nothing is trained: the counter is at {start:,} and the target is {target:,}; the target counts over all "
            "runs, and the job only saves and evaluates again",
            f"set TRAIN_ITERS={start + target} to train {target:,} more, or add --reset-iteration on the first job",
        )
    if not settings.given("LOAD") and "LOAD" not in settings.unknown:
        own = settings.given("CKPT_DIR") or settings.hides("LOAD")
        made_up = "" if own else ", a name made of node count, batch, rate and budget"
        yield Finding(
            "ORA023",
            f"LOAD is not set: the launcher looks in {settings.load}{made_up}; if nothing is there, it starts from "
            "random weights with no more than a warning",
            "set LOAD to the folder that holds `latest`; to start from random on purpose, set LOAD to SAVE",
        )
    if not settings.given("SAVE") and not settings.given("CKPT_DIR") and not settings.hides("SAVE"):
        yield Finding(
            "ORA024",
            f"SAVE is not set: checkpoints go to {settings.save}, a name that changes with node count, batch, rate and "
            "budget, so a later job does not find them",
            "set CKPT_DIR and SAVE to a folder of their own",
        )
    yield from _position(subject)


def _first_job_flags(settings: Settings) -> Iterator[Finding]:
    first = [f for f in ("reset-iteration", "finetune", "universal-checkpoint") if settings.has(f)]
    if not first or not loads_where_it_saves(settings):
        return
    flags = " and ".join(f"--{name}" for name in first)
    does = "every job that runs this restarts the stage from its own checkpoint, with the counter at 0 and over the "
    does += "old folders"
    if first == ["universal-checkpoint"]:
        does = "the job reads `latest_universal` there, which its own saves do not write: a ValueError, or the old "
        does += "conversion once more"
    yield Finding(
        "ORA021",
        f"{flags} with LOAD equal to SAVE ({settings.save}): {does}",
        f"first job: LOAD=source, SAVE=new folder, {flags}; later jobs: LOAD=SAVE without {flags}",
    )


def _position(subject: Subject) -> Iterator[Finding]:
    settings, forecast, state = subject.settings, subject.forecast, subject.state
    loaded = forecast.loaded
    if loaded is not None and "data" in forecast.kept and not same_folder(settings.load, settings.save):
        consumed = loaded.iteration * loaded.global_batch
        yield Finding(
            "ORA025",
            f"the data loader starts at sample {consumed:,} of an order drawn for {forecast.train_iters} iterations, "
            "not at the beginning of the list: some documents come twice, some never",
            "if the list is new, add --reset-iteration on the first job, with TRAIN_ITERS for this stage alone and "
            "LR_DECAY_ITERS counted from the schedule's beginning",
        )
    tag = tagged_iteration(settings)
    if state is not None and tag and tag != state.iteration:
        yield Finding(
            "ORA026",
            f"--load-tag={settings.load_tag} is loaded, and the state describes iteration {state.iteration}",
            "give the state of the checkpoint that is loaded",
        )
    describe = "give --state with the checkpoint's iteration, batch, rate and schedule"
    if state is None and "scheduler" in forecast.kept:
        wins = "" if forecast.mode is Mode.OVERRIDE else " (in truth the checkpoint's own wins over the command line's)"
        stands = f"its schedule is taken to stand at iteration {tag}, and to be the command line's{wins}"
        if forecast.start_iteration is None:
            stands = "where it stands is not known, nor the rate there"
        yield Finding("ORA009", f"the checkpoint in {settings.load} was not described: {stands}", describe)
    elif state is None and settings.given("LOAD") and same_folder(settings.load, settings.save):
        yield Finding(
            "ORA027",
            f"LOAD is SAVE ({settings.save}) and no checkpoint was described: taken to be empty, so that training "
            "starts from random weights; if it holds a checkpoint, the job goes on from that",
            describe,
        )


def _budget(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if settings.has("skip-train"):
        return
    tokens, stated = settings.given("TRAIN_TOKENS"), settings.given("TRAIN_ITERS") or settings.given("TRAIN_ITER")
    if tokens and stated:
        yield Finding(
            "ORA050",
            f"TRAIN_TOKENS={tokens} wins over TRAIN_ITERS={stated}: the target is {settings.train_iters} iterations",
            "set only one of them; TRAIN_ITERS says exactly what is meant",
        )
    if not tokens and not stated and not {"TRAIN_TOKENS", "TRAIN_ITERS", "TRAIN_ITER"} & set(settings.unknown):
        yield Finding(
            "ORA061",
            "neither TRAIN_ITERS nor TRAIN_TOKENS is set: the target is the default of 4,673,780,159,710 tokens"
            + (f", {settings.train_iters} iterations" if settings.train_iters is not None else ""),
            "set TRAIN_ITERS",
        )
    minutes, walltime = _minutes(settings), subject.script.walltime_s
    if minutes is not None and walltime is not None and minutes * 60 >= walltime:
        yield Finding(
            "ORA062",
            f"--exit-duration-in-mins={settings.flags['exit-duration-in-mins']} is not before the walltime of "
            f"{walltime / 60:,g} minutes: the job is killed, and what it trained since its last save is lost",
            "leave time for start-up, which the clock does not see, and for the last save",
        )
    every, target = settings.save_interval, settings.train_iters
    if every and target and every > 0 and target % every == 0:
        yield Finding(
            "ORA056",
            f"the last checkpoint is written twice into the same folder (TRAIN_ITERS {target} is a multiple of "
            f"SAVE_INTERVAL {every}): a kill during the second write ruins one that counts as good",
            f"set TRAIN_ITERS={target + 1}, or a SAVE_INTERVAL that does not divide it",
        )


def _minutes(settings: Settings) -> float | None:
    try:
        return float(settings.flags.get("exit-duration-in-mins", ""))
    except ValueError:
        return None


def _batch(subject: Subject) -> Iterator[Finding]:
    settings, loaded = subject.settings, subject.forecast.loaded
    batch, nodes = settings.global_batch, settings.nodes
    if nodes is None and "WORLD_SIZE" not in settings.environment and (batch is None or settings.train_iters is None):
        yield Finding(
            "ORA053",
            "the number of nodes is not known, and with it the global batch and every length counted in it",
            "give --nodes N, or set GLOBAL_BATCH",
        )
    elif batch is not None and not settings.given("GLOBAL_BATCH") and not settings.has("skip-train"):
        ranks = f"{nodes} nodes × {settings.ranks_per_node} ranks" if nodes else f"{settings.world_size} ranks"
        yield Finding(
            "ORA051",
            f"GLOBAL_BATCH is not set: it is {batch} on {ranks} and changes with the number of nodes, as does every "
            "length of the schedule in tokens",
            f"set GLOBAL_BATCH={batch} and let GRAD_ACC_STEPS follow",
        )
    if (
        batch is not None
        and loaded is not None
        and loaded.global_batch != batch
        and "scheduler" in subject.forecast.kept
    ):
        yield Finding(
            "ORA052",
            f"the global batch changes from {loaded.global_batch} to {batch}: the iteration is kept as it is, the "
            f"schedule counts samples, so its {loaded.samples:,} are iteration {loaded.samples / batch:,.1f} of the "
            "new lengths, and cumulative TRAIN_TOKENS no longer means tokens",
            f"set GLOBAL_BATCH={loaded.global_batch}, or work out TRAIN_ITERS and LR_DECAY_ITERS for the new batch",
        )
    expected = nodes * settings.ranks_per_node if nodes else None
    if settings.given("WORLD_SIZE") and settings.world_size != expected:
        yield Finding(
            "ORA054",
            f"WORLD_SIZE={settings.given('WORLD_SIZE')} is exported and wins over the job's size"
            + (f" of {expected} ranks" if expected else ""),
            "unset WORLD_SIZE",
        )


RULES: Final[tuple[Callable[[Subject], Iterator[Finding]], ...]] = (
    _not_read,
    _not_judged,
    _not_seen,
    _without_effect,
    _unknown_flags,
    _second_shell,
    _loading,
    _budget,
    _batch,
)
