"""Acting: one batch of actions, carried out under the lock, each at most once."""

import contextlib
import errno
import os
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Set

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        MESSAGE_CHARS_MAX,
        NO_FLOCK,
        Disk,
        Refused,
        discard,
        disk_trouble,
        is_there,
        lock_file,
        make_folders,
        read_whole,
    )
    from reconciler.cluster.agent_flights import Flights, left_in_log
    from reconciler.cluster.agent_journal import (
        ENTRY_VERSION,
        JOURNAL,
        KEY,
        Journal,
        attempt_of,
        job_ids,
        known_jobs,
        submits,
        users_in_doubt,
    )
    from reconciler.cluster.agent_lock import Lock, overtaken
    from reconciler.cluster.agent_pbs import Pbs, Unreadable, job_id_in, user_name, workspace_tag
    from reconciler.cluster.agent_upkeep import Upkeep

STOOD_STILL_S = 120.0
"""Between an intent and its qsub. Others take a qsub that they cannot see for over when its intent is 900 s old."""


class Work:
    """One batch, under the lock."""

    def __init__(self, request: "Json", disk: Disk, pbs: Pbs, lock: Lock, clock: "Callable[[], float]") -> None:
        self.request, self.disk, self.pbs, self.lock, self.clock = request, disk, pbs, lock, clock
        self.journal = Journal(disk)
        self.tag = workspace_tag(disk.root)
        self.known = None  # type: Optional[List[Json]]
        self.unreadable = ""
        self.flights = Flights(self.journal, clock)
        self.entries = []  # type: List[Json]
        self.blocked = ""

    def carry_out(self) -> "List[Json]":
        """Every action in order. The intents are looked at before the table is read: a qsub that had ended by then
        shows in the table, one that had not makes its attempt wait."""
        if any(action["job"] is not None or action["upkeep"] is not None for action in self.request["actions"]):
            try:
                self.entries = self.journal.entries(self.request["campaign"])
            except (Refused, OSError) as error:
                self.blocked = disk_trouble(error) if isinstance(error, OSError) else str(error)
            self.flights.look(self.entries)
        return [self.one(action) for action in self.request["actions"]]

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
        if entry is not None and entry.get("state") == "done" and action["upkeep"] is None:
            if is_there(self.journal.path(key, ".flight")):
                self.clear_flight(key)  # killed right after the result was written
            if action["job"] is None:
                self.prepare(action)  # a file that was taken away since is written again; one that differs is refused
            return outcome(key, "repeated", "done before", entry.get("job_id"))
        refused = entry is not None and entry.get("state") == "failed"
        if entry is not None and refused:
            if not action["retry"]:
                return outcome(key, "refused", "refused before: {}".format(entry.get("message")))
            self.journal.set_aside(key)
            entry = None
        if action["job"] is not None:
            return self.job(action, entry, refused)
        if action["upkeep"] is not None:
            return self.upkeep(action)
        self.journal.write(self.intent(action))
        try:
            self.prepare(action)
        except (Refused, OSError):
            self.journal.forget(key)
            raise
        self.journal.write(dict(self.intent(action), state="done", ended=self.clock()))
        return outcome(key, "done")

    def upkeep(self, action: "Json") -> "Json":
        """What is done to folders. That it was done before is no reason to leave it: a folder that is there again is
        told by what it is, and one that is not is done with."""
        why = self.disturbs(action["key"]) if action["upkeep"]["do"] != "delete" else ""
        if why:
            return outcome(action["key"], "forbidden", why)
        upkeep = Upkeep(self.disk, action["key"], action["upkeep"], self.flights.locked_at)
        kind, told = upkeep.carry_out(self.journal, self.intent(action), self.clock)
        return outcome(action["key"], kind, told)

    def disturbs(self, key: str) -> str:
        """Why an attempt's folders must be left alone now: a job of it is alive, or may be; "" if none is."""
        prefix = KEY.fullmatch(key).group("prefix") + "/"  # type: ignore[union-attr]
        if self.blocked:
            return self.blocked
        flying = [other for other in sorted(self.flights.flying) if other.startswith(prefix)]
        if flying:
            return "an earlier qsub of the attempt is still running ({})".format(flying[0])
        try:
            table = self.table()
        except Unreadable as unreadable:
            return "the job table could not be read, so nothing was touched: " + str(unreadable)
        return self.forbidden(prefix, table)

    def intent(self, action: "Json") -> "Json":
        return {
            "version": ENTRY_VERSION,
            "key": action["key"],
            "state": "intent",
            "begun": self.clock(),
            "applied_by": self.request["holder"],
            "commit": self.request["commit"],
            "dirty": self.request["dirty"],
            "machine": self.flights.machine,
            "user": user_name(),
        }

    def job(self, action: "Json", entry: "Optional[Json]", refused: bool) -> "Json":
        """Adopt what an earlier try submitted, or submit; one that PBS has refused has queued nothing."""
        key = action["key"]
        if self.blocked:
            raise Refused(self.blocked)
        if key in self.flights.flying:
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
        job_id = self.answered(key) or left_in_log(self.disk.place(action["job"]["log"]))
        if job_id is not None:  # also where its entry was taken away
            return self.adopt(action, entry, job_id, "qsub's answer or its log tells; PBS lists it no longer")
        script = self.disk.place(action["job"]["script"])
        away = "" if refused else self.flights.out_of_sight(entry) if entry else self.flights.hidden(script)
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
            return "an earlier qsub of the same attempt may yet queue a job, or has queued one unseen ({})".format(
                other
            )
        return ""

    def unsettled(self, prefix: str, listed: "Set[str]") -> "List[str]":
        """Keys of an attempt whose qsub was begun, shows in no table and may yet queue a job, or has."""
        return [
            entry["key"]
            for entry in self.entries
            if entry.get("state") == "intent" and entry["key"].startswith(prefix) and entry["key"] not in listed
            if submits(entry["key"])
            if entry["key"] in self.flights.flying or self.flights.out_of_sight(entry)
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
        """Whether a job may have been submitted, and have ended, of which the journal has nothing: its script lies
        there, or the folder of an attempt that has no entry with a job."""
        known = {entry["key"] for entry in self.entries}
        tried = {attempt_of(key) for key in job_ids(self.entries).values()}
        jobs = {action["key"]: action["job"] for action in self.request["actions"] if action["job"]}
        traces = [job["script"] for key, job in jobs.items() if key not in known]
        traces += {attempt_of(key) for key in jobs} - tried
        return any(is_there(os.path.join(self.disk.root, trace)) for trace in traces)

    def answered(self, key: str) -> "Optional[str]":
        """The id that an earlier qsub printed, if it got that far before its agent was killed."""
        try:
            return job_id_in(read_whole(self.journal.path(key, ".out"), JSON_BYTES_MAX) or b"")
        except (FileNotFoundError, Refused):
            return None  # nothing, or something that no qsub of ours has written
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def adopt(self, action: "Json", entry: "Optional[Json]", job_id: str, how: str) -> "Json":
        entry = entry or self.intent(action)
        self.journal.write(
            dict(entry, version=ENTRY_VERSION, state="done", job_id=job_id, ended=self.clock(), message=how)
        )
        self.clear_flight(action["key"])
        return outcome(action["key"], "adopted", how, job_id)

    def prepare(self, action: "Json") -> None:
        """Folders, files, what is removed or set aside, in this order. The script comes last, so it is the last thing
        that a full disk stops.

        A script of which no job came may differ from the one at hand (it names the commit): it is set aside.
        """
        for folder in action["directories"]:
            self.disk.make_folder(folder)
        for file in action["files"]:
            self.make_parent(file["path"])
            self.disk.put(file["path"], file["text"].encode("utf-8"), keep=bool(file.get("if_absent")))
        for path in action["remove"]:
            self.disk.remove(path)
        for path in action["aside"]:
            self.disk.set_aside(path)
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
        self.disk.make_safe(JOURNAL)
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
                begun = time.monotonic()
                self.prepare(action)
                if time.monotonic() - begun > STOOD_STILL_S:
                    return self.too_late(action, time.monotonic() - begun)
                result = self.qsub(action, entry, flight)
            except (Refused, OSError):
                self.withdraw(action)
                raise
        finally:
            if flight is not None:
                os.close(flight)
        if result["kind"] == "unknown":  # the table of this batch was read before it
            self.flights.flying.add(key)
            self.entries.append(entry)
        return result

    def too_late(self, action: "Json", age_s: float) -> "Json":
        """A process that stood still for minutes starts no qsub: to others, the intent that it wrote is that old."""
        if self.lock.held_by(self.request["nonce"]):  # else the entry may be somebody else's by now
            self.withdraw(action)
        why = "it took {:.0f} s to write the job's files; nothing was submitted".format(age_s)
        return outcome(action["key"], "deferred", why)

    def withdraw(self, action: "Json") -> None:
        """Nothing was submitted, for certain. The script goes too: without an entry it is a sign of a job."""
        self.clear_flight(action["key"])
        with contextlib.suppress(OSError, Refused):
            os.unlink(self.disk.place(action["job"]["script"]))
        self.journal.forget(action["key"])

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
            result = self.read_answer(action, entry, status)
            if result["kind"] == "unknown" and status is not None:
                self.flights.note_over(entry)
            return result
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
            self.withdraw(action)
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


def execute(request: "Json", clock: "Callable[[], float]") -> "Json":
    """Carry out a batch under the lock. Raises Held, Refused; OSError only before anything was done."""
    disk = Disk(request["workspace"])
    if disk.missing():
        make_folders(disk.root)
    lock = Lock(disk, clock)
    lock.own = request["nonce"]
    note = lock.acquire(request["nonce"], request["holder"])
    try:
        if overtaken(disk, request):
            return {"overtaken": True, "note": note}
        if request["applied"] is not None:
            disk.make_folder(request["campaign"])
            disk.put(request["campaign"] + "/applied.json", request["applied"].encode("utf-8"), replace=True)
        outcomes = Work(request, disk, Pbs(request["pbs_timeout_s"]), lock, clock).carry_out()
    finally:
        # What was done must be told; a lock that stays is proven stale by whoever comes next on this machine.
        with contextlib.suppress(OSError):
            lock.release(request["nonce"])
    return {"outcomes": outcomes, "note": note}
