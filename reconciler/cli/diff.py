"""`reconcile diff`: two revisions of a campaign compared, what it means first, then the scripts."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import machine
from reconciler.cli.comparing import script_differences
from reconciler.cli.human import difference as view
from reconciler.cli.onrecord import tree_of
from reconciler.cli.opening import manifests_option, open_campaign
from reconciler.cli.revisions import desired_at
from reconciler.cli.screen import screen
from reconciler.planner.difference import difference


@click.command(short_help="Compare two revisions of a campaign: what it means, then the scripts.")
@click.argument("before", metavar="[REV]", default="HEAD")
@click.argument("after", metavar="[REV]", required=False)
@click.option("--campaign", "-c", metavar="NAME", help="Which campaign.  [default: the only one]")
@manifests_option
@click.option("--scripts/--no-scripts", default=True, show_default=True, help="Also show how job scripts differ.")
@click.option("--json", "as_json", is_flag=True, help="The differences as JSON on standard output.")
def diff(
    before: str, after: str | None, campaign: str | None, paths: tuple[Path, ...], scripts: bool, as_json: bool
) -> int:
    """Compare a campaign at a commit with another commit, or with the manifests as they are here.

    Without a REV it shows what was edited since the last commit. Of every stage that differs: each changed field;
    weights, tokens and learning rate of each strategy, drawn, before and after; what it costs; then the differences of
    the scripts of its first jobs. No cluster is asked.
    """
    root = tree_of(paths)
    old = desired_at(root, paths, campaign, before)
    new = desired_at(root, paths, campaign, after) if after else open_campaign(paths, campaign).desired
    found = difference(old, new)
    texts = {stage.stage: list(script_differences(old, new, stage)) for stage in found} if scripts else {}
    if as_json:
        click.echo(machine.difference_json(new.campaign, found, texts), nl=False)
    else:
        screen().print(view.render(new.campaign, before, after, found, texts))
    return 0
