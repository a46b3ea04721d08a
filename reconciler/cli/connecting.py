"""Opens the link that a Cluster's manifest asks for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, assert_never

import click

from reconciler.cluster.ports import Transport
from reconciler.cluster.process import ProcessTransport
from reconciler.model.manifests import LocalTransport, SshTransport

CONFIG_VARIABLE: Final = "RECONCILE_SSH_CONFIG"
"""Names an ssh configuration to use in place of the person's own, as `ssh -F` does: for runners without a home."""


class NoLocalCluster(Exception):
    """The embedded cluster has not been made yet."""


def open_link(transport: LocalTransport | SshTransport, root: Path) -> Transport:
    """A link that is ready: over SSH it is connected and logged in, which is the one moment a person may be asked.

    It is closed when the command that is being run ends.

    Raises:
        NoLocalCluster: nothing at `root`.
        ClusterError: the cluster cannot be reached, or does not let us in.
    """
    match transport:
        case LocalTransport():
            if not (root / "bin" / "qsub").exists():
                raise NoLocalCluster(f"there is no local cluster at {root}")
            return ProcessTransport(path_prefix=root / "bin")
        case SshTransport():
            return _over_ssh(transport)
        case _ as unreachable:
            assert_never(unreachable)


def _over_ssh(manifest: SshTransport) -> Transport:
    # Imported only here: the SSH library takes longer to load than most commands to run.
    from reconciler.cluster import ssh

    config = os.environ.get(CONFIG_VARIABLE)
    way = ssh.Way(
        hosts=tuple(
            ssh.Asked(host, manifest.user, manifest.port) for host in (manifest.host, *manifest.fallback_hosts)
        ),
        path=manifest.path,
        config=Path(config) if config else None,
        connect_timeout_s=None if manifest.connect_timeout is None else float(manifest.connect_timeout),
    )
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
