"""Reads JSON that may be hostile: every field is asked for by name, type and bound, and none may be left over. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan
from typing import Any, Final, TypeVar

INTEGER_MAX: Final = 2**53
ENTRIES_MAX: Final = 200_000

T = TypeVar("T")


class Malformed(Exception):
    """A field is missing, of another type, out of bounds or unknown; the text names it."""


class Fields:
    """One JSON object, to be read whole."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{where} is not an object")
        self._left = dict(value)
        self._where = where

    def has(self, name: str) -> bool:
        """Whether there is such a field that was not read yet."""
        return name in self._left

    def text(self, name: str, chars_max: int = 2000) -> str:
        """A string of at most so many characters, that can be written as UTF-8."""
        value = self._take(name)
        if not is_text(value, chars_max):
            raise self._bad(name, f"not a text of at most {chars_max} characters")
        return str(value)

    def line(self, name: str) -> str:
        """A string that is shown to people: control characters, which a terminal would obey, are blanks."""
        return printable(self.text(name))

    def integer(self, name: str, low: int = 0, high: int = INTEGER_MAX) -> int:
        """An integer within bounds; true and false are none."""
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise self._bad(name, f"not an integer from {low} to {high}")
        return value

    def number(self, name: str) -> float:
        """A number; infinite ones pass, NaN does not."""
        value = self._take(name)
        if type(value) not in (int, float) or (type(value) is int and abs(value) > INTEGER_MAX) or isnan(value):
            raise self._bad(name, "not a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if type(value) is not bool:
            raise self._bad(name, "neither true nor false")
        return value

    def fields(self, name: str) -> Fields:
        """An object inside this one."""
        return Fields(self._take(name), f"{self._where}.{name}")

    def optional(self, read: Callable[[str], T], name: str) -> T | None:
        """What `read` gives, None for null."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return None
        return read(name)

    def each(self, name: str, read: Callable[[Fields], T], entries_max: int = ENTRIES_MAX) -> tuple[T, ...]:
        """Every object of a list."""
        values = self._list(name, entries_max)
        return tuple(read(Fields(value, f"{self._where}.{name}[{i}]")) for i, value in enumerate(values))

    def integers(self, name: str, entries_max: int) -> tuple[int, ...]:
        """A list of integers that are not negative."""
        values = self._list(name, entries_max)
        if not all(type(value) is int and 0 <= value <= INTEGER_MAX for value in values):
            raise self._bad(name, "not a list of integers")
        return tuple(values)

    def texts(self, name: str, entries_max: int) -> tuple[str, ...]:
        """A list of strings."""
        values = self._list(name, entries_max)
        if not all(is_text(value, 2000) for value in values):
            raise self._bad(name, "not a list of texts")
        return tuple(printable(value) for value in values)

    def rows(self, name: str, entries_max: int) -> tuple[list[Any], ...]:
        """A list of lists."""
        values = self._list(name, entries_max)
        if not all(isinstance(value, list) for value in values):
            raise self._bad(name, "not a list of lists")
        return tuple(values)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object whose names are data."""
        value = self._take(name)
        if not isinstance(value, dict) or len(value) > ENTRIES_MAX:
            raise self._bad(name, "not an object")
        return value

    def names(self) -> tuple[str, ...]:
        """Names of the fields that were not read yet."""
        return tuple(self._left)

    def end(self) -> None:
        """Nothing may be left that nobody asked for."""
        if self._left:
            raise Malformed(f"{self._where} has fields that are not known: {', '.join(sorted(self._left))[:200]}")

    def _list(self, name: str, entries_max: int) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) > entries_max:
            raise self._bad(name, f"not a list of at most {entries_max} entries")
        return value

    def _take(self, name: str) -> Any:
        if name not in self._left:
            raise Malformed(f"{self._where} has no {name}")
        return self._left.pop(name)

    def _bad(self, name: str, why: str) -> Malformed:
        return Malformed(f"{self._where}.{name} is {why}")


def is_text(value: Any, chars_max: int) -> bool:
    """Whether it is a string within bounds and without halves of surrogate pairs."""
    if not isinstance(value, str) or len(value) > chars_max:
        return False
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def printable(text: str) -> str:
    """One line without control characters."""
    if text.isprintable():
        return text.strip()
    return "".join(character if character.isprintable() else " " for character in text).strip()
