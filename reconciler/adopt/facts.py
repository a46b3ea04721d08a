"""What is known of a run, each value with where it was found. The first source that says something counts.

Sources are asked in order of how near they are to the weights: the checkpoint, the log of the job that wrote it, the
script that launched it, the folder's name; and last what the launcher does when nobody says anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Value = str | int | float | bool

GUESSED: Final = "TODO"
"""Begins the source of a value that nothing told."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A value and where it was found, in words that stand in a comment."""

    value: Value
    source: str

    @property
    def comment(self) -> str:
        """Beside it in YAML."""
        return self.source

    @property
    def guessed(self) -> bool:
        """Whether nothing told it."""
        return self.source.startswith(GUESSED)


@dataclass(frozen=True, slots=True)
class Witness:
    """One source and all it says, by the names in `launcher_names`."""

    facts: Mapping[str, Fact]
    evidence: bool = True
    """False for defaults, which contradict nothing."""


class Known:
    """All that the sources say of one run, the weightiest first."""

    def __init__(self, witnesses: Iterable[Witness]) -> None:
        self._witnesses = tuple(witnesses)

    def fact(self, name: str) -> Fact | None:
        """The first that is said."""
        return next((w.facts[name] for w in self._witnesses if name in w.facts), None)

    def text(self, name: str) -> str:
        """The value as text; empty if nobody says it."""
        found = self.fact(name)
        return "" if found is None else str(found.value)

    def integer(self, name: str) -> int | None:
        """The value as a whole number; None if nobody says one."""
        found = self.fact(name)
        return None if found is None else whole(found.value)

    def number(self, name: str) -> float | None:
        """The value as a number; None if nobody says one."""
        found = self.fact(name)
        return None if found is None else real(found.value)

    def contradictions(self, names: Mapping[str, str]) -> list[str]:
        """`global batch is 1536 by …, 6144 by …`: of these facts (name → words), those on which sources differ."""
        told = []
        for name, words in names.items():
            said = [w.facts[name] for w in self._witnesses if w.evidence and name in w.facts]
            other = next((fact for fact in said[1:] if not same(fact.value, said[0].value)), None)
            if other is not None:
                first = said[0]
                told.append(
                    f"{words} is {first.value} {first.source}, but {other.value} {other.source}; the first counts"
                )
        return told


def whole(value: Value) -> int | None:
    """A whole number, however it is written: 4096, "4096", 50000.0."""
    number = real(value)
    return int(number) if number is not None and number == int(number) else None


def real(value: Value) -> float | None:
    """A finite number, however it is written."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None


def truth(value: Value | None) -> bool:
    """Whether a switch is on; logs print True."""
    return value is True or value == "True"


def same(left: Value, right: Value) -> bool:
    """Whether two sources say one thing: 2e-4 and 0.0002 are."""
    one, other = real(left), real(right)
    if one is not None and other is not None:
        return abs(one - other) <= 1e-9 * max(abs(one), abs(other))
    return str(left) == str(right)
