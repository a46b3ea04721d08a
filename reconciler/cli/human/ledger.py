"""The ledger as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.human.fitting import Fitting
from reconciler.domain.ledger import Stretch, tokens
from reconciler.model.quantities import format_tokens
from reconciler.planner.ledger import Answer, Asked, Part, Taint


def render(answer: Answer) -> RenderableType:
    """The whole answer."""
    parts: list[RenderableType] = [_header(answer), Text()]
    if answer.asked is not None:
        parts += _asked(answer, answer.asked)
    elif answer.books.entries:
        parts += [_sources(answer), Text(), Fitting((_attempts(answer), _attempts(answer, lost=False))), Text()]
    else:
        parts += [Text("Nothing has been drawn yet."), Text()]
    parts += [Text(f"Not counted: {why}", "yellow") for why in answer.books.unknown]
    return Group(*parts)


def _header(answer: Answer) -> Text:
    point = answer.checkpoint
    if point is None:
        return Text.assemble(("Campaign ", "dim"), (answer.campaign, "bold"), ("; it has no checkpoint yet", "dim"))
    where = f"{point.stage}/{point.attempt}/leg-{point.leg}/global_step{point.iteration}"
    return Text.assemble(
        ("Campaign ", "dim"), (answer.campaign, "bold"), ("; seen by ", "dim"), where, (f", from {point.origin}", "dim")
    )


def _sources(answer: Answer) -> Table:
    table = _table("source", "size", "drawn in all", "epochs", "seen by it", "epochs")
    rows = list(answer.sources)
    for label, size, all_of, by_it in rows:
        known = format_tokens(size) if size is not None else "unknown"
        seen = ("", "") if answer.checkpoint is None else (f"{by_it:,}", _times(by_it, size))
        table.add_row(label, known, f"{all_of:,}", _times(all_of, size), *seen)
    total = "" if answer.checkpoint is None else f"{sum(row[3] for row in rows):,}"
    table.add_row("total", "", f"{sum(row[2] for row in rows):,}", "", total, "", style="bold")
    return table


def _attempts(answer: Answer, *, lost: bool = True) -> Table:
    table = _by_attempt("tokens drawn", *(["iterations lost"] if lost else []), "seen by it")
    seen = answer.seen
    for entry in answer.books.entries:
        own = tokens(part for part in seen if part.attempt == entry.attempt)
        row = [entry.stage, entry.attempt, entry.strategy, entry.outcome, f"{tokens(entry.drawn):,}"]
        table.add_row(*row, *([f"{entry.lost:,}"] if lost else []), f"{own:,}" if own else "none")
    return table


def _by_attempt(*columns: str) -> Table:
    """A table with a row an attempt; only the strategy's name may be folded."""
    table = _table("stage", "attempt", "strategy", "verdict", *columns)
    for column in table.columns[:4]:
        column.justify = "left"
    table.columns[2].no_wrap, table.columns[2].overflow, table.columns[2].min_width = False, "fold", len("strategy")
    return table


def _asked(answer: Answer, asked: Asked) -> Iterator[RenderableType]:
    found = f"in the lists of {', '.join(asked.found)}" if asked.found else "in no list as it is now"
    size = round(asked.size)
    yield Text.assemble((asked.name, "bold"), f"  {found}; about {size:,} tokens by the weights of its list")
    yield _line("drawn in all", asked.drawn, size)
    if asked.seen is not None:
        yield _line("seen by it", asked.seen, size)
    yield Text()
    if not asked.taints:
        yield Text("No attempt drew from it or descends from one that did.", "green")
        yield Text()
        return
    yield Text("Its removal would taint", "bold")
    table = _by_attempt("drawn by it", "inherited")
    for taint in asked.taints:
        entry = taint.entry
        style = "" if taint.sure else "yellow"
        row = (entry.stage, entry.attempt, entry.strategy, entry.outcome)
        table.add_row(*row, _amount(taint.own), _amount(taint.inherited), style=style)
    yield Padding(table, (0, 0, 0, 2), expand=False)
    yield from _unknown(asked.taints)
    yield Text()


def _unknown(taints: Sequence[Taint]) -> Iterator[Text]:
    """Lists that cannot tell, each once."""
    unsure = (one for taint in taints for part in (taint.own, taint.inherited) for one in part.unknown)
    for place in dict.fromkeys(_place(*one) for one in unsure):
        yield Text(f"  unknown: {place} was drawn by another list than the cluster has now", "yellow")


def _place(part: Stretch, label: str) -> str:
    return f"{label} in leg {part.leg} of {part.stage}/{part.attempt}"


def _line(name: str, part: Part, size: int) -> Text:
    count = round(part.tokens)
    more = ", and an unknown number from lists that have changed" if part.unknown else ""
    return Text(f"  {name}: {count:,} tokens, {_times(count, size)} times{more}")


def _amount(part: Part) -> str:
    if part.tokens:
        return f"{round(part.tokens):,}" + (" or more" if part.unknown else "")
    return "unknown" if part.unknown else "none"


def _times(count: int, size: int | None) -> str:
    return f"{count / size:.3g}" if size else "unknown"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name == columns[0] else "right", no_wrap=True)
    return table
