"""The ledger's arithmetic: what was drawn, what a checkpoint has seen, and laws that hold of both."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.ledger import (
    Stretch,
    by_source,
    iterations_run,
    lineage,
    source_lineage,
    stretch,
    tokens,
    whole,
)
from reconciler.model.observed import CheckpointSeen, LegSeen, LogPoint, LogWindow, TrainLog
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape, SourceRecipe

STEP = 2048
MODEL = {"batch": {"global_": 16, "micro": 4}, "sequence_length": 128}


def leg(iterations: int, **shares: str) -> LegRecipe:
    curve = Curve(Shape.CONSTANT, 1e-3, 1e-3, 0, 0, iterations)
    digests = {label: f"digest of {label}" for label in shares}
    return LegRecipe(shares, shares, digests, iterations * STEP, iterations, 0, curve, Load.CONTINUE)


def recipe(stage: str, legs: tuple[LegRecipe, ...], source: SourceRecipe | None = None) -> Recipe:
    total = sum(of.tokens for of in legs)
    return Recipe(1, "c", stage, "naive", MODEL, 1, 4, total, source or SourceRecipe(), legs)


def after(of: Recipe, at: int = -1, iteration: int | None = None) -> SourceRecipe:
    index = at % len(of.legs)
    return SourceRecipe(of.attempt, index, of.legs[index].iterations if iteration is None else iteration)


ONE = recipe("one", (leg(100, D0="1"),))
TWO = recipe("two", (leg(30, D0="1/2", D1="1/2"), leg(20, D1="1")), after(ONE))
THREE = recipe("three", (leg(10, D2="1"),), after(TWO, 0))
RECIPES = {of.attempt: of for of in (ONE, TWO, THREE)}


@pytest.mark.parametrize(
    ("of", "at", "iteration", "iterations"),
    [
        pytest.param(ONE, 0, 40, {"one": 40}, id="in the middle of a first stage"),
        pytest.param(TWO, 0, 7, {"two": 7, "one": 100}, id="in a first leg"),
        pytest.param(TWO, 1, 20, {"two": 50, "one": 100}, id="a later leg has seen the earlier ones whole"),
        pytest.param(
            THREE, 0, 10, {"three": 10, "two": 30, "one": 100}, id="from a leg in the middle, not what follows"
        ),
    ],
)
def test_a_checkpoint_has_seen_what_it_descends_from(
    of: Recipe, at: int, iteration: int, iterations: dict[str, int]
) -> None:
    found = lineage(RECIPES, of.attempt, at, iteration)
    seen: dict[str, int] = {}
    for part in found.stretches:
        seen[part.stage] = seen.get(part.stage, 0) + part.iterations
    assert (seen, found.origin, found.whole) == (iterations, "random weights", True)


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        pytest.param(SourceRecipe("f" * 12, 0, 5), f"attempt {'f' * 12}, whose recipe", id="an attempt that is gone"),
        pytest.param(
            SourceRecipe(ONE.attempt, 3, 5), f"leg 3 of attempt {ONE.attempt}, which has no", id="no such leg"
        ),
        pytest.param(
            SourceRecipe(external="/old", iteration=9), "/old at iteration 9, trained elsewhere", id="outside"
        ),
    ],
)
def test_where_a_lineage_ends_is_told(source: SourceRecipe, origin: str) -> None:
    of = recipe("two", (leg(10, D1="1"),), source)
    found = lineage(RECIPES | {of.attempt: of}, of.attempt, 0, 10)
    assert found.origin.startswith(origin)
    assert not found.whole
    assert tokens(found.stretches) == 10 * STEP


def test_recipes_that_lead_in_a_ring_are_counted_once() -> None:
    ring = {"a" * 12: recipe("x", (leg(5, D0="1"),), SourceRecipe("b" * 12, 0, 5)),
            "b" * 12: recipe("y", (leg(5, D0="1"),), SourceRecipe("a" * 12, 0, 5))}  # fmt: skip
    assert tokens(lineage(ring, "a" * 12, 0, 5).stretches) == 10 * STEP


def test_what_an_attempt_started_from() -> None:
    assert by_source(source_lineage(RECIPES, TWO.attempt)) == {"D0": 100 * STEP}
    assert source_lineage(RECIPES, ONE.attempt) == ()


# --- iterations that jobs ran


def job(first: int, last: int, saved: tuple[int, ...] = ()) -> TrainLog:
    def point(at: int) -> LogPoint:
        return LogPoint(at, 2.0, 1e-3)

    window = LogWindow(first, last, 2.0, 2.0, 2.0, 1e-3, last - first + 1, 0)
    return TrainLog("", first=(point(first),), last=(point(last),), windows=(window,), saved=saved)


@pytest.mark.parametrize(
    ("logs", "kept", "ran"),
    [
        pytest.param([], 0, 0, id="nothing yet"),
        pytest.param([job(1, 100)], 100, 100, id="one job"),
        pytest.param([job(1, 100), job(101, 150)], 150, 150, id="a resume where the first job saved"),
        pytest.param([job(1, 130), job(101, 150)], 150, 180, id="killed thirty after its last save"),
        pytest.param([job(1, 130), job(101, 140), job(101, 150)], 150, 220, id="killed twice"),
        pytest.param([job(1, 60)], 0, 60, id="killed before the first save"),
        pytest.param([], 100, 100, id="its log is gone"),
        pytest.param([job(1, 100)], 150, 150, id="the later log is gone"),
        pytest.param([job(101, 150)], 150, 150, id="the earlier log is gone"),
        pytest.param([job(1, 100, (100,))], 50, 100, id="a checkpoint was deleted"),
        pytest.param([TrainLog("")], 0, 0, id="a log without iterations"),
    ],
)
def test_iterations_that_jobs_ran(logs: list[TrainLog], kept: int, ran: int) -> None:
    checkpoints = (CheckpointSeen(kept, True),) if kept else ()
    assert iterations_run(LegSeen(0, checkpoints, logs=tuple(logs))) == ran


RUNS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 200)), max_size=6)


@given(RUNS, st.integers(0, 500))
def test_no_fewer_iterations_ran_than_are_kept_or_logged(runs: list[tuple[int, int]], kept: int) -> None:
    checkpoints = (CheckpointSeen(kept, True),) if kept else ()
    logs = tuple(job(first, first + more) for first, more in runs)
    ran = iterations_run(LegSeen(0, checkpoints, logs=logs))
    logged = sum(more + 1 for _, more in runs)
    assert max(kept, logged) <= ran <= kept + logged


# --- laws


@st.composite
def campaigns(draw: st.DrawFn) -> tuple[dict[str, Recipe], list[Stretch]]:
    """A chain of stages with discarded attempts beside it, and what all of them drew."""
    recipes: dict[str, Recipe] = {}
    drawn: list[Stretch] = []
    source = SourceRecipe()
    for number in range(draw(st.integers(1, 4))):
        labels = draw(st.lists(st.sampled_from(["D0", "D1", "D2", "D1-buffer"]), min_size=1, unique=True))
        parts = draw(st.lists(st.integers(1, 9), min_size=len(labels), max_size=len(labels)))
        shares = {label: str(Fraction(part, sum(parts))) for label, part in zip(labels, parts, strict=True)}
        legs = tuple(leg(draw(st.integers(1, 50)), **shares) for _ in range(draw(st.integers(1, 3))))
        of = recipe(f"stage-{number}", legs, source)
        recipes[of.attempt] = of
        again = [draw(st.integers(0, 30)) for _ in legs]
        drawn += [stretch(of, index, one.iterations + again[index]) for index, one in enumerate(legs)]
        discarded = recipe(f"stage-{number}", (leg(draw(st.integers(51, 90)), D9="1"),), source)
        recipes[discarded.attempt] = discarded
        drawn.append(stretch(discarded, 0, discarded.iterations))
        source = after(of, draw(st.integers(0, len(legs) - 1)))
    return recipes, drawn


@given(campaigns(), st.data())
def test_what_a_checkpoint_has_seen_was_drawn_and_everything_adds_up(
    campaign: tuple[dict[str, Recipe], list[Stretch]], data: st.DataObject
) -> None:
    recipes, drawn = campaign
    of = data.draw(st.sampled_from([of for of in recipes.values() if "D9" not in of.legs[0].mixture]))
    at = data.draw(st.integers(0, len(of.legs) - 1))
    seen = lineage(recipes, of.attempt, at, data.draw(st.integers(0, of.legs[at].iterations))).stretches
    by_all, by_it = by_source(drawn), by_source(seen)
    assert sum(by_all.values()) == tokens(drawn)
    assert sum(by_it.values()) == tokens(seen)
    assert all(by_it[label] <= by_all[label] for label in by_it)
    assert "D9" not in by_it
    told = whole(by_all, tokens(drawn))
    assert sum(told.values()) == tokens(drawn)
    assert all(abs(told[label] - by_all[label]) < 1 for label in told)


def test_nothing_is_nothing() -> None:
    assert (whole({}, 0), whole({"D0": Fraction(0)}, 0)) == ({}, {"D0": 0})
