"""The documentation holds: it builds without a network, every link leads somewhere, every command is one."""

from __future__ import annotations

import importlib
import logging
import re
import shlex
from pathlib import Path
from textwrap import dedent

import click
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from reconciler.cli.main import COMMANDS
from reconciler.domain.loading import load
from tests.consoles import Step, steps

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALLS = [step for page in PAGES for step in steps(page) if step.command.startswith("reconcile ")]
LOADS = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?https?://[^"'>]*""")
STOPS = {"&&", "||", "|", ";", ">", "<"}


def words_of(step: Step) -> list[list[str]]:
    """Each call of `reconcile` in a line, without its comment."""
    words = shlex.split(step.command, comments=True)
    calls: list[list[str]] = []
    fresh = True
    for word in words:
        if word in STOPS:
            fresh = word not in (">", "<")
            if not fresh:
                break
        elif fresh:
            calls.append([word])
            fresh = False
        else:
            calls[-1].append(word)
    return [call[1:] for call in calls if call[0] == "reconcile"]


def test_the_site_builds_strictly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every page is in the navigation; every link and anchor leads to one; nothing is loaded from elsewhere."""
    with caplog.at_level(logging.WARNING):
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    assert not caplog.records
    for page in (tmp_path / "site").rglob("*.html"):
        assert not LOADS.findall(page.read_text(encoding="utf-8")), page


@pytest.mark.parametrize("step", CALLS, ids=lambda step: f"{step.page}: {step.command[:60]}")
def test_every_command_of_the_documentation_is_one(step: Step) -> None:
    for name, *arguments in words_of(step):
        assert name in COMMANDS, name
        module, attribute = COMMANDS[name]
        command = getattr(importlib.import_module(module), attribute)
        with click.Context(command, info_name=name, resilient_parsing=False) as context:
            parser = command.make_parser(context)
            parser.parse_args(list(arguments))  # raises for an option that there is not


def test_every_manifest_that_a_how_to_page_shows_whole_is_valid() -> None:
    shown = []
    for page in sorted((ROOT / "docs/howto").glob("*.md")):
        for block in re.findall(r"(?s)```yaml\n(.*?)```", page.read_text(encoding="utf-8")):
            if "apiVersion:" in block:
                shown.append(block)
                loaded = load([(page.name, dedent(f"    {block.lstrip()}").encode())])
                assert loaded.ok, loaded.problems
    assert shown


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_there_are_commands_to_look_at() -> None:
    assert len(CALLS) > 60
