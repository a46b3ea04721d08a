"""The doctor's findings: one line a check, under those that are not well what to do, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from reconciler.cluster.doctor_report import Check, Status
from reconciler.model.quantities import counted

MARK: Final = {Status.OK: "ok", Status.WARNING: "warning", Status.FAILED: "failed", Status.UNREAD: "not looked at"}
STYLE: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.UNREAD: "dim"}


def lines(cluster: str, checks: Sequence[Check]) -> Iterator[Text]:
    """The whole view, a line at a time; a line is as long as what it says, so that it can be pasted."""
    marks = max(len(mark) for mark in MARK.values())
    names = max((len(check.name) for check in checks), default=0)
    for check in checks:
        style = STYLE[check.status]
        yield Text.assemble(
            (MARK[check.status].ljust(marks), style), "  ", (check.name.ljust(names), "bold"), "  ", check.message
        )
        yield from (Text(f"    {line}".rstrip()) for line in check.fix.splitlines())
    yield Text()
    yield summary(cluster, checks)


def summary(cluster: str, checks: Sequence[Check]) -> Text:
    """How many of each, and what that means for an apply."""
    count = Counter(check.status for check in checks)
    told = f"{cluster}: {count[Status.OK]} of {counted(len(checks), 'check')} well"
    for status in (Status.WARNING, Status.FAILED, Status.UNREAD):
        if count[status]:
            told += f", {count[status]} {'with a warning' if status is Status.WARNING else MARK[status]}"
    if count[Status.FAILED]:
        return Text(f"{told}. An apply would not work.", STYLE[Status.FAILED])
    return Text(f"{told}. An apply has what it relies on.", STYLE[Status.OK])
