"""What a check came to: right, doubtful, wrong, or not looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """An apply may work; a person should know."""
    FAILED = "failed"
    """An apply cannot work, or not for long."""
    UNREAD = "unread"
    """Not looked at, because of another check. Says nothing about the thing itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that an apply relies on."""

    name: str
    status: Status
    message: str
    """What was found, in one line."""
    fix: str = ""
    """What to do: sentences, with commands to paste on indented lines of their own; empty if there is nothing to do."""


def ok(name: str, message: str) -> Check:
    """Right."""
    return Check(name, Status.OK, message)


def warning(name: str, message: str, fix: str) -> Check:
    """Doubtful."""
    return Check(name, Status.WARNING, message, fix)


def failed(name: str, message: str, fix: str) -> Check:
    """Wrong."""
    return Check(name, Status.FAILED, message, fix)


def unread(name: str, because: str) -> Check:
    """Not looked at."""
    return Check(name, Status.UNREAD, f"because of: {because}")


def completed(checks: Iterable[Check], names: Sequence[str]) -> tuple[Check, ...]:
    """`checks` in the order of `names`, with one that was not looked at for each name that they do not hold."""
    made = list(checks)
    have = {check.name for check in made}
    because = next((check.name for check in reversed(made) if check.status is Status.FAILED), "an answer cut short")
    made += [unread(name, because) for name in dict.fromkeys(names) if name not in have]
    return tuple(sorted(made, key=lambda check: names.index(check.name)))
