"""Work spread over processes that share what was read: each is forked from this one."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

WORKERS_MAX = 8
PR_SET_PDEATHSIG = 1


def default_workers() -> int:
    """One for each processor this process may use, but not so many that a file system sees a storm."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(WORKERS_MAX, usable)


def in_workers(work: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """`work` of each of `items`, in whatever order they are done. What `work` raises is raised here.

    With one worker it is this process; nothing is started.
    """
    todo = list(items)
    if workers <= 1 or len(todo) <= 1:
        yield from map(work, todo)
        return
    executor = ProcessPoolExecutor(
        min(workers, len(todo)), multiprocessing.get_context("fork"), initializer=_begin, initargs=(work, os.getpid())
    )
    with contextlib.ExitStack() as stack:
        stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        try:
            waiting: set[Future[Any]] = {executor.submit(_do, item) for item in todo}
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield future.result()
        except BrokenProcessPool:
            raise RuntimeError("a worker was killed, for memory most likely (fewer: --workers 1)") from None


def _nothing(item: Any) -> Any:
    raise RuntimeError("a worker was not told what to do")


_work: Callable[[Any], Any] = _nothing


def _begin(work: Callable[[Any], Any], first: int) -> None:
    """In a worker: what to do, inherited and not sent. A Ctrl-C is the first process's to handle, and when that one is
    killed, none may stay behind with the folder's lock."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != first:
        os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)
