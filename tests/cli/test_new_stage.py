"""`reconcile new stage`: valid as soon as it is written, listed at its place, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.new import new
from reconciler.cli.validate import validate

ROOT = Path(__file__).parents[2]
LIST = "  stages: [stage-1, stage-2, stage-3, stage-4]"


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart's, in a folder of its own."""
    shutil.copytree(ROOT / "manifests" / "quickstart", tmp_path / "manifests")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "manifests"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(new, ["stage", *arguments], catch_exceptions=False)


MORE = ("--data", "more=data/D1.txt:0.6M")
ADDED = {
    "at the end": (("s", *MORE), "stage-4, s]", ["mix-a", "mix-b"], "converged"),
    "in the middle": (("s", "--after", "stage-2", *MORE), "stage-2, s, stage-3", ["naive", "replay-5"], "pre-cooldown"),
    "a large one": (("s", "--data", "x=data/D1.txt:9M"), "stage-4, s]", ["replay-10", "replay-25"], "converged"),
    "on data that is there": (
        ("s", "--after", "stage-1", "--dataset", "docs"), "stage-1, s,", ["naive", "replay-5"], "pre-cooldown",
    ),
    "far from the old": (("s", "--after", "stage-2", "--strong", *MORE), "stage-2, s,", ["mix-a"], "pre-cooldown"),
    "by strategies of one's own": (
        ("s", "--after", "stage-3", *MORE, "--strategy", "replay-30", "--strategy", "mix-a", "--tokens", "2M"),
        "stage-3, s,", ["replay-30", "mix-a"], "pre-cooldown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("arguments, place, strategies, source", ADDED.values(), ids=ADDED)
def test_a_stage_is_added(
    manifests: Path, arguments: tuple[str, ...], place: str, strategies: list[str], source: str
) -> None:
    before = {file.name: file.read_text() for file in manifests.iterdir()}
    told = run(*arguments)
    assert told.exit_code == 0, told.output
    assert "reconcile plan quickstart" in told.output
    listed = (manifests / "campaign.yaml").read_text()
    assert place in listed and listed.replace(", s,", ",").replace(", s]", "]") == before["campaign.yaml"]
    text = (manifests / "s.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../../schemas/cpt-v1.json\n")
    assert f"checkpoint: {source}" in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("    - name:")]
    assert names[: len(strategies)] == strategies
    assert {file.name for file in manifests.iterdir()} == {*before, "s.yaml"}
    assert CliRunner().invoke(validate, []).exit_code == 0


REFUSED = {
    "a stage that is there": (("stage-2", *MORE), 1, "there is a stage stage-2 of quickstart already"),
    "a file that is there": (("model", *MORE), 1, "manifests/model.yaml exists, and is not written over"),
    "after no stage": (("s", "--after", "stage-9", *MORE), 1, "there is no stage 'stage-9' here"),
    "no such dataset": (("s", "--dataset", "proze"), 1, "Did you mean prose?"),
    "a dataset that is there": (("s", "--data", "docs=data/D1.txt:6M"), 1, "there is a dataset docs already"),
    "no data": (("s",), 2, "one of --dataset NAME and --data"),
    "a name that climbs": (("../s", *MORE), 2, "is not a name of lower-case letters"),
    "no such strategy": (("s", *MORE, "--strategy", "mix-z"), 2, "there is naive, mix-a, mix-b"),
    "a buffer that is empty": (("s", "--after", "stage-1", *MORE, "--strategy", "mix-a"), 1, "M046"),
    "too few tokens": (("s", *MORE, "--tokens", "5"), 1, "M062"),
}  # fmt: skip


@pytest.mark.parametrize("arguments, status, message", REFUSED.values(), ids=REFUSED)
def test_a_refusal_changes_nothing(manifests: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    before = {file.name: file.read_bytes() for file in manifests.iterdir()}
    told = run(*arguments)
    assert (told.exit_code, message in told.output) == (status, True), told.output
    assert {file.name: file.read_bytes() for file in manifests.iterdir()} == before
