"""One job of the simulated server, and how qstat prints it: JSON and the plain form, as OpenPBS 23.06 does."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass

from tests.sim.machine import OpenFile
from tests.sim.script import Script
from tests.sim.system import USER

Steps = Generator[float, None, int]


@dataclass(eq=False)
class Job:
    """One job as the server has it."""

    number: int
    key: str
    workspace: str
    text: str
    script: Script
    queued_at: float
    state: str = "Q"
    substate: int = 10
    exit: int | None = None
    comment: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    changed_at: float = 0.0
    unlisted_until: float = 0.0
    forgotten: bool = False
    starts: int = 0
    steps: Steps | None = None
    holder: OpenFile | None = None
    node: str = ""
    writing: bool = False
    stuck: bool = False

    @property
    def id(self) -> str:
        return f"{self.number}.pbs-host"

    @property
    def attempt(self) -> str:
        return "/".join(self.key.split("/")[:3])

    @property
    def kind(self) -> str:
        return self.key.split("/")[5]

    @property
    def over(self) -> bool:
        return self.state == "F"


def date(at: float) -> str:
    return time.asctime(time.gmtime(at))


def as_json(now: float, jobs: dict[str, dict[str, object]]) -> bytes:
    """`qstat -f -F json`."""
    head = {"timestamp": int(now), "pbs_version": "23.06.06", "pbs_server": "pbs-host"}
    return json.dumps({**head, "Jobs": jobs} if jobs else head, indent="\t").encode()


def attributes(job: Job) -> dict[str, object]:
    """What qstat tells of a job."""
    told: dict[str, object] = {
        "Job_Name": job.script.name,
        "Job_Owner": f"{USER}@pbs-host",
        "job_state": job.state,
        "queue": job.script.queue,
        "mtime": date(job.changed_at),
        "qtime": date(job.queued_at),
        "Resource_List": {"nodect": job.script.nodes, "select": job.script.nodes},
        "substate": job.substate,
        "Variable_List": {"PBS_O_LOGNAME": USER, "CPT_KEY": job.key, "CPT_WORKSPACE": job.workspace},
    }
    for name, value in (
        ("comment", job.comment or None),
        ("Exit_status", job.exit),
        ("stime", job.started_at and date(job.started_at)),
        ("obittime", date(job.ended_at) if job.ended_at and job.started_at else None),
        ("history_timestamp", int(job.ended_at) if job.ended_at else None),
    ):
        if value is not None:
            told[name] = value
    return told


def as_text(jobs: dict[str, dict[str, object]]) -> bytes:
    """`qstat -f` in its plain form: long lines are folded with a tab."""
    text = ""
    for job_id, attributes in jobs.items():
        text += f"Job Id: {job_id}\n"
        for name, value in attributes.items():
            if name == "Variable_List" and isinstance(value, dict):
                text += "    Variable_List = " + ",\n\t".join(f"{n}={v}" for n, v in value.items()) + "\n"
            elif isinstance(value, dict):
                text += "".join(f"    {name}.{part} = {inner}\n" for part, inner in value.items())
            else:
                text += f"    {name} = {value}\n"
        text += "\n"
    return text.encode()
