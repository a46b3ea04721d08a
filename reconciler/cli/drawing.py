"""Numbers as small pictures in a terminal: curves in one line, bars, weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int = 32, *, floor: float | None = None) -> str:
    """Values as one line of blocks, resampled to at most `width`; a missing value is a gap.

    `floor` sets the bottom of the scale; a curve that never changes is drawn at full height.
    """
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    picked = [values[min(len(values) - 1, int(i * step))] for i in range(min(width, len(values)))]
    known = [v for v in picked if v is not None]
    if not known:
        return " " * len(picked)
    low = min(known) if floor is None else floor
    spread = max(known) - low
    if spread <= 0:
        return "".join(" " if v is None else BLOCKS[-1] for v in picked)
    top = len(BLOCKS) - 1
    return "".join(" " if v is None else BLOCKS[max(0, round((v - low) / spread * top))] for v in picked)


def bar(share: float, width: int = 20) -> str:
    """A progress bar; full only when `share` is 1 or more."""
    filled = min(width, int(share * width))
    return "█" * filled + "░" * (width - filled)


def dot(value: float | None, low: float, high: float, width: int = 24) -> str:
    """A value as a dot on a line from `low` to `high`; an empty line for one that is not there or not finite."""
    if value is None or not math.isfinite(value):
        return " " * width
    place = round((value - low) / (high - low) * (width - 1)) if high > low else 0
    place = max(0, min(width - 1, place))
    return "─" * place + "●" + "─" * (width - 1 - place)


def weight(share: str) -> str:
    """An exact share as people write it: `19/20` → `0.95`; one without a short decimal is cut off with an ellipsis."""
    value = Fraction(share)
    scaled = value * 10_000
    if scaled.denominator == 1:
        return f"{int(scaled) / 10_000:g}"
    return f"{float(value):.4f}…"
