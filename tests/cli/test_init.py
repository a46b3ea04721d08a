"""`reconcile init`: a campaign of one's own is valid as soon as it is written, and nothing that is there is touched."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from reconciler.cli.init import init
from reconciler.cli.render import render
from reconciler.cli.validate import validate
from reconciler.model import source

MAIN = [sys.executable, "-m", "reconciler.cli.main"]
WEB, PAPERS = "web=/data/web.txt:1T", "papers=/data/papers.txt:22B"
FROM_OLD = ("--checkpoint", "/old/llama", "--data", WEB, "--data", PAPERS)
CASES = {
    "this machine": (),
    "this machine, own text": ("--data", "mine=data/mine.txt:1M"),
    "this machine, one thing after the other": tuple(
        word for at in range(4) for word in ("--data", f"d{at}=data/D{at}.txt:{at + 1}M")
    ),
    "Polaris, from a checkpoint": ("--cluster", "polaris", "--model", "llama-2-7b", "--account", "Mine", *FROM_OLD),
    "Polaris, from a checkpoint at one data-parallel size": (
        *("--cluster", "polaris", "--model", "llama-2-7b", "--account", "Mine", "--checkpoint-format", "zero"),
        *FROM_OLD, "--data", "code=/data/code.txt:2T",
    ),
    "Aurora, from the beginning": (
        *("--cluster", "aurora", "--model", "agpt-2b", "--account", "Mine", "--data", WEB),
        *("--data", "papers=/data/papers.txt:500B", "--data", "code=/data/code.txt:300B", "--data", "more=/m.txt:22B"),
    ),
    "Aurora, one dataset": ("--cluster", "aurora", "--model", "agpt-7b", "--account", "Mine", "--data", WEB),
    "another cluster": (
        *("--cluster", "own", "--host", "login.site.org", "--model", "llama-3-8b", "--workspace", "/w"), *FROM_OLD,
    ),
    "another cluster, odd numbers": (
        *("--cluster", "own", "--model", "agpt-7b", "--workspace", "/w", "--ranks", "7", "--nodes", "3"),
        *("--queue", "big", "--lr-max", "1e-4", "--node-hours", "7", "--data", WEB, "--data", PAPERS),
    ),
    "words that YAML reads as something else": (
        *("--cluster", "own", "--host", "123", "--account", "007", "--queue", "off", "--workspace", "/1e3"),
        *("--model", "agpt-7b", "--data", "on=/x/no.txt:1T", "--data", "null=/x/1.txt:2T"),
    ),
}  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(init, [*arguments], catch_exceptions=False)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "My-Model_2"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", folder], check=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_what_is_written_is_valid_and_found_by_editors(repository: Path, options: tuple[str, ...]) -> None:
    told = run("--yes", *options)
    assert told.exit_code == 0, told.output
    judged = CliRunner().invoke(validate, [])
    assert re.fullmatch(
        r"\d+ manifests valid in 5 files(, \d waived)?", judged.output.splitlines()[-1 - ("CODE" in judged.output)]
    )
    assert "warning" not in re.sub("waived warning", "", judged.output) and "note:" not in judged.output
    for file in (repository / "manifests" / "my-model-2").glob("*.yaml"):
        line, _, rest = file.read_text().partition("\n")
        schema = json.loads((file.parent / line.removeprefix("# yaml-language-server: $schema=")).read_text())
        for document in source.read("", rest.encode()).documents:
            assert not list(
                Draft202012Validator(schema).iter_errors(json.loads(json.dumps(document.data, default=float)))
            )
    assert len([line for line in told.output.splitlines() if line.startswith("    git add ")]) == 1


@pytest.mark.parametrize("name", [name for name, options in CASES.items() if "--checkpoint" not in options])
def test_the_first_job_can_be_rendered(repository: Path, name: str) -> None:
    assert run("--yes", *CASES[name]).exit_code == 0
    script = CliRunner().invoke(render, ["my-model-2/stage-1"])
    assert script.exit_code == 0, script.output
    assert "#PBS -l select=" in script.output


REFUSED = {
    "nothing to ask": (("--cluster", "polaris"), 2, "--model, --account and --data are missing"),
    "no such cluster": (("--cluster", "polars"), 2, "Did you mean polaris?"),
    "no such model": (("--cluster", "aurora", "--model", "llama2-7b", "--account", "x"), 2, "Did you mean llama-2-7b?"),
    "a large model on this machine": (("--model", "agpt-2b"), 2, "--model: 'agpt-2b' is not tiny"),
    "a relative path on a cluster": (("--cluster", "own", "--workspace", "w"), 2, "an absolute path on the cluster"),
    "a path that climbs": (("--workspace", "../../etc"), 2, "a path without .. in it"),
    "a path for the shell": (("--workspace", "$(rm -rf)"), 2, "--workspace: '$(rm -rf)' is not a path of letters"),
    "data without tokens": (("--data", "data/x.txt"), 2, "NAME=PATH:TOKENS"),
    "data in bytes": (("--data", "data/x.txt:5GB"), 2, "bytes"),
    "a name in capitals": (("--data", "Papers=data/x.txt:5M"), 2, "Write papers."),
    "two of one name": (("--data", "a=data/x.txt:5M", "--data", "a=data/y.txt:5M"), 2, "two --data are called a"),
    "a checkpoint and nothing new": (("--checkpoint", "o", "--data", "a=b.txt:5M"), 2, "a second --data is missing"),
    "a colour in a name": (("--data", "\x1b[31mx=data/x.txt:5M"), 2, "is not a name of lower-case letters"),
    "a line end in an account": (("--cluster", "own", "--account", "x\nqueue: y"), 2, "one word of letters"),
    "no tokens": (("--data", "a=data/x.txt:0"), 2, "at least one token"),
    "less than a step": (("--data", "a=data/x.txt:5"), 1, "M062"),
    "a rate that is none": (("--lr-max", "nan"), 1, "M017"),
    "a name for no campaign": (("Over There",), 1, "cannot be a campaign's name"),
}  # fmt: skip


@pytest.mark.parametrize("options, status, message", REFUSED.values(), ids=REFUSED)
def test_a_bad_answer_is_refused_and_nothing_is_written(
    repository: Path, options: tuple[str, ...], status: int, message: str
) -> None:
    told = run("--yes", *options)
    assert (told.exit_code, message in told.output) == (status, True), told.output
    assert "\x1b" not in told.output
    assert [file for file in repository.rglob("*") if file.is_file() and ".git/" not in str(file)] == []


def test_without_a_terminal_nothing_is_asked(repository: Path) -> None:
    done = subprocess.run([*MAIN, "init"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 files for campaign my-model-2, valid:" in done.stdout


def test_no_file_is_written_over(repository: Path) -> None:
    there = repository / "manifests" / "mine" / "stages.yaml"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    told = run("--yes", "manifests/mine")
    assert told.exit_code == 1
    assert "manifests/mine/stages.yaml exists, and is not written over" in told.output
    assert [path.name for path in there.parent.iterdir()] == ["stages.yaml"] and there.read_text() == "mine"


def test_a_second_campaign_stands_beside_the_first_under_names_of_its_own(repository: Path) -> None:
    assert run("--yes", "manifests/one").exit_code == 0
    assert run("--yes", "manifests/two").exit_code == 0
    assert "14 manifests valid in 10 files" in CliRunner().invoke(validate, []).output
    again = run("--yes", "manifests/x/two")
    assert again.exit_code == 1 and "there is a campaign two already" in again.output


def test_a_blank_in_the_path_of_this_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    monkeypatch.chdir(folder)
    told = run("--yes", "mine")
    assert told.exit_code == 1 and "has a blank in its path" in told.output
    assert not list(folder.rglob("*.yaml"))


def test_without_git_the_machine_of_another_cluster_has_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("--yes", "new", *CASES["another cluster"])
    assert told.exit_code == 1 and "git init" in told.output
    local = run("--yes", "new")
    assert local.exit_code == 0
    assert "git init && git add new && git commit" in local.output and "reconcile plan new -f new" in local.output


def test_a_person_is_asked_again_until_an_answer_can_be_read(repository: Path) -> None:
    leader, follower = pty.openpty()
    answers = ["polars", "polaris", "agpt-7b", "Mine", "rel", "/eagle/w", "", "web", WEB, PAPERS, ""]
    process = subprocess.Popen([*MAIN, "init"], stdin=follower, stderr=follower, stdout=subprocess.PIPE, text=True)
    os.close(follower)
    os.write(leader, "".join(f"{answer}\n" for answer in answers).encode())
    out, _ = process.communicate(timeout=60)
    asked = os.read(leader, 100_000).decode()
    os.close(leader)
    assert process.returncode == 0, asked
    assert "5 files for campaign my-model-2, valid:" in out or "6 files for campaign my-model-2, valid:" in out
    assert (
        "Did you mean polaris?" in asked and "an absolute path on the cluster" in asked and "NAME=PATH:TOKENS" in asked
    )
    assert "workspace: /eagle/w" in (repository / "manifests/my-model-2/cluster.yaml").read_text()


def test_the_commands_that_it_ends_with_lead_to_a_plan(repository: Path) -> None:
    """On this machine as a cluster, and on it as a login node whose PBS is on the PATH."""
    environment = os.environ | {
        f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    told = run("--yes")
    commands = [line.strip() for line in told.output.splitlines()][-4:]
    commands = [
        command.replace("reconcile local my-model-2", "reconcile local my-model-2 --scale tiny") for command in commands
    ]
    ran = subprocess.run(
        ["bash", "-ec", "\n".join(commands)], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Plan: 1 job to submit" in ran.stdout
    site = repository / ".local"
    names = [f"web={site}/web.txt:1B", f"papers={site}/papers.txt:2B"]
    for name in ("web", "papers", "validation/val-D0", "validation/val-D1"):
        (site / "validation").mkdir(exist_ok=True)
        (site / f"{name}.txt").write_text(f"1.0 {site}/{name} corpus\n")
    options = (
        "--cluster",
        "own",
        "--model",
        "agpt-7b",
        "--workspace",
        f"{site}/w",
        "--validation",
        f"{site}/validation",
    )
    assert run("manifests/there", "--yes", *options, "--data", names[0], "--data", names[1]).exit_code == 0
    subprocess.run("git add manifests && git commit -qm there", shell=True, check=True, env=environment)
    environment["PATH"] = f"{site}/my-model-2/bin:{environment['PATH']}"
    planned = subprocess.run(
        ["reconcile", "plan", "there"], capture_output=True, text=True, env=environment, check=False
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Plan: 1 job to submit" in planned.stdout
