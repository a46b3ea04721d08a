"""Weights are shares of tokens, lists have three columns, and the order never drifts from the shares."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.local.trainer import blend
from reconciler.local.trainer.environment import BadSetting

SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8).map(
    lambda found: [share / sum(found) for share in found]
)


@given(weights=SHARES, size=st.integers(0, 400))
def test_interleaving_stays_within_a_sample_a_pool_of_the_shares(weights: list[float], size: int) -> None:
    order = blend.interleave(weights, size)
    assert len(order) == size
    for end in range(size + 1):
        for pool, weight in enumerate(weights):
            drawn = sum(1 for chosen, _ in order[:end] if chosen == pool)
            assert abs(drawn - weight * end) <= len(weights)


@given(weights=SHARES, size=st.integers(1, 300))
def test_interleaving_draws_every_pool_from_its_start_without_gaps(weights: list[float], size: int) -> None:
    order = blend.interleave(weights, size)
    for pool in range(len(weights)):
        numbers = [number for chosen, number in order if chosen == pool]
        assert numbers == list(range(len(numbers)))


@given(weights=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20), samples=st.integers(1, 10**6))
def test_rows_supply_at_least_what_is_asked_for(weights: list[float], samples: int) -> None:
    counts = blend.samples_per_row(weights, samples)
    assert sum(counts) >= samples
    assert all(count >= 1 for count in counts)
    assert sum(counts) <= math.ceil(samples * blend.MARGIN) + len(weights)


def test_a_weight_of_zero_draws_nothing() -> None:
    assert blend.samples_per_row([0.0, 1.0], 100) == [0, 101]


def test_list_rows_and_the_bin_suffix() -> None:
    rows = blend.parse_list("0.7 /data/a.bin books\n\n 2e-1\t/data/b wiki \n")
    assert rows == [blend.Row(0.7, "/data/a", "books"), blend.Row(0.2, "/data/b", "wiki")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("0.5 /data/a\n", "Please provide the file list as 'weight, filename, corpus'", id="two columns"),
        pytest.param("1 /data/a b\n1 /d c e f\n", "line 2", id="four columns, and which line"),
        pytest.param("# note\n1 /data/a b\n", "Please provide the file list", id="comments are not known"),
        pytest.param("x /data/a b\n", "Please provide the file list", id="a weight that is no number"),
        pytest.param("nan /data/a b\n", "weight nan", id="not a number"),
        pytest.param("-1 /data/a b\n", "weight -1", id="negative"),
        pytest.param("0 /data/a b\n", "above 0", id="only zeros"),
        pytest.param("", "above 0", id="empty"),
    ],
)
def test_bad_lists_are_refused(text: str, words: str) -> None:
    with pytest.raises(BadSetting, match=words.replace("(", "\\(")):
        blend.parse_list(text)
