"""One attempt with all that is on record of it: which data, weights, rate, source and code its weights are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.domain import schedule
from reconciler.domain.ledger import lineage
from reconciler.model.observed import AttemptSeen
from reconciler.model.recipe import Recipe
from reconciler.model.verdict import GateResult
from reconciler.planner.evidence import Evidence
from reconciler.planner.recalled import Recalled
from reconciler.planner.timeline import Story, Wrote, story


@dataclass(frozen=True, slots=True)
class LegShown:
    """One mixture and one curve."""

    weights: Mapping[str, str]
    """As the manifest has it: term → weight."""
    shares: Mapping[str, str]
    """Source → exact share, buffer and earlier mixtures expanded."""
    lists: Mapping[str, str]
    """Source → digest of its data list's content."""
    tokens: int
    iterations: int
    lr: str
    lr_curve: tuple[tuple[int, float], ...]
    """(iteration, learning rate)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Iterations of an attempt's leg in the lineage of its weights."""

    stage: str
    attempt: str
    leg: int
    iterations: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint that was made, with the losses that were found at it."""

    leg: int
    iteration: int
    size_bytes: int
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Code:
    """What it was made with."""

    program: str
    """Version of this program."""
    templates: str
    """Digest of the job scripts' templates."""
    checkout: str
    """The launcher's, on the cluster."""


@dataclass(frozen=True, slots=True)
class Shown:
    """All of it."""

    campaign: str
    name: str
    story: Story
    digest: str
    model: str
    data_parallel: int
    legs: tuple[LegShown, ...]
    lineage: tuple[Part, ...]
    """Newest first; of the checkpoint that it ends at."""
    begins: str
    """What the lineage begins with."""
    made: tuple[Made, ...]
    gates: tuple[GateResult, ...]
    code: tuple[Code, ...]


def shown(recalled: Recalled, seen: AttemptSeen, wrote: Wrote) -> Shown:
    """One attempt.

    Raises:
        ValueError: its recipe is not on record, or makes no sense.
    """
    done = recalled.of(seen.attempt)
    told = story(seen, done, wrote)
    recipe = recalled.recipes.get(seen.attempt)
    if recipe is None or not told.strategy:
        raise ValueError(told.recipe[0])
    try:
        legs = tuple(leg_shown(recipe, number) for number in range(len(recipe.legs)))
        last = len(recipe.legs) - 1
        whole = lineage(recalled.recipes, seen.attempt, last, recipe.legs[last].iterations)
        parts = [Part(s.stage, s.attempt, s.leg, s.iterations, s.tokens) for s in whole.stretches if s.iterations]
        model = str(recipe.model["architecture"]["name"])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError("its recipe makes no sense") from error
    verdict = Evidence(seen, (), ()).verdict()
    codes = (
        Code(each.origin.program, each.origin.templates, each.origin.site.checkout)
        for each in done
        if each.origin is not None
    )
    return Shown(
        campaign=recalled.campaign,
        name=recalled.name,
        story=told,
        digest=recipe.digest,
        model=model,
        data_parallel=recipe.data_parallel,
        legs=legs,
        lineage=tuple(parts),
        begins=whole.origin,
        made=tuple(_made(seen)),
        gates=verdict.gates if verdict is not None else (),
        code=tuple(dict.fromkeys(codes)),
    )


def leg_shown(recipe: Recipe, number: int) -> LegShown:
    """One leg of a recipe.

    Raises:
        ValueError: a rate of it is no number.
    """
    leg = recipe.legs[number]
    curve = schedule.sample(leg.curve, leg.position, leg.iterations)
    if not all(math.isfinite(rate) for _, rate in curve):
        raise ValueError("a learning rate that is no number")
    return LegShown(
        weights=leg.terms,
        shares=leg.mixture,
        lists=leg.lists,
        tokens=leg.tokens,
        iterations=leg.iterations,
        lr=schedule.describe(leg.curve, leg.position, leg.iterations),
        lr_curve=curve,
    )


def _made(seen: AttemptSeen) -> list[Made]:
    losses = {(found.leg, found.iteration): found.losses for found in seen.evaluations}
    return [
        Made(leg.index, checkpoint.iteration, checkpoint.size_bytes, losses.get((leg.index, checkpoint.iteration), {}))
        for leg in seen.legs
        for checkpoint in leg.checkpoints
    ]
