"""Simulated login nodes and processes. Each call of a process that reaches the kernel is a *point*: there it can be
killed, the call can fail, or somebody else's whole pass can run first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.sim.disk import Disk, Inode


class Killed(BaseException):
    """The process is dead: nothing that it still says has an effect."""


@dataclass(eq=False)
class Node:
    """One machine: its name, this boot of it, its processes, and how wrong its clock is."""

    name: str
    boot: str
    skew_s: float = 0.0
    pids: dict[int, str] = field(default_factory=dict)
    next_pid: int = 1000
    children: list[Any] = field(default_factory=list)
    """qsubs that run on it, whether or not their agent still does."""

    def spawn(self) -> int:
        self.next_pid += 1
        self.pids[self.next_pid] = str(self.next_pid * 7)
        return self.next_pid


class Cluster(Protocol):
    """What a process needs of the world around it."""

    disk: Disk

    @property
    def now(self) -> float: ...
    def pass_time(self, until: float) -> None: ...
    def renames(self, path: str, to: str, process: Process) -> None: ...
    def deletes(self, path: str, process: Process) -> None: ...
    def command(
        self, argv: list[str], process: Process, files: tuple[Inode, Inode] | None, held: OpenFile | None
    ) -> Child: ...


class Child(Protocol):
    """A PBS command that was started."""

    ready_at: float

    def finish(self) -> tuple[int, bytes, bytes]: ...


@dataclass(eq=False)
class OpenFile:
    """An open file: what a descriptor names, and what holds a lock."""

    inode: Inode
    path: str
    flags: int
    at: int = 0
    holders: int = 1
    """Processes that have it open: a lock goes with the last of them."""

    def closed(self, disk: Disk) -> None:
        self.holders -= 1
        if self.holders == 0:
            disk.unlock(self)


Trap = Callable[[int, str, str], OSError | None]
"""Called with the number, the name and the path of each point; it may kill, run others, or return an error."""


class Process:
    """One run of the agent."""

    def __init__(self, cluster: Cluster, node: Node, trap: Trap | None = None) -> None:
        self.cluster, self.node, self.trap = cluster, node, trap
        self.pid = node.spawn()
        self.dead = False
        self.begun = cluster.now
        self.points = 0
        self.files: dict[int, OpenFile] = {}
        self.pipes: dict[int, Any] = {}
        self.next_fd = 3
        self.blind = ""
        """Why this process could not see something it asked for."""

    @property
    def disk(self) -> Disk:
        return self.cluster.disk

    def point(self, name: str, path: str = "") -> None:
        """Before each call; what the trap returns is the call's failure."""
        if self.dead:
            raise Killed
        self.points += 1
        if self.trap is not None:
            failure = self.trap(self.points, name, path)
            if self.dead:
                raise Killed
            if failure is not None:
                raise failure

    def die(self) -> None:
        self.dead = True
        self.end()

    def end(self) -> None:
        """Descriptors close, and with them go the locks that no child shares."""
        self.node.pids.pop(self.pid, None)
        for opened in self.files.values():
            opened.closed(self.disk)
        self.files.clear()

    def select(self, pipes: list[Any], _w: object, _x: object, left: float) -> tuple[list[Any], list[Any], list[Any]]:
        until = min(pipes[0].child.ready_at, self.cluster.now + left)
        self.cluster.pass_time(until)
        return ([pipe for pipe in pipes if pipe.child.ready_at <= self.cluster.now], [], [])
