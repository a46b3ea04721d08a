"""Opens the link that a Cluster's manifest asks for."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final, assert_never

import click

from reconciler.cli.telling import warn
from reconciler.cluster import pace
from reconciler.cluster.pace import SharedPace
from reconciler.cluster.ports import Transport, Unreachable
from reconciler.cluster.process import ProcessTransport, SystemClock
from reconciler.cluster.sshconfig import Asked, Way
from reconciler.cluster.sshmaster import MasterTransport
from reconciler.model.cluster import ClusterSpec, LocalTransport, LoginNodeTransport, SshTransport
from reconciler.model.faults import Fault
from reconciler.record.repository import NoRepository, came_with_git

CONFIG_VARIABLE: Final = "RECONCILE_SSH_CONFIG"
"""Names an ssh configuration to use in place of the person's own, as `ssh -F` does: for runners without a home."""


class NoLocalCluster(Exception):
    """The embedded cluster has not been made yet."""


def open_link(cluster: ClusterSpec, root: Path) -> Transport:
    """A link that is ready: over SSH it is connected and logged in, which is the one moment a person may be asked.

    It is closed when the command that is being run ends. Where another process of this person has looked at the
    cluster just now, it waits a moment first.

    Raises:
        NoLocalCluster: nothing at `root`.
        ClusterError: the cluster cannot be reached, or does not let us in.
    """
    transport = cluster.transport
    match transport:
        case LocalTransport():
            if not (root / "bin" / "qsub").exists():
                raise NoLocalCluster(f"there is no local cluster at {root}")
            _must_not_be_in_git(root)
            return ProcessTransport((str(root / "bin"),))
        case LoginNodeTransport():
            for folder in transport.path:
                _must_not_be_in_git(Path(folder))
            pace_for(cluster).now(float(cluster.poll))
            return ProcessTransport(transport.path)
        case SshTransport():
            pace_for(cluster).now(float(cluster.poll))
            return _over_ssh(transport)
        case _ as unreachable:
            assert_never(unreachable)


def _must_not_be_in_git(folder: Path) -> None:
    """Programs are run from there, and to look at a stranger's pull request must run none that it brought along."""
    try:
        found = came_with_git(folder)
    except NoRepository as error:
        raise Unreachable(f"Whether {folder} came with git cannot be told: {error}. Nothing was run.") from error
    if found:
        raise Unreachable(
            f"The manifest has programs run from {folder}, whose files are in git: whoever opens a pull request could "
            "change them. Nothing was run.",
            "Name a folder that git does not know, as `reconcile local` makes one. If you made it here and added it by "
            f"mistake: git rm -r --cached {shlex.quote(str(folder))} && git commit",
        )


def pace_for(cluster: ClusterSpec) -> SharedPace:
    """How often this person's processes may look at a cluster; for the embedded one each process counts for itself."""
    transport = cluster.transport
    file: Path | None = None
    if isinstance(transport, SshTransport):
        file = pace.file_for(transport.host, transport.user, transport.port)
    if isinstance(transport, LoginNodeTransport):
        # Home folders are shared by login nodes, and what is to be spared is the PBS server they have in common.
        file = pace.file_for("login-node", None, None)
    return SharedPace(file, SystemClock(), _warn)


def _warn(trouble: str) -> None:
    warn(Fault.PACE_NOT_SHARED, f"looks are not kept apart from those of your other processes: {trouble}")


def _over_ssh(manifest: SshTransport) -> Transport:
    config = os.environ.get(CONFIG_VARIABLE)
    way = Way(
        hosts=tuple(Asked(host, manifest.user, manifest.port) for host in (manifest.host, *manifest.fallback_hosts)),
        path=manifest.path,
        config=Path(config) if config else None,
        connect_timeout_s=None if manifest.connect_timeout is None else float(manifest.connect_timeout),
    )
    if manifest.connection == "master":
        through_master = MasterTransport(way)
        through_master.open()
        return through_master
    # Imported only here: the SSH library takes longer to load than most commands to run.
    from reconciler.cluster import ssh

    link = ssh.SshTransport(way, _ask if sys.stdin.isatty() and sys.stderr.isatty() else None)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(link.close)
    link.open()
    return link


def _ask(text: str, shown: bool) -> str:
    """Put the host's own words to the person; printable ones only, since they come from the far side."""
    words = "".join(letter for letter in text if letter.isprintable() or letter == "\n")
    answer: str = click.prompt(words.rstrip(" :"), hide_input=not shown, default="", show_default=False, err=True)
    return answer
