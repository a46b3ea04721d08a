"""Tokens drawn from every source, exactly: by all that was trained, and by the weights of one checkpoint.

Both differ: iterations trained again after a kill, and attempts that were discarded, have drawn tokens that no later
checkpoint has learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from reconciler.model.datalist import apportion
from reconciler.model.observed import LegSeen, TrainLog
from reconciler.model.recipe import LegRecipe, Recipe

Outside = Mapping[tuple[str, int], str]
"""(folder, iteration) of a checkpoint that is an adopted stage's end → that stage's attempt."""
NONE: Final[Outside] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stretch:
    """Iterations of one leg of one attempt, which draw from one mixture."""

    stage: str
    attempt: str
    leg: int
    iterations: int
    tokens_per_iteration: int
    mixture: Mapping[str, Fraction]
    """Source → share; they sum to 1."""
    lists: Mapping[str, str]
    """Source → content digest of its data list."""

    @property
    def tokens(self) -> int:
        """All that it draws."""
        return self.iterations * self.tokens_per_iteration


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the weights of a checkpoint were trained on, from the first step on."""

    stretches: tuple[Stretch, ...]
    """Newest first."""
    origin: str
    """`random weights`, or why what came before is not counted."""
    whole: bool
    """Whether it reaches back to random weights."""


def stretch(recipe: Recipe, leg: int, iterations: int) -> Stretch:
    """So many iterations of a leg."""
    of: LegRecipe = recipe.legs[leg]
    return Stretch(
        recipe.stage,
        recipe.maker(leg),
        leg,
        iterations,
        recipe.tokens_per_iteration,
        {label: Fraction(share) for label, share in of.mixture.items()},
        of.lists,
    )


def lineage(recipes: Mapping[str, Recipe], attempt: str, leg: int, iteration: int, outside: Outside = NONE) -> Lineage:
    """The lineage of a checkpoint; `recipes` holds those that could be read, by attempt."""
    found: list[Stretch] = []
    met: set[str] = set()
    while attempt in recipes and attempt not in met:
        met.add(attempt)
        recipe = recipes[attempt]
        found.append(stretch(recipe, leg, iteration))
        found += [stretch(recipe, earlier, recipe.legs[earlier].iterations) for earlier in reversed(range(leg))]
        source = recipe.source
        if (source.external, source.iteration) in outside:
            attempt = outside[source.external, source.iteration]
            leg = len(recipes[attempt].legs) - 1
            iteration = recipes[attempt].legs[leg].iterations
            continue
        if source.external:
            return Lineage(tuple(found), f"{source.external} at iteration {source.iteration}, trained elsewhere", False)
        if not source.attempt:
            return Lineage(tuple(found), "random weights", True)
        attempt, leg, iteration = source.attempt, source.leg, source.iteration
        if attempt in recipes and leg >= len(recipes[attempt].legs):
            return Lineage(tuple(found), f"leg {leg} of attempt {attempt}, which has no such leg", False)
    return Lineage(tuple(found), f"attempt {attempt}, whose recipe is not in the workspace", False)


def source_lineage(recipes: Mapping[str, Recipe], attempt: str, outside: Outside = NONE) -> tuple[Stretch, ...]:
    """What an attempt's weights had been trained on before its own first step."""
    first = len(recipes[attempt].taken) if attempt in recipes else 0
    return tuple(part for part in lineage(recipes, attempt, first, 0, outside).stretches if part.attempt != attempt)


def by_source(stretches: Iterable[Stretch]) -> dict[str, Fraction]:
    """Source → tokens drawn from it; they sum to exactly the tokens of the stretches."""
    total: dict[str, Fraction] = {}
    for part in stretches:
        for label, share in part.mixture.items():
            total[label] = total.get(label, Fraction(0)) + share * part.tokens
    return total


def tokens(stretches: Iterable[Stretch]) -> int:
    """All that they draw together."""
    return sum(part.tokens for part in stretches)


def iterations_run(seen: LegSeen) -> int:
    """Iterations that all jobs of a leg have trained, those trained again after a kill counted again.

    What a complete checkpoint holds and no log tells of was trained by a job whose log is gone.
    """
    runs = sorted(run for log in seen.logs if (run := _run(log)) is not None)
    newest = seen.newest_complete()
    kept = newest.iteration if newest is not None else 0
    covered = reached = 0
    for begins, ends in runs:
        covered += max(0, min(ends, kept) - max(begins, reached))
        reached = max(reached, min(ends, kept))
    return sum(ends - begins for begins, ends in runs) + kept - covered


def _run(log: TrainLog) -> tuple[int, int] | None:
    """(iteration before the first, last) that a job trained; None if it trained none."""
    first = min(
        (*(point.iteration for point in log.first[:1]), *(window.first for window in log.windows[:1])), default=0
    )
    last = max((*(point.iteration for point in log.last), *log.saved), default=0)
    return (max(0, first - 1), last) if first and last >= first else None


def whole(parts: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Exact parts as whole tokens that add up to their total (largest remainder)."""
    if not total:
        return dict.fromkeys(parts, 0)
    scale = math.lcm(*(part.denominator for part in parts.values()))
    return dict(zip(parts, apportion(total, [int(part * scale) for part in parts.values()]), strict=True))
