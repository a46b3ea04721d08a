"""A curve over several lines of a terminal, in eighths of a character, with its scale on the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def plot(points: Sequence[tuple[int, float]], *, width: int = 64, height: int = 8) -> list[str]:
    """Lines of a filled curve from 0 up; a column shows the highest value in its share of the horizontal axis.

    The axis is labelled with the least and greatest first value of `points`, which are in order.
    """
    if not points:
        return []
    first, last = points[0][0], points[-1][0]
    columns = [0.0] * width
    seen = [False] * width
    for at, value in points:
        column = min(width - 1, (at - first) * width // max(1, last - first))
        columns[column] = max(columns[column], value)
        seen[column] = True
    for column in range(1, width):
        if not seen[column]:
            columns[column] = columns[column - 1]
    top = max(columns) or 1.0
    filled = [round(value / top * height * 8) for value in columns]
    # A value above zero is never drawn as nothing.
    filled = [max(1, eighths) if value > 0 else 0 for eighths, value in zip(filled, columns, strict=True)]
    lines = []
    for row in range(height, 0, -1):
        label = f"{top * row / height:.3g}" if row in (height, (height + 1) // 2) else ""
        cells = "".join(EIGHTHS[max(0, min(8, eighths - (row - 1) * 8))] for eighths in filled)
        lines.append(f"{label:>9} │{cells}".rstrip())
    ends = f"{first:,}", f"{last:,}"
    lines.append(f"{'0':>9} └{'─' * width}")
    lines.append(" " * 11 + ends[0] + ends[1].rjust(max(1, width - len(ends[0]))))
    return lines
