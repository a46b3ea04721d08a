"""The scheduler against values measured on the launcher, and against the law that is written down a second time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.launcher.scheduler import Schedule, WouldStop
from tests.launcher import fork

BATCH = 6144


def constant(iterations: int, *, frac: float | None = None, low: float = 2e-5, warmup: float = 0.0) -> Schedule:
    """Up to 2e-4, and down over the last `frac` of it."""
    length = iterations * BATCH
    cooldown = None if frac is None else frac * length
    return Schedule(2e-4, low, "constant", warmup * length, length, length, cooldown=cooldown)


def falling(style: str, iterations: int, *, low: float = 2e-5, warmup: float = 0.0) -> Schedule:
    length = iterations * BATCH
    return Schedule(2e-4, low, style, warmup * length, length, length)


def test_the_value_in_the_launcher_s_own_log() -> None:
    """`ALCF/notes/cooldown.md`: a fraction of 0.5 of 136 100 iterations, at step 136 005."""
    assert constant(136_100, frac=0.5).rate(136_005 * BATCH) == 2.012568679065123e-05


@pytest.mark.parametrize(
    ("frac", "rate"),
    [
        pytest.param(0.988, 2.11e-05, id="the constant part's share, as the launcher's own tool gives it"),
        pytest.param(0.9, 2.12e-05, id="as its notes give it"),
        pytest.param(0.1, 3.11e-05, id="a round number"),
        pytest.param(1650 / 137_650, 2e-04, id="the cooldown's share"),
    ],
)
def test_an_inverted_fraction_drops_at_once(frac: float, rate: float) -> None:
    """Resumed at 136 000 of 137 650."""
    assert constant(137_650, frac=frac).rate(136_000 * BATCH) == pytest.approx(rate, rel=2e-3)


@pytest.mark.parametrize(
    ("style", "n", "rho"),
    [
        ("constant", 10, 0.7901),
        ("constant", 50, 0.6664),
        ("constant", 100, 0.6530),
        ("cosine", 10, 0.7837),
        ("cosine", 50, 0.7180),
        ("cosine", 100, 0.7113),
    ],
)
def test_where_the_rate_comes_down_to_a_fifth(style: str, n: int, rho: float) -> None:
    """The cookbook's strategy 4 brings in new data at LR max / 5, on the way to LR max / N."""
    length = 10**6
    made = Schedule(1.0, 1 / n, style, 0, length, length, cooldown=length if style == "constant" else None)
    at = next(samples for samples in range(0, length, 20) if made.rate(samples) <= 0.2)
    assert at / length == pytest.approx(rho, abs=1e-4)


def test_half_of_a_cooldown_s_drop_is_done_in_its_first_quarter() -> None:
    made = constant(1000, frac=0.4, low=0.0)
    assert made.rate(600 * BATCH) == 2e-4
    assert made.rate(700 * BATCH) == pytest.approx(1e-4)
    assert made.rate(1000 * BATCH) == made.rate(2000 * BATCH) == 0.0


def test_a_cosine_is_computed_over_the_whole_schedule() -> None:
    """At nine tenths of it, with the default warm-up: 0.124 of the maximum; with one that ends there, all of it."""
    assert falling("cosine", 1000, warmup=0.05).rate(900 * BATCH) == pytest.approx(0.124 * 2e-4, rel=5e-3)
    assert falling("cosine", 1000, warmup=0.9).rate(900 * BATCH) == 2e-4


@pytest.mark.parametrize("style", ["constant", "linear", "cosine", "inverse-square-root"])
def test_every_style_warms_up_from_0_in_a_straight_line(style: str) -> None:
    made = falling(style, 1000, warmup=0.1)
    assert [made.rate(at * BATCH) for at in (0, 25, 50, 100)] == pytest.approx([0, 5e-5, 1e-4, 2e-4])


@pytest.mark.parametrize("style", ["constant", "linear", "cosine"])
def test_without_a_warm_up_the_first_step_has_the_full_rate(style: str) -> None:
    assert falling(style, 1000).rate(0) == 2e-4


def test_linear_and_inverse_square_root() -> None:
    assert falling("linear", 1000).rate(500 * BATCH) == pytest.approx(1.1e-4)
    assert falling("linear", 1000).rate(1001 * BATCH) == 2e-5
    assert falling("inverse-square-root", 1000, warmup=0.1).rate(400 * BATCH) == pytest.approx(1e-4)


def infinite(style: str, **changes: float) -> Schedule:
    numbers = {"min_lr": 1e-5, "constant_lr": 1.1e-4, "constant": 1e5, "first_decay": 6.5e5} | changes
    return Schedule(max_lr=2e-4, style=style, warmup=0, decay=1e6, end=1e6, **numbers)


@pytest.mark.parametrize("style", ["infinite-cosine", "infinite-inv-square-root"])
def test_an_infinite_style_decays_holds_and_decays_again(style: str) -> None:
    made = infinite(style)
    assert made.rate(0) == 2e-4
    assert made.rate(650_000) == pytest.approx(1.1e-4)
    assert made.rate(700_000) == 1.1e-4
    assert made.rate(1_000_000) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("changes", "at", "message"),
    [
        ({"min_lr": 0.0}, 800_000, "ValueError when the last decay begins"),
        ({"constant_lr": 3e-4}, 1, "AssertionError at the first step past the warm-up"),
        ({"min_lr": 1.1e-4}, 1, "AssertionError at the first step past the warm-up"),
        ({"first_decay": 0.0}, 0, "ZeroDivisionError where the schedule begins"),
    ],
)
def test_where_an_infinite_style_ends_with_an_error(changes: dict[str, float], at: int, message: str) -> None:
    with pytest.raises(WouldStop, match=message):
        infinite("infinite-cosine", **changes).rate(at)


def test_an_infinite_style_whose_first_parts_have_no_length_is_an_exponential() -> None:
    made = infinite("infinite-cosine", constant_lr=2e-4, constant=0.0, first_decay=1e-9, min_lr=2e-6)
    assert [made.rate(at) for at in (0, 500_000, 1_000_000)] == pytest.approx([2e-4, 2e-5, 2e-6])


@st.composite
def stored(draw: st.DrawFn) -> tuple[fork.Stored, tuple[str, ...]]:
    """A schedule at any sample, with or without a cooldown, as the second writing has it."""
    decay = draw(st.integers(1000, 10**9))
    style = draw(st.sampled_from(["constant", "cosine"]))
    high = draw(st.floats(1e-6, 1.0))
    warmup = draw(st.floats(0, 0.99)) * decay
    arguments: tuple[str, ...] = ()
    if style == "constant" and draw(st.booleans()):
        share = draw(st.floats(0.01, 1.0))
        warmup = min(warmup, (1 - share) * decay)
        arguments = ("--lr_constant_plus_cooldown", f"--lr_constant_plus_cooldown_frac={share!r}")
    low = draw(st.floats(0, 1)) * high
    return fork.Stored(high, low, warmup, decay, style, draw(st.integers(0, 2 * decay))), arguments


@given(stored())
def test_it_is_the_law_that_is_written_down_a_second_time(case: tuple[fork.Stored, tuple[str, ...]]) -> None:
    of, arguments = case
    share = float(fork.flag(arguments, "--lr_constant_plus_cooldown_frac", "0.05"))
    cooldown = share * of.decay_steps if arguments else None
    made = Schedule(of.max_lr, of.min_lr, of.style, of.warmup_steps, of.decay_steps, of.decay_steps, cooldown=cooldown)
    # The launcher cuts the cooldown's length to whole samples, and a root is steep where it begins.
    around = [made.rate(max(0, of.num_steps + off)) for off in (-1, 0, 1)]
    slack = 1e-9 * of.max_lr + of.max_lr * 2 / max(1.0, math.sqrt(cooldown or of.decay_steps))
    assert min(around) - slack <= fork.rate(of, arguments) <= max(around) + slack
