"""Folders are set aside by one rename, deleted later, and left alone whenever anything is not as it was planned."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cluster.batch import Outcome, OutcomeKind
from reconciler.model.observed import LegSeen
from reconciler.model.plan import Action, ActionKey, ActionKind
from reconciler.model.upkeep import Delete, Folder, Prune, Repair, Upkeep
from tests.cluster.test_agent_attempts import save, seen
from tests.cluster.world import ATTEMPT, CAMPAIGN, FOLDER, STAGE, World, train

OTHER = "ba9876543210"
RECIPE = {"data_parallel": 2, "source": {"attempt": "", "leg": 0, "iteration": 0, "external": ""}, "legs": []}


@pytest.fixture
def leg(world: World) -> Path:
    """A leg with three saves, the newest the one that counts."""
    recipe(world, FOLDER)
    for step in (50, 100, 150):
        save(world.attempt / "leg-0", step)
    return world.attempt / "leg-0"


def recipe(world: World, folder: str, **source: object) -> Path:
    """A recipe with this source."""
    path = world.workspace / folder / "recipe.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**RECIPE, "source": {**RECIPE["source"], **source}}))  # type: ignore[dict-item]
    return path


def of(kind: ActionKind, upkeep: Upkeep, detail: str = "") -> Action:
    return Action(ActionKey(CAMPAIGN, STAGE, ATTEMPT, 0, 0, kind, detail), "NotNeeded", "", upkeep=upkeep)


def leg_seen(world: World) -> LegSeen:
    return next(leg for leg in seen(world).legs if leg.index == 0)


def prune(world: World, *steps: int, spared: tuple[str, ...] = (), settle_s: float = 0.0) -> Action:
    """What the planner makes of a look: these steps of the leg."""
    there = {checkpoint.iteration: checkpoint.identity for checkpoint in leg_seen(world).checkpoints}
    folders = tuple(Folder(f"{FOLDER}/leg-0/global_step{step}", 1, "old", there[step]) for step in steps)
    return of(ActionKind.PRUNE, Prune(folders, spared, settle_s), f"steps{'-'.join(map(str, steps))}")


def deletion(world: World) -> Action:
    aside = tuple(Folder(f"{FOLDER}/{each.path}", each.size_bytes, "set aside") for each in leg_seen(world).pruned)
    return of(ActionKind.DELETE, Delete(aside), "all")


def one(outcomes: tuple[Outcome, ...]) -> tuple[OutcomeKind, str]:
    (outcome,) = outcomes
    return outcome.kind, outcome.message


def steps(leg: Path) -> list[str]:
    return sorted(re.sub("[0-9a-f]{16}", "ID", path.name) for path in leg.iterdir() if path.is_dir())


WHOLE = ["global_step100", "global_step150", "global_step50"]


def test_a_folder_is_set_aside_and_then_deleted(world: World, leg: Path) -> None:
    assert one(world.execute(prune(world, 50, 100))) == ("done", "2 set aside")
    assert steps(leg) == [".pruned-ID-global_step100", ".pruned-ID-global_step50", "global_step150"]
    assert [(c.iteration, c.complete) for c in leg_seen(world).checkpoints] == [(150, True)]
    assert sum(aside.size_bytes for aside in leg_seen(world).pruned) == 2 * 7000
    assert one(world.execute(deletion(world))) == ("done", "2 deleted")
    assert steps(leg) == ["global_step150"]
    assert leg_seen(world).pruned == ()


def test_what_is_going_to_be_done_is_in_the_journal_with_what_came_of_it(world: World, leg: Path) -> None:
    world.execute(prune(world, 50))
    (entry,) = [json.loads(path.read_text()) for path in (world.workspace / ".journal").glob("*prune*.json")]
    assert (entry["state"], entry["folders"]) == ("done", [f"{FOLDER}/leg-0/global_step50"])
    assert (entry["applied_by"], entry["commit"]) == ("ada@desk:1", "c0ffee")


def test_a_folder_can_be_named_back_until_it_is_deleted(world: World, leg: Path) -> None:
    world.execute(prune(world, 50))
    (aside,) = leg.glob(".pruned-*")
    aside.rename(leg / "global_step50")
    assert [c.complete for c in leg_seen(world).checkpoints] == [True, True, True]


def test_the_same_action_again_does_nothing_more(world: World, leg: Path) -> None:
    action = prune(world, 50)
    world.execute(action)
    kind, told = one(world.execute(action))
    assert (kind, told) == ("forbidden", f"{FOLDER}/leg-0/global_step50 is not there any more")
    assert steps(leg) == [".pruned-ID-global_step50", "global_step100", "global_step150"]


# --- what is looked at again ------------------------------------------------------------------------------------------


def newest_gone(world: World, leg: Path) -> None:
    (leg / "global_step150" / "mp_rank_00_model_states.pt").unlink()
    (leg / "global_step100" / "mp_rank_00_model_states.pt").unlink()


def cut(world: World, leg: Path) -> None:
    for step in (100, 150):
        shard = leg / f"global_step{step}" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
        shard.write_bytes(shard.read_bytes()[:-1])


def named(world: World, leg: Path) -> None:
    (leg / "latest").write_text("global_step50")


def written_again(world: World, leg: Path) -> None:
    shard = leg / "global_step50" / "mp_rank_00_model_states.pt"
    shard.write_bytes(shard.read_bytes())


def another_folder(world: World, leg: Path) -> None:
    (leg / "global_step50").rename(leg / "mine")
    save(leg, 50, tracker="150")
    (leg / "latest").write_text("global_step150")


def live(world: World, leg: Path) -> None:
    assert one(world.execute(replace(train(), files=())))[0] == "done"


def a_file_beside(world: World, leg: Path) -> None:
    (leg / "global_step50" / "notes.txt").write_text("mine")


CHANGES = {
    newest_gone: "no newer checkpoint of leg 0 has been complete for long",
    cut: "no newer checkpoint of leg 0 has been complete for long",
    named: "`latest` names ",
    written_again: "is not as it was seen",
    another_folder: "is not as it was seen",
    a_file_beside: "is not as it was seen",
    live: "job 1.small of the same attempt is alive",
}


@pytest.mark.parametrize(("change", "told"), CHANGES.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_what_has_changed_since_the_look_stays(
    world: World, leg: Path, change: Callable[[World, Path], None], told: str
) -> None:
    action = prune(world, 50)
    change(world, leg)
    kind, message = one(world.execute(action))
    assert (kind, told in message) == ("forbidden", True), message
    assert "global_step50" in steps(leg)


def test_a_job_table_that_cannot_be_read_leaves_all_as_it_is(world: World, leg: Path) -> None:
    action = prune(world, 50)
    (world.top / "bin" / "qselect").write_text("#!/bin/sh\nexit 1\n")
    kind, message = one(world.execute(action))
    assert (kind, "the job table could not be read" in message) == ("forbidden", True), message
    assert steps(leg) == WHOLE


def test_what_was_just_saved_makes_nothing_needless_yet(world: World, leg: Path) -> None:
    kind, message = one(world.execute(prune(world, 50, settle_s=600.0)))
    assert (kind, "no newer checkpoint" in message) == ("forbidden", True), message


# --- what something starts from ---------------------------------------------------------------------------------------


def by_a_recipe(world: World, leg: Path) -> tuple[str, ...]:
    recipe(world, f"{CAMPAIGN}/stage-2/{OTHER}", attempt=ATTEMPT, leg=0, iteration=50)
    return ()


def by_another_campaign(world: World, leg: Path) -> tuple[str, ...]:
    recipe(world, f"other/stage-9/{OTHER}", external=str(leg), iteration=50)
    return ()


def by_a_link(world: World, leg: Path) -> tuple[str, ...]:
    (world.top / "elsewhere").symlink_to(leg)
    recipe(world, f"other/stage-9/{OTHER}", external=str(world.top / "elsewhere"), iteration=50)
    return ()


def by_a_manifest(world: World, leg: Path) -> tuple[str, ...]:
    (world.top / "elsewhere").symlink_to(leg.parent.parent)
    return (str(world.top / "elsewhere"),)


def by_nobody_knows_what(world: World, leg: Path) -> tuple[str, ...]:
    recipe(world, f"other/stage-9/{OTHER}").write_text("{")
    return ()


@pytest.mark.parametrize(
    "name", [by_a_recipe, by_another_campaign, by_a_link, by_a_manifest, by_nobody_knows_what], ids=lambda f: f.__name__
)
def test_what_something_starts_from_stays_for_good(
    world: World, leg: Path, name: Callable[[World, Path], tuple[str, ...]]
) -> None:
    action = prune(world, 50, spared=name(world, leg))
    kind, message = one(world.execute(action))
    assert kind == "refused", message
    assert steps(leg) == WHOLE
    receipts = world.observe().receipts
    assert isinstance(receipts, tuple)
    assert [receipt.failed for receipt in receipts] == [message]
    assert one(world.execute(action))[0] == "refused"
    kind, again = one(world.execute(action, retry=True))
    assert (kind, again) == ("refused", message), "it is looked at anew"


def test_the_others_go_where_one_of_them_must_stay(world: World, leg: Path) -> None:
    by_a_recipe(world, leg)
    kind, message = one(world.execute(prune(world, 50, 100)))
    assert (kind, message.startswith("1 set aside; ")) == ("done", True), message
    assert steps(leg) == [".pruned-ID-global_step100", "global_step150", "global_step50"]


# --- hostile names and links ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        f"{FOLDER}/leg-0",
        f"{FOLDER}/leg-0/../leg-0/global_step50",
        f"{CAMPAIGN}/{STAGE}/{OTHER}/leg-0/global_step50",
        "/etc",
    ],
)
def test_only_checkpoints_of_the_attempt_are_set_aside(world: World, leg: Path, path: str) -> None:
    action = of(ActionKind.PRUNE, Prune((Folder(path, 1, "", "0" * 16),)))
    assert one(world.execute(action)) == ("refused", f"{path} is no checkpoint of the attempt")
    aside = of(ActionKind.DELETE, Delete((Folder(path, 1, ""),)))
    assert one(world.execute(aside)) == ("refused", f"{path} was not set aside")
    assert steps(leg) == WHOLE


@pytest.mark.parametrize("part", ["leg-0", f"{ATTEMPT}", "global_step50"])
def test_nothing_is_set_aside_through_a_link(world: World, leg: Path, part: str) -> None:
    """Somebody moves a folder away and leaves a link to it, which may lead anywhere."""
    action = prune(world, 50)
    path = leg / "global_step50"
    while path.name != part:
        path = path.parent
    path.rename(world.workspace / "moved")
    path.symlink_to(world.workspace / "moved")
    assert one(world.execute(action))[0] in ("refused", "forbidden")
    assert (leg / "global_step50" / "mp_rank_00_model_states.pt").exists()


def test_a_link_among_what_is_deleted_goes_and_what_it_leads_to_stays(world: World, leg: Path) -> None:
    world.execute(prune(world, 50))
    (aside,) = leg.glob(".pruned-*")
    precious = world.top / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (aside / "link").symlink_to(precious)
    (aside / "zero").mkdir()
    (aside / "zero" / "link").symlink_to(precious / "file")
    assert one(world.execute(deletion(world))) == ("done", "1 deleted")
    assert (steps(leg), (precious / "file").read_text()) == (["global_step100", "global_step150"], "mine")


def test_a_link_in_the_place_of_what_was_set_aside_is_not_followed(world: World, leg: Path) -> None:
    world.execute(prune(world, 50))
    (aside,) = leg.glob(".pruned-*")
    aside.rename(world.top / "kept")
    aside.symlink_to(world.top / "kept")
    kind, message = one(world.execute(deletion(world)))
    assert (kind, "through a link" in message) == ("refused", True), message
    assert len(list((world.top / "kept").iterdir())) == 3


def test_what_cannot_be_deleted_keeps_nothing_else_and_is_told_by_its_path(world: World, leg: Path) -> None:
    """Anybody who may write into the leg can lay a link or a deep tree there."""
    world.execute(prune(world, 50))
    (leg / ".pruned-0123456789abcdef-global_step7").symlink_to(world.top)
    (leg / ".pruned-0123456789abcdef-global_step8" / "/".join("abcdefghij")).mkdir(parents=True)
    kind, message = one(world.execute(deletion(world)))
    assert (kind, message.split("; ")) == (
        "done",
        [
            "1 deleted",
            f"{FOLDER}/leg-0/.pruned-0123456789abcdef-global_step7: "
            ".pruned-0123456789abcdef-global_step7 leads through a link, or is no folder",
            f"{FOLDER}/leg-0/.pruned-0123456789abcdef-global_step8: folders lie deeper in it than in a checkpoint",
            "delete it by hand",
        ],
    )
    assert (
        one(world.execute(replace(deletion(world), key=replace(deletion(world).key, detail="again"))))[0] == "refused"
    )
    assert world.top.is_dir()


def test_a_folder_with_what_the_launcher_does_not_write_has_no_identity(world: World, leg: Path) -> None:
    (leg / "global_step50" / "notes.txt").write_text("mine")
    (leg / "global_step100" / "more.pt").symlink_to(leg / "latest")
    assert [bool(c.identity) for c in leg_seen(world).checkpoints] == [False, False, True]


# --- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, sys
def after(number, name, real):
    left = [number]
    def called(*arguments, **named):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return real(*arguments, **named)
    setattr(os, name, called)
after(int(os.environ["AFTER"]), os.environ["CALL"], getattr(os, os.environ["CALL"]))
"""


@pytest.mark.parametrize(("call", "after"), [("rename", 2), ("rename", 3), ("fsync", 5)])
def test_a_kill_while_folders_are_set_aside_loses_nothing(world: World, leg: Path, call: str, after: int) -> None:
    running = world.started(world.batch(prune(world, 50, 100)), KILLED, AFTER=str(after), CALL=call)
    assert running.finish()[0] == -9
    left = [c.iteration for c in leg_seen(world).checkpoints]
    assert left[-1] == 150
    assert len(left) + len(leg_seen(world).pruned) == 3
    if left != [150]:
        assert one(world.execute(prune(world, *left[:-1])))[0] == "done"
    assert one(world.execute(deletion(world)))[0] == "done"
    assert steps(leg) == ["global_step150"]


@pytest.mark.parametrize("after", [0, 4])
def test_a_kill_while_folders_are_deleted_is_gone_on_with(world: World, leg: Path, after: int) -> None:
    world.execute(prune(world, 50, 100))
    running = world.started(world.batch(deletion(world)), KILLED, AFTER=str(after + 1), CALL="unlink")
    assert running.finish()[0] == -9
    assert one(world.execute(deletion(world)))[0] == "done"
    assert steps(leg) == ["global_step150"]


def test_an_interrupted_upkeep_keeps_no_job_back(world: World, leg: Path) -> None:
    running = world.started(world.batch(prune(world, 50, 100)), KILLED, AFTER="3", CALL="rename")
    assert running.finish()[0] == -9
    action = replace(train(), files=())
    assert one(world.execute(action))[0] == "done"


# --- latest -----------------------------------------------------------------------------------------------------------


def ahead(leg: Path) -> None:
    """A save that was cut off: `latest` names it, the tracker does not yet."""
    save(leg, 200, tracker="150")
    next((leg / "global_step200").glob("bf16*")).unlink()


def repair(was: int | None = 200, newest: int = 150) -> Action:
    return of(ActionKind.REPAIR, Repair(f"{FOLDER}/leg-0", was, newest))


def test_a_pointer_that_is_ahead_is_set_back_to_the_newest_complete_checkpoint(world: World, leg: Path) -> None:
    ahead(leg)
    assert (leg_seen(world).latest, leg_seen(world).tracker) == (200, 150)
    assert one(world.execute(repair())) == ("done", "")
    assert (leg / "latest").read_text() == "global_step150"
    assert one(world.execute(repair())) == ("done", "")
    assert "global_step200" in steps(leg)


@pytest.mark.parametrize("text", ["", None])
def test_a_pointer_that_names_nothing_is_written_again(world: World, leg: Path, text: str | None) -> None:
    (leg / "latest").unlink() if text is None else (leg / "latest").write_text(text)
    assert one(world.execute(repair(was=None if text is None else 0))) == ("done", "")
    assert (leg / "latest").read_text() == "global_step150"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (live, "job 1.small of the same attempt is alive"),
        (lambda world, leg: save(leg, 250), "the newest complete checkpoint of leg 0 is 250 now"),
        (lambda world, leg: (leg / "latest").write_text("global_step100"), "`latest` of leg 0 names 100 now"),
    ],
)
def test_a_pointer_is_left_alone_when_something_has_changed(
    world: World, leg: Path, change: Callable[[World, Path], object], told: str
) -> None:
    ahead(leg)
    change(world, leg)
    before = (leg / "latest").read_text()
    kind, message = one(world.execute(repair()))
    assert (kind, told in message) == ("forbidden", True), message
    assert (leg / "latest").read_text() == before


def test_a_universal_copy_goes_with_all_that_is_in_it(world: World, leg: Path) -> None:
    copy = world.attempt / "leg-0-source" / "global_step9_universal"
    (copy / "zero" / "weight").mkdir(parents=True)
    (copy / "zero" / "weight" / "fp32.pt").write_bytes(b"x" * 10)
    receipt = {"iteration": 9, "files": {"zero/weight/fp32.pt": {"bytes": 10}}}
    (copy / "receipt.json").write_text(json.dumps(receipt))
    (copy.parent / "latest_universal").write_text(copy.name)
    found, told = leg_seen(world), (copy / "receipt.json").stat().st_size
    assert (found.converted, found.copy_bytes, bool(found.copy_identity)) == (9, 10 + told, True)
    folder = Folder(f"{FOLDER}/leg-0-source/{copy.name}", 10, "", found.copy_identity)
    assert one(world.execute(of(ActionKind.PRUNE, Prune((folder,)))))[0] == "done"
    assert leg_seen(world).converted is None
    assert one(world.execute(deletion(world)))[0] == "done"
    assert [path.name for path in copy.parent.iterdir()] == ["latest_universal"]
