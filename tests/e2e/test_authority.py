"""A rule of authority at a real apply: nothing reaches the cluster of a commit that nobody has approved."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e import campaign
from tests.record.keys import Person

RULE = "  authority: {signed: true}\n"


@pytest.mark.e2e
def test_only_what_is_signed_reaches_the_cluster_and_who_applied_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    person = Person(home)
    person.trusts(f"ada@example.org {person.public('ada')}")
    repository = campaign.make(tmp_path / "repo")
    repository.edit("campaign.yaml", "  bounds:\n", RULE + "  bounds:\n")
    repository.git("commit", "-qam", "Only signed commits from here")

    told = repository.run("apply", "--yes", status=1)
    assert "reconcile: nothing was applied: " in told
    assert "is not signed, and its manifest asks for a signed commit" in told
    assert "git commit -S --allow-empty" in told
    assert repository.jobs() == {}
    assert not (repository.workspace / "quickstart").exists()

    person.commits(repository.root, "ada", "Approve the plan")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    repository.run("apply", "--yes")
    (job,) = repository.jobs()
    subprocess.run([repository.spool_bin / "qdel", job], check=True, capture_output=True)
    assert "(for octocat by GitHub)" in repository.run("why", "stage-1")

    repository.edit("campaign.yaml", RULE, "")
    repository.git("commit", "-qam", "No rule any more")
    told = repository.run("apply", "--yes", status=1)
    assert "is not signed, and what was last applied asks for a signed commit" in told

    history = " ".join(repository.run("history").split())
    assert "approved: signed by ada@example.org with key SHA256:" in history
    assert "(for octocat by GitHub)" in history, "what was seen is put on record, though nothing was applied"
