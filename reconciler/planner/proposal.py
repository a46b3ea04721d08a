"""What is proposed where a failed gate holds a stage: which strategy goes to the top of its ladder, and why. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from reconciler.domain.ladder import hangs_on_failure
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from reconciler.model.status import Phase, StageStatus
from reconciler.model.verdict import GateResult
from reconciler.planner.desired import Desired
from reconciler.planner.look import Look, whole
from reconciler.planner.rungs import gathered

PREFIX: Final = "reconcile/propose/"
"""Of every branch that holds a proposal."""
_DIGITS: Final = 12
_TOLD: Final = frozenset(Phase) - {Phase.WAITING}
"""Phases that come of evidence; who waits may wait for a look."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A strategy that was tried, and what its gates said."""

    strategy: str
    attempt: str
    message: str
    gates: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One edit of one stage, for one state of its verdicts."""

    campaign: str
    stage: str
    strategy: str
    """The one that goes to the top of the ladder."""
    unconditionally: bool
    """Whether its `if` goes, which asks for a failure above it."""
    file: str
    """Of the stage's manifest, as it was read."""
    commit: str
    """That is applied."""
    failures: tuple[Failure, ...]
    """In the order of the ladder."""
    status: StageStatus
    digest: str
    """Of the verdicts and the edit: whoever sees the same verdicts proposes under the same name."""

    @property
    def branch(self) -> str:
        """The branch that it waits on; a name that git takes, whatever dots the stage's has."""
        of = f"{self.campaign}/{self.stage}".replace(".", "-")
        return f"{PREFIX}{of}-{self.digest[:_DIGITS]}"


def proposals(desired: Desired, observed: Observed, plan: Plan) -> tuple[Proposal, ...]:
    """What is to be proposed at a look; nothing where the campaign does not say `propose`."""
    asked = [status for status in plan.stages if status.next_rung]
    if desired.spec.on_failed_gate != "propose" or plan.refusals or not asked:
        return ()
    look = whole(desired, observed)
    return tuple(_proposal(desired, look, status) for status in asked) if isinstance(look, Look) else ()


def _proposal(desired: Desired, look: Look, status: StageStatus) -> Proposal:
    stage = desired.catalog.stage(desired.campaign, status.stage)
    following = next(each for each in stage.spec.strategies if each.name == status.next_rung)
    failures: list[Failure] = []
    verdicts: list[str] = []
    for rung in status.rungs:
        if rung.outcome == "failed":
            verdict = gathered(desired, look, status.stage, rung.attempt).verdict()
            failures.append(Failure(rung.strategy, rung.attempt, rung.message, verdict.gates if verdict else ()))
            verdicts.append(verdict.to_file() if verdict is not None else f"{rung.attempt} {rung.message}")
    told = [desired.campaign, status.stage, following.name, sorted(verdicts)]
    return Proposal(
        campaign=desired.campaign,
        stage=status.stage,
        strategy=following.name,
        unconditionally=hangs_on_failure(following),
        file=desired.catalog.where(stage).file,
        commit=desired.revision,
        failures=tuple(failures),
        status=status,
        digest=hashlib.sha256(json.dumps(told).encode()).hexdigest(),
    )


def overtaken(plan: Plan, stage: str, branch: str, wanted: tuple[Proposal, ...]) -> bool:
    """Whether a stage has left behind what was proposed for it on a branch; not while that cannot be told."""
    if plan.outlook is None or plan.refusals or any(each.branch == branch for each in wanted):
        return False
    return any(status.stage == stage and status.phase in _TOLD for status in plan.stages)
