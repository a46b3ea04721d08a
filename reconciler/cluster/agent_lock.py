"""The agent's lock: one batch at a time in a workspace, whether its holder is certainly gone, and who was first."""

import errno
import hashlib
import json
import os
import subprocess
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Optional

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        NO_FLOCK,
        Disk,
        discard,
        lock_file,
        read_whole,
        sync_folder,
        write_whole,
    )
    from reconciler.cluster.agent_qstat import moment_of, number_of, text_of

LOCK = ".lock"
APPLIED_BYTES_MAX = 4 * 1024 * 1024


class Held(Exception):
    """The lock is somebody else's."""

    def __init__(self, lock: "Json") -> None:
        super().__init__("locked")
        self.lock = lock


class Lock:
    """The batch lock of a workspace: a file that says who holds it. It stays until released, or proven stale."""

    def __init__(self, disk: Disk, clock: "Callable[[], float]") -> None:
        self.path = os.path.join(disk.root, LOCK)
        self.clock = clock

    def read(self) -> "Optional[Json]":
        try:
            data = read_whole(self.path, JSON_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            found = json.loads((data or b"").decode("utf-8"))
        except (ValueError, RecursionError):
            found = None
        names = ("nonce", "holder", "host", "boot", "pids", "start")
        texts = isinstance(found, dict) and all(found.get(name) == text_of(found.get(name)) for name in names)
        if texts and moment_of(found.get("begun")) is not None and number_of(found.get("pid")) is not None:
            return dict(found)
        # Not whole, so it says nothing: nobody's death can be proven, and its digest serves as the name to release.
        nonce = hashlib.sha256(data or b"").hexdigest()[:32]
        begun = os.stat(self.path).st_mtime
        unknown = {"nonce": nonce, "holder": "unknown (the lock file is damaged)", "host": "", "boot": "", "pids": ""}
        return dict(unknown, pid=0, start="", begun=begun)

    def acquire(self, nonce: str, holder: str) -> str:
        """Take it, or raise Held. Returns a note if a stale one was replaced."""
        mine = json.dumps(dict(identity(), nonce=nonce, holder=holder, begun=self.clock())).encode("ascii")
        note = ""
        for _ in range(5):
            if self._create(mine, nonce):
                return note
            found = self.read()
            if found is None:
                continue
            if not is_stale(found) or not self._drop(found["nonce"]):
                raise Held(self.describe(found))
            note = "replaced the lock of {}, which is no longer running".format(found["holder"])
        raise Held(self.describe(self.read() or json.loads(mine.decode("ascii"))))

    def held_by(self, nonce: str) -> bool:
        found = self.read()
        return found is not None and found["nonce"] == nonce

    def release(self, nonce: str) -> None:
        if self.held_by(nonce):
            self._drop(nonce)

    def describe(self, found: "Json") -> "Json":
        age = abs(self.clock() - found["begun"])  # by a clock that was ahead it would be new for as long as that was
        return {"nonce": found["nonce"], "holder": found["holder"], "host": found["host"], "age": age}

    def _create(self, content: bytes, nonce: str) -> bool:
        """Whole from the first moment: a link to a finished file, which fails if the name is taken."""
        temporary = "{}.{}".format(self.path, nonce)
        write_whole(temporary, content)
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            return self._create_without_links(content)
        finally:
            discard(temporary)
        sync_folder(os.path.dirname(self.path))
        return True

    def _create_without_links(self, content: bytes) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return True

    def _drop(self, nonce: str) -> bool:
        """Remove exactly this one. Two that meet the same stale lock must not remove each other's new one, so this
        is done one at a time; without flock there is no such guard, and a person decides."""
        guard = None
        try:
            for _ in range(100):
                guard = lock_file(self.path + ".guard")
                if guard is not None:
                    break
                time.sleep(0.02)
            else:
                return False
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            if nonce != self.own:
                return False
        try:
            if not self.held_by(nonce):
                return False
            discard(self.path)
            sync_folder(os.path.dirname(self.path))
            return True
        finally:
            if guard is not None:
                os.close(guard)

    own = ""
    """The nonce that may be dropped without a guard: our own, or one that a person named."""


def identity() -> "Json":
    """This process, so that another on the same machine can tell whether it still runs."""
    return {
        "host": os.uname().nodename,
        "boot": boot_id(),
        "pids": first_line(lambda: os.readlink("/proc/self/ns/pid")),
        "pid": os.getpid(),
        "start": process_start(os.getpid()) or "",
    }


def first_line(read: "Callable[[], str]") -> str:
    try:
        return read().strip()
    except OSError:
        return ""


def boot_id() -> str:
    def of_linux() -> str:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read()

    def of_bsd() -> str:
        return subprocess.check_output(["sysctl", "-n", "kern.boottime"], stderr=subprocess.DEVNULL).decode("ascii")

    return first_line(of_linux) if os.path.exists("/proc/self") else first_line(of_bsd)


def process_start(pid: int) -> "Optional[str]":
    """When a process began, as its kernel counts; "" if it is dead but not reaped; None if that cannot be seen."""
    try:
        with open("/proc/{}/stat".format(pid)) as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in ("Z", "X") else fields[19]


def is_stale(lock: "Json") -> bool:
    """Whether its holder is certainly gone: same machine, same boot, same process numbers, and no such process."""
    here = identity()
    if not here["boot"] or any(here[name] != lock[name] for name in ("host", "boot", "pids")) or lock["pid"] <= 0:
        return False
    try:
        os.kill(lock["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    began = process_start(lock["pid"])
    return began is not None and began != lock["start"]


def lock_seen(lock: Lock) -> "Optional[Json]":
    found = lock.read()
    return None if found is None else lock.describe(found)


def unlock(request: "Json", clock: "Callable[[], float]") -> "Json":
    """Remove the lock with exactly this nonce: a person has made sure that its holder is gone."""
    disk = Disk(request["workspace"])
    lock = Lock(disk, clock)
    lock.own = request["release"]
    found = None if disk.missing() else lock.read()
    if found is None:
        return {"note": "there is no lock"}
    if found["nonce"] != request["release"]:
        raise Held(lock.describe(found))
    lock.release(request["release"])
    return {"note": "released the lock of {}".format(found["holder"])}


def overtaken(disk: "Disk", request: "Json") -> bool:
    """Whether something else than this batch wants was applied since the look that it was planned by."""
    seen = request["applied_seen"]
    if request["applied"] is None or seen is None:
        return False
    try:
        there = read_whole(os.path.join(disk.root, request["campaign"], "applied.json"), APPLIED_BYTES_MAX)
    except FileNotFoundError:
        return bool(seen != "")
    if there == request["applied"].encode("utf-8"):
        return False
    return there is None or hashlib.sha256(there).hexdigest() != seen
