"""Damaged checkpoint folders: none is resumed from, none is converted, and nothing of them is changed by looking.

Each case damages `global_step120` of a run on 4 ranks, which has a whole `global_step100` as well. What sizes and names
can tell, the agent tells, so that the run goes on from 100; the rest is for the converter, which reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.convert import layout, universal
from reconciler.model.observed import AttemptSeen
from tests.cluster.world import CAMPAIGN, STAGE, World
from tests.convert.damages import DAMAGES, MARK, MODEL, shard
from tests.convert.zero_writer import Saved, state_of, write_checkpoint


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a folder holds: names, kinds, permissions, times and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(about.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (about.st_mode, about.st_ino, about.st_mtime_ns, about.st_size, content)
    return found


def attempt_of(number: int) -> str:
    return f"{number:012x}"


@dataclass(frozen=True)
class Damaged:
    """A workspace with an attempt for each damage, and what one look of the agent saw of it."""

    world: World
    before: dict[str, tuple[object, ...]]
    seen: dict[str, AttemptSeen]

    def leg(self, number: int) -> Path:
        return self.world.workspace / CAMPAIGN / STAGE / attempt_of(number) / "leg-0"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    top = tmp_path_factory.mktemp("damaged")
    state = [state_of([{"a.weight": (16, 8), "b.weight": (9, 4)}, {"norm.weight": (30,)}], seed) for seed in (1, 2)]
    whole, other = top / "whole", write_checkpoint(top / "other", state[1], Saved(4))
    for iteration in (100, 120):
        write_checkpoint(whole, state[0], Saved(4, iteration=iteration))
    world = World(top).build()
    found = Damaged(world, {}, {})
    for number, damage in enumerate(DAMAGES):
        leg = found.leg(number)
        shutil.copytree(whole, leg)
        (leg.parent / "recipe.json").write_text(json.dumps({"data_parallel": 4}))
        damage.do(leg / "global_step120", other)
    found.before.update(everything(world.workspace))
    attempts = world.observe().attempts
    assert isinstance(attempts, tuple), attempts
    found.seen.update({attempt.attempt: attempt for attempt in attempts})
    yield found
    shutil.rmtree(top, ignore_errors=True)


SEEN = [pytest.param(number, id=damage.name) for number, damage in enumerate(DAMAGES) if damage.seen]
NUMBERED = [pytest.param(number, id=damage.name) for number, damage in enumerate(DAMAGES)]


def test_there_are_thirty_damages() -> None:
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES) >= 30


@pytest.mark.parametrize("number", NUMBERED)
def test_a_damaged_folder_is_not_converted_and_not_changed(damaged: Damaged, tmp_path: Path, number: int) -> None:
    folder = damaged.leg(number) / "global_step120"
    before = everything(folder.parent)
    with pytest.raises(universal.Refused) as caught:
        universal.convert(folder, tmp_path / "target")
    assert [word for word in DAMAGES[number].words if word not in str(caught.value)] == [], caught.value
    assert [path.name for path in tmp_path.rglob("*") if "universal" in path.name] == []
    assert everything(folder.parent) == before
    assert not (folder.parent / MARK).exists()


@pytest.mark.parametrize("number", SEEN)
def test_what_sizes_and_names_tell_is_not_resumed_from(damaged: Damaged, number: int) -> None:
    (leg,) = damaged.seen[attempt_of(number)].legs
    assert {checkpoint.iteration: checkpoint.complete for checkpoint in leg.checkpoints} == {100: True, 120: False}


def test_a_look_changes_nothing(damaged: Damaged) -> None:
    assert everything(damaged.world.workspace) == damaged.before


def test_the_traps_are_real(tmp_path: Path) -> None:
    """Read without restrictions, they do what they mean to."""
    (tmp_path / "global_step120").mkdir()
    for damage in DAMAGES:
        if "runs a command" in damage.name or "evaluates" in damage.name:
            for name in (MODEL, shard(1)):
                (tmp_path / "global_step120" / name).write_bytes(b"")
            damage.do(tmp_path / "global_step120", tmp_path)
            with zipfile.ZipFile(tmp_path / "global_step120" / damage.words[0]) as archive:
                pickle.loads(archive.read("archive/data.pkl"))
            (tmp_path / MARK).rmdir()


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """In a process of its own, without the right of root to read everything."""
    source = write_checkpoint(tmp_path, state_of([{"a.weight": (8, 8)}, {"norm.weight": (8,)}]), Saved(2))
    (source / shard(1)).chmod(0)
    program = tmp_path / "universal.py"
    program.write_text(layout.program_text())
    rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*rights, sys.executable, "-I", str(program), str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert shard(1) in done.stderr and "Permission denied" in done.stderr
    assert not list(tmp_path.glob("*universal*.partial*")) and not (tmp_path / layout.POINTER).exists()
