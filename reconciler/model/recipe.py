"""A stage with nothing left to resolve: everything that affects training, and nothing that does not.

Same recipe, same attempt. Paths, cluster names, walltimes and gates are not in it; data lists enter by the digest of
their content, the source checkpoint by the attempt that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

RECIPE_VERSION: Final = 1
ATTEMPT_DIGITS: Final = 12


class Load(StrEnum):
    """What the first job of a leg takes from its source."""

    RANDOM = "random"
    """Nothing: weights are drawn from the seed."""
    CONTINUE = "continue"
    """Weights, optimizer and schedule position; iteration and data start at 0 (`--reset-iteration`)."""
    REWARM = "rewarm"
    """Weights, and a schedule that starts again at 0 (`--finetune`)."""


class Shape(StrEnum):
    """Learning-rate curves that the launcher can follow."""

    CONSTANT = "constant"
    COOLDOWN = "cooldown"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class Curve:
    """The learning rate against schedule position, in iterations since the schedule began.

    Rises from 0 to `high` over the first `warmup` iterations, is `high` until `start`, falls to `low` at `end`.
    """

    shape: Shape
    high: float
    low: float
    warmup: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LegRecipe:
    """One mixture and one curve."""

    terms: Mapping[str, str]
    """The mixture as the manifest has it: term → exact decimal weight."""
    mixture: Mapping[str, str]
    """Dataset symbol → exact share as a fraction `n/d`, buffer and earlier mixtures expanded."""
    lists: Mapping[str, str]
    """Dataset symbol → content digest of its data list (independent of where the data lies)."""
    tokens: int
    iterations: int
    position: int
    """Schedule position at the leg's start."""
    curve: Curve
    load: Load


@dataclass(frozen=True, slots=True)
class SourceRecipe:
    """Where the weights come from: an attempt's leg at an iteration, an outside folder, or the seed."""

    attempt: str = ""
    leg: int = 0
    iteration: int = 0
    external: str = ""
    position: int = 0
    """Schedule position of that checkpoint."""
    data_parallel: int = 0
    """Its data-parallel size; 0 when it is universal already or random."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One attempt at a stage, fully resolved."""

    version: int
    campaign: str
    stage: str
    strategy: str
    model: Mapping[str, Any]
    """The Model manifest's spec without validation sets and checkpoint cadence: what the launcher is given."""
    data_parallel: int
    accumulation: int
    """Micro-steps per optimizer step: global batch / (micro batch × data-parallel)."""
    tokens: int
    source: SourceRecipe
    legs: tuple[LegRecipe, ...]

    def canonical(self) -> str:
        """Canonical JSON of what affects training: sorted keys, no spaces, ASCII.

        Names of campaign, stage and strategy and the mixture's terms are labels: what they stand for is in it.
        """
        body = asdict(self)
        for label in ("campaign", "stage", "strategy"):
            del body[label]
        for leg in body["legs"]:
            del leg["terms"]
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def attempt(self) -> str:
        """The attempt's name: the digest's first 12 digits."""
        return self.digest[:ATTEMPT_DIGITS]

    @property
    def iterations(self) -> int:
        """Optimizer steps over all legs."""
        return sum(leg.iterations for leg in self.legs)

    def to_file(self) -> str:
        """The text of `recipe.json`: indented for people; reads back to the same digest."""
        return json.dumps(asdict(self), sort_keys=True, indent=2, ensure_ascii=True) + "\n"


_READER: Final = TypeAdapter(Recipe)


def read_recipe(text: str) -> Recipe | None:
    """Read `recipe.json` back; None for anything that is not one (a hostile or half-written file)."""
    try:
        return _READER.validate_json(text)
    except ValidationError:
        return None
