"""Transport over a child process: the cluster is this machine (a login node, or the embedded PBS)."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

from reconciler.cluster import loginshell
from reconciler.cluster.frames import ANSWER_BYTES_MAX
from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable

OUTPUT_BYTES_MAX: Final = ANSWER_BYTES_MAX + 512 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024
_PIECE: Final = 64 * 1024
_AFTERMATH_S: Final = 1.0
"""How long output is awaited once the command has ended: something it left behind may hold the pipe open."""


@dataclass(frozen=True, slots=True)
class ProcessTransport:
    """Runs commands on this machine, with the folders of `path` in front of PATH."""

    path: tuple[str, ...] = ()
    host: str = "this machine"

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        """Run `argv`; see `Transport.exec`.

        The command gets a session of its own: Ctrl-C at the terminal ends the reconciler, not a batch half-way. If
        the reconciler is killed the command lives on and finishes, which the journal makes safe.
        """
        ended = run(argv, self._environment(), stdin, timeout_s)
        if ended is None:
            raise LinkLost(
                f"{self.host} did not answer within {timeout_s:.0f} s.",
                "Look again; if it stays like this, check what hangs:\n    time qstat",
                sent=True,
            )
        if ended.status != 0:
            told = loginshell.failure(argv[0], ended.status, self.host, ended.errors)
            raise CommandFailed(told, status=ended.status, output=ended.output)
        return ended.output

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self.path:
            environment["PATH"] = os.pathsep.join((*self.path, environment.get("PATH", os.defpath)))
        return environment


class SystemClock:
    """The real one."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()  # noqa: TID251  # this is the clock that others are given

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a command."""

    status: int
    output: bytes
    errors: bytes
    """The end of them, `ERROR_BYTES_MAX` at most."""


def run(argv: Sequence[str], environment: dict[str, str] | None, stdin: bytes, timeout_s: float) -> Ended | None:
    """Run a command on this machine in a session of its own; None if it did not end in time, or said far too much.

    Raises:
        Unreachable: it could not be started.
    """
    deadline = time.monotonic() + timeout_s
    child = _start(argv, environment)
    try:
        output, errors = _converse(child, stdin, deadline)
        return None if output is None else Ended(child.wait(max(deadline - time.monotonic(), 0.0)), output, errors)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                _close(pipe)


def _start(argv: Sequence[str], environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"{argv[0]} could not be started on this machine: {error}. Nothing was done.",
            f"Check that this works:\n    {argv[0]} --version",
        ) from error


def _converse(child: subprocess.Popen[bytes], stdin: bytes, deadline: float) -> tuple[bytes | None, bytes]:
    """(output, errors); output is None when the deadline passed or the output outgrew its bound."""
    assert child.stdin and child.stdout and child.stderr  # noqa: S101
    output, errors, rest = bytearray(), bytearray(), memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        selector.register(child.stdout, selectors.EVENT_READ, output)
        selector.register(child.stderr, selectors.EVENT_READ, errors)
        ended: float | None = None
        while any(key.data is not None for key in selector.get_map().values()):
            now = time.monotonic()
            if ended is None and child.poll() is not None:
                ended = now
            if now >= deadline or len(output) > OUTPUT_BYTES_MAX:
                return None, bytes(errors)
            if ended is not None and now - ended > _AFTERMATH_S:
                break
            for key, _ in selector.select(min(deadline - now, 0.2)):
                if key.data is None:
                    rest = _write(child.stdin, rest)
                    if not rest:
                        selector.unregister(child.stdin)
                        _close(child.stdin)
                elif not _read(key.fd, key.data):
                    selector.unregister(key.fileobj)
            del errors[:-ERROR_BYTES_MAX]
    return bytes(output), bytes(errors)


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a child that ended early took its end of the pipe with it
        pipe.close()


def _write(pipe: IO[bytes], rest: memoryview) -> memoryview:
    try:
        return rest[os.write(pipe.fileno(), rest[:_PIECE]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[:0]  # it ended without reading everything; its status and errors say why


def _read(descriptor: int, into: bytearray) -> bool:
    """Append what is there; False at the end."""
    piece = os.read(descriptor, _PIECE)
    into += piece
    return bool(piece)
