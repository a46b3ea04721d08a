"""A simulated campaign as a person reads it: what was assumed, attempt by attempt on one line of time, how it ends."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.human.fitting import Fitting
from reconciler.model.plan import ActionKind
from reconciler.model.quantities import approximate_tokens, counted, format_duration, format_tokens
from reconciler.model.status import Phase, Reason, StageStatus
from reconciler.simulate.run import AttemptRun, End, Simulation

MARK = {"passed": Text("✓", "green"), "failed": Text("✗", "red"), "open": Text("▸", "yellow")}
LINE_CHARS = 30
RIGHT = ("START", "END", "JOBS", "NODE-H", "TOKENS")
NARROW = ("", "TOKENS")
"""Columns that go first where there is less room; the line of time has no name."""


def render(made: Simulation) -> RenderableType:
    """The whole of it."""
    dirty = " with uncommitted changes" if made.dirty else ""
    at = f" at commit {made.revision[:9]}" if made.revision else " before the first commit"
    parts: list[RenderableType] = [
        Text.assemble(("Campaign ", "dim"), (made.campaign, "bold"), (f"{at}{dirty}, simulated", "dim")),
        Text(),
        Text("Assumed", "bold"),
        *(Padding(_named(told), (0, 0, 0, 2), expand=False) for told in made.assumed),
        Text(),
        Fitting((_table(made, ()), _table(made, NARROW[:1]), _table(made, NARROW))),
        Text(),
    ]
    for run in made.attempts:
        if run.outcome == "failed":
            head = Text.assemble(MARK["failed"], " ", (run.stage, "bold"), f" {run.strategy}: ")
            parts.append(head.append(run.message, "dim"))
    parts += [Text(f"! {told}", "yellow") for told in made.unmet]
    return Group(*parts, *_end(made))


def _named(told: str) -> Text:
    name, _, rest = told.partition(": ")
    return Text.assemble((f"{name}: ", "dim"), rest) if rest else Text(told, "dim")


def _table(made: Simulation, without: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    names = [n for n in ("STAGE", "STRATEGY", "START", "END", "", "JOBS", "NODE-H", "TOKENS") if n not in without]
    for name in names:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=True)
    rows = [*map(lambda run: _attempt(made, run), made.attempts), *_untried(made)]
    order = {status.stage: place for place, status in enumerate(made.stages)}
    before = ""
    for row in sorted(rows, key=lambda row: order[str(row["STAGE"])]):
        stage = str(row["STAGE"])
        row["STAGE"] = Text("" if stage == before else stage, "bold")
        before = stage
        table.add_row(*(row.get(name, "") for name in names))
    return table


def _attempt(made: Simulation, run: AttemptRun) -> dict[str, Text | str]:
    killed = f" ({run.failed_jobs} killed)" if run.failed_jobs else ""
    return {
        "STAGE": run.stage,
        "STRATEGY": Text.assemble(MARK[run.outcome], " ", run.strategy, (" pilot" if run.pilot else "", "dim")),
        "START": format_duration(run.began_s),
        "END": format_duration(run.ended_s),
        "": Text(_line(made, run), "cyan"),
        "JOBS": f"{run.jobs}{killed}",
        "NODE-H": _hours(run.node_hours),
        "TOKENS": approximate_tokens(run.tokens),
    }


def _untried(made: Simulation) -> Iterator[dict[str, Text | str]]:
    """Stages without an attempt: adopted, or not come to."""
    tried = {run.stage for run in made.attempts}
    for status in made.stages:
        if status.stage not in tried:
            yield {"STAGE": status.stage, "STRATEGY": Text(f"- {_why_untried(status)}", "dim")}


def _why_untried(status: StageStatus) -> str:
    if status.reason is Reason.ADOPTED:
        return "adopted"
    return "held" if status.phase is Phase.HELD else "not come to"


def _line(made: Simulation, run: AttemptRun) -> str:
    """When the attempt runs, of the whole time; never nothing."""
    whole = max(made.seconds, 1.0)
    begins = min(LINE_CHARS - 1, int(run.began_s / whole * LINE_CHARS))
    ends = max(begins + 1, round(run.ended_s / whole * LINE_CHARS))
    return "·" * begins + "█" * (ends - begins) + "·" * (LINE_CHARS - ends)


def _hours(node_hours: float) -> str:
    return f"{node_hours:,.0f}" if node_hours >= 100 else f"{node_hours:.3g}"


def _end(made: Simulation) -> Iterator[Text]:
    bound = f" of {made.tokens_bound and format_tokens(made.tokens_bound)}" if made.tokens_bound else ""
    spent = (
        f"{counted(made.jobs, 'job')}, {_hours(made.node_hours)} of {made.node_hours_bound:,.6g} node-hours, "
        f"{approximate_tokens(made.tokens)}{bound} tokens"
    )
    verdicts = sum(step.key.kind is ActionKind.JUDGE for step in made.steps)
    after, tail = format_duration(made.seconds), f"{spent}, {counted(verdicts, 'verdict')}."
    word, style = {
        End.DONE: (f"Every stage would be done after {after}", "bold green"),
        End.HELD: (f"It would be held after {after}, until a person decides", "bold yellow"),
        End.REFUSED: (f"It would be refused after {after}", "bold red"),
        End.ENDLESS: (f"It would not go on after {after}", "bold red"),
    }[made.end]
    yield Text.assemble((word, style), f": {tail}")
    for why in made.why:
        yield Text(f"  {why}")
    if any(status.reason is Reason.GATE_HOLDS for status in made.stages):
        yield Text(f"  As if somebody had done so at once: reconcile simulate {made.campaign} --go-on …", "dim")
