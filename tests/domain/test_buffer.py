"""The composition of the buffer."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.buffer import composition


@pytest.mark.parametrize(
    ("rule", "sizes", "shares"),
    [
        pytest.param("by-tokens", {"D1": 2_000, "D2": 1_500}, {"D1": "4/7", "D2": "3/7"}, id="by size"),
        pytest.param("equal", {"D1": 2_000, "D2": 1_500}, {"D1": "1/2", "D2": "1/2"}, id="equal"),
        pytest.param("by-tokens", {"D1": 7}, {"D1": "1"}, id="one dataset is all of it"),
        pytest.param("by-tokens", {}, {}, id="empty before anything is done"),
        pytest.param("equal", {}, {}, id="empty before anything is done, equal"),
    ],
)
def test_composition(rule: Literal["by-tokens", "equal"], sizes: dict[str, int], shares: dict[str, str]) -> None:
    assert composition(sizes, rule) == {symbol: Fraction(share) for symbol, share in shares.items()}


@given(
    st.dictionaries(st.from_regex(r"D[1-9]", fullmatch=True), st.integers(1, 10**14), min_size=1),
    st.sampled_from(["by-tokens", "equal"]),
)
def test_shares_sum_to_exactly_one(sizes: dict[str, int], rule: Literal["by-tokens", "equal"]) -> None:
    assert sum(composition(sizes, rule).values()) == 1
