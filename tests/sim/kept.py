"""The record of a run: everybody's branch and the remote at which they meet, as files in memory. What is put there is
worked out by the real code; at the end it must tell the same story as the world."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from reconciler import loop
from reconciler.model.message import Message
from reconciler.model.observed import FolderSeen, ListSeen
from reconciler.planner import facts
from reconciler.planner.planner import plan
from reconciler.planner.recalled import recall
from tests.sim.checkers import CAMPAIGN, WORKSPACE, Broken

if TYPE_CHECKING:
    from reconciler.planner.desired import Desired
    from tests.sim.world import World

PLACE = facts.place_of(CAMPAIGN, "here", WORKSPACE)
SHARE = 0.3
"""Of runs that are kept on record: it takes time."""
Files = dict[str, bytes]


class Branch:
    """One person's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.files: Files = {}

    @property
    def place(self) -> str:
        return PLACE

    def paths(self) -> Collection[str]:
        return self.files

    def otherwise(self, files: Mapping[str, str]) -> Mapping[str, bytes]:
        there = {path: self.files[path] for path in files if path in self.files}
        return {path: text for path, text in there.items() if text != facts.encoded(files[path])}

    def keep(self, files: Mapping[str, str]) -> tuple[Message, ...]:
        for path, text in files.items():
            new = facts.encoded(text)
            self.files[path] = facts.chosen(path, self.files[path], new) if path in self.files else new
        if not self.world.chance.happens("record: its remote is away"):
            self.meet(self.world.remote)
        return ()

    def meet(self, remote: Files) -> None:
        """Both have what either had."""
        for path in {*self.files, *remote}:
            one, other = self.files.get(path), remote.get(path)
            both = one if other is None else other if one is None else one
            if one is not None and other is not None and one != other:
                both = facts.chosen(path, *sorted((one, other)))
            assert both is not None
            self.files[path] = remote[path] = both

    def follows(self, desired: Desired, done: loop.Pass) -> None:
        """A pass is put on record, if whoever made it lives so long."""
        if self.world.chance.happens("person: is gone before it is on record"):
            return
        applied = facts.Applied(desired.revision, False, "A <a@b>", "1 +0000", "", {}, {}, "")
        loop.record(desired, done, loop.Recording(self, applied))

    def tells_the_same(self, desired: Desired, seen: loop.Look) -> None:
        """What PBS ran, what the journal has, and where the stages are, as a fresh clone would tell it."""
        self.meet(self.world.remote)
        if seen.plan.outlook is None:
            raise Broken("the last look was not whole")
        recalled = recall(PLACE, {path: text for path, text in self.files.items() if path.startswith(f"{PLACE}/")})
        if recalled.unreadable:
            raise Broken(f"the record has {recalled.unreadable}, which cannot be read")
        jobs = {job.id: job for job in self.world.pbs.jobs.values()}
        for done in recalled.done:
            ended = done.ended.job_id if done.ended is not None else ""
            job = jobs.get(done.receipt.job_id or ended)
            if done.receipt.job_id and (job is None or job.key != str(done.key)):
                raise Broken(f"the record has {done.receipt.job_id} for {done.key}, PBS ran {job}")
            if job is not None and done.ended is not None and (not job.over or job.exit != done.ended.exit_status):
                raise Broken(f"the record has {job.id} end with {done.ended.exit_status}, it ended with {job.exit}")
        self._has_the_journal()
        found = {path: text for path, text in seen.observed.lists.items() if isinstance(text, ListSeen)}
        folders = {path: there for path, there in seen.observed.folders.items() if isinstance(there, FolderSeen)}
        told = plan(desired, recalled.observed(found, folders))
        here = {(stage.stage, stage.attempt) for stage in seen.plan.stages if stage.phase == "Done"}
        there = {(stage.stage, stage.attempt) for stage in told.stages if stage.phase == "Done"}
        if here - there:
            why = [f"{stage.stage} {stage.phase}/{stage.reason}: {stage.message}" for stage in told.stages]
            raise Broken(f"{sorted(here - there)} are done, by the record it is {why}")

    def _has_the_journal(self) -> None:
        folder = f"{WORKSPACE}/.journal"
        for name in self.world.disk.names(folder):
            try:
                entry = json.loads(self.world.disk.read(f"{folder}/{name}") or b"")
                key, job = entry["key"], entry.get("job_id")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            taken = self.world.check.keys.get(key)
            if not name.endswith(".json") or taken is None:
                continue  # refused, or left by another version
            _, stage, attempt, action = key.split("/", 3)
            path = f"{PLACE}/{stage}/{attempt}/actions/{action.replace('/', '-')}/receipt.json"
            kept, ran = self.files.get(path), bool(self.world.disk.read(taken.script.log))
            if (job or ran) and (kept is None or (job and f'"{job}"'.encode() not in kept)):
                raise Broken(f"the journal has {key} as {job}, the record has {kept!r}")
