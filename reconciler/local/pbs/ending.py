"""How a job comes to its end: the attributes it keeps. Every function changes the record only."""

from __future__ import annotations

from reconciler.local.pbs.job import DELETED, ENDED, EXITING, FAILED, QUEUED, Job

WALLTIME_EXCEEDED = -29
START_FAILED = -2
START_RETRIED = -3
SUPERVISOR_LOST = -4


def exiting(job: Job, now: float, status: int) -> None:
    """The job's processes are gone; its output is about to be delivered."""
    job.set(now, job_state="E", substate=EXITING, Exit_status=status)


def ended(job: Job, now: float, delivered: bool | None) -> None:
    """The last state of a job that ran: deleted, failed (walltime too) or simply ended."""
    status = job.exit_status or 0
    if job.run.get("kill"):
        substate, suffix = DELETED, ""  # qdel has put its words there
    elif status == WALLTIME_EXCEEDED:
        substate, suffix = FAILED, " and exceeded resource walltime"
    elif status:
        substate, suffix = FAILED, " and failed"
    else:
        substate, suffix = ENDED, " and finished"
    _close(job, now, substate, suffix)
    job.set(now, obittime=int(now), Stageout_status=None if delivered is None else int(delivered))


def deleted_before_it_ran(job: Job, now: float) -> None:
    _close(job, now, DELETED, " and terminated")


def dropped(job: Job, now: float) -> None:
    """A dependency failed: no exit status, no word why, as in PBS."""
    _close(job, now, ENDED, "")


def _close(job: Job, now: float, substate: int, suffix: str) -> None:
    comment = job.attributes.get("comment")
    job.set(
        now,
        job_state="F",
        substate=substate,
        comment=comment + suffix if comment else None,
        history_timestamp=int(now),
    )
    job.vnodes = []


def requeued(job: Job, now: float) -> None:
    """Back in the queue under the same id: its next run overwrites what this one wrote."""
    job.set(now, job_state="Q", substate=QUEUED, exec_host=None, exec_vnode=None, session_id=None, jobdir=None)
    job.set(now, Exit_status=None, obittime=int(now))
    job.used = {}
    job.vnodes = []
    job.run = {}
