"""Which checkpoint a stage continues from, and when it must be converted."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from reconciler.domain.checkpoint import chosen, end_of_leg, foreseen, needs_conversion, told
from reconciler.domain.schedule import NamedRates, rate_at
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape, SourceRecipe
from reconciler.model.strategy import StageSource

LR_MAX = 2e-3
RATES = NamedRates(Decimal("2e-3"), Decimal(0))
PLATEAU = Curve(Shape.CONSTANT, 2e-3, 2e-3, 0, 100, 100)
FALL = Curve(Shape.COOLDOWN, 2e-3, 0.0, 0, 100, 150)


def leg(curve: Curve, position: int, iterations: int, load: Load = Load.CONTINUE) -> LegRecipe:
    return LegRecipe({"D0": "1"}, {"D0": "1"}, {"D0": "d"}, iterations * 10, iterations, position, curve, load)


def recipe(*legs: LegRecipe, source: SourceRecipe | None = None, data_parallel: int = 2) -> Recipe:
    tokens = sum(each.tokens for each in legs)
    return Recipe(1, "c", "s", "naive", {}, data_parallel, 1, tokens, source or SourceRecipe(), legs)


PLATEAU_LEG, FALL_LEG = leg(PLATEAU, 0, 100, Load.RANDOM), leg(FALL, 100, 50)
BOTH = recipe(PLATEAU_LEG, FALL_LEG)
LONG = Curve(Shape.COOLDOWN, 2e-3, 0.0, 0, 100, 300)
SWITCHED = recipe(PLATEAU_LEG, leg(LONG, 100, 50), leg(LONG, 150, 50))


@pytest.mark.parametrize(
    ("of", "wanted", "leg_index", "iteration", "position"),
    [
        pytest.param(BOTH, "pre-cooldown", 0, 100, 100, id="before the cooldown that follows"),
        pytest.param(BOTH, "converged", 1, 50, 150, id="after the cooldown"),
        pytest.param(recipe(PLATEAU_LEG), "pre-cooldown", 0, 100, 100, id="a stage that only holds"),
        pytest.param(
            recipe(PLATEAU_LEG, leg(replace(PLATEAU, end=150, start=150), 100, 50)), "pre-cooldown", 1, 50, 150,
            id="the last of several",
        ),
        pytest.param(
            recipe(PLATEAU_LEG, FALL_LEG, leg(Curve(Shape.CONSTANT, 4e-4, 4e-4, 0, 200, 200), 150, 50)),
            "pre-cooldown", 0, 100, 100, id="a plateau under LR max is not before the cooldown",
        ),
        pytest.param(
            recipe(leg(Curve(Shape.CONSTANT, 1e-3, 1e-3, 0, 50, 50), 0, 50, Load.REWARM)),
            "pre-cooldown", 0, 50, 50, id="a rewarmed schedule has a peak of its own",
        ),
        pytest.param(SWITCHED, "pre-cooldown", 0, 100, 100, id="before a decay of two legs that goes on after them"),
        pytest.param(SWITCHED, "final", 2, 50, 200, id="where the last leg ends, in the middle of a decay"),
        pytest.param(BOTH, "final", 1, 50, 150, id="where the last leg ends, at the end of its decay"),
        pytest.param(recipe(PLATEAU_LEG), "final", 0, 100, 100, id="where the last leg ends, on the plateau"),
        pytest.param(
            recipe(leg(replace(LONG, end=200), 100, 50), leg(replace(LONG, end=200), 150, 50)),
            "converged", 1, 50, 200, id="the end of a decay, and not the switch in its middle",
        ),
        pytest.param(
            replace(recipe(leg(replace(PLATEAU, high=1e-3, low=1e-3), 0, 100)), rate_scale=0.5),
            "pre-cooldown", 0, 100, 100, id="the plateau of a smaller batch is lower",
        ),
    ],
)  # fmt: skip
def test_the_source_is_the_last_end_of_a_leg_with_the_wanted_property(
    of: Recipe, wanted: str, leg_index: int, iteration: int, position: int
) -> None:
    found = chosen(of, StageSource.model_validate({"stage": "s", "checkpoint": wanted}), RATES, {})
    rate = rate_at(of.legs[leg_index].curve, position)
    assert found == SourceRecipe(of.attempt, leg_index, iteration, "", position, 2, stage="s", rate=rate)
    assert found == end_of_leg(of, leg_index)


@pytest.mark.parametrize(
    ("of", "wanted", "refusal"),
    [
        (
            recipe(FALL_LEG),
            "pre-cooldown",
            "s has no pre-cooldown checkpoint at the end of a leg; there is leg 0 at iteration 50 (decayed)",
        ),
        (
            recipe(PLATEAU_LEG),
            "converged",
            "s has no converged checkpoint at the end of a leg; there is leg 0 at iteration 100 (pre-cooldown)",
        ),
        (
            recipe(leg(LONG, 100, 50)),
            "converged",
            "s has no converged checkpoint at the end of a leg; there is "
            "leg 0 at iteration 50 (in its decay, at 0.001)",
        ),
    ],
)
def test_a_property_that_no_leg_ends_with_is_refused_with_what_there_is(of: Recipe, wanted: str, refusal: str) -> None:
    assert chosen(of, StageSource.model_validate({"stage": "s", "checkpoint": wanted}), RATES, {}) == refusal


@pytest.mark.parametrize(
    ("load", "shards", "ranks", "converts"),
    [
        pytest.param(Load.RANDOM, 0, 4, False, id="random weights have no shards"),
        pytest.param(Load.CONTINUE, 2, 2, False, id="the same size"),
        pytest.param(Load.CONTINUE, 2, 4, True, id="more ranks"),
        pytest.param(Load.CONTINUE, 4, 2, True, id="fewer ranks"),
        pytest.param(Load.CONTINUE, 0, 4, False, id="universal already"),
        pytest.param(Load.REWARM, 2, 4, True, id="a rewarm keeps the moments"),
        pytest.param(Load.RANDOM, 2, 4, False, id="nothing is taken from the source"),
    ],
)
def test_conversion_is_needed_for_another_data_parallel_size(
    load: Load, shards: int, ranks: int, converts: bool
) -> None:
    of = recipe(
        leg(PLATEAU, 0, 10, load), source=SourceRecipe("a" * 12, 0, 1, data_parallel=shards), data_parallel=ranks
    )
    assert needs_conversion(of) is converts


WALKED = replace(SWITCHED, model={"batch": {"global_": 4}, "sequence_length": 25})
"""100 tokens an iteration: 100 on the plateau, then a decay over two legs of 50 that goes on after them."""
SAVED = {0: (30, 60, 90, 100), 1: (30, 41, 50), 2: (30, 50)}


@pytest.mark.parametrize(
    ("wanted", "leg_index", "iteration"),
    [
        pytest.param({"iteration": 50}, 2, 50, id="the end of the last leg"),
        pytest.param({"iteration": 30}, 2, 30, id="on the way of the last leg"),
        pytest.param({"iteration": 41, "leg": 1}, 1, 41, id="where a job was cut, in another leg"),
        pytest.param({"tokensAtLeast": 6000}, 0, 60, id="exactly so many tokens"),
        pytest.param({"tokensAtLeast": 6001}, 0, 90, id="the first save after them"),
        pytest.param({"tokensAtLeast": 10001}, 1, 30, id="tokens of the stage, over its legs"),
        pytest.param({"rateAtMost": "lrMax/2"}, 1, 50, id="the first of the decay at a part of LR max"),
        pytest.param({"rateAtMost": "1.3e-3"}, 1, 30, id="the first of the decay at a number or below"),
        pytest.param({"rateAtMost": "lrMax"}, 1, 30, id="not one of the plateau, which is at LR max"),
    ],
)
def test_a_save_on_the_way_is_chosen_by_iteration_tokens_or_rate(
    wanted: dict[str, object], leg_index: int, iteration: int
) -> None:
    source = StageSource.model_validate({"stage": "s", "checkpoint": wanted})
    found = chosen(WALKED, source, RATES, SAVED)
    assert isinstance(found, SourceRecipe), found
    leg = WALKED.legs[leg_index]
    assert (found.leg, found.iteration, found.position) == (leg_index, iteration, leg.position + iteration)
    assert found.rate == rate_at(leg.curve, found.position)
    assert found.wish == told(source.checkpoint)


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        (
            {"iteration": 33},
            "s has no checkpoint at iteration 33; there is leg 0 at iteration 30 (0.002, 3k tokens), "
            "leg 1 at iteration 30 (0.001225, 13k tokens), leg 1 at iteration 41 (0.001094, 14.1k tokens), "
            "leg 2 at iteration 30 (0.0007351, 18k tokens)",
        ),
        (
            {"tokensAtLeast": 20001},
            "s has no checkpoint at 20.001k tokens or more; there is leg 1 at iteration 41 (0.001094, 14.1k tokens), "
            "leg 1 at iteration 50 (0.001, 15k tokens), leg 2 at iteration 30 (0.0007351, 18k tokens), "
            "leg 2 at iteration 50 (0.0005858, 20k tokens)",
        ),
        (
            {"rateAtMost": "lrMax/5"},
            "s has no checkpoint at lrMax/5 or below; there is leg 1 at iteration 41 (0.001094, 14.1k tokens), "
            "leg 1 at iteration 50 (0.001, 15k tokens), leg 2 at iteration 30 (0.0007351, 18k tokens), "
            "leg 2 at iteration 50 (0.0005858, 20k tokens)",
        ),
    ],
)
def test_where_none_fits_the_near_ones_are_told(wanted: dict[str, object], refusal: str) -> None:
    assert chosen(WALKED, StageSource.model_validate({"stage": "s", "checkpoint": wanted}), RATES, SAVED) == refusal


def test_a_save_on_the_way_is_there_before_the_stage_is_done_if_it_would_be_saved() -> None:
    source = StageSource.model_validate({"stage": "s", "checkpoint": {"iteration": 37, "leg": 1}})
    assert foreseen(WALKED, source, every=20) == {0: (20, 40, 60, 80, 37), 1: (20, 40, 37), 2: (20, 40, 37)}
