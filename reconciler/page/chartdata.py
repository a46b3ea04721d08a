"""Curves as the page's program reads them. Pure.

JSON that no markup can end; long columns are base64 of little-endian numbers.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from array import array
from collections.abc import Iterable
from typing import Any, Final

from reconciler.page.curves import Curves, Run

_ESCAPED: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def chart_json(curves: Curves, refresh_s: float) -> str:
    """All that is drawn; `refresh_s` is how often the page asks for news, 0 for never."""
    body = {
        "refresh": refresh_s,
        "lanes": [[_run(run) for run in lane] for lane in curves.lanes],
        "planned": [{"stage": stage, "points": _pairs(points)} for stage, points in curves.planned],
        "sets": list(curves.sets),
    }
    return embedded(body)


def embedded(body: object) -> str:
    """JSON for a script element: what it holds stands for itself in HTML."""
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return text


def _run(run: Run) -> dict[str, Any]:
    points = run.points
    return {
        "stage": run.stage,
        "strategy": run.strategy,
        "attempt": run.attempt,
        "outcome": run.outcome,
        "way": run.way,
        "begins": run.begins,
        "per": run.tokens_per_iteration,
        "n": len(points),
        "at": _column("I", (point.last for point in points)),
        "mean": _column("f", (_number(point.mean) for point in points)),
        "low": _column("f", (_number(point.low) for point in points)),
        "high": _column("f", (_number(point.high) for point in points)),
        "rate": _column("f", (point.rate for point in points)),
        "declared": _pairs(run.declared),
        "strays": [[number, rate] for number, rate in run.strays if math.isfinite(rate)],
        "bounds": {name: bound for name, bound in run.bounds.items() if math.isfinite(bound)},
        "marks": [[mark.tokens, mark.kind, mark.text] for mark in run.marks],
        "losses": {name: [[each.tokens, each.loss, each.text] for each in found] for name, found in run.losses.items()},
    }


def _pairs(points: Iterable[tuple[int, float]]) -> list[list[float]]:
    return [[at, rate] for at, rate in points]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _column(kind: str, values: Iterable[float]) -> str:
    """Unsigned of 32 bits (`I`) or floats of 32 (`f`); what such a one cannot hold is none."""
    column = array(kind, (_fitting(kind, value) for value in values))
    if sys.byteorder == "big":
        column.byteswap()
    return base64.b64encode(column.tobytes()).decode("ascii")


def _fitting(kind: str, value: float) -> Any:
    if kind == "I":
        return min(max(0, int(value)), 2**32 - 1)
    return value if abs(value) < 3e38 else math.nan
