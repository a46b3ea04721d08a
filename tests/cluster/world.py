"""A workspace and a small PBS in a folder, and the real agent run against them as a real process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.cluster import frames
from reconciler.cluster.batch import Batch, BatchAction, Outcome
from reconciler.cluster.execute import execute
from reconciler.cluster.observe import ObserveRequest, agent_source, observe
from reconciler.cluster.process import ProcessTransport
from reconciler.model.observed import Observed
from reconciler.model.plan import Action, ActionKey, ActionKind, FileWrite, JobRequest

CAMPAIGN, STAGE, ATTEMPT = "demo", "stage-1", "0123456789ab"
FOLDER = f"{CAMPAIGN}/{STAGE}/{ATTEMPT}"
SCRIPT = "#!/bin/bash\necho train\n"
PROGRAM = Path(__file__).parent / "small_pbs.py"


@dataclass(frozen=True)
class World:
    """One cluster in a folder."""

    top: Path

    @property
    def workspace(self) -> Path:
        return self.top / "workspace"

    @property
    def spool(self) -> Path:
        return self.top / "spool"

    @property
    def link(self) -> ProcessTransport:
        return ProcessTransport((str(self.top / "bin"),))

    @property
    def attempt(self) -> Path:
        return self.workspace / FOLDER

    def build(self) -> World:
        for folder in (self.spool, self.top / "bin"):
            folder.mkdir()
        for program in ("qsub", "qselect", "qstat"):
            path = self.top / "bin" / program
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAM} {self.spool} {program} "$@"\n')
            path.chmod(0o755)
        return self

    def control(self, **values: object) -> None:
        (self.spool / "control.json").write_text(json.dumps(values))

    def jobs(self) -> dict[str, str]:
        """Id → key of everything that was ever queued."""
        return {
            f"{path.stem}.small": json.loads(path.read_text())["Variable_List"]["CPT_KEY"]
            for path in sorted(self.spool.glob("*.job"))
        }

    def alter(self, job_id: str, **values: object) -> None:
        path = self.spool / f"{job_id.split('.')[0]}.job"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def later(self, seconds: float) -> None:
        """As if so much time had passed since the qsubs that left no answer were over."""
        for path in (self.workspace / ".journal").glob("*.json"):
            entry = json.loads(path.read_text())
            if "over" in entry:
                path.write_text(json.dumps(entry | {"over": entry["over"] - seconds}))

    def calls(self, program: str) -> int:
        return sum(call.split()[0] == program for call in self.called())

    def called(self) -> list[str]:
        """Every command that was run, with its arguments."""
        path = self.spool / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def execute(self, *actions: Action, script: str = SCRIPT, retry: bool = False, **batch: Any) -> tuple[Outcome, ...]:
        return execute(self.link, self.batch(*actions, script=script, retry=retry, **batch))

    def batch(self, *actions: Action, script: str = SCRIPT, retry: bool = False, **values: Any) -> Batch:
        return Batch(
            workspace=str(self.workspace),
            campaign=CAMPAIGN,
            holder="ada@desk:1",
            commit="c0ffee",
            dirty=False,
            actions=tuple(BatchAction(action, script if action.job else None, retry) for action in actions),
            **values,
        )

    def observe(self, *lists: str, **request: Any) -> Observed:
        return observe(self.link, ObserveRequest(str(self.workspace), CAMPAIGN, lists, **request))

    def started(self, batch: Batch, prologue: str = "", **environment: str) -> Running:
        """The agent with this batch as a process of its own, `prologue` (Python) in front of its source."""
        recorder = Recorder()
        with contextlib.suppress(Recorded):
            execute(recorder, batch)
        assert recorder.stdin is not None
        size = len(agent_source())
        source, rest = recorder.stdin[:size], recorder.stdin[size:]
        source = prologue.encode() + source
        path = f"{self.top / 'bin'}:{os.environ['PATH']}"
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", frames.BOOT, str(len(source))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PATH": path} | environment,
        )
        assert child.stdin is not None
        child.stdin.write(source + rest)
        child.stdin.close()
        child.stdin = None
        return Running(child)


@dataclass(frozen=True)
class Running:
    """An agent that may be killed."""

    child: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()

    def finish(self) -> tuple[int, bytes]:
        output, errors = self.child.communicate(timeout=60)
        assert not errors or self.child.returncode != 0, errors
        return self.child.returncode, output


class Recorded(Exception):
    pass


class Recorder:
    """Takes the request that would be sent."""

    host = "nowhere"
    stdin: bytes | None = None

    def exec(self, argv: Any, stdin: bytes, timeout_s: float) -> bytes:
        self.stdin = stdin
        raise Recorded


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def train(leg: int = 0, ended: int = 0, attempt: str = ATTEMPT, kind: ActionKind = ActionKind.TRAIN) -> Action:
    """A training job as the planner makes it."""
    folder = f"{CAMPAIGN}/{STAGE}/{attempt}"
    stem = f"l{leg}-n{ended}-{kind}"
    return Action(
        key=ActionKey(CAMPAIGN, STAGE, attempt, leg, ended, kind),
        reason="TrainingStarts",
        summary="train",
        files=(
            FileWrite(f"{folder}/recipe.json", '{"data_parallel": 2}\n'),
            FileWrite(f"{folder}/lists/a.txt", "1 a\n"),
        ),
        directories=(f"{folder}/leg-{leg}",),
        remove=(f"{folder}/stop",),
        job=JobRequest(
            name="x",
            template="train",
            nodes=1,
            walltime_s=60,
            queue="workq",
            account=None,
            filesystems=(),
            script=f"{folder}/jobs/{stem}.pbs",
            log=f"{folder}/jobs/{stem}.log",
            values={},
        ),
    )


def write(path: str, text: str, ended: int = 0, kind: ActionKind = ActionKind.JUDGE) -> Action:
    """An action that only writes a file."""
    return Action(
        key=ActionKey(CAMPAIGN, STAGE, ATTEMPT, 0, ended, kind, "final"),
        reason="VerdictDue",
        summary="judge",
        files=(FileWrite(path, text),),
    )
