"""`reconcile doctor`: whether a cluster has all that an apply would rely on."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click
from rich.console import Console

from reconciler import loop
from reconciler.cli import machine
from reconciler.cli.connecting import NoLocalCluster, open_link
from reconciler.cli.human import doctor as view
from reconciler.cli.opening import manifests_option, read
from reconciler.cli.screen import screen
from reconciler.cli.telling import fail
from reconciler.cluster import doctor as adapter
from reconciler.cluster.doctor_need import Need, need_of
from reconciler.cluster.doctor_report import Check, Status
from reconciler.cluster.ports import ClusterError, Unreachable
from reconciler.cluster.process import SystemClock
from reconciler.domain.catalog import Catalog
from reconciler.model.cluster import ClusterSpec, LocalTransport, SshTransport
from reconciler.model.faults import Fault
from reconciler.record import files
from reconciler.record.repository import NoRepository, revision_of


@click.command(short_help="Check what an apply relies on at a cluster, and say what to do.")
@click.argument("cluster", required=False)
@manifests_option
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def doctor(cluster: str | None, paths: tuple[Path, ...], as_json: bool) -> int:
    """Check everything that an apply relies on at CLUSTER (a Cluster manifest), and say for each failure what to do.

    In one connection: reachability, host key, login, python, PBS and its queues against what the stages ask for,
    clocks, the workspace (is it writable, does it rename, link and lock as the agent needs it), space, the launcher
    and its environment, every data list with its token files. All that is written there is one folder of the
    doctor's own, which it removes. CLUSTER may be left out if there is only one.

    \b
    Exit status:
        0    nothing failed; there may be warnings
        1    something failed, or could not be looked at
    """
    catalog = read(paths)
    name = _choose(catalog, cluster)
    spec = catalog.cluster(name).spec
    site = loop.site_of(spec, _root(spec, paths))
    need = need_of(catalog, name, site)
    checks = _examine(name, spec, Path(site.root), need)
    if as_json:
        click.echo(machine.doctor_json(name, checks), nl=False)
    else:
        console = screen()
        for line in view.lines(name, checks):
            console.print(line, soft_wrap=True)
    return 0 if all(check.status in (Status.OK, Status.WARNING) for check in checks) else 1


def _choose(catalog: Catalog, name: str | None) -> str:
    """The cluster that was named, or the only one."""
    known = sorted(catalog.clusters)
    if name is None and len(known) == 1:
        return known[0]
    if name in known:
        return str(name)
    there = ", ".join(known) or "none"
    if name is None:
        fail(Fault.NAME_NEEDED, f"name a cluster; there is {there}", f"reconcile doctor {known[0]}" if known else "")
    fail(Fault.NO_SUCH_NAME, f"there is no cluster {name!r} here; there is {there}")


def _root(spec: ClusterSpec, paths: tuple[Path, ...]) -> Path:
    """What an embedded cluster's folder and templates of one's own are relative to; all else needs no repository."""
    if not isinstance(spec.transport, LocalTransport) and spec.launcher.templates is None:
        return Path()
    try:
        return revision_of([path.resolve() for path in files.given_or_nearest(paths)]).root
    except NoRepository as error:
        fail(Fault.NO_REPOSITORY, f"{error}: paths of the Cluster are relative to one", "git init")


def _examine(name: str, spec: ClusterSpec, root: Path, need: Need) -> tuple[Check, ...]:
    looking = Console(stderr=True)
    transport = spec.transport
    if isinstance(transport, SshTransport) and looking.is_terminal:
        # No moving picture yet: the host may ask for a password on this line.
        click.echo(f"Connecting to {transport.host} ...", err=True)
    try:
        link = open_link(spec, root)
    except NoLocalCluster as missing:
        return adapter.not_opened(Unreachable(f"{missing}.", f"Make it:\n    {need.make}"), need)
    except ClusterError as error:
        return adapter.not_opened(error, need)
    first = transport.host if isinstance(transport, SshTransport) else link.host
    with looking.status(f"Looking at {name} ...") if sys.stderr.isatty() else contextlib.nullcontext():
        return adapter.examine(link, first, need, SystemClock())
