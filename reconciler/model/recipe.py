"""A stage with nothing left to resolve: everything that affects training, and nothing that does not.

Same recipe, same attempt. Paths, cluster names, walltimes and gates are not in it; data lists enter by the digest of
their content, the source checkpoint by the attempt that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

RECIPE_VERSION: Final = 1
ATTEMPT_DIGITS: Final = 12
ATTEMPT_PATTERN: Final = "[0-9a-f]{12}"


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
    """1 − √r."""
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class Curve:
    """The learning rate against schedule position, in iterations since the schedule began.

    Rises from 0 to `high` over the first `warmup` iterations, is `high` until `start`, falls to `low` at `end`. Legs
    that share one decay share one curve, so it may start before a leg and end after it.
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
    """Source → exact share as a fraction `n/d`, buffer and earlier mixtures expanded. A source is a dataset, by its
    symbol, or the buffer's selection of one, `D1-buffer`."""
    lists: Mapping[str, str]
    """Source → content digest of its data list (independent of where the data lies)."""
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
    """Schedule position of that checkpoint, in whole iterations of this recipe's batch."""
    data_parallel: int = 0
    """Its data-parallel size; 0 when it is universal already or random."""
    stage: str = ""
    """Of an attempt: the stage that it is of."""
    universal: bool = False
    """Of an outside folder: it is universal, and has its own pointer."""
    rate: float | None = None
    """Learning rate at which it stands; None for random weights, and where an outside one does not say."""
    wish: str = ""
    """How the manifest chose it: by this, what was chosen stays chosen when more is saved, or less is kept."""
    remainder: int = 0
    """Samples counted beyond `position`, after a source of another batch; above 0 only where the rate is constant."""


@dataclass(frozen=True)
class Recipe:
    """One attempt at a stage, fully resolved. Its digest is asked for many times a pass, and kept (so no slots)."""

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
    pilot: bool = False
    """A variant of a trial with the pilot budget: it is compared, and never goes on."""
    rate_scale: float = 1.0
    """What the manifest's rates were multiplied by, for another batch than the model's."""
    taken: tuple[str, ...] = ()
    """Attempts that trained the first legs, one a leg, before the strategy was lengthened by the others."""

    def canonical(self) -> str:
        """Canonical JSON of what affects training: sorted keys, no spaces, ASCII.

        Names of campaign, stage and strategy, the mixture's terms and whether it is a pilot are labels: what they stand
        for is in it. So are the source's stage, form, rate, wish and remainder, which follow from what it is, and the
        scale of the rates, which the curves have; and who trained the first legs, which come to the same whoever does.
        """
        body = asdict(self)
        for label in ("campaign", "stage", "strategy", "pilot", "rate_scale", "taken"):
            del body[label]
        for label in ("stage", "universal", "rate", "remainder", "wish"):
            del body["source"][label]
        for leg in body["legs"]:
            del leg["terms"]
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def attempt(self) -> str:
        """The attempt's name: the digest's first 12 digits."""
        return self.digest[:ATTEMPT_DIGITS]

    def maker(self, leg: int) -> str:
        """The attempt that trains a leg, or has trained it."""
        return self.taken[leg] if leg < len(self.taken) else self.attempt

    def lengthens(self, other: Recipe) -> bool:
        """Whether this is the other with further legs after its own, and nothing else is changed."""
        same = replace(self, tokens=0, legs=self.legs[: len(other.legs)])
        return len(self.legs) > len(other.legs) and same.canonical() == replace(other, tokens=0).canonical()

    @property
    def global_batch(self) -> int:
        """Sequences per optimizer step."""
        return int(self.model["batch"]["global_"])

    @property
    def tokens_per_iteration(self) -> int:
        """Global batch × sequence length."""
        return self.global_batch * int(self.model["sequence_length"])

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
