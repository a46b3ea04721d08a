"""One rung of a stage's ladder as a person writes it: where it starts, its legs, what it varies, when it is tried."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconciler.model.fieldtypes import (
    AboveZero,
    Count,
    Frozen,
    Label,
    Name,
    Path,
    Positive,
    RateField,
    Rule,
    Sentence,
    Share,
    Term,
    Tokens,
    Weight,
)
from reconciler.model.quantities import Rate


class Waiver(Frozen):
    """A rule of the cookbook that is knowingly broken here; every plan shows it with its reason."""

    rule: Rule
    """CPT001 and so on; `reconcile explain` lists them."""
    reason: Sentence
    """Why it is right to break it here."""


class AtIteration(Frozen):
    """The checkpoint that was saved at one iteration."""

    iteration: Count
    """As the folder's name has it: `global_step92859`."""


class AtLegIteration(AtIteration):
    """The checkpoint of a stage that was saved at one iteration."""

    leg: Annotated[int, Field(ge=0, le=99)] | None = None
    """Leg of the stage, from 0: each counts its own iterations. The last one if it is left out."""


class AtTokens(Frozen):
    """The first checkpoint after so many tokens."""

    tokens_at_least: Tokens
    """Tokens that the stage, or the run elsewhere, had been trained on."""


class AtRate(Frozen):
    """The first checkpoint of a decay at a rate or below it (cookbook, Strategy 4: new data at `LR_max / 5`)."""

    rate_at_most: RateField
    """`lrMax/5`, or a number."""

    @model_validator(mode="after")
    def _is_a_rate_of_the_campaign(self) -> AtRate:
        if self.rate_at_most.of == "lrSource":
            raise ValueError("lrSource is the rate of the checkpoint that is sought here; write a part of lrMax")
        return self


Property = Literal["pre-cooldown", "converged", "final"]


class StageSource(Frozen):
    """A checkpoint of an earlier stage, by its property."""

    stage: Name
    """Name of an earlier stage of the campaign."""
    checkpoint: Property | AtLegIteration | AtTokens | AtRate = "pre-cooldown"
    """Where a leg ends before its cooldown (at LR max), after it, or where the stage ended whatever its rate is there;
    or one that was saved on the way: `{iteration: 1200}`, `{tokensAtLeast: 50B}`, `{rateAtMost: lrMax/5}`."""


class ExternalSource(Frozen):
    """A checkpoint made elsewhere: `path` is the folder that holds `latest` or `latest_universal`."""

    path: Path
    """Folder that holds `latest` or `latest_universal`."""
    checkpoint: Property | AtIteration | AtTokens | AtRate
    """Which complete one of it: the last at LR max, the last after its decay, the newest; or `{iteration: 92859}`,
    `{tokensAtLeast: 2T}`, `{rateAtMost: lrMax/5}`."""
    format: Literal["zero", "universal"]
    """`zero`: as training saves it, for one data-parallel size; `universal`: for any."""
    data_parallel: Count | None = None
    """Data-parallel size that a `zero` checkpoint was saved by; checked against its shards."""
    rate: Positive | None = None
    """Learning rate at which it was saved, for `lrSource`; checked against what the checkpoint says."""
    log: Path | None = None
    """Its training log on the cluster: the first losses after the load are compared with those in it."""
    trained_on: tuple[Name, ...] = ()
    """Names of datasets it has been trained on, so that mixtures may replay them."""


class Adopted(Frozen):
    """The stage was trained before there were manifests, and ended at this checkpoint. It is read and never written."""

    path: Path
    """Folder that holds `latest` or `latest_universal`."""
    iteration: Count
    """As the folder's name has it: `global_step92859`."""
    format: Literal["zero", "universal"]
    """`zero`: as training saves it, for one data-parallel size; `universal`: for any."""
    data_parallel: Count | None = None
    """Data-parallel size that it was trained with; of a `zero` checkpoint checked against its shards."""

    @property
    def source(self) -> ExternalSource:
        """The checkpoint as one that a stage could start from."""
        at = AtIteration(iteration=self.iteration)
        return ExternalSource(
            path=self.path, checkpoint=at, format=self.format, data_parallel=self.data_parallel, rate=None
        )


class LrPolicy(Frozen):
    """One learning-rate curve over a leg.

    `constant` stays at `at`; `cooldown` and `cosine` fall from `at` to `to`; `continue` goes on along the decay of the
    leg before, or of the source where it is the first leg. `warmup` (a share of the leg) rises from 0 to `at` first:
    only for a first stage or a declared `rewarm`, since an infinite schedule never rewarms unasked.
    """

    shape: Literal["constant", "cooldown", "cosine", "continue"]
    """The curve."""
    at: RateField = Rate("lrMax", Decimal(1))
    """Rate at which the leg begins (after warm-up). `lrSource` is the rate at which the source checkpoint stands."""
    to: RateField = Rate("lrFinal", Decimal(1))
    """Rate at which a cooldown or cosine ends; `lrMax/50` or `lrSource/50` says which maximum is divided."""
    until: RateField | None = None
    """Rate at which the leg ends and the next one, `{shape: continue}`, goes on along the same decay: where the data is
    switched (cookbook, Strategy 4). The leg's tokens follow from it."""
    over: Tokens | None = None
    """Tokens that the whole decay takes, where it ends after the stage; a later stage's first leg continues it."""
    decay: Literal["1-sqrt", "linear", "exponential"] = "1-sqrt"
    """Form of a cooldown: `at − (at − to)·√r`, a line, or `at·(to/at)^r`, r being the share done."""
    warmup: Share = Decimal(0)
    """Share of the leg (with `until`, of the whole decay) over which the rate rises from 0."""
    rewarm: bool = False
    """Says that the rate is meant to rise again."""


class Leg(Frozen):
    """A stretch of a strategy with one mixture and one learning-rate curve."""

    mixture: Annotated[dict[Term, Weight], Field(min_length=1)]
    """Exact weight of each source, summing to 1. Sources: dataset symbols, names of earlier stages, `buffer`."""
    lr: LrPolicy
    """Learning rate over the leg."""
    tokens: Tokens | None = None
    """Tokens of this leg; one leg may leave it out and takes what is left of the stage's."""


class BatchScale(Frozen):
    """Another batch than the model's: "need to reduce/increase LR by √k or k" (cookbook, things to keep in mind)."""

    times: AboveZero
    """k: sequences per step, as a multiple of the model's."""
    rate: Literal["sqrt", "linear"]
    """Every rate of the strategy is multiplied by √k or by k; `lrSource` by that of the batch over the source's."""


class UsedStrategy(Frozen):
    """Holds when an earlier stage was done by one of these strategies."""

    stage: Name
    """Name of an earlier stage."""
    used: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of its strategies."""


class TrialMatrix(Frozen):
    """What a trial varies; every combination is a pilot. At least one axis, at most 12 combinations."""

    mixture: dict[Name, Annotated[dict[Term, Weight], Field(min_length=1)]] = Field(default={}, max_length=12)
    """Name → mixture of the last leg."""
    divisor: Annotated[tuple[Count, ...], Field(max_length=12)] = ()
    """N: the last decay that a leg declares ends at its `at` / N (cookbook, Strategy 4: "Try N=10, 50, 100")."""
    rate: Annotated[tuple[RateField, ...], Field(max_length=12)] = ()
    """`at` of the last leg that rewarms and of those that go on from it (cookbook: LR, LR/2 and 2LR were tested)."""


class Trial(Frozen):
    """A rung that is tried in several variants with few tokens before one of them gets the stage's budget."""

    tokens: Tokens
    """Pilot budget of each variant, less than the stage's; the strategy's legs are shortened in proportion."""
    matrix: TrialMatrix
    """What is varied."""
    compare: Annotated[tuple[Label, ...], Field(min_length=1)]
    """Validation sets whose mean loss at the end of the pilots decides."""
    choose: Literal["lowest-loss", "person"] = "lowest-loss"
    """Who decides when all pilots are judged. One that failed a gate is out; of equal ones the first is taken."""
    chosen: Name | None = None
    """A person's choice, by the variant's name: `STRATEGY.mix-a-n10`. It needs no pilots, and counts before them."""
    at_once: Count = 1
    """Pilots whose jobs may be queued at the same time."""


class Strategy(Frozen):
    """One rung of a stage's ladder."""

    name: Name
    """Unique in its stage."""
    if_: Literal["forgetting", "no-recovery", "divergence"] | UsedStrategy | None = Field(default=None, alias="if")
    """When this rung is tried; otherwise it is skipped. A word: a rung before it failed that gate."""
    source: StageSource | ExternalSource | None = None
    """Instead of the stage's source (cookbook, Strategy 5: a converged checkpoint)."""
    batch: BatchScale | None = None
    """Another batch than the model's, with the rates scaled to it."""
    legs: Annotated[tuple[Leg, ...], Field(min_length=1)]
    """Trained one after the other."""
    trial: Trial | None = None
    """Variants to try with few tokens first."""
    waive: tuple[Waiver, ...] = ()
    """Rules that are waived for this rung."""
