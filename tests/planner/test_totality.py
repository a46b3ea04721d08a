"""The planner answers every look: evidence lost, doubled and garbled at random, and what must hold of each answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.observed import (
    AttemptSeen,
    CheckpointSeen,
    EvaluationSeen,
    Job,
    JobState,
    LegSeen,
    ListAbsent,
    ListSeen,
    LogPoint,
    LogWindow,
    Observed,
    Receipt,
    TrainLog,
    Unread,
)
from reconciler.model.plan import ActionKey
from reconciler.model.status import Phase
from reconciler.planner.checks import judge
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from tests.planner.world import FORGOT_D0, NOW_S, SAME, World, quickstart, swapped

NAIVE = "        - mixture: {D2: 1}\n          lr: {shape: constant}\n"
TRIAL = (
    f"{NAIVE}      trial: {{tokens: 100k, matrix: {{mixture: {{a: {{D2: 1}}, b: {{D0: 0.5, D2: 0.5}}}}}}, "
    "compare: [val-D0]AT_ONCE}\n"
)
BOUNDED = ("  bounds:\n", "  bounds:\n    tokens: 9M\n")
CONDITION = ("    - name: replay-30\n", "    - name: replay-30\n      if: forgetting\n")
DECAY = (
    "        - mixture: {D0: 1}\n          lr: {shape: cosine, to: lrMax/50, until: lrMax/5}\n"
    "        - mixture: {D0: 0.8, D2: 0.2}\n          lr: {shape: continue}\n"
    "      batch: {times: 0.5, rate: sqrt}\n      waive: [{rule: CPT060, reason: steps are long here}]\n"
)
ON_ALONG_IT = (
    "    - name: cooldown-mix-b\n",
    "    - name: cooldown-mix-b\n      if: {stage: stage-3, used: [naive]}\n"
    "      source: {stage: stage-3, checkpoint: final}\n",
)
RATES = (
    "        - mixture: {D2: 1}\n          lr: {shape: cooldown, decay: exponential, at: lrMax*2, to: lrMax/2, "
    "rewarm: true, warmup: 1%}\n      source: {stage: stage-2, checkpoint: final}\n"
    "      trial: {tokens: 100k, matrix: {divisor: [10, 50], rate: [lrMax, lrMax*2]}, compare: [val-D0, val-D2]}\n"
)
SELECTION = (
    "    composition: by-tokens        # share of each done dataset in B; also: equal",
    "    composition: declared\n    weights: {D1: 0.1, D2: 0.3}\n    select:\n      D2: {shards: [data/D2-b]}\n"
    "      D1: {scores: {local: {path: data/D1.scores}}, order: middle, cap: 0.5M}",
)
SCORES = "/r/data/D1.scores"
EDITS: dict[str, Desired] = {
    "a decay that the data is switched in": quickstart(swapped((NAIVE, DECAY), ON_ALONG_IT)),
    "rates tried": quickstart(swapped((NAIVE, RATES))),
    "a buffer of selections": quickstart(swapped(SELECTION)),
    "a trial": quickstart(swapped((NAIVE, TRIAL.replace("AT_ONCE", "")), BOUNDED, CONDITION)),
    "two pilots at once": quickstart(swapped((NAIVE, TRIAL.replace("AT_ONCE", ", atOnce: 2")), CONDITION)),
    "chosen": quickstart(swapped((NAIVE, TRIAL.replace("AT_ONCE", ", chosen: naive.b")))),
    "as applied": quickstart(),
    "retried": quickstart(retry=frozenset({"stage-1", "stage-2", "stage-3", "stage-4"})),
    "weights edited": quickstart(swapped(("{D0: 0.05, D1: 0.95}", "{D0: 0.06, D1: 0.94}"))),
    "first stage edited": quickstart(swapped(("warmup: 10%", "warmup: 5%"))),
    "holding": quickstart(swapped(("onFailedGate: advance", "onFailedGate: hold"))),
    "every gate": quickstart(
        swapped(
            ("    forgetting:                   #", "    forgetting:\n      every: 5%\n      consecutive: 1  #"),
            (
                "    recovery:                     # ",
                "    continuity: {conversion: 0.01}\n    target: {val-D0: 2.2}\n"
                "    external: [{name: mmlu, metric: [a], atLeast: 0.3}]\n    recovery:  # ",
            ),
        )
    ),
    "suspended": quickstart(swapped(("  source: {stage: stage-1,", "  suspend: true\n  source: {stage: stage-1,"))),
}
NUMBERS = st.one_of(st.floats(0, 12), st.sampled_from([math.nan, math.inf, -1.0]))
POINTS = st.builds(LogPoint, st.integers(0, 3000), st.one_of(st.none(), NUMBERS), NUMBERS)
WINDOWS = st.builds(
    LogWindow,
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), NUMBERS),
    NUMBERS,
    st.integers(0, 100),
    st.integers(0, 100),
    spread=st.one_of(st.none(), NUMBERS),
)
CHECKPOINTS = st.builds(CheckpointSeen, st.integers(1, 2500), st.booleans())
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["{}", "null", "[" * 20_000, "1" * 5000]))
SCORED = st.one_of(
    st.builds(Unread, st.just("timed out")),
    st.builds(ListAbsent),
    st.builds(
        ListSeen,
        st.one_of(TEXTS, st.sampled_from(["0.9 400000 /data/D1-a\n-1e99 600000 /data/D1-b\n", "nan 1 /data/D1-a\n"])),
        st.just("sha"),
    ),
)
EXTERNAL = st.one_of(TEXTS, st.sampled_from(['{"a": 0.5}', '{"a": NaN}', '{"a": 1e999}']))
LISTS = st.one_of(
    st.builds(Unread, st.just("timed out")),
    st.builds(ListAbsent),
    st.builds(ListSeen, st.one_of(TEXTS, st.just("1 /data/x text\n")), st.just("sha")),
)


def logs(keys: list[str]) -> st.SearchStrategy[TrainLog]:
    return st.builds(
        TrainLog,
        st.sampled_from(keys),
        loaded_iteration=st.one_of(st.none(), st.integers(0, 2500)),
        started_from_random=st.booleans(),
        first=st.lists(POINTS, max_size=4).map(tuple),
        last=st.lists(POINTS, max_size=4).map(tuple),
        windows=st.lists(WINDOWS, max_size=4).map(tuple),
        saved=st.lists(st.integers(1, 2000), max_size=2).map(tuple),
        errors=st.lists(st.text(max_size=5), max_size=1).map(tuple),
        seconds_per_iteration=st.one_of(st.none(), st.floats(0.01, 100)),
    )


def legs(keys: list[str]) -> st.SearchStrategy[LegSeen]:
    iterations = st.one_of(st.none(), st.integers(0, 2500))
    return st.builds(
        LegSeen,
        st.integers(0, 2),
        st.lists(CHECKPOINTS, max_size=3).map(tuple),
        iterations,
        iterations,
        st.lists(logs(keys), max_size=2).map(tuple),
        iterations,
    )


@st.composite
def garbled_attempt(draw: st.DrawFn, seen: AttemptSeen, keys: list[str]) -> AttemptSeen:
    """One part of what was seen of an attempt is something else."""
    parts = ["unread", "recipe", "legs", "evaluations", "verdicts", "external", "stop", "name", "nothing"]
    part = draw(st.sampled_from(parts))
    match part:
        case "unread":
            return replace(seen, unread="permission denied")
        case "recipe":
            return replace(seen, recipe=draw(st.one_of(st.none(), TEXTS)))
        case "legs":
            return replace(seen, legs=tuple(draw(st.lists(legs(keys), max_size=2))))
        case "evaluations":
            losses = st.dictionaries(st.sampled_from([*SAME, "other"]), NUMBERS)
            made = st.builds(EvaluationSeen, st.integers(0, 3), st.sampled_from([0, 245, 977, 1954]), losses)
            return replace(seen, evaluations=tuple(draw(st.lists(made, max_size=3))))
        case "verdicts":
            return replace(seen, verdicts=draw(st.dictionaries(st.sampled_from(["final", "other"]), TEXTS)))
        case "external":
            return replace(seen, external=draw(st.dictionaries(st.sampled_from(["mmlu", "other"]), EXTERNAL)))
        case "stop":
            return replace(seen, stop_requested=True)
        case "name":
            return replace(seen, attempt=draw(st.from_regex("[0-9a-f]{12}", fullmatch=True)))
        case _:
            return seen


@st.composite
def looks(draw: st.DrawFn) -> tuple[Desired, Observed]:
    """A campaign somewhere on its way, with its evidence spoilt."""
    begun = ["as applied", "a trial", "a decay that the data is switched in", "rates tried", "a buffer of selections"]
    world = World(EDITS[draw(st.sampled_from(begun))])
    world.lists[SCORES] = ListSeen("0.9 400000 /data/D1-a\n0.1 600000 /data/D1-b\n", "sha of scores")
    for forgets in draw(st.lists(st.booleans(), max_size=20)):
        if not world.plan().actions:
            break
        world.carry_out(FORGOT_D0 if forgets else SAME)
    submits: bool = draw(st.booleans())
    for action in world.plan().actions:
        if submits and action.job is not None:
            world.submit(action)
    keys = [receipt.key for receipt in world.receipts] or ["quickstart/stage-1/000000000000/l0/n0/train"]
    attempts = [draw(garbled_attempt(seen, keys)) for seen in world.attempts.values() if draw(st.integers(0, 5))]
    jobs = [
        replace(job, **draw(st.sampled_from(JOB_CHANGES))) for job in world.jobs if draw(st.integers(0, 4))
    ]  # a fifth of the table has left the history
    jobs += draw(st.lists(st.sampled_from(jobs), max_size=2)) if jobs else []
    receipts = [
        replace(receipt, **draw(st.sampled_from(RECEIPT_CHANGES)))
        for receipt in world.receipts
        if draw(st.integers(0, 5))
    ]
    look = replace(
        world.look(),
        jobs=tuple(jobs),
        attempts=tuple(attempts),
        receipts=(*receipts, *draw(st.lists(st.sampled_from(STRANGE_RECEIPTS), max_size=2))),
        applied=draw(st.one_of(st.none(), st.builds(Unread, st.just("x")), TEXTS)),
    )
    spoilt = draw(st.dictionaries(st.sampled_from(sorted(look.lists)), LISTS, max_size=2))
    spoilt |= draw(st.dictionaries(st.just(SCORES), SCORED, max_size=1))
    return EDITS[draw(st.sampled_from(sorted(EDITS)))], replace(look, lists=dict(look.lists) | spoilt)


JOB_CHANGES: list[dict[str, Any]] = [
    {},
    {},
    {"state": JobState.RUNNING, "letter": "R"},
    {"state": JobState.UNKNOWN, "letter": "?"},
    {"state": JobState.HELD, "letter": "H"},
    {"state": JobState.FINISHED, "letter": "F", "exit_status": 271, "substate": 91},
    {"key": None},
    {"key": "rubbish"},
    {"started_s": None},
    {"ended_s": None},
]
RECEIPT_CHANGES: list[dict[str, Any]] = [
    {},
    {},
    {"job_id": None, "done": False},
    {"job_id": None, "failed": "qsub: no"},
    {"job_id": "0.here"},
]
STRANGE_RECEIPTS = [
    Receipt("rubbish", NOW_S, True),
    Receipt("quickstart/stage-1/" + "0" * 12 + "/l" + "9" * 5000 + "/n0/train", NOW_S, True, "1.x"),
    Receipt("quickstart/stage-9/" + "0" * 12 + "/l0/n0/train", NOW_S, True, "2.x"),
]


def live_keys(look: Observed) -> list[ActionKey]:
    """Keys of live jobs: the one that a job carries, else the one whose receipt names it.

    A receipt does not count against the job's own key: a server that was set up anew gives old ids to other jobs.
    """
    assert not isinstance(look.jobs, Unread)
    assert not isinstance(look.receipts, Unread)
    by_id = {receipt.job_id: receipt.key for receipt in look.receipts if receipt.job_id}
    found = [
        ActionKey.parse(job.key or "") or ActionKey.parse(by_id.get(job.job_id, "")) for job in look.jobs if job.live
    ]
    return [key for key in found if key is not None]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(looks())
def test_every_look_has_an_answer_and_the_answer_is_sound(case: tuple[Desired, Observed]) -> None:
    desired, look = case
    made = plan(desired, look)
    assert made == plan(desired, look)
    assert judge(made, look) == ()
    assert [status.stage for status in made.stages] == ["stage-1", "stage-2", "stage-3", "stage-4"]
    submitting = Counter((action.key.stage, action.key.attempt) for action in made.actions if action.job)
    assert all(times == 1 for times in submitting.values())
    assert not set(submitting) & {(key.stage, key.attempt) for key in live_keys(look)}
    # Only the first stage that is not done may act, and a refused stage never does.
    open_stage = next((status.stage for status in made.stages if status.phase is not Phase.DONE), None)
    acting = {action.key.stage for action in made.actions}
    assert acting <= {open_stage}
    assert not any(refusal.message.startswith(f"{stage}:") for refusal in made.refusals for stage in acting)
    assert all(status.message for status in made.stages)
    assert made.digest == plan(desired, replace(look, now_s=look.now_s + 1)).digest


SPOILERS: dict[str, Callable[[World], Observed]] = {
    "a key of many digits": lambda w: replace(
        w.look(), jobs=(Job("1.x", "n", JobState.RUNNING, "R", f"a/b/{'0' * 12}/l{'1' * 5000}/n0/train"),)
    ),
    "a record nested without end": lambda w: replace(w.look(), applied="[" * 100_000),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_hostile_values_are_nothing(spoil: Callable[[World], Observed]) -> None:
    world = World(quickstart())
    assert plan(world.desired, spoil(world)).actions == world.plan().actions


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0.0, -1.0], ids=str)
def test_a_speed_that_is_none_is_not_forecast_from(seconds: float) -> None:
    world = World(quickstart())
    action = world.the_action()
    log = TrainLog(str(action.key), seconds_per_iteration=seconds)
    world.rewrite(action, legs=(LegSeen(0, logs=(log,)),))
    assert world.plan().forecasts[0].jobs is None
