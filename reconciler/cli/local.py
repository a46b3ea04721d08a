"""`reconcile local`: make this machine the cluster of a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.opening import manifests_option, open_campaign
from reconciler.cli.telling import fail
from reconciler.model.cluster import LocalTransport
from reconciler.model.faults import Fault


@click.command(short_help="Make this machine a cluster for a campaign.")
@click.argument("campaign", required=False)
@manifests_option
@click.option(
    "--scale",
    type=click.Choice(["quickstart", "tiny"]),
    default="quickstart",
    show_default=True,
    help="How much text to make; tiny is for trying the machinery in seconds.",
)
def local(campaign: str | None, paths: tuple[Path, ...], scale: str) -> int:
    """Make this machine the cluster of CAMPAIGN: PBS commands, a small trainer, corpora.

    Only for a campaign whose Cluster says `transport: {kind: local}`. Everything lies under that transport's root;
    deleting the folder takes it all away. Doing it again changes nothing.
    """
    opened = open_campaign(paths, campaign)
    transport = opened.desired.cluster.transport
    if not isinstance(transport, LocalTransport):
        fail(
            Fault.NO_LOCAL_CLUSTER,
            f"the cluster {opened.desired.spec.cluster} is not on this machine: its transport is {transport.kind}",
        )
    try:
        from reconciler.local import machine
    except ImportError as error:
        fail(
            Fault.NO_LOCAL_CLUSTER,
            f"the local trainer needs {error.name}, which is not installed",
            "pip install 'cpt-reconciler[local]'",
        )
    root = Path(opened.desired.site.root)
    try:
        machine.build(root, scale=scale)
    except (ValueError, OSError) as error:
        fail(Fault.NO_LOCAL_CLUSTER, f"the local cluster cannot be made at {root}: {error}")
    click.echo(
        f"This machine is the cluster {opened.desired.spec.cluster}. Its PBS commands:\n\n    {root}/bin/qstat\n"
    )
    return 0
