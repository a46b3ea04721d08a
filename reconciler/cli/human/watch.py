"""One frame of `reconcile watch`: from what was seen to lines, as wide and as many as there is room for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import sparkline
from reconciler.cli.human.plan import PHASE_STYLE, header
from reconciler.cli.human.status import drift, loss_curve, rate_curve, table
from reconciler.model.quantities import format_duration
from reconciler.model.status import Phase, Reason, StageStatus
from reconciler.planner.events import Event, Seen, Sort

EVENTS_KEPT = 50
CURVE_CHARS = 32
MARK = {
    Sort.GOOD: ("✓ ", "green"),
    Sort.BAD: ("✗ ", "red"),
    Sort.ATTENTION: ("! ", "yellow"),
    Sort.NEUTRAL: ("· ", "dim"),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no newer look."""

    since_s: float
    said: str
    again_within_s: float


@dataclass(frozen=True, slots=True)
class Watched:
    """All that a frame is made from; times in seconds since the epoch."""

    seen: Seen
    known: Seen
    """The same, and what was known before of what it did not read."""
    looked_s: float
    poll_s: float
    events: tuple[tuple[float, Event], ...] = ()
    """With when they were seen, oldest first."""
    trouble: Trouble | None = None


def lines(watched: Watched, console: Console, height: int, zone: tzinfo | None = None) -> list[str]:
    """The frame, as many lines as there is room for: events give way first, then stages; the last line always stays."""
    body, foot = _lines(console, _body(watched, console.width)), _lines(console, [_foot(watched, zone)])
    told = [line for at, event in watched.events for line in _lines(console, [_event(event, at, zone)])]
    room = height - len(body) - len(foot) - 2
    shown = ["", *told[-room:]] if told and room > 0 else []
    frame = [*body, *shown, ""]
    return [*frame[: max(0, height - len(foot))], *foot][-height:]


def _lines(console: Console, parts: Sequence[RenderableType]) -> list[str]:
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return [line.rstrip() for line in captured.get().splitlines()]


def _body(watched: Watched, width: int) -> list[RenderableType]:
    plan, observed = watched.seen.plan, watched.seen.observed
    parts: list[RenderableType] = [header(plan), Text(), table(plan.stages, width), Text()]
    for status in plan.stages:
        if status.phase is not Phase.DONE and status.reason is not Reason.SOURCE_NOT_DONE:
            why, said = (f"{status.reason}: ", PHASE_STYLE[status.phase]), status.message
            if status.attempt:
                said = said.partition("; on the way: ")[0]  # which the line of its gates has
            parts.append(Text.assemble((f"{status.stage}: ", "bold"), why, said))
            losses, rates = loss_curve(observed, status), rate_curve(observed, status)
            parts += [Padding(part, (0, 0, 0, 2), expand=False) for part in _curves(status, losses, rates, width)]
        parts += drift(status)
    if plan.done:
        parts.append(Text("All stages are done.", "green"))
    return parts


def _curves(
    status: StageStatus, losses: Sequence[float | None], rates: Sequence[float | None], width: int
) -> Iterator[RenderableType]:
    """Loss, rate, and how near the gates are."""
    chars = max(8, min(CURVE_CHARS, width - 24))
    if losses:
        now = f"{status.loss:.3f}" if status.loss is not None else ""
        yield Text.assemble(("loss   ", "dim"), sparkline(losses, chars), f"  {now}")
    if rates:
        now = f"{status.learning_rate:.3g}" if status.learning_rate is not None else ""
        yield Text.assemble(("LR     ", "dim"), sparkline(rates, chars, floor=0), f"  {now}")
    gates = next((c for c in status.conditions if c.type == "GatesPassed"), None)
    if gates is not None and status.attempt:
        yield Text.assemble(("gates  ", "dim"), gates.message)


def _event(event: Event, at_s: float, zone: tzinfo | None) -> RenderableType:
    """The same, with lines that go on under its text."""
    grid = Table.grid(padding=(0, 1))
    (mark, style), text = MARK[event.sort], Text.assemble((event.stage, "bold"), f": {event.said}")
    grid.add_row(Text(clock(at_s, zone), "dim"), Text(mark.strip(), style), text)
    return grid


def event_line(event: Event) -> Text:
    """One event as one line."""
    return Text.assemble(MARK[event.sort], (event.stage, "bold"), f": {event.said}")


def clock(at_s: float, zone: tzinfo | None) -> str:
    """Time of day; without a zone as clocks go here."""
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone(zone):%H:%M:%S}"


def trouble_line(trouble: Trouble, zone: tzinfo | None = None) -> Text:
    """Since when there is no look, why, and when the next is tried."""
    again = format_duration(trouble.again_within_s)
    return Text(f"No look since {clock(trouble.since_s, zone)}: {trouble.said}. Tried again within {again}.", "yellow")


def _foot(watched: Watched, zone: tzinfo | None) -> Text:
    if watched.trouble is not None:
        return trouble_line(watched.trouble, zone)
    looked, every = clock(watched.looked_s, zone), format_duration(watched.poll_s)
    return Text(f"Looked at {looked}, again after {every}. Ctrl-C leaves; the cluster goes on.", "dim")
