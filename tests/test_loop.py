"""When `apply --until-done` looks again, and when it ends."""

from __future__ import annotations

import pytest

from reconciler import loop
from reconciler.model.observed import Unread
from reconciler.model.status import PASSING, Reason
from reconciler.planner.planner import plan
from tests.planner.test_steps import WINDOW
from tests.planner.world import World, after, quickstart, swapped


def looked(world: World) -> loop.Look:
    return loop.Look(world.look(), plan(world.desired, world.look()))


def running() -> World:
    world = after(1)
    world.submit(world.the_action())
    return world


def unread() -> World:
    world = after(1)
    world.lists[next(iter(world.desired.list_paths().values()))] = Unread("the disk sleeps")
    return world


@pytest.mark.parametrize(
    ("world", "reason", "settled"),
    [
        pytest.param(World(quickstart()), Reason.TRAINING_STARTS, False, id="there is something to do"),
        pytest.param(running(), Reason.JOB_LIVE, False, id="a job runs"),
        pytest.param(unread(), Reason.LIST_UNREAD, False, id="something could not be read"),
        pytest.param(
            World(quickstart(swapped(("maxWalltime: 1h", WINDOW)))),
            Reason.SUBMIT_WINDOW_CLOSED,
            False,
            id="jobs may be submitted later",
        ),
        pytest.param(
            World(quickstart(swapped(("  source: random", "  source: random\n  suspend: true")))),
            Reason.SUSPENDED,
            True,
            id="a person must decide, and the stages behind it wait for that",
        ),
        pytest.param(after(4), Reason.ALL_EVIDENCE, True, id="all is done"),
    ],
)
def test_it_goes_on_as_long_as_something_passes_by_itself(world: World, reason: Reason, settled: bool) -> None:
    seen = looked(world)
    assert reason in {status.reason for status in seen.plan.stages}
    assert loop.settled(seen) is settled


def test_a_stage_that_waits_for_another_does_not_by_itself_keep_it_going() -> None:
    assert Reason.SOURCE_NOT_DONE not in PASSING
