"""Attempts at a stage that no rung of its ladder describes any more: what they trained is not started over unasked.

Pilots of a trial are none of them: they were compared and never go on, so taking a variant out discards nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import lru_cache

from reconciler.model.observed import AttemptSeen, JobState, Stuck
from reconciler.model.recipe import Recipe, read_recipe
from reconciler.model.status import Reason
from reconciler.planner.attempt import Hold, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence, keyed
from reconciler.planner.look import Look


def trained(seen: AttemptSeen) -> int:
    """Iterations that an attempt is known to have trained, by its checkpoints or by the verdict that passed it."""
    evidence = Evidence(seen, (), ())
    verdict = evidence.verdict()
    return max(own_iterations(seen), verdict.iteration if verdict is not None and verdict.passed else 0)


def own_iterations(seen: AttemptSeen) -> int:
    """Iterations that an attempt has trained itself, by its checkpoints and its recipe."""
    evidence, was = Evidence(seen, (), ()), recipe_of(seen.stage, seen)
    return sum(evidence.trained(was.legs)[len(was.taken) :]) if was is not None else evidence.trained_iterations()


def trained_tokens(desired: Desired, seen: AttemptSeen, was: Recipe | None) -> int:
    """The same in tokens, by the batch that the attempt was trained with; by the model's if that cannot be read."""
    return trained(seen) * (was.tokens_per_iteration if was is not None else desired.model.tokens_per_iteration)


def stray_attempts(attempts: Sequence[AttemptSeen], stage: str, known: Collection[str]) -> list[AttemptSeen]:
    """Attempts with trained tokens and no failed verdict that no rung of the ladder describes."""
    found = []
    for seen in attempts:
        verdict = Evidence(seen, (), ()).verdict()
        if seen.stage != stage or seen.attempt in known or not trained(seen) or is_pilot(seen):
            continue
        if verdict is None or verdict.passed:
            found.append(seen)
    return sorted(found, key=lambda a: a.attempt)


def unsettled(look: Look, campaign: str, stage: str, known: AbstractSet[str]) -> Wait | Hold | None:
    """Why it cannot be told yet whether such an attempt has trained something: unread, or its job is live."""
    for seen in look.attempts:
        if seen.stage == stage and seen.attempt not in known and seen.unread:
            return Wait(Reason.WORKSPACE_UNREAD, f"attempt {seen.attempt} could not be read: {seen.unread}")
    return live_elsewhere(look, campaign, stage, known, told="which its manifest no longer describes")


def live_elsewhere(look: Look, campaign: str, stage: str, known: AbstractSet[str], told: str) -> Wait | Hold | None:
    """What is to be done about a live job of the stage that is neither of these attempts' nor a pilot's."""
    pilots = {seen.attempt for seen in look.attempts if seen.stage == stage and is_pilot(seen)}
    for key, job in keyed(look.jobs, look.receipts):
        ours = (key.campaign, key.stage) == (campaign, stage)
        if job.live and ours and key.attempt not in known | pilots:
            message = f"job {job.job_id} of attempt {key.attempt}, {told}, is {job.state}"
            if job.stuck is Stuck.FAILED_STARTS:
                given_up = f"PBS has given up starting it: {job.comment}. Delete it: qdel {job.job_id}"
                return Hold(Reason.JOB_CANNOT_START, f"{message}; {given_up}")
            reason = Reason.JOB_HELD_BY_PBS if job.state is JobState.HELD else Reason.JOB_LIVE
            return Wait(reason, f"{message}; let it end, or end it with qdel", job.job_id)
    return None


def is_pilot(seen: AttemptSeen) -> bool:
    """Whether an attempt was a pilot of a trial, by its own recipe."""
    was = recipe_of(seen.stage, seen)
    return was is not None and was.pilot


def recipe_of(stage: str, seen: AttemptSeen) -> Recipe | None:
    """What an attempt was trained by; None if its file is not what the attempt is named for."""
    return _recipe_of(stage, seen.attempt, seen.recipe or "")


@lru_cache(maxsize=512)
def _recipe_of(stage: str, attempt: str, text: str) -> Recipe | None:
    """Answers are kept: one pass asks for the recipe of each attempt at every stage and rung."""
    was = read_recipe(text)
    return replace(was, stage=stage) if was is not None and was.attempt == attempt else None
