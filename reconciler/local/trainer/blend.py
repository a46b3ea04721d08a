"""Weighted lists and the order in which their corpora are drawn; pure, as the launcher does it.

A weight is a share of the tokens drawn. Row i gets n_i = ceil(N · w_i / Σw · 1.005) samples; the rows of one corpus
label form one pool; the pools are interleaved by largest deficit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.local.trainer.environment import BadSetting

MARGIN: Final = 1.005
"""More samples than asked for: the blend is not exactly even, and must not run dry."""


@dataclass(frozen=True)
class Row:
    """One line of a weighted list; `prefix` is the path without `.bin`."""

    weight: float
    prefix: str
    corpus: str


def parse_list(text: str) -> list[Row]:
    """Rows of a list: three columns each, no comments, blank lines allowed.

    Raises:
        BadSetting: another number of columns, a weight that is not a number, or no weight above 0.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parts = line.split()
        try:
            weight_text, prefix, corpus = parts
            weight = float(weight_text)
        except ValueError:
            raise BadSetting(
                f"Please provide the file list as 'weight, filename, corpus' (line {number}: {line.strip()[:120]!r})"
            ) from None
        if not math.isfinite(weight) or weight < 0:
            raise BadSetting(
                f"line {number} of the file list has the weight {weight_text}: a share of 0 or more is meant."
            )
        rows.append(Row(weight, prefix.split(".bin")[0], corpus))
    if sum(row.weight for row in rows) <= 0.0:
        raise BadSetting("the file list has no row with a weight above 0.")
    return rows


def samples_per_row(weights: Sequence[float], samples: int) -> list[int]:
    """How many samples each row must supply for `samples` in all; a weight of 0 gives none."""
    total = sum(weights)
    return [math.ceil(samples * (weight / total) * MARGIN) for weight in weights]


def interleave(weights: Sequence[float], size: int) -> list[tuple[int, int]]:
    """Which pool each of `size` samples comes from, and its number within that pool.

    Always the pool whose share is furthest behind; the first of equals. So no pool is ever a whole sample ahead of its
    share by more than the number of pools.
    """
    drawn = [0] * len(weights)
    order = []
    for number in range(size):
        at = float(max(number, 1))
        chosen, deficit = 0, weights[0] * at - drawn[0]
        for pool in range(1, len(weights)):
            behind = weights[pool] * at - drawn[pool]
            if behind > deficit:
                chosen, deficit = pool, behind
        order.append((chosen, drawn[chosen]))
        drawn[chosen] += 1
    return order
