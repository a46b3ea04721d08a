"""Job ids as people give them."""

from __future__ import annotations

import re

from reconciler.local.pbs.job import Job
from reconciler.local.pbs.refusals import PBSE_FINISHED, PBSE_UNKNOWN_HOST, PBSE_UNKNOWN_JOB, Refusal
from reconciler.local.pbs.schedule import Cycle


def full_id(text: str, server: str) -> str:
    """`12`, `12.server`, `12@server` → `12.server`; array forms keep their brackets.

    Raises:
        Refusal: not an id (return code 1), or another server's (15008).
    """
    matched = re.fullmatch(r"(\d{1,12}(?:\[[\d,:-]*\])?)(?:\.([A-Za-z0-9_.-]+))?(?:@([A-Za-z0-9_.-]+))?", text)
    if not matched or matched[2] not in (None, server):
        raise Refusal(f"illegally formed job identifier: {text}", 1)
    if matched[3] not in (None, server):
        raise Refusal(f"cannot connect to server {server} (errno={PBSE_UNKNOWN_HOST})", PBSE_UNKNOWN_HOST)
    return f"{matched[1]}.{server}"


def job_of(cycle: Cycle, full: str) -> Job:
    """The job of a full id, live or ended.

    Raises:
        Refusal: 15001, unknown or forgotten.
    """
    number = full.split(".", 1)[0]
    job = cycle.find(int(number)) if number.isdigit() else None
    if job is None:
        raise Refusal(f"Unknown Job Id {full}", PBSE_UNKNOWN_JOB)
    return job


def live_job(cycle: Cycle, text: str, say_id: bool) -> Job:
    """A job that a command may still act upon.

    Raises:
        Refusal: unknown, or 15139, it has ended.
    """
    full = full_id(text, cycle.server.name)
    job = job_of(cycle, full)
    if job.state == "F":
        raise Refusal(f"Job has finished {full}" if say_id else "Job has finished", PBSE_FINISHED)
    return job
