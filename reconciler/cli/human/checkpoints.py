"""The index of checkpoints as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.human.fitting import Fitting
from reconciler.model.quantities import approximate_tokens, counted, format_bytes
from reconciler.planner.index import Entry, Group, Index

COLUMNS = ("iteration", "tokens", "LR", "schedule", "DP×TP×PP", "precision", "optimizer", "size", "")
RIGHT = ("iteration", "tokens", "LR", "size")


def render(found: Index) -> RenderableType:
    """Folder by folder, and what it comes to."""
    if not found.groups:
        return Text("There is no checkpoint yet.")
    return Lines(*(part for group in found.groups for part in _group(group)), _totals(found))


def _group(group: Group) -> Iterator[RenderableType]:
    if group.folder.startswith("/"):  # a path of somebody else's, which may be long
        yield Text(group.folder, "bold")
        yield Padding(Text(group.told, "dim"), (0, 0, 0, 2), expand=False)
    else:
        yield Text.assemble((group.folder, "bold"), "  ", (group.told, "dim"))
    if group.unread:
        yield Padding(Text(f"not looked into: {group.unread}", "yellow"), (0, 0, 0, 2))
    if group.entries:
        yield Padding(Fitting((_table(group), _table(group, ("precision", "optimizer")))), (0, 0, 0, 2), expand=False)
    elif not group.unread:
        yield Padding(Text("no checkpoint"), (0, 0, 0, 2))
    for warning in group.warnings:
        yield Padding(Text(f"! {warning}", "yellow"), (0, 0, 0, 2))
    yield Text()


def _table(group: Group, without: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    shown = [name for name in COLUMNS if name not in without]
    for name in shown:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name != "", overflow="fold")
    for entry in group.entries:
        cells = _cells(entry)
        table.add_row(*(cells[name] for name in shown), style="" if entry.complete else "dim")
    return table


def _cells(entry: Entry) -> dict[str, str | Text]:
    cut = "×".join("-" if part is None else str(part) for part in entry.parallel)
    remarks = Text("; ").join(
        [*([] if entry.complete else [Text(f"incomplete: {entry.why_not}", "yellow")]), *map(Text, entry.named_by)]
    )
    return {
        "iteration": f"{entry.iteration:,}",
        "tokens": "-" if entry.tokens is None else approximate_tokens(entry.tokens),
        "LR": "-" if entry.rate is None else f"{entry.rate:.4g}",
        "schedule": entry.stands or "-",
        "DP×TP×PP": "universal" if entry.universal else cut,
        "precision": entry.precision or "-",
        "optimizer": entry.optimizer or "-",
        "size": format_bytes(entry.size_bytes),
        "": remarks,
    }


def _totals(found: Index) -> Text:
    entries = found.entries
    whole = [entry for entry in entries if entry.complete]
    text = f"{counted(len(entries), 'checkpoint')}, {format_bytes(sum(entry.size_bytes for entry in entries))}"
    if len(whole) < len(entries):
        lost = sum(entry.size_bytes for entry in entries if not entry.complete)
        text += f"; {len(entries) - len(whole)} incomplete, {format_bytes(lost)}"
    return Text(text)
