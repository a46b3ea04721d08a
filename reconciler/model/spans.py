"""What is expected of a number, from the least to the most, as every view writes it."""

from __future__ import annotations

from reconciler.model.plan import Span
from reconciler.model.quantities import format_bytes, format_duration

UNKNOWN = "unknown"


def numbers(span: Span | None) -> str:
    """Without a unit."""
    if span is None:
        return UNKNOWN
    low, high = (f"{value:.3g}" if value < 999.5 else f"{value:,.0f}" for value in (span.low, span.high))
    return low if low == high else f"{low}–{high}"


def hours(span: Span | None) -> str:
    """Hours by the clock, as a duration."""
    if span is None:
        return UNKNOWN
    low, high = format_duration(span.low * 3600), format_duration(span.high * 3600)
    return low if low == high else f"{low}–{high}"


def sizes(span: Span) -> str:
    """Bytes, with their unit once where both have the same."""
    low, high = format_bytes(span.low), format_bytes(span.high)
    if low == high:
        return low
    number, unit = low.split()
    return f"{number}–{high}" if high.endswith(f" {unit}") else f"{low}–{high}"
