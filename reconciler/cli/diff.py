"""`reconcile diff`: two revisions of a campaign compared, what it means first, then the scripts."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import difference as view
from reconciler.cli.opening import fail, manifests_option, open_campaign
from reconciler.cli.revisions import desired_at
from reconciler.cli.screen import screen
from reconciler.planner.desired import Desired
from reconciler.planner.difference import RungDifference, Side, StageDifference, difference
from reconciler.record.files import given_or_nearest
from reconciler.record.repository import working_tree_of


@click.command(short_help="Compare two revisions of a campaign: what it means, then the scripts.")
@click.argument("before", metavar="REV")
@click.argument("after", metavar="[REV]", required=False)
@click.option("--campaign", "-c", metavar="NAME", help="Which campaign.  [default: the only one]")
@manifests_option
@click.option("--scripts/--no-scripts", default=True, show_default=True, help="Also show how job scripts differ.")
@click.option("--json", "as_json", is_flag=True, help="The differences as JSON on standard output.")
def diff(
    before: str, after: str | None, campaign: str | None, paths: tuple[Path, ...], scripts: bool, as_json: bool
) -> int:
    """Compare a campaign at a commit with another commit, or with the manifests as they are here.

    Of every stage that differs: each changed field; weights, tokens and learning rate of each strategy, drawn, before
    and after; what it costs; then the differences of the scripts of its first jobs. No cluster is asked.
    """
    start = given_or_nearest(paths)[0]
    root = working_tree_of(start if start.exists() else Path.cwd())
    if root is None:
        fail(f"{start} is not in a git working tree, which has commits to compare")
    old = desired_at(root, paths, campaign, before)
    new = desired_at(root, paths, campaign, after) if after else open_campaign(paths, campaign).desired
    found = difference(old, new)
    texts = {stage.stage: list(_scripts(old, new, stage)) for stage in found} if scripts else {}
    if as_json:
        click.echo(machine.difference_json(new.campaign, found, texts), nl=False)
    else:
        screen().print(view.render(new.campaign, before, after, found, texts))
    return 0


def _scripts(old: Desired, new: Desired, stage: StageDifference) -> Iterator[str]:
    """The differences of the scripts of every strategy that means something else."""
    for rung in stage.rungs:
        if rung.before is not None and rung.after is not None:
            yield from _script(old, new, stage.stage, rung, rung.before, rung.after)


def _script(old: Desired, new: Desired, stage: str, rung: RungDifference, one: Side, other: Side) -> Iterator[str]:
    was, now = _texts(old, one), _texts(new, other)
    for number, (before, after) in enumerate(zip(was, now, strict=False)):
        name = f"{stage}, {rung.strategy}, leg {number}"
        lines = unified_diff(
            before.splitlines(), after.splitlines(), f"before: {name}", f"after: {name}", n=1, lineterm=""
        )
        yield "\n".join(lines)


def _texts(desired: Desired, side: Side) -> list[str]:
    """The scripts, with the names that differ whatever was changed put out of the way: attempt and commit."""
    found = []
    for action in side.jobs:
        (text,) = loop.scripts(desired, (action,)).values()
        named = text.replace(action.key.attempt, "ATTEMPT").replace(desired.revision or "no commit", "COMMIT")
        found.append(named.replace("COMMIT (with uncommitted changes)", "COMMIT"))
    return found
