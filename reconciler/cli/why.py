"""`reconcile why STAGE`: the chain from the commit to the number that a stage's phase rests on."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import why as view
from reconciler.cli.opening import connect, fail, manifests_option, open_campaign
from reconciler.cli.screen import screen
from reconciler.model.problems import clip, near, one_of
from reconciler.planner.why import why as chain_of


@click.command(short_help="Explain why a stage is where it is, and what would change it.")
@click.argument("stage")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--json", "as_json", is_flag=True, help="The chain as JSON on standard output.")
def why(stage: str, campaign: str | None, paths: tuple[Path, ...], as_json: bool) -> int:
    """Explain why a stage is where it is, and what would change it.

    From the commit over recipe, jobs, and rule or gate to the numbers, for every strategy that was tried. Works on one
    look at the cluster, as `status` does, and does nothing.
    """
    opened = open_campaign(paths, campaign)
    stages = {each.metadata.name: each for each in opened.desired.stages}
    if stage not in stages:
        meant = near(stage, stages)
        hint = f"Did you mean {meant}?" if meant else f"There is {one_of(stages)}."
        fail(f"{opened.desired.campaign} has no stage {clip(stage, 60)}. {hint}")
    seen = loop.look(opened.desired, connect(opened))
    chain = chain_of(opened.desired, seen.observed, seen.plan, stages[stage])
    if as_json:
        click.echo(machine.why_json(chain), nl=False)
    else:
        screen().print(view.render(chain))
    return 0
