"""JSON Schemas (2020-12) of the manifests, generated from their classes: for editors, and for our own validation.

Descriptions are the docstrings of classes and of fields where they are declared; they are read from those modules'
sources only when a schema is written, since looking at source text at every start would cost time.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator, TypeChecker, validators
from jsonschema.protocols import Validator
from pydantic.fields import FieldInfo

from reconciler.model import authority, cluster, fieldtypes, gates, manifests, quantities, strategy
from reconciler.model.fieldtypes import Frozen
from reconciler.model.manifests import API_VERSION, KINDS

Schema = dict[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
COMBINED: Final = "cpt-v1.json"
DECLARED_IN: Final = (fieldtypes, authority, cluster, gates, strategy, manifests)
REGENERATE: Final = "reconcile schema --write schemas"


def files() -> dict[str, str]:
    """File name → text of every committed schema: the combined one for modelines, and one for each kind."""
    written = {COMBINED: combined()} | {f"{kind.lower()}.json": of_kind(kind) for kind in KINDS}
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in written.items()}


def of_kind(kind: str) -> Schema:
    """The schema of one kind, with descriptions."""
    schema = _generated(kind)
    _describe(schema)
    return {"$schema": DIALECT, **schema}


def combined() -> Schema:
    """One schema for any manifest: `kind` decides, by if/then, which editors follow best."""
    definitions: Schema = {}
    for kind in KINDS:
        schema = of_kind(kind)
        del schema["$schema"]
        definitions |= schema.pop("$defs")
        definitions[kind] = schema
    return {
        "$schema": DIALECT,
        "title": f"CPT manifest ({API_VERSION})",
        "description": "One object of a continual pre-training campaign.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "Version of these manifests."},
            "kind": {"enum": list(KINDS), "description": "What the object is."},
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in KINDS
        ],
        "$defs": dict(sorted(definitions.items())),
    }


def _is_integer(checker: TypeChecker, instance: object) -> bool:
    if isinstance(instance, Decimal):
        return instance == instance.to_integral_value()
    return isinstance(instance, int) and not isinstance(instance, bool)


_TYPES: Final = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
_Exact: Final[type[Validator]] = validators.extend(Draft202012Validator, type_checker=_TYPES)  # type: ignore[no-untyped-call]


@cache
def validator(kind: str) -> Validator:
    """The compiled schema of a kind; its numbers are exact decimals. References are resolved once, here."""
    return _Exact(inlined(kind))


@cache
def inlined(kind: str) -> Schema:
    """The schema of a kind without descriptions and without `$ref`, which no kind uses recursively."""
    schema = _generated(kind)
    definitions = schema.pop("$defs")

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].removeprefix("#/$defs/")])
        return {key: resolve(value) for key, value in node.items()}

    resolved: Schema = resolve(schema)
    return resolved


# --- from pydantic's schema to ours ----------------------------------------------------------------------------------


def _generated(kind: str) -> Schema:
    schema = KINDS[kind].model_json_schema()
    schema["title"] = kind
    for model, node in _objects(schema):
        properties = node["properties"]
        for name, info in model.model_fields.items():
            alias = info.alias or name
            properties[alias] = _property(properties[alias], info)
        node["properties"] = properties
    # apiVersion and kind come first in the file, so they do in completion.
    first = {name: schema["properties"].pop(name) for name in ("apiVersion", "kind", "metadata", "spec")}
    schema["properties"] = first
    schema["required"] = list(first)
    return schema


def _objects(schema: Schema) -> Iterator[tuple[type[Frozen], Schema]]:
    """Each class with its object schema; the definitions, then the kind itself."""
    classes = {name: value for module in DECLARED_IN for name, value in vars(module).items()}
    for name, node in schema["$defs"].items():
        yield classes[name], node
    yield KINDS[schema["title"]], schema


def _property(node: Schema, info: FieldInfo) -> Schema:
    node = {key: value for key, value in node.items() if key not in ("title", "default")}
    if "anyOf" in node:
        node["anyOf"] = [_closed(alternative) for alternative in _flat(node["anyOf"])]
    node = _closed(node)
    default = _spelled(info.get_default(call_default_factory=True, validated_data={}), node)
    if default is not None:
        node["default"] = default
    return node


def _closed(node: Schema) -> Schema:
    """Pydantic leaves keys outside a mapping's pattern free; here they are refused, with a message of their own."""
    if "patternProperties" not in node:
        return node
    ((pattern, values),) = node["patternProperties"].items()
    rest = {key: value for key, value in node.items() if key != "patternProperties"}
    return rest | {"propertyNames": {"pattern": pattern}, "additionalProperties": _closed(values)}


def _flat(alternatives: list[Schema]) -> Iterator[Schema]:
    for alternative in alternatives:
        if "anyOf" in alternative:
            yield from _flat(alternative["anyOf"])
        else:
            yield alternative


def _spelled(default: object, node: Schema) -> object:
    """A default as a person would write it; None for none, and for objects, whose fields show their own."""
    match default:
        case bool() | int() | str():
            return default
        case Decimal() if node.get("pattern") == quantities.SHARE_PATTERN:
            return f"{quantities.format_decimal(default * 100)}%"
        case Decimal():
            return int(default) if default == int(default) else float(default)
        case Fraction():
            return quantities.format_duration(float(default))
        case quantities.Rate():
            return str(default)
        case _:
            return None


# --- descriptions ----------------------------------------------------------------------------------------------------


def _describe(schema: Schema) -> None:
    """Put docstrings in; a quantity's own description (how it is written) follows its field's."""
    documented = _field_docs()
    for model, node in _objects(schema):
        node["description"] = inspect.cleandoc(model.__doc__ or "")
        for name, info in model.model_fields.items():
            owners = (owner.__name__ for owner in model.__mro__)
            text = next((documented[owner, name] for owner in owners if (owner, name) in documented), None)
            field = node["properties"][info.alias or name]
            written = field.pop("description", None)
            told = [part for part in (text, f"Written like {written}." if written else None) if part]
            if told:
                node["properties"][info.alias or name] = {"description": " ".join(told), **field}


@cache
def _field_docs() -> dict[tuple[str, str], str]:
    """(class, field) → the string that follows the field in the source."""
    found = {}
    for node in (node for module in DECLARED_IN for node in ast.parse(inspect.getsource(module)).body):
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[node.name, field.target.id] = inspect.cleandoc(text.value.value)
    return found
