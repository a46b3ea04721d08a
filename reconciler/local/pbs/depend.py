"""`-W depend=`: the notation, and what a parent's end means for a dependent. Pure."""

from __future__ import annotations

import enum
import re

from reconciler.local.pbs.job import DELETED, Job
from reconciler.local.pbs.refusals import Usage, unsupported

KINDS = ("after", "afterok", "afternotok", "afterany")
OTHER_KINDS = ("before", "beforeok", "beforenotok", "beforeany", "on", "runone", "syncwith", "synccount")
ENTRIES_MAX = 1000


class Verdict(enum.Enum):
    MET = "met"
    FAILED = "failed"
    OPEN = "open"


def parsed(text: str, server: str) -> list[tuple[str, list[str]]]:
    """`afterok:1:2,afterany:3` → kinds with full job ids.

    Raises:
        Usage: not the notation, or another server's job.
        Refusal: a kind that OpenPBS has and this subset has not.
    """
    found = []
    for term in text.split(","):
        kind, *ids = term.strip().split(":")
        if kind in OTHER_KINDS:
            raise unsupported(f"depend={kind}")
        if kind not in KINDS or not ids or len(ids) > ENTRIES_MAX:
            raise Usage("illegal -W value")
        found.append((kind, [_full(entry, server) for entry in ids]))
    return found


def _full(entry: str, server: str) -> str:
    matched = re.fullmatch(r"(\d{1,9})(?:\.([A-Za-z0-9_.-]+?))?(?:@([A-Za-z0-9_.-]+))?", entry)
    if not matched or matched[2] not in (None, server) or matched[3] not in (None, server):
        raise Usage("illegal -W value")
    return f"{matched[1]}.{server}"


def shown(depend: list[tuple[str, list[str]]], server: str) -> str:
    """As `qstat -f` prints it."""
    return ",".join(":".join([kind, *(f"{entry}@{server}" for entry in ids)]) for kind, ids in depend)


def on_submission(kind: str, parent: Job | None) -> Verdict:
    """What a dependency means when it is made.

    A parent that has ended without an exit status counts as exit 0, so `afterok` on a job that was deleted before it
    ran is met; an unknown or forgotten parent fails every kind, `afterany` too.
    """
    if parent is None:
        return Verdict.FAILED
    if parent.state != "F":
        return Verdict.MET if kind == "after" and parent.state in "RE" else Verdict.OPEN
    return _by_status(kind, parent.exit_status or 0)


def on_end(kind: str, parent: Job | None) -> Verdict:
    """What a dependency means later on, when its parent was alive as it was made.

    A parent deleted while it was queued leaves its dependents held for ever, as in OpenPBS; one dropped by its own
    dependency takes them along.
    """
    if parent is None:
        return Verdict.OPEN
    if parent.state != "F":
        return Verdict.MET if kind == "after" and parent.state in "RE" else Verdict.OPEN
    if parent.exit_status is None:
        return Verdict.OPEN if parent.substate == DELETED else Verdict.FAILED
    return _by_status(kind, parent.exit_status)


def _by_status(kind: str, status: int) -> Verdict:
    met = {"after": True, "afterany": True, "afterok": status == 0, "afternotok": status != 0}[kind]
    return Verdict.MET if met else Verdict.FAILED
