"""Tokens to iterations and jobs: within one step of the budget, never on the save interval."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.budget import (
    iterations_for,
    jobs_forecast,
    legs_tokens,
    off_interval,
    save_interval,
    usable_seconds,
)


@pytest.mark.parametrize(
    ("tokens", "per_iteration", "save_every", "iterations"),
    [
        pytest.param(4_000_000, 2048, 100, 1954, id="a broken step is rounded up"),
        pytest.param(2048 * 977, 2048, 100, 977, id="an exact budget is exact"),
        pytest.param(2048 * 900, 2048, 100, 901, id="an exact budget on the interval takes one step more"),
        pytest.param(2048 * 899 + 1, 2048, 100, 899, id="rounding up onto the interval rounds down instead"),
        pytest.param(1, 2048, 100, 1, id="a budget below one step is one step"),
        pytest.param(2048 * 3, 2048, 2, 3, id="an odd target is off an interval of two"),
        pytest.param(2048 * 5, 2048, 1, 5, id="saving at every step leaves no target off the interval"),
        pytest.param(1, 2048, 1, 1, id="one step is the least"),
        pytest.param(4_673_780_159_710, 8192 * 6144, 50, 92_860, id="the shipped first stage, rounded up"),
    ],
)
def test_iterations_of_a_budget(tokens: int, per_iteration: int, save_every: int, iterations: int) -> None:
    assert iterations_for(tokens, per_iteration, save_every) == iterations


@given(st.integers(1, 10**14), st.integers(1, 10**8), st.integers(2, 10**4))
def test_a_target_is_within_one_step_and_off_the_interval(tokens: int, per_iteration: int, save_every: int) -> None:
    count = iterations_for(tokens, per_iteration, save_every)
    assert count >= 1
    assert abs(count * per_iteration - tokens) <= per_iteration
    assert count % save_every != 0


@pytest.mark.parametrize(("save_every", "count"), [(1, 100), (100, 101), (7, 100), (50, 101)])
def test_the_next_number_of_iterations_that_ends_on_no_save(save_every: int, count: int) -> None:
    assert off_interval(100, save_every) == count


@pytest.mark.parametrize(
    ("own", "interval"),
    [
        pytest.param(16, 100, id="the model's batch"),
        pytest.param(32, 50, id="twice the batch, half the iterations"),
        pytest.param(8, 200, id="half the batch"),
        pytest.param(48, 33, id="rounded"),
        pytest.param(16_000, 1, id="one at least"),
    ],
)
def test_a_batch_of_another_size_saves_after_as_many_tokens(own: int, interval: int) -> None:
    assert save_interval(100, 16, own) == interval


@pytest.mark.parametrize(
    ("stage", "legs", "shares"),
    [
        pytest.param(100, (None,), (100,), id="one leg takes all"),
        pytest.param(100, (30, None), (30, 70), id="the undeclared leg takes the rest"),
        pytest.param(100, (None, 99), (1, 99), id="a rest of one token is a rest"),
        pytest.param(100, (30, 70), (30, 70), id="declared legs stay as declared"),
    ],
)
def test_legs_share_the_budget(stage: int, legs: tuple[int | None, ...], shares: tuple[int, ...]) -> None:
    assert legs_tokens(stage, legs) == shares


@pytest.mark.parametrize(
    "legs",
    [
        pytest.param((None, None), id="two open legs"),
        pytest.param((100, None), id="nothing left for the open one"),
        pytest.param((101, None), id="more declared than there is"),
        pytest.param((99,), id="a token over"),
        pytest.param((50, 51), id="a token too many"),
    ],
)
def test_legs_that_do_not_fit_the_budget_are_refused(legs: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="of 100 tokens"):
        legs_tokens(100, legs)


def test_a_job_iterates_between_start_up_and_the_last_save() -> None:
    assert usable_seconds(Fraction(60), Fraction(5)) == 50


@pytest.mark.parametrize(("tokens", "jobs"), [(1, 1), (1000, 1), (1001, 2), (10_000, 10), (10_001, 11)])
def test_jobs_at_a_known_speed(tokens: int, jobs: int) -> None:
    assert jobs_forecast(tokens, Fraction(100), Fraction(10)) == jobs
