"""The JSON Schemas that editors read are the ones that the classes generate, and agree with the classes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from reconciler.model import schema, source
from reconciler.model.forms import FORMS
from reconciler.model.manifests import KINDS

ROOT = Path(__file__).parents[2]
NAMES = ["campaign.json", "cluster.json", "cpt-v1.json", "dataset.json", "model.json", "stage.json"]


def committed_documents() -> list[dict[str, Any]]:
    found = []
    for file in sorted((ROOT / "manifests").rglob("*.yaml")):
        for document in source.read(file.name, file.read_bytes()).documents:
            assert isinstance(document.data, dict)
            found.append(document.data)
    return found


DOCUMENTS = committed_documents()


@pytest.mark.parametrize("name", NAMES)
def test_committed_schemas_are_current(name: str) -> None:
    committed = ROOT / "schemas" / name
    current = committed.is_file() and committed.read_text(encoding="utf-8") == schema.files()[name]
    assert current, f"schemas/{name} is not what the classes generate; write it again:\n    {schema.REGENERATE}"


def test_no_other_schemas_lie_there() -> None:
    assert sorted(path.name for path in (ROOT / "schemas").glob("*.json")) == NAMES == sorted(schema.files())


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_valid_schemas(name: str) -> None:
    text = json.loads(schema.files()[name])
    assert text["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(text)


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object" and "title" in node and "properties" in node:
            yield node
        for child in node.values():
            yield from objects(child)


def test_every_object_is_closed_and_every_field_is_described() -> None:
    combined = json.loads(schema.files()["cpt-v1.json"])
    seen = 0
    for node in objects(combined["$defs"]):
        assert node["additionalProperties"] is False, node["title"]
        assert node["description"]
        for name, field in node["properties"].items():
            assert field.get("description") or "const" in field or "$ref" in field, (
                f"{node['title']}.{name} has no docstring"
            )
            seen += 1
    assert seen > 100


def test_every_form_of_text_has_words_for_its_faults() -> None:
    """A pattern without an entry would be told as a regular expression."""

    def patterns(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                yield node["pattern"]
            for child in node.values():
                yield from patterns(child)
        if isinstance(node, list):
            for child in node:
                yield from patterns(child)

    used = {pattern for kind in KINDS for pattern in patterns(schema.inlined(kind))}
    assert used <= set(FORMS)


def test_only_known_keywords_are_used() -> None:
    """The words for faults cover these keywords; another would be told by its name."""
    keywords: set[str] = set()

    def visit(node: Any) -> None:
        if not isinstance(node, dict):
            return
        keywords.update(node)
        for key in ("properties", "$defs"):
            for child in node.get(key, {}).values():
                visit(child)
        for key in ("anyOf", "oneOf"):
            for child in node.get(key, ()):
                visit(child)
        for key in ("items", "additionalProperties", "propertyNames"):
            visit(node.get(key))

    for kind in KINDS:
        visit(schema.inlined(kind))
    assert keywords <= {
        *("type", "properties", "required", "additionalProperties", "propertyNames", "items", "anyOf", "oneOf"),
        *("const", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "maxLength", "minItems"),
        *("maxItems", "minProperties", "maxProperties", "title", "description", "default", "discriminator"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_spelled_as_a_manifest_would(kind: str) -> None:
    """A default that the schema itself refuses would be offered by editors."""

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if "default" in node:
                Draft202012Validator(node).validate(node["default"])
            for child in node.values():
                visit(child)

    visit(schema.inlined(kind))


def test_the_combined_schema_takes_every_committed_manifest() -> None:
    combined = Draft202012Validator(json.loads(schema.files()["cpt-v1.json"]))
    for document in DOCUMENTS:
        combined.validate(document)
        schema.validator(document["kind"]).validate(document)
    kinds = {document["kind"] for document in DOCUMENTS}
    assert kinds == set(KINDS)


@pytest.mark.parametrize("kind", [None, "Job", "stage"])
def test_the_combined_schema_refuses_other_kinds(kind: str | None) -> None:
    combined = Draft202012Validator(schema.combined())
    assert not combined.is_valid({"apiVersion": "cpt/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {}})


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3,
        10**30,
        "",
        "x",
        "4T",
        "6h",
        "5%",
        "lrMax/5",
        "D1",
        "random",
        [],
        ["a"],
        {},
        {"kind": "local"},
    ]
)


def paths(node: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield at
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from paths(child, (*at, key))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        # apiVersion and kind decide which schema is meant; the rest may be anything.
        path = draw(st.sampled_from([path for path in paths(document) if len(path) > 1] or [("spec",)]))
        holder: Any = document
        for part in path[:-1]:
            holder = holder[part]
        if draw(st.booleans()) or isinstance(holder, list):
            holder[path[-1]] = copy.deepcopy(draw(ODD))
        else:
            del holder[path[-1]]
    return document


@settings(max_examples=200)
@given(damaged())
def test_what_the_classes_take_the_schema_takes(document: dict[str, Any]) -> None:
    """The schema may be wider (a value that cannot be read is pydantic's to refuse), never narrower."""
    kind = KINDS[document["kind"]]
    try:
        kind.model_validate(document)
    except ValidationError:
        return
    errors = [error for error in schema.validator(document["kind"]).iter_errors(document)]
    # Pydantic reads numbers from text and truth from words, for programs; manifests must say what they mean.
    assert all(error.validator in ("type", "anyOf", "pattern", "propertyNames") for error in errors), errors


def test_every_shipped_manifest_names_the_schema_that_an_editor_then_finds() -> None:
    manifests = sorted((ROOT / "manifests").rglob("*.yaml"))
    named = {
        (file.parent / file.read_text(encoding="utf-8").partition("\n")[0].partition("$schema=")[2]).resolve()
        for file in manifests
    }
    assert named == {ROOT / "schemas" / schema.COMBINED}
