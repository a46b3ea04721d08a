"""What people are told of at a look, in which words, and that each thing is told once however many look."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.authority import Approval, Missing
from reconciler.model.faults import Fault
from reconciler.model.message import Message
from reconciler.model.notice import Kind, Notice, State, document, fields, for_chat
from reconciler.model.observed import Unread
from reconciler.model.status import IN_HISTORY, Condition, Phase
from reconciler.planner.facts import Apart
from reconciler.planner.notices import Seen, notices
from reconciler.planner.planner import plan
from reconciler.planner.telling import CLAIM_S, Claim, Due, Mark, claimed, due, read_mark, settled, started
from tests.planner.world import FORGOT_D0, SAME, World, after, quickstart, swapped

NOW_S = 1000.0
HOLD = swapped(("onFailedGate: advance", "onFailedGate: hold"))
ODD = (
    "[" * 9999,
    '{"told": [1], "claims": {"a": [1, 2, 3, 4]}}',
    '{"told": [], "claims": {"a": ["n", "by", 1' + "0" * 400 + "]}}",
    '{"told": ["\\ud800"], "claims": {"\\ud800": ["n", "by", NaN]}}',
)
"""Marks that somebody who can push has made up."""
SUSPENDED = swapped(("  source: random\n", "  source: random\n  suspend: true\n"))


def seen(world: World, unapplied: str | None = None, apart: tuple[Apart, ...] = ()) -> Seen:
    return Seen(world.desired, world.look(), plan(world.desired, world.look()), apart, unapplied)


def told(at: Seen, mark: Mark | None, by: str = "ada", now_s: float = NOW_S) -> tuple[list[Notice], Mark]:
    """What somebody tells at a look, and the mark that it leaves."""
    found = notices(at, mark.told if mark is not None else ())
    assert found is not None
    mark = started(at, found, mark, newest=True)
    dues = due(at, found, mark, before="a commit", by=by, now_s=now_s)
    mark = settled(claimed(mark, dues, by, now_s), dues, ())
    assert read_mark(mark.to_file()) == mark
    return [each.notice for each in dues], mark


def shown(found: list[Notice]) -> list[tuple[str, str, str]]:
    return [(notice.kind + (" over" if notice.resolved else ""), notice.state, notice.context) for notice in found]


def test_a_stage_that_is_done_is_told_with_its_numbers() -> None:
    world = World(quickstart())
    _, mark = told(seen(world), None)
    world.finish_stage(SAME)
    (notice,), mark = told(seen(world), mark)
    assert shown([notice]) == [("done", "success", "reconcile/quickstart/stage-1")]
    assert notice.description.startswith("stage-1 is done by pretrain: ")
    assert notice.manifest.startswith("stages.yaml:")
    assert (notice.commit, notice.attempt) == ("c" * 40, world.status("stage-1").attempt)
    assert {"tokens", "nodeHours", "loss", "val-D0.after"} <= set(notice.numbers)
    assert told(seen(world), mark) == ([], mark)


def test_what_was_over_before_anybody_asked_is_not_told() -> None:
    at = seen(after(2))
    found, mark = told(at, None)
    assert found == []
    assert len(mark.told) == 2
    found, mark = told(
        replace(at, unapplied="stage-3: something"), None
    )  # nor where the first look is by other manifests
    assert [notice.kind for notice in found] == ["drift"]
    assert [notice.kind for notice in told(at, mark)[0]] == []


def test_a_failed_gate_is_told_with_what_it_measured_and_what_follows() -> None:
    world = after(2)
    _, mark = told(seen(world), None)
    world.finish_stage(FORGOT_D0)
    (notice,), mark = told(seen(world), mark)
    assert shown([notice]) == [("gate-failed", "pending", "reconcile/quickstart/stage-3")]
    assert notice.description.startswith("stage-3: naive failed: val-D0 +0.310")
    assert notice.said.endswith("; replay-30 is next")
    assert notice.numbers["forgetting.val-D0.rise"] == pytest.approx(0.31)
    world.finish_stage(SAME)
    assert shown(told(seen(world), mark)[0]) == [("done", "success", "reconcile/quickstart/stage-3")]


def test_a_failed_gate_that_holds_is_one_notice_and_is_told_to_be_over() -> None:
    world = after(2, quickstart(HOLD))
    _, mark = told(seen(world), None)
    world.finish_stage(FORGOT_D0)
    (held,), mark = told(seen(world), mark)
    assert shown([held]) == [("hold", "failure", "reconcile/quickstart/stage-3")]
    assert "naive failed: val-D0 +0.310" in held.said
    assert "moves the next strategy to the top" in held.way_on
    assert told(seen(world), mark)[0] == []
    advancing = seen(world.wanting(quickstart()))  # the failure was told with the hold, and is not told again
    assert shown(told(advancing, mark)[0]) == [("hold over", "pending", "reconcile/quickstart/stage-3")]


def test_a_hold_comes_again_as_often_as_it_is_over() -> None:
    free, held = World(quickstart()), World(quickstart(SUSPENDED))
    mark: Mark | None = None
    every: list[tuple[str, str, str]] = []
    for world in (free, held, held, free, free, held):
        found, mark = told(seen(world), mark)
        every += shown(found)
    context = "reconcile/quickstart/stage-1"
    hold, over = ("hold", "pending", context), ("hold over", "pending", context)
    assert every == [hold, over, hold]


def test_what_could_not_be_looked_at_is_neither_told_nor_over() -> None:
    held = World(quickstart(SUSPENDED))
    _, mark = told(seen(held), None)
    blind = replace(held.look(), attempts=Unread("the disk sleeps"))
    assert notices(Seen(held.desired, blind, plan(held.desired, blind)), mark.told) is None
    waiting = seen(World(quickstart()))
    statuses = tuple(replace(status, phase=Phase.WAITING) for status in waiting.plan.stages)
    waiting = replace(waiting, plan=replace(waiting.plan, stages=statuses))
    assert told(waiting, mark) == ([], mark)


def test_a_refused_plan_is_a_hold_of_the_campaign_unless_its_stage_says_so() -> None:
    at = seen(after(1))
    refused = replace(
        at,
        plan=replace(at.plan, refusals=(Message(Fault.OVER_ALLOCATION, "more node-hours than there are\n - mend it"),)),
    )
    found, mark = told(refused, None)
    assert shown(found) == [("hold", "error", "reconcile/quickstart")]
    assert found[0].said == "the plan of quickstart is refused: more node-hours than there are"
    assert shown(told(at, mark)[0]) == [("hold over", "pending", "reconcile/quickstart")]
    edited = seen(after(1).wanting(quickstart(swapped(("warmup: 10%", "warmup: 20%")))))
    assert edited.plan.refusals
    assert shown(told(edited, None)[0]) == [("hold", "error", "reconcile/quickstart/stage-1")]


def test_drift_is_what_was_merged_and_not_applied_and_where_record_and_cluster_disagree() -> None:
    world = after(1)
    _, mark = told(seen(world), None)
    (merged,), mark = told(seen(world, unapplied="stage-2: tokens 1M → 2M"), mark)
    assert shown([merged]) == [("drift", "error", "reconcile/quickstart")]
    assert merged.way_on == "reconcile plan quickstart -o FILE && reconcile apply FILE"
    assert merged.manifest.startswith("campaign.yaml:")
    assert told(seen(world, unapplied=None), mark)[0] == []  # somebody applies something; that is not known yet
    (applied,), mark = told(seen(world, unapplied=""), mark)
    assert shown([applied]) == [("drift over", "success", "reconcile/quickstart")]
    lost = Apart("stage-1/0123456789ab", "is on record, and its folder is not on the cluster any more")
    (apart,), mark = told(seen(world, apart=(lost,)), mark)
    assert shown([apart]) == [("drift", "error", "reconcile/quickstart/stage-1")]
    assert "its folder is not on the cluster" in apart.said
    assert told(seen(world, apart=(lost,)), mark)[0] == []
    assert told(seen(world), mark)[0] == []


def test_a_commit_that_lacks_an_approval_is_a_hold_and_a_history_that_was_rewritten_is_drift() -> None:
    at = seen(after(1))
    _, mark = told(at, None)
    lacking = Approval(missing=(Missing("cccccc is not signed", "git commit -S --allow-empty"),))
    by_hand = replace(at, plan=replace(at.plan, approval=lacking))
    assert told(by_hand, mark)[0] == []  # who stands by is told by the command
    on_schedule = replace(by_hand, unchanged=True)
    (held,), mark = told(on_schedule, mark)
    assert shown([held]) == [("hold", "pending", "reconcile/quickstart")]
    assert (held.said, held.way_on) == (
        "quickstart is not applied: cccccc is not signed",
        "git commit -S --allow-empty",
    )
    passing = replace(at.plan, approval=replace(lacking, passing=True))
    assert told(replace(on_schedule, plan=passing), None)[0] == []
    found, mark = told(at, mark)
    assert shown(found) == [("hold over", "pending", "reconcile/quickstart")]
    stages = at.plan.stages
    lost = Condition(IN_HISTORY, "False", "HistoryRewritten", "0123 was applied at abc, which is not there. Tag it.")
    astray = replace(at, plan=replace(at.plan, stages=(replace(stages[0], conditions=(lost,)), *stages[1:])))
    (drift,), mark = told(astray, mark)
    assert shown([drift]) == [("drift", "error", "reconcile/quickstart/stage-1")]
    assert told(astray, mark)[0] == []


def test_of_manifests_that_nobody_applies_nothing_is_told_of_a_stage() -> None:
    held, free = seen(World(quickstart(SUSPENDED))), seen(World(quickstart()))
    _, mark = told(held, None)
    lacking = Approval(missing=(Missing("cccccc is not signed", "sign it"),))
    for merged in (replace(free, plan=replace(free.plan, approval=lacking)), replace(free, unapplied="stage-1: new")):
        assert "hold over" not in [kind for kind, *_ in shown(told(merged, mark)[0])]
    assert shown(told(free, mark)[0]) == [("hold over", "pending", "reconcile/quickstart/stage-1")]


# --- once, however many look


def one_due(world: World, mark: Mark, by: str, now_s: float = NOW_S, *, newest: bool = True) -> tuple[Due, ...]:
    found = notices(seen(world), mark.told) or ()
    return due(seen(world), found, mark, before="a commit", by=by, now_s=now_s, newest=newest)


def test_what_somebody_is_about_to_tell_nobody_else_tells_until_the_claim_has_run_out() -> None:
    held = World(quickstart(SUSPENDED))
    (mine,) = one_due(held, Mark(), "ada")
    mark = claimed(Mark(), [mine], "ada", NOW_S)
    assert one_due(held, mark, "ada") == (mine,)
    assert one_due(held, mark, "bo") == ()
    (after_a_kill,) = one_due(held, mark, "bo", NOW_S + CLAIM_S + 1)
    assert after_a_kill.name == mine.name
    assert one_due(held, settled(mark, [mine], ()), "bo") == ()


def test_what_was_told_in_vain_anybody_tells_again_by_the_same_name() -> None:
    held = World(quickstart(SUSPENDED))
    (mine,) = one_due(held, Mark(), "ada")
    mark = settled(claimed(Mark(), [mine], "ada", NOW_S), (), [mine])
    (again,) = one_due(held, mark, "bo")
    assert again == mine


def test_what_was_over_before_it_could_be_told_has_another_name_when_it_comes_again() -> None:
    held, free = World(quickstart(SUSPENDED)), World(quickstart())
    (first,) = one_due(held, Mark(), "ada")
    mark = settled(claimed(Mark(), [first], "ada", NOW_S), (), [first])
    mark = started(seen(free), notices(seen(free), ()) or (), mark, newest=True)
    assert mark == Mark()


def test_a_claim_that_has_no_end_is_nobody_s() -> None:
    held = World(quickstart(SUSPENDED))
    (mine,) = one_due(held, Mark(), "ada")
    assert len(one_due(held, Mark(claims={mine.claimed_as: Claim("x", "mallory", 1e300)}), "ada")) == 1


def test_a_look_that_may_be_older_than_what_was_told_says_nothing_of_what_lasts() -> None:
    held, free = World(quickstart(SUSPENDED)), World(quickstart())
    assert one_due(held, Mark(), "ada", newest=False) == ()
    _, mark = told(seen(held), None)
    assert one_due(free, mark, "ada", newest=False) == ()
    free.finish_stage(SAME)
    assert [each.notice.kind for each in one_due(free, mark, "ada", newest=False)] == ["done"]


@pytest.mark.parametrize("key", ["while/", "while/x", "while/other/stage-1/", "while/hold/no-such-stage/x/", "\ud800"])
def test_a_key_that_nobody_here_wrote_is_let_go_without_a_word(key: str) -> None:
    found, mark = told(seen(World(quickstart())), Mark(frozenset({key})))
    assert found == []
    assert mark.told <= {"\ud800"}


@given(st.text() | st.binary().map(repr) | st.sampled_from(ODD))
def test_any_text_is_a_mark(text: str) -> None:
    mark = read_mark(text)
    assert mark is None or mark.to_file()


# --- as text


def test_a_notice_of_hostile_text_is_bounded_plain_and_calls_nobody() -> None:
    odd = "\x1b[2J@channel <!here> <http://evil|you> \u202e\ud800\n# x " + "y" * 5000
    notice = Notice("once/x", Kind.HOLD, State.ERROR, "c", "c" * 40, odd, odd, strategy=odd, manifest=odd)
    for value in fields(notice, "name").values():
        assert len(value) < 2200
        assert all(c.isprintable() or c == "\n" for c in value)
    assert len(notice.description) == 140
    assert document(notice, "name", for_chat(notice.text))
    shown = for_chat(notice.text)
    assert "@channel" not in shown
    assert "<" not in shown


def test_numbers_that_are_none_leave_json_that_everybody_reads() -> None:
    notice = told(seen(World(quickstart(SUSPENDED))), None)[0][0]
    assert b"NaN" not in document(replace(notice, numbers={"loss": float("nan")}), "name", "")
