"""Completion in real shells: the printed function is loaded, and asked what may stand where the cursor is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reconciler.cli import completing
from reconciler.cli.main import COMMANDS, reconcile
from tests.record.repositories import git

ROOT = Path(__file__).parents[2]
BASH = """
eval "$(reconcile completion bash)"
COMP_WORDS=({line}); COMP_CWORD={at}; _reconcile_completion reconcile
printf "%s\\n" "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ :; }}
compadd() {{ print -l -- $completions; }}
_describe() {{ print -l -- $completions_with_descriptions; }}
eval "$(reconcile completion zsh)"
words=({line}); CURRENT={last}; _reconcile_completion
"""
FISH = "reconcile completion fish | source; complete -C '{text}'"
WANTED = {
    "reconcile pl": {"plan"},
    "reconcile status q": {"quickstart"},
    "reconcile why stage-": {"stage-1", "stage-2", "stage-3", "stage-4"},
    "reconcile doctor a": {"aurora", "aurora-legacy"},
    "reconcile apply --retry stage-4": {"stage-4"},
    "reconcile show 0123": {"0123456789ab"},
    "reconcile explain NotC": {"NotCommitted", "NotConverted"},
    "reconcile render decay/c": {"decay/code"},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped manifests, one that is broken, one of hostile names, and a record with an attempt."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    (folder / "manifests" / "broken.yaml").write_text("kind: [")
    odd = 'apiVersion: cpt/v1\nkind: Campaign\nmetadata: {name: "q$(touch hit)\\e[31m"}\nspec: {}\n'
    (folder / "manifests" / "hostile.yaml").write_text(odd)
    git(folder, "init", "-q", "-b", "reconcile/record")
    fact = folder / "campaigns" / "quickstart" / "local-1" / "stage-1" / "0123456789ab" / "recipe.json"
    fact.parent.mkdir(parents=True)
    fact.write_text("{}")
    git(folder, "add", "campaigns")
    git(folder, "commit", "-q", "-m", "A fact")
    return folder


def said(shell: list[str], repository: Path) -> set[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        shell, cwd=repository, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert not done.stderr, done.stderr
    return {word for line in done.stdout.splitlines() for word in line.split("\t")}


@pytest.mark.parametrize("text, wanted", WANTED.items(), ids=WANTED)
def test_bash_is_offered_what_there_is(repository: Path, text: str, wanted: set[str]) -> None:
    script = BASH.format(line=text, at=len(text.split()) - 1)
    assert said(["bash", "--norc", "-c", script], repository) == wanted


@pytest.mark.parametrize("shell, text", [(shell, text) for shell in ("zsh", "fish") for text in list(WANTED)[1:3]])
def test_zsh_and_fish_are_too(repository: Path, shell: str, text: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"apt-get install {shell}")
    script = (ZSH if shell == "zsh" else FISH).format(line=text, last=len(text.split()), text=text)
    offered = said([shell, "-f" if shell == "zsh" else "--no-config", "-c", script], repository)
    assert WANTED[text] <= {word.split(":")[0] for word in offered}
    assert not (repository / "hit").exists()


def test_what_is_offered_is_what_the_commands_take() -> None:
    """Names are offered without importing a command, so each command's own arguments are compared here."""
    context = click.Context(reconcile)
    for name, sources in completing.ARGUMENTS.items():
        command = reconcile.get_command(context, name)
        assert command is not None
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        assert len(arguments) >= len(sources), name
    assert completing.ARGUMENTS.keys() <= COMMANDS.keys()


def test_no_heavy_module_is_loaded_for_a_name(repository: Path) -> None:
    code = "import sys; sys.argv = ['reconcile']\nfrom reconciler.cli.main import main\ntry:\n    main()\nfinally:\n"
    code += "    heavy = {'pydantic', 'rich', 'paramiko', 'jinja2', 'jsonschema', 'git'} & sys.modules.keys()\n"
    code += "    print(heavy or 'light')"
    environment = {
        **os.environ,
        "_RECONCILE_COMPLETE": "bash_complete",
        "COMP_WORDS": "reconcile plan d",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plain,decay", "light"], done.stdout + done.stderr


def test_another_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(reconcile, ["completion", "tcsh"]).exit_code == 2
