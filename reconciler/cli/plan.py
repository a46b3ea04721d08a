"""`reconcile plan`: what would happen and why. Looks, never acts."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import plan as view
from reconciler.cli.opening import connect, fail, manifests_option, open_campaign
from reconciler.cli.screen import screen
from reconciler.model.problems import harmless


@click.command()
@click.argument("campaign", required=False)
@manifests_option
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the plan for `apply FILE`.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON on standard output.")
@click.option("--scripts", is_flag=True, help="Also show the PBS scripts that would be submitted.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: nothing to do, 1: error, 2: there is something to do.")
def plan(
    campaign: str | None,
    paths: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
    scripts: bool,
    detailed_exitcode: bool,
) -> int:
    """Show what would happen and why, without doing it.

    Compares the manifests with what is on the cluster: each stage's phase, the strategy whose turn it is with its
    weights, tokens, epochs, learning rate and cost, what changed since the last apply, and the next actions.
    """
    opened = open_campaign(paths, campaign)
    seen = loop.look(opened.desired, connect(opened))
    rendered = loop.scripts(opened.desired, seen.plan.actions)
    text = machine.plan_json(seen.plan, rendered)
    if out is not None:
        _save(out, text)
    if as_json:
        click.echo(text, nl=False)
    else:
        console = screen()
        console.print(view.render(seen.plan))
        for path, script in rendered.items() if scripts else ():
            console.print(Text(f"\n--- {path}", "bold"))
            console.print(Text(script), soft_wrap=True)
        if out is not None:
            click.echo(f"Saved. To carry out exactly this plan:\n\n    reconcile apply {out}\n")
    if opened.revision.loose and not as_json:
        click.echo(harmless(f"Not in the commit: {', '.join(opened.revision.loose)}"), err=True)
    if seen.plan.refusals:
        return 1
    return 2 if detailed_exitcode and seen.plan.actions else 0


def _save(path: Path, text: str) -> None:
    """Whole or not at all: an older plan of that name is kept when the disk is full."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("x", encoding="utf-8") as file:  # never through a link that somebody put there
            file.write(text)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        fail(f"the plan could not be saved: {error}")
