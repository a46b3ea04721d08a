"""What may be set aside and deleted, and when: held against the files, the jobs and the manifests themselves.

Nothing here uses the planner, its checks or the agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.sim.jobs import names_of, number_in

if TYPE_CHECKING:
    from tests.sim.checkers import Checkers
    from tests.sim.machine import Process

WORKSPACE = "/w"
CHECKPOINT = re.compile(r"/w/([a-z]+/[a-z0-9-]+/[0-9a-f]{12})/leg-(\d+)(-source)?/global_step(\d+)(_universal)?")
ASIDE = "/.pruned-"


def set_aside(check: Checkers, path: str, process: Process) -> None:
    """The agent is about to rename a folder away."""
    found = CHECKPOINT.fullmatch(path)
    if found is None:
        check.fail(f"{path} is set aside, which is no checkpoint")
        return
    attempt, leg, copy, iteration = found[1], int(found[2]), found[3], int(found[4])
    folder = f"{WORKSPACE}/{attempt}/leg-{leg}"
    if not check.world.declared_at(check.world.people[check.world.current].desired.revision).prunes:
        check.fail(f"{path} is set aside, and no manifest says so")
    for job in check.live.get(attempt, ()):
        unseen = not check.has_trace(job) and check.world.pbs.blank_at > job.queued_at
        if not unseen and check.journal_cut_at <= job.queued_at:
            check.fail(f"{path} is set aside while {job.id} ({job.key}) is live")
    if not journalled(check, path, process):
        check.fail(f"{path} is set aside without a safe intent in the journal")
    steps = [int(name[11:]) for name in check.world.disk.names(folder) if re.fullmatch(r"global_step\d+", name)]
    if not any(safe(check, folder, step) for step in steps if copy or step > iteration):
        check.fail(f"{path} is set aside, and no newer checkpoint of {folder} is complete and safe from a crash")
    if copy:
        return
    if check.world.disk.read(f"{folder}/latest") == f"global_step{iteration}".encode():
        check.fail(f"{path} is set aside, which `latest` names")
    for why in named(check, attempt, leg, iteration):
        check.fail(f"{path} is set aside, {why}")
    check.whole.pop((folder, iteration), None)


def deletes(check: Checkers, path: str, process: Process) -> None:
    """The agent is about to delete a file or a folder."""
    if "/global_step" in path and ASIDE not in path:
        check.fail(f"{path} is deleted, which was not set aside")
    if ASIDE in path:
        above, name = path.split(ASIDE)
        aside = f"{above}{ASIDE}{name.split('/')[0]}"
        if not journalled(check, aside, process):
            check.fail(f"{path} is deleted without a safe intent in the journal")


def journalled(check: Checkers, path: str, process: Process) -> bool:
    """Whether an entry that outlives a crash says that this folder is about to go."""
    if check.journal_cut_at >= process.begun:
        return True
    disk, journal = check.world.disk, f"{WORKSPACE}/.journal"
    told = path.removeprefix(f"{WORKSPACE}/")
    for name in disk.names(journal):
        entry = disk.survives(f"{journal}/{name}", WORKSPACE) if name.endswith(".json") else None
        if entry and told.encode() in entry and told in json.loads(entry).get("folders", ()):
            return True
    return False


def safe(check: Checkers, folder: str, iteration: int) -> bool:
    """Whether every file of one save is there and outlives a crash, whatever any pointer says."""
    disk, inside = check.world.disk, f"{folder}/global_step{iteration}"
    made = check.world.made.get(number_in(disk.read(f"{inside}/{names_of(1)[0]}")) or -1)
    if made is None:
        return False
    paths = [f"{inside}/{name}" for name in names_of(made.ranks)]
    return all(number_in(disk.read(path)) == made.number and disk.survives(path) == disk.read(path) for path in paths)


def named(check: Checkers, attempt: str, leg: int, iteration: int) -> Iterator[str]:
    """Who starts from this checkpoint, or ends at it."""
    disk, name = check.world.disk, attempt.split("/")[2]
    for campaign in disk.names(WORKSPACE):
        for stage in disk.names(f"{WORKSPACE}/{campaign}"):
            for other in disk.names(f"{WORKSPACE}/{campaign}/{stage}"):
                recipe = read(disk.read(f"{WORKSPACE}/{campaign}/{stage}/{other}/recipe.json"))
                source = recipe.get("source", {})
                if (source.get("attempt"), source.get("leg"), source.get("iteration")) == (name, leg, iteration):
                    yield f"which {campaign}/{stage}/{other} starts from"
                if name in source.get("external", ""):
                    yield f"in an attempt that {campaign}/{stage}/{other} starts from by its path"
                if other == name and recipe["legs"][leg]["iterations"] <= iteration:
                    yield "the end of its leg"


def read(text: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
