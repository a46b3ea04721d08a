"""OpenPBS as values: state letters, what qsub's refusals mean, the command that submits. Pure.

Facts are from recordings of OpenPBS 23.06.06 and the PBS Professional Reference Guide (section "Job states", and
"Error codes": a command's status is the PBSE number modulo 256).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from reconciler.model.observed import Job, JobState, Stuck

STATES: Final[Mapping[str, JobState]] = MappingProxyType(
    {
        "B": JobState.RUNNING,  # an array that has begun
        "E": JobState.EXITING,  # output is being copied; may last long, and Exit_status is not final
        "F": JobState.FINISHED,
        "H": JobState.HELD,
        "M": JobState.UNKNOWN,  # moved to another server, where it lives on
        "Q": JobState.QUEUED,
        "R": JobState.RUNNING,
        "S": JobState.HELD,  # suspended by the server
        "T": JobState.QUEUED,  # on its way to a queue or a node
        "U": JobState.HELD,  # suspended, its workstation is in use
        "W": JobState.WAITING,  # for the time given with -a
        "X": JobState.UNKNOWN,  # a finished subjob of an array that goes on
    }
)
"""Any other letter is UNKNOWN, which is alive: nothing is submitted beside it."""

QSUB: Final = ("qsub", "-f", "-v", "{variables}", "{script}")
"""The agent puts in CPT_KEY and CPT_WORKSPACE, and the script's absolute path; all else stands in the script.

`-f`: qsub otherwise hands the submission to a background process of its own, which outlives it, so that nobody could
tell whether a submission is still under way.
"""

PERMANENT: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "the script or the variables are malformed",
        2: "an option has an illegal value",
        3: "the array is too large",
        5: "select and -l resources are mixed",
        7: "place is used without select",
        32: "a hook of the site refused it",
        154: "unknown attribute",
        159: "not authorised",
        160: "unknown server",
        166: "illegal value of an attribute or resource",
        170: "unknown queue",
        175: "this user may not run jobs",
        187: "unknown resource",
        188: "beyond the limits of the queue or server",
    }
)
"""qsub's statuses that say: not this script, not today and not tomorrow. The same key is not tried again unasked."""

WAIT: Final[Mapping[int, str]] = MappingProxyType(
    {
        38: "too many jobs of this user are queued",  # PBSE 15142
        39: "this user's jobs ask for too much together",  # PBSE 15143, from pbs_error.h
        173: "the queue is not enabled",  # PBSE 15021
        198: "the queue is full",  # PBSE 15046
    }
)
"""Statuses that pass by themselves. Any status in neither table leaves the outcome unknown."""

STUCK: Final[Mapping[tuple[JobState, str], Stuck]] = MappingProxyType(
    {
        (JobState.HELD, "too many failed attempts"): Stuck.FAILED_STARTS,
        (JobState.QUEUED, "can never run"): Stuck.NEVER_RUNS,
    }
)
"""State and words of a comment, in small letters, that say that a job may never run."""

WAIT_TEXTS: Final = ("cannot connect to server", "Connection refused")
"""With these qsub never reached the server, whatever its status."""


def job(
    *,
    job_id: str,
    name: str,
    letter: str,
    key: str | None,
    exit_status: int | None,
    substate: int | None,
    comment: str,
    queue: str,
    nodes: int | None,
    unread: str = "",
    queued_s: float | None = None,
    started_s: float | None,
    ended_s: float | None,
) -> Job:
    """One job of the table. An exit status counts only in state F: it also shows on jobs that go on (E, H, B)."""
    state = JobState.UNREAD if unread else STATES.get(letter, JobState.UNKNOWN)
    finished = state is JobState.FINISHED
    return Job(
        job_id=job_id,
        name=name,
        state=state,
        letter=letter,
        key=key,
        exit_status=exit_status if finished else None,
        substate=substate,
        comment=unread or comment,
        queue=queue,
        nodes=nodes,
        queued_s=queued_s,
        started_s=started_s,
        ended_s=ended_s if finished else None,
        stuck=_stuck(state, comment),
    )


def _stuck(state: JobState, comment: str) -> Stuck | None:
    return next((why for (seen, words), why in STUCK.items() if seen is state and words in comment.lower()), None)
