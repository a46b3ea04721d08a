"""The supervisor of one job: starts it, watches its walltime and deletions, and writes down how it ended.

It is a process of its own that ends with its job. The job's session is recorded before the script may begin, so a
supervisor that dies leaves no process that the next command could not find.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from reconciler.local.pbs import ending, output, processes
from reconciler.local.pbs.config import Server
from reconciler.local.pbs.job import RUNNING, Job
from reconciler.local.pbs.resources import clock, seconds
from reconciler.local.pbs.schedule import Cycle, home
from reconciler.local.pbs.spool import Spool

LOOK_EVERY_S = 1.0
SHELL = "/bin/bash"


class Supervisor:
    """One run of one job."""

    def __init__(self, spool: Spool, server: Server, job: Job) -> None:
        self.spool = spool
        self.server = server
        self.job = job
        self.cookie: str = job.run["cookie"]
        self.session = 0
        self.began = 0.0
        self.peak_kb = [0, 0]
        self.kill_at: float | None = None  # monotonic time of the SIGKILL, once the job is being ended
        self.walltime_exceeded = False
        self.temporary = output.temporary_directory(job)

    def run(self) -> None:
        """Carry the job from start to its final record, then start what fits now."""
        try:
            files = output.open_files(self.job, self.spool, Path(home(self.job)))
        except OSError as error:
            print(f"{self.job.id}: {error}", file=sys.stderr, flush=True)
            self._finish(ending.START_FAILED, 0.0)
            return
        if not os.access(home(self.job), os.X_OK) or not Path(home(self.job)).is_dir():
            os.write(files["e"], b"Could not chdir to home directory\n")
            self._finish(ending.START_FAILED, 0.0)
            return
        self.temporary.mkdir(mode=0o700)
        try:
            status, cpu_s = self._watch(*self._start(files), files["e"])
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)
        self._finish(status, cpu_s)

    # Starting ---------------------------------------------------------------------------------------------------

    def _start(self, files: dict[str, int]) -> tuple[int, int]:
        """Fork the job, record its session, and let it go; returns its pid and the pipe that lets it go."""
        go_read, go_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            path = shlex.quote(str(self.spool.script(self.job.seq)))
            script = b"" if self.job.command else os.fsencode(path) + b"\n"
            _become(self.job, self._environment(), self._command(), files, go_read, script)
        os.close(go_read)
        found = None
        while found is None or found.session != pid:  # until it has a session of its own
            time.sleep(0.001)
            found = processes.look(pid)
        self.session = pid
        with self.spool.lock():
            self.job = self._current()
            self.job.run.update(session=pid, start=found.start, boot=processes.boot_id(), supervisor=os.getpid())
            self.job.set(time.time(), substate=RUNNING, session_id=pid, jobdir=home(self.job))
            self.spool.save(self.job)
        return pid, go_write

    def _current(self) -> Job:
        """The record as it is now: others may have changed it since."""
        return self.spool.find(self.job.seq) or self.job

    def _command(self) -> list[str]:
        """The top process: the login shell, which gets the script's path on standard input; or the command itself."""
        if self.job.command:
            return self.job.command
        shell = self.job.attributes.get("Shell_Path_List", SHELL)
        return [shell, f"-{Path(shell).name}", *(["--noprofile"] if Path(shell).name == "bash" else [])]

    def _environment(self) -> dict[str, str]:
        job = self.job
        own = dict(job.variables)
        chunk = job.vnodes[0][2]
        threads = chunk.get("ompthreads", chunk["ncpus"])
        environment = {
            "PATH": f"/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games:{self.server.bin_dir}",
            **self.server.environment,
            "HOME": home(job),
            "LOGNAME": job.user,
            "USER": job.user,
            "SHELL": SHELL,
            "TMPDIR": str(self.temporary),
            "ENVIRONMENT": "BATCH",
            "NCPUS": threads,
            "OMP_NUM_THREADS": threads,
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBCOOKIE": self.cookie,
            "PBS_JOBDIR": home(job),
            "PBS_JOBID": job.id,
            "PBS_JOBNAME": job.name,
            "PBS_NODEFILE": str(self.spool.aux / job.id),
            "PBS_NODENUM": "0",
            "PBS_QUEUE": job.queue,
            "PBS_TASKNUM": "1",
            **own,
        }
        if "Account_Name" in job.attributes:
            environment["PBS_ACCOUNT"] = job.attributes["Account_Name"]
        environment["PBS_JOBCOOKIE"] = self.cookie  # processes are found by it, so no -v may change it
        return environment

    # Watching ---------------------------------------------------------------------------------------------------

    def _watch(self, pid: int, go: int, errors: int) -> tuple[int, float]:
        """Wait for the top process, ending the job when it must; returns its exit status and cpu seconds."""
        self.began = time.monotonic()
        deleted_first = bool(self.job.run.get("kill"))
        if not deleted_first:
            os.write(go, b"g")
        os.close(go)  # without the word, it leaves without having run anything
        while True:
            self._enforce(errors)
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                break
            self._sample()
            with contextlib.suppress(InterruptedError):
                signal.sigtimedwait((signal.SIGCHLD, signal.SIGUSR1), self._patience_s())
        while self.kill_at is not None and time.monotonic() < self.kill_at and self._left():
            time.sleep(0.02)
        processes.end(self.session, self.cookie)
        code = 256 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if deleted_first:
            code = 256 + signal.SIGTERM
        return (ending.WALLTIME_EXCEEDED if self.walltime_exceeded else code), usage.ru_utime + usage.ru_stime

    def _left(self) -> bool:
        return bool(processes.of_job(self.session, self.cookie))

    def _patience_s(self) -> float:
        """How long nothing can happen of itself."""
        waits = [LOOK_EVERY_S]
        if self.kill_at is not None:
            waits.append(self.kill_at - time.monotonic())
        elif self.job.walltime_s is not None:
            waits.append(self.began + self.job.walltime_s + 1 - time.monotonic())
        return max(0.001, min(waits))

    def _enforce(self, errors: int) -> None:
        """Look at the record (a deletion, a changed walltime) and at the clock; end the job if it must end."""
        self.job = self._current()
        elapsed_s = time.monotonic() - self.began
        if self.job.run.get("kill") == "force":
            processes.send(self.session, self.cookie, signal.SIGKILL)
            self.kill_at = time.monotonic()
        elif self.kill_at is not None:
            if time.monotonic() >= self.kill_at:
                processes.send(self.session, self.cookie, signal.SIGKILL)
        elif self.job.run.get("kill"):
            self._terminate()
        elif self.job.walltime_s is not None and int(elapsed_s) > self.job.walltime_s:
            self.walltime_exceeded = True
            message = f"=>> PBS: job killed: walltime {int(elapsed_s)} exceeded limit {self.job.walltime_s}\n"
            os.write(errors, message.encode())
            self._terminate()

    def _terminate(self) -> None:
        queue = self.server.queue(self.job.queue)
        self.kill_at = time.monotonic() + (queue.kill_delay_s if queue else 10)
        processes.send(self.session, self.cookie, signal.SIGTERM)

    def _sample(self) -> None:
        members = processes.of_job(self.session, self.cookie)
        self.peak_kb[0] = max(self.peak_kb[0], sum(entry.rss_kb for entry in members))
        self.peak_kb[1] = max(self.peak_kb[1], sum(entry.size_kb for entry in members))

    # Ending -----------------------------------------------------------------------------------------------------

    def _finish(self, status: int, cpu_s: float) -> None:
        elapsed_s = int(time.monotonic() - self.began) if self.began else 0
        with self.spool.lock():
            job = self._current()
            job.used = {
                "cpupercent": str(int(100 * cpu_s / max(elapsed_s, 1))),
                "cput": clock(int(cpu_s)),
                "mem": f"{self.peak_kb[0]}kb",
                "ncpus": job.resources["ncpus"],
                "vmem": f"{self.peak_kb[1]}kb",
                "walltime": clock(elapsed_s),
            }
            ending.exiting(job, time.time(), status)
            self.spool.save(job)
        delivered = output.deliver(job, self.spool)
        with self.spool.lock():
            job = self._current()
            ending.ended(job, time.time(), delivered)
            self.spool.save(job)
            (self.spool.aux / job.id).unlink(missing_ok=True)
            Cycle(self.spool, self.server).run()


def _become(
    job: Job, environment: dict[str, str], command: list[str], files: dict[str, int], go: int, script: bytes
) -> None:
    """In the child: wait for the word, then turn into the job's top process. Does not return."""
    try:
        os.setsid()
        if os.read(go, 1) != b"g":
            os._exit(255)
        text_read, text_write = os.pipe()
        os.write(text_write, script)
        os.close(text_write)
        for target, source in ((0, text_read), (1, files["o"]), (2, files["e"])):
            os.dup2(source, target)
        os.umask(output.umask(job))
        os.chdir(home(job))
        if "cput" in job.resources:
            limit_s = seconds(job.resources["cput"])
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        executable, *arguments = command if not job.command else [command[0], *command]
        try:
            os.execvpe(executable, arguments, environment)  # noqa: S606 - no shell is wanted
        except OSError as error:
            os.write(2, f"pbs_mom, exec of {executable} failed with error: {error.strerror}\n".encode())
            os._exit(254)
    finally:
        os._exit(254)


def supervise(spool: Spool, seq: int, cookie: str, guard: int) -> int:
    """The supervisor's main program. `guard` is the open, locked file that says it is alive."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGUSR1))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a job in its care must not lose its record to a log-out
    os.set_inheritable(guard, False)
    os.closerange(3, guard)
    os.closerange(guard + 1, 1024)
    os.chdir("/")
    with spool.lock():  # whoever started us has finished writing
        job = spool.find(seq)
    if job is None or job.state != "R" or job.run.get("cookie") != cookie:
        return 0
    Supervisor(spool, spool.server(), job).run()
    return 0
