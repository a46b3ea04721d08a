"""`reconcile ledger` as a person meets it, on a campaign whose second stage was tried twice."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler import loop
from reconciler.cli import ledger as command
from reconciler.model.observed import Observed, Unread
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from tests.planner.world import FORGOT_D0, MANIFESTS, SAME, World, after, quickstart

STEP = 2048


@pytest.fixture(scope="module")
def done() -> World:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    world.finish_stage(SAME)
    return world


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, observed: Observed, *arguments: str) -> Result:
    def look(desired: Desired, link: object, by: None) -> loop.Look:
        there = quickstart()
        return loop.Look(observed, plan(there, observed))

    monkeypatch.setattr(command, "connect", lambda opened: None)
    monkeypatch.setattr(loop, "look", look)
    monkeypatch.setattr(Desired, "list_paths", lambda self, own=Desired.list_paths: _here(own(self)))
    monkeypatch.setattr(Desired, "validation_paths", lambda self, own=Desired.validation_paths: _here(own(self)))
    return CliRunner().invoke(command.ledger, list(arguments))


def _here(paths: dict[str, str]) -> dict[str, str]:
    """Paths as in the look that the tests have."""
    return {label: f"/r/data/{path.rsplit('/', 1)[1]}" for label, path in paths.items()}


def test_what_was_drawn_and_seen(repository: Path, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run(monkeypatch, done.look(), "--json")
    assert told.exit_code == 0, told.output
    body = json.loads(told.stdout)
    assert (body["checkpoint"]["stage"], body["checkpoint"]["origin"]) == ("stage-3", "random weights")
    by_source = {row["source"]: row for row in body["sources"]}
    assert by_source["D1"]["drawn"] == round((977 + 977 * 19 / 20) * STEP)
    assert by_source["D1"]["seen"] == round(977 * 19 / 20 * STEP)
    assert by_source["D1"]["seen_epochs"] == pytest.approx(977 * 19 / 20 * STEP / 2_000_000, abs=1e-5)
    assert sum(row["drawn"] for row in body["sources"]) == body["tokens_drawn"] == (1954 + 2 * 977 + 733) * STEP
    assert sum(row["seen"] for row in body["sources"]) == body["tokens_seen"] == (1954 + 977 + 733) * STEP
    assert {(row["stage"], row["outcome"]) for row in body["attempts"]} >= {
        ("stage-2", "failed"),
        ("stage-2", "passed"),
    }


def test_the_same_for_people(repository: Path, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run(monkeypatch, done.look())
    assert told.exit_code == 0, told.output
    assert "from random weights" in told.stdout
    lines = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert lines["D2"] == ["D2", "1.5M", "1,501,184", "1", "1,501,184", "1"]
    assert lines["total"] == ["total", f"{(1954 + 2 * 977 + 733) * STEP:,}", f"{(1954 + 977 + 733) * STEP:,}"]


@pytest.mark.parametrize(
    ("arguments", "tokens", "times"),
    [
        pytest.param(["--corpus", "D1.more"], (977 + 977 * 19 / 20) / 4 * STEP, "1.95", id="a corpus"),
        pytest.param(["--file", "D1-a"], (977 + 977 * 19 / 20) * 3 / 4 * STEP, "1.95", id="a file"),
    ],
)
def test_how_often_something_was_seen_and_what_it_taints(
    repository: Path, done: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], tokens: float, times: str
) -> None:
    told = run(monkeypatch, done.look(), *arguments)
    assert told.exit_code == 0, told.output
    assert f"drawn in all: {round(tokens):,} tokens, {times} times" in told.stdout
    tainted = told.stdout[told.stdout.index("Its removal would taint") :]
    assert [line.split()[0] for line in tainted.splitlines()[2:5]] == ["stage-2", "stage-2", "stage-3"]
    body = json.loads(run(monkeypatch, done.look(), *arguments, "--json").stdout)["asked"]
    assert (body["drawn"]["tokens"], len(body["taints"])) == (round(tokens), 3)


def test_an_earlier_checkpoint_has_seen_less(repository: Path, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = next(attempt for stage, attempt in done.attempts if stage == "stage-1")
    for arguments in (
        ["--stage", "stage-1"],
        ["--attempt", one],
        ["--checkpoint", f"stage-1/{one}/leg-0/global_step1954"],
    ):
        body = json.loads(run(monkeypatch, done.look(), *arguments, "--json").stdout)
        assert body["tokens_seen"] == 1954 * STEP
    body = json.loads(run(monkeypatch, done.look(), "--checkpoint", f"{one}/leg-0/100", "--json").stdout)
    assert body["tokens_seen"] == 100 * STEP


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        pytest.param(["--stage", "stage-9"], 1, "--stage 'stage-9' is no stage of quickstart", id="no such stage"),
        pytest.param(["--stage", "stage-4"], 1, "stage-4 has no checkpoint yet", id="no checkpoint"),
        pytest.param(["--attempt", "f" * 12], 1, "the workspace has no attempt", id="no such attempt"),
        pytest.param(
            ["--checkpoint", "latest"], 1, "is not of the form ATTEMPT/leg-N/ITERATION", id="no checkpoint's path"
        ),
        pytest.param(["--file", "D9-a"], 1, "no data list of the campaign has a file 'D9-a'", id="no such file"),
        pytest.param(["--corpus", "mor"], 1, "--corpus more", id="a corpus misspelt"),
        pytest.param(["--stage", "stage-1", "--attempt", "f" * 12], 2, "name one checkpoint", id="two checkpoints"),
        pytest.param(["--corpus", "more", "--file", "D1-a"], 2, "two questions", id="two questions"),
    ],
)
def test_what_cannot_be_answered_is_told(
    repository: Path, done: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, told: str
) -> None:
    result = run(monkeypatch, done.look(), *arguments)
    assert (result.exit_code, told in result.output) == (status, True), result.output


def test_an_iteration_beyond_a_leg_is_told(repository: Path, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = next(attempt for stage, attempt in done.attempts if stage == "stage-1")
    result = run(monkeypatch, done.look(), "--checkpoint", f"{one}/leg-0/1955")
    assert (result.exit_code, "it is leg-0 of 1954" in result.output) == (1, True)


def test_a_list_that_has_changed_is_told(repository: Path, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = done.look()
    path = done.desired.list_paths()["D1"]
    changed = {**observed.lists, path: Unread("timed out")}
    told = run(monkeypatch, Observed(observed.now_s, "h", observed.jobs, observed.attempts, observed.receipts, changed),
               "--file", "D1-a")  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "in no list as it is now" in told.stdout
    assert "and an unknown number from lists that have changed" in told.stdout
    assert "unknown: D1 in leg 0 of stage-2/" in told.stdout


def test_before_anything_is_trained(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run(monkeypatch, World(quickstart()).look())
    assert (told.exit_code, "Nothing has been drawn yet." in told.stdout) == (0, True), told.output
    assert json.loads(run(monkeypatch, World(quickstart()).look(), "--json").stdout)["checkpoint"] is None


def test_a_workspace_that_was_not_read_is_no_empty_ledger(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = World(quickstart()).look()
    blind = Observed(observed.now_s, "h", observed.jobs, Unread("timed out"), observed.receipts, observed.lists)
    told = run(monkeypatch, blind)
    assert (told.exit_code, "the workspace could not be read: timed out" in told.output) == (1, True)
