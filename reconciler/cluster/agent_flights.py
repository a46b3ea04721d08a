"""What may yet come of a qsub that left no answer: it still runs, or it has queued a job that PBS does not list yet.

As long as either may be, nothing is submitted for its attempt. Of a qsub of this boot of this machine its lock tells
whether it runs; of any other only its age does.
"""

import contextlib
import os
import re
import stat
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Set

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import Refused, lock_file
    from reconciler.cluster.agent_journal import Journal
    from reconciler.cluster.agent_lock import LOCK, identity
    from reconciler.cluster.agent_pbs import job_id_in
    from reconciler.cluster.agent_qstat import moment_of

ORPHAN_S_MAX = 900.0
"""How long a qsub is given that was begun where this process cannot see whether it still runs (another login node)."""
ROUTING_GRACE_S = 300.0
"""How long PBS may not list a job that it has taken: on its way through a routing queue (so has it `planner/ended`)."""


JOB_BEGINS = re.compile(rb"(?m)^reconcile: \S{1,40} job (\S{1,200}) begins on ")
"""What every job says first (`templates/header.pbs`)."""
LOG_HEAD_BYTES = 1024 * 1024


class Flights:
    """The qsubs of one workspace that were begun and have no result."""

    def __init__(self, journal: Journal, clock: "Callable[[], float]") -> None:
        self.journal, self.clock = journal, clock
        self.machine = "{host}/{boot}".format(**identity())
        self.flying: "Set[str]" = set()
        self.unseen: "Set[str]" = set()
        """Keys whose lock could not be tried."""
        self.now = self.uptime = 0.0
        self.locked_at = 0.0
        """When the lock of this batch was written: the file system's own now."""

    def look(self, entries: "List[Json]") -> None:
        """Before the table is read; so is the clock: what the table shows is only as old as that."""
        intents = [entry for entry in entries if entry.get("state") == "intent"]
        self.flying = {entry["key"] for entry in intents if self.in_flight(entry["key"])}
        self.now, self.uptime = self.clock(), time.monotonic()
        with contextlib.suppress(OSError):
            self.locked_at = os.stat(os.path.join(os.path.dirname(self.journal.folder), LOCK)).st_mtime
        for entry in intents:
            if entry["key"] not in self.flying and self.is_seen(entry):
                self.note_over(entry)

    def in_flight(self, key: str) -> bool:
        path = self.journal.path(key, ".flight")
        try:
            os.stat(path)
            descriptor = lock_file(path)
        except FileNotFoundError:
            return False
        except OSError:
            self.unseen.add(key)
            return False
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def is_seen(self, entry: "Json") -> bool:
        """Whether a qsub that still runs would show here, by the file it holds locked; else its age decides."""
        guarded = entry.get("guarded") is True and entry["key"] not in self.unseen
        return guarded and entry.get("machine") == self.machine

    def note_over(self, entry: "Json") -> None:
        """Keep since when a qsub that left no answer is known to be over, by this boot's own clock: nobody sets that.

        What cannot be kept counts from now each time; so does what this boot has not seen yet.
        """
        over = moment_of(entry.get("over"))
        if over is None or over > self.uptime:
            entry["over"] = time.monotonic()
            with contextlib.suppress(OSError, Refused):
                self.journal.write(entry)

    def out_of_sight(self, entry: "Json") -> str:
        """Why an earlier qsub may still be running, or its job be queued, although nothing here shows it; "" if neither
        can be."""
        if self.is_seen(entry):
            return self.on_its_way(entry)
        age = self.age(entry)
        if age > ORPHAN_S_MAX + ROUTING_GRACE_S:
            return ""
        where = str(entry.get("machine") or "an unknown machine").partition("/")[0]
        return "a qsub for this key was begun {:.0f} s ago on {}; whether it still runs cannot be seen from {}".format(
            age, where, self.machine.partition("/")[0]
        )

    def age(self, entry: "Json") -> float:
        """How long ago its qsub was begun, by the clocks of two login nodes and by when two files were written: the
        less of both, since a login node's clock may be days off. One that was ahead says nothing."""
        begun = moment_of(entry.get("begun"))
        told = 0.0 if begun is None else self.now - begun
        with contextlib.suppress(OSError):
            written = self.locked_at - os.stat(self.journal.path(entry["key"])).st_mtime
            return written if told < 0 else min(told, written)
        return 0.0

    def on_its_way(self, entry: "Json") -> str:
        """Why the job of a qsub that is over may be queued although PBS does not list it; "" if it cannot be."""
        try:
            os.stat(self.journal.path(entry["key"], ".out"))
        except FileNotFoundError:
            return ""  # it was never started
        over = moment_of(entry.get("over"))
        left = ROUTING_GRACE_S if over is None else over + ROUTING_GRACE_S - self.uptime
        if left <= 0:
            return ""
        return (
            "an earlier qsub for this key ended without an answer; a routing queue may hide its job for another "
            "{:.0f} s, then it is submitted again if PBS does not list it".format(left)
        )

    def hidden(self, script: str) -> str:
        """Why the job of a script of which the journal has nothing may be queued although PBS does not list it; "" if
        it cannot be. It is as old as its script, by the file system's clock."""
        try:
            left = ROUTING_GRACE_S - (self.locked_at - os.stat(script).st_mtime)
        except FileNotFoundError:
            return ""
        if left <= 0:
            return ""
        return (
            "its script lies there and the journal has nothing of it; a routing queue may hide its job for another "
            "{:.0f} s, then it is submitted if PBS does not list it".format(left)
        )


def left_in_log(path: str) -> "Optional[str]":
    """The id of a job that has begun, by the first words of its log: on a server that keeps no history this is all that
    is left of one that ended before anybody looked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        ordinary = stat.S_ISREG(os.fstat(descriptor).st_mode)
        begun = JOB_BEGINS.search(file.read(LOG_HEAD_BYTES)) if ordinary else None
    return job_id_in(begun.group(1)) if begun is not None else None
