"""What is proposed where a failed gate holds a stage, and under which name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.moving import moved_to_top
from reconciler.model.observed import Unread
from reconciler.planner.planner import plan
from reconciler.planner.proposal import Proposal, overtaken, proposals
from tests.planner.test_ladder import REPLAY_30, only_if
from tests.planner.world import FORGOT_D0, World, after, quickstart, swapped

PROPOSE = ("onFailedGate: advance", "onFailedGate: propose")


def proposed(world: World) -> tuple[Proposal, ...]:
    return proposals(world.desired, world.look(), plan(world.desired, world.look()))


def moved(proposal: Proposal, *edits: tuple[str, str]) -> World:
    """The manifests after a proposal was merged; on a cluster that is handed over by `wanting`."""
    edit = swapped(PROPOSE, *edits)

    def merged(text: str) -> str:
        text = edit(text)
        if f"name: {proposal.stage}\n" not in text and f"name: {proposal.stage}}}" not in text:
            return text
        words = (proposal.campaign, proposal.stage, proposal.strategy)
        return moved_to_top(text.encode(), *words, unconditionally=proposal.unconditionally).decode()

    return World(quickstart(merged))


def test_nothing_is_proposed_while_nothing_failed() -> None:
    assert proposed(after(2, quickstart(swapped(PROPOSE)))) == ()


@pytest.mark.parametrize("edits", [(), (only_if(REPLAY_30, "forgetting"),)], ids=["", "that had an if"])
def test_the_merged_proposal_is_what_the_planner_goes_on_with_and_each_verdict_has_a_name(
    edits: tuple[tuple[str, str], ...],
) -> None:
    world = after(2, quickstart(swapped(PROPOSE, *edits)))
    world.finish_stage(FORGOT_D0)
    (first,) = proposed(world)
    assert (first.stage, first.strategy, first.unconditionally) == ("stage-3", "replay-30", bool(edits))
    assert [failure.strategy for failure in first.failures] == ["naive"]
    assert proposed(world) == (first,)

    merged = world.wanting(moved(first, *edits).desired)
    assert merged.status("stage-3").strategy == "replay-30"
    assert proposed(merged) == ()
    assert overtaken(merged.plan(), "stage-3", first.branch, ())
    merged.finish_stage(FORGOT_D0)
    (second,) = proposed(merged)
    assert (second.strategy, [failure.strategy for failure in second.failures]) == ("mix-a", ["replay-30", "naive"])
    assert second.branch != first.branch
    assert not overtaken(merged.plan(), "stage-3", second.branch, (second,))


def test_what_could_not_be_looked_at_is_not_overtaken() -> None:
    world = after(2, quickstart(swapped(PROPOSE)))
    world.finish_stage(FORGOT_D0)
    (waiting,) = proposed(world)
    blind = replace(world.look(), attempts=Unread("the disk sleeps"))
    made = plan(world.desired, blind)
    assert proposals(world.desired, blind, made) == ()
    assert not overtaken(made, "stage-3", waiting.branch, ())
