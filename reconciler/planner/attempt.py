"""One rung being carried out, with what was seen of it, and the kinds of step that it may take next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.gates import Gates
from reconciler.model.plan import Action
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
class Attempt:
    """One rung being carried out, with what was seen of it."""

    workshop: Workshop
    evidence: Evidence
    gates: Gates
    old_sets: tuple[str, ...]
    """Validation sets of datasets that earlier stages trained."""
    baseline: Mapping[str, float] | None
    """Losses at the source checkpoint if its own stage evaluated it."""
    source_gone: str
    """Why the source checkpoint that a stage made cannot be loaded any more; empty if it is there."""
    now_s: float
    """By the cluster's clock, when it was looked at."""
    retry: bool
    """A person has looked: operational holds are lifted for this pass."""

    @property
    def way_to_retry(self) -> str:
        """How a person lifts an operational hold."""
        campaign, stage = self.workshop.desired.campaign, self.workshop.stage.metadata.name
        return f"When the cause is mended: reconcile apply {campaign} --retry {stage}"

    @property
    def validation_sets(self) -> tuple[str, ...]:
        return tuple(chosen.name for chosen in self.workshop.desired.model.validation.sets)
