"""Jobs that live no more: whether they are over, and in a way that another may follow. Pure."""

from __future__ import annotations

from reconciler.model.plan import ActionKey, ActionKind
from reconciler.model.quantities import format_duration
from reconciler.model.status import Reason
from reconciler.planner.attempt import Attempt, Hold, Wait

DELETED_SUBSTATE = 91
"""PBS's substate of a job that was deleted, whatever its exit status says."""
FLUSH_GRACE_S = 30.0
"""How long the output of a job that has just ended may take to be whole on the shared file system."""
ROUTING_GRACE_S = 300.0
"""How long PBS may not know a job that it has just taken: on its way through a routing queue."""


def settle(attempt: Attempt) -> Wait | Hold | None:
    """Why nothing may follow a job of the attempt that is not alive; None if they are all over and done with."""
    return _ending(attempt) or _vanished(attempt) or _deleted(attempt)


def _ending(attempt: Attempt) -> Wait | None:
    """A job that ended just now: its last lines may still be on their way, and nothing is judged without them."""
    for key, job in attempt.evidence.jobs:
        just_now = job.ended_s is not None and abs(attempt.now_s - job.ended_s) < FLUSH_GRACE_S
        if not job.live and just_now and not _output_whole(attempt, key):
            message = f"{key.kind} job {job.job_id} has just ended; its output may not be whole yet"
            return Wait(Reason.JOB_ENDING, message, job.job_id)
    return None


def _output_whole(attempt: Attempt, key: ActionKey) -> bool:
    if key.kind is ActionKind.TRAIN:
        log = attempt.evidence.log(key)
        return log is not None and log.finished_rc is not None
    return not _wanting(attempt, key)


def _wanting(attempt: Attempt, key: ActionKey) -> bool:
    """Whether what a job of this key is for is not there yet."""
    evidence, legs = attempt.evidence, attempt.workshop.recipe.legs
    match key.kind:
        case ActionKind.TRAIN:
            return key.leg < len(legs) and evidence.trained(legs)[key.leg] < legs[key.leg].iterations
        case ActionKind.CONVERT:
            return evidence.leg(0).converted is None and not evidence.trained_iterations()
        case ActionKind.EVALUATE:
            found = evidence.seen.evaluations if evidence.seen else ()
            losses = next((e.losses for e in found if f"leg-{e.leg}-{e.iteration}" == key.detail), {})
            return not set(attempt.validation_sets) <= set(losses)
        case _:  # no job does it
            return False


def _vanished(attempt: Attempt) -> Wait | Hold | None:
    """A job that PBS took, does not know, and of which no file tells: it may never have run. ALCF's routing queues
    lose jobs that fit no execution queue, from the history too (its user guide, known issues)."""
    evidence = attempt.evidence
    for key, receipt in evidence.last_ended():
        if evidence.job(receipt.job_id) is not None or evidence.left_trace(key) or not _wanting(attempt, key):
            continue
        job_id = receipt.job_id or ""
        age_s = abs(attempt.now_s - receipt.written_s)  # in the future if a clock was set since
        if age_s < ROUTING_GRACE_S:
            return Wait(Reason.JOB_NOT_LISTED, f"PBS took {key.kind} job {job_id} and does not list it yet", job_id)
        if attempt.retry:
            continue
        resources = attempt.workshop.stage.spec.resources
        walltime = format_duration(float(resources.walltime))
        return Hold(
            Reason.LOST_IN_ROUTING,
            f"PBS took {key.kind} job {job_id} {format_duration(age_s)} ago, does not know it now, and it left no log: "
            f"a routing queue drops a job that fits none of its execution queues. Compare {resources.nodes} nodes and "
            f"{walltime} with their limits (qstat -Qf). {attempt.way_to_retry}",
        )
    return None


def _deleted(attempt: Attempt) -> Hold | None:
    """A job that somebody took away is not replaced unasked."""
    for key, receipt in () if attempt.retry else attempt.evidence.last_ended():
        job = attempt.evidence.job(receipt.job_id)
        if job is None or not _wanting(attempt, key):
            continue
        how = ""
        if job.substate == DELETED_SUBSTATE:
            how = "was deleted with qdel"
        elif job.substate is not None and job.exit_status is None and job.started_s is None:
            how = "ended without having run"
        if how:
            message = f"{key.kind} job {job.job_id} {how}: {job.comment or 'no comment'}"
            return Hold(Reason.JOB_DELETED, f"{message}. {attempt.way_to_retry}")
    return None
