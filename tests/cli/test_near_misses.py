"""A word that is nearly one of those known is answered with the one that was probably meant."""

from __future__ import annotations

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


def test_a_command_like_none_is_answered_with_all_of_them() -> None:
    result = CliRunner().invoke(reconcile, ["blub"])
    assert result.exit_code == 2
    assert f"there is no command blub. There is {', '.join(list(COMMANDS)[:3])}" in result.output
