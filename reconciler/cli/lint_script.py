"""`reconcile lint-script`: what a launch script that someone wrote by hand will really do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.cli.plot import plot
from reconciler.cli.telling import fail
from reconciler.launcher.forecast import Finding, Forecast, Mode, State
from reconciler.launcher.scheduler import Schedule
from reconciler.launcher.scriptreader import NoCall, Script, Unreadable, read_script
from reconciler.launcher.shelltext import TEXT_CHARS_MAX
from reconciler.launcher.traps import judge
from reconciler.model.faults import Fault
from reconciler.model.problems import Severity
from reconciler.model.quantities import counted

STATE_BYTES_MAX = 100_000
PLOT_POINTS = 2000
SAMPLES_MAX = 10**15
"""Far above any run; keeps numbers exact as floats."""


class _Scheduler(BaseModel):
    """The launcher's own names; it stores more, which is left aside."""

    model_config = ConfigDict(allow_inf_nan=False)

    max_lr: float = Field(ge=0)
    min_lr: float = Field(default=0.0, ge=0)
    lr_decay_style: str
    lr_warmup_steps: float = Field(default=0.0, ge=0, le=SAMPLES_MAX)
    lr_decay_steps: float = Field(gt=0, le=SAMPLES_MAX)
    num_steps: int | None = Field(default=None, ge=0, le=SAMPLES_MAX)


class _Checkpoint(BaseModel):
    """`--state`: the source checkpoint."""

    model_config = ConfigDict(allow_inf_nan=False)

    iteration: int = Field(ge=0, le=SAMPLES_MAX)
    global_batch_size: int = Field(gt=0, le=10**9)
    lr: float | None = Field(default=None, ge=0)
    dp_world_size: int | None = Field(default=None, gt=0, le=10**9)
    path: str = ""
    scheduler: _Scheduler

    def state(self) -> State:
        stored = self.scheduler
        return State(
            iteration=self.iteration,
            global_batch=self.global_batch_size,
            max_lr=stored.max_lr,
            min_lr=stored.min_lr,
            style=stored.lr_decay_style,
            warmup=stored.lr_warmup_steps,
            decay=stored.lr_decay_steps,
            lr=self.lr,
            data_parallel=self.dp_world_size,
            path=self.path,
            num_steps=stored.num_steps,
        )


@click.command("lint-script", short_help="Say what a launch script will really do.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--state", "state_file", metavar="JSON", help="The source checkpoint: a JSON file, or the JSON itself.")
@click.option("--nodes", type=click.IntRange(1, 100_000), help="Number of nodes.  [default: from `#PBS -l select`]")
@click.option("--ranks-per-node", type=click.IntRange(1, 1000), help="Ranks on a node.  [default: the machine's]")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object on standard output.")
def lint_script(
    file: Path, state_file: str | None, nodes: int | None, ranks_per_node: int | None, as_json: bool
) -> int:
    """Say what the launcher call in FILE (`-`: standard input) will do: what it loads, what it resets, every rate.

    FILE is a script or a command line with a call of train_alcf.sh. It is only read; nothing in it is executed, and no
    cluster is asked. With --state the source checkpoint is known too, and so is the rate at every iteration.

    \b
    --state takes, lengths in samples as the launcher stores them:
      {"iteration": 136000, "global_batch_size": 6144, "lr": 2e-4, "dp_world_size": 3072, "path": "/ckpt",
       "scheduler": {"max_lr": 2e-4, "min_lr": 0, "lr_decay_style": "constant",
                     "lr_warmup_steps": 0, "lr_decay_steps": 835584000}}

    \b
    Exit status:
      0  nothing wrong, or warnings only
      1  the launcher would stop, start from random weights or restart; or FILE cannot be read
    """
    text = _text(file)
    state = _state(state_file) if state_file is not None else None
    try:
        script = read_script(text)
        forecast = judge(script, state, nodes=nodes, ranks_per_node=ranks_per_node)
    except (NoCall, Unreadable) as problem:
        fail(Fault.NO_CALL, f"{_name(file)}: {problem}")
    if as_json:
        click.echo(json.dumps(_data(forecast)))
    else:
        click.echo("\n".join(_shown(_name(file), script, forecast)))
    return 1 if forecast.failed else 0


def _name(file: Path) -> str:
    return "<stdin>" if str(file) == "-" else _printable(str(file))


def _text(file: Path) -> str:
    most = 4 * TEXT_CHARS_MAX + 1
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(most)
        else:
            with file.open("rb") as stream:
                content = stream.read(most)
    except OSError as problem:
        fail(Fault.NOT_READABLE, f"{_name(file)} cannot be read: {problem.strerror}")
    if len(content) >= most:
        fail(Fault.NOT_READABLE, f"{_name(file)} has more than {most - 1:,} bytes; this is no script")
    return content.decode("utf-8", "replace").removeprefix("\ufeff")


def _state(given: str) -> State:
    text = given
    if not given.lstrip().startswith("{"):
        try:
            with Path(given).open("rb") as stream:
                text = stream.read(STATE_BYTES_MAX + 1).decode("utf-8", "replace")
        except (OSError, ValueError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else "it is no path"
            fail(Fault.NOT_READABLE, f"--state {_printable(given)[:200]} cannot be read: {why}")
    if len(text) > STATE_BYTES_MAX:
        fail(
            Fault.NOT_READABLE,
            f"--state has more than {STATE_BYTES_MAX:,} bytes; a checkpoint is described in a few lines",
        )
    try:
        return _Checkpoint.model_validate_json(text).state()
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)
        said = "; ".join(
            f"{'.'.join(str(key) for key in error['loc']) or 'JSON'}: {error['msg']}" for error in first[:8]
        )
        fail(Fault.NOT_READABLE, f"--state does not describe a checkpoint: {said}", "reconcile lint-script --help")


def _data(forecast: Forecast) -> dict[str, Any]:
    return {
        "start_iteration": forecast.start_iteration,
        "train_iters": forecast.train_iters,
        "global_batch_size": forecast.global_batch_size,
        "load": forecast.load if forecast.known("LOAD") else None,
        "save": forecast.save if forecast.known("SAVE") else None,
        "data_file_list": forecast.data_file_list if forecast.known("DATA_FILE_LIST") else None,
        "resets": None if forecast.undecided else list(forecast.resets),
        "warnings": [
            {"code": f.code, "severity": f.severity.value, "message": f.message, "fix": f.fix}
            for f in forecast.findings
        ],
        "lr_trace": [[iteration, rate] for iteration, rate in forecast.trace()],
    }


def _shown(name: str, script: Script, forecast: Forecast) -> Iterator[str]:
    call, settings = script.calls[0], forecast.settings
    where = (
        f"{counted(settings.nodes, 'node')} × {settings.ranks_per_node} ranks"
        if settings.nodes
        else "an unknown number of nodes"
    )
    guess = ", machine assumed" if settings.machine_is_assumed else ""
    yield _printable(f"{name}:{call.line}: {call.launcher} trains {settings.architecture} on {where} "
                     f"({settings.machine}{guess})")  # fmt: skip
    yield ""
    for label, text in _rows(script, forecast):
        yield f"  {label:<9}{_printable(text)}"
    yield ""
    lines = plot(list(forecast.trace(PLOT_POINTS)))
    yield from [*lines, ""] if lines else ["  no rates to draw: see below", ""]
    for finding in forecast.findings:
        yield from _finding(f"{name}:{call.line}", finding)
    yield _summary(forecast)


def _rows(script: Script, forecast: Forecast) -> Iterator[tuple[str, str]]:
    settings = forecast.settings
    batch, seq = forecast.global_batch_size, settings.seq
    if batch and seq:
        yield "batch", f"{batch:,} samples of {seq:,} tokens: {batch * seq:,} tokens a step"
    else:
        yield "batch", "not known"
    yield "loads", _loads(forecast)
    yield "resets", _resets(forecast)
    yield "data", forecast.data_file_list + (", from its beginning" if "data" in forecast.resets else "")
    if forecast.train_iters is not None and forecast.start_iteration is not None:
        steps = max(0, forecast.train_iters - forecast.start_iteration)
        tokens = f": {steps * batch * seq:,} tokens" if batch and seq else ""
        yield "trains", f"iterations {forecast.start_iteration:,} to {forecast.train_iters:,}{tokens}"
    elif forecast.train_iters is not None:
        yield "trains", f"to iteration {forecast.train_iters:,}, from one that is not known"
    else:
        yield "trains", "to a target that is not known"
    yield "rate", _rate(forecast)
    yield "saves", f"to {forecast.save}, every {settings.save_interval} iterations"
    yield "stops", "; ".join(forecast.stops) or "when its walltime is over"
    if script.sources:
        yield "reads in", ", ".join(script.sources[:5]) + " (may set more; not read here)"


def _loads(forecast: Forecast) -> str:
    if forecast.undecided:
        return f"not known: it hangs on {forecast.undecided}"
    if not forecast.kept:
        return "nothing: weights are random"
    form = " (universal)" if forecast.settings.has("universal-checkpoint") else ""
    return f"{', '.join(forecast.kept)} from {forecast.load}{form}"


def _resets(forecast: Forecast) -> str:
    if forecast.undecided:
        return f"not known: it hangs on {forecast.undecided}"
    return ", ".join(forecast.resets) or "nothing"


def _rate(forecast: Forecast) -> str:
    schedule, batch = forecast.schedule, forecast.global_batch_size
    if schedule is None or not batch:
        stops = any(finding.code.startswith("ORA01") for finding in forecast.findings)
        return "none: the launcher stops before it has one" if stops else "not known"
    if forecast.start_iteration is None:
        return f"not known: where the schedule stands; the command line's is {_curve(schedule, batch)}"
    stated = Mode.OVERRIDE if "scheduler" not in forecast.kept else forecast.mode
    whose = "" if stated is Mode.OVERRIDE else f", {stated} schedule"
    at = f" (schedule at iteration {forecast.samples / batch:,.0f})" if forecast.samples else ""
    first = ""
    if forecast.first_rate is not None:
        first = f"; the first step at {forecast.first_rate:g}, which the checkpoint's optimizer holds"
    return f"{_curve(schedule, batch)}{whose}{at}{first}"


def _curve(schedule: Schedule, batch: int) -> str:
    warm = f"warm-up over {schedule.warmup / batch:,.1f} iterations, then " if schedule.warmup > 0 else ""
    if schedule.style == "constant" and schedule.cooldown is None:
        return f"{warm}constant at {schedule.max_lr:g}"
    name = "cooldown" if schedule.style == "constant" else schedule.style
    begins, ends = schedule.begins_to_fall() / batch, schedule.ends() / batch
    return f"{warm}{name} from {schedule.max_lr:g} to {schedule.min_lr:g} over iterations {begins:,.0f} to {ends:,.0f}"


def _finding(place: str, finding: Finding) -> Iterator[str]:
    error = finding.severity is Severity.ERROR
    colour = sys.stdout.isatty()
    code = click.style(finding.code, fg="red" if error else "yellow", bold=True) if colour else finding.code
    yield f"{place}: {code} {'error' if error else 'warning'}: {_printable(finding.message)}"
    yield f"    help: {_printable(finding.fix)}"


def _summary(forecast: Forecast) -> str:
    errors = sum(finding.severity is Severity.ERROR for finding in forecast.findings)
    warnings = len(forecast.findings) - errors
    if not forecast.findings:
        return "Nothing to warn of."
    return f"Found {errors} error{'s' * (errors != 1)} and {warnings} warning{'s' * (warnings != 1)}."


def _printable(text: str) -> str:
    """Text of a script that no terminal acts on."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
