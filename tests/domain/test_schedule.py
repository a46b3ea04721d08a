"""The learning rate at every iteration: the launcher's numbers, boundaries of legs, and laws over all policies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain import schedule
from reconciler.domain.schedule import (
    NamedRates,
    at_peak,
    boundaries,
    curve_of,
    describe,
    ended,
    rate_at,
    reached,
    sample,
    share_at,
)
from reconciler.model.quantities import parse_rate
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape, SourceRecipe
from reconciler.model.strategy import LrPolicy

LR_MAX, LR_FINAL = Decimal("2e-4"), Decimal("2e-5")


def curve(
    shape: str, *, position: int = 0, iterations: int = 1000, lr_final: Decimal = LR_FINAL, **more: object
) -> Curve:
    policy = LrPolicy.model_validate({"shape": shape, **more})
    return curve_of(policy, NamedRates(LR_MAX, lr_final), position=position, iterations=iterations)


FALL = curve("cooldown", position=136_000, iterations=1_650)
HALF = Curve(Shape.COOLDOWN, 2e-4, 2e-5, 0, 68_050, 136_100)
COSINE = curve("cosine", position=100, iterations=200)
LINE = curve("cooldown", decay="linear", position=100, iterations=200)
EXPONENTIAL = curve("cooldown", decay="exponential", position=100, iterations=200, to="lrMax/100")
WARM = curve("constant", iterations=1000, warmup="10%")


@pytest.mark.parametrize(
    ("of", "position", "rate"),
    [
        pytest.param(FALL, 0, 2e-4, id="cooldown: before its start the rate is at its peak"),
        pytest.param(FALL, 136_000, 2e-4, id="cooldown: the resumed step still has the full rate"),
        pytest.param(FALL, 136_000 + 413, 2e-5 + 1.8e-4 * (1 - (413 / 1650) ** 0.5), id="cooldown: steep at first"),
        pytest.param(FALL, 137_650, 2e-5, id="cooldown: ends at the lower rate"),
        pytest.param(FALL, 999_999, 2e-5, id="cooldown: stays there"),
        pytest.param(HALF, 136_005, 2.012568679065123e-05, id="cooldown: the value that a real run logged"),
        pytest.param(COSINE, 100, 2e-4, id="cosine: begins at the peak wherever the leg begins"),
        pytest.param(COSINE, 200, 1.1e-4, id="cosine: half-way is the mean"),
        pytest.param(COSINE, 300, 2e-5, id="cosine: ends at the lower rate"),
        pytest.param(LINE, 100, 2e-4, id="line: begins at the peak"),
        pytest.param(LINE, 150, 1.55e-4, id="line: a quarter of the way down after a quarter"),
        pytest.param(LINE, 300, 2e-5, id="line: ends at the lower rate"),
        pytest.param(EXPONENTIAL, 100, 2e-4, id="exponential: begins at the peak"),
        pytest.param(EXPONENTIAL, 200, 2e-5, id="exponential: half-way is the geometric mean"),
        pytest.param(EXPONENTIAL, 300, 2e-6, id="exponential: ends at the lower rate"),
        pytest.param(WARM, 0, 0.0, id="warm-up: the first step is taken with 0"),
        pytest.param(WARM, 25, 5e-5, id="warm-up: rises linearly"),
        pytest.param(WARM, 100, 2e-4, id="warm-up: is over after its share"),
        pytest.param(WARM, 1000, 2e-4, id="constant: holds"),
        pytest.param(curve("constant", at="lrMax/5"), 7, 4e-5, id="constant: at a fraction of the campaign's rate"),
    ],
)
def test_rate_at_a_schedule_position(of: Curve, position: int, rate: float) -> None:
    assert rate_at(of, position) == pytest.approx(rate, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(
    ("shape", "divisor", "share"),
    [
        ("cooldown", 10, 0.7901),
        ("cooldown", 50, 0.6664),
        ("cooldown", 100, 0.6530),
        ("cosine", 10, 0.7837),
        ("cosine", 50, 0.7180),
        ("cosine", 100, 0.7113),
    ],
)
def test_share_of_the_decay_at_which_a_fifth_of_the_peak_is_reached(shape: str, divisor: int, share: float) -> None:
    falling = curve(shape, position=5_000_000, iterations=1_000_000, to=f"lrMax/{divisor}")
    assert share_at(falling.shape, falling.high, falling.low, 4e-5) == pytest.approx(share, abs=5e-5)
    assert (reached(falling, 4e-5) - 5_000_000) / 1e6 == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize("position", [0, 1, 977, 136_000])
@pytest.mark.parametrize("shape", ["constant", "cooldown", "cosine"])
def test_a_leg_begins_where_the_plateau_left_off_and_the_next_where_it_ends(shape: str, position: int) -> None:
    first = curve(shape, position=position, iterations=500, to="lrMax/5")
    ended = "lrMax" if shape == "constant" else "lrMax/5"
    second = curve("cooldown", position=position + 500, iterations=100, at=ended, to="lrMax/50")
    assert rate_at(first, position) == float(LR_MAX)
    assert rate_at(first, position + 500) == rate_at(second, position + 500)


def test_warm_up_comes_before_a_decay_of_the_same_leg() -> None:
    rewarmed = curve("cosine", iterations=1000, warmup="1%", rewarm=True, lr_final=Decimal(0))
    assert (rewarmed.warmup, rewarmed.start, rewarmed.end) == (10, 10, 1000)
    assert [rate_at(rewarmed, p) for p in (0, 5, 10, 1000)] == pytest.approx([0, 1e-4, 2e-4, 0])


def test_a_partial_warm_up_iteration_is_rounded_up() -> None:
    assert curve("constant", iterations=1001, warmup="10%").warmup == 101


@pytest.mark.parametrize(
    ("of", "position", "peak"),
    [
        pytest.param(curve("constant", position=10), 1010, True, id="the end of a plateau is pre-cooldown"),
        pytest.param(WARM, 99, False, id="warm-up is not over"),
        pytest.param(WARM, 100, True, id="warm-up is just over"),
        pytest.param(FALL, 136_000, True, id="decay is about to begin"),
        pytest.param(FALL, 136_001, False, id="decay has begun"),
        pytest.param(FALL, 137_650, False, id="decay has ended"),
    ],
)
def test_at_peak_is_after_warm_up_and_before_decay(of: Curve, position: int, peak: bool) -> None:
    assert at_peak(of, position) is peak


@pytest.mark.parametrize(
    ("of", "position", "iterations", "words"),
    [
        (curve("constant"), 0, 1000, "constant at 0.0002"),
        (WARM, 0, 1000, "warm-up over 100 iterations, then constant at 0.0002"),
        (FALL, 136_000, 1650, "1-sqrt cooldown from 0.0002 to 2e-05"),
        (COSINE, 100, 200, "cosine from 0.0002 to 2e-05"),
        (LINE, 100, 200, "linear cooldown from 0.0002 to 2e-05"),
        (EXPONENTIAL, 100, 200, "exponential cooldown from 0.0002 to 2e-06"),
        (COSINE, 100, 100, "cosine from 0.0002 to 2e-05, here from 0.0002 to 0.00011"),
        (COSINE, 200, 100, "cosine from 0.0002 to 2e-05, here from 0.00011 to 2e-05"),
    ],
)
def test_a_curve_in_words_and_the_part_of_it_that_a_leg_is(
    of: Curve, position: int, iterations: int, words: str
) -> None:
    assert describe(of, position, iterations) == words


def legs_of(*legs: tuple[Curve, int, int, Load], rate: float | None = 2e-4, scale: float = 1.0) -> Recipe:
    made = tuple(LegRecipe({}, {}, {}, 1, iterations, position, of, load) for of, position, iterations, load in legs)
    return Recipe(1, "c", "s", "n", {}, 1, 1, 1, SourceRecipe(rate=rate), made, rate_scale=scale)


REWARMED = curve("cosine", iterations=1000, warmup="1%", rewarm=True)
HOLD = curve("constant", position=136_000)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        pytest.param(legs_of((HOLD, 136_000, 1000, Load.CONTINUE)), ("",), id="on the plateau"),
        pytest.param(legs_of((WARM, 0, 1000, Load.RANDOM), rate=None), ("",), id="from random weights"),
        pytest.param(
            legs_of((COSINE, 100, 100, Load.CONTINUE), (COSINE, 200, 100, Load.CONTINUE)), ("", ""),
            id="two legs of one decay",
        ),
        pytest.param(
            legs_of((REWARMED, 0, 1000, Load.REWARM), rate=0.0),
            ("rises from 0 to 0.0002 over 10 iterations: rewarm",),
            id="a converged checkpoint is rewarmed",
        ),
        pytest.param(
            legs_of((REWARMED, 0, 1000, Load.REWARM)),
            ("falls from 0.0002 to 0 and rises to 0.0002 over 10 iterations: rewarm",),
            id="a rewarm from the plateau",
        ),
        pytest.param(
            legs_of((HOLD, 136_000, 1000, Load.CONTINUE), rate=1e-4, scale=2.0),
            ("rises from 0.0001 to 0.0002: rates × 2 for another batch",),
            id="another batch",
        ),
        pytest.param(
            legs_of((HOLD, 136_000, 1000, Load.CONTINUE), rate=2e-5),
            ("rises from 2e-05 to 0.0002",),
            id="a jump that nobody declared",
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_the_rate_where_a_leg_begins(of: Recipe, words: tuple[str, ...]) -> None:
    assert boundaries(of) == words


@pytest.mark.parametrize(
    ("rate", "number"),
    [
        pytest.param("lrMax", 2e-4 * 3, id="of the campaign, scaled"),
        pytest.param("lrMax*2", 4e-4 * 3, id="a multiple"),
        pytest.param("1e-4", 3e-4, id="a plain number is scaled too"),
        pytest.param("lrSource/4", 1e-5 * 5, id="the source's, scaled by its own ratio"),
    ],
)
def test_named_rates_with_another_batch(rate: str, number: float) -> None:
    named = NamedRates(LR_MAX, LR_FINAL, source=4e-5, scale=3.0, source_scale=5.0)
    assert named.of(parse_rate(rate)) == pytest.approx(number)


def test_a_rate_of_a_source_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="the rate of the source is not known"):
        NamedRates(LR_MAX, LR_FINAL).of(parse_rate("lrSource"))


def test_a_drawn_curve_has_both_ends_and_no_place_twice() -> None:
    points = sample(COSINE, 100, 200)
    assert points[0] == (0, 2e-4)
    assert points[-1] == (200, 2e-5)
    steps = [step for step, _ in points]
    assert len(steps) == 48
    assert steps == sorted(set(steps))
    assert all(rate == rate_at(COSINE, 100 + step) for step, rate in points)
    assert len(sample(COSINE, 100, 3)) == 4


@st.composite
def curves(draw: st.DrawFn) -> tuple[Curve, int, int]:
    """(curve, position, iterations) of any leg that a manifest can ask for."""
    shape = draw(st.sampled_from(["constant", "cooldown", "cosine"]))
    decay = draw(st.sampled_from(["1-sqrt", "linear", "exponential"]))
    rewarm = draw(st.booleans())
    position = 0 if rewarm else draw(st.integers(0, 10**6))
    iterations = draw(st.integers(2, 10**5))
    warmup = f"{draw(st.integers(0, 50))}%" if position == 0 else "0%"
    to = f"lrMax/{draw(st.integers(1, 1000))}"
    made = curve(shape, position=position, iterations=iterations, to=to, warmup=warmup, decay=decay)
    return made, position, iterations


@given(curves(), st.data())
def test_after_warm_up_the_rate_never_rises_and_stays_within_its_bounds(
    leg: tuple[Curve, int, int], data: st.DataObject
) -> None:
    of, position, iterations = leg
    steps = st.integers(position, position + iterations)
    first, second = sorted((data.draw(steps), data.draw(steps)))
    assert 0 <= rate_at(of, first) <= of.high
    if first >= of.warmup:
        assert of.low * (1 - 1e-12) <= rate_at(of, second) <= rate_at(of, first) <= of.high
    else:
        assert rate_at(of, first) <= rate_at(of, min(second, of.warmup))


@given(curves())
def test_a_leg_ends_at_its_lower_rate(leg: tuple[Curve, int, int]) -> None:
    of, position, iterations = leg
    assert rate_at(of, position + iterations) == of.low
    assert schedule.at_peak(of, position + iterations) == (of.low == of.high)
    assert ended(of, position + iterations)


@given(curves(), st.floats(0.001, 0.999))
def test_a_rate_is_reached_at_the_first_position_that_has_come_down_to_it(
    leg: tuple[Curve, int, int], share: float
) -> None:
    of, position, iterations = leg
    rate = of.low + share * (of.high - of.low)
    if not of.low < rate < of.high:
        return
    at = reached(of, rate)
    assert of.start < at <= position + iterations
    assert rate_at(of, at) <= rate * (1 + 1e-9)
    assert rate_at(of, at - 1) > rate * (1 - 1e-9)
