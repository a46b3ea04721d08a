"""`reconcile explain`: what a code means and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reconciler.cli.problems import COLOURS
from reconciler.cli.screen import screen
from reconciler.domain.mixture import MEANINGS as MIXTURE
from reconciler.domain.rules.check import BY_CODE
from reconciler.domain.rules.rule import Rule
from reconciler.launcher.codes import ERRORS as LAUNCHER_ERRORS
from reconciler.launcher.codes import MEANINGS as LAUNCHER
from reconciler.model.problems import CATALOGUE, clip, near
from reconciler.model.reasons import MEANINGS as REASONS
from reconciler.model.status import PASSING

OTHERS: Final = (
    ("M…", "what cannot be read or carried out in a manifest; it cannot be waived"),
    ("ORA…", "what a launch script or a rendered job would do"),
    ("MIX…", "what is wrong with a mixture of data lists"),
    ("JobLive …", "the reason beside a stage's phase in `status` and `plan`"),
)
WIDTH: Final = 100
"""Of a page, so that its sentences can be read."""


@click.command(short_help="Say what a code means, and what to do about it.")
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="All rules of the cookbook as one page, docs/rules.md.")
def explain(code: str | None, markdown: bool) -> None:
    """Say what a CODE means, why it matters, and what to do.

    \b
    Without CODE: a table of the cookbook's rules.
    CPT…          a rule: its reason and source, an example that keeps to it and one that strays.
    M…            a problem of a manifest.
    ORA…, MIX…    what the launcher would do, and mixtures of data lists.
    JobLive …     the reason beside a stage's phase in `status` and `plan`.
    """
    if markdown:
        click.echo(page(), nl=False)
    elif not code:
        screen().print(_table())
    else:
        screen().print(Group(*_explained(code)), width=WIDTH)


def known() -> dict[str, str]:
    """Everything that can be asked for → the code it leads to: codes, rules by their names, reasons."""
    codes = [*BY_CODE, *CATALOGUE, *LAUNCHER, *MIXTURE, *map(str, REASONS)]
    return {rule.name: code for code, rule in BY_CODE.items()} | {code: code for code in codes}


def _explained(asked: str) -> Iterator[RenderableType]:
    spellings = {name.lower(): code for name, code in known().items()}
    code = spellings.get(asked.lower())
    if code is None:
        meant = near(asked, known())
        hint = f"Did you mean {meant}?" if meant else "`reconcile explain` lists the rules."
        raise click.UsageError(f"there is no code {clip(asked, 40)}. {hint}")
    if code in BY_CODE:
        yield from _page(BY_CODE[code])
    elif code in CATALOGUE:
        kind = CATALOGUE[code]
        yield from _short(code, kind.severity.value, kind.summary, kind.explanation)
    elif code in LAUNCHER:
        severity = "error" if code in LAUNCHER_ERRORS else "warning"
        yield from _short(code, severity, "What the launcher would do", _sentence(LAUNCHER[code]))
        yield Text("More, with examples: docs/lint-script.md", "dim")
    elif code in MIXTURE:
        yield from _short(code, "refused" if code < "MIX100" else "notice", "A mixture of data lists", MIXTURE[code])
    else:
        reason = next(reason for reason in REASONS if reason == code)
        what = "a wait, until the next look" if reason in PASSING else "the reason of a phase"
        yield from _short(code, what, "", REASONS[reason])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _short(code: str, severity: str, summary: str, text: str) -> Iterator[RenderableType]:
    yield Text.assemble((code, "bold"), f"  {severity}" + (f"  {summary}" if summary else ""))
    yield Padding(Text(text), (1, 0, 0, 0), expand=False)


def _page(rule: Rule) -> Iterator[RenderableType]:
    yield Text.assemble((rule.code, f"bold {COLOURS[rule.severity]}"), (f" {rule.name}", "bold"), f"  {rule.severity}")
    yield Padding(Text(f"{rule.summary}."), (0, 0, 1, 0), expand=False)
    yield Text(rule.why)
    yield Padding(Text.assemble(("Instead  ", "bold"), rule.todo), (1, 0), expand=False)
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
    yield Text("  on the campaign, the stage or the strategy; every plan shows it with its reason.", "dim")


def _table() -> Group:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for rule in BY_CODE.values():
        grid.add_row(Text(rule.code, COLOURS[rule.severity]), rule.severity.value, rule.name, rule.summary)
    other = Table.grid(padding=(0, 2))
    for code, what in OTHERS:
        other.add_row(Text(code), Text(what, "dim"))
    way_on = Text("\nreconcile explain CODE says why and what to do. It knows these too:\n", "dim")
    return Group(Text("Rules of the cookbook\n", "bold"), grid, way_on, other)


# --- docs/rules.md ---------------------------------------------------------------------------------------------------

INTRODUCTION: Final = """\
# Rules of the cookbook

<!-- Written by `reconcile explain --markdown > docs/rules.md`; texts and examples are in reconciler/domain/rules. -->

`reconcile validate` and `reconcile plan` say where a campaign strays from the cookbook. An **error** refuses:
`validate` exits 1 and nothing is planned. A **warning** most likely costs something; a **note** is worth knowing.
`reconcile explain CODE` shows a rule in the terminal.

`M…` codes are what cannot be read or carried out, and cannot be waived. `CPT…` codes are advice: a person may stray
knowingly, on the campaign, a stage or a strategy,

```yaml
waive:
  - {rule: CPT020, reason: the recovery gate ends it early}
```

and every `validate` and `plan` shows the finding with that reason. A waiver that waives nothing is itself a finding
([CPT090](#cpt090-stale-waiver)).

The examples are parts of manifests, laid over a campaign of the cookbook's four stages
([tests/cases/rules/campaign.yaml](../tests/cases/rules/campaign.yaml)). `# <-` marks the line that is reported. A test
runs every one.
"""


def page() -> str:
    """The text of docs/rules.md."""
    rows = ["| rule | severity | name | |", "| --- | --- | --- | --- |"]
    for rule in BY_CODE.values():
        anchor = f"{rule.code}-{rule.name}".lower()
        rows.append(f"| [{rule.code}](#{anchor}) | {rule.severity} | {rule.name} | {rule.summary} |")
    return "\n".join([INTRODUCTION, *rows, "", *(_section(rule) for rule in BY_CODE.values())]).rstrip() + "\n"


def _section(rule: Rule) -> str:
    found = "\n\nFound at a look at the cluster, by what was logged." if rule.observed else ""
    sources = "\n".join(f"- {source}" for source in rule.sources)
    return f"""## {rule.code} {rule.name}

**{rule.severity.value}**: {rule.summary}.

{rule.why}{found}

Instead: {rule.todo}

{sources}

Strays:

```yaml
{rule.bad.rstrip()}
```

Keeps to it:

```yaml
{rule.good.rstrip()}
```
"""
