"""Transport over SSH: one connection, kept; one channel at a time; every wait bounded.

What matters is the truth about `sent`. Until the exec request goes out nothing can run on the far side, and all errors
say so (`Unreachable`, `Refused`, `LinkLost(sent=False)`). From then on a command may have run whatever came back, and a
missing exit status is `LinkLost(sent=True)` even if the output looks whole: sshd sends the status last.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final

import paramiko

from reconciler.cluster import loginshell
from reconciler.cluster.frames import ANSWER_BYTES_MAX
from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable
from reconciler.cluster.sshauth import Ask, Refused
from reconciler.cluster.sshconfig import Asked, Endpoint, Way, resolve
from reconciler.cluster.sshlogin import CONNECT_TIMEOUT_S, Busy, Deadline, Link, login

OUTPUT_BYTES_MAX: Final = ANSWER_BYTES_MAX + 512 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024
BUSY_TRIES: Final = 3
PULSE_S: Final = 5.0
"""Between two signs of life asked of the host."""
SILENCE_MAX_S: Final = 18.0
"""Without any sign of life for this long, the link is lost."""
_PIECE: Final = 64 * 1024
_AFTERMATH_S: Final = 1.0
"""How long output is awaited once the command has ended: something it left behind may hold the pipe open."""

__all__ = ["Ask", "Asked", "Refused", "SshTransport", "Way"]


class SshTransport:
    """Runs commands on the first login node that answers. Close it, or use it in a `with`."""

    def __init__(self, way: Way, ask: Ask | None = None) -> None:
        self._way = way
        self._ask = ask
        self._at = 0
        """The host that answered last: tried first when the connection has to be made again."""
        self._link: Link | None = None
        self._pulse: _Pulse | None = None
        self._refused: Refused | None = None
        self._one = threading.Lock()

    @property
    def host(self) -> str:
        """Who is spoken to, for messages."""
        return self._way.hosts[self._at].alias

    def open(self) -> None:
        """Connect and log in, asking the person at the terminal if the host asks and there is one.

        Only here: a connection that has to be made again later is made without a person, or not at all.

        Raises:
            Refused: the host key is not the known one, or the host does not let us in. Never tried again.
            Unreachable: no host answers.
        """
        with self._one, Deadline(None) as deadline:
            self._linked(deadline, self._ask)

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        """Run `argv`; see `Transport.exec`. Both a connection and the command end within `timeout_s`.

        Raises:
            Refused: as `open`.
            Unreachable: nothing was sent.
            LinkLost: no exit status came back; `sent` says whether the command may have run.
            CommandFailed: it ended with a status other than 0.
        """
        command = loginshell.command_line(argv, self._way.path)
        with self._one, Deadline(timeout_s) as deadline:
            channel = self._channel(deadline)
            try:
                status, output, errors = self._converse(channel, command, stdin, deadline, timeout_s)
            except BaseException:
                self._drop()
                raise
            finally:
                _end(channel)
        if status != 0:
            told = loginshell.failure(argv[0], status, self.host, errors)
            raise CommandFailed(told, status=status, output=output)
        return output

    def close(self) -> None:
        """End the connection."""
        with self._one:
            self._drop()

    def __enter__(self) -> SshTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop(self) -> None:
        link, pulse, self._link, self._pulse = self._link, self._pulse, None, None
        if pulse is not None:
            pulse.stop()
        if link is not None:
            link.close()

    def _channel(self, deadline: Deadline) -> paramiko.Channel:
        """An open channel; nothing has been asked of it. A kept connection that turns out dead is made again, once."""
        kept = self._link is not None
        while True:
            link = self._linked(deadline, None)
            deadline.guard(link.tcp)
            try:
                return link.transport.open_session(timeout=deadline.left(CONNECT_TIMEOUT_S))
            except (paramiko.SSHException, OSError, EOFError) as error:
                self._drop()
                if not kept:
                    raise LinkLost(f"The link to {self.host} broke: {error}.", sent=False) from error
            kept = False

    def _linked(self, deadline: Deadline, ask: Ask | None) -> Link:
        if self._refused is not None:
            raise Refused(self._refused.message, self._refused.fix)
        if self._link is not None and self._link.alive():
            return self._link
        self._drop()
        try:
            self._link = self._first_that_answers(deadline, ask)
        except Refused as refused:
            self._refused = refused
            raise
        self._pulse = _Pulse(self._link.transport)
        return self._link

    def _first_that_answers(self, deadline: Deadline, ask: Ask | None) -> Link:
        hosts = self._way.hosts
        order = [(self._at + step) % len(hosts) for step in range(len(hosts))]
        told: list[Unreachable] = []
        for attempt in range(BUSY_TRIES):
            told.clear()
            for number in order:
                try:
                    link = login(self._resolve(hosts[number]), self._resolve, ask, deadline)
                except Refused:
                    raise
                except Unreachable as error:
                    told.append(error)
                else:
                    self._at = number
                    return link
            if not any(isinstance(error, Busy) for error in told) or attempt == BUSY_TRIES - 1:
                break
            # sshd turns connections away at random when many come at once; coming back all together would not help.
            time.sleep(min(random.uniform(0.2, 1.0) * 2**attempt, deadline.left(10.0)))  # noqa: S311
        if len(told) == 1:
            raise told[0]
        raise Unreachable(
            f"None of {len(told)} login nodes answers: {' '.join(error.message for error in told)}",
            f"Check that one of these works, then try again:\n    {hosts[0].command()} true",
        )

    def _resolve(self, asked: Asked) -> Endpoint:
        endpoint = resolve(asked, self._way.config)
        own = self._way.connect_timeout_s
        if own is None:
            return endpoint
        return replace(endpoint, connect_timeout_s=own)

    def _converse(
        self, channel: paramiko.Channel, command: str, stdin: bytes, deadline: Deadline, timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """(exit status, output, errors) of one command; LinkLost(sent=True) if there is no exit status."""
        assert self._link is not None and self._pulse is not None  # noqa: S101
        talk = _Talk(channel, self._pulse)
        try:
            with Deadline(SILENCE_MAX_S) as reply:
                reply.guard(self._link.tcp)
                channel.exec_command(command)  # waits for its reply for ever
            why = talk.through(stdin)
        except (paramiko.SSHException, OSError, EOFError) as error:
            why = f"the link broke: {error}"
        if deadline.passed:
            why = f"it did not answer within {timeout_s:.0f} s"
        if not why and channel.exit_status < 0:
            why = "the link broke, or something ended the command, before its exit status came"
        if why:
            raise LinkLost(
                f"{self.host}: {why}.",
                f"Look again; if it stays like this, check the link:\n    {self._way.hosts[self._at].command()} true",
                sent=True,
            )
        return channel.exit_status, bytes(talk.output), bytes(talk.errors)


class _Talk:
    """Both directions of one command at once: neither side may wait for the other to read."""

    def __init__(self, channel: paramiko.Channel, pulse: _Pulse) -> None:
        self.output, self.errors = bytearray(), bytearray()
        self._channel = channel
        self._pulse = pulse

    def through(self, stdin: bytes) -> str:
        """Until the command has ended; returns what is wrong, or ""."""
        threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()
        channel = self._channel
        self._pulse.heard = quiet_since = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(channel.fileno(), selectors.EVENT_READ)
            while True:
                # Asked before reading: what arrives in between is then read by the next round.
                ended = bool(channel.eof_received or channel.closed)
                now = time.monotonic()
                if self._drain():
                    quiet_since = now
                    self._pulse.heard = now
                    if len(self.output) > OUTPUT_BYTES_MAX:
                        return f"it sent more than {OUTPUT_BYTES_MAX} bytes"
                    continue
                if channel.exit_status_ready() and (ended or now - quiet_since > _AFTERMATH_S):
                    return ""
                if now - self._pulse.heard > SILENCE_MAX_S:
                    return f"nothing was heard for {SILENCE_MAX_S:.0f} s"
                if ended:
                    channel.status_event.wait(0.1)
                else:
                    selector.select(0.2)

    def _drain(self) -> bool:
        some = False
        while self._channel.recv_ready() and len(self.output) <= OUTPUT_BYTES_MAX:
            self.output += self._channel.recv(_PIECE)
            some = True
        while self._channel.recv_stderr_ready():
            self.errors += self._channel.recv_stderr(_PIECE)
            del self.errors[:-ERROR_BYTES_MAX]
            some = True
        return some

    def _feed(self, stdin: bytes) -> None:
        rest = memoryview(stdin)
        # A command that ends without reading everything closes the channel; its status says why.
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            while rest:
                sent = self._channel.send(rest[:_PIECE].tobytes())
                if sent == 0:
                    return
                self._pulse.heard = time.monotonic()
                rest = rest[sent:]
            self._channel.shutdown_write()


class _Pulse:
    """Asks the host for a sign of life now and then: TCP alone does not notice a link that swallows everything."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.heard = time.monotonic()
        """When the host was last heard (monotonic seconds)."""
        self._transport = transport
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _run(self) -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            while not self._stopped.wait(PULSE_S) and self._transport.is_active():
                self._transport.global_request("keepalive@openssh.com", wait=True)
                if self._transport.is_active():
                    self.heard = time.monotonic()


def _end(channel: paramiko.Channel) -> None:
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        channel.close()
