"""Learning-rate policy → value at every iteration.

Written from the cookbook's infinite schedule (warm up, hold at LR max, cool down) and the curves that the launcher
has: the cooldown is 1 − √r over its stretch (Hägele et al., arXiv 2405.18392), a line or an exponential; cosine is a
half period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from reconciler.model.quantities import Rate
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape
from reconciler.model.strategy import LrPolicy

_SHAPES: Final = {"1-sqrt": Shape.COOLDOWN, "linear": Shape.LINEAR, "exponential": Shape.EXPONENTIAL}
_WORDS: Final = {
    Shape.COOLDOWN: "1-sqrt cooldown",
    Shape.LINEAR: "linear cooldown",
    Shape.EXPONENTIAL: "exponential cooldown",
    Shape.COSINE: "cosine",
}
_LOST: Final = 3
"""Iterations around a computed one in which a rate is looked for."""
SAME: Final = 1e-6
"""Rates that differ by less than this share are one rate."""


@dataclass(frozen=True, slots=True)
class NamedRates:
    """What `lrMax`, `lrFinal` and `lrSource` stand for, and how rates follow another batch."""

    max: Decimal
    final: Decimal
    source: float | None = None
    scale: float = 1.0
    """What every rate is multiplied by, for another batch than the model's."""
    source_scale: float = 1.0
    """The same for `lrSource`, for another batch than the source's."""

    def of(self, rate: Rate) -> float:
        """A rate as a number. Raises ValueError for one of `lrSource` where that is not known."""
        source = None if self.source is None else Fraction(self.source)
        exact = float(rate.resolve(self.max, self.final, source))
        return exact * (self.source_scale if rate.of == "lrSource" else self.scale)


def curve_of(policy: LrPolicy, rates: NamedRates, *, position: int, iterations: int) -> Curve:
    """The curve of a leg that begins at schedule `position` and lasts `iterations`.

    Warm-up counts from position 0, so it exists only where the schedule begins: a first stage or a rewarm.
    """
    high = rates.of(policy.at)
    falls = policy.shape != "constant"
    low = rates.of(policy.to) if falls else high
    # Never the whole leg: the launcher wants its warm-up to end before the schedule does.
    warmup = min(math.ceil(Fraction(policy.warmup) * iterations), iterations - 1)
    start = max(position, warmup) if falls else position + iterations
    return Curve(shape_of(policy), high, low, warmup, start, position + iterations)


def shape_of(policy: LrPolicy) -> Shape:
    """The form of a policy that is no `continue`."""
    return _SHAPES[policy.decay] if policy.shape == "cooldown" else Shape(policy.shape)


def fallen(shape: Shape, done: float) -> float:
    """Share of the way from `high` to `low` that is fallen when `done` of the decay is over; not for an exponential,
    whose share hangs on the two."""
    match shape:
        case Shape.COOLDOWN:
            return math.sqrt(done)
        case Shape.COSINE:
            return 1 - (math.cos(math.pi * done) + 1) / 2
        case _:
            return done


def rate_at(curve: Curve, position: int) -> float:
    """The learning rate that step `position` + 1 is taken with."""
    if position < curve.warmup:
        return curve.high * position / curve.warmup
    if curve.shape is Shape.CONSTANT or position <= curve.start:
        return curve.high
    if position >= curve.end:
        return curve.low
    done = (position - curve.start) / (curve.end - curve.start)
    if curve.shape is Shape.EXPONENTIAL:
        return curve.high * math.exp(math.log(curve.low / curve.high) * done)
    return curve.low + (curve.high - curve.low) * (1 - fallen(curve.shape, done))


def share_at(shape: Shape, high: float, low: float, rate: float) -> float:
    """Share of a decay that is over when it reaches `rate`, which lies between its two ends: the contract's ρ (2.3)."""
    if shape is Shape.EXPONENTIAL:
        return math.log(rate / high) / math.log(low / high)
    down = (high - rate) / (high - low)
    match shape:
        case Shape.COOLDOWN:
            return down**2
        case Shape.COSINE:
            return math.acos(1 - 2 * down) / math.pi
        case _:
            return down


def reached(curve: Curve, rate: float) -> int:
    """The first position at which a decay has come down to `rate`, which lies between its two ends."""
    share = share_at(curve.shape, curve.high, curve.low, rate)
    position = curve.start + math.ceil(share * (curve.end - curve.start) * (1 - 1e-12))
    # What is lost in binary digits must not cost or save an iteration; of a decay so long that more is lost, it may.
    near = range(max(curve.start + 1, position - _LOST), min(curve.end, position + _LOST) + 1)
    return next((at for at in near if rate_at(curve, at) <= rate * (1 + 1e-12)), min(curve.end, position + _LOST))


def same_rate(left: float, right: float) -> bool:
    """Whether two rates are one but for binary digits."""
    return math.isclose(left, right, rel_tol=SAME, abs_tol=1e-15)


def at_peak(curve: Curve, position: int) -> bool:
    """Whether a checkpoint at `position` is pre-cooldown: warm-up over, decay not begun."""
    return position >= curve.warmup and rate_at(curve, position) == curve.high


def ended(curve: Curve, position: int) -> bool:
    """Whether nothing of a decay is left at `position`; a plateau has none."""
    return curve.shape is Shape.CONSTANT or position >= curve.end


def describe(curve: Curve, position: int, iterations: int) -> str:
    """The curve of a leg in words, and which part of it the leg is where it is not the whole."""
    begins, ends = rate_at(curve, position), rate_at(curve, position + iterations)
    warms = position < curve.warmup
    warm = f"warm-up over {curve.warmup} iterations, then " if warms else ""
    if curve.shape is Shape.CONSTANT:
        return f"{warm}constant at {curve.high:g}"
    whole = f"{warm}{_WORDS[curve.shape]} from {curve.high:g} to {curve.low:g}"
    begins = curve.high if warms else begins
    if begins == curve.high and ended(curve, position + iterations):
        return whole
    return f"{whole}, here from {begins:.4g} to {ends:.4g}"


def boundaries(recipe: Recipe) -> tuple[str, ...]:
    """For each leg how the rate changes where it begins, in words: empty where it goes on as what it continues from
    ended, or where that is not known."""
    told: list[str] = []
    before = recipe.source.rate
    for number, leg in enumerate(recipe.legs):
        change = _change(before, leg)
        if change and leg.load is Load.REWARM:
            change += ": rewarm"
        elif change and number == 0 and recipe.rate_scale != 1:
            change += f": rates × {recipe.rate_scale:.3g} for another batch"
        told.append(change)
        before = rate_at(leg.curve, leg.position + leg.iterations)
    return tuple(told)


def _change(before: float | None, leg: LegRecipe) -> str:
    after, warmup = rate_at(leg.curve, max(leg.position, leg.curve.warmup)), leg.curve.warmup
    if before is None:
        return ""
    if leg.position < warmup:
        down = f"falls from {before:.4g} to 0 and rises" if before > 0 else "rises from 0"
        return f"{down} to {after:.4g} over {warmup} iterations"
    if same_rate(before, after):
        return ""
    return f"{'rises' if after > before else 'falls'} from {before:.4g} to {after:.4g}"


def sample(curve: Curve, position: int, iterations: int, points: int = 48) -> tuple[tuple[int, float], ...]:
    """(iteration into the leg, rate) at about `points` places, both ends included."""
    steps = sorted({round(i * iterations / max(1, points - 1)) for i in range(points)})
    return tuple((step, rate_at(curve, position + step)) for step in steps)
