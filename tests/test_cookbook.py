"""docs/cookbook.md says where each statement of the cookbook lives; nothing there may point at what does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.rules import RULES
from reconciler.model import schema

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
FIELDS = sorted(set(re.findall(r"`((?:Campaign|Cluster|Dataset|Model|Stage)\.spec[\w.]*)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:manifests|reconciler|tests|docs)/[\w./-]+)`", PAGE)))
CODES = sorted(set(re.findall(r"\bCPT\d{3}\b", PAGE)))
RUNGS = [
    (found.group(1), name)
    for row in ROWS
    for found in re.finditer(
        r"`(manifests/auroragpt-v1/stage-\d\.yaml)`(?:, rungs? ((?:`[\w-]+`(?:, | and )?)+))?", row
    )
    for name in re.findall(r"`([\w-]+)`", found.group(2) or "")
]


def exists(node: dict[str, Any], keys: list[str]) -> bool:
    """Whether a path of fields leads somewhere, through lists, alternatives and mappings."""
    if not keys:
        return True
    below = [node["items"]] if isinstance(node.get("items"), dict) else []
    below += [each for each in node.get("anyOf", ()) if isinstance(each, dict)]
    found = node.get("properties", {}).get(keys[0])
    return (found is not None and exists(found, keys[1:])) or any(exists(each, keys) for each in below)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_the_page_names_is_one_of_the_manifests(field: str) -> None:
    kind, *keys = field.split(".")
    assert exists(schema.inlined(kind), keys)


@pytest.mark.parametrize("code", CODES)
def test_a_rule_that_the_page_names_is_one(code: str) -> None:
    assert code in {rule.code for rule in RULES}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_the_page_names_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("file", "rung"), RUNGS)
def test_a_rung_that_the_page_names_is_in_that_manifest(file: str, rung: str) -> None:
    assert re.search(rf"(name: |^\s+|[{{ ]){rung}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_statement_says_where_it_lives() -> None:
    assert [row for row in ROWS if not row.split("|")[2].strip()] == []
    assert len(ROWS) > 60
    assert len(FIELDS) > 25
