"""Commits that left the history under what stages rest on: one condition a stage, whatever came of the commits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.authority import Strayed
from reconciler.model.plan import ActionKind
from reconciler.planner.ancestry import applied_at, noted
from tests.planner.world import SAME, World, quickstart

OLD = "a" * 40


def trained() -> World:
    """Stage 1 is trained, of a commit that is not the plan's own, and its jobs are told of by the cluster."""
    world = World(quickstart())
    kind = None
    while kind is not ActionKind.JUDGE:
        kind = world.carry_out(SAME)
    world.receipts = [replace(receipt, commit=OLD) for receipt in world.receipts]
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return trained()


def told(world: World, strayed: dict[str, Strayed]) -> list[str]:
    plan = world.plan()
    plan = noted(plan, applied_at(plan, world.look()), strayed)
    return [f"{each.status} {each.message}" for each in plan.stages[0].conditions if each.type == "InHistory"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Strayed(here=True, known=True, recorded=True), "on record; `git tag applied-aaaaaaaaa aaaaaaaaa` keeps the"),
        (Strayed(here=False, known=True, recorded=True), "Its manifests are on record; `reconcile show "),
        (Strayed(here=False, known=True), f"not on record here; `git fetch` it from a clone that has {OLD}"),
        (Strayed(here=False, known=False), "Unknown "),
    ],
)
def test_what_is_left_of_the_commit_and_what_to_do_is_told(world: World, found: Strayed, says: str) -> None:
    (message,) = told(world, {OLD: found})
    assert says in message


def test_what_is_in_the_history_again_or_was_never_gone_is_not_told(world: World) -> None:
    assert told(world, {}) == []
    assert told(world, {OLD: Strayed(here=True, known=True, again="b" * 40)}) == []


def test_many_commits_are_one_condition_and_what_is_not_known_is_no_alarm() -> None:
    world = trained()
    names = [f"{number:040x}" for number in range(len(world.receipts))]
    world.receipts = [replace(receipt, commit=name) for receipt, name in zip(world.receipts, names, strict=True)]
    (message,) = told(world, dict.fromkeys(names, Strayed(here=False, known=True)))
    assert "other commit" in message
    plan = world.plan()
    applied = applied_at(plan, world.look())
    assert noted(plan, applied, dict.fromkeys(names, Strayed(here=False, known=False))).stages[0].drift == ()
    assert len(noted(plan, applied, dict.fromkeys(names, Strayed(here=False, known=True))).stages[0].drift) == 1


def test_only_what_a_stage_rests_on_is_asked_about(world: World) -> None:
    plan, look = world.plan(), world.look()
    assert list(applied_at(plan, look)) == [OLD]
    assert applied_at(replace(plan, revision=OLD), look) == {}
    assert applied_at(replace(plan, campaign="another"), look) == {}
    dirty = replace(look, receipts=tuple(replace(receipt, dirty=True) for receipt in world.receipts))
    assert applied_at(plan, dirty) == {}
