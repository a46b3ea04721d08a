"""A compute node in a folder: a real bash runs rendered job scripts; what they call only notes the call."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reconciler.cluster.render import render
from reconciler.model.plan import JobRequest

NOTE = """\
note() { # program, arguments …: one file for each call, whole when it appears
    mkdir -p "$NODE/calls"
    { printf '%s\\0' "$#" "$@" "$PWD" && env -0; } >"$NODE/calls.$$" && mv "$NODE/calls.$$" "$NODE/calls/$$"
}
"""
LAUNCHER = f"""{NOTE}
if [ -d "$CKPT_DIR" ]; then env >"$CKPT_DIR/.env"; fi # what the real one does: ALCF/helpers.sh, save_dotenv
note train_alcf.sh "$@"
while [ -e "$NODE/hold" ]; do sleep 0.02; done
exit "$(cat "$NODE/status" 2>/dev/null || echo 0)"
"""
PYTHON = f'#!/bin/bash\n{NOTE}\nnote python3 "$@"\n'
QSTAT = '#!/bin/bash\nexit "$(cat "$NODE/qstat/$2" 2>/dev/null || echo 153)"\n'
"""The status for each id is in a file: 0 live, 35 finished, 153 unknown, 255 no answer."""
FLOCK = '#!/bin/bash\n[ ! -e "$NODE/no-flock" ] || exit 71\nexec /usr/bin/flock "$@"\n'


@dataclass(frozen=True)
class Call:
    """One call of the launcher or the converter, as it saw it."""

    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Node:
    """Everything of one node lies below `top`."""

    top: Path

    @property
    def attempt(self) -> Path:
        return self.top / "attempt"

    @property
    def checkout(self) -> Path:
        return self.top / "launcher"

    def build(self) -> Node:
        for folder in (self.attempt / "leg-0", self.top / "bin", self.top / "qstat"):
            folder.mkdir(parents=True)
        self.furnish(self.checkout)
        for name, text in {"python3": PYTHON, "qstat": QSTAT, "flock": FLOCK}.items():
            (self.top / "bin" / name).write_text(text)
            (self.top / "bin" / name).chmod(0o755)
        return self

    @staticmethod
    def furnish(checkout: Path) -> None:
        """A checkout of the launcher."""
        checkout.mkdir(parents=True, exist_ok=True)
        (checkout / "train_alcf.sh").write_text(LAUNCHER)
        (checkout / "environment.sh").touch()

    def job(self, template: str = "train", **values: object) -> JobRequest:
        """A job of this node's attempt; `values` stand in place of its own."""
        environment = {"CKPT_DIR": f"{self.attempt}/leg-0", "LR": "1e-3"}
        launch: dict[str, object] = {"environment": environment, "arguments": ["--seed=1"]}
        if template == "evaluate":
            environment |= {"DATA_FILE_LIST": "/lists/val.txt", "EVAL_ITERS": "2"}
            launch["log"] = f"{self.attempt}/val.log"
        return JobRequest(
            name="stage-1.train.0",
            template=template,
            nodes=1,
            walltime_s=3661,
            queue="workq",
            account=None,
            filesystems=(),
            script="s.pbs",
            log="s.log",
            values={
                "machine": "local",
                "checkout": str(self.checkout),
                "attempt_folder": str(self.attempt),
                "key": "c/s/0/l0/n0/train",
                "ranks_per_node": 1,
                "launches": [launch],
                "tool": "/tool.py",
                "source": "/source",
                "target": "/target",
                "data_parallel": 2,
            }
            | values,
            header=dict.fromkeys(("campaign", "stage", "strategy", "attempt", "what", "commit", "templates"), "x"),
        )

    def start(self, job: JobRequest, **environment: str) -> subprocess.Popen[str]:
        """The rendered script in a session of its own, as PBS starts it; what it prints is to be read."""
        script = self.top / f"{environment.get('PBS_JOBID', 'job')}.pbs"
        script.write_text(render(job, "/w/log"))
        return subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile", str(script)],
            cwd=self.top,
            env={"PATH": f"{self.top}/bin:/usr/bin:/bin", "NODE": str(self.top), "PBS_JOBID": "1.pbs"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, job: JobRequest, **environment: str) -> tuple[int, str]:
        """(exit status, log) of a job that runs to its end."""
        child = self.start(job, **environment)
        log, _ = child.communicate(timeout=60)
        return child.returncode, log

    def calls(self) -> list[Call]:
        """Every call so far."""
        found = []
        for path in sorted((self.top / "calls").glob("*")):
            parts = os.fsdecode(path.read_bytes()).split("\0")[:-1]
            count = int(parts[0])
            environment = dict(part.split("=", 1) for part in parts[count + 2 :])
            found.append(Call(tuple(parts[1 : count + 1]), parts[count + 1], environment))
        return found

    def files(self) -> set[str]:
        """Every file of the node, with its size, but for scripts."""
        return {
            f"{path.relative_to(self.top)} {path.stat().st_size}"
            for path in self.top.rglob("*")
            if path.is_file() and path.parent != self.top
        }
