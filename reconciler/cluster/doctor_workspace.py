"""What was tried in the workspace, and what clocks told → whether an apply can rely on them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from reconciler.cluster.doctor_need import Need
from reconciler.cluster.doctor_report import Check, failed, ok, unread, warning
from reconciler.cluster.fields import Fields
from reconciler.model.quantities import format_duration

NAMES: Final = ("workspace", "space", "lock")
SKEW_WARN_S: Final = 60.0
SKEW_FAIL_S: Final = 900.0
"""As long as the agent gives a qsub of another login node that may still be under way."""
FREE_MIN_BYTES: Final = 2**30
FILES_MIN: Final = 10_000
CHECKPOINTS_WARN: Final = 10
LOCK_OLD_S: Final = 600.0
_HUGE: Final = 2**80


def checks(part: Fields, need: Need) -> Iterator[Check]:
    """Whether files can be written there as the agent writes them, how many, and whether somebody is at it.

    Raises:
        Malformed: the answer is not as agreed.
    """
    if part.has("unread"):
        yield failed("workspace", part.line("unread"), _look_at(need, need.workspace.rpartition("/")[0] or "/"))
        yield from (unread(name, "workspace") for name in NAMES[1:])
        return
    seen = part.fields("read")
    yield _workspace(seen, need)
    yield _space(seen, need)
    yield _lock(seen.fields("lock"))


def clocks(now_s: float, took_s: float, pbs: Fields, workspace: Fields, sent_s: float, received_s: float) -> Check:
    """Whether this machine, the login node, its file system and the PBS server agree on the time.

    `now_s` was read there when the look began, `took_s` before it ended; `sent_s` and `received_s` here, around it.
    """
    skews = {"this machine's": max(0.0, sent_s - now_s, now_s - (received_s - took_s))}
    if workspace.has("read"):
        skews["the file system's"] = abs(workspace.fields("read").number("file_clock"))
    table = pbs.fields("table") if pbs.has("table") else None
    if table is not None and table.has("read"):
        # Seen only if it is ahead: the last thing that the server did may be long ago.
        skews["the PBS server's"] = max(0.0, table.fields("read").number("ahead"))
    worst, seconds = max(skews.items(), key=lambda each: each[1])
    told = f"the login node's clock and {worst} differ by {format_duration(seconds)}"
    if seconds > SKEW_FAIL_S:
        return failed(
            "clocks", told, "Set the one that is wrong (timedatectl shows whether NTP runs), or ask the site."
        )
    if seconds > SKEW_WARN_S:
        return warning("clocks", told, "Times in views are wrong by this much. Set the one that is wrong.")
    return ok("clocks", f"the login node's and {', '.join(skews)} agree to {max(1.0, seconds):.0f} s")


def _look_at(need: Need, folder: str) -> str:
    command = need.there(f"ls -ld {shlex.quote(folder)}; df -h {shlex.quote(folder)}; id")
    return f"See who may write there, and whether it is mounted:\n    {command}"


def _workspace(seen: Fields, need: Need) -> Check:
    there, base = seen.flag("there"), seen.line("base")
    mount = seen.fields("mount")
    kind, point, options = mount.line("type"), mount.line("point"), mount.line("options")
    steps = seen.each("steps", lambda step: (step.line("name"), step.line("why"), step.flag("lacking")), 20)
    wrong = [f"{name}: {why}" for name, why, _ in steps if why]
    if wrong:
        told = f"{base}: {'; '.join(wrong)}"
        if all(lacking for _, why, lacking in steps if why):
            # Without flock or hard links the agent has another, weaker way.
            fix = "Apply from one place at a time, or put the workspace on another file system."
            return warning("workspace", told, fix)
        return failed("workspace", told, _look_at(need, base))
    if seen.flag("left"):
        remove = need.there(f"rm -r {shlex.quote(base)}/.reconcile-doctor-*")
        return warning("workspace", f"a probe could not be removed from {base}", f"Remove it:\n    {remove}")
    if kind == "lustre" and "localflock" in options.split(","):
        told = f"{point} is mounted with localflock: what one login node locks, another does not see"
        return warning("workspace", told, "Apply from one login node only.")
    where = need.workspace if there else f"{base}, in which {need.workspace.rpartition('/')[2]} will be made"
    return ok("workspace", f"{where}{f' ({kind})' if kind else ''}: {', '.join(name for name, *_ in steps)} work")


def _space(seen: Fields, need: Need) -> Check:
    rooms = [("the file system", seen.integer("free", high=_HUGE), seen.integer("files_free", -1, _HUGE))]

    def limit(quota: Fields) -> None:
        who = f"the quota of {quota.line('who')}"
        used, most = quota.integer("bytes", high=_HUGE), quota.integer("bytes_limit", high=_HUGE)
        files, files_most = quota.integer("files"), quota.integer("files_limit")
        rooms.append((who, max(0, most - used) if most else _HUGE, max(0, files_most - files) if files_most else -1))

    seen.each("quotas", limit, 10)
    who, free, _ = min(rooms, key=lambda room: room[1])
    short = [(name, files) for name, _, files in rooms if 0 <= files < FILES_MIN]
    size = need.checkpoint_bytes
    fix = "Remove what is no longer needed, ask the site for more, or put the workspace elsewhere."
    if short:
        return failed("space", f"{short[0][0]} has room for {short[0][1]} more files", fix)
    told = f"{who} leaves {_amount(free)}"
    if size:
        told += f", room for {free // size:,} checkpoints of about {_amount(size)}"
    if free < max(FREE_MIN_BYTES, size):
        return failed("space", told, fix)
    if free < CHECKPOINTS_WARN * size:
        return warning("space", told, fix)
    return ok("space", told)


def _amount(size: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _lock(lock: Fields) -> Check:
    if lock.has("unread"):
        return failed("lock", lock.line("unread"), "Remove what stands in its place, if no apply runs.")
    held = lock.optional(lock.fields, "read")
    if held is None:
        return ok("lock", "nobody is applying")
    nonce, age_s = held.line("nonce"), held.number("age")
    told = f"{held.line('holder')} on {held.line('host') or 'an unknown host'} has been applying for"
    if age_s > LOCK_OLD_S:
        fix = f"If that process is certainly gone:\n    reconcile unlock {shlex.quote(nonce)}"
        return warning("lock", f"{told} {format_duration(age_s)}", fix)
    return ok("lock", f"{told} {format_duration(age_s)}")
