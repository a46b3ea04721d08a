"""docs/strategies.md shows how each strategy is written; what it shows is what the manifests say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("file", "example"), EXAMPLES, ids=[example.split("\n")[0] for _, example in EXAMPLES])
def test_an_example_is_a_part_of_the_manifest_that_it_names(file: str, example: str) -> None:
    assert textwrap.indent(example, "    ") in (ROOT / file).read_text(encoding="utf-8")


def test_every_example_names_its_manifest() -> None:
    assert len(EXAMPLES) == PAGE.count("```yaml") >= 9
