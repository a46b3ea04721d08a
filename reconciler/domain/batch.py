"""Another batch than the model's: what becomes of rates and of the schedule's position (cookbook, things to keep in
mind: "one can reduce/increase the batch size by a factor k but need to reduce/increase LR by a factor √k or k").
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from reconciler.model.manifests import ModelSpec
from reconciler.model.quantities import format_decimal
from reconciler.model.recipe import SourceRecipe
from reconciler.model.strategy import Strategy


def of(model: ModelSpec, strategy: Strategy) -> int | None:
    """Sequences per step of a strategy; None where k does not leave a whole number."""
    if strategy.batch is None:
        return model.batch.global_
    exact = Fraction(strategy.batch.times) * model.batch.global_
    return int(exact) if exact.denominator == 1 and exact >= 1 else None


def not_whole(model: ModelSpec, strategy: Strategy) -> str:
    """What to say of such a k."""
    times = format_decimal(strategy.batch.times) if strategy.batch is not None else "1"
    return f"strategy {strategy.name}: {times} × the model's global batch {model.batch.global_} is no whole batch"


def rate_scale(strategy: Strategy, ratio: Fraction | None = None) -> float:
    """What rates are multiplied by: √k or k, for the strategy's own k or for another ratio of batches."""
    if strategy.batch is None:
        return 1.0
    k = Fraction(strategy.batch.times) if ratio is None else ratio
    return float(k) if strategy.batch.rate == "linear" else math.sqrt(k)


def placed(source: SourceRecipe, made_with: int, own: int, strategy: Strategy) -> SourceRecipe | str:
    """The source with its schedule position in iterations of a batch of `own`, or why that cannot be.

    The launcher counts samples, and a decay is laid out in whole iterations from where it begins. Where the rate is
    constant, or the schedule starts again, it does not matter where in an iteration it stands.
    """
    samples = source.position * made_with + source.remainder
    position, remainder = divmod(samples, own)
    if not remainder or _steady(strategy):
        return replace(source, position=position, remainder=remainder)
    return (
        f"strategy {strategy.name}: its source has counted {samples} samples, which is no whole number of batches of "
        f"{own}, so no decay can be laid out from there; {_would_do(source, samples, made_with, own)}"
    )


def _steady(strategy: Strategy) -> bool:
    """Whether the rate holds until the schedule starts again, if it ever does."""
    for leg in strategy.legs:
        if leg.lr.rewarm:
            return True
        if leg.lr.shape != "constant":
            return False
    return True


def _would_do(source: SourceRecipe, samples: int, made_with: int, own: int) -> str:
    """The iterations of the source on either side at which a whole number of batches is counted, if there are any."""
    common = math.gcd(own, made_with)
    every = own // common
    ends: list[str] = []
    if samples % common == 0:
        later = -(samples // common) * pow(made_with // common, -1, every) % every
        ends = [str(source.iteration + off) for off in (later - every, later) if source.iteration + off > 0]
    told = f"a source of {' or '.join(ends)} iterations instead of {source.iteration} would do, or " if ends else ""
    return f"{told}take another k, or rewarm"
