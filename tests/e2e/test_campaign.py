"""The main job, for real: real git, real bash, the embedded PBS, the trainer, the converter."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.campaign import BUDGETS, TOKENS_PER_ITERATION, Repository, make

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

KILLS = 20
KILL_SEED = 20260101


def final_state(repository: Repository) -> dict[str, tuple[object, ...]]:
    """What must not depend on the way there: phase, attempts, outcomes, tokens, losses to the last digit."""
    return {
        name: (
            stage["phase"],
            stage["attempt"],
            tuple((rung["strategy"], rung["attempt"], rung["outcome"]) for rung in stage["rungs"]),
            stage["tokens_done"],
            tuple(sorted(stage["losses"].items())),
        )
        for name, stage in repository.status().items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A campaign that ran from beginning to end without interruption."""
    repository = make(tmp_path_factory.mktemp("undisturbed") / "repository")
    repository.run("apply", "--until-done", "--yes", timeout_s=1200)
    return repository


def test_four_stages_run_from_manifests_to_done(undisturbed: Repository) -> None:
    stages = undisturbed.status()
    assert [stage["phase"] for stage in stages.values()] == ["Done"] * 4
    for name, iterations in BUDGETS.items():
        assert stages[name]["iteration"] == iterations
        assert abs(stages[name]["tokens_budget"] - iterations * TOKENS_PER_ITERATION) < TOKENS_PER_ITERATION
        assert set(stages[name]["losses"]) == {"val-D0", "val-D1"}


def test_a_budget_longer_than_the_walltime_is_trained_in_segments(undisturbed: Repository) -> None:
    segments = [key for key in undisturbed.submitted() if "/stage-1/" in key and key.endswith("/train")]
    assert len(segments) > 1


def test_a_stage_on_another_data_parallel_size_converts_its_source(undisturbed: Repository) -> None:
    converted = {key.split("/")[1] for key in undisturbed.submitted() if key.endswith("/convert")}
    assert converted == {"stage-2", "stage-4"}, "from 1 rank to 2, and from 2 to 4; stage 3 stays at 2"


def test_no_key_was_submitted_twice(undisturbed: Repository) -> None:
    keys = undisturbed.submitted()
    assert len(keys) == len(set(keys))


def test_everything_that_ran_lies_beside_its_checkpoints(undisturbed: Repository) -> None:
    for stage in undisturbed.status().values():
        attempt = undisturbed.workspace / stage["path"]
        for name in ("recipe.json", "verdicts/final.json", "leg-0/latest"):
            assert (attempt / name).is_file(), name
        assert list(attempt.glob("lists/leg-0-*.txt"))
        assert list(attempt.glob("jobs/*-train.pbs"))


def test_the_ledger_counts_every_segment_once(undisturbed: Repository) -> None:
    told = json.loads(undisturbed.run("ledger", "--json"))
    assert told["unknown"] == []
    assert told["tokens_seen"] == sum(BUDGETS.values()) * TOKENS_PER_ITERATION
    assert told["checkpoint"]["origin"] == "random weights"
    passed = [attempt for attempt in told["attempts"] if attempt["outcome"] == "passed"]
    assert sum(attempt["tokens"] for attempt in passed) == told["tokens_seen"]
    assert {attempt["iterations_lost"] for attempt in passed} == {0}
    assert sum(source["drawn"] for source in told["sources"]) == told["tokens_drawn"]
    assert sum(source["seen"] for source in told["sources"]) == told["tokens_seen"]


def test_a_clone_tells_from_the_record_alone_and_makes_every_script_again(
    undisturbed: Repository, tmp_path: Path
) -> None:
    undisturbed.git(
        "clone", "-q", "--depth", "1", "--no-single-branch", f"file://{undisturbed.root}", str(tmp_path / "c")
    )
    later = Repository(tmp_path / "c")
    told = json.loads(later.run("status", "--at", "HEAD", "--json"))
    assert {stage["stage"]: stage["phase"] for stage in told["stages"]} == dict.fromkeys(BUDGETS, "Done")
    (timeline,) = json.loads(later.run("history", "--json"))["timelines"]
    assert {story["stage"] for story in timeline["stories"]} == set(BUDGETS)
    assert sum(len(story["events"]) for story in timeline["stories"]) == len(undisturbed.submitted())
    for story in timeline["stories"]:
        (made,) = json.loads(later.run("show", story["attempt"], "--json"))["made_again"]
        assert made["same"]


def test_apply_when_done_changes_nothing(undisturbed: Repository) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in undisturbed.workspace.rglob("*") if path.is_file())
    told = undisturbed.run("apply", "--until-done", "--yes")
    after = sorted((path, path.stat().st_mtime_ns) for path in undisturbed.workspace.rglob("*") if path.is_file())
    assert "Nothing to do" in told
    assert before == after


def test_plan_exits_0_when_there_is_nothing_to_do(undisturbed: Repository) -> None:
    undisturbed.run("plan", "--detailed-exitcode", status=0)


def test_editing_a_finished_stage_is_refused_with_the_ways_on(undisturbed: Repository) -> None:
    undisturbed.edit("stages.yaml", "{D0: 0.33, D3: 0.33, buffer: 0.34}", "{D0: 0.30, D3: 0.36, buffer: 0.34}")
    try:
        told = " ".join(undisturbed.run("plan", status=1).split())
        refused = undisturbed.run("apply", "--yes", "--allow-dirty", status=1)
    finally:
        undisturbed.git("checkout", "-q", "manifests")
    assert "0.33 → 0.3" in told
    for way in ("revert the edit", "add one after it", "new name"):
        assert way in told
    assert "TrainedImmutable" in refused
    undisturbed.run("plan", "--detailed-exitcode", status=0)


def test_an_uncommitted_manifest_is_not_applied_unasked(undisturbed: Repository) -> None:
    undisturbed.edit("campaign.yaml", "nodeHours: 5", "nodeHours: 6")
    try:
        told = undisturbed.run("apply", "--yes", status=1)
    finally:
        undisturbed.git("checkout", "-q", "manifests")
    assert "campaign.yaml" in told
    assert "--allow-dirty" in told


def test_killed_at_any_moment_the_campaign_ends_in_the_same_state(undisturbed: Repository, tmp_path: Path) -> None:
    """SIGKILL at 20 random moments; the same end, no job twice, no token trained twice beyond the last checkpoint."""
    repository = make(tmp_path / "repository")
    moments = random.Random(KILL_SEED)
    for _ in range(KILLS):
        process = subprocess.Popen(
            repository.command("apply", "--until-done", "--yes"),
            cwd=repository.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.4, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    repository.run("apply", "--until-done", "--yes", timeout_s=1200)
    assert final_state(repository) == final_state(undisturbed)
    keys = repository.submitted()
    assert len(keys) == len(set(keys)), "a key was submitted twice"
    assert sorted(keys_without_segments(keys)) == sorted(keys_without_segments(undisturbed.submitted()))
    assert_no_iteration_trained_twice(repository)


def test_a_verdict_that_was_deleted_is_written_again(undisturbed: Repository) -> None:
    """And one that was damaged holds: it is never judged round and round."""
    (verdict,) = undisturbed.workspace.glob("quickstart/stage-4/*/verdicts/final.json")
    whole = verdict.read_text()
    verdict.unlink()
    undisturbed.run("apply", "--until-done", "--yes", timeout_s=180)
    assert verdict.read_text() == whole
    verdict.write_text(whole[:20])
    told = undisturbed.run("apply", "--until-done", "--yes", status=1, timeout_s=180)
    verdict.write_text(whole)
    assert "VerdictUnreadable" in told


def test_a_plan_is_applied_as_reviewed_or_not_at_all(undisturbed: Repository, tmp_path: Path) -> None:
    repository = make(tmp_path / "repository")
    repository.run("plan", "-o", "next.plan")
    reviewed = (repository.root / "next.plan").read_text()
    (repository.root / "next.plan").write_text(reviewed.replace('"nodes": 1', '"nodes": 2'))
    assert "changed after it was saved" in repository.run("apply", "next.plan", status=1)
    (repository.root / "next.plan").write_text(reviewed)
    assert "train as job" in repository.run("apply", "next.plan")
    assert "no longer holds" in repository.run("apply", "next.plan", status=1)


def test_what_nothing_needs_is_pruned_when_the_campaign_says_so(undisturbed: Repository) -> None:
    """In two passes; what is left is where each leg ended, and nothing of the campaign has changed."""
    before = final_state(undisturbed)
    undisturbed.edit("campaign.yaml", "  bounds:\n", "  retention: {newest: 1, settle: 1s}\n  bounds:\n")
    undisturbed.git("commit", "-aqm", "keep one")
    assert "retention.prune: true in the campaign frees them" in undisturbed.run("plan")
    undisturbed.edit("campaign.yaml", "{newest: 1,", "{prune: true, newest: 1,")
    undisturbed.git("commit", "-aqm", "prune")
    told = undisturbed.run("plan")
    assert "to set aside (" in told and "[NotNeeded]" in told
    undisturbed.run("apply", "--until-done", "--yes", timeout_s=180)
    for stage in undisturbed.status().values():
        attempt = undisturbed.workspace / stage["path"]
        folders = [path.relative_to(attempt) for path in attempt.glob("leg-*/*") if path.is_dir()]
        assert folders == [Path(f"leg-0/global_step{BUDGETS[stage['stage']]}")]
    assert final_state(undisturbed) == before
    assert "Nothing to do" in undisturbed.run("plan")


def keys_without_segments(keys: list[str]) -> set[str]:
    """Keys less the count of ended jobs: how a budget falls into segments depends on the machine's speed."""
    return {"/".join(part for part in key.split("/") if not part.startswith("n")) for key in keys}


def assert_no_iteration_trained_twice(repository: Repository) -> None:
    """Each segment starts where the last checkpoint of the one before it lies."""
    for attempt in repository.workspace.glob("quickstart/stage-*/*/"):
        reached = 0
        for log in sorted(attempt.glob("jobs/l0-n*-train.log"), key=lambda p: int(p.name.split("-")[1][1:])):
            text = log.read_text(errors="replace")
            first = next((line for line in text.splitlines() if " iteration=" in line), None)
            if first is None:
                continue
            begun = int(first.split(" iteration=")[1].split("/")[0])
            assert begun == reached + 1, f"{log} starts at iteration {begun}, the last checkpoint was at {reached}"
            saves = [line for line in text.splitlines() if "successfully saved checkpoint at iteration" in line]
            reached = int(saves[-1].split("at iteration")[1].split()[0]) if saves else reached
