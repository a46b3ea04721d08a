"""What a person sees while `apply --until-done` waits: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from reconciler.cli.drawing import sparkline
from reconciler.cli.human import plan as plan_view
from reconciler.cli.human.status import loss_curve, table
from reconciler.cli.human.watch import event_line
from reconciler.loop import Pass
from reconciler.model.plan import Plan
from reconciler.model.status import StageStatus
from reconciler.planner.events import last_read, turns

EVENTS_SHOWN = 8
PROGRESS_STEP = 0.25
"""How much further a stage must be for another plain line."""


class View(Protocol):
    """Shows each pass."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def show(self, done: Pass) -> None:
        """One pass has been made."""


class LiveView:
    """A table that is redrawn in place, with the last events under it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._events: list[Text] = []
        self._news = _News()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def show(self, done: Pass) -> None:
        """Redraw."""
        self._events += self._news.of(done)
        del self._events[:-EVENTS_SHOWN]
        curves = {s.stage: sparkline(loss_curve(done.look.observed, s), 16) for s in done.look.plan.stages}
        doing = [Text.assemble(("  " + s.stage, "bold"), f"  {s.message}") for s in done.look.plan.stages if s.job]
        self._live.update(
            Group(table(done.look.plan.stages, self._live.console.width, curves), Text(), *self._events, *doing)
        )


class PlainView:
    """One line for each event; for logs, pipes and continuous integration."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._news = _News()
        self._progress: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def show(self, done: Pass) -> None:
        """Print what is new."""
        for event in self._news.of(done):
            self._console.print(event)
        for status in done.look.plan.stages:
            self._further(status)

    def _further(self, status: StageStatus) -> None:
        share = status.iteration / status.iterations if status.job and status.iterations else 0.0
        key = f"{status.stage}/{status.attempt}"
        if share < self._progress.get(key, 0.0) + PROGRESS_STEP or status.loss is None:
            return
        self._progress[key] = share
        rate = f", LR {status.learning_rate:.3g}" if status.learning_rate is not None else ""
        told = (
            f"{status.stage}: {status.strategy} {share:.0%}, iteration {status.iteration}, loss {status.loss:.3f}{rate}"
        )
        self._console.print(Text(told))


class _News:
    """What of a pass was not told before: outcomes, and what has come of stages, strategies and pilots."""

    def __init__(self) -> None:
        self._before: Plan | None = None
        self._unknown = ""

    def of(self, done: Pass) -> list[Text]:
        """One line each."""
        lines = [plan_view.outcome(outcome) for outcome in done.outcomes]
        if done.unknown and done.unknown != self._unknown:
            lines.append(Text(f"? {done.unknown}", "yellow"))
        plan = last_read(self._before, done.look.plan)
        lines += map(event_line, turns(self._before, plan))
        self._before, self._unknown = plan, done.unknown
        return lines
