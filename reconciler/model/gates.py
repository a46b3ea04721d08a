"""What an attempt is judged by, as a Campaign or a Stage declares it; the judging is in `reconciler.domain.gates`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, model_validator

from reconciler.model.fieldtypes import Count, Frozen, Label, Name, Positive, Share, Text


class Limits(Frozen):
    """A bound that warns and one that fails, in nats of loss."""

    warn: Positive
    """Above this, a warning."""
    fail: Positive
    """Above this, the gate fails."""

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn}) is above fail ({self.fail})")
        return self


class ContinuityGate(Frozen):
    """The first losses after a load match what the parent logged last; a bad load looks like ln(vocabulary).

    Where the data changes at the load a rise is expected, and only a loss near ln(vocabulary) is held against it. A
    bad load is not the strategy's fault: the job is stopped and the stage held.
    """

    rise: Positive = Decimal("0.05")
    """Nats that the mean of the first 20 losses may lie above the parent's."""
    sigmas: Positive = Decimal(6)
    """Or as many standard deviations of the parent's last losses, where that is more."""
    conversion: Positive | None = None
    """Nats that a validation loss of a converted source may differ from what its own stage found. An exact test, for
    one evaluation job before the stage; without it the conversion's own comparison of tensors stands."""


class SpikeGate(Frozen):
    """A loss far above those before it (OLMo-core: 6 σ over the last 128 steps)."""

    sigmas: Positive = Decimal(6)
    """A loss above mean + this many standard deviations of the window before it is a spike."""
    per_10k: Positive = Decimal(3)
    """Spikes in 10,000 iterations that are tolerated; more fail the gate."""


class ForgettingGate(Frozen):
    """Rise of a frozen validation loss over its value at the stage's source checkpoint."""

    weak: Limits = Limits(warn=Decimal("0.05"), fail=Decimal("0.10"))
    """For a stage whose `shift` is weak."""
    strong: Limits = Limits(warn=Decimal("0.15"), fail=Decimal("0.30"))
    """For a stage whose `shift` is strong."""
    every: Share | None = None
    """Share of the stage's tokens between evaluations on the way, made between two jobs; none: at the end only."""
    grace: Share = Decimal("0.10")
    """Share of the stage's tokens before an evaluation on the way counts: metrics dip first (stability gap)."""
    consecutive: Count = 3
    """Evaluations in a row above `fail` that end the attempt before its budget is spent."""


class RecoveryGate(Frozen):
    """Training loss must be falling again once `grace` of the leg's tokens has passed."""

    grace: Share = Decimal("0.10")
    """Share of the leg's tokens before the loss is judged."""


class ExternalGate(Frozen):
    """A number out of the JSON file that an evaluation harness wrote for the attempt's last checkpoint.

    The file is `<attempt>/external/<name>.json` on the cluster; the attempt waits for it after its own evaluations.
    """

    name: Name
    """Name of the file, without `.json`."""
    metric: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Keys that lead to the number: [results, mmlu, "acc,none"]."""
    at_least: Positive | None = None
    """Below this the gate fails."""
    at_most: Positive | None = None
    """Above this the gate fails."""

    @model_validator(mode="after")
    def _bounded(self) -> ExternalGate:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a bound is expected: atLeast, atMost or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"atLeast ({self.at_least}) is above atMost ({self.at_most})")
        return self


class Gates(Frozen):
    """What an attempt is judged by; defaults and their sources: docs/gates.md."""

    continuity: ContinuityGate | None = ContinuityGate()
    """First losses after a load. `null` turns the gate off."""
    spike: SpikeGate | None = SpikeGate()
    """Sudden rises of the training loss. `null` turns the gate off."""
    forgetting: ForgettingGate | None = ForgettingGate()
    """Rise of old-data loss. `null` turns the gate off."""
    recovery: RecoveryGate | None = RecoveryGate()
    """Return of the training loss. `null` turns the gate off."""
    target: dict[Label, Positive] = Field(default={})
    """Validation set → loss in nats that the end of the stage must reach."""
    external: tuple[ExternalGate, ...] = ()
    """Results of evaluation harnesses."""
