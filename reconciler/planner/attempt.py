"""One rung being carried out, with what was seen of it, and the kinds of step that it may take next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.gates import Gates
from reconciler.model.observed import TrainLog
from reconciler.model.plan import Action
from reconciler.model.recipe import LegRecipe
from reconciler.model.status import Reason
from reconciler.model.verdict import Verdict
from reconciler.planner.evidence import Evidence
from reconciler.planner.jobs import Workshop


@dataclass(frozen=True, slots=True)
class Act:
    """Do this now."""

    action: Action


@dataclass(frozen=True, slots=True)
class Wait:
    """Until the next look."""

    reason: Reason
    message: str
    job: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Until a person decides."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The attempt has its verdict; nothing is left to do for it."""

    verdict: Verdict


Step = Act | Wait | Hold | Judged


@dataclass(frozen=True, slots=True)
class Parent:
    """What was trained up to the attempt's source checkpoint: a leg of another attempt, or a run made elsewhere."""

    leg: LegRecipe | None
    """None for a run made elsewhere, of which no recipe tells."""
    iteration: int
    logs: tuple[TrainLog, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung being carried out, with what was seen of it."""

    workshop: Workshop
    evidence: Evidence
    gates: Gates
    old_sets: tuple[str, ...]
    """Validation sets of datasets that earlier stages trained."""
    baseline: Mapping[str, float] | None
    """Losses at the source checkpoint if its own stage evaluated it."""
    parent: Parent | None
    """Where the source checkpoint comes from; None for random weights, and for one made elsewhere without a log."""
    source_gone: str
    """Why the source checkpoint cannot be loaded any more; empty if it is there."""
    source_unread: str
    """Why that could not be looked up, for one made elsewhere."""
    now_s: float
    """By the cluster's clock, when it was looked at."""
    retry: bool
    """A person has looked: operational holds are lifted for this pass."""

    @property
    def way_to_retry(self) -> str:
        """How a person lifts an operational hold."""
        return f"When the cause is mended: {self.retry_command}"

    @property
    def retry_command(self) -> str:
        """The command that lifts it."""
        return f"reconcile apply {self.workshop.desired.campaign} --retry {self.workshop.stage.metadata.name}"

    @property
    def iterations(self) -> int:
        """Of its recipe, those that are trained, by whoever trained its legs."""
        return sum(self.evidence.trained(self.workshop.recipe.legs))

    @property
    def vocabulary(self) -> int:
        """Tokens in the model's vocabulary: the logarithm is the loss of an untrained model."""
        return int(self.workshop.recipe.model["architecture"]["vocabulary"])

    @property
    def validation_sets(self) -> tuple[str, ...]:
        return tuple(chosen.name for chosen in self.workshop.desired.model.validation.sets)
