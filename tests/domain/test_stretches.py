"""Laws of decays over several legs: they are together one decay, take the whole budget, and end on no save."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import isclose

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.domain.schedule import NamedRates, curve_of, rate_at
from reconciler.domain.stretches import DoesNotFit, Steps, Stretch, Strip
from reconciler.model.strategy import Leg

LR = 2e-4
RATES = NamedRates(Decimal("2e-4"), Decimal(0), source=1e-4)


def leg(tokens: int | None = None, /, **lr: object) -> Leg:
    return Leg.model_validate({"mixture": {"D0": 1}, "lr": lr} | ({"tokens": tokens} if tokens else {}))


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    """Any decay that a manifest can declare."""
    shape = draw(st.sampled_from(["cooldown", "cosine"]))
    form = draw(st.sampled_from(["1-sqrt", "linear", "exponential"])) if shape == "cooldown" else "1-sqrt"
    warm = {"rewarm": True, "warmup": f"{draw(st.integers(0, 40))}%"} if draw(st.booleans()) else {}
    return {"shape": shape, "decay": form, "to": f"lrMax/{draw(st.integers(6, 200))}", **warm}


@st.composite
def switched(draw: st.DrawFn) -> tuple[dict[str, object], list[Leg], int, Steps, int]:
    """(policy, legs with one or two switches by rate or tokens, budget, steps, position)."""
    policy = draw(policies())
    steps = Steps(draw(st.sampled_from([1, 128, 2048])), draw(st.sampled_from([1, 2, 7, 100])))
    budget = draw(st.integers(20, 20_000)) * steps.tokens
    first, *rest = draw(st.sampled_from([("rate",), ("rate", "rate"), ("tokens",), ("tokens", "rate")]))
    ends: dict[str, object] = {"until": "lrMax/2"} if first == "rate" else {}
    legs = [leg(None if ends else max(1, budget // 20), **policy, **ends)]
    legs += [leg(shape="continue", until="lrMax/5") for _ in rest]
    position = draw(st.integers(0, 200_000))
    return policy, [*legs, leg(shape="continue")], budget, steps, position


def laid_out(legs: list[Leg], budget: int, steps: Steps, position: int) -> tuple[Stretch, ...]:
    try:
        return Strip(RATES, steps, position).stretches(legs, budget)
    except DoesNotFit:
        assume(False)
        raise AssertionError from None


@given(switched())
def test_legs_that_share_a_decay_are_together_the_decay_of_one_leg(
    drawn: tuple[dict[str, object], list[Leg], int, Steps, int],
) -> None:
    policy, legs, budget, steps, position = drawn
    found = laid_out(legs, budget, steps, position)
    total = sum(stretch.iterations for stretch in found)
    at = 0 if legs[0].lr.rewarm else position
    whole = curve_of(leg(**policy).lr, RATES, position=at, iterations=total)
    if legs[0].lr.until is None:  # the warm-up is a share of the first leg, and not of the whole
        own = curve_of(leg(**policy).lr, RATES, position=at, iterations=found[0].iterations)
        whole = replace(whole, warmup=own.warmup, start=own.start)
    for stretch in found:
        assert stretch.curve == whole
        assert stretch.position == at
        at += stretch.iterations
    assert at == whole.end


@given(switched())
def test_legs_take_the_whole_budget_and_end_on_no_save(
    drawn: tuple[dict[str, object], list[Leg], int, Steps, int],
) -> None:
    _, legs, budget, steps, position = drawn
    found = laid_out(legs, budget, steps, position)
    assert sum(stretch.tokens for stretch in found) == budget
    assert all(stretch.iterations >= 1 for stretch in found)
    assert abs(sum(stretch.iterations for stretch in found) - budget / steps.tokens) <= 1 + 3
    if steps.save_every > 1:
        assert all(stretch.iterations % steps.save_every for stretch in found)


@given(switched())
def test_a_leg_ends_at_the_first_iteration_that_has_come_down_to_its_rate_or_the_next(
    drawn: tuple[dict[str, object], list[Leg], int, Steps, int],
) -> None:
    _, legs, budget, steps, position = drawn
    for one, stretch in zip(legs, laid_out(legs, budget, steps, position), strict=True):
        if one.lr.until is not None:
            end, rate = stretch.position + stretch.iterations, RATES.of(one.lr.until)
            assert rate_at(stretch.curve, end) <= rate * (1 + 1e-9)
            # One iteration later where the first would end on a save.
            assert rate_at(stretch.curve, end - (2 if steps.save_every > 1 else 1)) > rate * (1 - 1e-9)


@given(policies(), st.integers(1000, 100_000), st.integers(500, 999), st.data())
def test_a_decay_of_stated_length_goes_on_over_stages_as_if_it_had_never_been_cut(
    policy: dict[str, object], over: int, share: int, data: st.DataObject
) -> None:
    """However many stages a decay is spread over, each takes the curve from where it was left."""
    steps, position = Steps(1, data.draw(st.sampled_from([1, 100]))), 50_000
    first = over * share // 1000
    (begun,) = Strip(RATES, steps, position).stretches([leg(**policy, over=over)], first)
    curve, at = begun.curve, begun.position + begun.iterations
    assert curve.end - curve.start == over
    left = curve.end - at
    if left <= 4:
        return
    (goes_on,) = Strip(RATES, steps, at, curve).stretches([leg(shape="continue")], left)
    assert (goes_on.curve, goes_on.position) == (curve, at)
    assert rate_at(goes_on.curve, at + goes_on.iterations) == curve.low


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        pytest.param([leg(shape="continue")], "leg 0 continues a decay, but its source is in none", id="no decay"),
        pytest.param(
            [leg(40, shape="constant"), leg(shape="continue")],
            "leg 1 continues a decay, but leg 0 holds its rate",
            id="after a plateau",
        ),
        pytest.param(
            [leg(shape="cooldown", to="lrMax/10", over=50)],
            "leg 0 has 100 tokens, but its decay is over after 50 of them",
            id="over before the leg is",
        ),
        pytest.param(
            [leg(shape="cooldown", to="lrMax/10", over=200, until="lrMax/5"), leg(shape="continue")],
            "its legs take 159 of 100 tokens; nothing is left for the one that takes the rest",
            id="switched after the stage is over",
        ),
        pytest.param(
            [leg(shape="cooldown", to="lrMax/10", until="lrMax/20"), leg(shape="continue")],
            "leg 0 falls until lrMax/20, 1e-05, not between its first rate, 0.0002, and the decay's last, 2e-05",
            id="a rate that the decay never has",
        ),
        pytest.param(
            [leg(shape="cosine", at="lrSource", to="lrMax")],
            "leg 0 falls from lrSource, 0.0001, to lrMax, which is 0.0002",
            id="a decay that rises",
        ),
        pytest.param(
            [leg(shape="cooldown", decay="exponential")],
            "leg 0: an exponential from 0.0002 never comes to lrFinal, 0",
            id="an exponential to zero",
        ),
        pytest.param(
            [leg(shape="cooldown"), leg(shape="continue", until="lrMax/5"), leg(10, shape="continue")],
            "after leg 1 one leg of its decay must leave tokens out",
            id="the rest before a switch",
        ),
    ],
)
def test_legs_that_do_not_fit_are_refused_with_the_numbers(legs: list[Leg], words: str) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        Strip(RATES, Steps(1, 1), 1000).stretches(legs, 100)
    assert str(refusal.value) == words


def test_a_continued_leg_that_about_ends_its_decay_ends_it() -> None:
    """Budgets are rounded to whole steps off the save interval each; a decay must not stay an iteration short."""
    curve = replace(curve_of(leg(shape="cooldown").lr, RATES, position=1000, iterations=50), end=1100)
    for tokens in (48, 49, 50, 51, 52):
        (last,) = Strip(RATES, Steps(1, 1), 1050, curve).stretches([leg(shape="continue")], tokens)
        assert last.position + last.iterations == curve.end
    with pytest.raises(DoesNotFit, match="leg 0 has 53 tokens, but its decay is over after 50 of them"):
        Strip(RATES, Steps(1, 1), 1050, curve).stretches([leg(shape="continue")], 53)
    (short,) = Strip(RATES, Steps(1, 1), 1050, curve).stretches([leg(shape="continue")], 40)
    assert short.iterations == 40
    assert not isclose(rate_at(curve, 1090), curve.low, abs_tol=1e-9)
