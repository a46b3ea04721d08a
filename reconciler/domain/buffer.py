"""What the buffer B holds at a stage: data of done stages after D0, never of the stage itself (cookbook, buffer)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from reconciler.model.manifests import Buffer

PART: Final = "-buffer"


def part(symbol: str) -> str:
    """Label of the buffer's part of a dataset, where that is a selection: a source with a list of its own, so that it
    is told apart from the dataset itself in one mixture."""
    return f"{symbol}{PART}"


def dataset_of(label: str) -> str:
    """The symbol of the dataset that a source is, or is a part of."""
    return label.removesuffix(PART)


def label_in(buffer: Buffer, symbol: str) -> str:
    """The source that stands for a dataset in the buffer."""
    return part(symbol) if symbol in buffer.select else symbol


def composition(sizes: Mapping[str, int], buffer: Buffer) -> dict[str, Fraction]:
    """Share of each dataset in B, summing to 1; empty when B is.

    `sizes` maps the symbols of the datasets in B to the tokens that B takes of them. Of declared weights, those of the
    datasets in B are taken in proportion; in manifests that are valid they are not all 0.
    """
    if buffer.composition == "equal":
        weights = {symbol: Fraction(1) for symbol in sizes}
    elif buffer.composition == "by-tokens":
        weights = {symbol: Fraction(size) for symbol, size in sizes.items()}
    else:
        weights = {symbol: Fraction(buffer.weights.get(symbol, 0)) for symbol in sizes}
    whole = sum(weights.values(), Fraction(0))
    return {symbol: weight / whole for symbol, weight in weights.items() if whole}
