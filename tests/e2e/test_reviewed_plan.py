"""Reviewed is applied: exactly that plan, or nothing and what has changed; and a schedule goes on with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.campaign import Repository, make

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_reviewed_plan_is_applied_or_told_to_be_another_and_a_schedule_only_goes_on(tmp_path: Path) -> None:
    repository = make(tmp_path / "repository")

    told = repository.run("apply", "--unchanged", "--yes", status=1)
    assert "quickstart is not as it was last applied: nothing was applied before" in told

    repository.run("plan", "-o", "stale.plan")
    repository.edit("stages.yaml", "walltime: 13s", "walltime: 2m")
    repository.git("commit", "-qam", "More walltime")
    told = repository.run("apply", "stale.plan", status=1)
    assert "the saved plan no longer holds; since then:" in told
    assert "- stage stage-" in told
    assert repository.submitted() == []

    repository.run("plan", "-o", "reviewed.plan")
    repository.run("apply", "reviewed.plan")
    (only,) = repository.submitted()
    assert "stage-1" in only
    repository.run("apply", "--unchanged", "--yes")

    repository.edit("stages.yaml", "name: replay-30", "name: replay-a-third")
    repository.git("commit", "-qam", "A name")
    told = repository.run("apply", "--unchanged", "--yes", status=1)
    assert "stage-3: strategy renamed replay-30 → replay-a-third" in told

    # Reviewed in a clone by the record, applied on the cluster. The change is of a later stage: it is taken as applied
    # though there is nothing to submit for it yet.
    repository.git("clone", "-q", ".", str(tmp_path / "runner"))
    runner = Repository(tmp_path / "runner")
    told = runner.run("plan", "--at", "HEAD", "--base", "HEAD~1", "--format", "markdown", "-o", "later.plan")
    assert "! strategy renamed: replay-30 → replay-a-third" in told
    repository.run("apply", str(runner.root / "later.plan"))
    repository.run("apply", "--unchanged", "--yes")
