"""The spool directory: one file a job, a lock, and nothing that is ever half written.

`server_priv/jobs/N.JB` are live jobs and those that have just ended, `server_priv/history/N.JB` ended ones whose
dependents have been dealt with. A record is replaced by temporary file, fsync and rename, under the lock; where a
crash leaves a job in both directories, the history is right.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.local.pbs.config import Server, server_from
from reconciler.local.pbs.job import Job
from reconciler.local.pbs.refusals import ServerUnreachable

LOCK_WAIT_S = 60.0


class Spool:
    """Paths, records and the lock below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "server.json"
        self.jobs = root / "server_priv" / "jobs"
        self.history = root / "server_priv" / "history"
        self.scripts = root / "mom_priv" / "jobs"
        self.log = root / "mom_priv" / "log"
        self.aux = root / "aux"
        self.output = root / "spool"
        self.undelivered = root / "undelivered"
        self._lock = root / "server_priv" / "lock"
        self._next_id = root / "server_priv" / "next_id"
        self._swept = root / "server_priv" / "swept"

    def create(self) -> None:
        """Make the directories; only their owner may look inside, as scripts and variables may hold secrets."""
        for path in (self.jobs, self.history, self.scripts, self.aux, self.output, self.undelivered):
            path.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)

    def server(self) -> Server:
        """Read the settings.

        Raises:
            ServerUnreachable: `server.json` is missing or not as `install` wrote it.
        """
        try:
            return server_from(json.loads(self.settings.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServerUnreachable(f"{self.settings} cannot be read: {error}") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the spool. Everything that reads to decide, and everything that writes, happens inside.

        Raises:
            ServerUnreachable: not got within LOCK_WAIT_S, or there is no spool.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerUnreachable(f"{self._lock} cannot be opened: {error.strerror}") from error
        try:
            deadline = time.monotonic() + LOCK_WAIT_S
            pause_s = 0.001
            while not take_lock(descriptor):
                if time.monotonic() > deadline:
                    raise ServerUnreachable(f"{self._lock} has been held for {LOCK_WAIT_S:.0f} s by another process")
                time.sleep(pause_s)
                pause_s = min(0.02, pause_s * 2)
            yield
        finally:
            os.close(descriptor)

    def live(self) -> dict[int, Job]:
        """Jobs that have not ended, and ended ones not yet retired, by number."""
        retired = set(_names(self.history))
        found: dict[int, Job] = {}
        for name in _names(self.jobs):
            if name in retired:  # killed between writing the history and removing this
                (self.jobs / name).unlink()
                continue
            found[_number(name)] = _read(self.jobs / name)
        return found

    def past(self) -> dict[int, Job]:
        """Ended jobs, by number."""
        return {_number(name): _read(self.history / name) for name in _names(self.history)}

    def find(self, seq: int) -> Job | None:
        """One job, whatever its state; None when it is unknown or forgotten."""
        for directory in (self.history, self.jobs):
            with contextlib.suppress(FileNotFoundError):
                return _read(directory / f"{seq}.JB")
        return None

    def save(self, job: Job) -> None:
        """Write a live job's record, whole or not at all, and durably."""
        _write(self.jobs, f"{job.seq}.JB", json.dumps(job.to_document()).encode())

    def retire(self, job: Job, keep: bool) -> None:
        """Move an ended job to the history, or forget it when none is kept."""
        if keep:
            _write(self.history, f"{job.seq}.JB", json.dumps(job.to_document()).encode())
        self._drop(self.jobs, job.seq)

    def forget(self, seq: int) -> None:
        self._drop(self.history, seq)

    def _drop(self, directory: Path, seq: int) -> None:
        (directory / f"{seq}.JB").unlink(missing_ok=True)
        self.guard(seq).unlink(missing_ok=True)
        self.script(seq).unlink(missing_ok=True)

    def script(self, seq: int) -> Path:
        return self.scripts / f"{seq}.{self.server_name}.SC"

    def guard(self, seq: int) -> Path:
        """The file whose lock a supervisor holds as long as it lives, whatever becomes of its pid."""
        return self.scripts / f"{seq}.LK"

    @property
    def server_name(self) -> str:
        if not hasattr(self, "_server_name"):
            self._server_name = self.server().name
        return self._server_name

    def write_script(self, seq: int, text: bytes) -> None:
        _write(self.scripts, self.script(seq).name, text, mode=0o700)

    def take_id(self) -> int:
        """The next number. It is spent before anything is written under it, so no crash can hand it out twice."""
        try:
            unspent = int(self._next_id.read_text())
        except FileNotFoundError:
            unspent = 1
        used = max((_number(name) for path in (self.jobs, self.history) for name in _names(path)), default=0)
        seq = max(unspent, used + 1)
        _write(self._next_id.parent, self._next_id.name, str(seq + 1).encode())
        return seq

    def expire(self, now: float, duration_s: int) -> None:
        """Forget ended jobs older than `duration_s`; looks at most every two minutes, as PBS does."""
        with contextlib.suppress(FileNotFoundError):
            if now - self._swept.stat().st_mtime < min(120, max(1, duration_s)):
                return
        for name in _names(self.history):
            with contextlib.suppress(FileNotFoundError):
                if (self.history / name).stat().st_mtime + duration_s < now:
                    self.forget(_number(name))
        self._swept.touch()


def take_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; False when somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(directory: Path) -> list[str]:
    """The records of a directory by number; what an interrupted write has left begins with a dot and is no record."""
    return sorted(
        (path.name for path in directory.iterdir() if path.name.endswith(".JB") and path.name[0] != "."), key=_number
    )


def _number(name: str) -> int:
    return int(name.split(".", 1)[0])


def _read(path: Path) -> Job:
    try:
        return Job.from_document(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise ServerUnreachable(f"the job record {path} is damaged ({error}); move it away to go on") from error


def _write(directory: Path, name: str, content: bytes, mode: int = 0o600) -> None:
    temporary = directory / f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(directory / name)
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
