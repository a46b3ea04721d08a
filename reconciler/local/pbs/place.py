"""Which nodes a job gets. Pure: a cluster's free cpus and a request in, chunks on nodes or a reason out."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.local.pbs.config import Server
from reconciler.local.pbs.job import Job
from reconciler.local.pbs.resources import Chunk, chunks

NOT_NOW = "Not Running: Not enough free nodes available"
Placed = list[tuple[str, int, dict[str, str]]]


def free_cpus(server: Server, running: Iterable[Job]) -> dict[str, int]:
    """Cpus left on each node; a node that is somebody's alone has none."""
    left = {node.name: node.ncpus for node in server.nodes}
    for job in running:
        for name, ncpus, _ in job.vnodes:
            if name in left:
                left[name] = 0 if job.exclusive else max(0, left[name] - ncpus)
    return left


def wants_whole_nodes(server: Server, job: Job) -> bool:
    return server.exclusive or bool({"excl", "exclhost"} & set(job.resources["place"].split(":")))


def place(server: Server, job: Job, left: dict[str, int]) -> Placed | None:
    """Chunks on nodes, first fit in the nodes' order; None when they do not fit now."""
    total = {node.name: node.ncpus for node in server.nodes}
    whole = wants_whole_nodes(server, job)
    room = {name: cpus for name, cpus in left.items() if not whole or cpus == total[name]}
    wanted = [chunk for term in chunks(job.resources["select"], server) for chunk in [term] * term.copies]
    arrangement = job.resources["place"].split(":")[0]
    if arrangement == "pack":
        return _packed(wanted, room)
    placed: Placed = []
    for chunk in wanted:
        name = _first_fit(chunk, room)
        if name is None:
            return None
        placed.append((name, chunk.ncpus, chunk.resources))
        if arrangement in ("scatter", "vscatter"):
            del room[name]
        else:
            room[name] -= chunk.ncpus
    return placed


def _packed(wanted: list[Chunk], room: dict[str, int]) -> Placed | None:
    needed = sum(chunk.ncpus for chunk in wanted)
    allowed = [name for name, cpus in room.items() if cpus >= needed and all(_may(chunk, name) for chunk in wanted)]
    return [(allowed[0], chunk.ncpus, chunk.resources) for chunk in wanted] if allowed else None


def _first_fit(chunk: Chunk, room: dict[str, int]) -> str | None:
    return next((name for name, cpus in room.items() if cpus >= chunk.ncpus and _may(chunk, name)), None)


def _may(chunk: Chunk, name: str) -> bool:
    return all(chunk.resources.get(key, name) == name for key in ("host", "vnode"))


def never(server: Server, job: Job) -> str | None:
    """Why a job can never run here, in PBS's words; None when it can on an empty cluster."""
    wanted, total = int(job.resources["ncpus"]), server.ncpus()
    if wanted > total:
        return f"Can Never Run: Insufficient amount of resource: ncpus (R: {wanted} A: {total} T: {total})"
    if place(server, job, {node.name: node.ncpus for node in server.nodes}) is None:
        return "Can Never Run: Not enough total nodes available"
    return None


def exec_host(placed: Placed, server: Server) -> str:
    """`node/slot*cpus+…`; the slot numbers a job's chunks on a node."""
    slots: dict[str, int] = {}
    parts = []
    for name, ncpus, _ in placed:
        slot = slots.get(name, 0)
        slots[name] = slot + 1
        parts.append(f"{name}/{slot}" + (f"*{ncpus}" if ncpus > 1 else ""))
    return "+".join(parts)


def exec_vnode(placed: Placed) -> str:
    return "+".join(f"({name}:ncpus={ncpus})" for name, ncpus, _ in placed)
