"""Attempts as files → what was seen: complete checkpoints, evaluations, conversions, and what must not blind a look."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from reconciler.cluster.agent_attempts import EXTERNAL, EXTERNAL_CHARS_MAX, Attempts
from reconciler.cluster.agent_checkpoints import STEP
from reconciler.cluster.agent_disk import Disk
from reconciler.model.external import EXTERNAL_CHARS_MAX as READ_CHARS_MAX
from reconciler.model.external import NoNumber, metric
from reconciler.model.fieldtypes import NAME_PATTERN
from reconciler.model.observed import AttemptSeen, ListAbsent, ListSeen, TrainLog, Unread
from tests.cluster.test_agent_logs import line
from tests.cluster.world import ATTEMPT, CAMPAIGN, STAGE, World

SIZE = 1000
EOCD = b"PK\x05\x06" + bytes(18)


def zipped(size: int) -> bytes:
    return b"PK\x03\x04" + bytes(size - 4 - len(EOCD)) + EOCD


def save(leg: Path, step: int, ranks: int = 2, parts: int = 1, tracker: str | None = "") -> Path:
    """A checkpoint as the launcher leaves it; tracker "" is written with `step`, None not at all."""
    folder = leg / f"global_step{step}"
    folder.mkdir(parents=True)
    for part in range(parts):
        (folder / f"mp_rank_{part:02d}_model_states.pt").write_bytes(zipped(SIZE))
        for rank in range(ranks):
            (folder / f"bf16_zero_pp_rank_{rank}_mp_rank_{part:02d}_optim_states.pt").write_bytes(zipped(SIZE * 3))
    (leg / "latest").write_text(f"global_step{step}")
    if tracker is not None:
        (leg / "latest_checkpointed_iteration.txt").write_text(tracker or str(step))
    return folder


@pytest.fixture
def attempt(world: World) -> Path:
    world.attempt.mkdir(parents=True)
    (world.attempt / "recipe.json").write_text(json.dumps({"data_parallel": 2}))
    return world.attempt


def seen(world: World) -> AttemptSeen:
    found = world.observe().attempts
    assert isinstance(found, tuple), found
    return next(a for a in found if (a.stage, a.attempt) == (STAGE, ATTEMPT))


def completeness(world: World) -> dict[int, str]:
    (leg,) = seen(world).legs
    assert all(c.complete is not bool(c.why_not) for c in leg.checkpoints)
    return {checkpoint.iteration: checkpoint.why_not for checkpoint in leg.checkpoints}


def test_a_whole_checkpoint(world: World, attempt: Path) -> None:
    save(attempt / "leg-0", 60)
    (leg,) = seen(world).legs
    (checkpoint,) = leg.checkpoints
    assert (checkpoint.iteration, checkpoint.complete, checkpoint.data_parallel) == (60, True, 2)
    assert checkpoint.size_bytes == SIZE * 7
    assert (leg.latest, leg.tracker, leg.converted) == (60, 60, None)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("no shard of rank 1", "1 optimizer shards, 2 are needed"),
        ("no model file", "no model file"),
        ("an empty shard", "an empty file"),
        ("a small shard", "a file of 1000 bytes among others of 3000"),
        ("a shard cut by one byte", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is cut short at 2999 bytes"),
        ("a shard of a third rank", "3 optimizer shards, 2 are needed"),
        ("rank 1 named 2", "2 optimizer shards, 2 are needed"),
        ("no second model part", "1 of 2 model files"),
        ("latest ahead of the tracker", "the tracker file says 59"),
        ("empty tracker", "the tracker file is missing or empty"),
        ("no tracker", "the tracker file is missing or empty"),
        ("no recipe", "recipe.json does not say on how many data-parallel ranks it was trained"),
    ],
)
def test_what_makes_a_checkpoint_incomplete(world: World, attempt: Path, damage: str, why: str) -> None:
    leg = attempt / "leg-0"
    folder = save(leg, 60)
    shard = folder / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    match damage:
        case "no shard of rank 1":
            shard.unlink()
        case "no model file":
            (folder / "mp_rank_00_model_states.pt").unlink()
        case "an empty shard":
            shard.write_bytes(b"")
        case "a small shard":
            shard.write_bytes(zipped(SIZE))
        case "a shard cut by one byte":
            shard.write_bytes(zipped(SIZE * 3)[:-1])
        case "a shard of a third rank":
            (folder / "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt").write_bytes(zipped(SIZE * 3))
        case "rank 1 named 2":
            shard.rename(folder / "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt")
        case "no second model part":
            for rank in range(2):
                (folder / f"bf16_zero_pp_rank_{rank}_mp_rank_01_optim_states.pt").write_bytes(zipped(SIZE * 3))
        case "latest ahead of the tracker":
            (leg / "latest_checkpointed_iteration.txt").write_text("59")
        case "empty tracker":
            (leg / "latest_checkpointed_iteration.txt").write_text("")
        case "no tracker":
            (leg / "latest_checkpointed_iteration.txt").unlink()
        case "no recipe":
            (attempt / "recipe.json").unlink()
        case _:
            raise AssertionError(damage)
    assert completeness(world) == {60: why}


def test_model_parallel_parts_are_counted(world: World, attempt: Path) -> None:
    save(attempt / "leg-0", 60, parts=2)
    assert completeness(world) == {60: ""}


def test_an_older_whole_folder_counts_when_the_newest_is_not(world: World, attempt: Path) -> None:
    save(attempt / "leg-0", 60)
    folder = save(attempt / "leg-0", 120, tracker="60")
    (folder / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    assert list(completeness(world)) == [60, 120]
    assert completeness(world)[60] == ""
    newest = seen(world).legs[0].newest_complete()
    assert newest is not None
    assert newest.iteration == 60
    assert (seen(world).legs[0].latest, seen(world).legs[0].tracker) == (120, 60)


@pytest.mark.parametrize(("text", "told"), [(None, None), ("global_step60", 60), ("global", 0), ("", 0)])
def test_a_pointer_that_names_no_save_is_not_an_absent_one(
    world: World, attempt: Path, text: str | None, told: int | None
) -> None:
    """A crash of the file server may cut it; a job that loads by it would end of it."""
    save(attempt / "leg-0", 60)
    (attempt / "leg-0/latest").unlink()
    if text is not None:
        (attempt / "leg-0/latest").write_text(text)
    assert seen(world).legs[0].latest == told


def test_with_an_empty_tracker_the_folder_before_the_newest_counts(world: World, attempt: Path) -> None:
    save(attempt / "leg-0", 60)
    save(attempt / "leg-0", 120, tracker="\0")
    assert completeness(world) == {60: "", 120: "the tracker file is missing or empty"}


def test_the_newest_cut_short_uncovers_the_one_before(world: World, attempt: Path) -> None:
    save(attempt / "leg-0", 60)
    folder = save(attempt / "leg-0", 120)
    model = folder / "mp_rank_00_model_states.pt"
    model.write_bytes(model.read_bytes()[:-10])
    assert completeness(world) == {60: "", 120: "mp_rank_00_model_states.pt is cut short at 990 bytes"}


def test_an_older_save_is_of_the_size_of_the_newest(world: World, attempt: Path) -> None:
    """It may be chosen too; that it ends well is not looked up, since that would open every file of every save."""
    name = "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    for step in (60, 120):
        for shard in save(attempt / "leg-0", step).glob("*optim_states.pt"):
            shard.write_bytes(zipped(20_000))
    (attempt / "leg-0/global_step60" / name).write_bytes(zipped(20_000 - 4097))
    assert completeness(world) == {60: f"{name} has 15903 bytes, 20000 in a later save", 120: ""}


def test_training_logs_by_leg_and_job(world: World, attempt: Path) -> None:
    jobs = attempt / "jobs"
    jobs.mkdir()
    for name in ("l0-n1-train.log", "l0-n0-train.log", "l1-n0-train.log"):
        (jobs / name).write_text(line(7) + "\n")
    for other in ("l0-n0-train.pbs", "l0-n0-convert.log", "x.log", "l0-n0-train.log.numbers.json"):
        (jobs / other).write_text("")
    legs = seen(world).legs
    assert [[log.key.split("/", 3)[3] for log in leg.logs] for leg in legs] == [
        ["l0/n0/train", "l0/n1/train"],
        ["l1/n0/train"],
    ]
    log = legs[0].logs[0]
    assert isinstance(log, TrainLog)
    assert (log.key, log.last[0].iteration, log.windows[0].mean) == (
        f"{CAMPAIGN}/{STAGE}/{ATTEMPT}/l0/n0/train",
        7,
        2.418306,
    )


VALIDATION = " validation loss at iteration 0 on 64-sample draw from validation set | lm loss value={}lm loss PPL=7.4"


def test_evaluations_by_checkpoint_and_set(world: World, attempt: Path) -> None:
    folder = attempt / "evaluations/leg-0-60"
    folder.mkdir(parents=True)
    (folder / "d0.log").write_text("x\n" + VALIDATION.format("2.000001") + "\n---\n")
    (folder / "d1.log").write_text(
        VALIDATION.format("3.5") + "\n" + VALIDATION.format("1.5").replace("valid", "test", 1)
    )
    (folder / "d2.log.part").write_text(VALIDATION.format("9.0"))
    (folder / "d3.log").write_text(VALIDATION.format("nan"))
    (folder / "d4.log").write_text(VALIDATION.format("4.0").replace("validation set", "test set"))
    (folder / "d5.log").write_text("Traceback")
    (attempt / "evaluations/scratch").mkdir()
    (found,) = seen(world).evaluations
    assert (found.leg, found.iteration, dict(found.losses)) == (0, 60, {"d0": 2.000001, "d1": 3.5})


def test_losses_that_were_set_aside_are_counted_and_not_taken(world: World, attempt: Path) -> None:
    for name in ("leg-0-60", "leg-0-60.aside-1", "leg-0-60.aside-2", "leg-1-9.aside-1"):
        (attempt / "evaluations" / name).mkdir(parents=True)
        (attempt / "evaluations" / name / "d0.log").write_text(VALIDATION.format("2.5"))
    found = [(e.leg, e.iteration, dict(e.losses), e.earlier) for e in seen(world).evaluations]
    assert found == [(0, 60, {"d0": 2.5}, 2), (1, 9, {}, 1)]


def universal(attempt: Path, files: dict[str, int]) -> Path:
    source = attempt / "leg-0-source"
    folder = source / "global_step60_universal"
    (folder / "zero").mkdir(parents=True)
    for name, size in files.items():
        (folder / name).write_bytes(bytes(size))
    receipt = {"iteration": 60, "files": {name: {"bytes": size} for name, size in files.items()}}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    (source / "latest_universal").write_text("global_step60_universal")
    return source


@pytest.mark.parametrize(
    ("damage", "converted"),
    [
        ("none", 60),
        ("no pointer", None),
        ("pointer elsewhere", None),
        ("no receipt", None),
        ("receipt of another iteration", None),
        ("receipt is garbage", None),
        ("a file is shorter", None),
        ("a file is gone", None),
        ("a file outside", None),
    ],
)
def test_a_conversion_counts_when_its_receipt_holds(
    world: World, attempt: Path, damage: str, converted: int | None
) -> None:
    source = universal(attempt, {"zero/a.pt": 100, "mp.pt": 50})
    folder = source / "global_step60_universal"
    match damage:
        case "no pointer":
            (source / "latest_universal").unlink()
        case "pointer elsewhere":
            (source / "latest_universal").write_text("../../leg-0")
        case "no receipt":
            (folder / "receipt.json").unlink()
        case "receipt of another iteration":
            (folder / "receipt.json").write_text(json.dumps({"iteration": 59, "files": {"mp.pt": {"bytes": 50}}}))
        case "receipt is garbage":
            (folder / "receipt.json").write_text("[" * 10_000)
        case "a file is shorter":
            (folder / "mp.pt").write_bytes(bytes(49))
        case "a file is gone":
            (folder / "zero/a.pt").unlink()
        case "a file outside":
            (folder / "receipt.json").write_text(
                json.dumps({"iteration": 60, "files": {"../../../recipe.json": {"bytes": 20}}})
            )
        case _:
            assert damage == "none"
    (leg,) = seen(world).legs
    assert (leg.index, leg.converted) == (0, converted)


def test_verdicts_recipe_and_kill_switch(world: World, attempt: Path) -> None:
    (attempt / "verdicts").mkdir()
    (attempt / "verdicts/final.json").write_text('{"é": 1}')
    (attempt / "verdicts/.final.json.new").write_text("half")
    (attempt / "stop").write_text("")
    found = seen(world)
    assert dict(found.verdicts) == {"final": '{"é": 1}'}
    assert found.stop_requested
    assert found.recipe == '{"data_parallel": 2}'


def test_what_harnesses_wrote_is_told_by_name(world: World, attempt: Path) -> None:
    assert seen(world).external == {}
    (attempt / "external").mkdir()
    (attempt / "external/mmlu.json").write_text('{"results": {"é": 1}}')
    (attempt / "external/arc.easy-25.json").write_text("")
    assert dict(seen(world).external) == {"mmlu": '{"results": {"é": 1}}', "arc.easy-25": ""}


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        ("no folder", {}),
        ("names that are none", {}),
        ("a folder, a fifo and links", {}),
        ("not UTF-8", {"mmlu": "{\ufffd}"}),
        ("a large one", {"mmlu": "x" * EXTERNAL_CHARS_MAX}),
        ("too large a one", {"mmlu": "x" * EXTERNAL_CHARS_MAX + "y"}),
        ("too large a one of wide characters", {"mmlu": "é" * (EXTERNAL_CHARS_MAX + 1)}),
        ("a hundred", {f"a{n:02}": str(n) for n in range(16)}),
    ],
)
def test_what_a_harness_may_leave(world: World, attempt: Path, odd: str, read: dict[str, str]) -> None:
    folder = attempt / "external"
    folder.mkdir()
    match odd:
        case "no folder":
            folder.rmdir()
            folder.write_text("{}")
        case "names that are none":
            for name in ("MMLU.json", "-.json", "a-.json", ".json", "mmlu.txt", "mmlu", "a b.json", "a\n.json"):
                (folder / name).write_text("{}")
            (folder / f"{'a' * 64}.json").write_text("{}")
        case "a folder, a fifo and links":
            (folder / "a.json").mkdir()
            os.mkfifo(folder / "b.json")
            (folder / "c.json").symlink_to("/etc/hostname")
            (folder / "d.json").symlink_to("../recipe.json")
            (folder / "e.json").symlink_to("e.json")
        case "not UTF-8":
            (folder / "mmlu.json").write_bytes(b"{\xff}")
        case "a large one":
            (folder / "mmlu.json").write_text("x" * EXTERNAL_CHARS_MAX)
        case "too large a one":
            (folder / "mmlu.json").write_text("x" * EXTERNAL_CHARS_MAX + "yz")
        case "too large a one of wide characters":
            (folder / "mmlu.json").write_text("é" * (2 * EXTERNAL_CHARS_MAX))
        case _:
            for number in range(100):
                (folder / f"a{number:02}.json").write_text(str(number))
    found = seen(world)
    assert (found.unread, dict(found.external)) == ("", read)


def test_the_agent_and_the_reader_agree_on_what_is_too_long() -> None:
    assert EXTERNAL_CHARS_MAX == READ_CHARS_MAX
    assert isinstance(metric("1" * (EXTERNAL_CHARS_MAX + 1), ["x"]), NoNumber)
    assert EXTERNAL.pattern.replace("?:", "") == f"({NAME_PATTERN[1:-1]})" + r"\.json"


@pytest.mark.parametrize(
    "damage",
    ["leg leads out", "checkpoint leads out", "external leads out", "recipe is a link", "recipe is not UTF-8", "fifo"],
)
def test_an_attempt_that_cannot_be_read_says_so_and_hides_no_other(world: World, attempt: Path, damage: str) -> None:
    outside = world.top / "outside"
    save(outside, 60)
    match damage:
        case "leg leads out":
            (attempt / "leg-0").symlink_to(outside)
        case "checkpoint leads out":
            (attempt / "leg-0").mkdir()
            (attempt / "leg-0/global_step60").symlink_to(outside / "global_step60")
        case "external leads out":
            (attempt / "external").symlink_to(outside)
        case "recipe is a link":
            (attempt / "recipe.json").unlink()
            (attempt / "recipe.json").symlink_to(outside / "latest")
        case "recipe is not UTF-8":
            (attempt / "recipe.json").write_bytes(b"\xff")
        case "fifo":
            (attempt / "jobs").mkdir()
            os.mkfifo(attempt / "jobs/l0-n0-train.log")
        case _:
            raise AssertionError(damage)
    other = attempt.with_name("ba9876543210")
    other.mkdir()
    (other / "recipe.json").write_text("{}")
    found = world.observe().attempts
    assert isinstance(found, tuple)
    assert [(a.attempt, bool(a.unread), a.recipe) for a in found] == [
        (ATTEMPT, True, None),
        ("ba9876543210", False, "{}"),
    ]


def test_odd_names_beside_attempts_are_passed_over(world: World, attempt: Path) -> None:
    (world.workspace / CAMPAIGN / "tools").mkdir()
    (world.workspace / CAMPAIGN / "applied.json").write_text("{}")
    (world.workspace / CAMPAIGN / STAGE / "notes").mkdir()
    (attempt.parent / "0123456789AB").mkdir()
    with open(os.fsencode(attempt) + b"/\xff\xfe", "wb"):
        pass
    (attempt / "leg-x").mkdir()
    found = world.observe()
    assert [a.attempt for a in found.attempts] == [ATTEMPT]  # type: ignore[union-attr]
    assert found.applied == "{}"


def test_data_lists_are_read_wherever_they_lie(world: World) -> None:
    folder = world.top / "data"
    folder.mkdir()
    (folder / "list.txt").write_text("0.5 é c\n")
    (folder / "link.txt").symlink_to("list.txt")
    (folder / "latin.txt").write_bytes(b"\xe9")
    (folder / "big.txt").write_bytes(b"x" * (8 * 1024 * 1024 + 1))
    os.mkfifo(folder / "fifo")
    names = ["list.txt", "link.txt", "none.txt", "latin.txt", "big.txt", "fifo", ".", "list.txt/x", "nul\0"]
    lists = world.observe(*(f"{folder}/{name}" for name in names), "relative.txt").lists
    found = {path.removeprefix(f"{folder}/"): value for path, value in lists.items()}
    assert isinstance(found["list.txt"], ListSeen)
    assert found["link.txt"] == found["list.txt"]
    assert found["list.txt"].text == "0.5 é c\n"
    assert isinstance(found["none.txt"], ListAbsent)
    assert isinstance(found["list.txt/x"], ListAbsent)
    for name in ("latin.txt", "big.txt", "fifo", ".", "nul\0", "relative.txt"):
        assert isinstance(found[name], Unread), name


@pytest.mark.parametrize("trouble", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_folder_that_cannot_be_looked_at_is_not_taken_as_absent(
    trouble: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.path.isdir says no to every error: a checkpoint on a stale mount would be trained over."""
    attempts = Attempts(Disk(str(tmp_path)), CAMPAIGN, windows=8)
    (tmp_path / "global_step60").mkdir()
    assert attempts.folders(str(tmp_path), STEP) == ["global_step60"]

    def fails(path: object, **_: object) -> os.stat_result:
        raise OSError(trouble, os.strerror(trouble), str(path))

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(OSError, match=re.escape(os.strerror(trouble))):
        attempts.folders(str(tmp_path), STEP)
