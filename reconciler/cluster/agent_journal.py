"""The agent's journal: what was begun under each action key and what came of it, and which jobs are ours by it."""

import contextlib
import json
import os
import re

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        Disk,
        Refused,
        discard,
        is_there,
        read_whole,
        sync_folder,
        write_whole,
    )
    from reconciler.cluster.agent_pbs import Pbs, ours, user_name
    from reconciler.cluster.agent_qstat import id_parts, moment_of, text_of, usable_record

JOURNAL = ".journal"
ENDED = ".ended"
"""Suffix of a file in the journal: what PBS said last of a job, by the key it was submitted under."""
ENTRY_VERSION = 1
KEY = re.compile(
    r"(?P<prefix>(?P<campaign>[a-z0-9.-]+)/(?P<stage>[a-z0-9.-]+)/(?P<attempt>[0-9a-f]{12}))"
    r"/l(?P<leg>\d+)/n(?P<ended>\d+)/(?P<kind>[a-z]+)(/(?P<detail>[A-Za-z0-9.-]+))?"
)


class Journal:
    """One file per action key, replaced whole: an intent, then its result."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.folder = disk, os.path.join(disk.root, JOURNAL)
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
        self.disk.make_safe(JOURNAL)
        write_whole(self.path(entry["key"]), json.dumps(entry, sort_keys=True).encode("ascii") + b"\n")

    def forget(self, key: str) -> None:
        """Nothing came of the intent, for certain."""
        discard(self.path(key))
        sync_folder(self.folder)

    def set_aside(self, key: str) -> None:
        """Keep a refusal for people, out of the way of another try."""
        for number in range(1, 10000):
            name = self.path(key, ".aside-{}".format(number))
            if not is_there(name):
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
    users = {user_name(), *past}
    own = [entry["job_id"] for entry in entries if entry.get("job_id") in journalled and entry.get("user") in users]
    # Of those that are over one is asked for again where it counts what PBS lists: a list without it is not whole.
    witness = sorted(over.keys() & set(own), key=lambda job_id: over[job_id]["modified"] or 0.0)[-1:] if past else []
    table = ours(pbs.table([*left, *witness], past, own), tag, left)
    known = {(id_parts(job_id)[0], job["key"]) for job_id, job in over.items()}  # listed once more, with `past`
    table = [job for job in table if (id_parts(job["id"])[0], job["key"]) not in known]
    for job in table:
        told_when = any(job[name] is not None for name in ("obit", "history", "modified"))
        if job["state"] == "F" and told_when and left.get(job["id"]) == job["key"]:
            journal.remember(job)
    return table + list(over.values())


def attempt_of(key: str) -> str:
    """The folder of its attempt, below the workspace."""
    return "/".join(key.split("/")[:3])


def job_ids(entries: "List[Json]") -> "Dict[str, str]":
    """Id → key, of every entry that has a job."""
    return {entry["job_id"]: entry["key"] for entry in entries if isinstance(entry.get("job_id"), str)}


def users_in_doubt(entries: "List[Json]") -> "List[str]":
    """Who may have a job that the journal does not know the id of: of each intent without a result, its user."""
    intents = [entry for entry in entries if entry.get("state") not in ("done", "failed") and submits(entry["key"])]
    return [text_of(entry.get("user")) or user_name() for entry in intents]


def submits(key: str) -> bool:
    """Whether a job is what is done under a key: nothing else can be queued unseen."""
    return KEY.fullmatch(key).group("kind") in ("convert", "train", "evaluate")  # type: ignore[union-attr]


def receipt_of(entry: "Json") -> "Json":
    """A journal entry in the shape of the answer, whatever wrote it."""
    moments, state = [moment_of(entry.get(name)) for name in ("ended", "begun")], entry.get("state")
    return {
        "key": entry["key"],
        "written": next((moment for moment in moments if moment is not None), 0.0),
        "done": state in ("done", "failed"),
        "job_id": text_of(entry.get("job_id")) or None,
        "failed": (text_of(entry.get("message")) or "no message") if state == "failed" else None,
        "applied_by": text_of(entry.get("applied_by")),
        "commit": text_of(entry.get("commit")),
        "dirty": entry.get("dirty") is True,
    }
