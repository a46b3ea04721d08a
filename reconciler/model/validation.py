"""One document → a manifest, or everything that is wrong with it, each at its place.

JSON Schema judges the shape and pydantic the values; a fault that both see is told once, in the schema's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import ValidationError

from reconciler.model.forms import describe
from reconciler.model.manifests import API_VERSION, KINDS, Manifest
from reconciler.model.problems import Path, Problem, clip, near, one_of, ordered, path_text
from reconciler.model.shape import Fault, missing, shape_faults
from reconciler.model.source import Document

PROBLEMS_MAX: Final = 50
"""Per document; more is a document of another sort, and suggestions cost time."""


def manifest_of(document: Document) -> tuple[Manifest | None, tuple[Problem, ...]]:
    """The manifest that a document holds, or None and at least one problem."""
    data = document.data
    if not isinstance(data, dict):
        expected = "a mapping with apiVersion, kind, metadata and spec"
        return None, (Problem("M018", document.where(), "the document", describe(data), expected),)
    problems = list(_identity(document, data))
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS or any(problem.code == "M020" for problem in problems):
        return None, tuple(problems)
    faults = shape_faults(document, kind)
    manifest: Manifest | None = None
    try:
        manifest = KINDS[kind].model_validate(data)
    except ValidationError as error:
        covered = [path for path, _ in faults] + [problem.where.path for problem in problems]
        faults += [fault for fault in _value_faults(document, error) if not _told(fault[0], covered)]
    told = [problem.where.path for problem in problems]
    problems += [problem for path, problem in faults if path not in document.faulty and path not in told]
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        problems = list(ordered(problems)[:PROBLEMS_MAX])
        problems.append(Problem("M019", problems[-1].where, f"{more} more in this document"))
    return (manifest if not problems and not document.faulty else None), tuple(problems)


# --- apiVersion and kind, before anything else -----------------------------------------------------------------------


def _identity(document: Document, data: dict[str, Any]) -> Iterator[Problem]:
    if "apiVersion" not in data and "kind" not in data:
        where = document.where()
        yield Problem("M018", where, "apiVersion and kind are missing", describe(data), f"apiVersion: {API_VERSION}")
        return
    version = data.get("apiVersion", API_VERSION)
    if version != API_VERSION:
        newer = isinstance(version, str) and (match := re.fullmatch(r"cpt/v([0-9]{1,6})", version)) and match.group(1)
        yield Problem(
            "M020",
            document.where(("apiVersion",)),
            f"this program reads {API_VERSION}",
            describe(version),
            API_VERSION,
            f"The document needs a newer program that reads {version}, or must be written as {API_VERSION}."
            if newer and int(newer) > 1
            else f"Write apiVersion: {API_VERSION}.",
        )
        return
    kind = data.get("kind")
    if kind is not None and kind not in list(KINDS):
        meant = near(kind, KINDS) if isinstance(kind, str) else None
        fix = f"Did you mean {meant}?" if meant else None
        yield Problem("M021", document.where(("kind",)), _quoted(kind), describe(kind), one_of(KINDS), fix)
    for name in ("apiVersion", "kind"):
        if data.get(name) is None:
            yield missing(document, (), name)


# --- values ----------------------------------------------------------------------------------------------------------


_BOUNDS: Final = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _value_faults(document: Document, error: ValidationError) -> Iterator[Fault]:
    faults = error.errors(include_url=False)
    # For alternatives pydantic also tells why the ones not meant do not fit; faults of value come from the one meant.
    of_value = [fault for fault in faults if fault["type"] == "value_error" or _BOUNDS.keys() & fault.get("ctx", {})]
    for fault in of_value or faults:
        path, value = _located(document.data, fault["loc"])
        context = fault.get("ctx", {})
        where, name = document.where(path), path_text(path)
        bound = next((f"{words} {context[key]}" for key, words in _BOUNDS.items() if key in context), None)
        if bound is not None:
            yield path, Problem("M027", where, name, describe(value), bound)
        else:
            message = str(context["error"]) if "error" in context else fault["msg"]
            code = "M028" if isinstance(value, dict | list) else "M026"
            yield path, Problem(code, where, f"{name}: {clip(message, 200)}", describe(value))


def _located(data: object, loc: tuple[str | int, ...]) -> tuple[Path, object]:
    """Pydantic's location without its names of alternatives, and the value there."""
    path: Path = ()
    for part in loc:
        inside: Any = data
        known = part in inside if isinstance(inside, dict) else isinstance(inside, list) and isinstance(part, int)
        if known:
            data, path = inside[part], (*path, part)
    return path, data


def _told(path: Path, covered: Iterable[Path]) -> bool:
    """Whether a place, something in it, or something around it has been reported already."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in covered)


def _quoted(value: object) -> str:
    return f'"{clip(str(value), 60)}"'
