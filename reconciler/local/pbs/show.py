"""`qstat -f`: a job's attributes in PBS's order, as text, as `-F dsv` and as `-F json`. Pure."""

from __future__ import annotations

import re
import time
from typing import Any

from reconciler.local.pbs import depend, variables
from reconciler.local.pbs.job import ORDER, TIMES, Job

Rows = list[tuple[str, str | list[tuple[str, str]]]]
NEVER_CONVERTED = frozenset(("Job_Name", "project", "Account_Name"))


class Raw(str):
    """Text that stands in JSON as it is."""


def rows(job: Job) -> Rows:
    """(name, value) in print order; groups (Resource_List …) have a list of pairs as value."""
    groups: dict[str, list[tuple[str, str]]] = {
        "resources_used": sorted(job.used.items()),
        "Resource_List": list(job.resources.items()),
        "Variable_List": job.variables,
    }
    found: Rows = []
    for name in ORDER:
        if name in groups:
            if groups[name]:
                found.append((name, groups[name]))
        elif name == "depend":
            if job.depend:
                found.append((name, depend.shown(job.depend, job.server)))
        elif name in job.attributes:
            value = job.attributes[name]
            found.append((name, time.ctime(int(value)) if name in TIMES else value))
    return found


def flat(job_rows: Rows) -> list[tuple[str, str]]:
    """One line an attribute, as text and dsv have it."""
    lines = []
    for name, value in job_rows:
        if isinstance(value, str):
            lines.append((name, value))
        elif name == "Variable_List":
            lines.append((name, variables.encoded(value)))
        else:
            lines.extend((f"{name}.{part}", text) for part, text in value)
    return lines


def text(job_id: str, lines: list[tuple[str, str]]) -> str:
    """The long form: 79 columns, broken after commas where there are any."""
    return "\n".join([f"Job Id: {job_id}", *(wrapped(name, value) for name, value in lines), "", ""])


def wrapped(name: str, value: str) -> str:
    """One attribute; continuation lines begin with a tab."""
    out = [f"    {name} = "]
    column = len(name) + 7
    pieces = [piece for piece in value.split(",") if piece]
    for number, piece in enumerate(pieces):
        if len(piece.encode("utf-8", "surrogateescape")) + column < 78:
            out.append(piece)
            column += len(piece.encode("utf-8", "surrogateescape"))
        else:
            if number:
                out.append("\n\t")
                column = 9
            column = _spelled(piece, column, out)
        if number + 1 < len(pieces):
            out.append(",")  # PBS does not count these
    return "".join(out)


def _spelled(piece: str, column: int, out: list[str]) -> int:
    for letter in piece:
        out.append(letter)
        column += len(letter.encode("utf-8", "surrogateescape"))
        if column > 78:
            out.append("\n\t")
            column = 8
    return column


def dsv(job_id: str, lines: list[tuple[str, str]], delimiter: str) -> str:
    return delimiter.join([f"Job Id: {job_id}", *(f"{name}={value}" for name, value in lines)]).replace("\n", "\\n")


def members(job_rows: Rows) -> list[tuple[str, Any]]:
    """A job's JSON members. Values that look like JSON become it, except in a few that PBS leaves alone."""
    found: list[tuple[str, Any]] = []
    for name, value in job_rows:
        if name == "Variable_List" and not isinstance(value, str):
            listed = (piece.partition("=") for piece in variables.split(variables.encoded(value)))
            found.append((name, [(key, typed(item)) for key, _, item in listed]))
        elif isinstance(value, str):
            found.append((name, value if name in NEVER_CONVERTED else typed(value)))
        else:
            found.append((name, [(key, typed(item)) for key, item in value]))
    return found


def typed(value: str) -> Any:
    """`007` → 7, `true` → true, `[1]` → an array: PBS parses every value and prints what came out."""
    stripped = value.strip(" \t\n\r")
    if stripped in ("true", "false", "null"):
        return Raw(stripped)
    if len(stripped) <= 63 and re.fullmatch(r"-?(?:\d+\.?\d*|(?<=-)\.\d+)(?:[eE][+-]?\d+)?", stripped):
        return Raw(number(float(stripped)))
    if stripped[:1] in ("[", "{", '"'):
        return _parsed(stripped, value)
    return value


def _parsed(stripped: str, value: str) -> Any:
    import json

    try:
        return json.loads(stripped, object_pairs_hook=lambda pairs: pairs or Raw("{}"))
    except (ValueError, RecursionError):
        return value


def number(value: float) -> str:
    """A number as cJSON prints it: 15 digits if they suffice, else 17; infinities are null."""
    if value != value or value in (float("inf"), float("-inf")):
        return "null"
    short = f"{value:.15g}"
    return short if abs(float(short) - value) <= abs(value) * 2.220446049250313e-16 else f"{value:.17g}"


def json_page(pairs: list[tuple[str, Any]]) -> str:
    """A JSON document as PBS lays it out: tabs, a tab after each colon. Pairs may repeat a key, as PBS does."""
    return _json(pairs, 0) + "\n"


def _json(value: Any, depth: int) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return number(value)
    if value and all(isinstance(item, tuple) for item in value):
        tabs = "\t" * (depth + 1)
        lines = [f"{tabs}{quoted(key)}:\t{_json(item, depth + 1)}" for key, item in value]
        return "{\n" + ",\n".join(lines) + "\n" + "\t" * depth + "}"
    return "[" + ", ".join(_json(item, depth + 1) for item in value) + "]"


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile(r'["\\\x00-\x1f]')


def quoted(value: str) -> str:
    """A JSON string; anything above control characters stands as it is."""
    return '"' + _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), value) + '"'
