"""Other commits than the one at hand: two compared by what they mean, and a campaign's state by the record alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.record.campaign import Cluster, live, planned
from tests.record.repositories import clone, git
from tests.record.test_history import compared, reconcile

RECORD = "refs/remotes/origin/reconcile/record"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository in which three stages are on record, whose plan was edited since."""
    root = planned(tmp_path_factory.mktemp("kept") / "repository")
    live(root, Cluster.of(root))
    stages = root / "manifests/stages.yaml"
    text = stages.read_text()
    assert "{stage-2: 0.30, D2: 0.70}" in text
    stages.write_text(text.replace("{stage-2: 0.30, D2: 0.70}", "{stage-2: 0.40, D2: 0.60}"))
    git(root, "commit", "-qam", "More replay")
    return clone(tmp_path_factory.mktemp("clone") / "clone", str(root))


def test_a_weight_that_was_changed_as_a_person_reads_it(kept: Path) -> None:
    compared("diff", reconcile(kept, "diff", "HEAD~1", "HEAD"), kept)


def test_a_change_that_is_not_committed_is_compared_with_a_commit(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    stages = other / "manifests/stages.yaml"
    stages.write_text(stages.read_text().replace("shape: constant", "shape: cosine, to: lrMax/10", 1))
    body = json.loads(reconcile(other, "diff", "HEAD", "--json"))
    (first, *_) = body["stages"]
    (rung,) = first["rungs"]
    before, after = (rung[side]["legs"][0]["lr_curve"] for side in ("before", "after"))
    assert before[-1][1] == 0.002
    assert after[-1][1] == pytest.approx(0.0002)
    assert any("+export LR_DECAY_STYLE" in text or "cosine" in text for text in first["scripts"])


def test_nothing_differs_between_a_commit_and_itself(kept: Path) -> None:
    assert "Nothing differs in what is wanted." in reconcile(kept, "diff", "HEAD", "HEAD")


def test_a_stage_that_was_taken_out_is_said_to_be(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    campaign = other / "manifests/campaign.yaml"
    campaign.write_text(campaign.read_text().replace(", stage-4]", "]"))
    model = other / "manifests/model.yaml"
    model.write_text("".join(line for line in model.read_text().splitlines(keepends=True) if "of: D3" not in line))
    stages = other / "manifests/stages.yaml"
    documents = stages.read_text().split("\n---\n")
    stages.write_text("\n---\n".join(d for d in documents if "name: stage-4" not in d))
    assert "stage-4 is removed" in reconcile(other, "diff", "HEAD")


def test_the_state_at_a_commit_is_told_by_the_record(kept: Path) -> None:
    body = json.loads(reconcile(kept, "status", "--at", "HEAD~1", "--json"))
    assert body["revision"] == git(kept, "rev-parse", "HEAD~1").strip()
    phases = {
        stage["stage"]: (stage["phase"], [rung["outcome"] for rung in stage["rungs"]]) for stage in body["stages"]
    }
    assert phases["stage-1"] == ("Done", ["passed"])
    assert phases["stage-2"] == ("Done", ["passed"])
    assert phases["stage-3"][1][0] == "failed"


def test_why_needs_no_cluster_when_it_asks_the_record(kept: Path) -> None:
    told = reconcile(kept, "why", "stage-3", "--at", "HEAD~1")
    assert "✗ naive failed: val-D0 +0.310 nats (2.000 → 2.310), more than 0.30" in told
    assert "ada@laptop:42" in told


@pytest.mark.parametrize("revision", ["nightly", "-x", "HEAD:manifests", "HEAD~99"])
def test_what_is_no_commit_is_said_to_be_none(kept: Path, revision: str) -> None:
    assert "is no commit" in reconcile(kept, "status", f"--at={revision}", status=1)


def test_manifests_in_a_subfolder_are_found_at_a_commit(tmp_path: Path) -> None:
    root = planned(tmp_path / "repository")
    (root / "teams/a").mkdir(parents=True)
    git(root, "mv", "manifests", "teams/a/manifests")
    git(root, "commit", "-qm", "In a subfolder")
    assert "Nothing differs" in reconcile(root / "teams/a", "diff", "HEAD")
    assert "there are no manifests" in reconcile(root / "teams/a", "diff", "HEAD~1", status=1)


def test_without_a_revision_the_edits_since_the_last_commit_are_shown(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    assert "Nothing differs" in reconcile(other, "diff")
    stages = other / "manifests/stages.yaml"
    stages.write_text(stages.read_text().replace("{stage-2: 0.40, D2: 0.60}", "{stage-2: 0.50, D2: 0.50}"))
    assert reconcile(other, "diff") == reconcile(other, "diff", "HEAD")


def test_whoever_cannot_reach_the_cluster_is_told_how_to_see_the_record(kept: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(kept))
    elsewhere(other)
    assert "--at HEAD" not in reconcile(other, "status", status=1), "nothing is on record in this clone"
    git(other, "fetch", "-q", "origin", f"{RECORD}:{RECORD}")
    for command in (("status",), ("plan",), ("why", "stage-3"), ("report",)):
        told = reconcile(other, *command, status=1)
        assert "[Unreachable]" in told
        assert told.endswith("To see what is on record, without the cluster: the same command with --at HEAD\n")


def elsewhere(root: Path) -> None:
    """The campaign's cluster is a host on which nobody listens."""
    cluster = root / "manifests/cluster.yaml"
    here = "{kind: local, root: .local/quickstart}"
    assert here in cluster.read_text()
    cluster.write_text(cluster.read_text().replace(here, "{kind: ssh, host: 127.0.0.1, port: 1, root: /shared}"))
