"""Down the ladder: a failed rung, the next from the stage's source, the ladder's end, and the campaign's policy."""

from __future__ import annotations

import pytest

from reconciler.model.plan import ActionKind
from reconciler.model.status import Phase, Reason
from tests.planner.world import FORGOT_D0, SAME, World, after, launch_of, quickstart, swapped

TRAIN, JUDGE, EVALUATE = ActionKind.TRAIN, ActionKind.JUDGE, ActionKind.EVALUATE

HOLD = ("onFailedGate: advance", "onFailedGate: hold")
ON_TOP = ("    - name: naive\n      legs:\n        - mixture: {D1: 1}\n", "    - name: replay-9\n      legs:\n"
          "        - mixture: {D0: 0.09, D1: 0.91}\n          lr: {shape: constant}\n"
          "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n")  # fmt: skip
MOVED_UP = (
    "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n"
    "    - name: replay-5\n      legs:\n        - mixture: {D0: 0.05, D1: 0.95}\n          lr: {shape: constant}\n",
    "    - name: replay-5\n      legs:\n        - mixture: {D0: 0.05, D1: 0.95}\n          lr: {shape: constant}\n"
    "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n",
)


def rungs(world: World, stage: str) -> list[tuple[str, str]]:
    return [(rung.strategy, rung.outcome) for rung in world.status(stage).rungs]


def test_forgetting_fails_a_rung_and_the_next_starts_from_the_stage_s_source() -> None:
    world = after(2)
    first = world.until(TRAIN)
    assert world.finish_stage(FORGOT_D0) == [TRAIN, EVALUATE, JUDGE]
    second = world.the_action()
    assert (second.key.kind, second.key.ended) == (TRAIN, 0)
    assert second.key.attempt != first.key.attempt
    source = f"/w/quickstart/stage-2/{world.plan().stages[1].attempt}/leg-0"
    loads = [launch_of(action)[0]["LOAD"] for action in (first, second)]
    assert loads == [source, source]
    assert {"--load-tag=global_step977", "--reset-iteration"} <= set(launch_of(second)[1])
    assert rungs(world, "stage-3") == [("naive", "failed"), ("replay-30", "untried")]
    message = world.status("stage-3").rungs[0].message
    assert message == "val-D0 +0.310 nats (2.000 → 2.310), more than 0.30"


def test_the_rung_that_holds_makes_the_stage_done_and_feeds_the_next() -> None:
    world = after(2)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    assert world.status("stage-3").phase is Phase.DONE
    assert rungs(world, "stage-3") == [("naive", "failed"), ("replay-30", "passed")]
    held = world.status("stage-3").attempt
    convert = world.the_action()
    assert convert.job is not None
    assert convert.job.values["source"] == f"/w/quickstart/stage-3/{held}/leg-0/global_step733"


def test_an_exhausted_ladder_holds_and_later_stages_wait() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(FORGOT_D0)
    made = world.plan()
    assert made.actions == ()
    assert (made.stages[1].phase, made.stages[1].reason) == (Phase.HELD, Reason.LADDER_EXHAUSTED)
    assert "(2 tried)" in made.stages[1].message
    assert rungs(world, "stage-2") == [("naive", "failed"), ("replay-5", "failed")]
    assert made.stages[2].message == "waits for stage-2, which is held"


def test_a_bound_on_attempts_holds_before_the_ladder_ends() -> None:
    world = after(2, quickstart(swapped(("attemptsPerStage: 3", "attemptsPerStage: 2"))))
    world.finish_stage(FORGOT_D0)
    assert world.the_action().key.kind is TRAIN
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-3")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.LADDER_EXHAUSTED)
    assert "2 attempts failed, which is the campaign's bound" in status.message
    assert world.plan().actions == ()


@pytest.mark.parametrize("policy", ["hold", "propose"])
def test_a_campaign_may_hold_on_a_failed_gate(policy: str) -> None:
    world = after(1, quickstart(swapped(("onFailedGate: advance", f"onFailedGate: {policy}"))))
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-2")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.GATE_HOLDS, ())
    assert "naive failed: val-D0 +0.310" in status.message
    assert f"The campaign says {policy}" in status.message
    assert "move replay-5 to the top of the ladder of stage-2" in status.message


def test_doing_what_that_hold_says_goes_on() -> None:
    world = after(1, quickstart(swapped(HOLD)))
    world.finish_stage(FORGOT_D0)
    moved = world.wanting(quickstart(swapped(HOLD, MOVED_UP)))
    assert rungs(moved, "stage-2") == [("replay-5", "untried")]
    moved.finish_stage(SAME)
    assert moved.status("stage-2").phase is Phase.DONE


def test_a_hold_asks_for_no_rung_that_has_failed_too() -> None:
    """It asked for the two in turn, for ever."""
    world = after(1, quickstart(swapped(HOLD)))
    world.finish_stage(FORGOT_D0)
    moved = world.wanting(quickstart(swapped(HOLD, MOVED_UP)))
    moved.finish_stage(FORGOT_D0)
    for each in (moved, moved.wanting(quickstart(swapped(HOLD)))):
        status = each.status("stage-2")
        assert (status.phase, status.reason) == (Phase.HELD, Reason.LADDER_EXHAUSTED)
        assert "(2 tried)" in status.message


def test_a_rung_put_above_a_done_one_does_not_restart_the_stage() -> None:
    world = after(2).wanting(quickstart(swapped(ON_TOP)))
    status = world.status("stage-2")
    assert (status.phase, status.strategy) == (Phase.DONE, "naive")
    assert rungs(world, "stage-2") == [("replay-9", "skipped"), ("naive", "passed")]
    assert world.the_action().key.stage == "stage-3"
    assert world.plan().refusals == ()


def test_a_rung_put_above_a_running_one_waits_for_it() -> None:
    world = after(1)
    action = world.until(TRAIN)
    world.trained(action, 300)
    edited = world.wanting(quickstart(swapped(ON_TOP)))
    assert edited.the_action().key.attempt == action.key.attempt
    assert rungs(edited, "stage-2") == [("replay-9", "skipped"), ("naive", "running")]


def test_a_rung_put_above_a_failed_one_is_tried() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(FORGOT_D0)
    edited = world.wanting(quickstart(swapped(ON_TOP)))
    assert rungs(edited, "stage-2")[0] == ("replay-9", "untried")
    assert edited.the_action().key.kind is ActionKind.CONVERT


def test_rungs_that_were_skipped_are_no_failed_attempts() -> None:
    bound = ("attemptsPerStage: 3", "attemptsPerStage: 2")
    more = (
        "    - name: replay-5\n",
        "    - name: replay-7\n      legs:\n        - mixture: {D0: 0.07, D1: 0.93}\n          lr: {shape: constant}\n"
        "    - name: replay-5\n",
    )
    world = after(1, quickstart(swapped(bound, more)))
    world.finish_stage(FORGOT_D0)
    world.until(TRAIN)
    world.trained(world.the_action(), 300)
    edited = world.wanting(quickstart(swapped(bound, more, ON_TOP)))
    assert rungs(edited, "stage-2") == [("replay-9", "skipped"), ("naive", "failed"), ("replay-7", "running")]


def test_a_rung_added_below_continues_an_exhausted_ladder() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(FORGOT_D0)
    below = (
        "        - mixture: {D0: 0.05, D1: 0.95}\n          lr: {shape: constant}\n",
        "        - mixture: {D0: 0.05, D1: 0.95}\n          lr: {shape: constant}\n    - name: replay-25\n      legs:\n"
        "        - mixture: {D0: 0.25, D1: 0.75}\n          lr: {shape: constant}\n",
    )
    added = world.wanting(quickstart(swapped(below)))
    assert rungs(added, "stage-2")[2] == ("replay-25", "untried")
    added.finish_stage(SAME)
    assert added.status("stage-2").phase is Phase.DONE


def test_a_failed_rung_taken_off_the_ladder_leaves_the_rest() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    gone = (
        "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n"
        "    - name: replay-5\n",
        "    - name: replay-5\n",
    )
    left = world.wanting(quickstart(swapped(gone)))
    assert rungs(left, "stage-2") == [("replay-5", "untried")]
    assert left.plan().refusals == ()


def test_the_buffer_and_replay_use_the_rung_that_held() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    world.finish_stage(FORGOT_D0)
    forecast = world.plan().forecasts[2]
    assert forecast.strategy == "replay-30"
    assert dict(forecast.legs[0].mixture) == {"D0": "3/200", "D1": "57/200", "D2": "7/10"}


def test_a_baseline_of_the_source_stage_is_used_and_not_measured_again() -> None:
    world = after(1, losses=SAME | {"val-D0": 1.0})
    world.until(TRAIN)
    assert world.status("stage-2").losses_before["val-D0"] == 1.0
    # +0.09 would pass against 2.0 measured anywhere else; against 1.0 it is +1.09.
    world.finish_stage(SAME | {"val-D0": 2.09})
    assert rungs(world, "stage-2")[0] == ("naive", "failed")


# --- conditions

REPLAY_30 = "    - name: replay-30\n"
MIX_A = "    - name: mix-a\n      legs:\n        - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}\n"
COOLDOWN_A = "    - name: cooldown-mix-a\n"
COOLDOWN_B = "    - name: cooldown-mix-b\n"


def only_if(rung: str, condition: str) -> tuple[str, str]:
    """An edit: a rung gets a condition."""
    first, rest = rung.split("\n", 1)
    return rung, f"{first}\n      if: {condition}\n{rest}"


@pytest.mark.parametrize(
    ("condition", "next_rung"),
    [("forgetting", "replay-30"), ("no-recovery", "mix-a"), ("divergence", "mix-a")],
)
def test_a_rung_is_tried_only_after_the_failure_it_names(condition: str, next_rung: str) -> None:
    world = after(2, quickstart(swapped(only_if(REPLAY_30, condition))))
    world.finish_stage(FORGOT_D0)
    assert world.status("stage-3").strategy == next_rung
    skipped = [rung for rung in world.status("stage-3").rungs if rung.outcome == "skipped"]
    gate = {"no-recovery": "recovery"}.get(condition, condition)
    why = f"only after a rung before it failed the {gate} gate; none did"
    assert [(rung.strategy, rung.message) for rung in skipped] == (
        [] if next_rung == "replay-30" else [("replay-30", why)]
    )


def test_any_rung_before_it_may_be_the_one_that_failed() -> None:
    world = after(2, quickstart(swapped(only_if(MIX_A, "forgetting"))))
    world.finish_stage(FORGOT_D0)
    world.finish_stage(FORGOT_D0)
    assert world.status("stage-3").strategy == "mix-a"


def test_a_skipped_rung_is_no_failed_attempt_and_no_end_of_the_ladder() -> None:
    edits = only_if(REPLAY_30, "divergence"), ("attemptsPerStage: 3", "attemptsPerStage: 2")
    world = after(2, quickstart(swapped(*edits)))
    world.finish_stage(FORGOT_D0)
    assert world.the_action().key.kind is TRAIN
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-3")
    assert (status.reason, status.strategy) == (Reason.LADDER_EXHAUSTED, "mix-a")
    assert "(2 tried)" in status.message


@pytest.mark.parametrize("policy", ["hold", "propose"])
def test_a_hold_names_the_next_rung_whose_condition_holds(policy: str) -> None:
    edits = only_if(REPLAY_30, "divergence"), only_if(MIX_A, "forgetting")
    world = after(2, quickstart(swapped(*edits, ("onFailedGate: advance", f"onFailedGate: {policy}"))))
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-3")
    assert status.reason is Reason.GATE_HOLDS
    assert "move mix-a to the top of the ladder of stage-3 without its `if`" in status.message


def test_a_rung_that_has_begun_goes_on_though_its_condition_holds_no_more() -> None:
    world = after(2)
    world.finish_stage(FORGOT_D0)
    world.trained(world.until(TRAIN), 300)
    edited = world.wanting(quickstart(swapped(only_if(REPLAY_30, "divergence"))))
    assert edited.status("stage-3").strategy == "replay-30"
    assert edited.the_action().key.ended == 1


USED_REPLAY = "{stage: stage-3, used: [replay-30]}"


@pytest.mark.parametrize(
    ("replayed", "strategy"), [(True, "cooldown-mix-a"), (False, "cooldown-mix-b")], ids=["used", "not used"]
)
def test_a_rung_may_hang_on_how_an_earlier_stage_was_done(replayed: bool, strategy: str) -> None:
    world = after(2, quickstart(swapped(only_if(COOLDOWN_A, USED_REPLAY))))
    if replayed:
        world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    status = world.status("stage-4")
    assert status.strategy == strategy
    if not replayed:
        assert status.rungs[0].message == "only if stage-3 was done by replay-30; it was done by naive"


def test_a_forecast_takes_the_rung_that_is_tried_if_nothing_fails() -> None:
    world = after(1, quickstart(swapped(only_if(COOLDOWN_A, USED_REPLAY))))
    assert {f.stage: f.strategy for f in world.plan().forecasts}["stage-4"] == "cooldown-mix-b"


def test_a_ladder_without_a_rung_to_try_holds_and_says_why_of_each() -> None:
    edits = only_if(COOLDOWN_A, USED_REPLAY), only_if(COOLDOWN_B, "{stage: stage-3, used: [mix-a]}")
    world = after(2, quickstart(swapped(*edits)))
    assert "none of its strategies would be tried as things stand" in world.status("stage-4").message
    world.finish_stage(SAME)
    status = world.status("stage-4")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.LADDER_EXHAUSTED, ())
    assert "cooldown-mix-a: only if stage-3 was done by replay-30; it was done by naive" in status.message
    assert "Add one whose condition holds" in status.message


# --- rungs that cannot be resolved

CONVERGED = "{stage: stage-2, checkpoint: converged}"


def test_a_rung_without_a_source_matters_only_when_it_is_reached() -> None:
    waived = "waive: [{rule: CPT001, reason: an earlier stage that holds on another rung may have one}]"
    rung = "    - name: replay-30\n      legs:\n"
    lost = (rung, f"    - name: replay-30\n      source: {CONVERGED}\n      {waived}\n      legs:\n")
    world = after(2, quickstart(swapped(lost)))
    assert world.the_action().key.stage == "stage-3"
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.SOURCE_UNUSABLE, ())
    assert "no converged checkpoint" in status.message
    assert [(rung.strategy, rung.outcome) for rung in status.rungs] == [("naive", "failed"), ("replay-30", "untried")]


def test_a_rung_starts_from_its_own_source_and_is_compared_with_that() -> None:
    other = (
        "    - name: replay-30\n      legs:\n",
        "    - name: replay-30\n      source: {stage: stage-1}\n      legs:\n",
    )
    world = after(1, quickstart(swapped(other)), losses=SAME | {"val-D0": 1.0})
    world.finish_stage(SAME | {"val-D0": 1.0})
    world.finish_stage(FORGOT_D0)
    convert = world.until(ActionKind.CONVERT)
    assert convert.job is not None
    source = f"/w/quickstart/stage-1/{world.status('stage-1').attempt}/leg-0/global_step1954"
    assert (world.status("stage-3").strategy, convert.job.values["source"]) == ("replay-30", source)
    world.until(TRAIN)
    assert world.status("stage-3").losses_before["val-D0"] == 1.0
