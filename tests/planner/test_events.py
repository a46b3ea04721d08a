"""The difference of two looks, event by event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.model.observed import Unread
from reconciler.model.plan import ActionKind
from reconciler.planner.events import Event, Seen, Sort, events, remembered, turns
from reconciler.planner.planner import plan
from tests.planner.test_steps import without_checkpoints
from tests.planner.world import FORGOT_D0, SAME, World, after, quickstart, swapped


def seen(world: World) -> Seen:
    return Seen(world.look(), world.plan())


def between(world: World, happens: Callable[[World], object]) -> list[Event]:
    """What is new after this has happened."""
    before = seen(world)
    happens(world)
    return list(events(before, seen(world)))


def nothing(world: World) -> None:
    """Nothing happens."""


def submitted(world: World) -> None:
    world.submit(world.the_action())


def trained(world: World) -> None:
    world.trained(world.the_action(), 586)


def killed(world: World) -> None:
    world.end(world.submit(world.the_action()), exit_status=271, comment="job killed: walltime 25 exceeded")


def failed(world: World) -> None:
    world.until(ActionKind.JUDGE, FORGOT_D0)
    world.carry_out(FORGOT_D0)


def evaluated(world: World) -> None:
    world.carry_out(SAME)


def judged(world: World) -> None:
    world.carry_out(SAME)


def suspended(world: World) -> None:
    world.desired = quickstart(swapped(("  source: random\n", "  source: random\n  suspend: true\n")))


CASES: dict[str, tuple[Callable[[], World], Callable[[World], object], list[tuple[str, str, Sort]]]] = {
    "nothing is new": (lambda: after(1), nothing, []),
    "a job is submitted": (
        lambda: World(quickstart()),
        submitted,
        [("stage-1", "train job 0.here runs", Sort.NEUTRAL), ("stage-1", "pretrain has begun", Sort.NEUTRAL)],
    ),
    "a job was killed": (
        lambda: World(quickstart()),
        killed,
        [
            ("stage-1", "train job 0.here ended with exit status 271 after 1m: job killed", Sort.BAD),
            ("stage-1", "pretrain has begun", Sort.NEUTRAL),
        ],
    ),
    "a job has saved": (
        lambda: World(quickstart()),
        trained,
        [
            ("stage-1", "train job 0.here ended", Sort.NEUTRAL),
            ("stage-1", "leg 0 has a complete checkpoint at iteration 586", Sort.NEUTRAL),
            ("stage-1", "pretrain has begun", Sort.NEUTRAL),
        ],
    ),
    "a stage is done": (
        lambda: begun(ActionKind.JUDGE),
        judged,
        [("stage-1", "pretrain passed: ", Sort.GOOD)],
    ),
    "losses are known": (
        lambda: begun(ActionKind.EVALUATE),
        evaluated,
        [
            ("stage-1", "evaluate job 1.here ended", Sort.NEUTRAL),
            ("stage-1", "evaluated at iteration 1954: val-D0 2.000, val-D1 2.500", Sort.NEUTRAL),
        ],
    ),
    "a person is needed": (
        lambda: World(quickstart()),
        suspended,
        [("stage-1", "held: Suspended: suspended by its manifest", Sort.ATTENTION)],
    ),
}


def begun(kind: ActionKind) -> World:
    world = World(quickstart())
    world.until(kind)
    return world


@pytest.mark.parametrize("case", CASES)
def test_what_is_new(case: str) -> None:
    make, happens, expected = CASES[case]
    found = between(make(), happens)
    assert [(e.stage, e.sort) for e in found] == [(stage, sort) for stage, _, sort in expected], found
    for event, (_, said, _) in zip(found, expected, strict=True):
        assert event.said.startswith(said), event.said


def test_a_failed_strategy_is_told_with_its_verdict() -> None:
    found = between(after(1), failed)
    assert any(e.sort is Sort.BAD and e.said.startswith("naive failed: val-D0 +0.310 nats") for e in found), found


def test_a_hold_that_was_lifted_is_told() -> None:
    world = World(quickstart())
    suspended(world)
    found = between(world, lambda world: setattr(world, "desired", quickstart()))
    assert [event.said.partition(":")[0] for event in found] == ["goes on"]


def test_a_first_look_says_where_each_stage_is() -> None:
    found = events(None, seen(after(1)))
    assert [(event.stage, event.said.partition(":")[0]) for event in found] == [
        ("stage-1", "Done"),
        ("stage-2", "Preparing naive"),
        ("stage-3", "Waiting"),
        ("stage-4", "Waiting"),
    ]


def test_without_a_plan_before_what_has_failed_is_told_and_not_what_runs() -> None:
    world = after(2)
    failed(world)
    world.submit(world.the_action())
    said = [f"{event.stage} {event.said.partition(':')[0]}" for event in turns(None, world.plan())]
    assert said == ["stage-1 pretrain passed", "stage-2 naive passed", "stage-3 naive failed"]


def test_what_could_not_be_read_is_no_news() -> None:
    """Neither that everything has gone, nor at the next look that all of it is new."""
    world = after(2)
    failed(world)
    whole = seen(world)
    (first,) = [seen for key, seen in world.attempts.items() if key[0] == "stage-1"]
    attempts = tuple(replace(seen, unread="timeout") if seen is first else seen for seen in world.attempts.values())
    for unread in (
        replace(whole.observed, jobs=Unread("timeout")),
        replace(whole.observed, attempts=Unread("timeout")),
        replace(whole.observed, attempts=attempts),
    ):
        known = remembered(whole, Seen(unread, plan(world.desired, unread)))
        assert events(whole, known) == ()
        assert events(known, remembered(known, whole)) == ()


def test_a_checkpoint_that_has_been_lost_is_told_once() -> None:
    world = after(2)
    before, now = seen(world), seen(without_checkpoints(world, "stage-1"))
    (event,) = events(before, now)
    assert (event.stage, event.sort) == ("stage-1", Sort.ATTENTION)
    assert event.said.startswith("CheckpointLost: the checkpoint that the stage ended with, quickstart/stage-1/")
    assert events(now, now) == ()
    assert event in events(None, now)
