"""Gates in the life of an attempt: bad loads, evaluations between jobs, early ends, targets, and waiting for others."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from reconciler.model.observed import CheckpointSeen, LogPoint, LogWindow, TrainLog
from reconciler.model.plan import Action, ActionKind
from reconciler.model.status import Phase, Reason
from reconciler.model.verdict import GateResult, Level, Verdict, read_verdict
from reconciler.planner.checks import judge
from tests.planner.world import FORGOT_D0, NOW_S, SAME, World, after, log_of, quickstart, swapped

TRAIN, EVALUATE, CONVERT, JUDGE, STOP = (
    ActionKind.TRAIN,
    ActionKind.EVALUATE,
    ActionKind.CONVERT,
    ActionKind.JUDGE,
    ActionKind.STOP,
)
GUESS = math.log(257)


def points(loss: float, first: int, count: int = 20) -> tuple[LogPoint, ...]:
    return tuple(LogPoint(first + i, loss, 1e-3) for i in range(count))


def runs(world: World, first: tuple[LogPoint, ...], **log: object) -> Action:
    """The next training job runs, and these are its first lines."""
    action = world.until(TRAIN)
    world.submit(action)
    logs = next((leg.logs for leg in world.seen(action).legs if leg.index == action.key.leg), ())
    made = TrainLog(str(action.key), first=first, last=first, **log)  # type: ignore[arg-type]
    world.leg(action, logs=(*logs, made))
    return action


def ends(world: World) -> None:
    world.end(world.jobs[-1].job_id)


def gate(action: Action, name: str) -> GateResult:
    """What a gate says in the verdict that an action writes."""
    assert action.key.kind is JUDGE
    verdict = read_verdict(next(file.text for file in action.files if "/verdicts/" in file.path))
    assert verdict is not None
    (found,) = [result for result in verdict.gates if result.gate == name]
    return found


# --- continuity


def test_a_resume_that_does_not_go_on_where_it_was_is_stopped_then_held() -> None:
    world = after(1)
    before = world.until(TRAIN)
    world.trained(before, 500)
    action = runs(world, points(2.9, 501), loaded_iteration=500)
    stop = world.the_action()
    assert (stop.key, stop.reason) == (replace(action.key, kind=STOP), Reason.LOAD_DISCONTINUOUS)
    assert "first 20 losses after the load average 2.900, +0.900 from 2.000 before; more than 0.05" in stop.summary
    world.rewrite(action, stop_requested=True)
    assert (world.plan().actions, world.status("stage-2").reason) == ((), Reason.STOPPING)
    ends(world)
    status = world.status("stage-2")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.HELD, Reason.LOAD_DISCONTINUOUS)
    folder = f"quickstart/stage-2/{action.key.attempt}"
    for told in (
        "went on from iteration 500 of leg 0",
        "The strategy is not judged by it",
        f"{folder}/jobs/l0-n1-train.log",
        f"move the checkpoints after iteration 500 out of {folder}/leg-0",
        "raise gates.continuity",
        "reconcile apply quickstart --retry stage-2",
    ):
        assert told in status.message
    assert [rung.outcome for rung in status.rungs] == ["running"], "a bad load does not move down the ladder"


def test_a_person_lets_a_bad_load_go_on_and_the_verdict_warns_of_it() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 500)
    action = runs(world, points(2.9, 501), loaded_iteration=500)
    ends(world)
    world.leg(action, checkpoints=(CheckpointSeen(500, True, "", 1, 10),))
    retried = world.wanting(quickstart(retry=frozenset({"stage-2"})))
    again = retried.the_action()
    assert (again.key.kind, again.key.ended) == (TRAIN, 2)
    retried.trained(again, 977)
    world.receipts[-1] = replace(world.receipts[-1], written_s=NOW_S)
    found = gate(world.until(JUDGE), "continuity")
    assert found.level is Level.WARN
    assert "leg 0, job 2: the first 20 losses" in found.message
    assert found.message.endswith("a person let it go on")
    assert found.numbers["leg 0, job 2.rise"] == pytest.approx(0.9)


def test_what_was_let_go_on_at_the_end_of_a_leg_is_not_held_again() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 500)
    action = runs(world, points(2.9, 501), loaded_iteration=500)
    ends(world)
    world.leg(action, checkpoints=(CheckpointSeen(977, True, "", 1, 10),))
    assert world.status("stage-2").reason is Reason.LOAD_DISCONTINUOUS
    retried = world.wanting(quickstart(retry=frozenset({"stage-2"})))
    retried.evaluated(retried.the_action(), SAME)
    world.receipts[-1] = replace(world.receipts[-1], written_s=NOW_S)
    assert world.the_action().key.kind is JUDGE


@pytest.mark.parametrize(
    ("first", "stopped"),
    [
        pytest.param(points(3.5, 1), False, id="a rise where the data changes"),
        pytest.param(points(GUESS - 0.9, 1, 3), True, id="as good as guessing"),
        pytest.param(points(GUESS - 0.9, 1, 2), False, id="two lines say nothing yet"),
    ],
)
def test_the_first_job_of_a_stage_is_held_against_guessing_alone(first: tuple[LogPoint, ...], stopped: bool) -> None:
    world = after(1)
    runs(world, first, loaded_iteration=0)
    assert [action.key.kind for action in world.plan().actions] == ([STOP] if stopped else [])
    if stopped:
        ends(world)
        message = world.status("stage-2").message
        assert "started from the converted source" in message
        assert "leg-0-source away, and it is converted anew" in message


NAIVE = "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n"
SAME_DATA = (
    f"{NAIVE}          lr: {{shape: constant}}\n",
    f"{NAIVE}          tokens: 1M\n          lr: {{shape: constant}}\n"
    "        - mixture: {D1: 1}\n          lr: {shape: cooldown}\n",
)


def test_a_leg_with_the_data_of_the_one_before_goes_on_where_that_ended() -> None:
    world = after(1, quickstart(swapped(SAME_DATA)))
    world.trained(world.until(TRAIN), 489)
    runs(world, points(2.2, 1), loaded_iteration=0)
    assert world.the_action().key.kind is STOP
    ends(world)
    assert "started leg 1 from its source" in world.status("stage-2").message


def test_continuity_may_be_off_and_a_first_stage_starts_at_guessing() -> None:
    off = quickstart(swapped(("    recovery:                     # ", "    continuity: null\n    recovery:  # ")))
    world = after(1, off)
    runs(world, points(GUESS, 1, 3), loaded_iteration=0)
    assert world.plan().actions == ()
    young = World(quickstart())
    runs(young, points(GUESS, 1))
    assert young.plan().actions == ()


def test_a_young_first_stage_may_guess_after_a_resume_too() -> None:
    world = World(quickstart())
    action = world.the_action()
    world.trained(action, 10, loss=GUESS)
    world.leg(action, logs=(log_of(action, 10, GUESS, windows=()),))
    runs(world, points(GUESS, 11), loaded_iteration=10)
    assert world.plan().actions == ()


# --- the source


def test_a_source_that_is_no_better_than_guessing_is_not_trained_from() -> None:
    world = after(1)
    first = next(seen for seen in world.attempts.values() if seen.stage == "stage-1")
    guessing = {name: GUESS for name in first.evaluations[0].losses}
    made = (replace(first.evaluations[0], losses=guessing),)
    world.attempts["stage-1", first.attempt] = replace(first, evaluations=made)
    world.carry_out(SAME)
    status = world.status("stage-2")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.HELD, Reason.SOURCE_UNUSABLE)
    assert "its best validation loss is 5.55 (val-D0), and an untrained model's is 5.55" in status.message


EXACT = ("    recovery:                     # ", "    continuity: {conversion: 0.01}\n    recovery:  # ")


def test_a_converted_source_is_evaluated_before_it_is_trained_from_where_that_is_asked_for() -> None:
    world = after(1, quickstart(swapped(EXACT)))
    world.carry_out(SAME)
    action = world.the_action()
    assert (action.key.kind, action.key.detail) == (EVALUATE, "leg-0-0")
    assert action.summary == "evaluate the converted source checkpoint on 4 validation sets"
    assert action.job is not None
    launches = action.job.values["launches"]
    assert isinstance(launches, list)
    assert launches[0]["environment"]["LOAD"] == f"/w/quickstart/stage-2/{action.key.attempt}/leg-0-source"
    assert "--universal-checkpoint" in launches[0]["arguments"]
    world.evaluated(action, SAME)
    assert world.the_action().key.kind is TRAIN


def test_a_conversion_that_changed_a_loss_is_held() -> None:
    world = after(1, quickstart(swapped(EXACT)))
    world.carry_out(SAME)
    world.evaluated(world.the_action(), SAME | {"val-D2": 3.02})
    status = world.status("stage-2")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.HELD, Reason.LOAD_DISCONTINUOUS)
    assert "val-D2 is 3.0200 after the conversion and 3.0000 before it, more than 0.01 nats apart" in status.message
    assert "leg-0-source is not the source" in status.message
    retried = world.wanting(quickstart(swapped(EXACT), retry=frozenset({"stage-2"})))
    assert retried.the_action().key.kind is TRAIN


# --- forgetting on the way

EVERY = ("    forgetting:                   #", "    forgetting:\n      every: 10%\n      consecutive: 2  #")
ON_THE_WAY = quickstart(swapped(EVERY))


def test_the_newest_checkpoint_is_evaluated_between_two_jobs_once_enough_is_trained() -> None:
    world = after(1, ON_THE_WAY)
    world.trained(world.until(TRAIN), 90)
    assert world.the_action().key.kind is TRAIN, "9 % of the tokens are too few"
    world.trained(world.the_action(), 100)
    action = world.the_action()
    assert (action.key.kind, action.key.detail, action.key.leg) == (EVALUATE, "leg-0-100", 0)
    assert "--load-tag=global_step100" in launch_of_first(action)
    world.submit(action)
    assert world.plan().actions == (), "never beside another job"
    world.jobs.pop()
    world.receipts.pop()
    world.evaluated(action, SAME)
    assert world.the_action().key.kind is TRAIN, "once at a boundary"
    world.trained(world.the_action(), 190)
    assert world.the_action().key.kind is TRAIN
    world.trained(world.the_action(), 200)
    assert world.the_action().key.detail == "leg-0-200"


def launch_of_first(action: Action) -> list[str]:
    assert action.job is not None
    launches = action.job.values["launches"]
    assert isinstance(launches, list)
    arguments: list[str] = launches[0]["arguments"]
    return arguments


def test_without_every_there_is_one_evaluation_at_the_end() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 500)
    assert world.the_action().key.kind is TRAIN


def test_evaluations_in_a_row_that_fail_end_the_attempt_and_say_what_that_saves() -> None:
    world = after(1, ON_THE_WAY)
    for iteration, kind in ((200, TRAIN), (400, JUDGE)):
        world.trained(world.until(TRAIN), iteration)
        world.evaluated(world.the_action(), FORGOT_D0)
        assert world.the_action().key.kind is kind
    action = world.the_action()
    forgetting = gate(action, "forgetting")
    assert forgetting.level is Level.FAIL
    assert forgetting.message == (
        "val-D0 +0.310 at 20.5 %, val-D0 +0.310 at 40.9 % of the tokens: 2 evaluations in a row above 0.10 nats; ended "
        "early, 1.18M tokens are not spent"
    )
    assert forgetting.numbers["tokens.saved"] == 2_000_000 - 818_833
    assert judge(world.plan(), world.look()) == ()
    world.carry_out(SAME)
    status = world.status("stage-2")
    assert [rung.outcome for rung in status.rungs] == ["failed", "untried"]
    assert "ended early" in status.rungs[0].message


def test_what_an_evaluation_on_the_way_warns_of_is_shown_while_the_stage_trains() -> None:
    world = after(1, ON_THE_WAY)
    world.trained(world.until(TRAIN), 200)
    world.evaluated(world.the_action(), SAME | {"val-D0": 2.07})
    told = (
        "on the way: val-D0 +0.070 nats (2.000 → 2.070), above the warning line of 0.05 (fails above 0.10), at 20.5 % "
        "of the tokens"
    )
    status = world.status("stage-2")
    assert status.message == f"train leg 0 from iteration 200 of 977; {told}"
    assert [c.message for c in status.conditions if c.type == "GatesPassed"] == [f"not judged yet; {told}"]


def test_an_attempt_that_recovers_on_the_way_goes_on() -> None:
    world = after(1, ON_THE_WAY)
    for iteration, losses in ((200, FORGOT_D0), (400, SAME), (600, FORGOT_D0)):
        world.trained(world.until(TRAIN), iteration)
        world.evaluated(world.the_action(), losses)
        assert world.the_action().key.kind is TRAIN


def test_a_first_stage_has_nothing_to_forget_on_the_way() -> None:
    world = World(ON_THE_WAY)
    world.trained(world.until(TRAIN), 1000)
    assert world.the_action().key.kind is TRAIN


def test_two_evaluations_on_the_way_without_a_result_hold() -> None:
    world = after(1, ON_THE_WAY)
    world.trained(world.until(TRAIN), 200)
    for _ in range(2):
        world.end(world.submit(world.the_action()))
    assert world.status("stage-2").reason is Reason.NO_PROGRESS


def test_a_boundary_between_legs_is_one_between_jobs() -> None:
    world = after(1, quickstart(swapped(EVERY, SAME_DATA)))
    world.trained(world.until(TRAIN), 489)
    assert world.the_action().key.detail == "leg-0-489"
    world.evaluated(world.the_action(), SAME)
    world.trained(world.the_action(), 200)
    assert (world.the_action().key.leg, world.the_action().key.detail) == (1, "leg-1-200")


# --- spikes and targets


def test_spikes_fail_a_rung_by_the_spread_of_windows() -> None:
    world = after(1)
    action = world.until(TRAIN)
    calm = LogWindow(1, 100, 3.0, 2.9, 3.1, 1e-3, 100, 0, spread=0.1)
    wild = [replace(calm, first=i * 100 + 1, last=i * 100 + 100, mean=3.0 - i / 10, high=4.5) for i in range(1, 5)]
    end = replace(calm, first=900, last=977, mean=2.0, high=2.1)
    world.trained(action, 977)
    world.leg(action, logs=(log_of(action, 977, 2.0, windows=(calm, *wild, end)),))
    found = gate(world.until(JUDGE), "spike")
    assert (found.level, found.numbers["spikes"], found.numbers["allowed"]) == (Level.FAIL, 4, 3)


TARGET = ("    recovery:                     # ", "    target: {val-D1: 2.4}\n    recovery:  # ")


@pytest.mark.parametrize(("loss", "outcome"), [(2.4, "passed"), (2.41, "failed")])
def test_a_target_is_asked_of_the_stage_s_end(loss: float, outcome: str) -> None:
    world = World(quickstart(swapped(TARGET)))
    world.finish_stage(SAME | {"val-D1": loss})
    assert [rung.outcome for rung in world.status("stage-1").rungs] == [outcome]
    assert f"{loss:.3f}" in (world.status("stage-1").rungs[0].message or world.status("stage-1").message)


# --- results of others

EXTERNAL = ("    recovery:                     # ",
            "    external: [{name: mmlu, metric: [results, mmlu, 'acc,none'], atLeast: 0.3}]\n"
            "    recovery:  # ")  # fmt: skip


def waits(text: str | None = None) -> World:
    """A stage that is trained and evaluated, and what a harness wrote."""
    world = World(quickstart(swapped(EXTERNAL)))
    world.carry_out(SAME)
    action = world.the_action()
    world.carry_out(SAME)
    if text is not None:
        world.rewrite(action, external={"mmlu": text, "other": "rubbish"})
    return world


def test_a_stage_waits_for_a_harness_and_says_for_which_file() -> None:
    world = waits()
    status = world.status("stage-1")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.WAITING, Reason.EXTERNAL_AWAITED)
    assert f"waits for /w/quickstart/stage-1/{status.attempt}/external/mmlu.json" in status.message
    assert world.plan().stages[1].reason is Reason.SOURCE_NOT_DONE


@pytest.mark.parametrize(("value", "level"), [(0.3, Level.PASS), (0.29, Level.FAIL)])
def test_a_harness_s_number_is_judged(value: float, level: Level) -> None:
    world = waits(json.dumps({"results": {"mmlu": {"acc,none": value}}}))
    found = gate(world.the_action(), "external")
    assert found.level is level
    assert found.numbers == {"results.mmlu.acc,none": value, "at least": 0.3}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{half a", "it is not JSON"),
        ('{"results": {"mmlu": {"acc,none": NaN}}}', "NaN is no JSON number"),
        ('{"results": {"arc": {}}}', "at results there is no 'mmlu'; there is 'arc'"),
    ],
)
def test_a_result_that_has_no_number_is_held(text: str, why: str) -> None:
    world = waits(text)
    status = world.status("stage-1")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.HELD, Reason.EXTERNAL_UNREADABLE)
    assert "external/mmlu.json: " in status.message
    assert why in status.message


def test_a_rung_that_has_failed_waits_for_no_harness() -> None:
    world = World(
        quickstart(swapped((EXTERNAL[0], EXTERNAL[1].replace("recovery:", "target: {val-D0: 1.0}\n    recovery:"))))
    )
    world.carry_out(SAME)
    world.carry_out(SAME)
    assert gate(world.the_action(), "target").level is Level.FAIL


# --- verdicts that were read


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda v: replace(v, attempt="0" * 12), id="of another attempt"),
        pytest.param(lambda v: replace(v, stage="stage-9"), id="of another stage"),
        pytest.param(
            lambda v: replace(v, gates=(GateResult("g", Level.PASS, "\x1b[2J", {}),)), id="a terminal's orders"
        ),
    ],
)
def test_a_verdict_that_is_not_the_attempt_s_is_no_verdict(spoil: object) -> None:
    world = after(1)
    (key,) = [key for key in world.attempts if key[0] == "stage-1"]
    mine = read_verdict(world.attempts[key].verdicts["final"])
    assert isinstance(mine, Verdict)
    assert callable(spoil)
    world.attempts[key] = replace(world.attempts[key], verdicts={"final": spoil(mine).to_file()})
    assert world.status("stage-1").reason is Reason.VERDICT_UNREADABLE
