"""A word that is nearly one of those known is answered with the one that was probably meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.main import COMMANDS, reconcile

MANIFESTS = str(Path(__file__).parents[2] / "manifests")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["aply"], "Did you mean apply?"),
        (["plan", "quickstrat", "-f", MANIFESTS], "Did you mean quickstart?"),
        (["render", "quickstart/stage2", "-f", MANIFESTS], "Did you mean stage-2?"),
        (["render", "quickstart/stage-2", "--strategy", "replay", "-f", MANIFESTS], "Did you mean replay-5?"),
    ],
)
def test_the_word_that_was_meant_is_named(arguments: list[str], meant: str) -> None:
    result = CliRunner().invoke(reconcile, arguments)
    assert result.exit_code != 0
    assert meant in result.output


def test_a_command_like_none_is_answered_with_the_first_of_them() -> None:
    result = CliRunner().invoke(reconcile, ["blub"])
    assert result.exit_code == 2
    assert f"there is no command blub. There is {', '.join(list(COMMANDS)[:3])}" in result.output


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        (["plan"], "reconcile plan CAMPAIGN"),
        (["why", "stage-3"], "reconcile why stage-3 CAMPAIGN"),
        (["checkpoints", "stage-3"], "reconcile checkpoints stage-3 CAMPAIGN"),
        (["diff", "HEAD"], "reconcile diff HEAD --campaign NAME"),
    ],
)
def test_where_several_campaigns_are_the_way_on_keeps_what_was_typed(arguments: list[str], way: str) -> None:
    result = CliRunner().invoke(reconcile, [*arguments, "-f", MANIFESTS], prog_name="reconcile")
    assert result.exit_code == 1
    assert f"    {way}\n" in result.output


def test_without_a_command_the_help_is_shown_and_no_mistake() -> None:
    shown = subprocess.run([sys.executable, "-m", "reconciler.cli.main"], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert shown.stderr.startswith("Usage: ")
    assert not shown.stderr.rstrip().endswith("]")


def test_a_wrong_option_is_told_with_its_code() -> None:
    call = [sys.executable, "-m", "reconciler.cli.main", "simulate", "--throughput", "fast"]
    shown = subprocess.run(call, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert shown.stderr.startswith("Usage: ")
    assert shown.stderr.endswith(" [WrongUsage]\n")
