"""`reconcile status`: where every stage is."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import status as view
from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.proposing import with_proposals
from reconciler.cli.provenance import Provenance
from reconciler.cli.revisions import look_at
from reconciler.cli.screen import screen


@click.command(short_help="Show where every stage is and what it waits for.")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--conditions", is_flag=True, help="Show every condition of every stage.")
@click.option("--at", "revision", metavar="REV", help="By the manifests at this commit and the record; no cluster.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def status(campaign: str | None, paths: tuple[Path, ...], conditions: bool, revision: str | None, as_json: bool) -> int:
    """Show where every stage is: phase, strategies tried, progress, loss, and what it waits for.

    With --at nothing is asked but this clone: the stages as the manifests at that commit want them, and what the record
    tells of them.
    """
    if revision is not None:
        seen = look_at(paths, campaign, revision)[1]
        plan = seen.plan
    else:
        opened = open_campaign(paths, campaign)
        seen = loop.look(opened.desired, connect(opened), by=Provenance(opened.revision.root, paths))
        plan = with_proposals(opened, seen)
    if as_json:
        click.echo(machine.status_json(plan), nl=False)
    else:
        console = screen()
        console.print(view.render(plan, seen.observed, console.width, conditions=conditions))
    return 0
