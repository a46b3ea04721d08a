"""A throwaway PBS: its own home, spool and commands, and nothing left running when it closes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.local.pbs import Queue, Vnode, install, output, processes
from reconciler.local.pbs.config import user_name
from reconciler.local.pbs.job import Job
from reconciler.local.pbs.spool import Spool

QUEUES = (
    Queue("workq", kill_delay_s=1),
    Queue("debug", max_walltime=3600, default_walltime=600, kill_delay_s=1),
    Queue("limited", max_queued=2, kill_delay_s=1),
    Queue("idle", started=False),
    Queue("closed", enabled=False),
    Queue("route", route_to="debug"),
)
WAIT_S = 20.0


class Answer(NamedTuple):
    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def complaint(self) -> str:
        return self.stderr.decode("utf-8", "surrogateescape")


class Machine:
    """Commands in `bin`, jobs in `spool`, people's files in `home`."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.work = self.home / "run"
        self.bin = root / "bin"
        self.spool = Spool(root / "spool")
        self.user = user_name()
        self.work.mkdir(parents=True)
        self.configure()
        self.environment = {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "LOGNAME": "alcf",
            "USER": "alcf",
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "MAIL": "/var/mail/alcf",
            "SHELL": "/bin/bash",
            "TZ": "UTC",
        }

    def configure(
        self,
        *,
        nodes: Sequence[Vnode] = (Vnode("pbs-host", 8),),
        queues: Sequence[Queue] = QUEUES,
        **settings: Any,
    ) -> None:
        install(self.bin, self.spool.root, server="pbs-host", nodes=nodes, queues=queues, **settings)

    def sh(self, command: str, **more: str) -> Answer:
        """Run a line of shell in the work directory."""
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.work,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def qsub(self, script: str, *options: str, env: dict[str, str] | None = None) -> str:
        """Submit a script on standard input; the job's id."""
        done = subprocess.run(
            [str(self.bin / "qsub"), *options],
            input=script.encode(),
            cwd=self.work,
            env={**self.environment, **(env or {})},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs, live and ended, as `qstat -x -f -F json` shows them."""
        text = self.sh("qstat -x -f -F json").stdout.decode("utf-8", "replace")
        found: dict[str, dict[str, Any]] = json.loads(text).get("Jobs", {})
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        return self.jobs()[job_id]

    def wait(self, job_id: str, states: str = "F") -> Job:
        """Look at the record until the job is in one of the states, without running a command over the spool."""
        deadline = time.monotonic() + WAIT_S
        seq = int(job_id.split(".")[0])
        while (found := self.spool.find(seq)) is None or found.state not in states:
            assert time.monotonic() < deadline, f"{job_id} is {found and found.state}, not {states}"
            time.sleep(0.02)
        return found

    def next_id(self, seq: int) -> None:
        (self.spool.root / "server_priv" / "next_id").write_text(str(seq))

    def age(self, seconds: int) -> None:
        """Make the history older."""
        for path in [*self.spool.history.iterdir(), self.spool.root / "server_priv" / "swept"]:
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))

    def supervisor(self, job_id: str) -> int:
        """The pid of a running job's supervisor, once it has told."""
        deadline = time.monotonic() + WAIT_S
        while "supervisor" not in (found := self.wait(job_id, "R")).run:
            assert time.monotonic() < deadline, f"{job_id} has not begun"
            time.sleep(0.02)
        return int(found.run["supervisor"])

    def close(self) -> None:
        """Kill every process of this PBS and wait until they are gone."""
        mark = os.fsencode(str(self.spool.root))
        mine = self._mine(mark)
        deadline = time.monotonic() + 5
        while mine and time.monotonic() < deadline:
            for pid in mine:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)
            mine = self._mine(mark)
        assert not mine, f"left running: {mine}"
        for job in self.spool.live().values():
            if "cookie" in job.run:
                shutil.rmtree(output.temporary_directory(job), ignore_errors=True)

    def _mine(self, mark: bytes) -> list[int]:
        """Supervisors and commands name the spool in their arguments, jobs in their environment."""
        found = []
        for entry in processes.table():
            try:
                place = Path("/proc") / str(entry.pid)
                named = mark in (place / "cmdline").read_bytes() or mark in (place / "environ").read_bytes()
            except OSError:
                continue
            if named and entry.pid != os.getpid():
                found.append(entry.pid)
        return found
