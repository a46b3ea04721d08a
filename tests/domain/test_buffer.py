"""The composition of the buffer."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.buffer import composition, dataset_of, label_in, part
from reconciler.domain.mixture import LABEL
from reconciler.model.manifests import Buffer, Selection

BY_TOKENS, EQUAL = Buffer(composition="by-tokens"), Buffer(composition="equal")


def declared(**weights: str) -> Buffer:
    return Buffer(composition="declared", weights={symbol: Decimal(text) for symbol, text in weights.items()})


@pytest.mark.parametrize(
    ("buffer", "sizes", "shares"),
    [
        pytest.param(BY_TOKENS, {"D1": 2_000, "D2": 1_500}, {"D1": "4/7", "D2": "3/7"}, id="by size"),
        pytest.param(EQUAL, {"D1": 2_000, "D2": 1_500}, {"D1": "1/2", "D2": "1/2"}, id="equal"),
        pytest.param(BY_TOKENS, {"D1": 7}, {"D1": "1"}, id="one dataset is all of it"),
        pytest.param(BY_TOKENS, {}, {}, id="empty before anything is done"),
        pytest.param(EQUAL, {}, {}, id="empty before anything is done, equal"),
        pytest.param(declared(D1="0.1", D2="0.3"), {"D1": 9, "D2": 1}, {"D1": "1/4", "D2": "3/4"}, id="as declared"),
        pytest.param(declared(D1="0.1", D2="0.3"), {"D1": 9}, {"D1": "1"}, id="among what it holds so far"),
        pytest.param(declared(D1="0", D2="0.3"), {"D1": 9, "D2": 1}, {"D1": "0", "D2": "1"}, id="weight 0 is none"),
        pytest.param(declared(D1="0.5"), {}, {}, id="empty before anything is done, declared"),
    ],
)
def test_composition(buffer: Buffer, sizes: dict[str, int], shares: dict[str, str]) -> None:
    assert composition(sizes, buffer) == {symbol: Fraction(share) for symbol, share in shares.items()}


SIZES = st.dictionaries(st.from_regex(r"D[1-9]", fullmatch=True), st.integers(1, 10**14), min_size=1)


@given(SIZES, st.sampled_from([BY_TOKENS, EQUAL]))
def test_shares_sum_to_exactly_one(sizes: dict[str, int], buffer: Buffer) -> None:
    assert sum(composition(sizes, buffer).values()) == 1


@given(SIZES, st.lists(st.decimals("0.000001", 1, places=6), min_size=9, max_size=9))
def test_declared_shares_sum_to_exactly_one_whatever_the_weights_sum_to(
    sizes: dict[str, int], weights: list[Decimal]
) -> None:
    buffer = Buffer(composition="declared", weights={f"D{n}": weight for n, weight in enumerate(weights, 1)})
    assert sum(composition(sizes, buffer).values()) == 1


def test_a_selection_is_a_source_of_its_own() -> None:
    buffer = Buffer(select={"D1": Selection(shards=("a",))})
    assert [label_in(buffer, symbol) for symbol in ("D1", "D2")] == ["D1-buffer", "D2"]
    assert LABEL.fullmatch(part("D1"))
    assert [dataset_of(label) for label in ("D1-buffer", "D1")] == ["D1", "D1"]
