"""`reconcile status`: where every stage is."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import status as view
from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.screen import screen


@click.command(short_help="Show where every stage is and what it waits for.")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--conditions", is_flag=True, help="Show every condition of every stage.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def status(campaign: str | None, paths: tuple[Path, ...], conditions: bool, as_json: bool) -> int:
    """Show where every stage is: phase, strategies tried, progress, loss, and what it waits for."""
    opened = open_campaign(paths, campaign)
    seen = loop.look(opened.desired, connect(opened))
    if as_json:
        click.echo(machine.status_json(seen.plan), nl=False)
    else:
        console = screen()
        console.print(view.render(seen.plan, seen.observed, console.width, conditions=conditions))
    return 0
