"""What the buffer B holds at a stage: data of done stages after D0, never of the stage itself (cookbook, buffer)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal


def composition(tokens: Mapping[str, int], rule: Literal["by-tokens", "equal", "declared"]) -> dict[str, Fraction]:
    """Share of each dataset in B, summing to 1; empty when B is.

    `tokens` maps the symbols of the datasets in B to their sizes.
    """
    if rule == "equal":
        return {symbol: Fraction(1, len(tokens)) for symbol in tokens}
    whole = sum(tokens.values())
    return {symbol: Fraction(size, whole) for symbol, size in tokens.items()}
