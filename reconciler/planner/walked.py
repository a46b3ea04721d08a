"""What came of walking a stage: its status, its actions, and what later stages build on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.domain.resolve import StageOutcome
from reconciler.model.manifests import StageManifest
from reconciler.model.message import Message
from reconciler.model.plan import Action
from reconciler.model.recipe import Recipe
from reconciler.model.status import Phase, Reason, RungStatus, StageStatus
from reconciler.planner.attempt import Attempt


@dataclass(frozen=True, slots=True)
class Walked:
    """One stage's answer, and what later stages build on."""

    status: StageStatus
    actions: tuple[Action, ...] = ()
    outcome: StageOutcome | None = None
    """The recipe it was trained by if done, else the one a forecast assumes."""
    pilots: tuple[Recipe, ...] = ()
    """Of a trial that is not decided."""
    refusal: Message | None = None
    attempts: tuple[Attempt, ...] = ()
    """All that the manifest describes; none of a stage whose turn has not come."""


def outcome_of(recipe: Recipe, saved: Mapping[int, tuple[int, ...]] | None = None) -> StageOutcome:
    """The stage as this recipe trains it, or has trained it with these checkpoints."""
    return StageOutcome(recipe.stage, recipe, saved)


def bare_status(
    stage: StageManifest,
    phase: Phase,
    reason: Reason,
    message: str,
    *,
    rungs: Sequence[RungStatus] = (),
    attempt: str = "",
    strategy: str = "",
    tokens_done: int = 0,
) -> StageStatus:
    """A status that no attempt's evidence tells more of."""
    return StageStatus(
        stage.metadata.name,
        phase,
        reason,
        message,
        tokens_budget=stage.spec.tokens,
        rungs=tuple(rungs),
        attempt=attempt,
        strategy=strategy,
        tokens_done=tokens_done,
    )
