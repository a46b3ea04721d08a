"""`reconcile render`: the PBS script of one job, from manifests alone."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli.opening import manifests_option, open_campaign
from reconciler.cli.telling import fail
from reconciler.domain.resolve import Unresolved
from reconciler.domain.trial import variants
from reconciler.model.faults import Fault
from reconciler.model.manifests import StageManifest
from reconciler.model.problems import near
from reconciler.model.quantities import counted
from reconciler.model.strategy import Strategy
from reconciler.planner.sketch import sketch


@click.command()
@click.argument("which", metavar="CAMPAIGN/STAGE")
@manifests_option
@click.option("--strategy", "name", help="A rung of the ladder, or a variant of a trial.  [default: the first]")
@click.option("--leg", default=0, show_default=True, type=click.IntRange(min=0), help="Which leg of the strategy.")
@click.option("--later", is_flag=True, help="A job that goes on from the leg's own checkpoint, not its first job.")
def render(which: str, paths: tuple[Path, ...], name: str | None, leg: int, later: bool) -> int:
    """Print the PBS script of a leg's first job, or of a later one. Asks no cluster.

    The attempt's name in it is provisional: it depends on the content of the data lists, which `plan` reads. The
    script is read back by the launcher's oracle; where it would do otherwise than the manifests declare, `render` says
    so and exits with status 1.
    """
    campaign, _, stage_name = which.partition("/")
    opened = open_campaign(paths, campaign)
    stages = {stage.metadata.name: stage for stage in opened.desired.stages}
    if stage_name not in stages:
        meant = f". Did you mean {meant}?" if (meant := near(stage_name, stages)) else ""
        fail(Fault.NO_SUCH_NAME, f"{campaign} has no stage {stage_name!r}; it has {', '.join(stages)}{meant}")
    stage = stages[stage_name]
    if stage.spec.adopted is not None:
        fail(
            Fault.NO_SCRIPT,
            f"{stage_name} is adopted: it was trained before there were manifests, and no job is submitted for it",
        )
    strategy = _strategy(stage, name)
    if leg >= len(strategy.legs):
        fail(
            Fault.NO_SUCH_NAME,
            f"strategy {strategy.name} of {stage_name} has {counted(len(strategy.legs), 'leg')}, counted from 0",
        )
    drawn = sketch(opened.desired, stage, strategy, leg, later=later)
    if isinstance(drawn, Unresolved):
        fail(Fault.NO_SCRIPT, drawn.message)
    (text,) = loop.scripts(opened.desired, (drawn.action,)).values()
    click.echo(text, nl=False)
    differences = loop.disagreements(opened.desired, (drawn.action,))
    if differences:
        fail(differences[0].code, "; ".join(each.message for each in differences))
    return 0


def _strategy(stage: StageManifest, name: str | None) -> Strategy:
    rungs = stage.spec.strategies
    ladder = {strategy.name: strategy for rung in rungs for strategy in (rung, *variants(rung))}
    if name is None:
        return stage.spec.strategies[0]
    if name not in ladder:
        meant = f". Did you mean {meant}?" if (meant := near(name, ladder)) else ""
        fail(
            Fault.NO_SUCH_NAME,
            f"{stage.metadata.name} has no strategy {name!r}; its ladder is {', '.join(ladder)}{meant}",
        )
    return ladder[name]
