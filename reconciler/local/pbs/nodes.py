"""pbsnodes: the virtual nodes and who is on them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from reconciler.local.pbs import options, place, show
from reconciler.local.pbs.config import VERSION, Server, Vnode
from reconciler.local.pbs.job import Job
from reconciler.local.pbs.refusals import Usage, unsupported
from reconciler.local.pbs.schedule import Cycle
from reconciler.local.pbs.spool import Spool

USAGE = """\
usage:
	pbsnodes [-a|-l] [-v] [-F json] [node …]
	pbsnodes --version
"""
UNKNOWN = "Unknown node "


def main(spool: Spool, server: Server, argv: list[str]) -> int:
    """pbsnodes. An unknown node is rc 0 and a string where its attributes would be, as in PBS, for JSON."""
    found, names = options.parsed(argv, "alvjSF:", "pbsnodes")
    letters = dict(found)
    if "S" in letters:
        raise unsupported("-S")
    if letters.get("F", "json") != "json" or not (names or {"a", "l"} & letters.keys()):
        raise Usage()
    with spool.lock():
        cycle = Cycle(spool, server)
        cycle.run()
        changed = int(spool.settings.stat().st_mtime)
    if "l" in letters:
        return 0  # nothing is ever down or offline here
    running = [job for job in cycle.live.values() if job.state in "RE"]
    wanted = names or [node.name for node in server.nodes]
    pages: list[tuple[str, Any]] = []
    for name in wanted:
        node = next((entry for entry in server.nodes if entry.name == name), None)
        pages.append((name, [(name, UNKNOWN)] if node is None else _members(server, node, running, changed)))
    if "F" in letters:
        header = [("timestamp", int(time.time())), ("pbs_version", VERSION), ("pbs_server", server.name)]
        sys.stdout.write(show.json_page([*header, ("nodes", pages)]))
        return 0
    return _text(pages)


def _members(server: Server, node: Vnode, running: list[Job], changed: int) -> list[tuple[str, Any]]:
    mine = [job for job in running if any(name == node.name for name, _, _ in job.vnodes)]
    taken = sum(ncpus for job in mine for name, ncpus, _ in job.vnodes if name == node.name)
    free = place.free_cpus(server, mine)[node.name]
    exclusive = any(job.exclusive for job in mine)
    members: list[tuple[str, Any]] = [
        ("Mom", server.name),
        ("ntype", "PBS"),
        ("state", "job-exclusive" if exclusive else "free" if free else "job-busy"),
        ("pcpus", os.cpu_count() or 1),
    ]
    if mine:
        members.append(("jobs", [job.id for job in mine]))
    available = [
        ("arch", "linux"),
        ("host", node.name),
        ("mem", _memory()),
        ("ncpus", node.ncpus),
        ("vnode", node.name),
    ]
    members += [
        ("resources_available", available),
        ("resources_assigned", [("ncpus", taken)] if taken else show.Raw("{}")),
        ("resv_enable", "True"),
        ("sharing", "force_excl" if server.exclusive else "default_shared"),
        ("license", "l"),
        ("last_state_change_time", changed),
    ]
    if mine:
        members.append(("last_used_time", max(int(job.attributes["stime"]) for job in mine)))
    return members


def _memory() -> str:
    """This machine's memory, as each node claims it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next((f"{line.split()[1]}kb" for line in lines if line.startswith("MemTotal:")), "0kb")


def _text(pages: list[tuple[str, Any]]) -> int:
    code = 0
    for name, members in pages:
        if members == [(name, UNKNOWN)]:
            print(f"Node: {name},  Error: Unknown node ", file=sys.stderr)
            code = 1
            continue
        print(name)
        for key, value in members:
            if key == "jobs":
                print(f"     jobs = {', '.join(f'{entry}/0' for entry in value)}")
            elif isinstance(value, list):
                for part, item in value:
                    print(f"     {key}.{part} = {item}")
            elif not isinstance(value, show.Raw):
                print(f"     {key} = {time.ctime(value) if key.endswith('_time') else value}")
        print()
    return code
