"""The agent: looks at one cluster, or carries out one batch on it, in one process.

Sent over standard input, behind `agent_qstat.py` and `agent_pbs.py`, to whatever `python3` a login node has (3.6 and
newer); it imports nothing but the standard library and installs nothing. It answers with numbers, not texts, between
marks (see `frames`).

Its effects go through four small classes: `Disk` (files of one workspace), `Pbs` (qselect, qstat, qsub), `Journal` (one
entry per action key) and `Lock`. What keeps an effect from happening twice:

1. The journal entry of a key is written before its qsub (the intent) and after it (the result), each whole or not at
   all. A key with a result returns it; nothing is done again.
2. An intent without a result is healed under the lock: if its qsub may still be running, nothing is done; else the
   job table, read after that was ruled out, either has a job that carries the key (adopted) or proves there is none.
3. Under the lock the table is read again before anything is submitted: one live job per attempt. What cannot be read
   stops the submission.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time

MYPY = False
if MYPY:
    from typing import Any, BinaryIO, Callable, Dict, List, Optional, Set, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_pbs import Pbs as Pbs
    from reconciler.cluster.agent_pbs import Unreadable, fresh_file, job_id_in, ours, user_name, workspace_tag
    from reconciler.cluster.agent_qstat import merged as merged
    from reconciler.cluster.agent_qstat import moment_of, number_of, text_of, usable_record

JOURNAL = ".journal"
ENDED = ".ended"
"""Suffix of a file in the journal: what PBS said last of a job, by the key it was submitted under."""
LOCK = ".lock"
ENTRY_VERSION = 1
KEY = re.compile(
    r"(?P<prefix>(?P<campaign>[a-z0-9.-]+)/(?P<stage>[a-z0-9.-]+)/(?P<attempt>[0-9a-f]{12}))"
    r"/l(?P<leg>\d+)/n(?P<ended>\d+)/(?P<kind>[a-z]+)(/(?P<detail>[A-Za-z0-9.-]+))?"
)
JOB_BEGINS = re.compile(rb"(?m)^reconcile: \S{1,40} job (\S{1,200}) begins on ")
"""What every job says first (`templates/header.pbs`)."""
ORPHAN_S_MAX = 900.0
"""How long a qsub is given that was begun where this process cannot see whether it still runs (another login node)."""
JSON_BYTES_MAX = 1024 * 1024
RECIPE_BYTES_MAX = 4 * 1024 * 1024
LIST_BYTES_MAX = 8 * 1024 * 1024
LISTS_BYTES_MAX = 32 * 1024 * 1024
REQUEST_BYTES_MAX = 256 * 1024 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024
MESSAGE_CHARS_MAX = 2000
NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Refused(Exception):
    """Something that must not be done, or a part of the workspace that must not be read; the text says what."""


class Held(Exception):
    """The lock is somebody else's."""

    def __init__(self, lock: "Json") -> None:
        super().__init__("locked")
        self.lock = lock


# --- Files ------------------------------------------------------------------------------------------------------------


class Disk:
    """The files of one workspace, by path relative to it. Everything the agent writes is written here."""

    def __init__(self, root: str) -> None:
        if not root.startswith("/"):
            raise Refused("the workspace is not an absolute path: {!r}".format(root[:200]))
        self.root = os.path.realpath(root)

    def missing(self) -> bool:
        """Whether there is no workspace yet. An unmounted file system is not that."""
        if os.path.isdir(self.root):
            return False
        if not os.path.isdir(os.path.dirname(self.root)):
            raise Refused(
                "{} is not there and neither is the folder above it; is the file system mounted?".format(self.root)
            )
        return True

    def place(self, relative: str) -> str:
        """The absolute path, or Refused for one that could lie outside the workspace or among the agent's own files."""
        if not relative or len(relative) > 4000:
            raise Refused("not a path: {!r}".format(relative[:200]))
        if any(ord(character) < 32 or ord(character) == 127 for character in relative):
            raise Refused("a path holds a control character: {!r}".format(relative[:200]))
        parts = relative.split("/")
        if any(part in ("", ".", "..") for part in parts) or parts[0].startswith("."):
            raise Refused("a path must lie inside the workspace: {!r}".format(relative[:200]))
        path = os.path.join(self.root, *parts)
        self.check_inside(os.path.dirname(path))
        if os.path.islink(path):
            raise Refused("{} is a symbolic link; the agent writes through none".format(relative))
        return path

    def check_inside(self, path: str) -> None:
        real = os.path.realpath(path)
        if real != self.root and not real.startswith(self.root + "/"):
            raise Refused("{} leads out of the workspace, to {}".format(path, real))

    def make_folder(self, relative: str) -> None:
        make_folders(self.place(relative))

    def put(self, relative: str, data: bytes, replace: bool = False, aside: bool = False, keep: bool = False) -> None:
        """The file with exactly these bytes, on disk and read back. Over other bytes only with `replace`; with `aside`
        what was there is kept under another name; with `keep` whatever is there is as good."""
        path = self.place(relative)
        there = os.path.lexists(path)
        if there and (keep or read_whole(path, len(data)) == data):
            sync_folder(os.path.dirname(path))  # whoever wrote it may have been killed just before that
            return
        if there and aside:
            os.rename(path, self._free_name(path))
        elif there and not replace:
            raise Refused("{} exists with other content; it is not overwritten".format(relative))
        write_whole(path, data)
        if read_whole(path, len(data) + 1) != data:
            raise Refused("{} does not read back as it was written; is the disk failing?".format(relative))

    def remove(self, relative: str) -> None:
        path = self.place(relative)
        if any(part.startswith("global_step") for part in relative.split("/")):
            raise Refused("{} is part of a checkpoint; the agent removes none".format(relative))
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_folder(os.path.dirname(path))

    @staticmethod
    def _free_name(path: str) -> str:
        for number in range(1, 10000):
            name = "{}.aside-{}".format(path, number)
            if not os.path.lexists(name):
                return name
        raise Refused("{} was set aside too often".format(path))


def read_whole(path: str, bytes_max: int, follow: bool = False) -> "Optional[bytes]":
    """The bytes of an ordinary file, None if it is longer than `bytes_max`. OSError, Refused if it is no such file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused("{} is not an ordinary file".format(path))
        data = file.read(bytes_max + 1)
    return None if len(data) > bytes_max else data


def read_text(path: str, bytes_max: int) -> "Optional[str]":
    """The text of a file in the workspace, None if there is none; Refused if it is too long or not UTF-8."""
    try:
        data = read_whole(path, bytes_max)
    except FileNotFoundError:
        return None
    if data is None:
        raise Refused("{} is longer than {} bytes".format(path, bytes_max))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("{} is not UTF-8".format(path)) from None


def write_whole(path: str, data: bytes) -> None:
    """Whole or not at all, even if the machine stops: temporary name, fsync, rename, fsync of the folder."""
    folder, name = os.path.split(path)
    # The name is fixed, not random: what a killed agent left behind is removed, and the lock keeps others away.
    temporary = os.path.join(folder, ".{}.new".format(name))
    with os.fdopen(fresh_file(temporary), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    sync_folder(folder)


def make_folders(path: str) -> None:
    """The folder and those above it, each safe in the one above: what is safe in a folder that a crash takes is not."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != path:
        make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    with contextlib.suppress(PermissionError):  # a folder may be written to and not read
        sync_folder(above)


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def discard(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def lock_file(path: str) -> "Optional[int]":
    """An open file that is locked exclusively, None if somebody else has it locked.

    OSError with ENOLCK or ENOTSUP on file systems without flock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor


# --- Journal ----------------------------------------------------------------------------------------------------------


class Journal:
    """One file per action key, replaced whole: an intent, then its result."""

    def __init__(self, disk: Disk) -> None:
        self.folder = os.path.join(disk.root, JOURNAL)
        disk.check_inside(self.folder)

    def path(self, key: str, suffix: str = ".json") -> str:
        name = key.replace("/", "+") + suffix
        if len(name) > 250:
            raise Refused("the key is too long for a file name: {}".format(key))
        return os.path.join(self.folder, name)

    def read(self, key: str) -> "Optional[Json]":
        """The entry, None if there is none; a damaged one counts as an intent, which is healed before it is used."""
        path = self.path(key)
        try:
            data = read_whole(path, JSON_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            entry = json.loads((data or b"").decode("utf-8"))
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or entry.get("key") != key:
            return {"key": key, "state": "intent", "begun": os.stat(path).st_mtime}
        version = entry.get("version")
        if not isinstance(version, int) or version > ENTRY_VERSION:
            raise Refused(
                "{} was written by a newer version of this program ({}); use that one".format(path, str(version)[:20])
            )
        return entry

    def write(self, entry: "Json") -> None:
        make_folders(self.folder)
        write_whole(self.path(entry["key"]), json.dumps(entry, sort_keys=True).encode("ascii") + b"\n")

    def forget(self, key: str) -> None:
        """Nothing came of the intent, for certain."""
        discard(self.path(key))
        sync_folder(self.folder)

    def set_aside(self, key: str) -> None:
        """Keep a refusal for people, out of the way of another try."""
        for number in range(1, 10000):
            name = self.path(key, ".aside-{}".format(number))
            if not os.path.lexists(name):
                os.rename(self.path(key), name)
                sync_folder(self.folder)
                return

    def remember(self, job: "Json") -> None:
        """Keep what PBS says of a job that has ended: its history ends some day (after two weeks at ALCF), and what was
        spent must not be forgotten with it. A folder that cannot be written to only costs asking again."""
        with contextlib.suppress(OSError, Refused):
            write_whole(self.path(job["key"], ENDED), json.dumps(job, sort_keys=True).encode("ascii") + b"\n")

    def remembered(self, journalled: "Dict[str, str]") -> "Dict[str, Json]":
        """Id → record, of those of these jobs (id → key) that have ended. A file that is damaged is no file."""
        found = {}
        for job_id, key in journalled.items():
            with contextlib.suppress(OSError, Refused, ValueError, RecursionError):
                job = json.loads((read_whole(self.path(key, ENDED), JSON_BYTES_MAX) or b"").decode("ascii"))
                if usable_record(job) and (job["id"], job["key"]) == (job_id, key):
                    found[job_id] = job
        return found

    def keys(self, campaign: str) -> "List[str]":
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        keys = [name[: -len(".json")].replace("+", "/") for name in names if name.endswith(".json")]
        return sorted(key for key in keys if KEY.fullmatch(key) and key.startswith(campaign + "/"))

    def entries(self, campaign: str) -> "List[Json]":
        """Every entry of a campaign. One that is gone by the time it is read was an intent that came to nothing."""
        found = [self.read(key) for key in self.keys(campaign)]
        return [entry for entry in found if entry is not None]


def known_jobs(journal: Journal, pbs: Pbs, entries: "List[Json]", past: "List[str]", tag: str) -> "List[Json]":
    """Our jobs: those that have ended as they were remembered, the others as PBS has them. Unreadable."""
    journalled = job_ids(entries)
    over = journal.remembered(journalled)
    left = {job_id: key for job_id, key in journalled.items() if job_id not in over}
    table = ours(pbs.table(left, past), tag, left)
    for job in table:
        told_when = any(job[name] is not None for name in ("obit", "history", "modified"))
        if job["state"] == "F" and told_when and left.get(job["id"]) == job["key"]:
            journal.remember(job)
    return table + list(over.values())


def job_ids(entries: "List[Json]") -> "Dict[str, str]":
    """Id → key, of every entry that has a job."""
    return {entry["job_id"]: entry["key"] for entry in entries if isinstance(entry.get("job_id"), str)}


def users_in_doubt(entries: "List[Json]") -> "List[str]":
    """Who may have a job that the journal does not know the id of: of each intent without a result, its user."""
    intents = [entry for entry in entries if entry.get("state") not in ("done", "failed")]
    return [text_of(entry.get("user")) or user_name() for entry in intents]


# --- Lock -------------------------------------------------------------------------------------------------------------


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
        age = max(0.0, self.clock() - found["begun"])
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


# --- Acting -----------------------------------------------------------------------------------------------------------


class Work:
    """One batch, under the lock."""

    def __init__(self, request: "Json", disk: Disk, pbs: Pbs, lock: Lock, clock: "Callable[[], float]") -> None:
        self.request, self.disk, self.pbs, self.lock, self.clock = request, disk, pbs, lock, clock
        self.journal = Journal(disk)
        self.tag = workspace_tag(disk.root)
        self.known = None  # type: Optional[List[Json]]
        self.unreadable = ""
        self.machine = "{host}/{boot}".format(**identity())
        self.entries = []  # type: List[Json]
        self.flying = set()  # type: Set[str]
        self.blocked = ""

    def carry_out(self) -> "List[Json]":
        """Every action in order. The intents are looked at before the table is read: a qsub that had ended by then
        shows in the table, one that had not makes its attempt wait."""
        if any(action["job"] is not None for action in self.request["actions"]):
            try:
                self.entries = self.journal.entries(self.request["campaign"])
            except (Refused, OSError) as error:
                self.blocked = disk_trouble(error) if isinstance(error, OSError) else str(error)
            intents = [entry["key"] for entry in self.entries if entry.get("state") == "intent"]
            self.flying = {key for key in intents if self.in_flight(key)}
        return [self.one(action) for action in self.request["actions"]]

    def in_flight(self, key: str) -> bool:
        path = self.journal.path(key, ".flight")
        if not os.path.exists(path):
            return False
        try:
            descriptor = lock_file(path)
        except OSError:
            return False  # no flock here: the entry says that it was unguarded, and age decides
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def one(self, action: "Json") -> "Json":
        key = action["key"]
        try:
            found = KEY.fullmatch(key)
            if found is None or found.group("campaign") != self.request["campaign"]:
                raise Refused("not a key of this campaign: {!r}".format(key[:200]))
            if not self.lock.held_by(self.request["nonce"]):
                return outcome(key, "forbidden", "the lock was released by somebody else while the batch ran")
            return self.fresh_or_known(action)
        except Refused as refused:
            return outcome(key, "refused", str(refused))
        except OSError as error:
            # Nothing was submitted: every step that may fail like this comes before qsub, or is read as unknown below.
            return outcome(key, "deferred", disk_trouble(error))
        except Exception as error:  # a defect must not take the outcomes of the other actions with it
            return outcome(key, "unknown", "the agent failed: {}: {}".format(type(error).__name__, error))

    def fresh_or_known(self, action: "Json") -> "Json":
        key = action["key"]
        entry = self.journal.read(key)
        if entry is not None and entry.get("state") == "done":
            if os.path.exists(self.journal.path(key, ".flight")):
                self.clear_flight(key)  # killed right after the result was written
            if action["job"] is None:
                self.prepare(action)  # a file that was taken away since is written again; one that differs is refused
            return outcome(key, "repeated", "done before", entry.get("job_id"))
        if entry is not None and entry.get("state") == "failed":
            if not action["retry"]:
                return outcome(key, "refused", "refused before: {}".format(entry.get("message")))
            self.journal.set_aside(key)
            entry = None
        if action["job"] is not None:
            return self.job(action, entry)
        self.journal.write(self.intent(action))
        try:
            self.prepare(action)
        except (Refused, OSError):
            self.journal.forget(key)
            raise
        self.journal.write(dict(self.intent(action), state="done", ended=self.clock()))
        return outcome(key, "done")

    def intent(self, action: "Json") -> "Json":
        return {
            "version": ENTRY_VERSION,
            "key": action["key"],
            "state": "intent",
            "begun": self.clock(),
            "applied_by": self.request["holder"],
            "commit": self.request["commit"],
            "dirty": self.request["dirty"],
            "machine": self.machine,
            "user": user_name(),
        }

    def job(self, action: "Json", entry: "Optional[Json]") -> "Json":
        """Adopt what an earlier try submitted, or submit."""
        key = action["key"]
        if self.blocked:
            raise Refused(self.blocked)
        if key in self.flying:
            return outcome(key, "unknown", "an earlier qsub for this key is still running; look again")
        try:
            table = self.table()
        except Unreadable as unreadable:
            return outcome(
                key, "unknown", "the job table could not be read, so nothing was submitted: " + str(unreadable)
            )
        prefix = KEY.fullmatch(key).group("prefix") + "/"  # type: ignore[union-attr]
        for job in table:
            if job["unread"] and job["key"].startswith(prefix):
                why = "what became of job {} could not be read, so nothing was submitted: {}"
                return outcome(key, "unknown", why.format(job["id"], job["unread"]))
        same = [job for job in table if job["key"] == key]
        if same:
            chosen = max(same, key=lambda job: (job["state"] != "F", len(job["id"]), job["id"]))
            return self.adopt(action, entry, chosen["id"], "found in the job table")
        if entry is not None:
            job_id = self.answered(key) or self.left_in_log(action["job"])
            if job_id is not None:
                return self.adopt(action, entry, job_id, "qsub's answer or its log tells; PBS lists it no longer")
            away = self.out_of_sight(entry)
            if away:
                return outcome(key, "unknown", away)
        why = self.forbidden(prefix, table)
        return outcome(key, "forbidden", why) if why else self.submit(action)

    def forbidden(self, prefix: str, table: "List[Json]") -> str:
        """Why no job of an attempt may be submitted: one is alive, or may yet be queued; "" if none is."""
        for job in table:
            if job["key"].startswith(prefix) and job["state"] != "F":
                return "job {} of the same attempt is alive ({})".format(job["id"], job["key"])
        for other in self.unsettled(prefix, {job["key"] for job in table}):
            return "an earlier qsub of the same attempt may still be running ({})".format(other)
        return ""

    def unsettled(self, prefix: str, listed: "Set[str]") -> "List[str]":
        """Keys of an attempt whose qsub was begun, shows in no table and may yet queue a job."""
        return [
            entry["key"]
            for entry in self.entries
            if entry.get("state") == "intent" and entry["key"].startswith(prefix) and entry["key"] not in listed
            if entry["key"] in self.flying or self.out_of_sight(entry)
        ]

    def table(self) -> "List[Json]":
        """Our jobs; read once per batch, after the lock was taken."""
        if self.unreadable:
            raise Unreadable(self.unreadable)
        if self.known is None:
            try:
                past = users_in_doubt(self.entries)
                if self.journal_lost():
                    past.append(user_name())
                self.known = known_jobs(self.journal, self.pbs, self.entries, past, self.tag)
            except Unreadable as unreadable:
                self.unreadable = str(unreadable)
                raise
        return self.known

    def journal_lost(self) -> bool:
        """Whether a script lies there of which the journal has nothing: its job may have been submitted, and ended."""
        known = {entry["key"] for entry in self.entries}
        jobs = [action["job"] for action in self.request["actions"] if action["job"] and action["key"] not in known]
        return any(os.path.lexists(os.path.join(self.disk.root, job["script"])) for job in jobs)

    def answered(self, key: str) -> "Optional[str]":
        """The id that an earlier qsub printed, if it got that far before its agent was killed."""
        try:
            return job_id_in(read_whole(self.journal.path(key, ".out"), JSON_BYTES_MAX) or b"")
        except FileNotFoundError:
            return None

    def left_in_log(self, job: "Json") -> "Optional[str]":
        """The id of a job that has begun, by the first words of its log: on a server that keeps no history this is all
        that is left of one that ended before anybody looked."""
        try:
            descriptor = os.open(
                self.disk.place(job["log"]), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
            )
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            begun = JOB_BEGINS.search(file.read(PIECE_BYTES)) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        return job_id_in(begun.group(1)) if begun is not None else None

    def out_of_sight(self, entry: "Json") -> str:
        """Why an earlier qsub may still be running although nothing here shows it; "" if it cannot be."""
        if entry.get("guarded") is True and entry.get("machine") == self.machine:
            return ""
        begun = moment_of(entry.get("begun"))
        age = 0.0 if begun is None else self.clock() - begun
        if age > ORPHAN_S_MAX:
            return ""
        where = str(entry.get("machine") or "an unknown machine").partition("/")[0]
        return "a qsub for this key was begun {:.0f} s ago on {}; whether it still runs cannot be seen from {}".format(
            age, where, self.machine.partition("/")[0]
        )

    def adopt(self, action: "Json", entry: "Optional[Json]", job_id: str, how: str) -> "Json":
        entry = entry or self.intent(action)
        self.journal.write(
            dict(entry, version=ENTRY_VERSION, state="done", job_id=job_id, ended=self.clock(), message=how)
        )
        self.clear_flight(action["key"])
        return outcome(action["key"], "adopted", how, job_id)

    def prepare(self, action: "Json") -> None:
        """Folders, files, removals, in this order. The script comes last, so it is the last thing a full disk stops.

        A script of which no job came may differ from the one at hand (it names the commit): it is set aside.
        """
        for folder in action["directories"]:
            self.disk.make_folder(folder)
        for file in action["files"]:
            self.make_parent(file["path"])
            self.disk.put(file["path"], file["text"].encode("utf-8"), keep=bool(file.get("if_absent")))
        for path in action["remove"]:
            self.disk.remove(path)
        job = action["job"]
        if job is not None:
            self.make_parent(job["script"])
            self.make_parent(job["log"])
            self.disk.put(job["script"], job["text"].encode("utf-8"), aside=True)

    def make_parent(self, relative: str) -> None:
        self.disk.place(relative)
        parent = os.path.dirname(relative)
        if parent:
            self.disk.make_folder(parent)

    def submit(self, action: "Json") -> "Json":
        key = action["key"]
        make_folders(self.journal.folder)
        try:
            flight = lock_file(self.journal.path(key, ".flight"))
            if flight is None:
                return outcome(key, "unknown", "an earlier qsub for this key is still running; look again")
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            flight = None
        try:
            entry = dict(self.intent(action), guarded=flight is not None)
            self.journal.write(entry)
            try:
                self.prepare(action)
                result = self.qsub(action, entry, flight)
            except (Refused, OSError):
                self.clear_flight(key)
                self.journal.forget(key)
                raise
        finally:
            if flight is not None:
                os.close(flight)
        if result["kind"] == "unknown":  # the table of this batch was read before it
            self.flying.add(key)
            self.entries.append(entry)
        return result

    def qsub(self, action: "Json", entry: "Json", flight: "Optional[int]") -> "Json":
        """Raises OSError only if qsub was not started."""
        key, job = action["key"], action["job"]
        script = self.disk.place(job["script"])
        out, err = self.journal.path(key, ".out"), self.journal.path(key, ".err")
        variables = "CPT_KEY={},CPT_WORKSPACE={}".format(key, self.tag)
        argv = [variables if word == "{variables}" else script if word == "{script}" else word for word in job["qsub"]]
        timeout_s = self.request["qsub_timeout_s"]
        status = self.pbs.submit(argv, os.path.dirname(script), out, err, flight, timeout_s)
        try:
            return self.read_answer(action, entry, status)
        except (OSError, Refused) as error:
            told = disk_trouble(error) if isinstance(error, OSError) else str(error)
            return outcome(key, "unknown", "qsub was run, but its answer could not be kept: " + told)

    def read_answer(self, action: "Json", entry: "Json", status: "Optional[int]") -> "Json":
        key = action["key"]
        if status is None:
            waited = self.request["qsub_timeout_s"]
            return outcome(key, "unknown", "qsub has not answered within {:.0f} s; it is left to finish".format(waited))
        printed = read_whole(self.journal.path(key, ".out"), JSON_BYTES_MAX) or b""
        errors = (read_whole(self.journal.path(key, ".err"), JSON_BYTES_MAX) or b"").decode("utf-8", "replace").strip()
        job_id = job_id_in(printed)
        told = errors[:MESSAGE_CHARS_MAX]
        if status == 0 and job_id is not None:
            self.journal.write(dict(entry, state="done", job_id=job_id, ended=self.clock(), message=told))
            self.clear_flight(key)
            if self.known is not None:
                self.known.append({"id": job_id, "key": key, "state": "Q", "workspace": self.tag, "unread": ""})
            return outcome(key, "done", told, job_id)
        if status == 0 or job_id is not None:
            return outcome(key, "unknown", "qsub ended with status {} and printed {!r}".format(status, printed[-200:]))
        wait = status in self.request["refusals"]["wait"]
        if wait or any(text in errors for text in self.request["refusals"]["wait_texts"]):
            self.clear_flight(key)
            self.journal.forget(key)
            return outcome(key, "deferred", "PBS did not take the job now: " + (told or "status {}".format(status)))
        if status in self.request["refusals"]["permanent"]:
            self.journal.write(dict(entry, state="failed", ended=self.clock(), status=status, message=told))
            self.clear_flight(key)
            return outcome(key, "refused", "PBS refused the job: " + (told or "status {}".format(status)))
        return outcome(key, "unknown", "qsub ended with status {}: {}".format(status, told or "no message"))

    def clear_flight(self, key: str) -> None:
        for suffix in (".out", ".err", ".flight"):
            discard(self.journal.path(key, suffix))


def outcome(key: str, kind: str, message: str = "", job_id: "Optional[str]" = None) -> "Json":
    return {"key": key, "kind": kind, "job_id": job_id, "message": message[:MESSAGE_CHARS_MAX]}


def disk_trouble(error: OSError) -> str:
    what = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission is denied",
        errno.ENOENT: "there is no such file or program",
    }.get(error.errno or 0, error.strerror or str(error))
    return "{}: {}".format(error.filename or "the workspace", what)


def execute(request: "Json", clock: "Callable[[], float]") -> "Json":
    """Carry out a batch under the lock. Raises Held, Refused; OSError only before anything was done."""
    disk = Disk(request["workspace"])
    if disk.missing():
        make_folders(disk.root)
    lock = Lock(disk, clock)
    lock.own = request["nonce"]
    note = lock.acquire(request["nonce"], request["holder"])
    try:
        if request["applied"] is not None:
            disk.make_folder(request["campaign"])
            disk.put(request["campaign"] + "/applied.json", request["applied"].encode("utf-8"), replace=True)
        outcomes = Work(request, disk, Pbs(request["pbs_timeout_s"]), lock, clock).carry_out()
    finally:
        # What was done must be told; a lock that stays is proven stale by whoever comes next on this machine.
        with contextlib.suppress(OSError):
            lock.release(request["nonce"])
    return {"outcomes": outcomes, "note": note}


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


# --- Looking: training logs -------------------------------------------------------------------------------------------

POINTS_MAX = 20
SAVED_MAX = 64
ERRORS_MAX = 8
ERROR_CHARS_MAX = 300
LINE_BYTES_MAX = 65536
PIECE_BYTES = 1024 * 1024
LOGS_S_MAX = 60.0
"""How long one look reads logs for: about half of the time that a look may take."""
SIGNATURE_BYTES = 1024
TRACEBACK_LINES_MAX = 200
ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
ITERATION = re.compile(
    rb"iteration=\s*(\d{1,12})/\s*\d{1,12} \| consumed_samples=\s*\d+ \| consumed_tokens=\s*\d+ \| "
    rb"elapsed_time_per_iteration_ms=([0-9.einfa+]+) \| learning_rate=([0-9.einfa+-]+) \| global_batch_size=\s*\d+ \|"
    rb"(?: lm loss=([0-9.einfa+-]+) \|)?(?: [^|]*\|)*? number_of_skipped_iterations=\s*(\d{1,9}) \| "
    rb"number_of_nan_iterations=\s*\d+ \| samples_per_second=\S+ \| tokens_per_gpu_per_second_tgs=\S+ \| TFLOPs=\S+ \|"
)
LOADED = re.compile(rb"successfully loaded checkpoint from .* at iteration\s+(\d{1,12})")
SAVED = re.compile(rb"successfully saved checkpoint at iteration\s+(\d{1,12})")
LEAVING = re.compile(rb"\[((?:exiting program|Detected kill switch|after training is done)[^\]]{0,300})\]")
FINISHED = re.compile(rb"Execution finished with (-?\d{1,9})\.")
EVENTS = (b"successfully ", b"start from random", b"[exiting", b"[Detected", b"[after", b"Execution finished")
RANDOM = b"will not load any checkpoints and will start from random"
FAILURES = (
    b"OutOfMemoryError",
    b"UR_RESULT_ERROR_OUT_OF_RESOURCES",
    b"died from signal",
    b"exited with code",
    b"Connection closed by peer",
    b"Timed out waiting",
    b"No data left in file",
    b"AssertionError",
    b"no samples left to consume",
    b"Please provide the file list as",
    b"Dataset does not exist:",
    b"size mismatch for",
    b"Failed saving model checkpoint",
    b"=>> PBS: job killed",
    b"another job of this attempt is running",
)
TRACEBACK = b"Traceback ("
WORDS = (b"iteration=", TRACEBACK, *EVENTS, *FAILURES)
NO_FAILURE = re.compile(rb"rank \d+ died from signal (?:11|15)\b|exited with code 0\b")
RANK = re.compile(rb"^\[(?:default|rank)?\d+\]:\s?")
RAISED = re.compile(rb"[A-Za-z_][\w.]*(?::\s.*)?")


class Numbers:
    """What one training log says, as numbers of bounded size. Taking lines one by one or all at once is the same."""

    def __init__(self, windows: int, state: "Optional[Json]" = None) -> None:
        self.windows_max = windows
        self.state = state or {
            "first": [],
            "last": [],
            "width": 1,
            "windows": [],
            "saved": [],
            "loaded": None,
            "random": False,
            "exit": "",
            "rc": None,
            "errors": [],
            "ms": [],
            "traceback": 0,
        }

    def take(self, data: bytes) -> None:
        """Whole lines. Looked at are those that hold one of `WORDS`, and those of a traceback: searching for words in
        a megabyte at once is ten times as fast as going through its lines."""
        if b"\x1b" in data:
            lines = data.split(b"\n")
            data = b"\n".join([ANSI.sub(b"", line) for line in lines if len(line) <= LINE_BYTES_MAX])
        reached = self.rest_of_traceback(data, 0)
        for place in places(data, WORDS):
            if place >= reached:
                start = data.rfind(b"\n", 0, place) + 1
                reached = self.rest_of_traceback(data, self.line_at(data, start))

    def rest_of_traceback(self, data: bytes, start: int) -> int:
        """Take lines for as long as they belong to a traceback; returns where the rest begins."""
        while self.state["traceback"] and start < len(data):
            start = self.line_at(data, start)
        return start

    def line_at(self, data: bytes, start: int) -> int:
        """Take the line that begins at `start`; returns where the next one does."""
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        self.line(data[start:end])
        return end + 1

    def line(self, line: bytes) -> None:
        """One line, without its end. Ranks write over each other, so a message may stand anywhere in it."""
        if not line or len(line) > LINE_BYTES_MAX:
            return
        if b"iteration=" in line:
            for found in ITERATION.finditer(line):
                self.iteration(found)
        if any(word in line for word in EVENTS):
            self.event(line)
        if self.state["traceback"] or TRACEBACK in line:
            self.traceback(line)
        elif any(word in line for word in FAILURES) and NO_FAILURE.search(line) is None:
            self.error(line)

    def iteration(self, found: "Any") -> None:
        number, rate, skipped = int(found.group(1)), real(found.group(3)), int(found.group(5))
        milliseconds, loss = real(found.group(2)), real(found.group(4))
        if rate is None or rate in (INFINITY, -INFINITY):
            return
        state, point = self.state, [number, loss, rate]
        if len(state["first"]) < POINTS_MAX:
            state["first"].append(point)
        state["last"] = [*state["last"][1 - POINTS_MAX :], point]
        if milliseconds is not None and milliseconds < INFINITY:
            state["ms"] = [*state["ms"][1 - POINTS_MAX :], milliseconds]
        self.put_in_window(number, loss, rate, skipped)

    def put_in_window(self, number: int, loss: "Optional[float]", rate: float, skipped: int) -> None:
        """Windows are equally wide in iterations; when there are too many, each two neighbours become one."""
        state = self.state
        finite = loss is not None and abs(loss) < INFINITY
        fresh = {
            "at": (number - 1) // state["width"],
            "first": number,
            "last": number,
            "sum": loss if finite else 0.0,
            "finite": 1 if finite else 0,
            "low": loss,
            "high": loss,
            "rate": rate,
            "lines": 1,
            "missing": 1 if loss is None else 0,
            "skipped": skipped,
        }
        self.merge(state["windows"], fresh)
        while len(state["windows"]) > self.windows_max:
            state["width"] *= 2
            wider = []  # type: List[Json]
            for window in state["windows"]:
                self.merge(wider, dict(window, at=(window["first"] - 1) // state["width"]))
            state["windows"] = wider

    @staticmethod
    def merge(windows: "List[Json]", fresh: "Json") -> None:
        """Into the window of the same place, mostly the last; a log whose job was started again goes back."""
        place = len(windows)
        while place > 0 and windows[place - 1]["at"] > fresh["at"]:
            place -= 1
        if place == 0 or windows[place - 1]["at"] != fresh["at"]:
            windows.insert(place, fresh)
            return
        old = windows[place - 1]
        for name in ("sum", "finite", "lines", "missing", "skipped"):
            old[name] += fresh[name]
        lows = [value for value in (old["low"], fresh["low"]) if value is not None]
        highs = [value for value in (old["high"], fresh["high"]) if value is not None]
        old["low"], old["high"] = min(lows, default=None), max(highs, default=None)
        old["first"], old["last"] = min(old["first"], fresh["first"]), max(old["last"], fresh["last"])
        old["rate"] = fresh["rate"]

    def event(self, line: bytes) -> None:
        """A checkpoint loaded or saved, a reason to leave, an end."""
        for found in LOADED.finditer(line):
            self.state["loaded"] = int(found.group(1))
        for found in SAVED.finditer(line):
            self.state["saved"] = [*self.state["saved"][1 - SAVED_MAX :], int(found.group(1))]
        for found in LEAVING.finditer(line):
            self.state["exit"] = plain(found.group(1))
        for found in FINISHED.finditer(line):
            self.state["rc"] = int(found.group(1))
        if RANDOM in line:
            self.state["random"] = True

    def traceback(self, line: bytes) -> None:
        """Inside a traceback until its last line, which alone is kept: the first that is not indented."""
        if TRACEBACK in line:
            self.state["traceback"] = 1
            return
        self.state["traceback"] += 1
        text = RANK.sub(b"", line)
        if RAISED.fullmatch(text):
            self.state["traceback"] = 0
            self.error(text)
        elif self.state["traceback"] > TRACEBACK_LINES_MAX:
            self.state["traceback"] = 0

    def error(self, line: bytes) -> None:
        text = plain(RANK.sub(b"", line))[:ERROR_CHARS_MAX]
        if text not in self.state["errors"]:  # every rank says it
            self.state["errors"] = [*self.state["errors"][1 - ERRORS_MAX :], text]

    def answer(self, key: str) -> "Json":
        state = self.state
        middle = sorted(state["ms"])[len(state["ms"]) // 2] / 1000.0 if state["ms"] else None
        windows = [
            dict(
                {
                    name: window[name]
                    for name in ("first", "last", "low", "high", "rate", "lines", "missing", "skipped")
                },
                mean=mean_of(window),
            )
            for window in state["windows"]
        ]
        return {
            "key": key,
            "loaded": state["loaded"],
            "random": state["random"],
            "first": state["first"],
            "last": state["last"],
            "windows": windows,
            "saved": state["saved"],
            "exit": state["exit"],
            "rc": state["rc"],
            "errors": state["errors"],
            "seconds": middle,
        }


def mean_of(window: "Json") -> "Optional[float]":
    """None where the sum is no number: infinite up and down."""
    mean = window["sum"] / window["finite"] if window["finite"] else window["low"]
    return None if mean != mean else mean


def places(data: bytes, words: "Tuple[bytes, ...]") -> "List[int]":
    """Where any of the words stands, in order."""
    found = []
    for word in words:
        place = data.find(word)
        while place >= 0:
            found.append(place)
            place = data.find(word, place + len(word))
    return sorted(found)


INFINITY = float("inf")


def real(text: "Optional[bytes]") -> "Optional[float]":
    """A number as the launcher prints it; None for NaN, for garbage, and for a field that is not there."""
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return None if value is None or value != value else value


def plain(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()


class TrainLogFile:
    """A training job's log, read only past where the last look stopped.

    What was read so far lies beside the log as numbers. Deleting that file changes nothing; a log that shrank or was
    replaced is read from its start. Reading stops at `until` (of the monotonic clock), and the next look goes on: a log
    that has grown for weeks must not make every look run out of time.
    """

    def __init__(self, path: str, windows: int, until: float) -> None:
        self.path, self.cache, self.windows, self.until = path, path + ".numbers.json", windows, until
        self.bytes_read = 0

    def look(self, key: str) -> "Json":
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise Refused("{} is not an ordinary file".format(self.path))
            saved = self.remembered(file, about)
            numbers = Numbers(self.windows, saved["numbers"] if saved else None)
            offset, overlong = (saved["offset"], saved["overlong"]) if saved else (0, False)
            reached, overlong = self.read_lines(file, offset, overlong, about.st_size, numbers)
            if saved is None or reached != offset:
                self.remember(file, about, reached, overlong, numbers)
            if about.st_size - reached > LINE_BYTES_MAX:  # more than a last line without its end
                raise Refused(
                    "{} is read up to byte {} of {}; the next look goes on".format(self.path, reached, about.st_size)
                )
        return numbers.answer(key)

    def read_lines(
        self, file: "BinaryIO", offset: int, overlong: bool, end: int, numbers: Numbers
    ) -> "Tuple[int, bool]":
        """Take every whole line between `offset` and `end`. A last line without an end waits, unless it is longer
        than any line may be: then it is dropped as far as it got (`overlong`), and so is its rest."""
        file.seek(offset)
        rest = b""
        while offset + len(rest) < end:
            piece = file.read(min(PIECE_BYTES, end - offset - len(rest)))
            if not piece:
                break
            self.bytes_read += len(piece)
            whole, newline, tail = (rest + piece).replace(b"\r", b"\n").rpartition(b"\n")
            offset += len(rest) + len(piece) - len(tail)
            rest = tail
            if newline and overlong:
                whole, overlong = whole.partition(b"\n")[2], False
            numbers.take(whole)
            if len(rest) > LINE_BYTES_MAX:
                offset, rest, overlong = offset + len(rest), b"", True
            if time.monotonic() > self.until:
                break
        return offset, overlong

    def remembered(self, file: "BinaryIO", about: "os.stat_result") -> "Optional[Json]":
        try:
            data = read_whole(self.cache, JSON_BYTES_MAX)
            saved = json.loads((data or b"").decode("ascii"))
            if saved["version"] != CACHE_VERSION or saved["windows"] != self.windows or saved["inode"] != about.st_ino:
                return None
            offset = saved["offset"]
            if not 0 <= offset <= about.st_size or saved["signature"] != signature(file, offset):
                return None
            if type(saved["overlong"]) is not bool or not usable(saved["numbers"]):
                return None
        except (OSError, Refused, ValueError, KeyError, TypeError, RecursionError):
            return None
        return dict(saved)

    def remember(
        self, file: "BinaryIO", about: "os.stat_result", offset: int, overlong: bool, numbers: Numbers
    ) -> None:
        saved = {
            "version": CACHE_VERSION,
            "windows": self.windows,
            "inode": about.st_ino,
            "offset": offset,
            "overlong": overlong,
            "signature": signature(file, offset),
            "numbers": numbers.state,
        }
        temporary = "{}.{}".format(self.cache, os.getpid())
        try:
            with os.fdopen(fresh_file(temporary), "wb") as target:
                target.write(json.dumps(saved).encode("ascii"))
            os.rename(temporary, self.cache)
        except OSError:
            pass  # a full or read-only disk only costs reading the log again


CACHE_VERSION = 1
WINDOWS_MAX = 4096
"""Of one log; more are not read on the other side."""


def signature(file: "BinaryIO", offset: int) -> str:
    """Digest of what surrounds the part that was read: a log that was overwritten by a longer one shows."""
    head = os.pread(file.fileno(), min(SIGNATURE_BYTES, offset), 0)
    start = max(0, offset - SIGNATURE_BYTES)
    return hashlib.sha256(head + os.pread(file.fileno(), offset - start, start)).hexdigest()


def usable(state: "Any") -> bool:
    """Whether numbers read back have the shape that `Numbers` works on; anything else is read anew."""
    shapes = Numbers(1).state
    if not isinstance(state, dict) or set(state) != set(shapes):
        return False
    lists = all(isinstance(state[name], list) for name, value in shapes.items() if isinstance(value, list))
    counts = all(type(state[name]) is int and state[name] >= 0 for name in ("width", "traceback"))
    return (
        lists
        and counts
        and state["width"] > 0
        and isinstance(state["exit"], str)
        and len(state["exit"]) <= MESSAGE_CHARS_MAX
        and type(state["random"]) is bool
        and all(state[name] is None or number_of(state[name]) is not None for name in ("loaded", "rc"))
        and all(map(usable_window, state["windows"]))
        and all(map(usable_point, state["first"] + state["last"]))
        and all(real_number(value) for value in state["ms"])
        and all(number_of(value) is not None and value >= 0 for value in state["saved"])
        and all(isinstance(value, str) and len(value) <= ERROR_CHARS_MAX for value in state["errors"])
        and len(state["windows"]) <= WINDOWS_MAX
        and max(len(state["first"]), len(state["last"])) <= POINTS_MAX
        and len(state["saved"]) <= SAVED_MAX
        and len(state["errors"]) <= ERRORS_MAX
    )


def usable_window(window: "Any") -> bool:
    counts = ("first", "last", "finite", "lines", "missing", "skipped")
    return (
        isinstance(window, dict)
        and set(window) == {*counts, "at", "sum", "low", "high", "rate"}
        and number_of(window["at"]) is not None
        and all(number_of(window[name]) is not None and window[name] >= 0 for name in counts)
        and all(real_number(window[name]) for name in ("sum", "rate"))
        and all(window[name] is None or real_number(window[name]) for name in ("low", "high"))
    )


def usable_point(point: "Any") -> bool:
    """Iteration, loss, learning rate."""
    return (
        isinstance(point, list)
        and len(point) == 3
        and number_of(point[0]) is not None
        and point[0] >= 0
        and (point[1] is None or real_number(point[1]))
        and real_number(point[2])
    )


def real_number(value: object) -> bool:
    """Whether it is a number as `real` gives; a whole one within what JSON's readers agree on."""
    return (type(value) is float and value == value) or number_of(value) is not None


# --- Looking: attempts ------------------------------------------------------------------------------------------------

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
ATTEMPT = re.compile(r"[0-9a-f]{12}")
LEG = re.compile(r"leg-(\d{1,4})(-source)?")
STEP = re.compile(r"global_step(\d{1,12})")
TRAIN_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-train\.log")
JOB_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-([a-z]+)(?:-([A-Za-z0-9.-]{1,100}))?\.log")
RESULT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.(log|json)")
EVALUATION = re.compile(r"leg-(\d{1,4})-(\d{1,12})")
EVALUATION_BYTES_MAX = 1024 * 1024
VALIDATION = re.compile(rb"validation loss at [^|]{0,200}\| lm loss value=\s*([0-9.einfa+-]+?)\s*\|?\s*lm loss PPL=")
MODEL_FILE = re.compile(r"mp_rank_(\d{1,5})_model_states\.pt")
SHARD_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d{1,6})_mp_rank_(\d{1,5})_optim_states\.pt")
SMALLER_THAN_PEERS = 0.5
RECEIPT_BYTES_MAX = 64 * 1024 * 1024
FOLDER_ENTRIES_MAX = 100000


class Attempts:
    """Everything under one campaign's folder."""

    def __init__(self, disk: Disk, campaign: str, windows: int) -> None:
        self.disk, self.campaign, self.windows = disk, campaign, windows
        self.until = time.monotonic() + LOGS_S_MAX
        self.bytes_read = 0

    def look(self) -> "List[Json]":
        """Every attempt. One that cannot be read says so and does not hide the others."""
        found = []
        top = os.path.join(self.disk.root, self.campaign)
        for stage in self.folders(top, NAME):
            for attempt in self.folders(os.path.join(top, stage), ATTEMPT):
                seen = {"stage": stage, "attempt": attempt}  # type: Json
                try:
                    seen.update(self.attempt(stage, attempt), unread="")
                except (OSError, Refused) as error:
                    why = disk_trouble(error) if isinstance(error, OSError) else str(error)
                    seen.update(NOTHING, unread=why[:MESSAGE_CHARS_MAX])
                found.append(seen)
        return found

    def names(self, folder: str) -> "List[str]":
        """What a folder of the workspace holds; nothing if it is not there. Refused if it leads out."""
        if os.path.islink(folder):
            self.disk.check_inside(folder)
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        if len(names) > FOLDER_ENTRIES_MAX:
            raise Refused("{} holds more than {} entries".format(folder, FOLDER_ENTRIES_MAX))
        return sorted(names)

    def folders(self, folder: str, pattern: "Any") -> "List[str]":
        return [
            name for name in self.names(folder) if pattern.fullmatch(name) and os.path.isdir(os.path.join(folder, name))
        ]

    def attempt(self, stage: str, attempt: str) -> "Json":
        folder = os.path.join(self.disk.root, self.campaign, stage, attempt)
        self.disk.check_inside(folder)
        recipe = read_text(os.path.join(folder, "recipe.json"), RECIPE_BYTES_MAX)
        key = "{}/{}/{}".format(self.campaign, stage, attempt)
        return {
            "recipe": recipe,
            "legs": self.legs(folder, key, data_parallel_of(recipe)),
            "evaluations": self.evaluations(os.path.join(folder, "evaluations")),
            "verdicts": self.verdicts(os.path.join(folder, "verdicts")),
            "stop": os.path.lexists(os.path.join(folder, "stop")),
            "ran": self.ran(os.path.join(folder, "jobs"), key),
        }

    def legs(self, folder: str, key: str, data_parallel: int) -> "List[Json]":
        legs = {}  # type: Dict[int, Json]
        for name in self.folders(folder, LEG):
            found = LEG.fullmatch(name)
            path = os.path.join(folder, name)
            self.disk.check_inside(path)
            leg = legs.setdefault(int(found.group(1)), dict(NO_LEG))  # type: ignore[union-attr]
            if found.group(2):  # type: ignore[union-attr]
                leg["converted"] = self.converted(path)
            else:
                leg.update(self.saves(path, data_parallel))
        for number, ended, name in self.train_logs(os.path.join(folder, "jobs")):
            log = TrainLogFile(os.path.join(folder, "jobs", name), self.windows, self.until)
            leg = legs.setdefault(number, dict(NO_LEG))
            leg["logs"] = leg["logs"] + [log.look("{}/l{}/n{}/train".format(key, number, ended))]
            self.bytes_read += log.bytes_read
        return [dict(legs[number], index=number) for number in sorted(legs)]

    def ran(self, folder: str, key: str) -> "List[str]":
        """Keys of the jobs that left a log, of whatever kind: they were started."""
        found = filter(None, map(JOB_LOG.fullmatch, self.names(folder)))
        parts = [(log.group(1), log.group(2), "/".join(filter(None, log.group(3, 4)))) for log in found]
        return ["{}/l{}/n{}/{}".format(key, int(leg), int(ended), rest) for leg, ended, rest in parts]

    def train_logs(self, folder: str) -> "List[Tuple[int, int, str]]":
        found = [(TRAIN_LOG.fullmatch(name), name) for name in self.names(folder)]
        return sorted((int(match.group(1)), int(match.group(2)), name) for match, name in found if match)

    def saves(self, folder: str, data_parallel: int) -> "Json":
        """Checkpoints of one leg's folder and what its two pointers say."""
        latest = STEP.fullmatch((small_text(os.path.join(folder, "latest")) or "").strip())
        tracked = (small_text(os.path.join(folder, "latest_checkpointed_iteration.txt")) or "").strip()
        tracker = int(tracked) if re.fullmatch(r"\d{1,12}", tracked) else None
        steps = sorted(int(STEP.fullmatch(name).group(1)) for name in self.folders(folder, STEP))  # type: ignore[union-attr]
        checkpoints = []
        proven = False
        for step in reversed(steps):
            path = os.path.join(folder, "global_step{}".format(step))
            self.disk.check_inside(path)
            files = file_sizes(path)
            why = files_wanting(files, data_parallel) or pointer_wanting(step, tracker, newest=steps[-1])
            if not why and not proven:
                # Only the newest is ever loaded, so only there is it worth opening every file.
                why = cut_short(path, files)
                proven = not why
            checkpoints.append(
                {"iteration": step, "why": why, "data_parallel": count_ranks(files), "size": sum(files.values())}
            )
        checkpoints.reverse()
        return {"checkpoints": checkpoints, "latest": int(latest.group(1)) if latest else None, "tracker": tracker}

    def converted(self, folder: str) -> "Optional[int]":
        """The iteration of a verified universal copy: what `latest_universal` names, with the receipt that the
        converter writes when it has compared every tensor, and every file as long as the receipt says."""
        name = (small_text(os.path.join(folder, "latest_universal")) or "").strip()
        found = re.fullmatch(r"global_step(\d{1,12})_universal", name)
        if found is None:
            return None
        path = os.path.join(folder, name)
        self.disk.check_inside(path)
        try:
            receipt = json.loads(read_text(os.path.join(path, "receipt.json"), RECEIPT_BYTES_MAX) or "null")
            files = {str(file): entry["bytes"] for file, entry in receipt["files"].items()}
            whole = receipt["iteration"] == int(found.group(1)) and bool(files)
            for file, size in files.items():
                if ".." in file.split("/") or os.stat(os.path.join(path, file)).st_size != size:
                    return None
        except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, RecursionError):
            return None
        return int(found.group(1)) if whole else None

    def evaluations(self, folder: str) -> "List[Json]":
        found = []
        for name in self.folders(folder, EVALUATION):
            path = os.path.join(folder, name)
            self.disk.check_inside(path)
            losses = {}
            for log in self.names(path):
                chosen = RESULT.fullmatch(log)
                loss = validation_loss(os.path.join(path, log)) if chosen and chosen.group(2) == "log" else None
                if loss is not None:
                    losses[log[: -len(".log")]] = loss
            leg, iteration = EVALUATION.fullmatch(name).groups()  # type: ignore[union-attr]
            found.append({"leg": int(leg), "iteration": int(iteration), "losses": losses})
        return found

    def verdicts(self, folder: str) -> "Dict[str, str]":
        texts = {}
        for name in self.names(folder):
            chosen = RESULT.fullmatch(name)
            if chosen and chosen.group(2) == "json":
                text = read_text(os.path.join(folder, name), JSON_BYTES_MAX)
                if text is not None:
                    texts[name[: -len(".json")]] = text
        return texts


NO_LEG = {"checkpoints": [], "latest": None, "tracker": None, "logs": [], "converted": None}  # type: Json
NOTHING = {"recipe": None, "legs": [], "evaluations": [], "verdicts": {}, "stop": False, "ran": []}  # type: Json


def small_text(path: str) -> "Optional[str]":
    try:
        return (read_whole(path, 4096) or b"").decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def data_parallel_of(recipe: "Optional[str]") -> int:
    """How many data-parallel ranks the recipe trains on; 0 if it does not say."""
    try:
        value = json.loads(recipe or "null")["data_parallel"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return value if type(value) is int and 0 < value < 1000000 else 0


def file_sizes(folder: str) -> "Dict[str, int]":
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".pt"):
                try:
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
            if len(sizes) > FOLDER_ENTRIES_MAX:
                raise Refused("{} holds more than {} files".format(folder, FOLDER_ENTRIES_MAX))
    return sizes


def count_ranks(files: "Dict[str, int]") -> int:
    return len({found.group(1) for found in map(SHARD_FILE.fullmatch, files) if found})


def files_wanting(files: "Dict[str, int]", data_parallel: int) -> str:
    """What the files of a `global_step` folder lack; "" if nothing. Ranks are those of the optimizer's shards."""
    models = {int(found.group(1)): files[found.group(0)] for found in map(MODEL_FILE.fullmatch, files) if found}
    shards = {
        (int(found.group(1)), int(found.group(2))): files[found.group(0)]
        for found in map(SHARD_FILE.fullmatch, files)
        if found
    }
    if data_parallel <= 0:
        return "recipe.json does not say on how many data-parallel ranks it was trained"
    if not models:
        return "no model file"
    parts = 1 + max(max(models), max((part for _, part in shards), default=0))
    if len(models) != parts:
        return "{} of {} model files".format(len(models), parts)
    wanted = data_parallel * parts
    if len(shards) != wanted or max(rank for rank, _ in shards) != data_parallel - 1:
        return "{} optimizer shards, {} are needed".format(len(shards), wanted)
    for sizes in (models, shards):
        largest = max(sizes.values())
        smallest = min(sizes.values())
        if smallest == 0:
            return "an empty file"
        if smallest < SMALLER_THAN_PEERS * largest:
            return "a file of {} bytes among others of {}".format(smallest, largest)
    return ""


def pointer_wanting(step: int, tracker: "Optional[int]", newest: int) -> str:
    """The tracker is written when every rank has written its shards; `latest` is written before that."""
    if tracker is None:
        # It is cut to nothing and written again at each save: an older folder was finished before that.
        return "the tracker file is missing or empty" if step == newest else ""
    return "" if tracker >= step else "the tracker file says {}".format(tracker)


def cut_short(folder: str, files: "Dict[str, int]") -> str:
    """Name a file that begins as torch writes them (a zip archive) and does not end so."""
    for name in sorted(files):
        descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(descriptor).st_size
            zipped = os.pread(descriptor, 4, 0) == b"PK\x03\x04"
            if zipped and (size < 22 or os.pread(descriptor, 4, size - 22) != b"PK\x05\x06"):
                return "{} is cut short at {} bytes".format(name, size)
        finally:
            os.close(descriptor)
    return ""


def validation_loss(path: str) -> "Optional[float]":
    """The loss on the validation set that an evaluation's log ends with; None if it has none, or no number."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Refused("{} is not an ordinary file".format(path))
        file.seek(max(0, about.st_size - EVALUATION_BYTES_MAX))
        lines = ANSI.sub(b"", file.read(EVALUATION_BYTES_MAX)).splitlines()
    for line in reversed(lines):
        found = VALIDATION.search(line) if b"test set" not in line else None
        if found is not None:
            return real(found.group(1))
    return None


# --- Looking: the rest ------------------------------------------------------------------------------------------------


def observe(request: "Json", clock: "Callable[[], float]") -> "Json":
    """One look. Every part is {"read": …} or {"unread": why}.

    The order matters: the journal before the job table, since a job that is submitted in between would be in the one
    and not the other, which is how an ended job looks; the table before the files, since what a job that has ended
    wrote is then there.
    """
    disk = Disk(request["workspace"])
    journal, campaign = Journal(disk), request["campaign"]
    entries = []  # type: List[Json]
    receipts = part(lambda: entries.extend([] if disk.missing() else journal.entries(campaign)))
    if "read" in receipts:
        receipts = {"read": [receipt_of(entry) for entry in entries]}
    pbs, tag = Pbs(request["pbs_timeout_s"]), workspace_tag(disk.root)
    jobs = part(lambda: known_jobs(journal, pbs, entries, users_in_doubt(entries), tag))
    attempts = Attempts(disk, campaign, request["windows"])
    applied = os.path.join(disk.root, campaign, "applied.json")
    seen = {
        "receipts": receipts,
        "jobs": jobs,
        "attempts": part(lambda: [] if disk.missing() else attempts.look()),
        "applied": part(lambda: read_text(applied, RECIPE_BYTES_MAX)),
        "lock": part(lambda: lock_seen(Lock(disk, clock))),
        "lists": lists(request["lists"]),
        "now": clock(),
        "host": os.uname().nodename,
    }
    seen["bytes_read"] = attempts.bytes_read
    return seen


def receipt_of(entry: "Json") -> "Json":
    """A journal entry in the shape of the answer, whatever wrote it."""
    begun, state = moment_of(entry.get("begun")), entry.get("state")
    return {
        "key": entry["key"],
        "begun": 0.0 if begun is None else begun,
        "done": state in ("done", "failed"),
        "job_id": text_of(entry.get("job_id")) or None,
        "failed": (text_of(entry.get("message")) or "no message") if state == "failed" else None,
        "applied_by": text_of(entry.get("applied_by")),
        "commit": text_of(entry.get("commit")),
        "dirty": entry.get("dirty") is True,
    }


def part(read: "Callable[[], Any]") -> "Json":
    try:
        return {"read": read()}
    except (Refused, Unreadable) as error:
        return {"unread": str(error)[:MESSAGE_CHARS_MAX]}
    except OSError as error:
        return {"unread": disk_trouble(error)}


def lock_seen(lock: Lock) -> "Optional[Json]":
    found = lock.read()
    return None if found is None else lock.describe(found)


def lists(paths: "List[str]") -> "Json":
    """Data lists by absolute path, wherever they lie: {"text", "sha256"}, {"absent": true} or {"unread": why}."""
    found = {}  # type: Json
    left = LISTS_BYTES_MAX
    for path in paths:
        try:
            if not path.startswith("/"):
                raise Refused("not an absolute path: {!r}".format(path[:200]))
            data = read_whole(path, min(LIST_BYTES_MAX, left), follow=True)
            if data is None:
                raise Refused("{} is longer than {} bytes".format(path, min(LIST_BYTES_MAX, left)))
            left -= len(data)
            found[path] = {"text": data.decode("utf-8"), "sha256": hashlib.sha256(data).hexdigest()}
        except (FileNotFoundError, NotADirectoryError):
            found[path] = {"absent": True}
        except UnicodeDecodeError:
            found[path] = {"unread": "{} is not UTF-8".format(path)}
        except Refused as refused:
            found[path] = {"unread": str(refused)}
        except (OSError, ValueError) as error:
            found[path] = {"unread": disk_trouble(error) if isinstance(error, OSError) else str(error)}
    return found


# --- Speaking ---------------------------------------------------------------------------------------------------------


def read_request(stream: "BinaryIO") -> "Tuple[str, Json]":
    """Nonce and request; Refused unless all of it arrived: half a batch is not carried out."""
    head = re.fullmatch(rb"cpt-request ([0-9a-f]{1,64}) (\d{1,9}) ([0-9a-f]{64})\n", stream.readline(256))
    if head is None:
        raise SystemExit(71)
    size = int(head.group(2))
    body = stream.read(size) if size <= REQUEST_BYTES_MAX else b""
    if len(body) != size or hashlib.sha256(body).hexdigest().encode("ascii") != head.group(3):
        raise SystemExit(71)
    return head.group(1).decode("ascii"), json.loads(body.decode("ascii"))


def handle(request: "Json", clock: "Callable[[], float]") -> "Json":
    """The answer to one request; every failure is an answer too."""
    operations = {"observe": observe, "execute": execute, "unlock": unlock}
    try:
        return {"answer": operations[request["operation"]](request, clock)}
    except Held as held:
        return {"locked": held.lock}
    except Refused as refused:
        return {"failed": str(refused)}
    except OSError as error:
        return {"failed": disk_trouble(error)}


def framed(payload: bytes, nonce: str) -> bytes:
    head = "\n=cpt-answer= {} {} {}\n".format(nonce, len(payload), hashlib.sha256(payload).hexdigest())
    return head.encode("ascii") + payload + "\n=cpt-end= {}\n".format(nonce).encode("ascii")


def main() -> None:
    nonce, request = read_request(sys.stdin.buffer)
    answer = json.dumps(handle(dict(request, nonce=nonce), time.time), ensure_ascii=False)
    payload = answer.encode("utf-8", "replace")  # names of files need not be UTF-8
    if len(payload) > ANSWER_BYTES_MAX:
        payload = json.dumps({"failed": "the answer has more than {} bytes".format(ANSWER_BYTES_MAX)}).encode("ascii")
    sys.stdout.buffer.write(framed(payload, nonce))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
