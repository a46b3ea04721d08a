"""A source made elsewhere, as it lies on the cluster: used, refused with the reason, or waited for. Choices stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.observed import CheckpointSeen, FolderAbsent, FolderSeen, Inside, LogPoint, TrainLog, Unread
from reconciler.model.plan import ActionKind
from reconciler.model.recipe import read_recipe
from reconciler.model.status import Phase, Reason
from tests.planner.test_campaign import external
from tests.planner.test_gates import GUESS, points, runs
from tests.planner.world import SAME, World, quickstart, swapped

FOLDER = "/old/run"
WHOLE = CheckpointSeen(500, True, "", 8, inside=Inside(rate=2e-3, rate_max=2e-3))


def looked(folder: FolderSeen | FolderAbsent | Unread, checkpoint: str = "{iteration: 500}") -> World:
    world = external(f"{{path: {FOLDER}, checkpoint: {checkpoint}, format: zero, dataParallel: 8}}")
    return replace(world, folders={FOLDER: folder})


@pytest.mark.parametrize(
    ("folder", "phase", "reason", "told"),
    [
        (Unread("timed out"), Phase.WAITING, Reason.SOURCE_UNREAD, "its source /old/run could not be read: timed out"),
        (FolderAbsent(), Phase.HELD, Reason.SOURCE_UNUSABLE, "its source /old/run is not there"),
        (FolderSeen(), Phase.HELD, Reason.SOURCE_UNUSABLE, "has no complete checkpoint at iteration 500"),
        (
            FolderSeen((replace(WHOLE, complete=False, why_not="an empty file"),)),
            Phase.HELD,
            Reason.SOURCE_UNUSABLE,
            "iteration 500 (incomplete: an empty file)",
        ),
        (
            FolderSeen((replace(WHOLE, data_parallel=4),)),
            Phase.HELD,
            Reason.SOURCE_UNUSABLE,
            "is not what the manifests say: dataParallel is 4 inside, 8 is declared",
        ),
    ],
)
def test_before_anything_is_submitted_the_source_is_looked_at(
    folder: FolderSeen | FolderAbsent | Unread, phase: Phase, reason: Reason, told: str
) -> None:
    made = looked(folder).plan()
    status = made.stages[0]
    assert (made.actions, status.phase, status.reason) == ((), phase, reason)
    assert told in status.message


def test_what_was_chosen_by_a_property_stays_chosen_when_more_is_saved() -> None:
    world = looked(FolderSeen((WHOLE,)), "final")
    action = world.the_action()
    assert action.key.kind is ActionKind.CONVERT
    world.seen(action)
    newer = FolderSeen((WHOLE, replace(WHOLE, iteration=600)))
    later = replace(world, folders={FOLDER: newer}).the_action()
    assert (later.key, later.job) == (action.key, action.job)
    assert looked(newer, "final").the_action().key.attempt != action.key.attempt


def test_a_source_that_is_lost_before_it_was_trained_on_holds_the_stage() -> None:
    world = looked(FolderSeen((WHOLE,)), "final")
    world.seen(world.the_action())
    gone = replace(world, folders={FOLDER: FolderAbsent()}).plan()
    assert (gone.actions, gone.stages[0].reason) == ((), Reason.SOURCE_UNUSABLE)
    assert "is not there any more" in gone.stages[0].message
    unread = replace(world, folders={FOLDER: Unread("timed out")}).plan()
    assert (unread.actions, unread.stages[0].reason) == ((), Reason.SOURCE_UNREAD)


def test_a_stage_may_start_from_a_save_on_the_way_which_stays_chosen_when_it_is_pruned_later() -> None:
    text = "source: {stage: stage-1, checkpoint: pre-cooldown}"
    world = World(quickstart(swapped((text, text.replace("pre-cooldown", "{iteration: 1200}")))))
    world.finish_stage(SAME)
    held = world.plan().stages[1]
    assert (held.phase, held.reason) == (Phase.HELD, Reason.SOURCE_UNUSABLE)
    assert "stage-1 has no checkpoint at iteration 1200; there is leg 0 at iteration 1954 (0.002, " in held.message
    ((name, seen),) = world.attempts.items()
    (leg,) = seen.legs
    more = replace(leg, checkpoints=(CheckpointSeen(1200, True), *leg.checkpoints))
    world.attempts[name] = replace(seen, legs=(more,))
    action = world.until(ActionKind.CONVERT)
    assert action.job is not None
    assert str(action.job.values["source"]).endswith("/leg-0/global_step1200")
    recipe = read_recipe(world.seen(action).recipe or "")
    assert recipe is not None
    source = recipe.source
    assert (source.iteration, source.position, source.rate) == (1200, 1200, 2e-3)
    world.attempts[name] = seen
    assert world.plan().stages[1].attempt == action.key.attempt


def test_the_first_losses_are_compared_with_those_in_the_log_of_a_source_made_elsewhere() -> None:
    text = "{path: /old/run, log: /old/run.log, checkpoint: {iteration: 500}, format: zero, dataParallel: 1}"
    logged = TrainLog("", last=tuple(LogPoint(480 + step, 2.4, 2e-3) for step in range(20)))
    world = replace(external(text), logs={"/old/run.log": logged})
    assert world.desired.asked_logs() == ("/old/run.log",)
    action = runs(world, points(GUESS, 1))
    message = world.status("stage-1").message
    assert world.status("stage-1").reason is Reason.LOAD_DISCONTINUOUS
    assert "before it they averaged 2.400" in message
    assert world.the_action().key.kind is ActionKind.STOP
    better = replace(external(text), logs={"/old/run.log": logged})
    assert runs(better, points(2.5, 1)).key == action.key
    assert better.status("stage-1").reason is Reason.JOB_LIVE
