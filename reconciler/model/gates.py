"""What an attempt is judged by, as a Campaign or a Stage declares it; the judging is in `reconciler.domain.gates`."""

from __future__ import annotations

from decimal import Decimal

from pydantic import model_validator

from reconciler.model.fieldtypes import Frozen, Positive, Share


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


class ForgettingGate(Frozen):
    """Rise of a frozen validation loss over its value at the stage's source checkpoint."""

    weak: Limits = Limits(warn=Decimal("0.05"), fail=Decimal("0.10"))
    """For a stage whose `shift` is weak."""
    strong: Limits = Limits(warn=Decimal("0.15"), fail=Decimal("0.30"))
    """For a stage whose `shift` is strong."""


class RecoveryGate(Frozen):
    """Training loss must be falling again once `grace` of the leg's tokens has passed."""

    grace: Share = Decimal("0.10")
    """Share of the leg's tokens before the loss is judged."""


class Gates(Frozen):
    """What an attempt is judged by; defaults and their sources: docs/gates.md."""

    forgetting: ForgettingGate | None = ForgettingGate()
    """Rise of old-data loss. `null` turns the gate off."""
    recovery: RecoveryGate | None = RecoveryGate()
    """Return of the training loss. `null` turns the gate off."""
