"""Another batch than the model's: sequences per step, rates, and where a schedule may begin."""

from __future__ import annotations

from math import gcd, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain import batch
from reconciler.model.recipe import SourceRecipe
from reconciler.model.strategy import Strategy
from tests.planner.world import quickstart

MODEL = quickstart().model


def strategy(*shapes: str, times: str | None = "2", rate: str = "sqrt") -> Strategy:
    legs = [{"mixture": {"D0": 1}, "lr": {"shape": shape.removesuffix("!"), "rewarm": shape.endswith("!")}} for shape in
            shapes]  # fmt: skip
    return Strategy.model_validate(
        {"name": "s", "legs": legs} | ({"batch": {"times": times, "rate": rate}} if times else {})
    )


@pytest.mark.parametrize(
    ("times", "own"), [(None, 16), ("1", 16), ("2", 32), ("0.5", 8), ("1.5", 24), ("1.7", None), ("0.01", None)]
)
def test_sequences_per_step(times: str | None, own: int | None) -> None:
    assert batch.of(MODEL, strategy("constant", times=times)) == own


@pytest.mark.parametrize(
    ("times", "rate", "scale"),
    [(None, "sqrt", 1.0), ("4", "sqrt", 2.0), ("4", "linear", 4.0), ("0.5", "sqrt", sqrt(0.5)), ("0.5", "linear", 0.5)],
)
def test_rates_by_the_root_or_by_k(times: str | None, rate: str, scale: float) -> None:
    assert batch.rate_scale(strategy("constant", times=times, rate=rate)) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("shapes", "steady"),
    [
        pytest.param(("constant",), True, id="held"),
        pytest.param(("constant", "constant"), True, id="held twice"),
        pytest.param(("constant", "cosine!"), True, id="held until the schedule starts again"),
        pytest.param(("cooldown!",), True, id="started again"),
        pytest.param(("cooldown",), False, id="fallen at once"),
        pytest.param(("constant", "cooldown"), False, id="fallen later"),
        pytest.param(("continue",), False, id="in a decay"),
    ],
)
def test_only_a_decay_must_begin_at_a_whole_iteration(shapes: tuple[str, ...], steady: bool) -> None:
    source = SourceRecipe("a" * 12, 0, 7, "", 7, 1)
    placed = batch.placed(source, 16, 32, strategy(*shapes))
    assert isinstance(placed, SourceRecipe) is steady
    if isinstance(placed, SourceRecipe):
        assert (placed.position, placed.remainder) == (3, 16)


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(1, 10**5), st.integers(0, 10**5))
def test_samples_are_kept_and_the_iterations_that_are_named_would_do(
    position: int, made_with: int, own: int, remainder: int
) -> None:
    source = SourceRecipe("a" * 12, 0, position, "", position, 1, remainder=remainder)
    samples = position * made_with + remainder
    held = batch.placed(source, made_with, own, strategy("constant"))
    assert isinstance(held, SourceRecipe)
    assert held.position * own + held.remainder == samples
    falls = batch.placed(source, made_with, own, strategy("cooldown"))
    if isinstance(falls, SourceRecipe):
        assert falls.remainder == 0
        return
    named = [int(word) for word in falls.partition("a source of ")[2].split(" iterations")[0].split(" or ") if word]
    assert bool(named) or samples % gcd(made_with, own) or own // gcd(made_with, own) > position
    for iteration in named:
        assert ((position + iteration - source.iteration) * made_with + remainder) % own == 0
