"""Whole campaigns, walked from the first look to done by carrying out whatever the planner asks for next."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from reconciler.model.observed import ListSeen, Unread
from reconciler.model.plan import ActionKind, Plan
from reconciler.model.recipe import read_recipe
from reconciler.model.status import Phase, Reason
from reconciler.planner.checks import judge
from reconciler.planner.planner import plan
from tests.planner.world import (
    FORGOT_D0,
    NOW_S,
    SAME,
    SITE,
    World,
    after,
    launch_of,
    quickstart,
    swapped,
)

CONVERT, TRAIN, EVALUATE, JUDGE = ActionKind.CONVERT, ActionKind.TRAIN, ActionKind.EVALUATE, ActionKind.JUDGE


def phases(of: Plan) -> list[tuple[str, str]]:
    return [(status.phase, status.reason) for status in of.stages]


def test_the_whole_campaign_trains_evaluates_and_judges_until_done() -> None:
    world, kinds = World(quickstart()), []
    for _ in range(4):
        kinds.append(world.finish_stage(SAME))
    assert kinds == [
        [TRAIN, EVALUATE, JUDGE],
        [CONVERT, TRAIN, EVALUATE, JUDGE],
        [TRAIN, EVALUATE, JUDGE],
        [CONVERT, TRAIN, EVALUATE, JUDGE],
    ]
    end = world.plan()
    assert end.done
    assert end.actions == ()
    assert phases(end) == [(Phase.DONE, Reason.ALL_EVIDENCE)] * 4
    assert [status.tokens_done for status in end.stages] == [4_000_000, 2_000_000, 1_500_000, 500_000]
    assert end.stages[1].message.startswith("naive: val-D0 +0.000 nats (2.000 → 2.000)")


def test_every_plan_on_the_way_is_sound_and_says_what_it_does() -> None:
    world = World(quickstart())
    summaries = []
    while world.plan().actions:
        made = world.plan()
        assert judge(made, world.look()) == ()
        assert made.refusals == ()
        (action,) = made.actions
        status = next(status for status in made.stages if status.stage == action.key.stage)
        assert (status.reason, status.message) == (Reason(action.reason), action.summary)
        summaries.append(action.summary)
        world.carry_out(SAME)
    assert summaries[:5] == [
        "train leg 0 from iteration 0 of 1954",
        "evaluate iteration 1954 on 4 validation sets",
        "record the verdict: passed; training loss 3.000 → 2.000",
        "convert the source checkpoint: 1 data-parallel shards → universal, for 2",
        "train leg 0 from iteration 0 of 977",
    ]


def test_first_look_trains_the_first_stage_and_the_rest_waits_in_order() -> None:
    made = World(quickstart()).plan()
    assert phases(made) == [
        (Phase.TRAINING, Reason.TRAINING_STARTS),
        (Phase.WAITING, Reason.SOURCE_NOT_DONE),
        (Phase.WAITING, Reason.SOURCE_NOT_DONE),
        (Phase.WAITING, Reason.SOURCE_NOT_DONE),
    ]
    assert made.stages[3].message == "waits for stage-1, which is training"
    assert not made.done


def test_a_training_action_holds_all_that_it_needs() -> None:
    action = World(quickstart()).the_action()
    attempt = action.key.attempt
    assert str(action.key) == f"quickstart/stage-1/{attempt}/l0/n0/train"
    folder = f"quickstart/stage-1/{attempt}"
    recipe, data_list = action.files
    assert (recipe.path, recipe.if_absent) == (f"{folder}/recipe.json", True)
    read = read_recipe(recipe.text)
    assert read is not None
    assert read.attempt == attempt
    assert data_list.text == "0.7500000000 /data/D0-a D0.text\n0.2500000000 /data/D0-b D0.more\n"
    assert data_list.path.startswith(f"{folder}/lists/leg-0-")
    assert action.directories == (f"{folder}/leg-0", f"{folder}/jobs")
    assert action.remove == (f"{folder}/stop",)
    job = action.job
    assert job is not None
    assert (job.name, job.template, job.nodes, job.walltime_s) == ("stage-1.train.0", "train", 1, 60)
    assert (job.queue, job.account, job.filesystems) == ("workq", None, ())
    assert job.script == f"{folder}/jobs/l0-n0-train.pbs"
    assert job.log == f"{folder}/jobs/l0-n0-train.log"
    assert {name: value for name, value in job.values.items() if name != "launches"} == {
        "machine": "local",
        "checkout": "/launcher",
        "attempt_folder": f"/w/{folder}",
        "key": str(action.key),
        "ranks_per_node": 1,
        "templates": SITE.templates.digest,
    }
    environment, arguments = launch_of(action)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["DATA_FILE_LIST"] == f"/w/{data_list.path}"
    assert environment["SAVE"] == environment["LOAD"] == f"/w/{folder}/leg-0"
    assert f"--kill-switch-file=/w/{folder}/stop" in arguments
    # On this machine fractions of a minute count: walltime less start-up, twice.
    assert "--exit-duration-in-mins=0.833" in arguments


def test_the_next_stage_loads_the_end_of_the_one_before() -> None:
    world = after(2)
    source = world.plan().stages[1]
    environment, arguments = launch_of(world.the_action())
    assert environment["LOAD"] == f"/w/quickstart/stage-2/{source.attempt}/leg-0"
    assert environment["SAVE"] != environment["LOAD"]
    assert {"--load-tag=global_step977", "--reset-iteration"} <= set(arguments)


def test_a_converted_source_is_loaded_in_its_universal_form() -> None:
    world = after(1)
    convert = world.the_action()
    folder = f"quickstart/stage-2/{convert.key.attempt}"
    source = f"/w/quickstart/stage-1/{world.plan().stages[0].attempt}/leg-0/global_step1954"
    assert convert.job is not None
    assert (convert.job.nodes, convert.job.template) == (1, "convert")
    assert convert.job.values["source"] == source
    assert convert.job.values["target"] == f"/w/{folder}/leg-0-source"
    tool = convert.files[1]
    assert tool.text == "# the converter\n"
    assert convert.job.values["tool"] == f"/w/{tool.path}"
    assert tool.path == f"quickstart/tools/universal-{tool.sha256[:12]}.py"
    world.carry_out(SAME)
    environment, arguments = launch_of(world.the_action())
    assert environment["LOAD"] == f"/w/{folder}/leg-0-source"
    assert "--universal-checkpoint" in arguments
    assert not any(argument.startswith("--load-tag") for argument in arguments)


def test_evaluation_reads_every_validation_set_on_one_node() -> None:
    action = after(2).until(EVALUATE)
    assert action.job is not None
    launches = action.job.values["launches"]
    assert isinstance(launches, list)
    folder = f"/w/quickstart/stage-3/{action.key.attempt}"
    assert action.key.detail == "leg-0-733"
    assert action.job.nodes == 1
    assert [launch["environment"]["DATA_FILE_LIST"] for launch in launches] == [
        f"/r/data/val-D{i}.txt" for i in range(4)
    ]
    for i, launch in enumerate(launches):
        assert re.fullmatch(rf"{folder}/evaluations/leg-0-733/val-D{i}\.[0-9a-f]{{12}}\.log", launch["log"])
    assert {launch["environment"]["LOAD"] for launch in launches} == {f"{folder}/leg-0"}
    assert action.directories[0] == f"quickstart/stage-3/{action.key.attempt}/evaluations/leg-0-733/scratch"


def test_a_verdict_is_written_with_its_numbers_and_no_job() -> None:
    action = after(2).until(JUDGE)
    assert action.job is None
    path, text = action.files[1].path, action.files[1].text
    assert path == f"quickstart/stage-3/{action.key.attempt}/verdicts/final.json"
    verdict = json.loads(text)
    assert (verdict["stage"], verdict["strategy"], verdict["iteration"], verdict["passed"]) == (
        "stage-3",
        "naive",
        733,
        True,
    )
    assert [gate["gate"] for gate in verdict["gates"]] == ["forgetting", "recovery", "spike", "continuity"]
    forgetting, recovery, _, loads = verdict["gates"]
    assert forgetting["numbers"]["val-D0.before"] == 2.0
    assert {"val-D0.rise", "val-D1.rise"} <= set(forgetting["numbers"])
    assert not any(name.startswith(("val-D2", "val-D3")) for name in forgetting["numbers"])
    assert (forgetting["numbers"]["warn"], forgetting["numbers"]["fail"]) == (0.15, 0.3)
    assert recovery["numbers"]["late"] < recovery["numbers"]["early"]
    assert loads["numbers"]["leg 0, job 1.rise"] == 0.0


def test_a_weak_shift_has_the_weak_limits() -> None:
    numbers = json.loads(after(1).until(JUDGE).files[1].text)["gates"][0]["numbers"]
    assert (numbers["warn"], numbers["fail"]) == (0.05, 0.1)


def test_gates_may_be_the_stage_s_own_and_may_be_off() -> None:
    off = "{forgetting: null, recovery: null, spike: null, continuity: null}"
    edit = swapped(("  shift: weak\n", f"  shift: weak\n  gates: {off}\n"))
    world = after(1, quickstart(edit))
    assert json.loads(world.until(JUDGE, FORGOT_D0).files[1].text)["gates"] == []
    world.carry_out(SAME)
    assert world.status("stage-2").phase is Phase.DONE


def test_a_cooled_end_is_not_compared_as_if_it_were_at_the_peak() -> None:
    cooled = json.loads(after(3).until(JUDGE).files[1].text)["gates"][0]["message"]
    held = json.loads(after(2).until(JUDGE).files[1].text)["gates"][0]["message"]
    assert "across a cooldown" in cooled
    assert "across a cooldown" not in held


def test_losses_before_and_after_are_told() -> None:
    world = after(1, losses=SAME)
    world.finish_stage(SAME | {"val-D1": 2.2})
    done = world.status("stage-2")
    assert (done.losses_before["val-D1"], done.losses["val-D1"]) == (2.5, 2.2)
    assert [(c.type, c.status, c.reason) for c in done.conditions] == [
        ("Ready", "True", "AllEvidence"),
        ("Trained", "True", "BudgetReached"),
        ("Evaluated", "True", "AllSetsRead"),
        ("GatesPassed", "True", "AllEvidence"),
    ]
    assert (done.jobs, done.path) == (3, f"quickstart/stage-2/{done.attempt}")
    assert done.node_hours == pytest.approx((60 + 2 * 60 + 60) / 3600)


def test_conditions_of_a_stage_that_has_not_begun() -> None:
    status = World(quickstart()).status("stage-1")
    assert [(c.type, c.status, c.reason, c.message) for c in status.conditions] == [
        ("Ready", "False", "TrainingStarts", "train leg 0 from iteration 0 of 1954"),
        ("Trained", "False", "TokensRemain", "0 of 1954 iterations in complete checkpoints, 0 jobs ended"),
        ("Evaluated", "False", "EvaluationNeeded", "0 of 4 validation sets have a loss"),
        ("GatesPassed", "Unknown", "VerdictDue", "not judged yet"),
    ]
    assert [(rung.strategy, rung.outcome) for rung in status.rungs] == [("pretrain", "untried")]


# --- the digest


def test_equal_looks_give_equal_digests() -> None:
    assert after(1).plan().digest == after(1).plan().digest


def test_clock_commit_and_order_of_tables_are_not_in_the_digest() -> None:
    world = after(2)
    look = world.look()
    assert not isinstance(look.jobs, Unread)
    assert not isinstance(look.receipts, Unread)
    assert not isinstance(look.attempts, Unread)
    later = replace(
        look,
        now_s=NOW_S + 9_999,
        host="elsewhere",
        jobs=look.jobs[::-1],
        receipts=look.receipts[::-1],
        attempts=look.attempts[::-1],
    )
    other = replace(world.desired, revision="d" * 40, dirty=True)
    assert plan(other, later).digest == world.plan().digest


def test_progress_and_edits_show_in_the_digest() -> None:
    digests = [after(stages).plan().digest for stages in (0, 1, 2)]
    edited = World(quickstart(swapped(("warmup: 10%", "warmup: 5%")))).plan().digest
    assert len({*digests, edited}) == 4


def test_a_list_whose_content_changed_gives_another_attempt() -> None:
    world = World(quickstart())
    before = world.the_action().key.attempt
    world.lists["/r/data/D0.txt"] = ListSeen("0.74 /data/D0-a text\n0.26 /data/D0-b more\n", "other")
    assert world.the_action().key.attempt != before


# --- stages of several legs and outside sources

TWO_LEGS = quickstart(
    swapped(
        (
            "    - name: cooldown-mix-a\n      legs:\n",
            "    - name: cooldown-mix-a\n      legs:\n"
            "        - mixture: {D2: 1}\n          tokens: 0.2M\n          lr: {shape: constant}\n",
        )
    )
)


def test_two_legs_are_trained_one_after_the_other() -> None:
    world = after(3, TWO_LEGS)
    first = world.until(TRAIN)
    world.carry_out(SAME)
    second = world.the_action()
    assert (first.key.leg, second.key.leg, second.key.ended) == (0, 1, 0)
    assert second.reason == Reason.TOKENS_REMAIN
    folder = f"/w/quickstart/stage-4/{first.key.attempt}"
    environment, arguments = launch_of(second)
    assert (environment["LOAD"], environment["SAVE"]) == (f"{folder}/leg-0", f"{folder}/leg-1")
    assert {"--load-tag=global_step98", "--reset-iteration", "--lr_constant_plus_cooldown"} <= set(arguments)
    assert "--universal-checkpoint" not in arguments
    world.carry_out(SAME)
    assert world.the_action().key.detail == "leg-1-147"
    world.finish_stage(SAME)
    assert world.status("stage-4").phase is Phase.DONE
    assert world.status("stage-4").iteration == 245


def test_a_stage_may_continue_from_before_the_cooldown_of_its_source() -> None:
    more = swapped(
        ("        - mixture: {D1: 1}\n          lr: {shape: constant}\n",
         "        - mixture: {D1: 1}\n          lr: {shape: constant}\n"
         "        - mixture: {D1: 1}\n          tokens: 0.5M\n          lr: {shape: cooldown}\n"),
    )  # fmt: skip
    world = after(2, quickstart(more))
    # Its own stage evaluated the end of the cooldown, not this checkpoint.
    baseline = world.the_action()
    assert (baseline.key.kind, baseline.reason, baseline.key.detail) == (EVALUATE, Reason.BASELINE_NEEDED, "leg-0-0")
    assert baseline.summary == "evaluate the source checkpoint on 4 validation sets"
    assert baseline.job is not None
    launches = baseline.job.values["launches"]
    assert isinstance(launches, list)
    source = f"/w/quickstart/stage-2/{world.plan().stages[1].attempt}/leg-0"
    assert launches[0]["environment"]["LOAD"] == source
    assert "--load-tag=global_step733" in launches[0]["arguments"]
    world.carry_out(SAME)
    environment, arguments = launch_of(world.the_action())
    assert environment["LOAD"] == source
    assert "--load-tag=global_step733" in arguments
    assert world.finish_stage(SAME) == [TRAIN, EVALUATE, JUDGE]


def external(text: str) -> World:
    return World(
        quickstart(
            swapped(
                ("source: random", f"source: {text}"), ("lr: {shape: constant, warmup: 10%}", "lr: {shape: constant}")
            )
        )
    )


def test_an_outside_source_of_the_same_size_is_evaluated_and_continued() -> None:
    world = external("{path: old/run, checkpoint: {iteration: 500}, format: zero, dataParallel: 1}")
    baseline = world.the_action()
    assert (baseline.key.kind, baseline.key.detail) == (EVALUATE, "leg-0-0")
    world.carry_out(SAME)
    environment, arguments = launch_of(world.the_action())
    assert environment["LOAD"] == "/r/old/run"
    assert "--load-tag=global_step500" in arguments
    world.carry_out(SAME)
    # The source's evaluation is another effect: it does not count as a try of this one.
    assert str(world.the_action().key).endswith("/l0/n0/evaluate/leg-0-1954")
    assert world.finish_stage(SAME) == [EVALUATE, JUDGE]


def test_an_outside_source_of_another_size_is_converted_first() -> None:
    world = external("{path: /old/run, checkpoint: {iteration: 500}, format: zero, dataParallel: 8}")
    action = world.the_action()
    assert action.key.kind is CONVERT
    assert action.job is not None
    assert action.job.values["source"] == "/old/run/global_step500"


def test_an_outside_universal_source_is_loaded_as_it_is() -> None:
    world = external("{path: /old/run, checkpoint: {iteration: 500}, format: universal}")
    environment, arguments = launch_of(world.until(TRAIN))
    assert environment["LOAD"] == "/old/run"
    assert "--universal-checkpoint" in arguments
    assert not any(argument.startswith("--load-tag") for argument in arguments)
