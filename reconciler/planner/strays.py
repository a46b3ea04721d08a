"""Attempts at a stage that no rung of its ladder describes any more: what they trained is not started over unasked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from reconciler.model.observed import AttemptSeen, Job, JobState, Receipt, Stuck
from reconciler.model.plan import ActionKey
from reconciler.model.recipe import Recipe, read_recipe
from reconciler.model.status import Reason
from reconciler.planner.attempt import Hold, Wait
from reconciler.planner.evidence import Evidence


def trained(seen: AttemptSeen) -> int:
    """Iterations that an attempt is known to have trained, by its checkpoints or by the verdict that passed it."""
    evidence = Evidence(seen, (), ())
    verdict = evidence.verdict()
    return max(evidence.trained_iterations(), verdict.iteration if verdict is not None and verdict.passed else 0)


def stray_attempts(attempts: Sequence[AttemptSeen], stage: str, known: Collection[str]) -> list[AttemptSeen]:
    """Attempts with trained tokens and no failed verdict that no rung of the ladder describes."""
    found = []
    for seen in attempts:
        verdict = Evidence(seen, (), ()).verdict()
        if seen.stage != stage or seen.attempt in known or not trained(seen):
            continue
        if verdict is None or verdict.passed:
            found.append(seen)
    return sorted(found, key=lambda a: a.attempt)


def unsettled(
    attempts: Sequence[AttemptSeen],
    jobs: Sequence[Job],
    receipts: Sequence[Receipt],
    *,
    campaign: str,
    stage: str,
    known: Collection[str],
) -> Wait | Hold | None:
    """Why it cannot be told yet whether such an attempt has trained something: unread, or its job is live."""
    for seen in attempts:
        if seen.stage == stage and seen.attempt not in known and seen.unread:
            return Wait(Reason.WORKSPACE_UNREAD, f"attempt {seen.attempt} could not be read: {seen.unread}")
    by_id = {receipt.job_id: receipt.key for receipt in receipts if receipt.job_id}
    for job in jobs:
        key = ActionKey.parse(job.key or by_id.get(job.job_id, ""))
        if job.live and key and (key.campaign, key.stage) == (campaign, stage) and key.attempt not in known:
            message = (
                f"job {job.job_id} of attempt {key.attempt}, which its manifest no longer describes, is {job.state}"
            )
            if job.stuck is Stuck.FAILED_STARTS:
                given_up = f"PBS has given up starting it: {job.comment}. Delete it: qdel {job.job_id}"
                return Hold(Reason.JOB_CANNOT_START, f"{message}; {given_up}")
            reason = Reason.JOB_HELD_BY_PBS if job.state is JobState.HELD else Reason.JOB_LIVE
            return Wait(reason, f"{message}; let it end, or end it with qdel", job.job_id)
    return None


def recipe_of(stage: str, seen: AttemptSeen) -> Recipe | None:
    """What an attempt was trained by; None if its file is not what the attempt is named for."""
    was = read_recipe(seen.recipe or "")
    return replace(was, stage=stage) if was is not None and was.attempt == seen.attempt else None
