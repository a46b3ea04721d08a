"""Stages at a glance: a table, then what needs a person; and the closing summary of a finished campaign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import bar
from reconciler.cli.human import upkeep
from reconciler.cli.human.plan import PHASE_STYLE, RUNG_MARK, approval, header, refusals
from reconciler.cli.human.trial import comparison
from reconciler.model.observed import Observed, TrainLog, Unread
from reconciler.model.plan import Plan
from reconciler.model.quantities import approximate_tokens, counted, format_duration
from reconciler.model.status import Phase, StageStatus

ROOM_FOR_ALL = 110
"""Columns that the table with every column and a loss curve takes; with less room the less needed go first."""
ROOM_FOR_JOBS = 90


def table(stages: Iterable[StageStatus], width: int, losses: dict[str, str] | None = None) -> Table:
    """One row a stage, in at most `width` columns; `losses` adds a sparkline of the training loss by stage."""
    names = ["STAGE", "PHASE", "STRATEGY", "PROGRESS", "LOSS", "LR"]
    if width >= ROOM_FOR_JOBS:
        names += ["JOB", "NODE-H"]
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        # Only the strategy gives way: a stage's name or a number that is cut off says nothing.
        view.add_column(name, no_wrap=name != "STRATEGY", min_width=0 if name == "STRATEGY" else len(name))
    for status in stages:
        view.add_row(*_row(status, (losses or {}).get(status.stage, "") if width >= ROOM_FOR_ALL else "")[: len(names)])
    return view


def _row(status: StageStatus, curve: str) -> list[Text | str]:
    of_tokens = status.tokens_done / status.tokens_budget if status.tokens_budget else 0.0
    done = status.iteration / status.iterations if status.iterations else of_tokens
    return [
        Text(status.stage, "bold", no_wrap=True, overflow="fold"),
        Text(status.phase, PHASE_STYLE[status.phase]),
        _ladder(status),
        Text(f"{bar(done, 10)} {min(100, int(done * 100)):3d}%"),
        Text((f"{status.loss:.3f} " if status.loss is not None else "") + curve),
        f"{status.learning_rate:.2g}" if status.learning_rate is not None else "",
        status.job,
        f"{status.node_hours:.3f}" if status.node_hours else "",
    ]


def _ladder(status: StageStatus) -> Text:
    """The rungs with their marks; `✗ naive  ▸ replay-30`."""
    if not status.rungs:
        return Text(status.strategy, "dim")
    parts = [Text.assemble(RUNG_MARK[rung.outcome], " ", rung.strategy) for rung in status.rungs]
    return Text("  ").join(parts)


def render(plan: Plan, observed: Observed, width: int, *, conditions: bool) -> RenderableType:
    """The table, one line of why for each stage that is not done, and all conditions when asked."""
    parts: list[RenderableType] = [header(plan), Text(), table(plan.stages, width), Text()]
    for status in plan.stages:
        parts += _told(status, conditions=conditions)
    if observed.lock is not None:
        lock = observed.lock
        parts.append(
            Text(
                f"Lock {lock.nonce} is held by {lock.holder} on {lock.host} for {format_duration(lock.age_s)}.",
                "yellow",
            )
        )
    parts += refusals(plan.refusals)
    parts += (Text(), *approval(plan.approval)) if plan.approval.missing else ()
    for action in plan.actions:
        if action.upkeep is not None:
            parts.append(Text.assemble((f"{action.key.stage}: ", "bold"), f"{action.reason}: {action.summary}"))
    parts += upkeep.retained(plan.retained, plan.actions)
    if plan.done:
        parts.append(Text("All stages are done.", "green"))
    return Group(*parts)


def _told(status: StageStatus, *, conditions: bool) -> Iterator[RenderableType]:
    """What there is to say of one stage below the table."""
    name = (f"{status.stage}: ", "bold")
    if conditions and status.conditions:
        yield from (*_conditions(status), Text())
    else:
        if status.phase is not Phase.DONE:
            yield Text.assemble(name, (f"{status.reason}: ", PHASE_STYLE[status.phase]), status.message)
        yield from drift(status)
    if status.proposal:
        yield Text.assemble(name, f"that is proposed on branch {status.proposal}")
    if status.trial is not None:
        yield from (Text(), *comparison(status.trial), Text())


def drift(status: StageStatus) -> Iterator[Text]:
    """What of a stage is not as it was left."""
    for found in status.drift:
        yield Text.assemble((f"{status.stage}: ", "bold"), (f"{found.reason}: ", "yellow"), found.message)


def _conditions(status: StageStatus) -> Iterator[RenderableType]:
    yield Text.assemble((status.stage, "bold"), (f"  {status.path}", "dim"))
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("CONDITION", "STATUS", "REASON", "MESSAGE"):
        view.add_column(name)
    for condition in status.conditions:
        style = {"True": "green", "False": "yellow"}.get(condition.status, "dim")
        view.add_row(condition.type, Text(condition.status, style), condition.reason, condition.message)
    yield Padding(view, (0, 0, 0, 2), expand=False)


def closing(plan: Plan, workspace: str, elapsed_s: float, waits: Sequence[str] = ()) -> RenderableType:
    """What came of the campaign: strategies tried, losses before and after, tokens, jobs, where things lie."""
    parts: list[RenderableType] = [Text()]
    if plan.done:
        parts.append(Text(f"All {len(plan.stages)} stages of {plan.campaign} are done.", "bold green"))
    for status in plan.stages:
        parts += [Text(), *_came_of(status)]
    tokens = approximate_tokens(sum(status.tokens_done for status in plan.stages))
    jobs = sum(status.jobs for status in plan.stages)
    hours = sum(status.node_hours for status in plan.stages)
    spent = f"{counted(jobs, 'job')}, {hours:.3f} node-hours"
    parts += [
        Text(),
        Text(f"{tokens} tokens kept, {spent}, {format_duration(elapsed_s)} here."),
        Text(f"Checkpoints, lists, scripts, logs and verdicts: {workspace}/{plan.campaign}/", "dim"),
    ]
    return Group(*parts)


def _came_of(status: StageStatus) -> Iterator[RenderableType]:
    yield Text.assemble(
        (status.stage, "bold"), "  ", (status.phase, PHASE_STYLE[status.phase]), (f"  {status.path}", "dim")
    )
    for rung in status.rungs:
        line = Text.assemble(RUNG_MARK[rung.outcome], " ", rung.strategy, (f"  {rung.message}", "dim"))
        yield Padding(line, (0, 0, 0, 2), expand=False)
    if status.phase is not Phase.DONE:
        why = Text(f"{status.reason}: {status.message}", PHASE_STYLE[status.phase])
        yield Padding(why, (0, 0, 0, 2), expand=False)
    if status.trial is not None:
        yield from (Padding(part, (0, 0, 0, 2), expand=False) for part in comparison(status.trial))
    if not status.rungs or not status.losses:
        return
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    view.add_column("validation set")
    for name in ("before", "after", "change"):
        view.add_column(name, justify="right")
    for name, after in status.losses.items():
        before = status.losses_before.get(name)
        change = "" if before is None else f"{after - before:+.3f}"
        view.add_row(name, "" if before is None else f"{before:.3f}", f"{after:.3f}", change)
    yield Padding(view, (0, 0, 0, 2), expand=False)


def loss_curve(observed: Observed, status: StageStatus) -> list[float | None]:
    """The training loss of the stage's current attempt, window by window, over all its jobs."""
    return [window.mean for log in _logs(observed, status) for window in log.windows]


def rate_curve(observed: Observed, status: StageStatus) -> list[float | None]:
    """The learning rate that it was trained at, at the same places."""
    return [window.learning_rate for log in _logs(observed, status) for window in log.windows]


def _logs(observed: Observed, status: StageStatus) -> list[TrainLog]:
    """Of the stage's current attempt."""
    if isinstance(observed.attempts, Unread):
        return []
    whose = (status.stage, status.attempt)
    return [
        log
        for seen in observed.attempts
        if (seen.stage, seen.attempt) == whose
        for leg in seen.legs
        for log in leg.logs
    ]
