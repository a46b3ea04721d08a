"""What is new at a look, against the one before: the difference of two looks as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.model.observed import AttemptSeen, Job, JobState, Observed, Unread
from reconciler.model.plan import ActionKey, Plan
from reconciler.model.quantities import counted, format_duration
from reconciler.model.status import Condition, Phase, Reason, StageStatus


class Sort(StrEnum):
    """How an event is to be taken."""

    GOOD = "good"
    BAD = "bad"
    ATTENTION = "attention"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that has happened between two looks."""

    stage: str
    said: str
    sort: Sort = Sort.NEUTRAL


@dataclass(frozen=True, slots=True)
class Seen:
    """A look, and the plan that was made from it."""

    observed: Observed
    plan: Plan


def remembered(before: Seen | None, after: Seen) -> Seen:
    """What is known after a look: what it read, and of what it did not, what was known before."""
    if before is None:
        return after
    jobs, attempts = after.observed.jobs, after.observed.attempts
    observed = replace(
        after.observed,
        jobs=before.observed.jobs if isinstance(jobs, Unread) else jobs,
        attempts=before.observed.attempts if isinstance(attempts, Unread) else attempts,
    )
    return Seen(observed, last_read(before.plan, after.plan))


def last_read(before: Plan | None, after: Plan) -> Plan:
    """A plan, in which a stage of which the look could tell nothing is as it was before."""
    was = {status.stage: status for status in before.stages} if before is not None else {}
    stages = (was[now.stage] if now.stage in was and _untold(was[now.stage], now) else now for now in after.stages)
    return replace(after, stages=tuple(stages))


def _untold(was: StageStatus, now: StageStatus) -> bool:
    """Whether it was not read, or stands behind one that was not: then its ladder is not looked at."""
    behind = now.reason is Reason.SOURCE_NOT_DONE and bool(was.rungs) and not now.rungs
    return behind or now.reason in _UNREAD


_UNREAD: Final = frozenset({Reason.JOB_TABLE_UNREAD, Reason.WORKSPACE_UNREAD, Reason.LIST_UNREAD, Reason.SOURCE_UNREAD})


def events(before: Seen | None, after: Seen) -> tuple[Event, ...]:
    """In the order of the stages; of a first look where each stage is. Both are what is `remembered`."""
    if before is None:
        return tuple(event for status in after.plan.stages for event in _first(status))
    found = [*_jobs(before, after), *_files(before.observed, after.observed), *turns(before.plan, after.plan)]
    order = {status.stage: place for place, status in enumerate(after.plan.stages)}
    return tuple(sorted(found, key=lambda event: order.get(event.stage, len(order))))


def _first(status: StageStatus) -> Iterator[Event]:
    yield Event(status.stage, _stands(status), _sort(status))
    yield from _drift((), status)


def _drift(was: Sequence[Condition], status: StageStatus) -> Iterator[Event]:
    """What of a stage is not as it was left, and was before."""
    told = {found.type for found in was}
    for found in status.drift:
        if found.type not in told:
            yield Event(status.stage, str(found), Sort.ATTENTION)


def _stands(status: StageStatus) -> str:
    if status.phase is Phase.DONE:  # the message has the strategy
        return f"{status.phase}: {status.message}"
    strategy = f" {status.strategy}" if status.strategy and status.phase is not Phase.WAITING else ""
    return f"{status.phase}{strategy}: {status.reason}: {status.message}"


def _sort(status: StageStatus) -> Sort:
    return {Phase.DONE: Sort.GOOD, Phase.HELD: Sort.ATTENTION}.get(status.phase, Sort.NEUTRAL)


# --- jobs


def _jobs(before: Seen, after: Seen) -> Iterator[Event]:
    old, new = before.observed.jobs, after.observed.jobs
    if isinstance(old, Unread) or isinstance(new, Unread):
        return
    known = {job.job_id: job for job in old}
    for job in new:
        key = ActionKey.parse(job.key) if job.key else None
        was = known.get(job.job_id)
        if key is None or key.campaign != after.plan.campaign or (was is not None and was.state is job.state):
            continue
        yield Event(key.stage, f"{key.kind} job {job.job_id} {_told(job)}", _of_job(job))


def _told(job: Job) -> str:
    if job.state is JobState.RUNNING:
        waited = _between(job.queued_s, job.started_s)
        nodes = f" on {counted(job.nodes, 'node')}" if job.nodes is not None else ""
        return f"runs{nodes}" + (f", after {waited} in its queue" if waited else "")
    if job.state is JobState.FINISHED:
        ran = _between(job.started_s, job.ended_s)
        status = f" with exit status {job.exit_status}" if job.exit_status is not None else ""
        comment = f": {job.comment}" if job.exit_status and job.comment else ""
        return f"ended{status}" + (f" after {ran}" if ran else "") + comment
    return f"is {job.state}" + (f": {job.comment}" if job.comment else "")


def _of_job(job: Job) -> Sort:
    if job.state in (JobState.HELD, JobState.UNREAD, JobState.UNKNOWN):
        return Sort.ATTENTION
    return Sort.BAD if job.state is JobState.FINISHED and job.exit_status else Sort.NEUTRAL


def _between(since_s: float | None, until_s: float | None) -> str:
    return format_duration(max(0.0, until_s - since_s)) if since_s is not None and until_s is not None else ""


# --- what jobs leave


def _files(before: Observed, after: Observed) -> Iterator[Event]:
    if isinstance(before.attempts, Unread) or isinstance(after.attempts, Unread):
        return
    known = {(seen.stage, seen.attempt): seen for seen in before.attempts}
    for seen in after.attempts:
        was = known.get((seen.stage, seen.attempt))
        if seen.unread or (was is not None and was.unread):
            continue
        saved = _saved(seen).items() - (_saved(was).items() if was is not None else set())
        for leg, iteration in sorted(saved):
            yield Event(seen.stage, f"leg {leg} has a complete checkpoint at iteration {iteration}")
        yield from _evaluated(was, seen)


def _saved(seen: AttemptSeen) -> Mapping[int, int]:
    """Leg → iteration of its newest complete checkpoint."""
    newest = {leg.index: leg.newest_complete() for leg in seen.legs}
    return {index: checkpoint.iteration for index, checkpoint in newest.items() if checkpoint is not None}


def _evaluated(was: AttemptSeen | None, seen: AttemptSeen) -> Iterator[Event]:
    known = {(e.leg, e.iteration): e.losses for e in was.evaluations} if was is not None else {}
    for found in seen.evaluations:
        new = {
            name: loss for name, loss in found.losses.items() if name not in known.get((found.leg, found.iteration), {})
        }
        if new:
            # A result's name has the digest of its set behind a dot.
            told = ", ".join(f"{name.rpartition('.')[0] or name} {loss:.3f}" for name, loss in new.items())
            where = "its source" if found.iteration == 0 else f"iteration {found.iteration}"
            yield Event(seen.stage, f"evaluated at {where}: {told}")


# --- stages


def turns(before: Plan | None, after: Plan) -> Iterator[Event]:
    """What has come of stages, strategies and pilots since the plan before; without one, what came of them so far."""
    known = {status.stage: status for status in before.stages} if before is not None else {}
    for status in after.stages:
        was = known.get(status.stage) if before is not None else _under_way(status)
        if was is None:
            yield Event(status.stage, f"is new: {_stands(status)}", _sort(status))
            continue
        yield from _rungs(was, status)
        held = status.phase is Phase.HELD
        if held and (was.phase, was.reason) != (status.phase, status.reason):
            yield Event(status.stage, f"held: {status.reason}: {status.message}", Sort.ATTENTION)
        elif was.phase is Phase.HELD and not held:
            yield Event(status.stage, f"goes on: {_stands(status)}", _sort(status))
        yield from _drift(was.drift, status)
    for gone in known.keys() - {status.stage for status in after.stages}:
        yield Event(gone, "is in no manifest any more", Sort.ATTENTION)


def _under_way(status: StageStatus) -> StageStatus:
    """The stage before anything came of it: what has only begun is no news, nor is what is not as it was left."""
    rungs = tuple(rung for rung in status.rungs if rung.outcome == "running")
    trial = status.trial
    if trial is not None:
        trial = replace(trial, pilots=tuple(pilot for pilot in trial.pilots if pilot.outcome == "running"))
    return replace(status, phase=Phase.WAITING, rungs=rungs, trial=trial)


def _rungs(was: StageStatus, status: StageStatus) -> Iterator[Event]:
    """Strategies and pilots that have begun, passed or failed."""
    known = {rung.attempt: rung.outcome for rung in was.rungs}
    known |= {pilot.attempt: pilot.outcome for pilot in was.trial.pilots} if was.trial is not None else {}
    told = [(rung.strategy, rung.attempt, rung.outcome, "", rung.message) for rung in status.rungs]
    for pilot in status.trial.pilots if status.trial is not None else ():
        mean = f", mean loss {pilot.mean:.4f}" if pilot.mean is not None else ""
        told.append((f"pilot {pilot.variant}", pilot.attempt, pilot.outcome, mean, pilot.message))
    for name, attempt, outcome, with_what, message in told:
        if known.get(attempt) == outcome:
            continue
        if outcome == "running":
            yield Event(status.stage, f"{name} has begun")
        elif outcome in ("passed", "failed"):
            because = message or (status.message if outcome == "passed" else "")
            said = f"{name} {outcome}{with_what}" + (f": {because}" if because else "")
            yield Event(status.stage, said, Sort.GOOD if outcome == "passed" else Sort.BAD)
