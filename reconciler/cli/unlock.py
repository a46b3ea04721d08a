"""`reconcile unlock`: take away a lock whose holder is gone."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.opening import connect, manifests_option, open_campaign
from reconciler.cli.telling import fail_at
from reconciler.cluster.execute import unlock as release
from reconciler.cluster.ports import ClusterError


@click.command(short_help="Take away a lock that nobody holds any more.")
@click.argument("nonce")
@click.argument("campaign", required=False)
@manifests_option
def unlock(nonce: str, campaign: str | None, paths: tuple[Path, ...]) -> int:
    """Take away the lock NONCE on the cluster's workspace.

    A lock goes by itself with the batch that took it, and a lock whose process is known to be dead is replaced. This
    is for a holder on another host that will not come back: `reconcile status` shows who it is and for how long.
    """
    opened = open_campaign(paths, campaign)
    try:
        click.echo(release(connect(opened), opened.desired.site.workspace, nonce))
    except ClusterError as error:
        fail_at(error)
    return 0
