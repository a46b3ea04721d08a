"""Pages of the documentation that come from code are as the code is."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.messages import catalogue
from reconciler.cli.reference import pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", pages())
def test_the_committed_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "write it again: make reference"


def test_every_code_has_a_place_on_the_page_of_messages() -> None:
    page = pages()["messages.md"]
    for code, entry in catalogue().items():
        assert (f"- [{code}]({entry.see})" if entry.rule is not None else f"### {code}\n") in page


def test_what_a_message_refers_to_is_there() -> None:
    for entry in catalogue().values():
        page, _, anchor = entry.see.partition("#")
        text = (DOCS / page).read_text(encoding="utf-8")
        headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
        anchors = {"".join(c for c in each if c.isalnum() or c in " -_").replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors, entry.see
