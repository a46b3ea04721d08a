"""What the cookbook's rules say at one look: of the manifests, and of what was logged where the next stage starts."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.domain import rules
from reconciler.domain.rules.view import LoggedRate
from reconciler.domain.schedule import rate_at
from reconciler.model.faults import Fault
from reconciler.model.message import Message
from reconciler.model.observed import AttemptSeen
from reconciler.model.problems import Problem
from reconciler.planner.desired import Desired
from reconciler.planner.look import Look
from reconciler.planner.strays import recipe_of
from reconciler.planner.walked import Walked


def advice(desired: Desired, look: Look, walked: Sequence[Walked]) -> tuple[Problem, ...]:
    """All findings, waived ones too."""
    logged = {}
    for stage in walked:
        found = None if stage.status.tokens_done else _logged(look, stage)
        if found is not None:
            logged[stage.status.stage] = found
    return (*desired.findings, *(rules.observed(desired.catalog, desired.campaign, logged) if logged else ()))


def refused(findings: Sequence[Problem]) -> tuple[Message, ...]:
    """Why a plan with these cannot be applied."""
    return tuple(
        Message(
            Fault.AGAINST_RULES,
            f"{found.code} {found.summary}: {found.detail}: {found.found} instead of {found.expected}\n{found.fix}",
        )
        for found in findings
        if found.refuses
    )


def _logged(look: Look, stage: Walked) -> LoggedRate | None:
    """The rate in the log line of the checkpoint that a stage is about to start from, and the one of its recipe."""
    source = stage.outcome.recipe.source if stage.outcome is not None else None
    if source is None or not source.attempt:
        return None
    seen = next((a for a in look.attempts if (a.stage, a.attempt) == (source.stage, source.attempt)), None)
    made_by = recipe_of(source.stage, seen) if seen is not None else None
    rate = _rate_in_log(seen, source.leg, source.iteration) if seen is not None else None
    if rate is None or made_by is None or source.leg >= len(made_by.legs):
        return None
    leg = made_by.legs[source.leg]
    around = [rate_at(leg.curve, max(0, leg.position + source.iteration + step)) for step in (-1, 0, 1)]
    return LoggedRate(
        source=f"{source.stage}/{source.attempt}/leg-{source.leg}",
        iteration=source.iteration,
        logged=rate,
        declared=around[1],
        step=max(around) - min(around),
    )


def _rate_in_log(seen: AttemptSeen, leg: int, iteration: int) -> float | None:
    for part in seen.legs:
        for log in part.logs if part.index == leg else ():
            for point in log.last:
                if point.iteration == iteration:
                    return point.learning_rate
    return None
