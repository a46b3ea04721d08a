"""A job's processes, found through /proc by their session and by the cookie in their environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

KILL_WAIT_S = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGESIZE") // 1024
_PROC = Path("/proc")


class Process(NamedTuple):
    """A line of /proc. cpu_s counts waited-for children; sizes are kB; start is in clock ticks since boot."""

    pid: int
    session: int
    zombie: bool
    start: int
    cpu_s: float
    rss_kb: int
    size_kb: int


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def look(pid: int) -> Process | None:
    """One process, or None when there is none of that number."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        session=int(fields[3]),
        zombie=fields[0] in "ZX",
        start=int(fields[19]),
        cpu_s=sum(int(ticks) for ticks in fields[11:15]) / _TICKS,
        rss_kb=int(fields[21]) * _PAGE_KB,
        size_kb=int(fields[20]) // 1024,
    )


def table() -> list[Process]:
    """Every process that has not ended."""
    found = (look(int(path.name)) for path in _PROC.iterdir() if path.name.isdigit())
    return [process for process in found if process is not None and not process.zombie]


def of_job(session: int | None, cookie: str) -> list[Process]:
    """The processes of a session and those that carry the job's cookie, the session's leader first.

    A process that began a session of its own still has the cookie, unless it cleared its environment.
    """
    mark = f"PBS_JOBCOOKIE={cookie}".encode()
    found = [entry for entry in table() if entry.session == session or _carries(entry.pid, mark)]
    return sorted(found, key=lambda entry: (entry.pid != session, entry.pid))


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def send(session: int | None, cookie: str, number: int) -> bool:
    """Signal a job's processes; False when there are none left."""
    members = [entry for entry in of_job(session, cookie) if entry.pid != os.getpid()]
    for entry in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(entry.pid, number)
    return bool(members)


def end(session: int | None, cookie: str) -> None:
    """Kill a job's processes and wait until they are gone, KILL_WAIT_S at most."""
    deadline = time.monotonic() + KILL_WAIT_S
    while send(session, cookie, signal.SIGKILL) and time.monotonic() < deadline:
        time.sleep(0.005)


def still(session: int, start: int, boot: str) -> bool:
    """Whether the session leader is the process it was, not a later one of the same number."""
    found = look(session)
    return boot == boot_id() and found is not None and found.start == start
