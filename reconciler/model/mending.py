"""A faulty document without its faults, so that what is sound in it is checked further in the same run.

What cannot be read is left out, or replaced by something that can be; the places whose value is then not the writer's
are *doubtful*, and a check that builds on one of them says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from reconciler.model import schema
from reconciler.model.problems import Path
from reconciler.model.schema import Schema
from reconciler.model.shape import meant_branch

_SAMPLES: Final = ("not-read", "D0", "1", "1s", "1%", "X", "00:00", "lrMax", "0" * 64, "CPT001")
"""For every form of text one that has it (a test holds that); as a name, one that nobody gives to anything."""


def mended(data: object, kind: str, faulty: Collection[Path]) -> tuple[Any, frozenset[Path]]:
    """The data of a document of this kind without what lies at `faulty`, and the places that are doubtful."""
    mending = _Mending(frozenset(faulty))
    return mending.value(schema.inlined(kind), data, ()), frozenset(mending.doubtful)


class _Mending:
    def __init__(self, faulty: frozenset[Path]) -> None:
        self._faulty = faulty
        self.doubtful: set[Path] = set()

    def value(self, node: Schema, value: object, path: Path) -> object:
        if path in self._faulty:
            self.doubtful.add(path)
            return _sample(node)
        node = _alternative(node, value)
        if isinstance(value, list) and "items" in node:
            return [self.value(node["items"], item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, dict) and "properties" in node:
            return self._object(node, value, path)
        if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
            return self._map(node, value, path)
        return value

    def _object(self, node: Schema, value: dict[str, object], path: Path) -> dict[str, object]:
        """Fields that are not known go, and each field that one of them may have been meant for is doubtful."""
        known, required = node["properties"], node.get("required", ())
        kept: dict[str, object] = {}
        for name, child in value.items():
            here = (*path, name)
            if name not in known:
                self.doubtful |= {here, *((*path, absent) for absent in known.keys() - value.keys())}
            elif here in self._faulty and name not in required:
                self.doubtful.add(here)
            else:
                kept[name] = self.value(known[name], child, here)
        for name in required:
            if name not in kept:
                self.doubtful.add((*path, name))
                kept[name] = _sample(known[name])
        return kept

    def _map(self, node: Schema, value: dict[str, object], path: Path) -> dict[str, object]:
        """Of a mapping with free keys the faulty entries go, and what is left is not all of it."""
        kept = {}
        for name, child in value.items():
            if (*path, name) in self._faulty:
                self.doubtful |= {path, (*path, name)}
            else:
                kept[name] = self.value(node["additionalProperties"], child, (*path, name))
        sample: Any = _sample(node)
        return kept or sample


def _alternative(node: Schema, value: object) -> Schema:
    branches = node.get("anyOf") or node.get("oneOf")
    if not branches:
        return node
    if isinstance(value, list):
        return next((branch for branch in branches if branch.get("type") == "array"), node)
    meant = meant_branch(value, branches)
    return node if meant is None else _alternative(branches[meant], value)


def _sample(node: Schema) -> object:
    """Some value that a schema takes."""
    if branches := node.get("anyOf") or node.get("oneOf"):
        return _sample(branches[0])
    if "const" in node:
        return node["const"]
    if "enum" in node:
        return node["enum"][0]
    match node["type"]:
        case "object" if "properties" in node:
            return {name: _sample(node["properties"][name]) for name in node.get("required", ())}
        case "object":
            pattern = node.get("propertyNames", {}).get("pattern", "")
            return {_text(pattern): _sample(node["additionalProperties"])} if node.get("minProperties") else {}
        case "array":
            return [_sample(node["items"])] * int(node.get("minItems", 0))
        case "string":
            return _text(node.get("pattern", ""))
        case "boolean":
            return False
        case _:
            return 1


def _text(pattern: str) -> str:
    return next((sample for sample in _SAMPLES if re.search(pattern, sample)), "")
