"""A history that was rewritten under what was applied: what is noticed, and what is no reason for alarm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.model.authority import Strayed
from reconciler.record.ancestry import strayed
from reconciler.record.git import Git
from tests.record.repositories import bare, clone, git, head, repository

FOLDERS = ["manifests"]


def change(root: Path, text: str) -> str:
    """Another state of the manifests, committed."""
    (root / "manifests/campaign.yaml").write_text(text)
    git(root, "commit", "-qam", text)
    return head(root)


def found(root: Path, *commits: str, kept: Mapping[str, Mapping[str, bytes]] = {}) -> dict[str, Strayed]:
    return strayed(Git(root), head(root), commits, FOLDERS, lambda commit: kept.get(commit, {}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


def test_what_is_in_the_history_is_not_told(root: Path) -> None:
    first, second = head(root), change(root, "two")
    change(root, "three")
    assert found(root, first, second, head(root)) == {}


def test_a_commit_that_was_amended_away_is_told_with_what_is_left_of_it(root: Path) -> None:
    applied = change(root, "as applied")
    (root / "manifests/campaign.yaml").write_text("as amended")
    git(root, "commit", "-q", "-a", "--amend", "-m", "Amended")
    assert found(root, applied) == {applied: Strayed(here=True, known=True)}
    kept = {applied: {"manifests/campaign.yaml": b"as applied"}}
    assert found(root, applied, kept=kept)[applied].recorded
    git(root, "reflog", "expire", "--expire=now", "--all")
    git(root, "gc", "-q", "--prune=now")
    assert found(root, applied, kept=kept) == {applied: Strayed(here=False, known=True, recorded=True)}


def test_a_branch_that_was_applied_and_then_squashed_is_no_alarm(root: Path) -> None:
    git(root, "switch", "-q", "-c", "change")
    applied = change(root, "as applied")
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", "--squash", "change")
    git(root, "commit", "-q", "-m", "Squashed")
    squashed = head(root)
    change(root, "later")
    assert found(root, applied)[applied].again == squashed
    git(root, "branch", "-D", "change")
    git(root, "reflog", "expire", "--expire=now", "--all")
    git(root, "gc", "-q", "--prune=now")
    kept = {applied: {"manifests/campaign.yaml": b"as applied"}}
    assert found(root, applied, kept=kept) == {applied: Strayed(here=False, known=True, again=squashed, recorded=True)}


def test_a_squash_onto_what_others_changed_meanwhile_is_no_alarm(root: Path) -> None:
    """The manifests were never together as they were applied; what the branch changed of them is there."""
    git(root, "switch", "-q", "-c", "change")
    applied = change(root, "as applied")
    git(root, "switch", "-q", "main")
    (root / "manifests/another.yaml").write_text("kind: Campaign")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Another campaign")
    git(root, "merge", "-q", "--squash", "change")
    git(root, "commit", "-q", "-m", "Squashed")
    assert found(root, applied)[applied].again == head(root)


def test_a_manifest_that_was_taken_away_is_to_be_away_again(root: Path) -> None:
    git(root, "switch", "-q", "-c", "change")
    git(root, "rm", "-q", "manifests/campaign.yaml")
    git(root, "commit", "-q", "-m", "Taken away")
    applied = head(root)
    git(root, "switch", "-q", "main")
    assert found(root, applied)[applied].again == ""
    git(root, "merge", "-q", "--squash", "change")
    git(root, "commit", "-q", "-m", "Squashed")
    assert found(root, applied)[applied].again == head(root)


def test_manifests_at_the_top_of_the_repository_are_compared_too(root: Path) -> None:
    git(root, "switch", "-q", "-c", "change")
    applied = change(root, "as applied")
    git(root, "switch", "-q", "main")
    git(root, "merge", "-q", "--squash", "change")
    git(root, "commit", "-q", "-m", "Squashed")
    assert strayed(Git(root), head(root), [applied], ["."], lambda commit: {})[applied].again == head(root)


def test_a_history_that_begins_anew_has_nothing_in_common(root: Path) -> None:
    applied = head(root)
    git(root, "switch", "-q", "--orphan", "anew")
    (root / "README").write_text("anew")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Anew")
    assert found(root, applied) == {applied: Strayed(here=True, known=True)}


def test_a_rebase_that_kept_the_manifests_is_no_alarm(root: Path) -> None:
    applied = change(root, "as applied")
    git(root, "reset", "-q", "--hard", "HEAD~1")
    (root / "README").write_text("first")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Before it")
    git(root, "cherry-pick", applied)
    assert found(root, applied)[applied].again == head(root)


def test_in_a_shallow_clone_nothing_is_known_and_nothing_alarming_is_said(root: Path, tmp_path: Path) -> None:
    first = head(root)
    change(root, "two")
    hub = bare(tmp_path / "hub.git", root)
    runner = clone(tmp_path / "runner", f"file://{hub}", "--depth", "1")
    assert found(runner, first) == {first: Strayed(here=False, known=False)}


def test_what_a_cluster_gives_for_a_commit_is_no_word_to_git(root: Path) -> None:
    assert found(root, "--all", "HEAD", "", "^HEAD", "../../etc/passwd", "abc\nHEAD") == {}
    assert found(root, "1" * 40) == {"1" * 40: Strayed(here=False, known=True)}
