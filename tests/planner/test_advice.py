"""What the cookbook's rules find is part of every plan, and an error among it keeps the plan from being applied."""

from __future__ import annotations

import json
from dataclasses import replace

from reconciler.cli.machine import plan_json
from reconciler.domain.rules import check
from reconciler.model.faults import Fault
from reconciler.model.observed import LegSeen, Unread
from tests.planner.world import World, after, quickstart, swapped


def at_rate(world: World, stage: str, rate: float) -> None:
    """The logs of a stage's attempt show this rate at their end."""

    def logged(leg: LegSeen) -> LegSeen:
        return replace(leg, logs=tuple(replace(log, last=_last(log.last, rate)) for log in leg.logs))

    for key, attempt in world.attempts.items():
        if attempt.stage == stage:
            world.attempts[key] = replace(attempt, legs=tuple(logged(leg) for leg in attempt.legs))


def _last(points: tuple, rate: float) -> tuple:  # type: ignore[type-arg]
    return tuple(replace(point, learning_rate=rate) for point in points)


def codes(world: World) -> list[tuple[str, str | None]]:
    return [(problem.code, problem.waived) for problem in world.plan().findings]


def test_a_source_that_was_logged_as_declared_is_no_finding() -> None:
    world = after(1)
    assert codes(world) == []
    assert world.plan().refusals == ()


def test_a_source_that_was_logged_past_its_plateau_refuses_the_plan() -> None:
    world = after(1)
    at_rate(world, "stage-1", 4e-5)
    found = world.plan()
    assert [problem.code for problem in found.findings] == ["CPT005"]
    (refusal,) = found.refusals
    assert refusal.message.startswith(
        "CPT005 The source checkpoint was logged at another learning rate than declared: "
    )
    assert refusal.code is Fault.AGAINST_RULES
    assert "4e-05, as logged instead of 0.002" in refusal.message


def test_a_person_may_waive_it_and_every_plan_says_why() -> None:
    source = "source: {stage: stage-1, checkpoint: pre-cooldown}"
    waiver = f'{source}\n  waive: [{{rule: CPT005, reason: "the log is of a test"}}]'
    world = after(1).wanting(quickstart(swapped((source, waiver))))
    at_rate(world, "stage-1", 4e-5)
    assert codes(world) == [("CPT005", "the log is of a test")]
    assert world.plan().refusals == ()


def test_a_stage_that_has_begun_is_not_stopped_by_it() -> None:
    world = after(2)
    at_rate(world, "stage-1", 4e-5)
    assert codes(world) == []


def test_what_the_manifests_show_is_in_every_plan_and_moves_no_digest() -> None:
    bare = quickstart()
    desired = replace(bare, findings=check.findings(bare.catalog, "quickstart"))
    assert {problem.code for problem in desired.findings} == {"CPT011", "CPT020"}
    world = World(desired)
    found = world.plan()
    assert found.findings == desired.findings
    assert found.digest == world.wanting(bare).plan().digest
    told = json.loads(plan_json(found, {}))["findings"]
    assert [(one["code"], one["line"]) for one in told] == [(p.code, p.where.line) for p in desired.findings]


def test_they_are_told_when_the_cluster_cannot_be_looked_at() -> None:
    bare = quickstart()
    world = World(replace(bare, findings=check.findings(bare.catalog, "quickstart")))
    look = replace(world.look(), attempts=Unread("no answer"))
    from reconciler.planner.planner import plan

    assert plan(world.desired, look).findings == world.desired.findings
