"""The server's settings: queues, nodes and history, kept in `server.json` of the spool."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

VERSION = "23.06.06"  # the OpenPBS release whose answers this package gives
FLAGS = ("-I", "-S", "-X", "utf8")  # isolated and without site: a command must start in some tens of milliseconds
PROJECT = "_pbs_project_default"


class Queue(NamedTuple):
    """A queue. Times are whole seconds; None means without limit; `route_to` names the queue a routing one feeds."""

    name: str
    enabled: bool = True
    started: bool = True
    max_walltime: int | None = None
    default_walltime: int | None = None
    max_queued: int | None = None
    kill_delay_s: int = 10
    route_to: str | None = None


class Vnode(NamedTuple):
    """A virtual node: the name that node files carry, and how many cpus jobs may take on it."""

    name: str
    ncpus: int


class Server(NamedTuple):
    """Everything a command needs to know besides the jobs.

    `resources` are the site's own string resources for `-l`; `environment` is given to every job, as
    `pbs_environment` does; `managers` are users who may set and release operator and system holds and raise limits;
    `exclusive` gives each job its nodes whole, whatever `place` says.
    """

    name: str
    nodes: tuple[Vnode, ...]
    queues: tuple[Queue, ...]
    bin_dir: str
    history: bool = True
    history_duration_s: int = 1_209_600
    exclusive: bool = False
    resources: tuple[str, ...] = ("filesystems",)
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed in place
    managers: tuple[str, ...] = ()

    def queue(self, name: str) -> Queue | None:
        return next((queue for queue in self.queues if queue.name == name), None)

    @property
    def default_queue(self) -> Queue:
        return self.queues[0]

    def ncpus(self) -> int:
        return sum(node.ncpus for node in self.nodes)


def server_from(document: dict[str, Any]) -> Server:
    """Build the settings from the parsed `server.json`; unknown keys are a TypeError."""
    fields = dict(document)
    fields["nodes"] = tuple(Vnode(**node) for node in document["nodes"])
    fields["queues"] = tuple(Queue(**queue) for queue in document["queues"])
    for name in ("resources", "managers"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return Server(**fields)


def write_server(path: Path, server: Server) -> None:
    """Write `server.json` whole or not at all."""
    document = server._asdict()
    document["nodes"] = [node._asdict() for node in server.nodes]
    document["queues"] = [queue._asdict() for queue in server.queues]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as out:
        json.dump(document, out, indent=2)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def user_name() -> str:
    """The caller's login name; the number where the password file does not know it."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
