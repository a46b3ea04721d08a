"""Every wait, hold and step has a case here that brings it about: the closed set of reasons, walked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.authority import Strayed
from reconciler.model.observed import (
    CheckpointSeen,
    FolderAbsent,
    JobState,
    ListAbsent,
    ListSeen,
    PrunedSeen,
    Stuck,
    Unread,
)
from reconciler.model.plan import ActionKind, Plan
from reconciler.model.status import Reason
from reconciler.planner import ancestry
from reconciler.planner.planner import plan
from tests.planner import test_adopted as adopted
from tests.planner import test_gates as gates
from tests.planner import test_retention as retention
from tests.planner import test_sources as sources
from tests.planner import test_steps as steps
from tests.planner import test_trial as trial
from tests.planner.world import FORGOT_D0, NOW_S, World, after, quickstart, swapped

TRAIN, EVALUATE, JUDGE = ActionKind.TRAIN, ActionKind.EVALUATE, ActionKind.JUDGE


def until(kind: ActionKind, stages: int = 0) -> World:
    """The next action is of this kind."""
    world = after(stages)
    world.until(kind)
    return world


def job(**changes: Any) -> World:
    """The first job of the campaign, in a state."""
    world = World(quickstart())
    world.submit(world.the_action())
    world.jobs[0] = replace(world.jobs[0], **changes)
    return world


def ended(**how: Any) -> World:
    """The first job of the campaign has ended."""
    world = World(quickstart())
    world.end(world.submit(world.the_action()), **how)
    return world


def just_ended() -> World:
    world = ended()
    world.jobs[0] = replace(world.jobs[0], ended_s=NOW_S)
    return world


def unlisted(ago_s: float) -> World:
    """PBS took a job so long ago and does not know it."""
    world = job()
    world.jobs.clear()
    world.receipts[-1] = replace(world.receipts[-1], written_s=NOW_S - ago_s)
    return world


def edited(*edits: tuple[str, str]) -> World:
    return World(quickstart(swapped(*edits)))


def listed(answer: ListSeen | ListAbsent | Unread) -> World:
    world = World(quickstart())
    world.lists["/r/data/D0.txt"] = answer
    return world


def without_recipe() -> World:
    world = World(quickstart())
    trained = steps.partly(world, 300)
    world.leg(trained, checkpoints=(CheckpointSeen(300, False, "no recipe", 1, 10),))
    world.rewrite(trained, recipe=None)
    return world


def astray() -> World:
    world = retention.begun(retention.KEEP, partial=500)
    world.leg(world.the_action(), latest=500)
    return world


def stopping() -> World:
    world = after(1)
    action = steps.running(world, **steps.NAN)
    world.rewrite(action, stop_requested=True)
    return world


def from_random() -> World:
    world = after(1)
    steps.running(world, started_from_random=True)
    world.end(world.jobs[-1].job_id)
    return world


def bad_load() -> World:
    world = after(1)
    world.trained(world.until(TRAIN), 500)
    gates.runs(world, gates.points(2.9, 501), loaded_iteration=500)
    gates.ends(world)
    return world


def diverged() -> World:
    world = after(1)
    steps.running(world, **steps.NAN)
    return world


def refused() -> World:
    world = World(quickstart())
    steps.refused(world, world.the_action())
    return world


def fruitless() -> World:
    world = World(quickstart())
    steps.two_fruitless(world, world.the_action())
    return world


def all_jobs_had() -> World:
    world = edited(("jobsPerAttempt: 12", "jobsPerAttempt: 1"))
    steps.partly(world, 100)
    return world


def spent() -> World:
    world = after(1, quickstart(swapped(("    nodeHours: 5\n", "    nodeHours: 1\n"))))
    world.until(TRAIN)
    hours = replace(world.jobs[0], job_id="9.x", started_s=NOW_S - 7200, ended_s=NOW_S)
    world.jobs.append(hours)
    return world


def forgot(rungs: int, *edits: tuple[str, str]) -> World:
    world = after(1, quickstart(swapped(*edits)))
    for _ in range(rungs):
        world.finish_stage(FORGOT_D0)
    return world


def trained_edited() -> World:
    return after(1).wanting(
        quickstart(swapped(("  tokens: 4M\n  source: random\n", "  tokens: 5M\n  source: random\n")))
    )


def damaged_verdict() -> World:
    world = after(1)
    ((key, seen),) = world.attempts.items()
    world.attempts[key] = replace(seen, verdicts={"final": "{half a"})
    return world


def losses_lost() -> World:
    world = until(JUDGE, 1)
    (source,) = [key for key in world.attempts if key[0] == "stage-1"]
    world.attempts[source] = replace(world.attempts[source], evaluations=())
    return world


def adopting(folder: Any) -> Plan:
    desired = quickstart(adopted.adopting())
    return plan(desired, adopted.look(desired, folder))


def unread(**parts: Any) -> Plan:
    world = World(quickstart())
    return plan(world.desired, replace(world.look(), **parts))


def shallow() -> Plan:
    """A stage that was applied at a commit which the clone may not reach back to."""
    made = after(1).plan()
    applied = {"d" * 40: {"stage-1": made.stages[0].attempt}}
    return ancestry.noted(made, applied, {"d" * 40: Strayed(here=False, known=False)})


def set_aside() -> World:
    world = retention.begun(at=(400,))
    world.leg(world.the_action(), pruned=(PrunedSeen("leg-0/.pruned-0000000000000064-global_step100", 10),))
    return world


PROVOKED: dict[Reason, Callable[[], World | Plan]] = {
    Reason.TRAINING_STARTS: lambda: World(quickstart()),
    Reason.TOKENS_REMAIN: lambda: retention.begun(retention.KEEP),
    Reason.RECIPE_MISSING: without_recipe,
    Reason.LATEST_ASTRAY: astray,
    Reason.NOT_NEEDED: retention.begun,
    Reason.SET_ASIDE: set_aside,
    Reason.CONVERSION_NEEDED: lambda: after(1),
    Reason.EVALUATION_NEEDED: lambda: until(EVALUATE),
    Reason.BASELINE_NEEDED: losses_lost,
    Reason.VERDICT_DUE: lambda: until(JUDGE),
    Reason.GATE_FAILED: lambda: forgot(2),
    Reason.DIVERGED: diverged,
    Reason.BUDGET_REACHED: lambda: after(1),
    Reason.ALL_SETS_READ: lambda: after(1),
    Reason.ALL_EVIDENCE: lambda: after(1),
    Reason.SHALLOW_CLONE: shallow,
    Reason.ADOPTED: lambda: adopting(adopted.WHOLE),
    Reason.SOURCE_NOT_DONE: lambda: World(quickstart()),
    Reason.JOB_LIVE: job,
    Reason.JOB_HELD_BY_PBS: lambda: job(state=JobState.HELD, letter="H"),
    Reason.JOB_CANNOT_RUN: lambda: job(state=JobState.QUEUED, stuck=Stuck.NEVER_RUNS),
    Reason.JOB_CANNOT_START: lambda: job(state=JobState.HELD, stuck=Stuck.FAILED_STARTS),
    Reason.JOB_ENDING: just_ended,
    Reason.JOB_NOT_LISTED: lambda: unlisted(0),
    Reason.LOST_IN_ROUTING: lambda: unlisted(3600),
    Reason.JOB_TABLE_UNREAD: lambda: unread(jobs=Unread("timed out")),
    Reason.WORKSPACE_UNREAD: lambda: unread(attempts=Unread("timed out")),
    Reason.LIST_UNREAD: lambda: listed(Unread("timed out")),
    Reason.LIST_MISSING: lambda: listed(ListAbsent()),
    Reason.LIST_BAD: lambda: listed(ListSeen("rubbish\n", "x")),
    Reason.LIST_CHANGED: lambda: edited(("{path: data/D0.txt}", f"{{path: data/D0.txt, sha256: {'a' * 64}}}")),
    Reason.SOURCE_UNREAD: lambda: sources.looked(Unread("timed out")),
    Reason.SOURCE_UNUSABLE: lambda: sources.looked(FolderAbsent()),
    Reason.STOPPING: stopping,
    Reason.SUBMIT_WINDOW_CLOSED: lambda: edited(("maxWalltime: 1h", steps.WINDOW)),
    Reason.EXTERNAL_AWAITED: gates.waits,
    Reason.EXTERNAL_UNREADABLE: lambda: gates.waits("{half a"),
    Reason.SUSPENDED: lambda: edited(("  source: random", "  source: random\n  suspend: true")),
    Reason.LADDER_EXHAUSTED: lambda: forgot(2),
    Reason.GATE_HOLDS: lambda: forgot(1, ("onFailedGate: advance", "onFailedGate: hold")),
    Reason.JOBS_EXHAUSTED: all_jobs_had,
    Reason.NO_PROGRESS: fruitless,
    Reason.SUBMIT_REFUSED: refused,
    Reason.NODE_HOURS_EXHAUSTED: spent,
    Reason.TOKENS_EXHAUSTED: lambda: edited((trial.BOUND, f"{trial.BOUND}    tokens: 3M\n")),
    Reason.TRIAL_AWAITS_CHOICE: lambda: trial.tried(trial.trial(choose="person")),
    Reason.TRAINED_IMMUTABLE: trained_edited,
    Reason.ADOPTED_UNUSABLE: lambda: adopting(FolderAbsent()),
    Reason.VERDICT_UNREADABLE: damaged_verdict,
    Reason.STARTED_FROM_RANDOM: from_random,
    Reason.LOAD_DISCONTINUOUS: bad_load,
    Reason.JOB_DELETED: lambda: ended(exit_status=271, substate=91),
}


def reasons(made: Plan) -> Iterator[str]:
    """Every reason that a plan gives: of its stages, their conditions and its actions."""
    for status in made.stages:
        yield status.reason
        yield from (condition.reason for condition in status.conditions)
    yield from (action.reason for action in made.actions)
    yield from (refused.code for refused in made.refusals)


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_every_reason_is_brought_about(reason: Reason) -> None:
    assert reason in PROVOKED, "give this reason a case that brings it about, or take it away"
    found = PROVOKED[reason]()
    made = found if isinstance(found, Plan) else found.plan()
    assert reason in set(reasons(made)), sorted(set(reasons(made)))
