"""The launcher, told what we tell it, follows the very rates that the plan shows, over any split into jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.schedule import curve_of, rate_at
from reconciler.launcher.command import Launch, TrainPaths, train
from reconciler.model.manifests import LrPolicy
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape
from tests.domain.test_resolve import resolved
from tests.launcher.fork import Stored, job

PATHS = TrainPaths("/w/leg-0", "/w/source", "/w/list.txt", "/w/stop")


@dataclass(frozen=True)
class Case:
    """A leg, the checkpoint it starts from, and the iterations after which its jobs end."""

    leg: LegRecipe
    recipe: Recipe
    source: Stored | None
    cuts: tuple[int, ...]


def launch(case: Case, *, later: bool, universal: bool = False) -> Launch:
    return train(
        case.recipe,
        case.leg,
        PATHS,
        later=later,
        load_iteration=1 if later else None,
        universal=universal,
        save_every=10,
        exit_minutes="5",
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any leg that a manifest can ask for, after any other schedule, cut into up to four jobs."""
    load = draw(st.sampled_from(Load))
    shape = draw(st.sampled_from(Shape))
    iterations = draw(st.integers(2, 120))
    position = draw(st.integers(0, 200_000)) if load is Load.CONTINUE else 0
    warmup = 0 if load is Load.CONTINUE else draw(st.integers(0, 49))
    high = Decimal(draw(st.integers(1, 10**6))).scaleb(-8)
    policy = LrPolicy.model_validate(
        {
            "shape": shape.value,
            "at": "lrMax",
            "to": f"lrMax/{draw(st.integers(1, 200))}" if draw(st.booleans()) else "lrFinal",
            "warmup": f"{warmup}%",
            "rewarm": load is Load.REWARM,
        }
    )
    curve = curve_of(policy, lr_max=high, lr_final=Decimal(0), position=position, iterations=iterations)
    leg = LegRecipe({}, {}, {}, 1, iterations, position, curve, load)
    micro, ranks, accumulation = (draw(st.sampled_from([1, 2, 3, 8, 96])) for _ in range(3))
    base = resolved("stage-1")
    model = dict(base.model) | {"batch": {"micro": micro, "global_": micro * ranks * accumulation}}
    recipe = replace(base, model=model, data_parallel=ranks, accumulation=accumulation, legs=(leg,))
    steps = position * micro * ranks * accumulation
    stale = Stored(0.125, 0.0625, steps / 3, steps + 7.0, draw(st.sampled_from(["cosine", "constant"])), steps)
    cuts = draw(st.sets(st.integers(1, iterations - 1), max_size=3))
    return Case(leg, recipe, None if load is Load.RANDOM else stale, tuple(sorted(cuts)))


def rates(case: Case) -> dict[int, float]:
    """Iteration → rate, over all jobs of the leg."""
    followed: dict[int, float] = {}
    stored, done = case.source, 12_345
    for number, ends in enumerate((*case.cuts, case.leg.iterations)):
        for iteration, rate, kept in job(launch(case, later=number > 0), stored, done):
            followed[iteration] = rate
            if iteration == ends:
                stored, done = kept, iteration
                break
    return followed


@given(cases())
def test_the_launcher_follows_the_planned_rate_at_every_iteration(case: Case) -> None:
    leg = case.leg
    planned = {i + 1: rate_at(leg.curve, leg.position + i) for i in range(leg.iterations)}
    # A root is steep at 0: what is lost in printing a share to 17 digits shows as 1e-5 of the peak at most.
    assert rates(case) == pytest.approx(planned, abs=leg.curve.high * 1e-5)


def test_a_schedule_that_is_followed_in_reality() -> None:
    """2e-4 to 2e-5 over 1650 iterations from 136 000: full rate at the resumed step, not 2.11e-05."""
    leg = LegRecipe({}, {}, {}, 1, 1650, 136_000, Curve(Shape.COOLDOWN, 2e-4, 2e-5, 0, 136_000, 137_650), Load.CONTINUE)
    recipe = replace(resolved("stage-1"), legs=(leg,))
    steps = 136_000 * 16
    case = Case(leg, recipe, Stored(2e-4, 0.0, 0.0, steps, "constant", steps), ())
    followed = rates(case)
    assert followed[1] == pytest.approx(2e-4)
    assert followed[414] == pytest.approx(2e-5 + 1.8e-4 * (1 - (413 / 1650) ** 0.5))
    assert followed[1650] == pytest.approx(2e-5, rel=0.01)
