"""One document → a manifest, or everything that is wrong with it, each at its place.

JSON Schema judges the shape and pydantic the values; a fault that both see is told once, in the schema's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from reconciler.model.forms import describe
from reconciler.model.manifests import API_VERSION, KINDS, Manifest
from reconciler.model.mending import mended
from reconciler.model.problems import Path, Problem, clip, near, one_of, ordered, path_text
from reconciler.model.shape import Fault, missing, shape_faults
from reconciler.model.source import Document

PROBLEMS_MAX: Final = 50
"""Per document; more is a document of another sort, and suggestions cost time."""
VALUE_ROUNDS_MAX: Final = 4
"""How often values are looked at again without those found faulty; each time shows faults that those before hid."""


class Judged(NamedTuple):
    """What a document comes to."""

    manifest: Manifest | None
    """What it holds, if nothing is wrong with it."""
    problems: tuple[Problem, ...]
    """At least one where there is no manifest, but for a document whose faults the reader has told."""
    mended: Mended | None = None
    """What is left of a faulty one."""


class Mended(NamedTuple):
    """A faulty document's manifest, as far as it can be had: to be checked further, never to be acted on."""

    manifest: Manifest
    doubtful: frozenset[Path]
    """Where its value is not the writer's (`reconciler.model.mending`)."""


def manifest_of(document: Document) -> Judged:
    """The manifest that a document holds, or everything that is wrong with it and what is left without that."""
    data = document.data
    if not isinstance(data, dict):
        expected = "a mapping with apiVersion, kind, metadata and spec"
        return Judged(None, (Problem("M018", document.where(), "the document", describe(data), expected),))
    problems = list(_identity(document, data))
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS or any(problem.code == "M020" for problem in problems):
        return Judged(None, tuple(problems))
    told = {problem.where.path for problem in problems}
    faults = shape_faults(document, kind)
    manifest, doubtful = _built(document, kind, faults, told | document.faulty)
    problems += [problem for path, problem in faults if path not in document.faulty and path not in told]
    if len(problems) > PROBLEMS_MAX:
        more = len(problems) - PROBLEMS_MAX
        problems = list(ordered(problems)[:PROBLEMS_MAX])
        problems.append(Problem("M019", problems[-1].where, f"{more} more in this document"))
    if not problems and not document.faulty:
        return Judged(manifest, ())
    return Judged(None, tuple(problems), Mended(manifest, doubtful) if manifest is not None else None)


def _built(
    document: Document, kind: str, faults: list[Fault], told: set[Path]
) -> tuple[Manifest | None, frozenset[Path]]:
    """The manifest without its faults, where that can be built, and what is doubtful in it; adds faults of value.

    Values are looked at only where the shape is sound, so that no fault of shape is told twice.
    """
    doubtful: frozenset[Path] = frozenset()
    data: Any = document.data
    for _ in range(VALUE_ROUNDS_MAX):
        faulty = {path for path, _ in faults} | told
        if faulty:
            data, doubtful = mended(document.data, kind, faulty)
        try:
            return KINDS[kind].model_validate(data), doubtful
        except ValidationError as error:
            new = [fault for fault in _value_faults(document, error) if not _told(fault[0], faulty)]
            faults += new
            if not new:
                break
    return None, doubtful


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
        of_key = fault["loc"][-1:] == ("[key]",)
        where, name = document.where(path, key=of_key), path_text(path)
        bound = next((f"{words} {context[key]}" for key, words in _BOUNDS.items() if key in context), None)
        if bound is not None:
            yield path, Problem("M027", where, name, describe(value), bound)
        else:
            message = str(context["error"]) if "error" in context else fault["msg"]
            code = "M028" if of_key or isinstance(value, dict | list) else "M026"
            found = None if of_key else describe(value)  # a key has been named, and its value may be a secret
            yield path, Problem(code, where, f"{name}: {clip(message, 200)}", found)


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
