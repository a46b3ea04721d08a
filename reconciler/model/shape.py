"""What JSON Schema says is wrong with a document's shape, in words and with what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from jsonschema.exceptions import ValidationError

from reconciler.model import schema
from reconciler.model.forms import FORMS, describe
from reconciler.model.problems import Path, Problem, clip, near, one_of, path_text
from reconciler.model.schema import Schema
from reconciler.model.source import Document

_TYPE_NAMES: Final = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}

Fault = tuple[Path, Problem]


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One schema error that says something."""

    keyword: str
    path: Path
    value: Any
    bound: Any
    """The keyword's value in the schema."""
    node: Schema
    of_key: bool
    """Whether the fault is the last key of `path` itself."""

    @classmethod
    def of(cls, error: ValidationError) -> _Leaf:
        path: Path = tuple(error.absolute_path)
        of_key = "propertyNames" in error.relative_schema_path
        node: Any = error.schema
        path = (*path, str(error.instance)) if of_key else path
        return cls(str(error.validator), path, error.instance, error.validator_value, node, of_key)


def shape_faults(document: Document, kind: str) -> list[Fault]:
    """(path, problem) for each fault of shape; at most one for a path."""
    data: Any = document.data
    faults: dict[Path, Problem] = {}
    suggested: set[Path] = set()
    for leaf in _leaves(schema.validator(kind).iter_errors(data)):
        for path, problem, meant in _faults_of(document, kind, leaf):
            faults.setdefault(path, problem)
            if meant is not None:
                suggested.add((*path[:-1], meant))
    # A misspelt required field is one fault, not an unknown field and a missing one.
    return [(path, fault) for path, fault in faults.items() if not (fault.code == "M023" and path in suggested)]


def _leaves(errors: Iterable[ValidationError]) -> Iterator[_Leaf]:
    """The errors that say something: of alternatives, those of the one that was probably meant."""
    for error in errors:
        branch = meant_branch(error.instance, error.validator_value) if error.validator in ("anyOf", "oneOf") else None
        if branch is None:
            yield _Leaf.of(error)
        else:
            yield from _leaves(inner for inner in error.context if inner.relative_schema_path[0] == branch)


def meant_branch(value: object, branches: Any) -> int | None:
    """Which of several alternatives a value was probably meant for, or None where nothing speaks for one."""
    if isinstance(value, dict):
        best, most = None, -1
        for index, branch in enumerate(branches):
            if branch.get("type") != "object":
                continue
            tag = branch["properties"].get("kind", {}).get("const")
            if tag is not None and tag != value.get("kind"):
                continue
            overlap = len(value.keys() & branch["properties"].keys())
            if overlap > most:
                best, most = index, overlap
        return best
    wanted = ("string",) if isinstance(value, str) else ("number", "integer") if _is_number(value) else ()
    return next((index for index, branch in enumerate(branches) if branch.get("type") in wanted), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _faults_of(document: Document, kind: str, leaf: _Leaf) -> Iterator[tuple[Path, Problem, str | None]]:
    """(path, problem, the field that was probably meant) for each thing one schema error says."""
    path, value = leaf.path, leaf.value
    match leaf.keyword:
        case "additionalProperties":
            known = leaf.node["properties"]
            for name in value:
                if name not in known:
                    problem, meant = _unknown(document, kind, path, str(name), known)
                    yield (*path, name), problem, meant
        case "required":
            for name in leaf.bound:
                if name not in value:
                    yield (*path, name), missing(document, path, name), None
        case "anyOf" | "oneOf":
            yield path, _no_branch(document, path, value, leaf.bound), None
        case "pattern":
            form = FORMS[leaf.bound]
            where = document.where(path, key=leaf.of_key)
            problem = Problem("M026", where, path_text(path), describe(value), form.expected, form.meant(value))
            yield path, problem, None
        case _:
            yield path, _plain(document, leaf), None


def _plain(document: Document, leaf: _Leaf) -> Problem:
    value, bound = leaf.value, leaf.bound
    code, expected, fix = "M027", "", None
    match leaf.keyword:
        case "type":
            code, expected = "M024", _TYPE_NAMES[bound]
            if leaf.node.get("pattern") in FORMS:
                expected = FORMS[leaf.node["pattern"]].expected
            fix = _type_fix(value, leaf.node)
        case "const" | "enum":
            words = [str(word) for word in (bound if isinstance(bound, list) else [bound])]
            meant = near(str(value), words)
            code, expected, fix = "M025", one_of(words), f"Did you mean {meant}?" if meant else None
        case "minimum":
            expected = f"at least {bound}"
        case "exclusiveMinimum":
            expected = f"more than {bound}"
        case "maximum":
            expected = f"at most {bound}"
            fix = f"Write {Decimal(value) / 100} for {value} %." if bound == 1 and 1 < value <= 100 else None
        case "maxLength":
            expected = f"at most {bound} characters"
        case "minItems" | "minProperties":
            expected = "at least one entry"
        case "maxItems" | "maxProperties":
            expected = f"at most {bound} entries"
        case _:  # pragma: no cover - a test holds that the schemas use no other keyword
            expected = f"{leaf.keyword}: {clip(str(bound))}"
    return Problem(code, document.where(leaf.path), path_text(leaf.path), describe(value), expected, fix)


def _type_fix(value: object, node: Schema) -> str | None:
    wanted = node["type"]
    if value is None:
        return "The value is empty; check the indentation of what follows, or leave the field out."
    if wanted == "string" and _is_number(value):
        form = FORMS.get(node.get("pattern", ""))
        if form is None or re.fullmatch(node["pattern"], str(value)):
            return f'Put it in quotes: "{value}".'
        percent = Decimal(str(value)) * 100
        if "%" in form.expected and 0 <= percent <= 100:
            return f"Write {percent.normalize():f}%."
        return form.meant(str(value))
    if wanted == "string" and isinstance(value, bool):
        return "Put the word in quotes."
    if isinstance(value, str):
        return _text_fix(value, wanted)
    if wanted == "array" and not isinstance(value, dict):
        return "Write a list: [ … ], or one item a line after -."
    return None


def _text_fix(value: str, wanted: str) -> str | None:
    bare = re.sub(r"[\s_,]", "", value)
    if wanted in ("number", "integer"):
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?%", bare):
            return f"Write {Decimal(bare[:-1]) / 100}."
        if re.fullmatch(r"[-+]?[0-9]{1,40}" if wanted == "integer" else r"[-+]?[0-9.]{1,40}([eE][-+]?[0-9]+)?", bare):
            return f"Write {bare}, without quotes, spaces or underscores."
    if wanted == "boolean" and value.lower() in ("yes", "on", "y", "no", "off", "n", "true", "false"):
        return f"Write {'true' if value.lower() in ('yes', 'on', 'y', 'true') else 'false'}."
    item = f'"{value}"' if ":" in value else value
    return f"Write [{clip(item, 40)}]." if wanted == "array" else None


def _no_branch(document: Document, path: Path, value: object, branches: list[Schema]) -> Problem:
    tags = [tag for branch in branches if (tag := branch.get("properties", {}).get("kind", {}).get("const"))]
    if tags and isinstance(value, dict):
        if "kind" not in value:
            return missing(document, path, "kind")
        meant = near(str(value["kind"]), tags)
        where, fix = document.where((*path, "kind")), f"Did you mean {meant}?" if meant else None
        return Problem("M025", where, path_text((*path, "kind")), describe(value["kind"]), one_of(tags), fix)
    expected = one_of(dict.fromkeys(_expected(branch) for branch in branches if branch.get("type") != "null"))
    fix = _type_fix(value, branches[0]) if "pattern" in branches[0] or value is None else None
    return Problem("M024", document.where(path), path_text(path), describe(value), expected, fix)


def _expected(branch: Schema) -> str:
    if branch.get("pattern") in FORMS:
        return FORMS[branch["pattern"]].expected
    if "const" in branch:
        return str(branch["const"])
    named = f" with {' and '.join(branch['required'])}" if "required" in branch else ""
    return _TYPE_NAMES[branch["type"]] + named


def missing(document: Document, path: Path, name: str) -> Problem:
    """A required field that is absent, placed at what should hold it."""
    holder = path_text(path) or "the document"
    return Problem("M023", document.where(path, key=True), f"{name} is missing in {holder}", expected=f"{name}: …")


def _unknown(document: Document, kind: str, path: Path, name: str, known: Iterable[str]) -> tuple[Problem, str | None]:
    holder = path_text(path) or kind
    meant = near(name, known)
    fix = f"Did you mean {meant}?" if meant else None
    if meant is None and (homes := _homes(kind).get(name)):
        fix = f"{name} belongs in {homes[0]}."
    where = document.where((*path, name), key=True)
    return Problem("M022", where, f'"{clip(name, 60)}" in {holder}', None, one_of(known), fix), meant


@cache
def _homes(kind: str) -> dict[str, list[str]]:
    """Field → where in a manifest of this kind a field of this name exists."""
    homes: dict[str, list[str]] = {}

    def visit(node: Schema, path: str) -> None:
        for name, child in node.get("properties", {}).items():
            homes.setdefault(name, []).append(path or kind)
            visit(child, f"{path}.{name}".removeprefix("."))
        for branch in node.get("anyOf", ()) or node.get("oneOf", ()):
            visit(branch, path)
        if isinstance(items := node.get("items"), dict):
            visit(items, f"{path}[…]")

    visit(schema.inlined(kind), "")
    return homes
