"""The campaign's ledger from a look: resumes, discarded attempts, and what is inside lists."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from reconciler.domain.ledger import by_source, tokens
from reconciler.model.observed import AttemptSeen, ListSeen
from reconciler.model.plan import ActionKind
from reconciler.model.recipe import read_recipe
from reconciler.planner import ledger
from reconciler.planner.ledger import Books, Contents, Inside, of_corpus, of_file
from reconciler.planner.lists import read_lists
from tests.planner.world import FORGOT_D0, SAME, World, after, log_of, quickstart, swapped

STEP = 2048
ONE, TWO, THREE = 1954, 977, 733
"""Iterations of the stages."""


def kept(world: World) -> Books:
    return ledger.books(world.desired, tuple(world.attempts.values()))


def asked(world: World, inside: Inside) -> Contents:
    return Contents(world.desired, read_lists(world.desired, world.look()), inside)


def discarded() -> World:
    """Stage 2's first rung forgot and was discarded; its second, with replay, is done."""
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    return world


def test_a_discarded_attempt_has_drawn_and_no_checkpoint_after_it_has_seen_it() -> None:
    books = kept(discarded())
    assert [(e.stage, e.strategy, e.outcome, e.lost) for e in sorted(books.entries, key=lambda e: e.strategy)] == [
        ("stage-2", "naive", "failed", 0),
        ("stage-1", "pretrain", "passed", 0),
        ("stage-2", "replay-5", "passed", 0),
    ]
    assert by_source(books.drawn) == {
        "D0": ONE * STEP + Fraction(1, 20) * TWO * STEP,
        "D1": TWO * STEP + Fraction(19, 20) * TWO * STEP,
    }
    done = next(entry for entry in books.entries if entry.strategy == "replay-5")
    assert done.end == (0, TWO)
    seen, origin = ledger.seen_by(books, done.attempt, *done.end)
    assert origin == "random weights"
    assert by_source(seen) == {
        "D0": ONE * STEP + Fraction(1, 20) * TWO * STEP,
        "D1": Fraction(19, 20) * TWO * STEP,
    }


def test_iterations_trained_again_after_a_kill_are_drawn_again() -> None:
    world = World(quickstart())
    first = world.until(ActionKind.TRAIN)
    world.trained(first, 300)
    world.leg(first, logs=(log_of(first, 350, 2.0, saved=(300,)),))
    second = world.until(ActionKind.TRAIN)
    world.trained(second, 400)
    logs = world.seen(second).legs[0].logs
    points = log_of(second, 400, 2.0).last
    world.leg(second, logs=(logs[0], replace(logs[1], first=(replace(points[0], iteration=301),), windows=())))
    (entry,) = kept(world).entries
    assert (tokens(entry.drawn), entry.lost, entry.end) == ((350 + 100) * STEP, 50, (0, 400))


def test_checkpoints_and_logs_that_were_deleted_after_the_verdict_were_drawn_all_the_same() -> None:
    world = after(1)
    ((key, seen),) = world.attempts.items()
    world.attempts[key] = replace(seen, legs=())
    (entry,) = kept(world).entries
    assert (tokens(entry.drawn), entry.end) == (ONE * STEP, (0, ONE))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"recipe": None}, "has no recipe that can be read back", id="no recipe"),
        pytest.param({"recipe": "{}"}, "has no recipe that can be read back", id="another file"),
        pytest.param({"unread": "permission denied"}, "could not be read: permission denied", id="unread"),
    ],
)
def test_an_attempt_that_cannot_be_counted_is_told(change: dict[str, str], told: str) -> None:
    world = after(1)
    ((key, seen),) = world.attempts.items()
    world.attempts[key] = replace(seen, **change)  # type: ignore[arg-type]
    books = kept(world)
    assert (books.entries, books.unknown) == ((), (f"attempt {key[1]} of stage-1 {told}",))


def test_a_recipe_that_makes_no_sense_is_not_counted_with() -> None:
    world = after(1)
    text = str(next(iter(world.attempts.values())).recipe)

    for old, new in (('"D0": "1"', '"D0": "1/0"'), ('"D0": "1"', '"D0": "2"'), ('"D0": "1"', '"D0": "half"')):
        lie = text.replace(old, new)
        of = read_recipe(lie)
        assert of is not None
        books = ledger.books(world.desired, (AttemptSeen("stage-1", of.attempt, lie),))
        assert (books.entries, books.recipes, len(books.unknown)) == ((), {}, 1)


# --- inside lists: every list has two files, 0.75 /data/LABEL-a text and 0.25 /data/LABEL-b more


@pytest.mark.parametrize(
    ("inside", "found", "size", "drawn"),
    [
        pytest.param(of_corpus("D1"), ["D1"], 2_000_000, Fraction(39, 20) * TWO, id="a dataset"),
        pytest.param(of_corpus("D1.more"), ["D1"], 500_000, Fraction(39, 80) * TWO, id="a corpus of one dataset"),
        pytest.param(of_corpus("more"), ["D0", "D1", "D2", "D3"], 2_000_000,
                     Fraction(1, 4) * (ONE + 2 * TWO), id="a corpus of any dataset"),
        pytest.param(of_file("/data/D1-a"), ["D1"], 1_500_000, Fraction(117, 80) * TWO, id="a file"),
        pytest.param(of_file("D1-a"), ["D1"], 1_500_000, Fraction(117, 80) * TWO, id="a file by its end"),
        pytest.param(of_file("1-a"), [], 0, 0, id="an end that is no whole name"),
        pytest.param(of_corpus("D1.none"), [], 0, 0, id="no such corpus"),
    ],
)  # fmt: skip
def test_how_much_was_drawn_of_a_corpus_or_a_file(inside: Inside, found: list[str], size: int, drawn: Fraction) -> None:
    world = discarded()
    contents = asked(world, inside)
    part = contents.part(kept(world).drawn)
    assert list(contents.found) == found
    assert contents.size == size
    assert (part.tokens, part.unknown) == (drawn * STEP, ())


def test_a_file_taints_what_drew_from_it_and_what_descends_from_that() -> None:
    world = discarded()
    world.finish_stage(SAME)
    books = kept(world)
    found = ledger.taints(books, asked(world, of_file("D1-a")))
    told = {(t.entry.stage, t.entry.strategy): (bool(t.own.tokens), bool(t.inherited.tokens)) for t in found}
    # Stage 3 trained on D2 alone, from the rung of stage 2 that passed.
    assert told == {
        ("stage-2", "naive"): (True, False),
        ("stage-2", "replay-5"): (True, False),
        ("stage-3", "naive"): (False, True),
    }
    assert all(taint.sure for taint in found)
    everything = ledger.taints(books, asked(world, of_file("D0-a")))
    assert len(everything) == 4
    assert ledger.taints(books, asked(world, of_file("D3-a"))) == ()


def test_a_list_that_has_changed_since_is_unknown_and_never_guessed_from() -> None:
    world = discarded()
    path = world.desired.list_paths()["D1"]
    world.lists[path] = ListSeen("1 /data/D1-a text\n", "another")
    books, contents = kept(world), asked(world, of_file("D1-a"))
    part = contents.part(books.drawn)
    assert part.tokens == 0
    assert {(one.stage, label) for one, label in part.unknown} == {("stage-2", "D1")}
    taints = ledger.taints(books, contents)
    assert [(t.entry.stage, t.sure) for t in taints] == [("stage-2", False)] * 2
    # A dataset as a whole needs no list.
    assert asked(world, of_corpus("D0")).part(books.drawn).tokens == ONE * STEP + Fraction(1, 20) * TWO * STEP


def test_a_file_of_a_selection_is_drawn_through_both() -> None:
    select = (
        "composition: by-tokens        # share of each done dataset in B; also: equal",
        "composition: equal\n    select:\n      D1: {shards: [D1-b]}",
    )
    naive = "    - name: naive\n      legs:\n        - mixture: {D2: 1}"
    mixture = "        - mixture: {D1: 0.2, D2: 0.4, buffer: 0.4}\n          lr: {shape: constant}\n"
    top = (naive, f"    - name: mixed\n      legs:\n{mixture}{naive}")
    world = after(3, quickstart(swapped(select, top)))
    own = [part for part in kept(world).drawn if part.stage == "stage-3"]
    assert by_source(own)["D1-buffer"] == Fraction(2, 5) * THREE * STEP
    assert asked(world, of_file("D1-b")).part(own).tokens == (Fraction(1, 20) + Fraction(2, 5)) * THREE * STEP
    assert asked(world, of_corpus("D1")).part(own).tokens == Fraction(3, 5) * THREE * STEP
