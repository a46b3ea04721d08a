"""A trial's matrix → its variants, and each variant as a pilot: the same curves and mixtures over few tokens. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Final, TypeVar

from reconciler.model.manifests import StageManifest
from reconciler.model.quantities import Rate
from reconciler.model.strategy import Leg, Strategy

NAME_CHARS_MAX: Final = 63
"""How long a name in a manifest may be; a longer one is cut, and ends in a digest of all of it."""
DIGEST_CHARS: Final = 8
DECAYS: Final = ("cooldown", "cosine")
"""Shapes that declare a decay and where it ends; `continue` goes on along one that was declared before."""

T = TypeVar("T")


def variants(strategy: Strategy) -> tuple[Strategy, ...]:
    """Every combination of what a trial varies, each a strategy with a name of its own; none without a trial."""
    if strategy.trial is None:
        return ()
    matrix = strategy.trial.matrix
    found = []
    axes = _axis(matrix.mixture), _axis(matrix.divisor), _axis(matrix.rate)
    for mixture, divisor, rate in product(*axes):
        legs, parts = strategy.legs, list[str]()
        if mixture is not None:
            legs = (*legs[:-1], legs[-1].model_copy(update={"mixture": matrix.mixture[mixture]}))
            parts.append(mixture)
        if rate is not None:
            legs = _rewarmed(legs, rate)
        if divisor is not None:
            legs = _divided(legs, divisor)
            parts.append(f"n{divisor}")
        if rate is not None:
            parts.append(_word(rate))
        name = variant_name(strategy.name, "-".join(parts))
        found.append(strategy.model_copy(update={"name": name, "legs": legs, "trial": None, "if_": None}))
    return tuple(found)


def variant_name(strategy: str, variant: str) -> str:
    """`decay` and `mix-a-n10` → `decay.mix-a-n10`, as long as a name may be."""
    name = f"{strategy}.{variant}"
    if len(name) <= NAME_CHARS_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{name[: NAME_CHARS_MAX - DIGEST_CHARS - 1].rstrip('.-')}-{digest}"


def rung_of(stage: StageManifest, name: str) -> Strategy | None:
    """The rung that a strategy's name or one of its variants' names stands for."""
    for strategy in stage.spec.strategies:
        if name == strategy.name or name in (variant.name for variant in variants(strategy)):
            return strategy
    return None


def assumed(strategy: Strategy) -> Strategy:
    """What a rung is taken to be before its trial has been decided: the chosen variant, or else the first."""
    found = variants(strategy)
    chosen = strategy.trial.chosen if strategy.trial is not None else None
    return next((variant for variant in found if variant.name == chosen), found[0] if found else strategy)


def pilot(stage: StageManifest, variant: Strategy, tokens: int) -> StageManifest:
    """The stage as one pilot trains it: this variant alone, its legs shortened in proportion to `tokens`.

    Where a leg ends by its rate (`until`), its tokens follow from the rest, as they do in the stage.
    """
    whole, before, legs = stage.spec.tokens, 0, []
    for leg in variant.legs:
        shorter: dict[str, object] = {}
        if leg.tokens is not None:
            # Rounded as sums, so that the pilot's legs add up to it exactly.
            shorter["tokens"] = (before + leg.tokens) * tokens // whole - before * tokens // whole
            before += leg.tokens
        if leg.lr.over is not None:
            shorter["lr"] = leg.lr.model_copy(update={"over": max(1, leg.lr.over * tokens // whole)})
        legs.append(leg.model_copy(update=shorter))
    short = variant.model_copy(update={"legs": tuple(legs)})
    return stage.model_copy(update={"spec": stage.spec.model_copy(update={"tokens": tokens, "strategies": (short,)})})


def decay_leg(legs: tuple[Leg, ...]) -> int | None:
    """The leg whose decay a divisor varies: the last that declares one."""
    return next((index for index in reversed(range(len(legs))) if legs[index].lr.shape in DECAYS), None)


def rewarmed_leg(legs: tuple[Leg, ...]) -> int | None:
    """The leg whose rate is varied: the last that rewarms."""
    return next((index for index in reversed(range(len(legs))) if legs[index].lr.rewarm), None)


def _axis(values: Iterable[T]) -> Sequence[T | None]:
    """The values of an axis, equal ones once; one None where the axis is not varied."""
    return list(dict.fromkeys(values)) or [None]


def _rewarmed(legs: tuple[Leg, ...], rate: Rate) -> tuple[Leg, ...]:
    """The last rewarm goes up to this rate, and legs after it that went on from the old one go on from this."""
    first = rewarmed_leg(legs)
    if first is None:
        return legs
    was = legs[first].lr.at
    return tuple(
        leg.model_copy(update={"lr": leg.lr.model_copy(update={"at": rate})})
        if index >= first and leg.lr.at == was
        else leg
        for index, leg in enumerate(legs)
    )


def _divided(legs: tuple[Leg, ...], divisor: int) -> tuple[Leg, ...]:
    """The last decay ends at the rate at which it begins, divided."""
    index = decay_leg(legs)
    if index is None:
        return legs
    lr = legs[index].lr
    divides = lr.at.of is not None and not lr.at.times
    value = lr.at.value * divisor if divides else lr.at.value / divisor
    ends = legs[index].model_copy(update={"lr": lr.model_copy(update={"to": replace(lr.at, value=value)})})
    return (*legs[:index], ends, *legs[index + 1 :])


def _word(rate: Rate) -> str:
    """A rate as part of a name: `lrMax/2` → `lrmax-2`, `lrMax*2` → `lrmax-x2`."""
    return re.sub(r"[^a-z0-9.]+", "-", str(rate).lower().replace("*", "-x")).strip("-.")
