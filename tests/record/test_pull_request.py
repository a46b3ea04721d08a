"""A pull request in a clone that has no cluster: its comment, and the plan in it, which is the one that is applied."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from reconciler.cli import machine
from tests.record.campaign import Cluster, live, planned, wanted
from tests.record.repositories import clone, git
from tests.record.test_history import ROOT, reconcile

GOLDEN = Path(__file__).parents[1] / "golden" / "comment"
EDITS = (
    ("{stage-2: 0.30, D2: 0.70}", "{stage-2: 0.40, D2: 0.60}"),
    (
        "shift: strong\n  tokens: 1.5M\n",
        "shift: strong\n  tokens: 1.5M\n"
        "  waive: [{rule: CPT020, reason: '@everyone <img src=//x> [sure](https://evil.example)'}]\n",
    ),
    (
        "- mixture: {stage-2: 0.40, D2: 0.60}\n          lr: {shape: constant}",
        "- mixture: {stage-2: 0.40, D2: 0.60}\n          lr: {shape: cosine, to: lrMax/10}",
    ),
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cluster]:
    """Two stages are done; the plan of the third was edited, and what the cluster is."""
    root = planned(tmp_path_factory.mktemp("here") / "repository")
    cluster = Cluster.of(root)
    live(root, cluster, 2)
    stages = root / "manifests/stages.yaml"
    text = stages.read_text()
    for before, after in EDITS:
        assert before in text, before
        text = text.replace(before, after)
    stages.write_text(text)
    git(root, "commit", "-qam", "More replay, and a cosine")
    cluster.world.desired = wanted(root)
    return root, cluster


@pytest.fixture(scope="module")
def runner(here: tuple[Path, Cluster], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of it, as continuous integration makes one."""
    return clone(tmp_path_factory.mktemp("runner") / "clone", str(here[0]))


@pytest.fixture(scope="module")
def comment(runner: Path) -> str:
    """The comment; the plan is saved beside it."""
    return reconcile(
        runner, "plan", "--at", "HEAD", "--base", "HEAD~1", "--format", "markdown", "-o", "next.plan"
    )  # fmt: skip


def test_the_comment_as_a_reviewer_reads_it(comment: str, runner: Path) -> None:
    text = comment.partition("<details><summary><code>")[0]
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    for name in ("HEAD", "HEAD~1"):
        text = text.replace(git(runner, "rev-parse", name)[:9], name)
    path = GOLDEN / "changed.md"
    if os.environ.get("SNAP_UPDATE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_the_comment_links_nowhere_and_calls_nobody(comment: str) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(comment)
    assert "everyone" in html
    assert not re.search(r"<(a|img)\b", html)
    assert not re.search(r"@\w", re.sub(r"(?s)<pre>.*?</pre>|<code>.*?</code>", "", html))


def test_the_plan_by_the_record_is_the_plan_by_the_cluster(
    comment: str, here: tuple[Path, Cluster], runner: Path
) -> None:
    _, digest, words = machine.saved_plan((runner / "next.plan").read_text())
    plan = here[1].look().plan
    assert digest == plan.digest
    assert digest in comment
    assert words == machine.told(plan)


def test_the_next_comment_folds_this_one(comment: str, runner: Path) -> None:
    (runner / "earlier.md").write_text(comment)
    text = reconcile(runner, "plan", "--at", "HEAD", "--format", "markdown", "--earlier", "earlier.md")
    assert "Earlier version 1" in text
    assert "stage-2 0.4" in text
    assert "Not compared: no base was named." in text


def test_before_anything_is_on_record_there_is_no_plan_to_review(tmp_path: Path) -> None:
    root = planned(tmp_path / "repository")
    text = reconcile(root, "plan", "--at", "HEAD", "--base", "HEAD", "--format", "markdown")
    assert "nothing that is wanted changes" in text
    assert "there is no plan to review" in text
    assert "nothing of quickstart is on record yet" in reconcile(root, "plan", "--at", "HEAD", status=1)


def test_the_first_pull_request_of_a_campaign_shows_what_it_wants(tmp_path: Path) -> None:
    """There is nothing to compare it with and nothing on record; what each stage trains is drawn all the same."""
    root = planned(tmp_path / "repository")
    git(root, "commit", "-q", "--allow-empty", "-m", "As it is")
    before = git(root, "commit-tree", "-m", "Nothing yet", "4b825dc642cb6eb9a060e54bf8d69288fbee4904").strip()
    text = reconcile(root, "plan", "--at", "HEAD", "--base", before, "--format", "markdown")
    assert "there is no campaign quickstart" in text
    assert "**`stage-2`** is new" in text
    assert "+ strategy replay-5\n+   weights  █░░░░░░░░░░░░░░░░░░░ D0 0.05" in text
    assert "there is no plan to review" in text


def test_the_step_of_the_workflow_makes_the_comment_the_plan_and_the_summary(runner: Path, tmp_path: Path) -> None:
    program = tmp_path / "venv/bin/reconcile"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m reconciler.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "plan").mkdir()
    (tmp_path / "earlier.md").touch()
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/plan.yml").read_text())
    (script,) = (step["run"] for step in workflow["jobs"]["plan"]["steps"] if step.get("id") == "plan")
    environment = {
        "PATH": os.environ["PATH"],
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CAMPAIGN": "quickstart",
        "BASE": git(runner, "rev-parse", "HEAD~1").strip(),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=runner, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "plan/comment.md").read_text()
    assert text.startswith("<!-- reconcile:plan quickstart -->\n### `quickstart`: `stage-3` changes\n")
    assert (tmp_path / "summary.md").read_text() == text
    assert machine.saved_plan((tmp_path / "plan/next.plan").read_text())[0] == "quickstart"


def test_forms_that_exclude_each_other_are_said_to(runner: Path) -> None:
    assert "choose one" in reconcile(runner, "plan", "--json", "--format", "markdown", status=1)
    assert "--base and --earlier" in reconcile(runner, "plan", "--base", "HEAD", status=1)
    assert json.loads(reconcile(runner, "plan", "--at", "HEAD", "--json"))["digest"]
