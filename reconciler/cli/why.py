"""`reconcile why STAGE`: the chain from the commit to the number that a stage's phase rests on."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import why as view
from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.revisions import look_at
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.manifests import StageManifest
from reconciler.model.problems import clip, near, one_of
from reconciler.planner.desired import Desired
from reconciler.planner.why import why as chain_of


@click.command(short_help="Explain why a stage is where it is, and what would change it.")
@click.argument("stage")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--at", "revision", metavar="REV", help="By the manifests at this commit and the record; no cluster.")
@click.option("--json", "as_json", is_flag=True, help="The chain as JSON on standard output.")
def why(stage: str, campaign: str | None, paths: tuple[Path, ...], revision: str | None, as_json: bool) -> int:
    """Explain why a stage is where it is, and what would change it.

    From the commit over recipe, jobs, and rule or gate to the numbers, for every strategy that was tried. Works on one
    look at the cluster, as `status` does, and does nothing. With --at (such as --at HEAD) no cluster is asked: the
    record tells.
    """
    if revision is not None:
        desired, seen = look_at(paths, campaign, revision)
        return _show(desired, _stage(desired, stage), seen, as_json=as_json)
    opened = open_campaign(paths, campaign)
    chosen = _stage(opened.desired, stage)
    return _show(opened.desired, chosen, loop.look(opened.desired, connect(opened), by=None), as_json=as_json)


def _stage(desired: Desired, stage: str) -> StageManifest:
    stages = {each.metadata.name: each for each in desired.stages}
    if stage not in stages:
        meant = near(stage, stages)
        hint = f"Did you mean {meant}?" if meant else f"There is {one_of(stages)}."
        fail(Fault.NO_SUCH_NAME, f"{desired.campaign} has no stage {clip(stage, 60)}. {hint}")
    return stages[stage]


def _show(desired: Desired, stage: StageManifest, seen: loop.Look, *, as_json: bool) -> int:
    chain = chain_of(desired, seen.observed, seen.plan, stage)
    if as_json:
        click.echo(machine.why_json(chain), nl=False)
    else:
        screen().print(view.render(chain))
    return 0
