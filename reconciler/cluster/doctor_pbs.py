"""What PBS told of itself → whether it takes the jobs that the manifests ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from reconciler.cluster.doctor_need import JobNeed, Need
from reconciler.cluster.doctor_report import Check, failed, ok, unread, warning
from reconciler.cluster.fields import Fields, printable
from reconciler.model.quantities import counted, format_walltime

TABLE_WARN_S: Final = 10.0
COMMANDS: Final = ("qsub", "qstat", "qselect")


def checks(pbs: Fields, need: Need) -> Iterator[Check]:
    """Commands, server, job table and every queue that jobs go to.

    Raises:
        Malformed: the answer is not as agreed.
    """
    commands = pbs.mapping("commands")
    missing = [name for name in COMMANDS if not commands.get(name)]
    if missing:
        where = "this machine" if not need.reach else "a shell that is no login shell"
        yield failed("pbs commands", f"{', '.join(missing)} not found on the PATH of {where}", _put_on_path(need))
        for name in names(need)[1:]:
            yield unread(name, "pbs commands")
        return
    yield ok("pbs commands", f"qsub, qstat and qselect in {printable(str(commands['qstat'])).rpartition('/')[0]}")
    yield _server(pbs.fields("server"), need)
    yield _table(pbs.fields("table"), need)
    queues = pbs.fields("queues")
    if queues.has("unread"):
        why, fix = queues.line("unread"), f"See what this says:\n    {need.there('qstat -Q -f -F json')}"
        yield from (failed(f"queue {name}", why, fix) for name in need.queues)
        return
    found = queues.mapping("read")
    yield from (_queue(name, found, need) for name in need.queues)


def names(need: Need) -> tuple[str, ...]:
    """The names of these checks, in order."""
    return ("pbs commands", "pbs server", "job table", *(f"queue {name}" for name in need.queues))


def _put_on_path(need: Need) -> str:
    if need.again:
        return f"Make the embedded cluster anew:\n    {need.again}"
    found = need.there("bash -lc 'command -v qstat'")
    return (
        f"See where they are:\n    {found}\n"
        "and name their folder in the Cluster's manifest:\n    transport: {..., path: [/opt/pbs/bin]}"
    )


def _server(server: Fields, need: Need) -> Check:
    look = f"See what this says:\n    {need.there('qstat -B')}"
    if server.has("unread"):
        return failed("pbs server", server.line("unread"), look)
    for name, about in server.mapping("read").items():
        about = about if isinstance(about, dict) else {}
        version = printable(str(about.get("pbs_version", "of unknown version")))[:40]
        if str(about.get("scheduling")) == "False":
            return warning("pbs server", f"{printable(name)} is not scheduling: jobs will wait", "Ask the site.")
        if str(about.get("job_history_enable")) != "True":
            return warning(
                "pbs server",
                f"{printable(name)} keeps no job history: how a job ended is told by its log alone",
                "Ask the site for job_history_enable.",
            )
        return ok("pbs server", f"{printable(name)}, PBS {version}, with job history")
    return failed("pbs server", "qstat -B names no server", look)


def _table(table: Fields, need: Need) -> Check:
    if table.has("unread"):
        return failed(
            "job table", table.line("unread"), f"See what this says:\n    {need.there('qselect -x -u $USER')}"
        )
    read = table.fields("read")
    jobs, lost, seconds = read.integer("jobs"), read.integer("unread"), read.number("seconds")
    told = f"{counted(jobs, 'job')} of yours, ended ones included, read in {seconds:.1f} s"
    if lost:
        look = need.there("qstat -x -f -F json JOBID")
        told += f"; {lost} of them could not be read, and a stage whose job that may be waits"
        return warning("job table", told, f"See what is odd about them:\n    {look}")
    if seconds > TABLE_WARN_S:
        return warning("job table", told, "Looks are slow here: give the Cluster a longer `poll`.")
    return ok("job table", told)


def _queue(name: str, found: Mapping[str, Any], need: Need) -> Check:
    title, about = f"queue {name}", found.get(name)
    if not isinstance(about, dict):
        there = ", ".join(printable(str(each)) for each in list(found)[:20])
        return failed(title, f"there is no such queue; there is {there or 'none'}", "Correct `queue` in the manifests.")
    if str(about.get("enabled")) == "False":
        return failed(title, "takes no jobs (enabled = False)", "Name another queue, or wait until the site opens it.")
    jobs = [job for job in need.jobs if job.queue == name]
    for job in jobs:
        refusal = _refusal(job, about, found)
        if refusal:
            return failed(title, f"{job.stage} asks for {refusal}", "Correct its `resources`, or name another queue.")
    if str(about.get("started")) == "False":
        return warning(title, "takes jobs and starts none (started = False)", "Jobs wait until the site starts it.")
    if name == need.queue:
        longest = JobNeed("", name, 1, need.max_walltime_s)
        refusal = _refusal(longest, about, found, only=("walltime",))
        if refusal:
            return warning(title, f"maxWalltime says {refusal}", "Correct `maxWalltime` in the Cluster's manifest.")
    return ok(title, f"takes the jobs of {counted(len(jobs), 'stage')}{_limits(about)}")


def _refusal(
    job: JobNeed, about: Mapping[str, Any], found: Mapping[str, Any], only: tuple[str, ...] = ("walltime", "nodect")
) -> str:
    """Why a queue, or every queue that it hands its jobs on to, does not take a job; "" if one does.

    A job that no destination of a routing queue takes vanishes without a word, even from the history.
    """
    own = _too_much(job, about, only)
    destinations = [name for name in re.split(r"[,\s]+", str(about.get("route_destinations", ""))) if name]
    if own or not destinations:
        return own
    told = []
    for name in destinations:
        target = found.get(name)
        if not isinstance(target, dict):
            return ""  # on another server: nothing is known of it
        why = "takes no jobs" if str(target.get("enabled")) == "False" else _too_much(job, target, only)
        if not why:
            return ""
        told.append(f"{printable(name)}: {why}")
    return f"what no queue that it hands on to takes ({'; '.join(told)})"


def _too_much(job: JobNeed, queue: Mapping[str, Any], only: tuple[str, ...]) -> str:
    asked = {"walltime": (job.walltime_s, _seconds, format_walltime), "nodect": (job.nodes, _whole, _nodes)}
    for member, word in (("resources_max", "most"), ("resources_min", "least")):
        limits = queue.get(member)
        for resource in only:
            wanted, read, shown = asked[resource]
            limit = read(limits.get(resource)) if isinstance(limits, dict) else None
            if limit is not None and (wanted > limit if word == "most" else wanted < limit):
                return f"{shown(wanted)}; the {word} is {shown(limit)}"
    return ""


def _limits(about: Mapping[str, Any]) -> str:
    limits = about.get("resources_max")
    if not isinstance(limits, dict):
        return ""
    told = [f"{key} {printable(str(limits[key]))}" for key in ("walltime", "nodect") if key in limits]
    return f"; at most {', '.join(told)}" if told else ""


def _nodes(count: int) -> str:
    return f"{count} node(s)"


def _seconds(value: Any) -> int | None:
    """`HH:MM:SS`, `MM:SS` or seconds, as PBS prints them."""
    if not re.fullmatch(r"(\d{1,6}:){0,2}\d{1,9}", str(value)):
        return None
    seconds = 0
    for part in str(value).split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


def _whole(value: Any) -> int | None:
    return int(str(value)) if re.fullmatch(r"\d{1,9}", str(value)) else None
