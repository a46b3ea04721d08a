"""A matrix to variants, and a variant to its pilot: names, counts, curves and tokens."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.ladder import count, not_tried
from reconciler.domain.trial import NAME_CHARS_MAX, assumed, pilot, variant_name, variants
from reconciler.model.fieldtypes import NAME_PATTERN
from reconciler.model.manifests import StageManifest
from reconciler.model.quantities import format_tokens
from reconciler.model.strategy import Strategy, UsedStrategy

D0, EVEN = {"D0": 1}, {"D0": 0.5, "D2": 0.5}
DECAY = [
    {"mixture": D0, "lr": {"shape": "cosine", "to": "lrMax/10", "until": "lrMax/5"}},
    {"mixture": EVEN, "lr": {"shape": "continue"}},
]
REWARM = [
    {"mixture": D0, "lr": {"shape": "constant", "warmup": "1%", "rewarm": True}, "tokens": "1M"},
    {"mixture": EVEN, "lr": {"shape": "cooldown"}},
]
NAIVE = [{"mixture": {"D2": 1}, "lr": {"shape": "constant"}}]


def strategy(legs: list[dict[str, Any]] = NAIVE, matrix: dict[str, Any] | None = None, **trial: Any) -> Strategy:
    body = {"tokens": "1M", "matrix": matrix or {}, "compare": ["val-D0"]} | trial
    return Strategy.model_validate({"name": "decay", "legs": legs, "trial": body})


def stage(tokens: int, *strategies: Strategy) -> StageManifest:
    spec = {
        "campaign": "c",
        "dataset": "d",
        "tokens": tokens,
        "source": "random",
        "resources": {"nodes": 1, "walltime": "1h"},
        "strategies": [{"name": "a", "legs": NAIVE}],
    }
    body = {"apiVersion": "cpt/v1", "kind": "Stage", "metadata": {"name": "s"}, "spec": spec}
    made = StageManifest.model_validate(body)
    return made.model_copy(update={"spec": made.spec.model_copy(update={"strategies": strategies or ()})})


# --- variants


def test_a_strategy_without_a_trial_has_no_variants() -> None:
    plain = Strategy.model_validate({"name": "naive", "legs": NAIVE})
    assert variants(plain) == ()
    assert assumed(plain) is plain


@pytest.mark.parametrize(
    ("legs", "matrix", "names"),
    [
        pytest.param(DECAY, {"divisor": [10, 50, 100]}, ["decay.n10", "decay.n50", "decay.n100"], id="divisors"),
        pytest.param(
            REWARM,
            {"rate": ["lrMax", "lrMax/2", "lrMax*2", "1e-4"]},
            ["decay.lrmax", "decay.lrmax-2", "decay.lrmax-x2", "decay.0.0001"],
            id="rates",
        ),
        pytest.param(
            DECAY,
            {"mixture": {"mix-a": EVEN, "mix-b": D0}, "divisor": [10, 50]},
            ["decay.mix-a-n10", "decay.mix-a-n50", "decay.mix-b-n10", "decay.mix-b-n50"],
            id="every combination, in the matrix's order",
        ),
        pytest.param(
            REWARM, {"mixture": {"a": EVEN}, "divisor": [5], "rate": ["lrMax"]}, ["decay.a-n5-lrmax"], id="all axes"
        ),
        pytest.param(DECAY, {"divisor": [10, 10]}, ["decay.n10"], id="equal values are one"),
    ],
)
def test_variants_are_named_for_what_they_vary(
    legs: list[dict[str, Any]], matrix: dict[str, Any], names: list[str]
) -> None:
    assert [variant.name for variant in variants(strategy(legs, matrix))] == names


def test_a_divisor_says_where_the_last_declared_decay_ends_and_leaves_the_switch() -> None:
    (fifty,) = variants(strategy(DECAY, {"divisor": [50]}))
    assert [str(leg.lr.to) for leg in fifty.legs] == ["lrMax/50", "lrFinal"]
    assert (str(fifty.legs[0].lr.until), fifty.legs[1].lr.shape) == ("lrMax/5", "continue")


@pytest.mark.parametrize(
    ("at", "divisor", "to"), [("lrMax/2", 10, "lrMax/20"), ("lrMax*2", 4, "lrMax*0.5"), ("2e-3", 4, "0.0005")]
)
def test_the_end_of_a_decay_is_its_own_beginning_divided(at: str, divisor: int, to: str) -> None:
    legs = [{"mixture": D0, "lr": {"shape": "cooldown", "at": at}}]
    (variant,) = variants(strategy(legs, {"divisor": [divisor]}))
    assert str(variant.legs[0].lr.to) == to


def test_a_rate_is_that_of_the_last_rewarm_and_of_legs_that_go_on_from_it() -> None:
    (half,) = variants(strategy(REWARM, {"rate": ["lrMax/2"]}))
    assert [str(leg.lr.at) for leg in half.legs] == ["lrMax/2", "lrMax/2"]
    other = [REWARM[0], {"mixture": D0, "lr": {"shape": "cooldown", "at": "lrMax/7", "rewarm": True}}]
    (last,) = variants(strategy(other, {"rate": ["lrMax/2"]}))
    assert [str(leg.lr.at) for leg in last.legs] == ["lrMax", "lrMax/2"]


def test_a_divisor_divides_the_varied_rate() -> None:
    (both,) = variants(strategy(REWARM, {"rate": ["lrMax/2"], "divisor": [10]}))
    assert str(both.legs[1].lr.to) == "lrMax/20"


def test_a_mixture_is_that_of_the_last_leg() -> None:
    (lean,) = variants(strategy(DECAY, {"mixture": {"lean": {"D0": 0.05, "D2": 0.95}}}))
    assert [dict(leg.mixture) for leg in lean.legs] == [D0, {"D0": Decimal("0.05"), "D2": Decimal("0.95")}]


def test_the_chosen_variant_is_assumed_or_else_the_first() -> None:
    matrix = {"divisor": [10, 50]}
    assert assumed(strategy(DECAY, matrix)).name == "decay.n10"
    assert assumed(strategy(DECAY, matrix, chosen="decay.n50")).name == "decay.n50"
    assert assumed(strategy(DECAY, matrix, chosen="decay.n51")).name == "decay.n10"


NAMES = st.from_regex(re.compile(NAME_PATTERN.replace("$", r"\Z")), fullmatch=True)
RATES = st.one_of(
    st.builds("lrMax/{}".format, st.integers(1, 200)),
    st.builds("lrMax*{}".format, st.integers(1, 200)),
    st.sampled_from(["lrFinal", "lrSource", "2e-4", "0.000123"]),
)


@given(
    st.dictionaries(NAMES, st.just(EVEN), max_size=3),
    st.lists(st.integers(1, 10**9), max_size=3),
    st.lists(RATES, max_size=3),
    NAMES,
)
def test_names_are_unique_valid_and_as_many_as_the_product(
    mixture: dict[str, Any], divisor: list[int], rate: list[str], name: str
) -> None:
    made = strategy(REWARM, {"mixture": mixture, "divisor": divisor, "rate": rate})
    made = made.model_copy(update={"name": name})
    if not (mixture or divisor or rate):
        return
    assert made.trial is not None
    found = [variant.name for variant in variants(made)]
    assert len(found) == len(set(found)) == count(made.trial)
    assert all(re.fullmatch(NAME_PATTERN, each) for each in found)


def test_a_name_that_would_be_too_long_is_cut_and_stays_its_own() -> None:
    names = {variant_name("s" * 50, f"{'m' * 40}-n{number}") for number in range(50)}
    assert len(names) == 50
    assert {len(name) for name in names} == {NAME_CHARS_MAX}


# --- pilots


@given(st.integers(2, 10**14), st.data())
def test_a_pilot_s_legs_are_in_proportion_and_sum_to_its_tokens(whole: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, whole - 1), max_size=4)))
    shares = [after - before for before, after in zip([0, *cuts], [*cuts, whole], strict=True)]
    tokens = data.draw(st.integers(1, whole - 1))
    legs = [{"mixture": D0, "lr": {"shape": "constant"}, "tokens": share} for share in shares]
    short = pilot(stage(whole), Strategy.model_validate({"name": "a", "legs": legs}), tokens)
    found = [leg.tokens or 0 for leg in short.spec.strategies[0].legs]
    assert sum(found) == tokens == short.spec.tokens
    assert all(abs(got * whole - share * tokens) < whole for got, share in zip(found, shares, strict=True))


def test_a_leg_that_takes_the_rest_takes_the_rest_of_the_pilot() -> None:
    short = pilot(stage(4_000_000), strategy(REWARM), 400_000)
    assert [leg.tokens for leg in short.spec.strategies[0].legs] == [100_000, None]


def test_a_decay_that_ends_after_the_stage_is_shortened_with_it() -> None:
    legs = [{"mixture": D0, "lr": {"shape": "cosine", "over": "8M"}}]
    short = pilot(stage(4_000_000), strategy(legs), 400_000)
    over = short.spec.strategies[0].legs[0].lr.over
    assert over is not None
    assert format_tokens(over) == "800k"


# --- conditions


@pytest.mark.parametrize(
    ("condition", "failed", "why"),
    [
        (None, (), ""),
        ("forgetting", ("forgetting", "recovery"), ""),
        ("no-recovery", ("recovery",), ""),
        ("divergence", ("divergence",), ""),
        ("no-recovery", ("forgetting",), "only after a rung before it failed the recovery gate; none did"),
        (UsedStrategy(stage="s", used=("a", "b")), (), "only if s was done by a or b; it was done by c"),
        (UsedStrategy(stage="s", used=("c",)), (), ""),
        (UsedStrategy(stage="t", used=("c",)), (), "only if t was done by c; it is not done"),
    ],
)
def test_a_condition_holds_or_says_why_not(condition: Any, failed: tuple[str, ...], why: str) -> None:
    assert not_tried(strategy().model_copy(update={"if_": condition}), failed, {"s": "c"}) == why
