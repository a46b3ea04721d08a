"""An Observed whose tables were all read, or why there is none: acting on half a look is how a stage is run twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.observed import AttemptSeen, FolderAbsent, FolderSeen, Job, Observed, Receipt, TrainLog, Unread
from reconciler.model.status import Reason
from reconciler.planner.desired import Desired
from reconciler.planner.lists import Lists, Trouble, read_lists


@dataclass(frozen=True, slots=True)
class Look:
    """What was read, whole."""

    jobs: tuple[Job, ...]
    attempts: tuple[AttemptSeen, ...]
    receipts: tuple[Receipt, ...]
    lists: Lists
    folders: Mapping[str, FolderSeen | FolderAbsent | Unread]
    """By absolute path: folders of checkpoints that no attempt made."""
    logs: Mapping[str, TrainLog]
    """By absolute path: the ends of logs of others."""
    now_s: float


def whole(desired: Desired, observed: Observed) -> Look | Trouble:
    """The look, if every table was read."""
    jobs, attempts, receipts = observed.jobs, observed.attempts, observed.receipts
    if isinstance(jobs, Unread):
        return Trouble(Reason.JOB_TABLE_UNREAD, f"the job table could not be read: {jobs.why}")
    if isinstance(attempts, Unread):
        return Trouble(Reason.WORKSPACE_UNREAD, f"the workspace could not be read: {attempts.why}")
    if isinstance(receipts, Unread):
        return Trouble(Reason.WORKSPACE_UNREAD, f"the journal could not be read: {receipts.why}")
    return Look(
        jobs, attempts, receipts, read_lists(desired, observed), observed.folders, observed.logs, observed.now_s
    )
