"""One scheduling cycle, run by every command and by each supervisor as its job ends. There is no daemon.

A cycle looks at the records alone, so whatever was interrupted, by SIGKILL or a reboot, the next one completes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path

from reconciler.local.pbs import depend, ending, place
from reconciler.local.pbs.config import FLAGS, Server
from reconciler.local.pbs.job import HELD, QUEUED, RUNNING, STARTING, Job
from reconciler.local.pbs.spool import Spool, take_lock

STARTS_MAX = 21  # after so many failed starts PBS holds a job


class Cycle:
    """The live jobs as one holder of the lock sees them."""

    def __init__(self, spool: Spool, server: Server) -> None:
        self.spool = spool
        self.server = server
        self.now = time.time()
        self.live = spool.live()

    def run(self) -> None:
        """Bring the records up to date and start what fits."""
        for job in list(self.live.values()):
            if job.state in "RE" and not self._supervised(job):
                self._recover(job)
        progress = True
        while progress:
            progress = self._resolve() or self._start()
        if self.server.history:
            self.spool.expire(self.now, self.server.history_duration_s)

    def find(self, seq: int) -> Job | None:
        return self.live.get(seq) or (self.spool.find(seq) if self.server.history else None)

    # Dependencies and holds -------------------------------------------------------------------------------------

    def _resolve(self) -> bool:
        """Release, drop and retire until nothing changes; True when anything did."""
        changed = False
        again = True
        while again:
            again = False
            for job in list(self.live.values()):
                if job.state in "HQ" and job.depend:
                    again = self._judge(job) or again
                elif job.state == "W" and int(job.attributes["Execution_Time"]) <= self.now:
                    self.release(job)
                    again = True
            changed = changed or again
        for job in [job for job in self.live.values() if job.state == "F"]:
            self.spool.retire(job, self.server.history and not job.run.get("forget"))
            del self.live[job.seq]
        return changed

    def unmet(self, wanted: list[tuple[str, list[str]]]) -> tuple[list[tuple[str, list[str]]], bool]:
        """New dependencies without those that are met already, and whether one of them can never be met."""
        left, failed = [], False
        for kind, ids in wanted:
            verdicts = {entry: depend.on_submission(kind, self.find(int(entry.split(".")[0]))) for entry in ids}
            failed = failed or depend.Verdict.FAILED in verdicts.values()
            waiting = [entry for entry in ids if verdicts[entry] is not depend.Verdict.MET]
            if waiting:
                left.append((kind, waiting))
        return left, failed

    def tell_parents(self, job: Job) -> None:
        """Live parents show who waits for them."""
        for kind, ids in job.depend:
            for parent in (self.live.get(int(entry.split(".")[0])) for entry in ids):
                if parent is None or parent.state == "F" or not kind.startswith("after"):
                    continue
                before = kind.replace("after", "before")
                listed = dict(parent.depend).get(before)
                if listed is None:
                    parent.depend.append((before, [job.id]))
                elif job.id not in listed:
                    listed.append(job.id)
                self.spool.save(parent)

    def _judge(self, job: Job) -> bool:
        """Look at the parents that were alive when the dependency was made."""
        remaining = []
        for kind, ids in job.depend:
            if not kind.startswith("after"):
                remaining.append((kind, ids))
                continue
            verdicts = [(entry, depend.on_end(kind, self.live.get(int(entry.split(".")[0])))) for entry in ids]
            if any(verdict is depend.Verdict.FAILED for _, verdict in verdicts):
                ending.dropped(job, self.now)
                self.spool.save(job)
                return True
            left = [entry for entry, verdict in verdicts if verdict is depend.Verdict.OPEN]
            if left:
                remaining.append((kind, left))
        if remaining == job.depend:
            return False
        job.depend = remaining
        if not depends(job):
            job.set_holds(self.now, job.holds.replace("s", ""))
        self.release(job)
        return True

    def release(self, job: Job) -> None:
        """Queue a held or waiting job unless something else keeps it."""
        if job.state in "HW" and not job.holds:
            later = int(job.attributes.get("Execution_Time", "0"))
            if later > self.now:
                job.set(self.now, job_state="W", substate=30)
            else:
                job.set(self.now, job_state="Q", substate=QUEUED, etime=int(self.now), Execution_Time=None)
        self.spool.save(job)

    # Starting ---------------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        """Start every queued job that fits, in the order of submission; True when one did."""
        started = False
        left = place.free_cpus(self.server, (job for job in self.live.values() if job.state in "RE"))
        for job in self.live.values():
            if job.state != "Q":
                continue
            queue = self.server.queue(job.queue)
            if queue is None or not queue.started:
                self._explain(job, "Not Running: Queue not started.")
                continue
            placed = place.place(self.server, job, left)
            if placed is None:
                self._explain(job, place.never(self.server, job) or place.NOT_NOW)
                continue
            if self._launch(job, placed):
                started = True
                left = place.free_cpus(self.server, (other for other in self.live.values() if other.state in "RE"))
        return started

    def _explain(self, job: Job, comment: str) -> None:
        if job.attributes.get("comment") != comment:
            job.attributes["comment"] = comment
            self.spool.save(job)

    def _launch(self, job: Job, placed: place.Placed) -> bool:
        """Record the start, then give the job to a supervisor, which holds the guard's lock from before it exists."""
        guard = os.open(self.spool.guard(job.seq), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not take_lock(guard):
                return False  # its last supervisor is just leaving
            if not self._output_can_be_kept(job):
                return False
            vnodes = place.exec_vnode(placed)
            job.vnodes = placed
            job.exclusive = place.wants_whole_nodes(self.server, job)
            job.run = {"cookie": os.urandom(16).hex().upper()}
            when = time.strftime("%a %b %d at %H:%M", time.localtime(self.now))
            job.set(
                self.now,
                job_state="R",
                substate=STARTING,
                exec_host=place.exec_host(placed, self.server),
                exec_vnode=vnodes,
                stime=int(self.now),
                run_count=int(job.attributes.get("run_count", "0")) + 1,
                comment=f"Job run at {when} on {vnodes}",
                session_id=None,
                Exit_status=None,
            )
            hosts = [name for name, _, more in placed for _ in range(int(more.get("mpiprocs", "1")))]
            (self.spool.aux / job.id).write_text("".join(f"{name}\n" for name in hosts))
            self.spool.save(job)
            self._spawn(job, guard)
            return True
        finally:
            os.close(guard)

    def _output_can_be_kept(self, job: Job) -> bool:
        """With `-k d` a job whose output directory is missing fails to start, 21 times, and is held."""
        from reconciler.local.pbs import output

        if "d" not in job.attributes["Keep_Files"]:
            return True
        for _ in range(STARTS_MAX):
            with contextlib.suppress(OSError):
                for descriptor in set(output.open_files(job, self.spool, Path(home(job))).values()):
                    os.close(descriptor)
                return True
        job.set(
            self.now,
            job_state="H",
            substate=HELD,
            Hold_Types="s",
            run_count=STARTS_MAX,
            stime=int(self.now),
            obittime=int(self.now),
            Exit_status=ending.START_RETRIED,
            comment="job held, too many failed attempts to run",
            etime=None,
        )
        self.spool.save(job)
        return False

    def _spawn(self, job: Job, guard: int) -> None:
        """A fresh interpreter in a session of its own, with nothing of ours open but the guard."""
        guard = fcntl.fcntl(guard, fcntl.F_DUPFD, 3)  # above the standard streams, and kept over the exec
        entry = str(Path(__file__).with_name("entry.py"))
        arguments = [sys.executable, *FLAGS, entry, str(self.spool.root), "pbs_mom"]
        os.posix_spawn(
            sys.executable,
            [*arguments, str(job.seq), job.run["cookie"], str(guard)],
            {"PATH": os.defpath, "TZ": os.environ["TZ"]} if "TZ" in os.environ else {"PATH": os.defpath},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(self.spool.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            ],
            setsid=True,
        )
        os.close(guard)

    # After a supervisor died ------------------------------------------------------------------------------------

    def _supervised(self, job: Job) -> bool:
        guard = os.open(self.spool.guard(job.seq), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return not take_lock(guard)
        finally:
            os.close(guard)

    def _recover(self, job: Job) -> None:
        """Nobody watches this job any more: kill what is left of it, then end or requeue it as PBS would."""
        import shutil

        from reconciler.local.pbs import output, processes

        run = job.run
        session = run.get("session")
        if session is not None and not processes.still(session, run["start"], run["boot"]):
            session = None
        processes.end(session, run["cookie"])
        shutil.rmtree(output.temporary_directory(job), ignore_errors=True)
        (self.spool.aux / job.id).unlink(missing_ok=True)
        began = job.substate == RUNNING or run.get("session") is not None
        if job.state == "R" and not run.get("kill") and (not began or job.attributes["Rerunable"] == "True"):
            ending.requeued(job, self.now)
            self.spool.save(job)
            return
        if job.state == "R":
            ending.exiting(job, self.now, ending.SUPERVISOR_LOST)
            job.set(self.now, jobdir=None)
            job.used = {"walltime": "00:00:00"}  # as PBS says when the one who measured is gone
        ending.ended(job, self.now, output.deliver(job, self.spool))
        self.spool.save(job)


def depends(job: Job) -> bool:
    """Whether a dependency on another job is open; what others depend on this one for does not count."""
    return any(kind.startswith("after") for kind, _ in job.depend)


def home(job: Job) -> str:
    """Where a job starts: the submitter's home."""
    return next((value for name, value in job.variables if name == "PBS_O_HOME"), "/")
