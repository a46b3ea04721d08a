"""Folders that no attempt made: what is complete there, and which save is opened to tell that it is the wanted one."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from reconciler.cluster import agent_folders, agent_logs, answers
from reconciler.model.observed import CheckpointSeen, FolderAbsent, FolderSeen, Unread, Wish
from tests.cluster.test_agent_logs import line
from tests.cluster.world import World

BATCH, SEQUENCE, PEAK = 4, 16, 1e-3
WARM, FALLS, ENDS = 20, 100, 200
"""Iterations at which the warm-up of the runs here ends, their decay begins, and their decay ends."""
ANY = Wish("newest")


def rate_after(step: int) -> float:
    if step < WARM:
        return PEAK * step / WARM
    return PEAK * (1 - max(0, min(step, ENDS) - FALLS) / (ENDS - FALLS))


def save(folder: Path, step: int, ranks: int = 2, tracker: bool = True, **changed: Any) -> Path:
    """A checkpoint as training leaves it, with all that a look asks it for."""
    inner = folder / f"global_step{step}"
    inner.mkdir(parents=True)
    samples = step * BATCH
    arguments = {"seq_length": SEQUENCE, "global_batch_size": BATCH, "consumed_train_samples": samples, "bf16": True}
    scheduler = {"num_steps": samples, "max_lr": PEAK, "min_lr": 0.0, "lr_warmup_steps": WARM * BATCH}
    model = {
        "iteration": step, "tokens": samples * SEQUENCE, "dp_world_size": ranks, "lr_scheduler": scheduler,
        "args": argparse.Namespace(**arguments), "module": {"w": torch.zeros(8)},
        "param_shapes": [{"w": torch.Size((8,))}],
    }  # fmt: skip
    torch.save(model | changed, inner / "mp_rank_00_model_states.pt")
    optimizer = {"param_groups": [{"lr": rate_after(step)}], "state": {0: {"exp_avg": torch.zeros(8)}}}
    for rank in range(ranks):
        shard = {"optimizer_state_dict": {"base_optimizer_state": optimizer}}
        torch.save(shard, inner / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (folder / "latest").write_text(f"global_step{step}")
    if tracker:
        (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return inner


def universal(folder: Path, step: int) -> Path:
    """A universal checkpoint as the fork's converter leaves it."""
    inner = folder / f"global_step{step}_universal"
    zero = inner / "zero/w"
    zero.mkdir(parents=True)
    model = {"iteration": step, "dp_world_size": 8, "param_shapes": [{"w": torch.Size((8,))}]}
    torch.save(model, inner / "mp_rank_00_model_states.pt")
    torch.save({"param_groups": [{"lr": rate_after(step)}]}, inner / "zero/optimizer_state.pt")
    for state in ("fp32", "exp_avg", "exp_avg_sq"):
        torch.save({"param": torch.zeros(8)}, zero / f"{state}.pt")
    (folder / "latest_universal").write_text(inner.name)
    return inner


def look(folder: Path, *wishes: Wish) -> FolderSeen | FolderAbsent | Unread:
    """The agent's answer as the other side reads it."""
    asked = {"path": str(folder), "wanted": [asdict(wish) for wish in wishes]}
    answer = json.loads(json.dumps(agent_folders.folders_seen([asked])))
    return answers.folder(answer[str(folder)])


def seen(folder: Path, *wishes: Wish) -> FolderSeen:
    found = look(folder, *wishes)
    assert isinstance(found, FolderSeen), found
    return found


def only(folder: Path, wish: Wish = ANY) -> CheckpointSeen:
    (checkpoint,) = seen(folder, wish).checkpoints
    return checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_a_whole_checkpoint_and_what_it_says(world: World, folder: Path) -> None:
    save(folder, 120)
    found = world.observe(folders={str(folder): (ANY,)}).folders[str(folder)]
    assert isinstance(found, FolderSeen)
    (checkpoint,) = found.checkpoints
    assert (found.latest, found.tracker, found.latest_universal) == (120, 120, None)
    assert (checkpoint.iteration, checkpoint.complete, checkpoint.why_not) == (120, True, "")
    assert (checkpoint.data_parallel, checkpoint.model_parallel, checkpoint.universal) == (2, 1, False)
    inside = checkpoint.inside
    assert inside is not None
    assert (inside.iteration, inside.trained_tokens, inside.precision) == (120, 120 * BATCH * SEQUENCE, "bf16")
    assert inside.rate == pytest.approx(8e-4)
    assert (inside.rate_max, inside.position) == (PEAK, 480)


def test_a_folder_that_is_not_there_is_absent_and_one_that_cannot_be_read_is_not(folder: Path) -> None:
    assert look(folder / "not-there", ANY) == FolderAbsent()
    assert seen(folder, ANY) == FolderSeen()
    found = look(Path("relative"), ANY)
    assert isinstance(found, Unread)
    assert "not an absolute path" in found.why


def test_a_folder_by_a_link_is_the_folder(folder: Path) -> None:
    save(folder, 120)
    (folder.parent / "link").symlink_to(folder)
    assert only(folder.parent / "link").complete


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("no shard of rank 1", "1 optimizer shards, 2 are needed"),
        ("no shard of rank 0", "1 optimizer shards, 2 are needed"),
        ("an empty shard", "an empty file"),
        ("no model file", "no model file"),
        ("a shard cut by one byte", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is cut short at"),
        ("the model file cut by one byte", "mp_rank_00_model_states.pt cannot be read: it is cut short at"),
        ("latest ahead of the tracker", "the tracker file says 119"),
        ("an empty tracker", "the tracker file is missing or empty"),
        ("another folder's name", "inside it is iteration 120"),
        ("a link", "it leads out of its folder"),
        ("a link as a model file", "mp_rank_00_model_states.pt cannot be read: "),
    ],
)
def test_what_makes_a_checkpoint_incomplete(folder: Path, damage: str, why: str) -> None:
    inner = save(folder, 120)
    model, shard = inner / "mp_rank_00_model_states.pt", inner / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    match damage:
        case "no shard of rank 1":
            shard.unlink()
        case "no shard of rank 0":
            (inner / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
        case "an empty shard":
            shard.write_bytes(b"")
        case "no model file":
            model.unlink()
        case "a shard cut by one byte":
            shard.write_bytes(shard.read_bytes()[:-1])
        case "the model file cut by one byte":
            model.write_bytes(model.read_bytes()[:-1])
        case "latest ahead of the tracker":
            (folder / "latest_checkpointed_iteration.txt").write_text("119")
        case "an empty tracker":
            (folder / "latest_checkpointed_iteration.txt").write_text("")
        case "another folder's name":
            inner.rename(folder / "global_step119")
        case "a link":
            inner.rename(folder.parent / "elsewhere")
            inner.symlink_to(folder.parent / "elsewhere")
        case "a link as a model file":
            model.rename(folder.parent / "model.pt")
            model.symlink_to(folder.parent / "model.pt")
        case _:
            raise AssertionError(damage)
    checkpoint = only(folder)
    assert not checkpoint.complete
    assert checkpoint.why_not.startswith(why), checkpoint.why_not


def test_a_copy_without_a_tracker_is_judged_by_its_files(folder: Path) -> None:
    save(folder, 120, tracker=False)
    assert only(folder).complete


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("", ""),
        ("no moment", "exp_avg.pt of w is missing or empty"),
        ("a moment cut by one byte", "w: exp_avg.pt is cut short at"),
        ("no parameter", "0 of 1 parameters"),
        ("no optimizer state", "optimizer_state.pt cannot be read: there is no such file"),
        ("tmp", "it holds `tmp`"),
        ("no model file", "no model file"),
    ],
)
def test_a_universal_checkpoint_is_whole_or_says_what_it_lacks(folder: Path, damage: str, why: str) -> None:
    inner = universal(folder, 150)
    moment = inner / "zero/w/exp_avg.pt"
    match damage:
        case "no moment":
            moment.unlink()
        case "a moment cut by one byte":
            moment.write_bytes(moment.read_bytes()[:-1])
        case "no parameter":
            (inner / "zero/w").rename(folder.parent / "w")
        case "no optimizer state":
            (inner / "zero/optimizer_state.pt").unlink()
        case "tmp":
            (inner / "tmp").mkdir()
        case "no model file":
            (inner / "mp_rank_00_model_states.pt").unlink()
        case _:
            assert damage == ""
    found = seen(folder, Wish("newest", universal=True))
    (checkpoint,) = found.checkpoints
    assert (found.latest_universal, checkpoint.universal, checkpoint.complete) == (150, True, not why)
    assert checkpoint.why_not.startswith(why), checkpoint.why_not
    if not why:
        assert checkpoint.inside is not None
        assert checkpoint.inside.rate == pytest.approx(5e-4)
        assert checkpoint.size_bytes == sum(p.stat().st_size for p in inner.rglob("*.pt") if p.parent.name != "zero")


def opened(found: FolderSeen) -> list[int]:
    return [checkpoint.iteration for checkpoint in found.checkpoints if checkpoint.inside is not None]


STEPS = range(5, 251, 5)
Property = Literal["iteration", "tokens", "rate", "pre-cooldown", "newest", "all"]


@pytest.mark.parametrize(
    ("wanted", "number", "iteration", "next_to"),
    [
        ("iteration", 45, 45, []),
        ("newest", 0, 250, []),
        ("pre-cooldown", 0, 100, [105]),
        ("tokens", 60 * BATCH * SEQUENCE, 60, [55]),
        ("tokens", 61 * BATCH * SEQUENCE, 65, [60]),
        ("rate", PEAK / 5, 180, [175]),
        ("rate", 0, 200, [195]),
    ],
)
def test_of_many_saves_only_those_are_opened_that_can_be_the_wanted_one(
    folder: Path, wanted: Property, number: float, iteration: int, next_to: list[int]
) -> None:
    for step in STEPS:
        save(folder, step)
    found = opened(seen(folder, Wish(wanted, number)))
    assert {iteration, *next_to} <= set(found)
    assert len(found) <= 7


def test_of_few_saves_all_are_opened_so_that_the_near_ones_can_be_told(folder: Path) -> None:
    for step in (50, 100, 150):
        save(folder, step)
    assert opened(seen(folder, Wish("pre-cooldown"))) == [50, 100, 150]
    assert opened(seen(folder, Wish("iteration", 100))) == [100]


def test_the_wanted_one_that_is_damaged_uncovers_the_one_before(folder: Path) -> None:
    for step in STEPS:
        save(folder, step)
    model = folder / "global_step100/mp_rank_00_model_states.pt"
    model.write_bytes(model.read_bytes()[:-1])
    found = seen(folder, Wish("pre-cooldown"))
    told = {checkpoint.iteration: checkpoint for checkpoint in found.checkpoints}
    assert not told[100].complete
    assert {95, 105} <= set(opened(found))


def test_a_look_that_takes_too_long_is_unread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, 120)
    monkeypatch.setattr(agent_folders, "FOLDERS_S_MAX", -1.0)
    wanted = [{"property": "newest", "number": 0, "universal": False}]
    assert (
        "was not looked into whole"
        in agent_folders.folders_seen([{"path": str(folder), "wanted": wanted}])[str(folder)]["unread"]
    )


def test_a_folder_without_permission_is_unread(folder: Path) -> None:
    """Of root the right to read everything is taken, for a process of its own."""
    rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    wanted = [{"path": str(folder), "wanted": [{"property": "newest", "number": 0, "universal": False}]}]
    look = (
        f"import json; from reconciler.cluster.agent_folders import folders_seen as of; print(json.dumps(of({wanted})))"
    )
    folder.chmod(0)
    told = subprocess.run([*rights, sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    folder.chmod(0o700)
    assert "permission is denied" in json.loads(told)[str(folder)]["unread"]


def test_the_log_of_a_run_elsewhere_is_read_from_its_end_and_nothing_is_written_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = folder / "output.log"
    log.write_text("".join(line(number) + "\n" for number in range(1, 60)))
    monkeypatch.setattr(agent_logs, "FOREIGN_BYTES_MAX", log.stat().st_size // 2)
    seen = answers.foreign_log({"read": json.loads(json.dumps(agent_logs.foreign_log(str(log), 8)))})
    assert seen is not None
    assert (seen.first[0].iteration, seen.last[-1].iteration, seen.last[-1].loss) == (31, 59, 2.418306)
    assert agent_logs.foreign_log(str(folder / "none.log"), 8) is None
    assert answers.foreign_log({"read": None}) is None
    assert answers.foreign_log({"unread": "timed out"}) is None
    assert [path.name for path in folder.iterdir()] == ["output.log"]
