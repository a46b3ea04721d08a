"""Above which validation loss an attempt has forgotten too much: by its verdict, or by the gate to come. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.manifests import StageManifest
from reconciler.model.status import StageStatus
from reconciler.model.verdict import Verdict
from reconciler.planner.desired import Desired
from reconciler.planner.judging import limits_of
from reconciler.planner.rungs import old_sets

BEFORE = ".before"
"""How a verdict's numbers name a loss at the source (`domain.gates.forgetting`)."""


def judged(verdict: Verdict) -> dict[str, float]:
    """Validation set → the bound that a verdict held against it; nothing where forgetting was not judged."""
    for gate in verdict.gates:
        if gate.gate == "forgetting" and "fail" in gate.numbers:
            losses = {name: loss for name, loss in gate.numbers.items() if name.endswith(BEFORE)}
            return {name.removesuffix(BEFORE): loss + gate.numbers["fail"] for name, loss in losses.items()}
    return {}


def to_come(desired: Desired, stage: StageManifest, status: StageStatus) -> dict[str, float]:
    """Validation set → the bound of an attempt that is not judged yet; nothing before its source is evaluated."""
    gate = (stage.spec.gates or desired.spec.gates).forgetting
    if gate is None:
        return {}
    allowed = float(limits_of(gate, stage).fail)
    before: Mapping[str, float] = status.losses_before
    return {name: before[name] + allowed for name in old_sets(desired, stage) if name in before}
