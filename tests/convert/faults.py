"""A conversion in a forked process that is killed, or meets a full disk, at a chosen one of its calls to the system.

What counts is every call of a built-in function that changes files, by whatever library makes it: the profiler of the
interpreter sees them all, so nothing here knows how the converter is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

CONTENT = {"write", "pwrite", "writelines", "close", "truncate", "ftruncate", "sendfile", "copy_file_range"}
DISK = {"fsync", "fdatasync", "flock"}
NAMES = {"mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "symlink", "chmod", "utime"}
CHANGES = CONTENT | DISK | NAMES


@dataclass(frozen=True)
class Ended:
    """How a forked process ended: what its work returned or raised, or the signal that killed it; and how many calls
    that change files it made."""

    value: Any = None
    error: BaseException | None = None
    signal: int = 0
    calls: int = 0


class Calls:
    """Counts calls, and has its way at one of them."""

    def __init__(self, at: int, fault: Callable[[], None]) -> None:
        self.at, self.fault, self.count = at, fault, 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        # A text has a `replace` too, and how often that is called hangs on what was compiled or cached before.
        of_text = isinstance(getattr(argument, "__self__", None), (str, bytes))
        if event == "c_call" and not of_text and getattr(argument, "__name__", "") in CHANGES:
            self.count += 1
            if self.count >= self.at > 0:
                self.fault()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_fork(work: Callable[[], Any], at: int = 0, fault: Callable[[], None] = killed) -> Ended:
    """`work` in a fork of this process, with `fault` at its call number `at` (0: with none)."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which this work does not use
        child = os.fork()
    if child == 0:
        os.close(reader)
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            calls = Calls(at, fault)
            try:
                sys.setprofile(calls)
                value, error = work(), None
            except BaseException as problem:
                value, error = None, problem
            sys.setprofile(None)
            with os.fdopen(writer, "wb") as file:
                pickle.dump(Ended(value, error, 0, calls.count), file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Ended(signal=os.WTERMSIG(status))
    ended = pickle.loads(told)
    assert isinstance(ended, Ended)
    return ended
