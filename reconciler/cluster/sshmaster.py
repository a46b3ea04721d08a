"""Transport over a connection that a person opened: the system's `ssh`, through its ControlMaster.

For sites where only a person can log in. Nothing here ever logs in: where the master is gone, nothing is sent. The
master's own settings decide how soon a dead link is noticed, so the commands shown here open it with ServerAlive.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from reconciler.cluster import loginshell, process
from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable
from reconciler.cluster.sshconfig import Asked, Way, told_by_ssh, value_of

CHECK_TIMEOUT_S: Final = 10.0
ALIVE: Final = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
"""A link that swallows everything ends the master, and what runs through it, after some 20 s."""
_BROKEN: Final = 255
"""ssh's own status for a link that broke; a command's 255 cannot be told from it."""


@dataclass(frozen=True, slots=True)
class Master:
    """A ControlMaster that answers."""

    host: Asked
    socket: str
    """Path of its socket, with nothing left to expand."""


class MasterTransport:
    """Runs commands through the first login node's master that answers. Closing it leaves the master alone."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._at = way.hosts[0]

    @property
    def host(self) -> str:
        """Who is spoken to, for messages."""
        return self._at.alias

    def open(self) -> None:
        """See that there is a master.

        Raises:
            Unreachable: there is none; the fix says how to open one.
        """
        self._master()

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        """Run `argv`; see `Transport.exec`.

        Raises:
            Unreachable: no master answers, so nothing was sent.
            LinkLost: no exit status came back, with `sent` true: the command may have run.
            CommandFailed: it ended with a status other than 0 or 255.
        """
        line = loginshell.command_line(argv, self._way.path)
        master = self._master()
        command = [*self._ssh(), *_through(master), *master.host.options(), "--", master.host.alias, line]
        ended = process.run(command, None, stdin, timeout_s)
        if ended is None or ended.status in (_BROKEN, *range(-64, 0)):
            why = f"it did not answer within {timeout_s:.0f} s"
            if ended is not None:
                why = f"no exit status came through the master: {loginshell.shown(ended.errors) or 'the link broke'}"
            check = self._command(master.host, "-O", "check")
            fix = f"Look again; if it stays like this, check the master:\n    {check}"
            raise LinkLost(f"{self.host}: {why}.", fix, sent=True)
        if ended.status != 0:
            told = loginshell.failure(argv[0], ended.status, self.host, ended.errors)
            raise CommandFailed(told, status=ended.status, output=ended.output)
        return ended.output

    def close(self) -> None:
        """The connection is the person's: it stays open."""

    def __enter__(self) -> MasterTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _master(self) -> Master:
        """The first master that answers, the last one used first."""
        told: list[str] = []
        for host in dict.fromkeys((self._at, *self._way.hosts)):
            socket = value_of(told_by_ssh(host, self._way.config), "controlpath")
            if socket is None:
                raise Unreachable(
                    f"The ssh configuration names no ControlPath for {host.alias}. Nothing was sent.",
                    "Say where the master's socket is to be, then log in once:\n"
                    f"    Host {host.alias}\n        ControlPath ~/.ssh/master-%C\n\n    {self._opening(host)}",
                )
            why = self._trouble(host)
            if not why:
                self._at = host
                return Master(host, socket)
            told.append(f"{host.alias}: {why}")
        raise Unreachable(
            f"No ControlMaster connection is open ({'; '.join(told)}). Nothing was sent.",
            f"Log in once and leave it open, then run this again:\n    {self._opening(self._way.hosts[0])}",
        )

    def _trouble(self, host: Asked) -> str:
        """Why the host's master does not answer, "" if it does. Asks this machine only, not the host."""
        try:
            done = subprocess.run(
                [*self._ssh(), "-O", "check", *host.options(), "--", host.alias],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else loginshell.shown(done.stderr) or "no answer"

    def _ssh(self) -> list[str]:
        return ["ssh", *(["-F", str(self._way.config)] if self._way.config else [])]

    def _opening(self, host: Asked) -> str:
        return self._command(host, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", *ALIVE, "-fN")

    def _command(self, host: Asked, *options: str) -> str:
        config = ["-F", str(self._way.config)] if self._way.config else []
        return host.command(*config, *options)


def _through(master: Master) -> list[str]:
    """Options with which ssh uses the master or fails. Left alone it would log in by itself when the master is gone;
    a proxy command that ends at once leaves it no way to. (ControlPath comes first: it may depend on the proxy.)"""
    path = master.socket.replace("%", "%%")
    wanted = ("ControlMaster=no", f"ControlPath={path}", "ProxyCommand=false", "BatchMode=yes")
    plain = ("ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "RequestTTY=no", "RemoteCommand=none")
    return [word for option in (*wanted, *plain) for word in ("-o", option)]
