"""`reconcile plan`: what would happen and why. Looks, never acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TextIO

import click
from rich.text import Text

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.comment import comment
from reconciler.cli.comparing import change
from reconciler.cli.human import plan as view
from reconciler.cli.newfiles import replace_whole
from reconciler.cli.onrecord import tree_of
from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.provenance import Provenance
from reconciler.cli.revisions import NotReadable, base_at, look_if_on_record
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.problems import harmless
from reconciler.planner.desired import Desired

COMMENT_READ_MAX: Final = 1_000_000
"""Characters of an earlier comment; no forge holds longer ones."""


@click.command()
@click.argument("campaign", required=False)
@manifests_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the plan for `apply FILE`.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON on standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown"]),
    default="text",
    show_default=True,
    help="As a person reads it here, or as the comment of a pull request.",
)
@click.option("--at", "revision", metavar="REV", help="By the manifests at this commit and the record; no cluster.")
@click.option("--base", metavar="REV", help="With --format markdown: what the change since this commit means.")
@click.option(
    "--earlier",
    type=click.File(encoding="utf-8", errors="replace"),
    help="With --format markdown: the comment that it takes the place of; it is folded at the end.",
)
@click.option("--scripts", is_flag=True, help="Also show the PBS scripts that would be submitted.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing to do, 1: error, 2: there is something to do.")
def plan(
    campaign: str | None,
    paths: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
    form: str,
    revision: str | None,
    base: str | None,
    earlier: TextIO | None,
    scripts: bool,
    detailed_exitcode: bool,
) -> int:
    """Show what would happen and why, without doing it.

    Compares the manifests with what is on the cluster: each stage's phase, the strategy whose turn it is with its
    weights, tokens, epochs, learning rate and cost, what changed since the last apply, and the next actions.

    With --at nothing is asked but this clone, and the record stands for the cluster. What is not on record yet, such
    as a data list that no job has read, the plan waits for.
    """
    if as_json and form == "markdown":
        fail(Fault.WRONG_USAGE, "--json and --format markdown are two forms; choose one")
    if (base is not None or earlier is not None) and form != "markdown":
        fail(
            Fault.WRONG_USAGE,
            "--base and --earlier are for the comment of a pull request",
            "reconcile plan --format markdown --base REV      (here, by eye: reconcile diff REV)",
        )
    wanted = _wanted(paths, campaign, revision)
    old, uncompared = _base(wanted, paths, base)
    seen = wanted.look(old)
    if seen is None and (form != "markdown" or out is not None):
        fail(
            Fault.NOT_ON_RECORD,
            f"nothing of {wanted.desired.campaign} is on record yet, so there is nothing to plan by",
            f"reconcile plan {wanted.desired.campaign}      (asks the cluster)",
        )
    rendered = loop.scripts(wanted.desired, seen.plan.actions) if seen is not None else {}
    if seen is not None and out is not None:
        _save(out, machine.plan_json(seen.plan, rendered))
    if form == "markdown":
        told = change(wanted.desired, seen, old, uncompared, rendered, "the record" if revision else "the cluster")
        click.echo(comment(told, earlier.read(COMMENT_READ_MAX) if earlier is not None else ""), nl=False)
    elif seen is not None and as_json:
        click.echo(machine.plan_json(seen.plan, rendered), nl=False)
    elif seen is not None:
        _show(seen, rendered if scripts else {}, out)
    if wanted.loose and not as_json:
        click.echo(harmless(f"Not in the commit: {', '.join(wanted.loose)}"), err=True)
    if seen is not None and seen.plan.refusals:
        return 1
    return 2 if detailed_exitcode and seen is not None and seen.plan.actions else 0


def _show(seen: loop.Look, scripts: Mapping[str, str], saved: Path | None) -> None:
    console = screen()
    console.print(view.render(seen.plan))
    for path, script in scripts.items():
        console.print(Text(f"\n--- {path}", "bold"))
        console.print(Text(script), soft_wrap=True)
    if saved is not None:
        click.echo(f"Saved. To carry out exactly this plan:\n\n    reconcile apply {saved}\n")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is planned, and how to look."""

    desired: Desired
    loose: tuple[str, ...]
    look: Callable[[Desired | None], loop.Look | None]
    """Takes what it will be compared with; None where nothing is on record."""


def _wanted(paths: tuple[Path, ...], campaign: str | None, revision: str | None) -> _Wanted:
    if revision is not None:
        desired, seen = look_if_on_record(paths, campaign, revision)
        return _Wanted(desired, (), lambda _: seen)
    opened = open_campaign(paths, campaign)

    def look(old: Desired | None) -> loop.Look:
        also = old.asked_lists() if old is not None else ()
        return loop.look(opened.desired, connect(opened), also, by=Provenance(opened.revision.root, paths))

    return _Wanted(opened.desired, tuple(opened.revision.loose), look)


def _base(wanted: _Wanted, paths: tuple[Path, ...], base: str | None) -> tuple[Desired | None, NotReadable | None]:
    """What the change is compared with, or why it is compared with nothing."""
    if base is None:
        return None, NotReadable("no base was named")
    desired = wanted.desired
    try:
        old = base_at(tree_of(paths), paths, desired.campaign, base)
    except NotReadable as why:
        return None, why
    return replace(old, site=replace(desired.site, templates=old.site.templates)), None


def _save(path: Path, text: str) -> None:
    """Whole or not at all: an older plan of that name is kept when the disk is full."""
    try:
        replace_whole(path, text.encode("utf-8"))
    except OSError as error:
        fail(Fault.NOT_WRITTEN, f"the plan could not be saved: {error}")
