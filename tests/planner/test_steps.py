"""The one next step of an attempt, for every state of its jobs, checkpoints and logs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.observed import (
    CheckpointSeen,
    EvaluationSeen,
    Job,
    JobState,
    ListAbsent,
    ListSeen,
    LogPoint,
    LogWindow,
    Receipt,
    Stuck,
    Unread,
)
from reconciler.model.plan import Action, ActionKey, ActionKind
from reconciler.model.status import Phase, Reason
from reconciler.planner.checks import judge
from reconciler.planner.planner import plan
from tests.planner.world import ENDED_S, NOW_S, SAME, World, after, launch_of, log_of, quickstart, swapped

TRAIN, EVALUATE, CONVERT, JUDGE, STOP = (
    ActionKind.TRAIN,
    ActionKind.EVALUATE,
    ActionKind.CONVERT,
    ActionKind.JUDGE,
    ActionKind.STOP,
)


def partly(world: World, iteration: int, **more: object) -> Action:
    """The next training job ran, saved at `iteration`, and ended."""
    action = world.the_action()
    assert action.key.kind is TRAIN
    world.trained(action, iteration)
    if more:
        world.leg(action, **more)
    return action


def fruitless(world: World) -> Action:
    """The next job ended and left nothing."""
    action = world.the_action()
    world.end(world.submit(action))
    return action


# --- what could not be read waits


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("jobs", Reason.JOB_TABLE_UNREAD),
        ("attempts", Reason.WORKSPACE_UNREAD),
        ("receipts", Reason.WORKSPACE_UNREAD),
    ],
)
@pytest.mark.parametrize("stages", [0, 2, 4])
def test_an_unread_table_makes_every_stage_wait(table: str, reason: Reason, stages: int) -> None:
    world = after(stages)
    unread: dict[str, Any] = {table: Unread("timed out")}
    made = plan(world.desired, replace(world.look(), **unread))
    assert made.actions == ()
    assert not made.done
    assert {(status.phase, status.reason) for status in made.stages} == {(Phase.WAITING, reason)}
    assert all("timed out" in status.message for status in made.stages)


def test_an_unread_attempt_waits() -> None:
    world = World(quickstart())
    world.rewrite(world.the_action(), unread="permission denied")
    status = world.status("stage-1")
    assert (status.phase, status.reason) == (Phase.WAITING, Reason.WORKSPACE_UNREAD)
    assert "permission denied" in status.message
    assert world.plan().actions == ()


@pytest.mark.parametrize(
    ("path", "answer", "phase", "reason", "words"),
    [
        ("data/D0.txt", Unread("timed out"), Phase.WAITING, Reason.LIST_UNREAD, "list of D0 could not be read"),
        ("data/D0.txt", ListAbsent(), Phase.HELD, Reason.LIST_MISSING, "no data list of D0 at /r/data/D0.txt"),
        ("data/D0.txt", ListSeen("rubbish\n", "x"), Phase.HELD, Reason.LIST_BAD, "/r/data/D0.txt:1:"),
        ("data/D0.txt", ListSeen("", "x"), Phase.HELD, Reason.LIST_BAD, "/r/data/D0.txt"),
        ("data/D0.txt", ListSeen("x\ny\n", "x"), Phase.HELD, Reason.LIST_BAD, "and 1 more problem"),
        ("data/val-D3.txt", ListAbsent(), Phase.HELD, Reason.LIST_MISSING, "list of val-D3"),
    ],
)
def test_a_list_that_cannot_be_used_stops_its_stage(
    path: str, answer: ListSeen | ListAbsent | Unread, phase: Phase, reason: Reason, words: str
) -> None:
    world = World(quickstart())
    world.lists[f"/r/{path}"] = answer
    status = world.status("stage-1")
    assert (status.phase, status.reason) == (phase, reason)
    assert words in status.message
    assert world.plan().actions == ()


def test_a_list_that_nobody_asked_for_counts_as_unread() -> None:
    world = World(quickstart())
    made = plan(world.desired, replace(world.look(), lists={}))
    assert (made.actions, made.stages[0].reason) == ((), Reason.LIST_UNREAD)


def test_the_list_of_a_later_stage_does_not_stop_an_earlier_one() -> None:
    world = World(quickstart())
    world.lists["/r/data/D3.txt"] = ListAbsent()
    assert world.the_action().key.stage == "stage-1"


@pytest.mark.parametrize(("seen", "acts"), [("a" * 64, True), ("b" * 64, False)])
def test_a_pinned_list_must_have_its_bytes(seen: str, acts: bool) -> None:
    pin = swapped(("{path: data/D0.txt}", f"{{path: data/D0.txt, sha256: {'a' * 64}}}"))
    world = World(quickstart(pin))
    world.lists["/r/data/D0.txt"] = ListSeen("1 /data/a text\n", seen)
    status = world.status("stage-1")
    assert bool(world.plan().actions) is acts
    if not acts:
        assert (status.phase, status.reason) == (Phase.HELD, Reason.LIST_CHANGED)
        assert "a" * 64 in status.message
        assert "b" * 64 in status.message


def test_a_validation_list_is_pinned_too() -> None:
    pin = swapped(("{path: data/val-D1.txt}", f"{{path: data/val-D1.txt, sha256: {'a' * 64}}}"))
    assert World(quickstart(pin)).status("stage-1").reason is Reason.LIST_CHANGED


def test_a_validation_set_that_has_a_symbol_s_name_is_not_trained_on() -> None:
    world = World(quickstart(swapped(("name: val-D0, of: D0", "name: D0, of: D0"))))
    world.lists["/r/data/val-D0.txt"] = ListSeen("1 /held/out text\n", "x")
    assert "/held/out" not in world.the_action().files[1].text


# --- live jobs


@pytest.mark.parametrize(
    ("state", "letter", "reason"),
    [
        (JobState.QUEUED, "Q", Reason.JOB_LIVE),
        (JobState.RUNNING, "R", Reason.JOB_LIVE),
        (JobState.EXITING, "E", Reason.JOB_LIVE),
        (JobState.WAITING, "W", Reason.JOB_LIVE),
        (JobState.UNKNOWN, "Z", Reason.JOB_LIVE),
        (JobState.UNREAD, "", Reason.JOB_TABLE_UNREAD),
        (JobState.HELD, "H", Reason.JOB_HELD_BY_PBS),
    ],
)
@pytest.mark.parametrize("receipt", [True, False], ids=["with its receipt", "with its receipt lost"])
def test_a_live_job_is_never_doubled(state: JobState, letter: str, reason: Reason, receipt: bool) -> None:
    world = World(quickstart())
    job_id = world.submit(world.the_action())
    world.jobs[0] = replace(world.jobs[0], state=state, letter=letter, comment="because")
    if not receipt:
        world.receipts.clear()
    status = world.status("stage-1")
    assert world.plan().actions == ()
    assert (status.reason, status.job, status.phase) == (reason, job_id, Phase.TRAINING)
    assert ("because" in status.message) == (state is not JobState.RUNNING)


def test_a_live_job_is_known_by_its_receipt_if_its_variables_are_unread() -> None:
    world = World(quickstart())
    world.submit(world.the_action())
    world.jobs[0] = replace(world.jobs[0], key=None)
    assert world.plan().actions == ()


def test_a_state_that_nobody_knows_is_shown_as_pbs_prints_it() -> None:
    world = World(quickstart())
    world.submit(world.the_action())
    world.jobs[0] = replace(world.jobs[0], state=JobState.UNKNOWN, letter="Z")
    assert world.status("stage-1").message == "train job 0.here is in PBS's state 'Z'"


@pytest.mark.parametrize(
    ("state", "stuck", "phase", "reason", "words"),
    [
        (JobState.HELD, Stuck.FAILED_STARTS, Phase.HELD, Reason.JOB_CANNOT_START, "qdel 0.here. When the cause"),
        (JobState.QUEUED, Stuck.NEVER_RUNS, Phase.TRAINING, Reason.JOB_CANNOT_RUN, "qdel 0.here, and ask for what"),
    ],
)
def test_a_job_that_may_never_run_shows_pbs_s_words_and_the_way_on(
    state: JobState, stuck: Stuck, phase: Phase, reason: Reason, words: str
) -> None:
    world = World(quickstart())
    job_id = world.submit(world.the_action())
    world.jobs[0] = replace(world.jobs[0], state=state, stuck=stuck, comment="PBS's words")
    status = world.status("stage-1")
    assert (world.plan().actions, status.phase, status.reason, status.job) == ((), phase, reason, job_id)
    assert "PBS's words" in status.message
    assert words in status.message


@pytest.mark.parametrize(("hours", "told"), [(47, ""), (49, " for 2 days"), (24 * 9, " for 9 days")])
def test_a_job_that_waits_for_days_says_so(hours: int, told: str) -> None:
    world = World(quickstart())
    world.submit(world.the_action())
    queued = {"state": JobState.QUEUED, "letter": "Q", "queued_s": NOW_S - hours * 3600, "comment": "Not enough nodes"}
    world.jobs[0] = replace(world.jobs[0], **queued)  # type: ignore[arg-type]
    assert world.status("stage-1").message == f"train job 0.here is queued{told} (Not enough nodes)"


@pytest.mark.parametrize("kind", [CONVERT, EVALUATE])
def test_a_live_job_of_another_kind_is_waited_for_as_well(kind: ActionKind) -> None:
    world = after(1)
    world.submit(world.until(kind))
    phases = {CONVERT: Phase.PREPARING, EVALUATE: Phase.EVALUATING}
    assert world.plan().actions == ()
    assert (world.status("stage-2").phase, world.status("stage-2").reason) == (phases[kind], Reason.JOB_LIVE)


def test_jobs_of_others_do_not_matter() -> None:
    world = World(quickstart())
    key = world.the_action().key
    world.jobs += [
        Job("1.x", "theirs", JobState.RUNNING, "R"),
        Job("2.x", "odd", JobState.RUNNING, "R", "not a key"),
        Job("3.x", "other campaign", JobState.RUNNING, "R", str(replace(key, campaign="other"))),
        Job("4.x", "other stage", JobState.RUNNING, "R", str(replace(key, stage="stage-9"))),
    ]
    assert world.the_action().key == key


def test_only_jobs_that_ended_are_told_as_ended() -> None:
    world = World(quickstart())
    partly(world, 300)
    world.submit(world.the_action())
    trained = next(condition for condition in world.status("stage-1").conditions if condition.type == "Trained")
    assert trained.message == "300 of 1954 iterations in complete checkpoints, 1 job ended"


def test_a_running_job_shows_how_far_it_is() -> None:
    world = World(quickstart())
    action = partly(world, 300)
    again = world.the_action()
    job_id = world.submit(again)
    world.leg(action, logs=(log_of(action, 300, 2.0), log_of(again, 450, 1.5)))
    status = world.status("stage-1")
    assert (status.job, status.iteration, status.iterations, status.loss) == (job_id, 450, 1954, 1.5)
    assert status.learning_rate == 2e-3
    assert status.tokens_done == 300 * 2048
    assert (status.rungs[0].outcome, status.jobs) == ("running", 2)


# --- keys


def test_a_lost_receipt_meets_the_same_key_again() -> None:
    world = World(quickstart())
    before = world.the_action()
    world.receipts.append(Receipt(str(before.key), NOW_S, done=False))
    assert world.the_action().key == before.key


def test_a_job_that_ended_early_is_followed_under_a_new_key() -> None:
    world = World(quickstart())
    before = fruitless(world)
    again = world.the_action()
    assert (before.key.ended, again.key.ended) == (0, 1)
    assert again.key.attempt == before.key.attempt
    assert again.reason == Reason.TRAINING_STARTS


def log_alone(world: World, action: Action) -> None:
    world.rewrite(action, ran=(str(action.key),))


def log_read(world: World, action: Action) -> None:
    world.leg(action, logs=(log_of(action, 100, 2.0, saved=()),))


def checkpoint(world: World, action: Action) -> None:
    world.leg(action, checkpoints=(CheckpointSeen(300, True),))


@pytest.mark.parametrize("trace", [log_alone, log_read, checkpoint])
def test_a_job_that_left_the_history_has_ended_if_it_left_a_trace(trace: Callable[[World, Action], None]) -> None:
    world = World(quickstart())
    action = world.the_action()
    job_id = world.submit(action)
    world.jobs.clear()
    trace(world, action)
    assert world.the_action().key.ended == 1
    trained = next(condition for condition in world.status("stage-1").conditions if condition.type == "Trained")
    assert trained.message.endswith(f"1 job ended; PBS no longer knows job {job_id}")


@pytest.mark.parametrize(
    ("taken_ago_s", "phase", "reason"),
    [
        (0.0, Phase.WAITING, Reason.JOB_NOT_LISTED),
        (299.0, Phase.WAITING, Reason.JOB_NOT_LISTED),
        (300.0, Phase.HELD, Reason.LOST_IN_ROUTING),
        (30 * 86400.0, Phase.HELD, Reason.LOST_IN_ROUTING),
    ],
)
def test_a_job_that_pbs_does_not_know_and_that_left_no_trace_is_not_replaced(
    taken_ago_s: float, phase: Phase, reason: Reason
) -> None:
    world = World(quickstart())
    job_id = world.submit(world.the_action())
    world.jobs.clear()
    world.receipts[-1] = replace(world.receipts[-1], written_s=NOW_S - taken_ago_s)
    status = world.status("stage-1")
    assert (world.plan().actions, status.phase, status.reason) == ((), phase, reason)
    assert job_id in status.message
    if phase is Phase.HELD:
        assert "limits (qstat -Qf)" in status.message
        assert "reconcile apply quickstart --retry stage-1" in status.message
    retried = world.wanting(quickstart(retry=frozenset({"stage-1"}))).plan().actions
    assert [action.key.ended for action in retried] == ([1] if phase is Phase.HELD else []), "a wait is not lifted"


@pytest.mark.parametrize("kind", [CONVERT, EVALUATE])
def test_a_lost_job_of_another_kind_is_not_replaced_either(kind: ActionKind) -> None:
    world = after(1)
    action = world.until(kind)
    world.submit(action)
    world.jobs.pop()
    world.receipts[-1] = replace(world.receipts[-1], written_s=NOW_S - 3600)
    assert (world.plan().actions, world.status("stage-2").reason) == ((), Reason.LOST_IN_ROUTING)
    world.rewrite(action, ran=(str(action.key),))
    assert world.the_action().key == replace(action.key, ended=1)


def test_what_is_done_needs_no_job_that_pbs_still_knows() -> None:
    """History is kept for two weeks; a campaign takes months."""
    world = after(2)
    world.until(TRAIN)
    partly(world, 100)
    before = world.the_action().key
    world.jobs.clear()
    assert world.the_action().key == before


def test_a_job_in_history_whose_receipt_was_lost_meets_the_same_key_for_the_agent_to_find() -> None:
    world = World(quickstart())
    before = fruitless(world)
    world.receipts.clear()
    assert world.the_action().key == before.key


# --- resuming


def test_a_later_job_resumes_by_name_without_first_job_flags() -> None:
    world = after(1)
    world.until(TRAIN)
    partly(world, 500)
    again = world.the_action()
    environment, arguments = launch_of(again)
    assert again.summary == "train leg 0 from iteration 500 of 977"
    assert again.reason == Reason.TOKENS_REMAIN
    assert environment["LOAD"] == environment["SAVE"]
    assert "--load-tag=global_step500" in arguments
    assert not {"--reset-iteration", "--finetune", "--universal-checkpoint"} & set(arguments)
    assert again.files[1] == world.plan().actions[0].files[1]


def test_a_stage_on_its_way_needs_neither_its_source_s_conversion_nor_its_losses_again() -> None:
    world = after(1)
    world.until(TRAIN)
    action = partly(world, 500, converted=None)
    world.attempts = {key: replace(seen, evaluations=()) for key, seen in world.attempts.items()}
    assert world.the_action().key == replace(action.key, ended=1)


def test_an_incomplete_newest_checkpoint_is_left_aside_by_name() -> None:
    world = World(quickstart())
    action = partly(world, 300)
    checkpoints = (CheckpointSeen(300, True), CheckpointSeen(400, False, "2 of 4 shards"))
    world.leg(action, checkpoints=checkpoints, latest=400)
    again = world.the_action()
    assert "--load-tag=global_step300" in launch_of(again)[1]
    assert again.summary.endswith("(the newest folder is incomplete and is left aside)")


def test_checkpoints_in_any_order_resume_from_the_newest() -> None:
    world = World(quickstart())
    action = partly(world, 300)
    world.leg(action, checkpoints=tuple(CheckpointSeen(i, True) for i in (200, 500, 100)), latest=None)
    again = world.the_action()
    assert "--load-tag=global_step500" in launch_of(again)[1]
    assert "left aside" not in again.summary


def test_only_incomplete_checkpoints_start_over_from_the_source() -> None:
    world = after(2)
    action = fruitless(world)
    world.leg(action, checkpoints=(CheckpointSeen(100, False),), latest=100)
    assert "--reset-iteration" in launch_of(world.the_action())[1]


@pytest.mark.parametrize("latest", [100, 0], ids=["named", "cut"])
def test_a_first_save_that_was_cut_off_is_not_loaded_by_the_next_job(latest: int) -> None:
    """From random weights a job loads from where it saves, and `latest` is written before the shards are down; a crash
    of the file server may have cut it too."""
    world = World(quickstart())
    action = fruitless(world)
    world.leg(action, checkpoints=(CheckpointSeen(100, False, "1 of 2 shards"),), latest=latest)
    again = world.the_action()
    folder = f"quickstart/stage-1/{again.key.attempt}"
    assert again.remove == (f"{folder}/stop", f"{folder}/leg-0/latest")
    assert again.summary.endswith("(the newest folder is incomplete and is left aside)")
    assert judge(world.plan(), world.look()) == ()


@pytest.mark.parametrize(("iteration", "kind"), [(1953, TRAIN), (1954, EVALUATE), (1955, EVALUATE)])
def test_the_budget_is_reached_at_the_last_iteration(iteration: int, kind: ActionKind) -> None:
    world = World(quickstart())
    partly(world, iteration)
    assert world.the_action().key.kind is kind


# --- holds


def test_two_jobs_in_a_row_without_a_checkpoint_hold() -> None:
    world = World(quickstart())
    fruitless(world)
    second = fruitless(world)
    status = world.status("stage-1")
    assert world.plan().actions == ()
    assert (status.phase, status.reason) == (Phase.HELD, Reason.NO_PROGRESS)
    assert f"quickstart/stage-1/{second.key.attempt}/jobs/l0-n1-train.log" in status.message


def test_the_last_error_line_of_a_fruitless_job_is_told() -> None:
    world = World(quickstart())
    fruitless(world)
    second = fruitless(world)
    log = log_of(second, 0, 1.0, saved=(), last=(), windows=(), errors=("first", "OutOfMemoryError"))
    world.leg(second, logs=(log,))
    assert "saved nothing: OutOfMemoryError" in world.status("stage-1").message


def test_a_checkpoint_between_two_fruitless_jobs_is_progress() -> None:
    world = World(quickstart())
    fruitless(world)
    partly(world, 100)
    fruitless(world)
    assert world.the_action().key.ended == 3
    fruitless(world)
    assert world.status("stage-1").reason is Reason.NO_PROGRESS


@pytest.mark.parametrize("kind", [CONVERT, EVALUATE])
def test_two_jobs_of_another_kind_without_a_result_hold(kind: ActionKind) -> None:
    world = after(1)
    world.until(kind)
    assert (fruitless(world).key.ended, fruitless(world).key.ended) == (0, 1)
    status = world.status("stage-2")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.NO_PROGRESS)
    assert "jobs ended without a result" in status.message


def test_an_evaluation_that_misses_a_set_is_no_result() -> None:
    world = World(quickstart())
    action = world.until(EVALUATE)
    world.evaluated(action, {"val-D0": 1.0})
    assert world.the_action().key == replace(action.key, ended=1)


def test_a_bound_on_jobs_holds() -> None:
    world = World(quickstart(swapped(("jobsPerAttempt: 12", "jobsPerAttempt: 3"))))
    for iteration in (100, 200, 300):
        partly(world, iteration)
    status = world.status("stage-1")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.JOBS_EXHAUSTED)
    assert "jobsPerAttempt is 3" in status.message
    assert world.plan().actions == ()


def test_a_bound_on_jobs_counts_all_legs() -> None:
    edit = swapped(
        ("jobsPerAttempt: 12", "jobsPerAttempt: 2"),
        ("        - mixture: {D0: 1}\n",
         "        - mixture: {D0: 1}\n          tokens: 1M\n          lr: {shape: constant, warmup: 10%}\n"
         "        - mixture: {D0: 1}\n"),
        ("lr: {shape: constant, warmup: 10%}", "lr: {shape: constant}"),
    )  # fmt: skip
    world = World(quickstart(edit))
    partly(world, 100)
    partly(world, 489)
    assert world.status("stage-1").reason is Reason.JOBS_EXHAUSTED


def test_a_deleted_job_holds_until_a_person_retries() -> None:
    world = World(quickstart())
    job_id = world.submit(world.the_action())
    world.end(job_id, exit_status=271, substate=91, comment="deleted by alice")
    status = world.status("stage-1")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.JOB_DELETED)
    assert job_id in status.message
    assert "alice" in status.message
    retried = world.wanting(quickstart(retry=frozenset({"stage-1"})))
    assert retried.the_action().key.ended == 1
    assert world.wanting(quickstart(retry=frozenset({"stage-2"}))).plan().actions == ()


@pytest.mark.parametrize("kind", [TRAIN, CONVERT, EVALUATE])
@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"substate": 91, "exit_status": None}, "was deleted with qdel: by root"),
        ({"substate": 92, "exit_status": None, "started_s": None}, "ended without having run: by root"),
    ],
    ids=["qdel", "never ran"],
)
def test_a_job_that_somebody_took_away_is_not_replaced_unasked(
    kind: ActionKind, ended: dict[str, Any], words: str
) -> None:
    world = after(1)
    action = world.until(kind)
    world.end(world.submit(action), comment="by root")
    world.jobs[-1] = replace(world.jobs[-1], **ended)
    status = world.status("stage-2")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.HELD, Reason.JOB_DELETED)
    assert words in status.message
    again = world.wanting(quickstart(retry=frozenset({"stage-2"}))).the_action()
    assert again.key == replace(action.key, ended=1)


@pytest.mark.parametrize("exit_status", [-29, 271, 143, 265, 0])
def test_a_job_killed_at_its_walltime_is_followed_from_its_newest_checkpoint(exit_status: int) -> None:
    """Its exit status says nothing: the checkpoint does."""
    world = World(quickstart())
    action = world.the_action()
    world.trained(action, 300)
    world.jobs[-1] = replace(world.jobs[-1], exit_status=exit_status, substate=93)
    assert world.the_action().summary == "train leg 0 from iteration 300 of 1954"


# --- a job that has just ended


@pytest.mark.parametrize(
    ("ended_ago_s", "log", "waits"),
    [
        pytest.param(0.0, {"finished_rc": 0}, False, id="a whole log is judged at once"),
        pytest.param(0.0, {"finished_rc": 1}, False, id="a failure too"),
        pytest.param(0.0, {}, True, id="the end of the log is not there"),
        pytest.param(29.9, {}, True, id="nor a moment later"),
        pytest.param(30.0, {}, False, id="it will not come any more"),
        pytest.param(0.0, None, True, id="no log at all"),
        pytest.param(30.0, None, False, id="no log, and none to come"),
        pytest.param(-5.0, {}, True, id="PBS's clock is some seconds ahead"),
        pytest.param(-3600.0, {}, False, id="PBS's clock is in another zone"),
    ],
)
def test_the_output_of_a_job_may_come_after_its_end(
    ended_ago_s: float, log: dict[str, object] | None, waits: bool
) -> None:
    world = World(quickstart())
    action = world.the_action()
    job_id = world.submit(action)
    world.end(job_id)
    world.jobs[-1] = replace(world.jobs[-1], ended_s=NOW_S - ended_ago_s)
    if log is not None:
        world.leg(action, logs=(log_of(action, 100, 2.0, saved=(), **log),))
    status = world.status("stage-1")
    if waits:
        assert (world.plan().actions, status.reason, status.job) == ((), Reason.JOB_ENDING, job_id)
    else:
        assert world.the_action().key.ended == 1


@pytest.mark.parametrize("kind", [CONVERT, EVALUATE])
def test_a_job_that_just_ended_with_its_result_is_followed_at_once(kind: ActionKind) -> None:
    world = after(1)
    action = world.until(kind)
    job_id = world.submit(action)
    world.end(job_id)
    world.jobs[-1] = replace(world.jobs[-1], ended_s=NOW_S)
    assert world.status("stage-2").reason is Reason.JOB_ENDING
    world.jobs.pop()
    world.receipts.pop()
    world.carry_out(SAME)
    world.jobs[-1] = replace(world.jobs[-1], ended_s=NOW_S)
    assert world.the_action().key.kind is not kind or world.the_action().key.detail != action.key.detail


def refused(world: World, action: Action) -> None:
    world.seen(action)
    world.receipts.append(Receipt(str(action.key), NOW_S, True, None, failed="qsub: Unknown queue"))


def two_fruitless(world: World, _: Action) -> None:
    fruitless(world)
    fruitless(world)


@pytest.mark.parametrize("kind", [TRAIN, EVALUATE, CONVERT])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(refused, Reason.SUBMIT_REFUSED), (two_fruitless, Reason.NO_PROGRESS)],
    ids=["refused", "idle"],
)
def test_retry_lifts_a_hold(kind: ActionKind, spoil: Callable[[World, Action], None], reason: Reason) -> None:
    world = after(1)
    action = world.until(kind)
    spoil(world, action)
    status = world.status("stage-2")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, reason, ())
    again = world.wanting(quickstart(retry=frozenset({"stage-2"}))).the_action()
    assert again.key.kind is kind


def test_the_words_of_a_refused_qsub_are_told() -> None:
    world = World(quickstart())
    refused(world, world.the_action())
    assert world.status("stage-1").message == "PBS refused the job: qsub: Unknown queue"
    assert world.status("stage-1").jobs == 0


# --- runs that went wrong


def running(world: World, **log: object) -> Action:
    """The next training job runs and has logged this."""
    action = world.until(TRAIN)
    world.submit(action)
    world.leg(action, logs=(*world_logs(world, action), log_of(action, 100, 2.0, saved=(), **log)))
    return action


def world_logs(world: World, action: Action) -> tuple[object, ...]:
    seen = world.seen(action)
    return next((leg.logs for leg in seen.legs if leg.index == action.key.leg), ())


NAN = {"last": tuple(LogPoint(i, None, 1e-3) for i in range(3))}
BLOWN = {
    "last": tuple(LogPoint(i, math.log(257) + 1, 1e-3) for i in range(3)),
    "windows": (LogWindow(1, 9, 2.0, 1.9, 2.1, 1e-3, 9, 0),),
}


@pytest.mark.parametrize(("log", "why"), [(NAN, "NaN"), (BLOWN, "diverged")], ids=["lost loss", "worse than guessing"])
def test_divergence_stops_the_job_then_fails_the_rung(log: dict[str, object], why: str) -> None:
    world = after(1)
    action = running(world, **log)
    stop = world.the_action()
    assert stop.key == replace(action.key, kind=STOP)
    assert stop.reason == Reason.DIVERGED
    assert why in stop.summary
    assert stop.job is None
    assert stop.files[0].path == f"quickstart/stage-2/{action.key.attempt}/stop"
    world.rewrite(action, stop_requested=True)
    assert (world.plan().actions, world.status("stage-2").reason) == ((), Reason.STOPPING)
    world.end(world.jobs[-1].job_id)
    verdict = world.the_action()
    assert verdict.key.kind is JUDGE
    assert "failed" in verdict.summary
    world.carry_out(SAME)
    following = world.the_action()
    assert following.key.attempt != action.key.attempt
    assert [rung.outcome for rung in world.status("stage-2").rungs] == ["failed", "untried"]


def test_a_queued_job_is_not_stopped_for_an_old_log() -> None:
    world = after(1)
    running(world, **NAN)
    world.jobs[-1] = replace(world.jobs[-1], state=JobState.QUEUED, letter="Q")
    assert world.plan().actions == ()


def test_a_loss_that_came_back_in_the_next_job_is_no_divergence() -> None:
    world = after(1)
    action = world.until(TRAIN)
    world.trained(action, 300)
    world.leg(action, logs=(log_of(action, 300, 2.0, **NAN),))
    assert world.the_action().key.kind is JUDGE
    again = replace(action, key=replace(action.key, ended=1))
    world.trained(again, 400)
    assert world.the_action().key.kind is TRAIN


def test_an_evaluation_job_is_not_judged_by_the_training_log() -> None:
    world = after(1)
    action = world.until(EVALUATE)
    world.submit(action)
    world.leg(action, logs=(log_of(action, 100, 2.0, **NAN),))
    assert world.plan().actions == ()


def test_a_job_that_lost_its_source_is_stopped_then_held() -> None:
    world = after(1)
    action = running(world, started_from_random=True)
    assert "started from random weights" in world.the_action().summary
    world.rewrite(action, stop_requested=True)
    world.end(world.jobs[-1].job_id)
    status = world.status("stage-2")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.STARTED_FROM_RANDOM)
    assert f"quickstart/stage-2/{action.key.attempt}/leg-0" in status.message
    assert world.plan().actions == ()


def test_that_hold_is_lifted_by_a_person_who_has_moved_the_folder_away() -> None:
    world = after(1)
    action = running(world, started_from_random=True)
    world.end(world.jobs[-1].job_id)
    world.leg(action, checkpoints=(CheckpointSeen(100, True),))
    retried = quickstart(retry=frozenset({"stage-2"}))
    assert world.wanting(retried).plan().actions == ()
    world.leg(action, checkpoints=())
    assert world.plan().actions == ()
    again = world.wanting(retried).the_action()
    assert (again.key.kind, again.key.ended) == (TRAIN, 1)
    world.trained(again, 300)
    assert world.the_action().key.ended == 2


def test_a_first_stage_that_a_person_lets_start_over_is_not_stopped_for_it() -> None:
    """Its checkpoints were lost, the job that then began anew was held, and its folder was moved away."""
    world = World(quickstart())
    partly(world, 300)
    lost = world.the_action()
    world.trained(lost, 100)
    earlier = world.seen(lost).legs[0].logs
    world.leg(lost, checkpoints=(), logs=(earlier[0], replace(earlier[1], started_from_random=True)))
    assert world.status("stage-1").reason is Reason.STARTED_FROM_RANDOM
    retried = world.wanting(quickstart(retry=frozenset({"stage-1"})))
    again = running(retried, started_from_random=True)
    assert again.key.ended == 2
    assert world.status("stage-1").reason is Reason.JOB_LIVE


def test_a_job_gets_the_number_after_the_last_also_where_an_entry_of_the_journal_is_gone() -> None:
    """Counted, it was given a number that had been used, which is done before and never done again."""
    world = World(quickstart())
    partly(world, 100)
    partly(world, 200)
    del world.receipts[0]
    assert world.the_action().key.ended == 2


@pytest.mark.parametrize("recipe", [None, "", "{}", '{"data_parallel": 2}'])
def test_without_its_recipe_an_attempt_is_not_trained_over(recipe: str | None) -> None:
    """Nothing tells then which checkpoints are complete: all looked incomplete, and their leg was begun anew."""
    world = World(quickstart())
    trained = partly(world, 300)
    whole = world.seen(trained)
    why = "recipe.json does not say on how many data-parallel ranks it was trained"
    world.leg(trained, checkpoints=(CheckpointSeen(300, False, why, 1, 10),))
    world.rewrite(trained, recipe=recipe)
    action = world.the_action()
    assert (action.key.kind, action.job, action.reason) == (ActionKind.RESTORE, None, Reason.RECIPE_MISSING)
    assert [file.path for file in action.files] == [f"quickstart/stage-1/{action.key.attempt}/recipe.json"]
    assert world.status("stage-1").phase is Phase.PREPARING
    world.attempts["stage-1", action.key.attempt] = replace(whole, recipe=action.files[0].text)
    assert "from iteration 300" in world.the_action().summary


def test_the_first_job_of_a_random_stage_may_start_from_random() -> None:
    world = World(quickstart())
    running(world, started_from_random=True)
    assert world.plan().actions == ()
    world.end(world.jobs[-1].job_id)
    assert world.the_action().key.kind is TRAIN


@pytest.mark.parametrize(("saved", "kind"), [((), None), ((300,), STOP)], ids=["nothing saved yet", "saved before"])
def test_a_later_job_of_a_random_stage_may_not_once_something_was_saved(
    saved: tuple[int, ...], kind: ActionKind | None
) -> None:
    world = World(quickstart())
    first = partly(world, 300)
    world.leg(first, logs=(log_of(first, 300, 2.0, saved=saved),))
    running(world, started_from_random=True)
    assert [action.key.kind for action in world.plan().actions] == ([] if kind is None else [kind])


# --- bounds and suspension


def test_a_suspended_stage_starts_nothing() -> None:
    world = World(quickstart(swapped(("  source: random", "  source: random\n  suspend: true"))))
    status = world.status("stage-1")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.SUSPENDED, ())
    assert "next would be: train leg 0" in status.message


def test_suspending_leaves_a_running_job_alone_and_still_stops_a_diverged_one() -> None:
    suspended = quickstart(swapped(("  source: {stage: stage-1,", "  suspend: true\n  source: {stage: stage-1,")))
    world = after(1)
    running(world)
    status = world.wanting(suspended).status("stage-2")
    assert (status.phase, status.reason) == (Phase.TRAINING, Reason.JOB_LIVE)
    sick = after(1)
    running(sick, **NAN)
    assert sick.wanting(suspended).the_action().key.kind is STOP


WINDOW = 'maxWalltime: 1h, submitWindows: [{from: "20:00", to: "06:00"}]'
"""Closed at NOW_S, which is a Monday at 13:46."""


def test_outside_the_submit_windows_no_job_is_submitted_and_the_status_says_when_they_open() -> None:
    world = World(quickstart(swapped(("maxWalltime: 1h", WINDOW))))
    status = world.status("stage-1")
    assert (status.reason, world.plan().actions) == (Reason.SUBMIT_WINDOW_CLOSED, ())
    assert "may be submitted again from Mon 1970-01-12 20:00 UTC; next: train leg 0" in status.message
    zoned = World(quickstart(swapped(("maxWalltime: 1h", f"{WINDOW}, timeZone: Asia/Tokyo"))))
    assert zoned.the_action().key.kind is TRAIN, "it is 22:46 in Tokyo"


def test_outside_the_submit_windows_what_runs_is_watched_and_what_has_ended_is_judged() -> None:
    closed = quickstart(swapped(("maxWalltime: 1h", WINDOW)))
    world = after(1)
    running(world)
    assert world.wanting(closed).status("stage-2").reason is Reason.JOB_LIVE
    ended = after(0)
    ended.until(JUDGE)
    assert ended.wanting(closed).the_action().key.kind is JUDGE


def test_a_suspended_stage_may_still_be_judged() -> None:
    world = after(0)
    world.until(JUDGE)
    suspended = quickstart(swapped(("  source: random", "  source: random\n  suspend: true")))
    assert world.wanting(suspended).the_action().key.kind is JUDGE


@pytest.mark.parametrize("bound", [("    nodeHours: 5\n", "    nodeHours: 1\n"),
                                   ("allocation: {nodeHours: 5}", "allocation: {nodeHours: 1}")],
                         ids=["campaign's", "allocation's"])  # fmt: skip
def test_a_bound_on_node_hours_holds(bound: tuple[str, str]) -> None:
    world = after(1, quickstart(swapped(bound)))
    world.until(TRAIN)
    world.jobs.append(
        Job("9.x", "n", JobState.FINISHED, "F", world.receipts[0].key, started_s=NOW_S - 7200, ended_s=NOW_S)
    )
    status = world.status("stage-2")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.NODE_HOURS_EXHAUSTED, ())
    assert "of 1 node-hours are spent" in status.message


def test_node_hours_exactly_spent_are_spent() -> None:
    world = World(quickstart(swapped(("    nodeHours: 5\n", "    nodeHours: 2\n"))))
    key = world.the_action().key
    job = Job("9.x", "n", JobState.FINISHED, "F", str(key), started_s=ENDED_S - 7200, ended_s=ENDED_S)
    world.jobs.append(job)
    assert world.plan().actions == ()
    world.jobs[0] = replace(job, started_s=ENDED_S - 7199)
    assert world.plan().actions != ()


def test_a_verdict_needs_no_node_hours() -> None:
    world = World(quickstart())
    world.until(JUDGE)
    spent = quickstart(swapped(("    nodeHours: 5\n", "    nodeHours: 0\n")))
    assert world.wanting(spent).the_action().key.kind is JUDGE


# --- verdicts


def test_done_needs_the_verdict_and_not_the_jobs() -> None:
    world = World(quickstart())
    action = world.until(JUDGE)
    assert world.status("stage-1").phase is Phase.EVALUATING
    world.judged(action)
    world.jobs.clear()
    assert world.status("stage-1").phase is Phase.DONE


def test_losses_at_another_checkpoint_are_not_the_stage_s() -> None:
    world = World(quickstart())
    action = world.until(EVALUATE)
    found = world.results(SAME)
    world.rewrite(action, evaluations=(EvaluationSeen(0, 1900, found), EvaluationSeen(1, 1954, found)))
    assert world.the_action().key.kind is EVALUATE
    world.rewrite(action, evaluations=(EvaluationSeen(0, 1954, found),))
    assert world.the_action().key.kind is JUDGE


def test_a_checkpoint_that_is_trained_anew_is_evaluated_anew() -> None:
    """What was found of the one that is gone is not the new one's; nor was its evaluation for nothing."""
    world = World(quickstart())
    action = world.until(JUDGE)
    leg, *others = world.seen(action).legs
    found = world.seen(action).evaluations
    saved = tuple(c for c in leg.checkpoints if c.iteration < found[-1].iteration)
    world.rewrite(action, legs=(replace(leg, checkpoints=saved), *others))
    again = world.the_action()
    assert again.key.kind is TRAIN
    assert again.aside == (
        f"quickstart/{action.key.stage}/{action.key.attempt}/evaluations/leg-0-{found[-1].iteration}",
    )
    world.rewrite(action, evaluations=(replace(found[-1], losses={}, earlier=2),))
    assert world.the_action().aside == ()
    world.trained(world.the_action(), found[-1].iteration)
    assert world.the_action().key.kind is EVALUATE


VAL_D0 = "{name: val-D0, of: D0, samples: 64, lists: {local: {path: data/val-D0.txt}}}"


@pytest.mark.parametrize(
    "exchanged",
    [
        pytest.param(VAL_D0.replace("64", "32"), id="fewer samples"),
        pytest.param(VAL_D0.replace("val-D0.txt", "val-D2.txt"), id="another list under the same name"),
    ],
)
def test_a_loss_on_a_set_that_was_exchanged_since_is_not_compared(exchanged: str) -> None:
    """The source is evaluated anew, on the set that has changed alone."""
    world = after(1).wanting(quickstart(swapped((VAL_D0, exchanged))))
    assert world.status("stage-1").phase is Phase.DONE, "what was judged stays judged"
    assert kinds_up_to_training(world) == [CONVERT, EVALUATE]


def test_a_list_whose_content_changed_under_a_validation_set_is_another_set() -> None:
    assert kinds_up_to_training(after(1)) == [CONVERT], "stage 1 has evaluated the source"
    world = after(1)
    world.lists[world.desired.validation_paths()["val-D0"]] = ListSeen("1 /data/other text\n", "another sha")
    assert kinds_up_to_training(world) == [CONVERT, EVALUATE]


def kinds_up_to_training(world: World) -> list[ActionKind]:
    """What is done before the first training job."""
    kinds: list[ActionKind] = []
    while world.the_action().key.kind is not TRAIN:
        kinds.append(world.carry_out(SAME))
    return kinds


def test_keys_of_everything_done_are_of_one_attempt_each() -> None:
    keys = [ActionKey.parse(receipt.key) for receipt in after(4).receipts]
    assert len({key.attempt for key in keys if key}) == 4
    assert len(keys) == len(set(keys))


def test_a_damaged_verdict_holds_instead_of_being_judged_over_and_over() -> None:
    world = after(1)
    (key,) = [key for key in world.attempts if key[0] == "stage-1"]
    world.attempts[key] = replace(world.attempts[key], verdicts={"final": "{half a"})
    status = world.status("stage-1")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.VERDICT_UNREADABLE)
    assert "move it away" in status.message


def test_a_converted_source_that_is_gone_with_its_losses_is_not_evaluated_for_ever() -> None:
    """Its jobs could only end without a result, however often a person gave --retry: found by the simulator."""
    world = after(1)
    assert world.carry_out(SAME) is CONVERT
    (source,) = [key for key in world.attempts if key[0] == "stage-1"]
    world.attempts[source] = replace(world.attempts[source], legs=())
    assert world.the_action().key.kind is TRAIN, "the copy and the losses are all that it needs"
    world.attempts[source] = replace(world.attempts[source], evaluations=())
    status = world.status("stage-2")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.SOURCE_UNUSABLE, ())
    assert "its losses, by which forgetting is judged, are not there either" in status.message


def test_a_source_whose_losses_were_lost_meanwhile_is_evaluated_before_forgetting_is_judged() -> None:
    """Without them the gate would be left out, and a model that forgot would pass: found by the simulator."""
    world = after(1)
    world.until(ActionKind.JUDGE)
    (source,) = [key for key in world.attempts if key[0] == "stage-1"]
    world.attempts[source] = replace(world.attempts[source], evaluations=())
    action = world.the_action()
    assert (action.key.kind, action.key.detail, action.reason) == (
        ActionKind.EVALUATE,
        "leg-0-0",
        Reason.BASELINE_NEEDED,
    )


# --- what a done stage has made


def without_checkpoints(world: World, stage: str, *, torn: str = "") -> World:
    """What every leg of a stage ended with is gone, or is damaged."""
    attempts = dict(world.attempts)
    for key, seen in world.attempts.items():
        if key[0] == stage:
            torn_ones = [[replace(c, complete=False, why_not=torn) for c in leg.checkpoints] for leg in seen.legs]
            left = [tuple(ones) if torn else () for ones in torn_ones]
            legs = (replace(leg, checkpoints=c) for leg, c in zip(seen.legs, left, strict=True))
            attempts[key] = replace(seen, legs=tuple(legs))
    return replace(world, attempts=attempts)


@pytest.mark.parametrize("stage", ["stage-2", "stage-4"])
@pytest.mark.parametrize(
    ("torn", "told"), [("", "is not there any more"), ("1 of 3 files is cut", "is incomplete: 1 of 3")]
)
def test_a_checkpoint_that_a_done_stage_ended_with_and_that_is_lost_is_told(stage: str, torn: str, told: str) -> None:
    world = after(4)
    assert [found for status in world.plan().stages for found in status.drift] == []
    made = without_checkpoints(world, stage, torn=torn).plan()
    assert {status.phase for status in made.stages} == {Phase.DONE}
    assert made.actions == (), "nothing is trained again unasked"
    ((name, found),) = [(status.stage, found) for status in made.stages for found in status.drift]
    assert (name, found.type, found.reason) == (stage, "Kept", "CheckpointLost")
    assert told in found.message and f"quickstart/{stage}/" in found.message
