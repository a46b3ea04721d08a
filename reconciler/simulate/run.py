"""A whole campaign on a simulated cluster: the real planner, pass after pass, until it has nothing left to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.domain.catalog import Catalog, every_source
from reconciler.domain.windows import opens
from reconciler.model.manifests import CampaignManifest
from reconciler.model.plan import ActionKey, Plan
from reconciler.model.status import PASSING, Phase, Reason, StageStatus
from reconciler.planner import checks
from reconciler.planner.desired import Desired
from reconciler.planner.ended import FLUSH_GRACE_S
from reconciler.planner.evidence import Evidence
from reconciler.planner.planner import plan
from reconciler.planner.spending import node_hours
from reconciler.planner.strays import recipe_of, trained_tokens
from reconciler.simulate import assumptions
from reconciler.simulate.assumptions import EVERY_STRATEGY, Assumptions, Failing
from reconciler.simulate.cluster import Cluster

PASSES_MAX: Final = 20_000
"""More are no campaign that a person would wait for."""


class End(StrEnum):
    """Why a simulation is over."""

    DONE = "done"
    HELD = "held"
    """Nothing goes on until a person decides."""
    REFUSED = "refused"
    """The plan may not be applied."""
    ENDLESS = "endless"


@dataclass(frozen=True, slots=True)
class Step:
    """One action that the planner asked for."""

    at_s: float
    """Since the beginning."""
    key: ActionKey
    strategy: str
    summary: str


@dataclass(frozen=True, slots=True)
class AttemptRun:
    """One attempt from its first job to its verdict; times in seconds since the beginning."""

    stage: str
    strategy: str
    attempt: str
    pilot: bool
    began_s: float
    ended_s: float
    jobs: int
    failed_jobs: int
    node_hours: float
    tokens: int
    outcome: str
    """`passed`, `failed` or `open`."""
    message: str = ""
    """Its verdict."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would happen."""

    campaign: str
    revision: str
    dirty: bool
    assumed: tuple[str, ...]
    """In words."""
    steps: tuple[Step, ...]
    attempts: tuple[AttemptRun, ...]
    stages: tuple[StageStatus, ...]
    """Where each stage is at the end."""
    end: End
    why: tuple[str, ...]
    """What keeps it from going on; empty for a campaign that is done."""
    seconds: float
    jobs: int
    node_hours: float
    node_hours_bound: float
    """Of campaign and allocation, the lower one."""
    tokens: int
    """Trained by all attempts."""
    tokens_bound: int | None
    unmet: tuple[str, ...] = ()
    """Assumptions that made no difference."""


def simulate(desired: Desired, assumed: Assumptions, now_s: float) -> Simulation:
    """Carry a campaign out from nothing, beginning at `now_s` (seconds since the epoch, for submit windows).

    Raises:
        NoSpeed: nothing says how fast it trains.
        NotThere: an assumption is about a stage or strategy that the campaign does not have.
    """
    assumptions.check(desired, assumed)
    wanted = _advancing(desired) if assumed.merged else desired
    cluster, steps = Cluster(wanted, assumed, now_s), list[Step]()
    for made in _passes(wanted, cluster):
        cluster.carry_out(made.actions)
        for action in made.actions:
            recipe = recipe_of(action.key.stage, cluster.attempts[action.key.stage, action.key.attempt])
            strategy = recipe.strategy if recipe is not None else ""
            steps.append(Step(cluster.now_s - now_s, action.key, strategy, action.summary))
    last = _plan(wanted, cluster)
    attempts = tuple(_attempts(wanted, cluster, now_s))
    end, why = _ended(last)
    spec = desired.spec
    return Simulation(
        campaign=desired.campaign,
        revision=desired.revision,
        dirty=desired.dirty,
        assumed=assumptions.told(desired, assumed),
        steps=tuple(steps),
        attempts=attempts,
        stages=last.stages,
        end=end,
        why=why,
        seconds=cluster.now_s - now_s,
        jobs=len(cluster.jobs),
        node_hours=node_hours(desired, cluster.jobs, cluster.now_s),
        node_hours_bound=float(min(spec.bounds.node_hours, desired.cluster.allocation.node_hours)),
        tokens=sum(attempt.tokens for attempt in attempts),
        tokens_bound=spec.bounds.tokens,
        unmet=tuple(_unmet(assumed, attempts)),
    )


def _advancing(desired: Desired) -> Desired:
    """The campaign in which a failed gate is answered with the next rung."""
    objects = []
    for item in desired.catalog.objects:
        manifest = item.manifest
        if isinstance(manifest, CampaignManifest) and manifest.metadata.name == desired.campaign:
            spec = manifest.spec.model_copy(update={"on_failed_gate": "advance"})
            item = replace(item, manifest=manifest.model_copy(update={"spec": spec}))
        objects.append(item)
    return replace(desired, catalog=Catalog(objects))


def _plan(desired: Desired, cluster: Cluster) -> Plan:
    """The planner's answer to a look, judged as one at a real cluster is."""
    observed = cluster.look()
    made = plan(desired, observed)
    unsound = checks.unsound(made, observed, every_source(desired.catalog))
    return replace(made, refusals=(*made.refusals, *unsound)) if unsound else made


def _passes(desired: Desired, cluster: Cluster) -> Iterator[Plan]:
    """Plans with something to do, each at its time; what they ask for is carried out by the caller."""
    poll_s = float(desired.cluster.poll)
    for _ in range(PASSES_MAX):
        made = _plan(desired, cluster)
        if made.stopped:
            return
        if made.actions:
            yield made
            if any(action.job is None for action in made.actions):
                cluster.until(cluster.now_s + poll_s)
                continue  # what was written at once may be gone on from at the next look
        following_s = _following(desired, cluster, made)
        if following_s is None:
            return
        cluster.until(following_s)


def _following(desired: Desired, cluster: Cluster, made: Plan) -> float | None:
    """When the next look will find something new; None if never."""
    reasons = {status.reason for status in made.stages}
    if cluster.next_end_s is not None:
        return max(cluster.now_s, cluster.next_end_s) + float(desired.cluster.poll)
    if Reason.SUBMIT_WINDOW_CLOSED in reasons:
        scheduler = desired.cluster.scheduler
        opening = opens(scheduler.submit_windows, scheduler.time_zone, cluster.now_s)
        return opening.timestamp() if opening is not None else None
    if Reason.EXTERNAL_AWAITED in reasons:
        for status in made.stages:
            if status.reason is Reason.EXTERNAL_AWAITED:
                cluster.harnesses_write(status.stage, status.attempt)
        return cluster.now_s + float(desired.cluster.poll)
    return cluster.now_s + FLUSH_GRACE_S if Reason.JOB_ENDING in reasons else None


def _ended(last: Plan) -> tuple[End, tuple[str, ...]]:
    if last.refusals:
        return End.REFUSED, tuple(map(str, last.refusals))
    if last.done:
        return End.DONE, ()
    held = [status for status in last.stages if status.phase is Phase.HELD]
    if held:
        return End.HELD, tuple(f"{status.stage}: {status.reason}: {status.message}" for status in held)
    waits = [status for status in last.stages if status.reason in PASSING]
    return End.ENDLESS, tuple(f"{status.stage}: {status.reason}: {status.message}" for status in waits)


def _attempts(desired: Desired, cluster: Cluster, began_s: float) -> Iterator[AttemptRun]:
    """In the order of their first actions."""
    keyed = [(ActionKey.parse(receipt.key), receipt) for receipt in cluster.receipts]
    for (stage, attempt), seen in cluster.attempts.items():
        recipe, verdict = recipe_of(stage, seen), Evidence(seen, (), ()).verdict()
        own = [receipt for key, receipt in keyed if key is not None and key.attempt == attempt]
        ids = {receipt.job_id for receipt in own}
        jobs = [job for job in cluster.jobs if job.job_id in ids]
        times = [receipt.written_s for receipt in own] + [job.ended_s for job in jobs if job.ended_s is not None]
        outcome = "open" if verdict is None else "passed" if verdict.passed else "failed"
        yield AttemptRun(
            stage=stage,
            strategy=recipe.strategy if recipe is not None else "",
            attempt=attempt,
            pilot=recipe is not None and recipe.pilot,
            began_s=min(times) - began_s,
            ended_s=max(times) - began_s,
            jobs=len(jobs),
            failed_jobs=sum(bool(job.exit_status) for job in jobs),
            node_hours=node_hours(desired, cluster.jobs, cluster.now_s, stage, attempt),
            tokens=trained_tokens(desired, seen, recipe),
            outcome=outcome,
            message=verdict.message if verdict is not None else "",
        )


def _unmet(assumed: Assumptions, attempts: tuple[AttemptRun, ...]) -> Iterator[str]:
    for failing in assumed.failing:
        tried = [run for run in attempts if run.stage == failing.stage and _is_of(failing, run.strategy)]
        if not tried:
            yield f"{failing}: it is never tried"
        elif all(run.outcome == "passed" for run in tried):
            yield f"{failing}: that gate is not judged there, or only warns"


def _is_of(failing: Failing, strategy: str) -> bool:
    wanted = failing.strategy
    return wanted in ("", EVERY_STRATEGY, strategy) or strategy.startswith(f"{wanted}.")
