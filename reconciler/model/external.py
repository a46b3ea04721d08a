"""What an evaluation harness wrote, as JSON that may be anything → the one number that a gate asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

EXTERNAL_CHARS_MAX: Final = 1024 * 1024
"""A longer file is not read: results of a harness with its settings take some hundred kilobytes."""
DEPTH_MAX: Final = 64
"""Objects within objects; harnesses use four or so, and a reader must not run out of stack."""
NAMES_TOLD: Final = 12


@dataclass(frozen=True, slots=True)
class NoNumber:
    """Why there is none."""

    why: str


def metric(text: str, path: Sequence[str]) -> float | NoNumber:
    """The number at a path of keys. Never raises, whatever the text is."""
    if len(text) > EXTERNAL_CHARS_MAX:
        return NoNumber(f"it is longer than {EXTERNAL_CHARS_MAX} characters")
    if _depth(text) > DEPTH_MAX:
        return NoNumber(f"it nests deeper than {DEPTH_MAX} levels")
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except (ValueError, RecursionError) as problem:
        return NoNumber(f"it is not JSON: {str(problem)[:200]}")
    for place, key in enumerate(path):
        where = " → ".join(path[:place]) or "its top"
        if not isinstance(value, dict):
            return NoNumber(f"at {where} there is {_what(value)}, and no {key!r} in it")
        if key not in value:
            return NoNumber(f"at {where} there is no {key!r}; there is {_names(value)}")
        value = value[key]
    return _number(value, path)


def _number(value: Any, path: Sequence[str]) -> float | NoNumber:
    where = " → ".join(path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NoNumber(f"at {where} there is {_what(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return number if math.isfinite(number) else NoNumber(f"the number at {where} is out of range")


def _depth(text: str) -> int:
    """How deep the brackets outside of strings nest, found without nesting."""
    deepest = depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            inside, escaped = escaped or character != '"', not escaped and character == "\\"
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a key that stands twice: which of the two was meant is anybody's guess."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} stands twice in one object")
        found[key] = value
    return found


def _what(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _names(value: dict[str, Any]) -> str:
    names = [repr(name[:60]) for name in sorted(value)[:NAMES_TOLD]]
    more = f" and {len(value) - len(names)} more" if len(value) > len(names) else ""
    return ", ".join(names) + more if names else "nothing"
