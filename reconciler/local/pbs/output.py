"""Where a job's standard output and error go, while it runs and when it has ended."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from reconciler.local.pbs.job import Job
from reconciler.local.pbs.spool import Spool

STREAMS = (("o", "Output_Path", "OU"), ("e", "Error_Path", "ER"))


def umask(job: Job) -> int:
    return int(job.attributes.get("umask", "077"), 8)


def temporary_directory(job: Job) -> Path:
    """TMPDIR of the current run: short, as sockets may be made there, and not to be guessed."""
    return Path(f"/tmp/pbs.{job.seq}.{job.run['cookie'][:12].lower()}")  # noqa: S108


def joined(job: Job) -> str:
    """The stream that holds both, "" when they are apart."""
    letters = job.attributes["Join_Path"]
    return "" if letters == "n" else letters[0]


def written(job: Job) -> list[tuple[str, str, str]]:
    """The streams that have a file of their own."""
    return [stream for stream in STREAMS if joined(job) in ("", stream[0])]


def destination(job: Job, attribute: str, suffix: str) -> Path | None:
    """The path the user will find a stream at; None when it is on a host that is not this one."""
    host, _, path = job.attributes[attribute].partition(":")
    if host not in (job.server, "localhost", os.uname().nodename, *(name for name, _, _ in job.vnodes)):
        return None
    final = Path(path)
    return final / f"{job.id}.{suffix}" if final.is_dir() else final


def place(job: Job, spool: Spool, home: Path, stream: tuple[str, str, str]) -> Path | None:
    """The file a stream is written to as the job runs: `-k d` its destination, `-k` home, else the spool's."""
    letter, attribute, suffix = stream
    keep = job.attributes["Keep_Files"]
    if letter in keep and "d" in keep:
        return destination(job, attribute, suffix)
    if letter in keep:
        return home / f"{job.name}.{letter}{job.seq}"
    return spool.output / f"{job.id}.{suffix}"


def open_files(job: Job, spool: Spool, home: Path) -> dict[str, int]:
    """Open the streams for the job, empty.

    Raises:
        OSError: a directory is missing or may not be written.
    """
    opened: dict[str, int] = {}
    for stream in written(job):
        path = place(job, spool, home, stream)
        if path is None:
            raise FileNotFoundError(job.attributes[stream[1]])
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        opened[stream[0]] = os.open(path, flags, 0o666 & ~umask(job))
    both = joined(job)
    return {"o": opened[both], "e": opened[both]} if both else opened


def deliver(job: Job, spool: Spool) -> bool | None:
    """Copy the spooled streams to their destinations; what cannot be delivered is kept in `undelivered`.

    Returns whether everything arrived; None when there was nothing to copy.
    """
    keep, remove = job.attributes["Keep_Files"], job.attributes.get("Remove_Files", "")
    results = []
    for stream in written(job):
        letter, attribute, suffix = stream
        source = spool.output / f"{job.id}.{suffix}"
        if letter in keep:
            continue
        if letter in remove:
            source.unlink(missing_ok=True)
        elif source.exists():
            results.append(_copy(source, destination(job, attribute, suffix), 0o666 & ~umask(job)))
            if not results[-1]:
                source.replace(spool.undelivered / source.name)
            source.unlink(missing_ok=True)
    return all(results) if results else None


def _copy(source: Path, target: Path | None, mode: int) -> bool:
    if target is None:
        return False
    with contextlib.suppress(OSError):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with source.open("rb") as origin, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(origin, copy)
        return True
    return False
