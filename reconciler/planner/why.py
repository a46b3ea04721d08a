"""Why a stage is where it is: commit → recipe → jobs → rule or gate → fact → number, for every rung of its ladder.

Made from the same look as the status, for a person who is woken by it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from reconciler.domain.checkpoint import named
from reconciler.domain.schedule import describe
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import AttemptSeen, JobState, Observed, Receipt, TrainLog
from reconciler.model.plan import Action, ActionKey, ActionKind, Plan
from reconciler.model.quantities import approximate_tokens, format_tokens
from reconciler.model.reasons import MEANINGS, WAYS_ON
from reconciler.model.recipe import Recipe
from reconciler.model.status import Phase, Reason, RungStatus, StageStatus, TrialStatus
from reconciler.model.strategy import ExternalSource, StageSource
from reconciler.model.verdict import GateResult
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence, gather
from reconciler.planner.lists import Trouble
from reconciler.planner.look import Look, whole
from reconciler.planner.strays import recipe_of

JOBS_TOLD: Final = 8
"""The last jobs of an attempt; a stage of weeks has a hundred."""
LONG_FRACTION: Final = re.compile(r"(\d\.\d\d)\d+")
"""The launcher says `after 0.8402193069458008 minutes`; a person reads 0.84."""


@dataclass(frozen=True, slots=True)
class JobWhy:
    """One job of an attempt: what it was for, by whose apply of which commit, how PBS says it ended, what it logged."""

    what: str
    job: str
    state: str
    by: str
    commit: str
    logged: str = ""


@dataclass(frozen=True, slots=True)
class RungWhy:
    """One strategy of the ladder, as far as it came."""

    strategy: str
    attempt: str
    outcome: str
    because: str
    """Why it was left; empty where the stage's own message says it."""
    pilots: tuple[str, ...] = ()
    """Of a trial: how each variant stands, and how one was chosen."""
    recipe: tuple[str, ...] = ()
    """What its manifest comes to, a line a leg."""
    jobs: tuple[JobWhy, ...] = ()
    jobs_before: int = 0
    """Of older ones that are not told."""
    gates: tuple[GateResult, ...] = ()
    """What each gate said, with its numbers; empty until it is judged."""
    path: str = ""
    """Relative to the workspace."""


@dataclass(frozen=True, slots=True)
class Why:
    """The chain of one stage."""

    campaign: str
    stage: str
    commit: str
    dirty: bool
    phase: Phase
    reason: Reason
    meaning: str
    """What the reason means."""
    message: str
    manifest: tuple[str, ...]
    """What the stage is, in its manifest's words."""
    rungs: tuple[RungWhy, ...]
    untried: tuple[str, ...]
    """Strategies that come after these."""
    rules: tuple[str, ...]
    """Findings of the cookbook's rules in the stage's manifest."""
    drift: tuple[str, ...]
    """What is not as it was left, each with its code."""
    way_on: str
    """What would change it."""
    following: tuple[str, ...]
    """Actions that the plan has for the stage."""


def why(desired: Desired, observed: Observed, plan: Plan, stage: StageManifest) -> Why:
    """The chain of a stage of the campaign, at the look that the plan was made from."""
    return chain(desired, whole(desired, observed), plan, stage)


def chain(desired: Desired, look: Look | Trouble, plan: Plan, stage: StageManifest) -> Why:
    """The same, of a look that is whole or why it is not."""
    name = stage.metadata.name
    status = next(status for status in plan.stages if status.stage == name)
    rungs = tuple(_rung(desired, look, status, rung) for rung in status.rungs)
    told = {rung.strategy for rung in status.rungs}
    blocker = next((s for s in plan.stages if s.phase is not Phase.DONE), status)
    behind = f"; it says {blocker.reason}: {blocker.message}" if status.reason is Reason.SOURCE_NOT_DONE else ""
    return Why(
        campaign=desired.campaign,
        stage=name,
        commit=plan.revision,
        dirty=plan.dirty,
        phase=status.phase,
        reason=status.reason,
        meaning=MEANINGS[status.reason],
        message=status.message + behind,
        manifest=tuple(_manifest(desired, stage)),
        rungs=rungs,
        untried=tuple(s.name for s in stage.spec.strategies if s.name not in told),
        rules=tuple(_rules(plan, name)),
        drift=tuple(map(str, status.drift)),
        way_on=WAYS_ON[status.reason].format(campaign=desired.campaign, stage=name, blocker=blocker.stage),
        following=tuple(_told(action) for action in plan.actions if action.key.stage == name),
    )


def _told(action: Action) -> str:
    return f"{action.key.kind}: {action.summary}"


def _manifest(desired: Desired, stage: StageManifest) -> Iterator[str]:
    spec = stage.spec
    symbol = desired.catalog.dataset_of(stage).spec.symbol
    yield f"{format_tokens(spec.tokens)} tokens on {spec.dataset} ({symbol}), a {spec.shift} shift"
    source = spec.source
    if isinstance(source, StageSource):
        yield f"from {named(source.checkpoint)} of {source.stage}"
    elif isinstance(source, ExternalSource):
        yield f"from {named(source.checkpoint)} of {source.path}"
    else:
        yield "from random weights"
    yield f"after a failed gate: {desired.spec.on_failed_gate}"


def _rules(plan: Plan, stage: str) -> Iterator[str]:
    named = re.compile(rf"(?<![a-z0-9.-]){re.escape(stage)}(?![a-z0-9.-])")
    for finding in plan.findings:
        if named.search(finding.detail):
            waived = f" (waived: {finding.waived})" if finding.waived is not None else ""
            yield f"{finding.code} {finding.summary}: {finding.detail}{waived}"


# --- one rung --------------------------------------------------------------------------------------------------------


def _rung(desired: Desired, look: Look | Trouble, status: StageStatus, rung: RungStatus) -> RungWhy:
    because = rung.message if rung.message not in status.message else ""  # said already, above all rungs
    trial = status.trial if status.trial is not None and status.trial.strategy == rung.strategy else None
    pilots = tuple(_pilots(trial, status.message, because)) if trial is not None else ()
    bare = RungWhy(rung.strategy, rung.attempt, rung.outcome, because, pilots=pilots)
    if isinstance(look, Trouble) or not rung.attempt:
        return bare
    evidence = gather(
        desired.campaign, status.stage, rung.attempt, look.attempts, look.receipts, look.jobs, look.lists.validation
    )
    seen, verdict = evidence.seen, evidence.verdict()
    jobs = tuple(_jobs(evidence))
    return replace(
        bare,
        recipe=_recipe(status.stage, seen) if seen is not None else (),
        jobs=jobs[-JOBS_TOLD:],
        jobs_before=max(0, len(jobs) - JOBS_TOLD),
        gates=verdict.gates if verdict is not None else (),
        path=status.path if status.reason is Reason.ADOPTED else f"{desired.campaign}/{status.stage}/{rung.attempt}",
    )


def _pilots(trial: TrialStatus, *said: str) -> Iterator[str]:
    yield f"a trial with {format_tokens(trial.tokens)} tokens a variant, compared by {', '.join(trial.compare)}"
    for pilot in trial.pilots:
        mean = f", mean loss {pilot.mean:.4f}" if pilot.mean is not None else ""
        told = f": {pilot.message}" if pilot.message else ""
        yield f"pilot {pilot.variant} {pilot.outcome}{mean}{told}"
    if trial.message and not any(trial.message in each for each in said):
        yield trial.message


def _recipe(stage: str, seen: AttemptSeen) -> tuple[str, ...]:
    recipe = recipe_of(stage, seen)
    return tuple(legs_of(recipe)) if recipe is not None else ("recipe.json cannot be read",)


def legs_of(recipe: Recipe) -> Iterator[str]:
    """What a recipe comes to, a line a leg."""
    for index, leg in enumerate(recipe.legs):
        terms = " + ".join(f"{weight} {term}" for term, weight in leg.terms.items())
        tokens = f"{approximate_tokens(leg.tokens)} tokens in {leg.iterations} iterations"
        yield f"leg {index}: {terms}; {describe(leg.curve, leg.position, leg.iterations)}; {tokens}"


def _jobs(evidence: Evidence) -> Iterator[JobWhy]:
    submitted = [(key, receipt) for key, receipt in evidence.receipts if receipt.job_id or receipt.failed]
    kinds = list(ActionKind)
    for key, receipt in sorted(submitted, key=lambda pair: (pair[1].written_s, kinds.index(pair[0].kind), pair[0])):
        yield JobWhy(
            what=what_of(key),
            job=receipt.job_id or "",
            state=_state(evidence, receipt),
            by=receipt.applied_by,
            commit=receipt.commit + ("+" if receipt.dirty else ""),
            logged=logged(evidence.log(key)) if key.kind is ActionKind.TRAIN else "",
        )


def what_of(key: ActionKey) -> str:
    """What a job is for."""
    job = f"job {key.ended + 1}"
    match key.kind:
        case ActionKind.TRAIN:
            return f"train leg {key.leg}, {job}"
        case ActionKind.EVALUATE:
            at = key.detail.rsplit("-", 1)[-1]
            return f"evaluate {'the source' if key.detail == 'leg-0-0' else f'leg {key.leg} at iteration {at}'}, {job}"
        case _:
            return f"{key.kind}, {job}"


def _state(evidence: Evidence, receipt: Receipt) -> str:
    if receipt.failed is not None:
        return f"refused by PBS: {receipt.failed}"
    job = evidence.job(receipt.job_id)
    if job is None:
        return "ended; PBS knows it no more"
    if job.state is not JobState.FINISHED:
        return f"{job.state}" + (f": {job.comment}" if job.comment else "")
    status = "without an exit status" if job.exit_status is None else f"with exit status {job.exit_status}"
    return f"finished {status}" + (f": {job.comment}" if job.comment else "")


def logged(log: TrainLog | None) -> str:
    """What a training job's log comes to: how far, the loss at both ends, saves, and how it ended."""
    if log is None:
        return "no log"
    parts = []
    if log.first and log.last:
        parts.append(f"iterations {log.first[0].iteration} to {log.last[-1].iteration}")
        ends = [f"{point.loss:.3f}" if point.loss is not None else "none" for point in (log.first[0], log.last[-1])]
        parts.append(f"loss {ends[0]} → {ends[1]}")
    parts.append(f"saved at {log.saved[-1]}" if log.saved else "saved nothing")
    parts += [LONG_FRACTION.sub(r"\1", log.exit_reason)] if log.exit_reason else []
    parts += [log.errors[-1]] if log.errors else []
    return ", ".join(parts)
