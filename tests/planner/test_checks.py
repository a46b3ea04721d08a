"""Plans that no planner should make, made by hand: each invariant finds its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.observed import (
    AttemptSeen,
    CheckpointSeen,
    Job,
    JobState,
    LegSeen,
    Observed,
    Receipt,
    Unread,
)
from reconciler.model.plan import Action, ActionKey, ActionKind, FileWrite, JobRequest, Plan
from reconciler.planner.checks import judge

A, B = "a" * 12, "b" * 12
FOLDER = f"c/s/{A}"
EMPTY = Observed(0.0, "here", (), (), (), {})


def action(
    kind: ActionKind = ActionKind.TRAIN,
    *,
    attempt: str = A,
    leg: int = 0,
    ended: int = 0,
    arguments: tuple[str, ...] = (),
    job: bool = True,
) -> Action:
    key = ActionKey("c", "s", attempt, leg, ended, kind)
    values = {"launches": [{"environment": {"LOAD": "/w"}, "arguments": list(arguments)}]}
    request = JobRequest("n", "train", 1, 60, "q", None, (), "s", "l", values)
    return Action(key, "TokensRemain", "", job=request if job else None)


def plan_of(*actions: Action) -> Plan:
    return Plan("c", "r", False, actions, ())


def job_of(key: ActionKey | str | None, letter: str = "R") -> Job:
    return Job("7.pbs", "n", JobState.UNKNOWN, letter, None if key is None else str(key))


def seen(*iterations: int, leg: int = 0, complete: bool = True, attempt: str = A) -> Observed:
    checkpoints = tuple(CheckpointSeen(i, complete) for i in iterations)
    return replace(EMPTY, attempts=(AttemptSeen("s", attempt, None, (LegSeen(leg, checkpoints),)),))


def test_an_empty_plan_is_sound_on_any_look() -> None:
    assert judge(plan_of(), replace(EMPTY, jobs=Unread("x"))) == ()
    assert judge(plan_of(), EMPTY) == ()


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(replace(EMPTY, jobs=Unread("x")), id="job table"),
        pytest.param(replace(EMPTY, attempts=Unread("x")), id="attempts"),
        pytest.param(replace(EMPTY, receipts=Unread("x")), id="receipts"),
    ],
)
def test_acting_on_half_a_look(look: Observed) -> None:
    assert judge(plan_of(action()), look) == ("acts on a look that was not whole",)


def test_one_key_twice() -> None:
    one = action(job=False)
    assert judge(plan_of(one, one), EMPTY) == (f"does {one.key} 2 times",)


def test_two_jobs_of_an_attempt_at_once() -> None:
    found = judge(plan_of(action(leg=0), action(leg=1)), EMPTY)
    assert found == (f"submits 2 jobs at once for attempt {A} of s",)
    assert judge(plan_of(action(attempt=A), action(attempt=B)), EMPTY) == ()


@pytest.mark.parametrize("letter", ["Q", "R", "H", "E", "W", "S", "T", "U", "X", "?"])
def test_a_job_beside_one_in_any_state_but_finished(letter: str) -> None:
    one = action(ended=1)
    look = replace(EMPTY, jobs=(job_of(replace(one.key, ended=0, kind=ActionKind.EVALUATE), letter),))
    assert judge(plan_of(one), look) == (f"submits {one.key} while job 7.pbs of that attempt is in state {letter}",)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job_of(action().key, "F"), id="finished"),
        pytest.param(job_of(replace(action().key, attempt=B)), id="another attempt"),
        pytest.param(job_of(replace(action().key, stage="t")), id="another stage"),
        pytest.param(job_of(replace(action().key, campaign="d")), id="another campaign"),
        pytest.param(job_of("rubbish"), id="not ours"),
        pytest.param(job_of(None), id="without a key"),
    ],
)
def test_a_job_beside_others_is_sound(job: Job) -> None:
    assert judge(plan_of(action()), replace(EMPTY, jobs=(job,))) == ()


def test_an_action_without_a_job_may_go_beside_a_live_one() -> None:
    stop = action(ActionKind.STOP, job=False)
    assert judge(plan_of(stop), replace(EMPTY, jobs=(job_of(action().key),))) == ()


@pytest.mark.parametrize("flag", ["--reset-iteration", "--finetune", "--universal-checkpoint"])
def test_starting_a_leg_over_although_it_is_trained(flag: str) -> None:
    one = action(arguments=("--load-tag=global_step200", flag))
    assert judge(plan_of(one), seen(100, 200)) == (
        f"{one.key} would start the leg over although iteration 200 is trained",
    )
    assert judge(plan_of(action(arguments=(flag,))), EMPTY) == ()


@pytest.mark.parametrize("tag", ["100", "20", "2000", ""])
def test_not_resuming_from_the_newest(tag: str) -> None:
    one = action(arguments=(f"--load-tag=global_step{tag}",) if tag else ())
    assert judge(plan_of(one), seen(100, 200)) == (
        f"{one.key} does not resume from iteration 200, the newest complete checkpoint",
    )


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(seen(200, leg=1), id="another leg's"),
        pytest.param(seen(200, complete=False), id="incomplete"),
        pytest.param(seen(200, attempt=B), id="another attempt's"),
        pytest.param(EMPTY, id="none"),
    ],
)
def test_checkpoints_that_do_not_bind(look: Observed) -> None:
    assert judge(plan_of(action(arguments=("--reset-iteration",))), look) == ()


def test_resuming_from_the_newest_is_sound() -> None:
    assert judge(plan_of(action(arguments=("--load-tag=global_step200",))), seen(100, 200)) == ()
    assert judge(plan_of(action(ActionKind.EVALUATE, arguments=("--finetune",))), seen(200)) == ()


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        (f"{FOLDER}/evaluations/leg-0-100", "whose checkpoint is there"),
        (f"{FOLDER}/leg-0", "which is no evaluation"),
        (f"c/s/{B}/evaluations/leg-0-300", "outside its attempt"),
    ],
)
def test_what_must_not_be_set_aside(folder: str, why: str) -> None:
    found = judge(plan_of(replace(action(arguments=("--load-tag=global_step200",)), aside=(folder,))), seen(100, 200))
    assert found
    assert why in found[0]


def test_what_was_found_of_a_checkpoint_that_is_gone_is_set_aside() -> None:
    gone = replace(action(arguments=("--load-tag=global_step200",)), aside=(f"{FOLDER}/evaluations/leg-0-300",))
    assert judge(plan_of(gone), seen(100, 200)) == ()


@pytest.mark.parametrize(
    ("change", "path", "where"),
    [
        ("files", f"c/s/{B}/x", "outside its attempt"),
        ("files", "c/t/x", "outside its attempt"),
        ("files", f"{FOLDER}/../x", "outside its attempt"),
        ("files", f"/{FOLDER}/x", "outside its attempt"),
        ("files", "other/tools/x", "outside its attempt"),
        ("remove", "c/x", "outside its attempt"),
        ("directories", f"c/s/{B}", "outside its attempt"),
        ("files", f"{FOLDER}/leg-0/latest", "inside a checkpoint"),
        ("files", f"{FOLDER}/leg-0/latest_checkpointed_iteration.txt", "inside a checkpoint"),
        ("files", f"{FOLDER}/leg-0/global_step100/x", "inside a checkpoint"),
        ("remove", f"{FOLDER}/leg-0/global_step100/x", "inside a checkpoint"),
        ("remove", f"{FOLDER}/leg-1/latest", "inside a checkpoint"),
        ("remove", f"{FOLDER}/leg-0/latest_checkpointed_iteration.txt", "inside a checkpoint"),
    ],
)
def test_writes_in_the_wrong_place(change: str, path: str, where: str) -> None:
    touched: tuple[object, ...] = (FileWrite(path, ""),) if change == "files" else (path,)
    one = replace(action(), **{change: touched})  # type: ignore[arg-type]
    (found,) = judge(plan_of(one), EMPTY)
    assert found.startswith(f"{one.key} touches {path}")
    assert where in found


@pytest.mark.parametrize(("complete", "sound"), [(True, False), (False, True)])
def test_the_pointer_is_taken_away_only_from_a_leg_without_a_complete_checkpoint(complete: bool, sound: bool) -> None:
    one = replace(action(arguments=("--load-tag=global_step200",)), remove=(f"{FOLDER}/leg-0/latest",))
    assert (judge(plan_of(one), seen(200, complete=complete)) == ()) is sound


def test_writes_in_the_right_places() -> None:
    one = replace(
        action(),
        files=(FileWrite(f"{FOLDER}/recipe.json", ""), FileWrite("c/tools/t.py", "")),
        directories=(FOLDER, f"{FOLDER}/leg-0"),
        remove=(f"{FOLDER}/stop",),
    )
    assert judge(plan_of(one), replace(EMPTY, receipts=(Receipt("k", 0, True),))) == ()


@pytest.mark.parametrize(
    ("detail", "look", "sound"),
    [
        ("leg-0-200", seen(200), True),
        ("leg-0-200", seen(200, attempt=B), True),  # a leg that was taken lies in the folder of who trained it
        ("leg-0-200", seen(200, complete=False), False),
        ("leg-0-200", seen(100), False),
        ("leg-0-200", seen(200, leg=1), False),
        ("leg-0-200", EMPTY, False),
        ("leg-0-0", EMPTY, True),  # the source, before the first step
    ],
)
def test_what_is_not_there_is_not_evaluated(detail: str, look: Observed, sound: bool) -> None:
    one = action(ActionKind.EVALUATE)
    one = replace(one, key=replace(one.key, detail=detail))
    assert judge(plan_of(one), look) == (() if sound else (f"{one.key} evaluates a checkpoint that is not there",))
