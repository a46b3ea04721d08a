"""`reconcile history`: what was planned, by which commit and whom, what ran, and what came of it."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import machine
from reconciler.cli.human import history as view
from reconciler.cli.onrecord import campaign_option, open_record
from reconciler.cli.opening import manifests_option
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.problems import clip, near, one_of
from reconciler.planner.timeline import timeline


@click.command(short_help="Show what was planned, by whom, what ran and what came of it.")
@click.argument("stage", required=False)
@campaign_option
@manifests_option
@click.option("--json", "as_json", is_flag=True, help="The timeline as JSON on standard output.")
def history(stage: str | None, campaign: str | None, paths: tuple[Path, ...], as_json: bool) -> int:
    """Show what was planned, by which commit and whom, what ran, and what came of it, in the order of time.

    Read from the record that `apply` keeps on the branch reconcile/record; no cluster is asked, and a clone of the
    repository is enough.
    """
    record = open_record(paths)
    recalled = record.campaign(campaign)
    stages = {seen.stage for each in recalled for seen in each.attempts}
    stages |= {done.key.stage for each in recalled for done in each.done}
    if stage is not None and stage not in stages:
        meant = near(stage, stages)
        hint = f"Did you mean {meant}?" if meant else f"There is {one_of(sorted(stages))}."
        fail(Fault.NOT_ON_RECORD, f"nothing of a stage {clip(stage, 60)} is on record. {hint}")
    wrote = record.wrote({done.receipt.commit for each in recalled for done in each.done})
    told = {name: (commit.author, commit.subject) for name, commit in wrote.items()}
    stories = [timeline(each, told, stage) for each in recalled]
    found = [each for each in stories if each.stories or stage is None]
    if as_json:
        click.echo(machine.history_json(found), nl=False)
        return 0
    console = screen()
    for each in found:
        console.print(view.render(each))
    return 0
