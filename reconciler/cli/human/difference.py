"""Two revisions as a person compares them: what it means, stage by stage, before and after; then the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.drawing import sparkline
from reconciler.model.plan import Change
from reconciler.model.quantities import approximate_tokens
from reconciler.model.spans import numbers
from reconciler.planner.difference import RungDifference, Side, StageDifference
from reconciler.planner.shown import LegShown

LINE_STYLE = {"+": "green", "-": "red", "@": "cyan"}


def render(
    campaign: str,
    before: str,
    after: str | None,
    found: Sequence[StageDifference],
    scripts: Mapping[str, Sequence[str]],
) -> RenderableType:
    """All of it."""
    other = after if after is not None else "the manifests as they are here"
    parts: list[RenderableType] = [
        Text.assemble(("Campaign ", "dim"), (campaign, "bold"), (f", {before} → {other}", "dim"))
    ]
    for stage in found:
        parts += [Text(), *_stage(stage)]
    if not found:
        parts += [Text(), Text("Nothing differs in what is wanted.")]
    for stage in found:
        for text in scripts.get(stage.stage, ()):
            if text:
                parts += [Text(), *_lines(text)]
    return Group(*parts, Text())


def _stage(stage: StageDifference) -> Iterator[RenderableType]:
    yield Text.assemble((stage.stage, "bold"), _whole(stage.changes))
    for rung in stage.rungs:
        yield _under(_rung(rung))
    if stage.before != stage.after:
        yield _under(Text(f"cost      {numbers(stage.before)} → {numbers(stage.after)} node-hours"))
    for change in stage.changes:
        if change.path:
            yield _under(Text.assemble(("~ ", "yellow"), f"{change.path}  {change.before} → {change.after}"))


def _whole(changes: Sequence[Change]) -> tuple[str, str]:
    """Whether the stage came or went."""
    change = next((change for change in changes if not change.path), None)
    if change is None:
        return "", ""
    return (" is new", "green") if change.after == "new" else (" is removed", "red")


def _rung(rung: RungDifference) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row("strategy", "", Text(rung.strategy, "bold"))
    one, other = rung.before, rung.after
    legs = max(len(side.legs) if side is not None else 0 for side in (one, other))
    for number in range(legs):
        prefix = f"leg {number} " if legs > 1 else ""
        was, now = _leg(one, number), _leg(other, number)
        for name, before, after in zip(("weights", "tokens", "LR"), was, now, strict=True):
            for mark, text in _sides(before, after):
                grid.add_row(f"{prefix}{name}", mark, text)
    for sign, side in (("-", one), ("+", other)):
        if side is not None and side.unresolved:
            grid.add_row("", sign, side.unresolved)
    return grid


def _sides(before: str, after: str) -> Iterator[tuple[Text, str]]:
    if before == after:
        yield Text(" "), before
        return
    yield from ((Text(sign, LINE_STYLE[sign]), text) for sign, text in (("-", before), ("+", after)) if text)


def _leg(side: Side | None, number: int) -> tuple[str, str, str]:
    if side is None or number >= len(side.legs):
        return "", "", ""
    leg: LegShown = side.legs[number]
    terms = " + ".join(f"{text} {term}" for term, text in leg.weights.items())
    drawn = sparkline([rate for _, rate in leg.lr_curve], 32, floor=0)
    return terms, f"{approximate_tokens(leg.tokens)} in {leg.iterations} iterations", f"{drawn}  {leg.lr}"


def _lines(text: str) -> Iterator[Text]:
    for line in text.splitlines():
        yield Text(line, "bold" if line.startswith(("---", "+++")) else LINE_STYLE.get(line[:1], ""))


def _under(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2), expand=False)
