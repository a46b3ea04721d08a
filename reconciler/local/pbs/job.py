"""A job's record: PBS attributes as strings, as the server keeps them, and what the supervisor needs to know."""

from __future__ import annotations

from typing import Any

# Where the record's attributes stand in `qstat -f`; grouped ones are marked by the group they come from.
ORDER = (
    "Job_Name",
    "Job_Owner",
    "resources_used",
    "job_state",
    "queue",
    "server",
    "Account_Name",
    "Checkpoint",
    "ctime",
    "depend",
    "Error_Path",
    "Execution_Time",
    "exec_host",
    "exec_vnode",
    "Hold_Types",
    "Join_Path",
    "Keep_Files",
    "Mail_Points",
    "Mail_Users",
    "mtime",
    "Output_Path",
    "Priority",
    "qtime",
    "Remove_Files",
    "Rerunable",
    "Resource_List",
    "stime",
    "obittime",
    "Shell_Path_List",
    "session_id",
    "jobdir",
    "substate",
    "Variable_List",
    "comment",
    "etime",
    "umask",
    "run_count",
    "Stageout_status",
    "Exit_status",
    "Submit_arguments",
    "executable",
    "argument_list",
    "history_timestamp",
    "project",
    "Submit_Host",
)
TIMES = frozenset(("ctime", "mtime", "qtime", "stime", "obittime", "etime", "Execution_Time"))

QUEUED, HELD, HELD_BY_DEPENDENCY, WAITING, STARTING, RUNNING, EXITING = 10, 20, 22, 30, 41, 42, 51
DELETED, ENDED, FAILED = 91, 92, 93


class Job:
    """One job. `attributes` hold what PBS shows (times as epoch seconds); `run` is private to this package.

    `run` has `cookie` (marks the job's processes), `supervisor`, `session`, `start` and `boot` (who they are),
    `kill` ("term" or "force", once a deletion was asked for) and `walltime_exceeded`.
    """

    def __init__(self, seq: int, server: str) -> None:
        self.seq = seq
        self.server = server
        self.attributes: dict[str, str] = {}
        self.resources: dict[str, str] = {}
        self.used: dict[str, str] = {}
        self.variables: list[tuple[str, str]] = []
        self.depend: list[tuple[str, list[str]]] = []
        self.command: list[str] = []
        self.vnodes: list[tuple[str, int, dict[str, str]]] = []
        self.exclusive = False
        self.run: dict[str, Any] = {}

    @property
    def id(self) -> str:
        return f"{self.seq}.{self.server}"

    @property
    def name(self) -> str:
        return self.attributes["Job_Name"]

    @property
    def state(self) -> str:
        return self.attributes["job_state"]

    @property
    def substate(self) -> int:
        return int(self.attributes["substate"])

    @property
    def queue(self) -> str:
        return self.attributes["queue"]

    @property
    def user(self) -> str:
        return self.attributes["Job_Owner"].split("@", 1)[0]

    @property
    def holds(self) -> str:
        """The hold letters, "" when there are none (PBS shows that as "n")."""
        return self.attributes["Hold_Types"].replace("n", "")

    @property
    def exit_status(self) -> int | None:
        value = self.attributes.get("Exit_status")
        return None if value is None else int(value)

    @property
    def walltime_s(self) -> int | None:
        value = self.resources.get("walltime")
        if value is None:
            return None
        hours, minutes, seconds = value.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + int(seconds)

    def set(self, now: float, **attributes: str | int | None) -> None:
        """Change attributes (None removes one) and note the time of change."""
        for name, value in attributes.items():
            if value is None:
                self.attributes.pop(name, None)
            else:
                self.attributes[name] = str(value)
        self.attributes["mtime"] = str(int(now))

    def set_holds(self, now: float, holds: str) -> None:
        self.set(now, Hold_Types="".join(letter for letter in "uos" if letter in holds) or "n")

    def to_document(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Job:
        job = cls(document["seq"], document["server"])
        vars(job).update(document)
        job.variables = [(name, value) for name, value in document["variables"]]
        job.depend = [(kind, list(ids)) for kind, ids in document["depend"]]
        job.vnodes = [(name, ncpus, dict(more)) for name, ncpus, more in document["vnodes"]]
        return job
