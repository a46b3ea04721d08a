"""`reconcile explain`: what a code means and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.messages import Entry, Family, catalogue, families, known
from reconciler.cli.screen import screen
from reconciler.domain.rules.rule import Rule
from reconciler.model.problems import clip, near

STYLES: Final = {"error": "red", "warning": "yellow", "note": "cyan", "wait": "cyan", "hold": "yellow", "step": "green"}
WIDTH: Final = 100
"""Of a page, so that its sentences can be read."""


@click.command(short_help="Say what a code means, and what to do about it.")
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Say what a CODE means, why it matters, and what to do.

    Everything that this program tells has one: an error at the end of its line, a wait or a hold before its message.

    \b
    Without CODE: all of them, in families.
    NotCommitted …  why a command stopped.
    JobLive …       why a stage waits, is held or goes on.
    CPT…            a rule: its reason and source, an example that keeps to it and one that strays.
    M…              a problem of a manifest.
    ORA…, MIX…      what the launcher would do, and mixtures of data lists.
    """
    if code:
        screen().print(Group(*_page(_named(code))), width=WIDTH)
    else:
        screen().print(Group(*_listed()))


def _named(asked: str) -> Entry:
    spellings = {name.lower(): code for name, code in known().items()}
    code = spellings.get(asked.strip("[]").lower())
    if code is None:
        meant = near(asked, known())
        hint = f"Did you mean {meant}?" if meant else "`reconcile explain` lists them all."
        raise click.UsageError(f"there is no code {clip(asked, 40)}. {hint}")
    return catalogue()[code]


def _page(entry: Entry) -> Iterator[RenderableType]:
    name = f" {entry.rule.name}" if entry.rule is not None else ""
    yield Text.assemble((entry.code, f"bold {STYLES[entry.kind]}"), (name, "bold"), f"  {entry.kind}")
    yield Text(f"{entry.title}.")
    if entry.meaning:
        yield Padding(Text(entry.meaning), (1, 0, 0, 0), expand=False)
    yield Padding(Text.assemble(("What to do  ", "bold"), entry.todo), (1, 0), expand=False)
    if entry.rule is not None:
        yield from _of_rule(entry.rule)
    yield Text(f"More: docs/{entry.see}", "dim")


def _of_rule(rule: Rule) -> Iterator[RenderableType]:
    yield Text("From", "bold")
    for source in rule.sources:
        yield Padding(Text(source), (0, 0, 0, 2), expand=False)
    for heading, example in (("Strays", rule.bad), ("Keeps to it", rule.good)):
        yield Padding(Text(heading, "bold"), (1, 0, 0, 0), expand=False)
        yield Padding(Text(example.rstrip()), (0, 0, 0, 2), expand=False)
    yield Padding(
        Text.assemble(("Knowingly", "bold"), f"\n  waive: [{{rule: {rule.code}, reason: …}}]"),
        (1, 0, 0, 0),
        expand=False,
    )
    yield Padding(
        Text("on the campaign, the stage or the strategy; every plan shows it with its reason.", "dim"),
        (0, 0, 1, 2),
        expand=False,
    )


def _listed() -> Iterator[RenderableType]:
    for family in families():
        yield Text(family.title, "bold")
        yield Padding(Text(family.about, "dim"), (0, 0, 0, 2), expand=False)
        yield Padding(_table(family), (0, 0, 1, 2), expand=False)
    yield Text("reconcile explain CODE says what it means and what to do.", "dim")


def _table(family: Family) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column()
    for entry in family.entries:
        name = entry.rule.name if entry.rule is not None else ""
        grid.add_row(Text(entry.code, STYLES[entry.kind]), entry.kind, name, entry.title)
    return grid
