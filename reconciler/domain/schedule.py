"""Learning-rate policy → value at every iteration.

Written from the cookbook's infinite schedule (warm up, hold at LR max, cool down) and the curves that the launcher
has: the cooldown is 1 − √r over its stretch (Hägele et al., arXiv 2405.18392), cosine is a half period.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

from reconciler.model.manifests import LrPolicy
from reconciler.model.recipe import Curve, Shape


def curve_of(policy: LrPolicy, *, lr_max: Decimal, lr_final: Decimal, position: int, iterations: int) -> Curve:
    """The curve of a leg that begins at schedule `position` and lasts `iterations`.

    Warm-up counts from position 0, so it exists only where the schedule begins: a first stage or a rewarm.
    """
    high = float(policy.at.resolve(lr_max, lr_final))
    falls = policy.shape != "constant"
    low = float(policy.to.resolve(lr_max, lr_final)) if falls else high
    # Never the whole leg: the launcher wants its warm-up to end before the schedule does.
    warmup = min(math.ceil(Fraction(policy.warmup) * iterations), iterations - 1)
    start = max(position, warmup) if falls else position + iterations
    return Curve(Shape(policy.shape), high, low, warmup, start, position + iterations)


def rate_at(curve: Curve, position: int) -> float:
    """The learning rate that step `position` + 1 is taken with."""
    if position < curve.warmup:
        return curve.high * position / curve.warmup
    if curve.shape is Shape.CONSTANT or position <= curve.start:
        return curve.high
    if position >= curve.end:
        return curve.low
    done = (position - curve.start) / (curve.end - curve.start)
    if curve.shape is Shape.COOLDOWN:
        return curve.low + (curve.high - curve.low) * (1 - math.sqrt(done))
    return curve.low + (curve.high - curve.low) * (math.cos(math.pi * done) + 1) / 2


def at_peak(curve: Curve, position: int) -> bool:
    """Whether a checkpoint at `position` is pre-cooldown: warm-up over, decay not begun."""
    return position >= curve.warmup and rate_at(curve, position) == curve.high


def describe(curve: Curve) -> str:
    """The curve in words."""
    warm = f"warm-up over {curve.warmup} iterations, then " if curve.warmup else ""
    if curve.shape is Shape.CONSTANT:
        return f"{warm}constant at {curve.high:g}"
    how = "1-sqrt cooldown" if curve.shape is Shape.COOLDOWN else "cosine"
    return f"{warm}{how} from {curve.high:g} to {curve.low:g}"


def sample(curve: Curve, position: int, iterations: int, points: int = 48) -> tuple[tuple[int, float], ...]:
    """(iteration into the leg, rate) at about `points` places, both ends included."""
    steps = sorted({round(i * iterations / max(1, points - 1)) for i in range(points)})
    return tuple((step, rate_at(curve, position + step)) for step in steps)
