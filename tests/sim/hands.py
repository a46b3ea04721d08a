"""What people do to files by hand: they delete parts of the workspace, leave files of an older version or of their own
in it, and edit the data lists. Everything is told to the checkers, which alone know what was taken away by whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.sim.campaigns import LISTS
from tests.sim.disk import Inode

if TYPE_CHECKING:
    from random import Random

    from tests.sim.world import World

TOP, JOURNAL, LOCK = "/w/small", "/w/.journal", "/w/.lock"
GUARDS = ("begun", "writers", "writer.lock")
STRANGE = "0123456789ab"
"""An attempt that no recipe has."""


def below(world: World, folder: str) -> Iterator[tuple[str, Inode]]:
    """Everything in a folder, in order."""
    for name in world.disk.names(folder):
        path = f"{folder}/{name}"
        inode = world.disk.find(path)
        yield path, inode
        if inode.folder:
            yield from below(world, path)


# --- deleting ---------------------------------------------------------------------------------------------------------


def kind_of(path: str) -> str:
    """What a person would call it; "" for what nobody deletes."""
    if path.startswith(JOURNAL):
        return "the journal" if path == JOURNAL else "an entry of the journal"
    parts = path.removeprefix(TOP).strip("/").split("/")
    name, depth = parts[-1], len(parts)
    if path == f"{TOP}/applied.json":
        return "applied.json"
    if depth == 2:
        return "an attempt"
    if depth == 3:
        return f"{name.rstrip('0123456789')} of an attempt" if name not in GUARDS else ""
    if parts[2:3] and parts[2].startswith("leg-") and depth >= 4:
        if depth == 4:
            return "a checkpoint" if name.startswith("global_step") else "a pointer"
        return "a file of a checkpoint"
    if (depth == 4 and name.endswith((".log", ".json"))) or parts[2:3] == ["evaluations"]:
        return f"a file of {parts[2]}"
    return ""


def delete(world: World) -> None:
    """One thing, of a kind drawn first: files are many, and folders matter more."""
    dice = world.chance.of("hands")
    kinds: dict[str, list[str]] = {}
    whole = [*below(world, TOP), *below(world, JOURNAL)]
    for path in [path for path, _ in whole] + ([JOURNAL] if world.disk.get(JOURNAL) is not None else []):
        if kind_of(path):
            kinds.setdefault(kind_of(path), []).append(path)
    if not kinds:
        return
    kind = dice.choice(sorted(kinds))
    path = dice.choice(kinds[kind])
    world.say(f"somebody deletes {kind}: {path}")
    world.chance.counts[f"deleted: {kind}"] += 1
    remove(world, path)


def remove(world: World, path: str) -> None:
    """A file or a folder with all in it, for good."""
    folder, name = world.disk.parent(path)
    folder.change(world.now, {name: None})
    folder.sync()
    world.check.removed(path)


def unguard(world: World) -> None:
    """What the guard of one attempt keeps: its lock, the marks of jobs that write, those of keys that have begun."""
    dice = world.chance.of("hands")
    found = [f"{attempt}/{name}" for attempt in attempts(world) for name in GUARDS if name in world.disk.names(attempt)]
    if found:
        path = dice.choice(found)
        world.say(f"somebody deletes {path}")
        remove(world, path)


# --- leaving things ---------------------------------------------------------------------------------------------------


def leave(world: World) -> None:
    """A file that nobody of this version has written, where one of ours might be."""
    dice = world.chance.of("hands")
    path, text = dice.choice(sorted(left_overs(world, dice)))
    if world.disk.get(path) is not None or world.disk.full:
        return
    world.say(f"somebody leaves {path}")
    world.disk.makedirs(path.rpartition("/")[0])
    world.disk.place(path, text.encode())


def left_overs(world: World, dice: Random) -> Iterator[tuple[str, str]]:
    """(path, text) of what may be left."""
    stage = dice.choice(sorted(world.declared.stages))
    key = f"small/{stage}/{STRANGE}/l0/n0/train"
    entry = f"{JOURNAL}/{key.replace('/', '+')}"
    yield f"{entry}.json", json.dumps({"version": 0, "key": key, "state": "done"})
    yield f"{entry}.json", json.dumps({"version": 1, "key": key, "state": "paused", "job_id": 7, "begun": "today"})
    yield f"{entry}.ended", "{}"
    yield f"{JOURNAL}/notes.json", "{}"
    yield f"{JOURNAL}/.{key.replace('/', '+')}.json.new", "{"
    yield f"{JOURNAL}/small+x.json~", "\0"
    yield f"{LOCK}.c0ffee", "{}"
    yield LOCK, json.dumps({"pid": 17, "host": "login1"})
    yield f"{TOP}/{stage}/{STRANGE}/recipe.json", json.dumps({"format": 0, "tokens": "12B"})
    yield f"{TOP}/{stage}/{STRANGE}/leg-0/global_step7/mp_rank_00_model_states.pt", "PK"
    yield f"{TOP}/{stage}/old/recipe.json", "{}"
    yield f"{TOP}/README", "ours"
    yield f"{TOP}/applied.json", json.dumps({"version": 0, "stages": []})
    for attempt in attempts(world):
        yield f"{attempt}/leg-0/global_step99999/notes.txt", "?"
        yield f"{attempt}/leg-0/global_step8.bak/mp_rank_00_model_states.pt", "PK"
        yield f"{attempt}/leg-0.old/latest", "global_step3"
        yield f"{attempt}/leg-9/latest", "global_step3"
        yield (
            f"{attempt}/evaluations/leg-0-11/val-D0.log",
            "validation loss at iteration 1 | lm loss value=1.0lm loss PPL=",
        )
        yield f"{attempt}/verdicts/final.json", json.dumps({"outcome": "passed"})
        yield f"{attempt}/verdicts/draft.json", "{"
        yield f"{attempt}/jobs/l0-n0-train.log.numbers.json", json.dumps({"version": 0, "offset": 7})
        yield f"{attempt}/jobs/l0-n0-train.pbs", "#!/bin/bash\n# of an older version\n"
        yield f"{attempt}/stop", ""
        yield f"{attempt}/writers/77.pbs-host", ""


def attempts(world: World) -> list[str]:
    return [f"{TOP}/{stage}/{name}" for stage in world.declared.stages for name in world.disk.names(f"{TOP}/{stage}")
            if len(name) == len(STRANGE) and name != STRANGE]  # fmt: skip


# --- data lists -------------------------------------------------------------------------------------------------------


def edit_list(world: World) -> None:
    """A data list is away, spoilt or another for a while."""
    dice = world.chance.of("hands")
    path, how = dice.choice(sorted(LISTS)), dice.choice(("away", "spoilt", "another"))
    world.say(f"somebody edits {path}: it is {how}")
    if how == "away":
        if world.disk.get(f"/r/{path}") is not None:
            world.disk.unlink(f"/r/{path}")
    elif not world.disk.full:
        symbol = path.removeprefix("data/").removesuffix(".txt")
        rows = (
            "one two three four five\n"
            if how == "spoilt"
            else f"0.5 /data/{symbol}-a text\n0.5 /data/{symbol}-b more\n"
        )
        world.disk.place(f"/r/{path}", rows.encode())
        world.check.lists_edited += how == "another"
    world.at(world.now + dice.uniform(60.0, 600.0), lambda: restore_lists(world))


def restore_lists(world: World) -> None:
    for path, text in LISTS.items():
        if world.disk.read(f"/r/{path}") != text.encode() and not world.disk.full:
            world.disk.place(f"/r/{path}", text.encode())
