"""`reconcile checkpoints`: every checkpoint there is, what it is, and what names it."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.human import checkpoints as view
from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.observed import Unread
from reconciler.model.problems import clip, near, one_of
from reconciler.model.status import Reason
from reconciler.planner.desired import Desired
from reconciler.planner.index import index


@click.command(short_help="Show every checkpoint: what it is, whether it is whole, what names it.")
@click.argument("target", required=False, metavar="[STAGE|PATH]")
@click.argument("campaign", required=False)
@manifests_option
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def checkpoints(target: str | None, campaign: str | None, paths: tuple[Path, ...], as_json: bool) -> int:
    """Show the checkpoints of a campaign: of its attempts, and of every folder made elsewhere that a manifest names.

    STAGE shows those of one stage only; PATH, which has a slash in it, any folder on the cluster that holds
    `global_stepN` folders; CAMPAIGN alone all of it. Each complete one is opened for what it says of itself; nothing is
    changed.
    """
    opened = open_campaign(paths, campaign, perhaps=target)
    desired = opened.desired
    if campaign is None and target == desired.campaign and target not in _stages(desired):
        target = None
    path = target if target is not None and "/" in target else None
    stage = target if path is None else None
    if stage is not None:
        _known(desired, stage)
    seen = loop.look_into(desired, connect(opened), _folders(desired, stage, path))
    if path is None and isinstance(seen.attempts, Unread):
        fail(Reason.WORKSPACE_UNREAD, f"the workspace could not be read: {seen.attempts.why}")
    attempts = seen.attempts if path is None and not isinstance(seen.attempts, Unread) else ()
    found = index(desired, attempts, seen.folders, stage)
    if as_json:
        click.echo(machine.checkpoints_json(found), nl=False)
    else:
        screen().print(view.render(found))
    return 1 if any(group.unread for group in found.groups) else 0


def _folders(desired: Desired, stage: str | None, path: str | None) -> tuple[str, ...]:
    """Folders outside of attempts to look into: the one that is asked for, what a stage has adopted, or all."""
    if path is not None:
        return (desired.site.path(path.rstrip("/") or "/"),)
    if stage is None:
        return tuple(desired.asked_folders())
    adopted = [each.spec.adopted for each in desired.stages if each.metadata.name == stage]
    return tuple(desired.site.path(each.path) for each in adopted if each is not None)


def _known(desired: Desired, stage: str) -> None:
    names = _stages(desired)
    if stage not in names:
        meant = near(stage, names)
        hint = f"Did you mean {meant}?" if meant else f"There is {one_of(names)}; a path has a slash in it."
        fail(Fault.NO_SUCH_NAME, f"{desired.campaign} has no stage {clip(stage, 60)}. {hint}")


def _stages(desired: Desired) -> list[str]:
    return [each.metadata.name for each in desired.stages]
