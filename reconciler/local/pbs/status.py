"""qstat: jobs, queues and the server, in every form that the subset has."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from reconciler.local.pbs import options, processes, show, tables
from reconciler.local.pbs.config import VERSION, Queue, Server
from reconciler.local.pbs.identify import full_id, job_of
from reconciler.local.pbs.job import Job
from reconciler.local.pbs.refusals import (
    PBSE_FINISHED,
    PBSE_UNKNOWN_QUEUE,
    Refusal,
    Usage,
    unsupported,
)
from reconciler.local.pbs.resources import clock
from reconciler.local.pbs.schedule import Cycle
from reconciler.local.pbs.spool import Spool

USAGE = """\
usage: 
qstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format | -w] [-D delim] [ job_identifier... | destination... ]
qstat [-a|-i|-r|-H|-T] [-J] [-t] [-u user] [-n] [-s] [-G|-M] [-1] [-w]
	[ job_identifier... | destination... ]
qstat -Q [-f] [-F format] [-D delim] [ destination... ]
qstat -q [-G|-M] [ destination... ]
qstat -B [-f] [-F format] [-D delim] [ server_name... ]
qstat --version
"""
NO_HISTORY = "PBS is not configured to maintain job history"
USE_X = "Job has finished, use -x or -H to obtain historical job information"


class Asked:
    """The command line, understood."""

    def __init__(self, argv: list[str]) -> None:
        found, self.operands = options.parsed(argv, "f1JptxEF:wD:airHTu:nsGMQBq", "qstat")
        letters = {letter for letter, _ in found}
        values = dict(found)
        for letter in "JptTiGMq":
            if letter in letters:
                raise unsupported(f"-{letter}")
        self.full = "f" in letters
        self.format = values.get("F", "default")
        if self.format.lower() not in ("json", "dsv", "default"):
            raise Usage() if self.full else Usage("conflicting options.")
        self.delimiter = values.get("D", "|")
        self.history = "x" in letters or "H" in letters
        self.only_history = "H" in letters
        self.extended = "E" in letters
        self.wide = "w" in letters
        self.nodes = "n" in letters
        self.comment = "s" in letters
        self.one_line = "1" in letters
        self.users = [name.split("@")[0] for name in values["u"].split(",")] if "u" in letters else []
        self.running = "r" in letters
        self.alternative = bool(letters & set("aruHns")) or (self.wide and not self.full)
        self.kind = "Q" if "Q" in letters else "B" if "B" in letters else "jobs"
        if ("F" in letters and not self.full) or (self.full and self.alternative) or {"Q", "B"} <= letters:
            raise Usage("conflicting options.")
        self.operands = [operand for operand in self.operands if operand]

    @property
    def json(self) -> bool:
        return self.full and self.format.lower() == "json"


class Answer:
    """Jobs found and complaints made, in the order of the operands."""

    def __init__(self) -> None:
        self.groups: list[list[Job]] = []
        self.code = 0

    def complain(self, refusal: Refusal) -> None:
        print(f"qstat: {refusal.message}", file=sys.stderr)
        self.code = refusal.code


def main(spool: Spool, server: Server, argv: list[str]) -> int:
    """qstat. The return code is that of the last operand which could not be shown."""
    try:
        asked = Asked(argv)
    except Usage as usage:
        raise Usage(*(text if text.startswith("qstat") else f"qstat: {text}" for text in usage.complaints)) from None
    with spool.lock():
        cycle = Cycle(spool, server)
        cycle.run()
        past = spool.past() if server.history and (asked.history or asked.kind == "B") else {}
    if asked.kind == "Q":
        return _queues(cycle, asked)
    if asked.kind == "B":
        return _server(cycle, asked, len(past))
    if not asked.operands:
        jobs = [job for job in [*past.values(), *cycle.live.values()] if not asked.only_history or job.state == "F"]
        answer = Answer()
        answer.groups = [sorted(jobs, key=lambda job: job.seq)]
    elif asked.history and not server.history:
        print(f"qstat: {NO_HISTORY} {asked.operands[0]}", file=sys.stderr)
        answer = Answer()
    else:
        answer = _look_up(cycle, asked, list(past.values()))
    _print(answer, asked, server)
    return answer.code


def _look_up(cycle: Cycle, asked: Asked, past: list[Job]) -> Answer:
    answer = Answer()
    for operand in asked.operands:
        try:
            answer.groups.append(_found(cycle, asked, operand, past))
        except Refusal as refusal:
            if not (asked.extended and refusal.code in (153, 35)):
                answer.complain(refusal)
    if asked.extended:
        answer.groups.sort(key=lambda group: group[0].seq if group else 0)
    return answer


def _found(cycle: Cycle, asked: Asked, operand: str, past: list[Job]) -> list[Job]:
    """The jobs of one operand: an id, or a queue's name."""
    if not operand[0].isdigit():
        queue = cycle.server.queue(operand.partition("@")[0])
        if queue is None:
            raise Refusal(f"Unknown queue destination {operand}", PBSE_UNKNOWN_QUEUE)
        return [job for job in [*past, *cycle.live.values()] if job.queue == queue.name]
    try:
        full = full_id(operand, cycle.server.name)
    except Refusal as refusal:
        if refusal.message.startswith("cannot connect"):
            print("Unknown Host.", file=sys.stderr)
            raise Refusal(refusal.message, 255) from None
        raise
    job = job_of(cycle, full)
    if job.state == "F" and not asked.history:
        raise Refusal(f"{full} {USE_X}", PBSE_FINISHED)
    return [job]


def _print(answer: Answer, asked: Asked, server: Server) -> None:
    groups = answer.groups
    if asked.json and not asked.extended and asked.operands:
        groups = groups[:1]  # a defect of this release that clients must live with: only the first one is printed
    found = [job for group in groups for job in group]
    if asked.users:
        found = [job for job in found if job.user in asked.users]
    if asked.running:
        found = [job for job in found if job.state in "RE"]
    _measure(found)
    if asked.json:
        jobs: list[tuple[str, Any]] = [(job.id, show.members(show.rows(job))) for job in found]
        _out(show.json_page([*_header(server), *([("Jobs", jobs)] if jobs else [])]))
    elif asked.full and asked.format.lower() == "dsv":
        for job in found:
            _out(show.dsv(job.id, show.flat(show.rows(job)), asked.delimiter) + "\n")
    elif asked.full:
        _out("".join(show.text(job.id, show.flat(show.rows(job))) for job in found))
    elif found and asked.alternative:
        flags = {"wide": asked.wide, "nodes": asked.nodes, "comment": asked.comment, "line": asked.one_line}
        _out("\n".join([*tables.alternative(found, server.name, **flags), ""]))
    elif found:
        _out("\n".join([*tables.jobs(found), ""]))


def _measure(found: list[Job]) -> None:
    """What running jobs have used so far, from their processes."""
    running = [job for job in found if job.state == "R" and "session" in job.run]
    everybody = processes.table() if running else []
    for job in running:
        mine = [entry for entry in everybody if entry.session == job.run["session"]]
        elapsed_s = max(0, int(time.time()) - int(job.attributes["stime"]))
        cpu_s = int(sum(entry.cpu_s for entry in mine))
        job.used = {
            "cpupercent": str(100 * cpu_s // max(elapsed_s, 1)),
            "cput": clock(cpu_s),
            "mem": f"{sum(entry.rss_kb for entry in mine)}kb",
            "ncpus": job.resources["ncpus"],
            "vmem": f"{sum(entry.size_kb for entry in mine)}kb",
            "walltime": clock(elapsed_s),
        }


def _header(server: Server) -> list[tuple[str, Any]]:
    return [("timestamp", int(time.time())), ("pbs_version", VERSION), ("pbs_server", server.name)]


def _out(text: str) -> None:
    """Job names and variables may hold bytes that are no UTF-8: they go out as they came in."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


# Queues and the server ------------------------------------------------------------------------------------------


def _queues(cycle: Cycle, asked: Asked) -> int:
    answer = Answer()
    unknown = [name for name in asked.operands if cycle.server.queue(name) is None]
    names = [name for name in asked.operands if name not in unknown]
    for name in unknown:
        answer.complain(Refusal(f"Unknown queue {name}", PBSE_UNKNOWN_QUEUE))
    live = list(cycle.live.values())
    chosen = [queue for queue in cycle.server.queues if not asked.operands or queue.name in names]
    if asked.json:
        pages = [(queue.name, _queue_members(queue, live)) for queue in chosen]
        _out(show.json_page([*_header(cycle.server), *([("Queue", pages)] if pages else [])]))
    elif asked.full:
        for queue in chosen:
            lines = [show.wrapped(name, value) for name, value in show.flat(_as_rows(_queue_members(queue, live)))]
            _out("\n".join([f"Queue: {queue.name}", *lines, "", ""]))
    elif chosen:
        _out("\n".join([*tables.queues(cycle.server, live, names), ""]))
    return answer.code


def _queue_members(queue: Queue, live: list[Job]) -> list[tuple[str, Any]]:
    mine = [job for job in live if job.queue == queue.name]
    members: list[tuple[str, Any]] = [
        ("queue_type", "Route" if queue.route_to else "Execution"),
        ("total_jobs", len(mine)),
        ("state_count", tables.state_count(tables.counts(mine))),
    ]
    if queue.max_walltime is not None:
        members.append(("resources_max", [("walltime", clock(queue.max_walltime))]))
    if queue.default_walltime is not None:
        members.append(("resources_default", [("walltime", clock(queue.default_walltime))]))
    if queue.route_to:
        members.append(("route_destinations", queue.route_to))
    else:
        members += [("resources_assigned", _assigned(mine)), ("kill_delay", queue.kill_delay_s)]
    members += [("enabled", str(queue.enabled)), ("started", str(queue.started))]
    if queue.max_queued is not None:
        members.append(("max_queued", f"[u:PBS_GENERIC={queue.max_queued}]"))
    return members


def _assigned(jobs: list[Job]) -> list[tuple[str, Any]]:
    running = [job for job in jobs if job.state in "RE"]
    return [(name, sum(int(job.resources[name]) for job in running)) for name in ("ncpus", "nodect")]


def _as_rows(members: list[tuple[str, Any]]) -> show.Rows:
    found: show.Rows = []
    for name, value in members:
        found.append((name, [(key, str(item)) for key, item in value] if isinstance(value, list) else str(value)))
    return found


def _server(cycle: Cycle, asked: Asked, ended: int) -> int:
    live = list(cycle.live.values())
    members: list[tuple[str, Any]] = [
        ("server_state", "Active"),
        ("server_host", cycle.server.name),
        ("scheduling", "True"),
        ("total_jobs", len(live) + ended),
        ("state_count", tables.state_count(tables.counts(live))),
        ("default_queue", cycle.server.default_queue.name),
        ("resources_assigned", _assigned(live)),
        ("pbs_version", VERSION),
        ("job_history_enable", str(cycle.server.history)),
        ("job_history_duration", clock(cycle.server.history_duration_s)),
    ]
    if asked.json:
        _out(show.json_page([*_header(cycle.server), ("Server", [(cycle.server.name, members)])]))
    elif asked.full:
        lines = [show.wrapped(name, value) for name, value in show.flat(_as_rows(members))]
        _out("\n".join([f"Server: {cycle.server.name}", *lines, "", ""]))
    else:
        _out("\n".join([*tables.servers(cycle.server, live, ended), ""]))
    return 0
