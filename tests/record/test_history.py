"""The record read: `history` and `show` in a clone, without a cluster, as a person and as a program read them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.model.recipe import read_recipe
from reconciler.planner import facts
from reconciler.record.branch import REF
from tests.record.campaign import PLACE, Cluster, live, planned
from tests.record.repositories import clone, git, on, repository

GOLDEN = Path(__file__).parents[1] / "golden" / "record"
ROOT = Path(__file__).parents[2]


def reconcile(folder: Path, *arguments: str, status: int | None = 0) -> str:
    """Run `reconcile ...` with no home, no secret and no cluster; both outputs."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "TZ": "UTC"}
    command = [sys.executable, "-m", "reconciler.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert status is None or done.returncode == status, told
    assert "Traceback" not in told, told
    return told


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which three stages are on record."""
    root = planned(tmp_path_factory.mktemp("kept") / "repository")
    live(root, Cluster.of(root))
    return root


@pytest.fixture(scope="module")
def later(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of it, a year later."""
    return clone(tmp_path_factory.mktemp("later") / "clone", str(kept))


def attempts(root: Path) -> dict[str, str]:
    """Attempt → stage."""
    paths = (path.split("/") for path in on(root, "refs/remotes/origin/reconcile/record"))
    return {parts[4]: parts[3] for parts in paths if len(parts) > 5}


def compared(name: str, text: str, root: Path) -> None:
    """With the golden text, less what differs from run to run or with every template: commit and digests of scripts."""
    commit = git(root, "rev-parse", "HEAD").strip()
    text = re.sub(r"templates [0-9a-f]{16}", "templates DIGEST", text)
    text = re.sub(r"(?m)^( +l\d+-n\d+-\S+ +)[0-9a-f]{12}\b", r"\1DIGEST", text)
    text = "".join(f"{line.rstrip()}\n" for line in text.replace(commit[:9], "COMMIT").splitlines())
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SNAP_UPDATE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else "(there is no such golden text; run with SNAP_UPDATE=1)\n")


def test_the_history_as_a_person_reads_it(later: Path) -> None:
    compared("history", reconcile(later, "history"), later)


def test_the_history_of_one_stage(later: Path) -> None:
    told = reconcile(later, "history", "stage-3")
    assert "stage-3" in told
    assert "stage-2  " not in told
    assert "nothing of a stage stage-9 is on record" in reconcile(later, "history", "stage-9", status=1)


def test_an_attempt_as_a_person_reads_it(later: Path) -> None:
    (attempt,) = (name for name, stage in attempts(later).items() if stage == "stage-2")
    compared("show", reconcile(later, "show", attempt), later)


def test_a_clone_a_year_later_makes_every_recipe_and_script_again(later: Path) -> None:
    for attempt in attempts(later):
        body = json.loads(reconcile(later, "show", attempt, "--json"))
        (made,) = body["made_again"]
        assert (made["same"], made["recipe"], made["manifests"]) == (True, "", "")
        assert len(made["scripts"]) == len([event for event in body["story"]["events"] if event["job"]])
        assert body["digest"].startswith(attempt)
        assert body["lineage"][-1]["stage"] == "stage-1"
        assert body["begins"] == "random weights"


def test_a_shallow_clone_has_what_it_needs_on_record(kept: Path, tmp_path: Path) -> None:
    """The history of the manifests is not there; what was applied is."""
    git(kept, "commit", "-q", "--allow-empty", "-m", "Later")
    shallow = clone(tmp_path / "shallow", f"file://{kept}", "--depth", "1", "--no-single-branch")
    git(kept, "reset", "-q", "--hard", "HEAD~1")
    attempt = next(iter(attempts(shallow)))
    told = reconcile(shallow, "show", attempt)
    assert "(a shallow clone); its manifests are on record" in told
    assert "byte for byte" in told


def test_manifests_that_were_changed_on_record_come_to_another_recipe(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    git(other, "branch", "-q", "reconcile/record", "origin/reconcile/record")
    git(other, "checkout", "-q", "reconcile/record")
    (path,) = other.glob("manifests/*/manifests/stages.yaml")
    path.write_text(path.read_text().replace("tokens: 4M", "tokens: 5M", 1))
    git(other, "commit", "-qam", "A forger's")
    git(other, "checkout", "-q", "main")
    told = reconcile(other, "show", next(a for a, stage in attempts(other).items() if stage == "stage-1"), status=1)
    assert "has others: manifests/stages.yaml" in told
    assert "they come to another recipe" in told


def test_a_name_that_is_not_on_record(later: Path, tmp_path: Path) -> None:
    assert "is not on record" in reconcile(later, "show", "ffffffffffff", status=1)
    assert "there is no record here" in reconcile(repository(tmp_path / "bare"), "history", status=1)
    assert "campaign nightly is not on record" in reconcile(later, "history", "-c", "nightly", status=1)


def test_what_a_stranger_put_on_record_is_shown_and_not_obeyed(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    git(other, "checkout", "-q", "-b", "reconcile/record", "origin/reconcile/record")
    for path in (*other.glob("campaigns/**/ended.json"), *other.glob("campaigns/**/origin.json")):
        body = json.loads(path.read_text()) | {
            "comment": "\x1b[2Jgone\u202e",
            "author": "\x1b]0;x\x07 <x>",
            "exit_status": 1,
        }
        path.write_text(json.dumps(body))
    for path in list(other.glob("campaigns/**/recipe.json"))[:1]:
        path.write_text(path.read_text().replace('"high": 0.002', '"high": 1e999'))
    odd = other / PLACE / "stage-1" / ("f" * 12) / "actions/l0-n0-train/receipt.json"
    odd.parent.mkdir(parents=True)
    odd.write_text("[" * 100_000)
    git(other, "add", ".")
    git(other, "commit", "-qm", "A stranger's")
    git(other, "checkout", "-q", "main")
    told = reconcile(other, "history")
    assert "\x1b" not in told
    assert "gone" in told
    assert "cannot be read and are left out" in told


FORGED = [
    (("curve", "high"), "NaN"),
    (("curve", "end"), "0"),
    (("mixture",), '{"D1": "1/0"}'),
    (("iterations",), "-7"),
]


def test_recipes_that_somebody_forged_are_told_to_make_no_sense(kept: Path, tmp_path: Path) -> None:
    """Their digests are right: the folders are named for them."""
    other = clone(tmp_path / "other", str(kept))
    git(other, "checkout", "-q", "-b", "reconcile/record", "origin/reconcile/record")
    (path,) = other.glob("campaigns/*/*/stage-2/*/recipe.json")
    forged = []
    for place, value in FORGED:
        body = json.loads(path.read_text())
        inner = body["legs"][0]
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = json.loads(value)
        recipe = read_recipe(json.dumps(body))
        assert recipe is not None
        forged.append(recipe.attempt)
        folder = path.parent.parent / recipe.attempt
        folder.mkdir()
        (folder / "recipe.json").write_text(json.dumps(body))
    git(other, "add", ".")
    git(other, "commit", "-qm", "A forger's")
    git(other, "checkout", "-q", "main")
    told = reconcile(other, "history")
    assert all(attempt in told for attempt in forged)
    reconcile(other, "status", "--at", "HEAD")
    for attempt in forged:
        reconcile(other, "show", attempt, status=None)


def test_five_thousand_commits_are_read_in_two_seconds(kept: Path, tmp_path: Path) -> None:
    """Of manifests and of the record: a campaign of years."""
    other = clone(tmp_path / "other", str(kept))
    git(other, "update-ref", REF, "refs/remotes/origin/reconcile/record")
    stream = []
    base = {"done": True, "failed": None, "applied_by": "a@b:1", "commit": git(other, "rev-parse", "HEAD").strip()}
    for number in range(5000):
        who = "committer A <a@b> 1 +0000\ndata 1\nx\n"
        start = "from refs/heads/main^0\n" if number == 0 else ""
        stream.append(
            f"commit refs/heads/main\n{who}{start}M 644 inline notes.txt\ndata {len(str(number))}\n{number}\n"
        )
        key = f"quickstart/stage-1/{number % 50:012x}/l0/n{number}/train"
        folder = f"{PLACE}/stage-1/{number % 50:012x}/actions/l0-n{number}-train"
        text = json.dumps(base | {"key": key, "written_s": number, "job_id": f"{number}.s", "dirty": False})
        start = f"from {REF}^0\n" if number == 0 else ""
        stream.append(f"commit {REF}\n{who}{start}M 644 inline {folder}/receipt.json\ndata {len(text)}\n{text}\n")
    git(other, "fast-import", "--quiet", stdin="".join(stream))
    assert git(other, "rev-list", "--count", REF).strip() > "5000"
    began, cpu = time.monotonic(), os.times()
    told = json.loads(reconcile(other, "history", "--json"))
    used = os.times()
    assert sum(len(story["events"]) for story in told["timelines"][0]["stories"]) > 5000
    spent = used.children_user + used.children_system - cpu.children_user - cpu.children_system
    # By its own work: a machine that does other things at once makes it wait.
    assert spent < 2.0, f"{spent:.2f} s of work, {time.monotonic() - began:.2f} s by the clock"


def test_facts_are_named_for_what_they_are_of() -> None:
    assert facts.place_of("a", "b", "/w") != facts.place_of("a", "b", "/v")
