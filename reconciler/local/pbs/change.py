"""qdel, qhold, qrls and qalter: what changes jobs that are there."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

from reconciler.local.pbs import ending, options
from reconciler.local.pbs.config import Server, user_name
from reconciler.local.pbs.identify import full_id, job_of, live_job
from reconciler.local.pbs.job import HELD, Job
from reconciler.local.pbs.refusals import (
    PBSE_BAD_STATE,
    PBSE_FINISHED,
    PBSE_UNAUTHORIZED,
    Refusal,
    Usage,
)
from reconciler.local.pbs.schedule import Cycle
from reconciler.local.pbs.spool import Spool

QDEL_USAGE = """\
usage:
	qdel [-W force|suppress_email=X] [-x] job_identifier...
	qdel --version
"""
QHOLD_USAGE = """\
usage: qhold [-h hold_list] job_identifier...
       qhold --version
"""
QRLS_USAGE = """\
usage: qrls [-h hold_list] job_identifier...
       qrls --version
"""


def each(spool: Spool, server: Server, command: str, ids: list[str], act: Callable[[Cycle, str], None]) -> int:
    """Do something with each job under one lock; the return code is that of the last refusal."""
    if not ids:
        raise Usage()
    code = 0
    with spool.lock():
        cycle = Cycle(spool, server)
        cycle.run()
        for text in ids:
            try:
                act(cycle, text)
            except Refusal as refusal:
                print(f"{command}: {refusal.message}", file=sys.stderr)
                code = refusal.code
        cycle.run()
    return code


def may_act(cycle: Cycle, job: Job) -> bool:
    return user_name() in (job.user, *cycle.server.managers)


def unauthorized(job: Job) -> Refusal:
    return Refusal(f"Unauthorized Request  {job.id}", PBSE_UNAUTHORIZED)


def _bad_state(job: Job) -> Refusal:
    return Refusal(f"Request invalid for state of job {job.id}", PBSE_BAD_STATE)


# qdel -----------------------------------------------------------------------------------------------------------


def qdel(spool: Spool, server: Server, argv: list[str]) -> int:
    found, ids = options.parsed(argv, "W:x", "qdel")
    force = False
    for letter, value in found:
        if letter == "W" and value != "force" and not value.startswith("suppress_email="):
            raise Usage("qdel: illegal -W value")
        force = force or value == "force"
    forget = any(letter == "x" for letter, _ in found)

    def act(cycle: Cycle, text: str) -> None:
        full = full_id(text, server.name)
        job = job_of(cycle, full)
        if not may_act(cycle, job):
            raise unauthorized(job)
        if job.state == "F":
            if not forget:
                raise Refusal(f"Job has finished {full}", PBSE_FINISHED)
            spool.forget(job.seq)
            return
        _delete(cycle, job, force, forget)

    return each(spool, server, "qdel", ids, act)


def _delete(cycle: Cycle, job: Job, force: bool, forget: bool) -> None:
    """End a job: at once if it has not begun, through its supervisor if it has."""
    if job.state == "E" and not force:
        raise _bad_state(job)
    if forget:
        job.run["forget"] = True
    if job.state not in "RE":
        ending.deleted_before_it_ran(job, cycle.now)
    elif job.state == "R":
        if not job.run.get("kill"):
            comment = job.attributes.get("comment")
            words = f"{comment} and terminated by {user_name()}@{job.server}" if comment else None
            job.set(cycle.now, comment=words)
        job.run["kill"] = "force" if force else job.run.get("kill", "term")
    cycle.spool.save(job)
    supervisor = job.run.get("supervisor")
    if job.state == "R" and supervisor is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(supervisor, signal.SIGUSR1)  # it looks every second anyway; this saves the wait


# qhold and qrls -------------------------------------------------------------------------------------------------


def qhold(spool: Spool, server: Server, argv: list[str]) -> int:
    wanted, ids = _hold_letters(argv, "qhold")

    def act(cycle: Cycle, text: str) -> None:
        job = live_job(cycle, text, say_id=False)
        _check_hold(cycle, job, wanted)
        if set(wanted) <= set(job.holds):
            return
        job.set_holds(cycle.now, job.holds + wanted)
        job.set(cycle.now, comment=f"Job held by {user_name()} on {time.ctime(cycle.now)}")
        if job.state in "QW":
            job.set(cycle.now, job_state="H", substate=HELD, etime=None)
        spool.save(job)

    return each(spool, server, "qhold", ids, act)


def qrls(spool: Spool, server: Server, argv: list[str]) -> int:
    wanted, ids = _hold_letters(argv, "qrls")

    def act(cycle: Cycle, text: str) -> None:
        job = live_job(cycle, text, say_id=False)
        _check_hold(cycle, job, wanted)
        if not set(wanted) & set(job.holds):
            return
        job.set_holds(cycle.now, "".join(letter for letter in job.holds if letter not in wanted))
        if not job.holds:
            job.set(cycle.now, comment=None)
        cycle.release(job)

    return each(spool, server, "qrls", ids, act)


def _hold_letters(argv: list[str], command: str) -> tuple[str, list[str]]:
    found, ids = options.parsed(argv, "h:", command)
    wanted = dict(found).get("h", "u")
    if not wanted or set(wanted) - set("uosn"):
        raise Usage(f"{command}: illegal -h value")
    return wanted.replace("n", ""), ids


def _check_hold(cycle: Cycle, job: Job, wanted: str) -> None:
    if not may_act(cycle, job) or (set(wanted) - {"u"} and user_name() not in cycle.server.managers):
        raise unauthorized(job)
    if job.state == "E":
        raise _bad_state(job)
