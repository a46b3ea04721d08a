"""The README's first command at its own scale, as the tutorial walks it: what both promise is what happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.consoles import Step, steps
from tests.e2e.campaign import Repository, committed
from tests.interrupts import heard

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"


def walk(repository: Repository, step: Step) -> None:
    """Run a command of the tutorial as a reader types it: it ends as the page says, and says what the page shows."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=repository.root,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=1600,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == step.status, f"{step.command}\n{said}"
    shown = [" ".join(line.split()) for line in said.splitlines()]
    for line in step.shown:
        assert " ".join(line.split()) in shown, f"{step.command} does not say {line!r}:\n{said}"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The quickstart campaign as it is committed, taken to its end by the commands of the tutorial."""
    repository = committed(tmp_path_factory.mktemp("quickstart") / "repository")
    walked = steps(TUTORIAL)
    assert len(walked) > 15
    for step in walked:
        walk(repository, step)
    return repository


def test_the_naive_attempt_at_a_strong_shift_forgets_and_the_next_rung_holds(quickstart: Repository) -> None:
    stages = quickstart.status()
    assert [stage["phase"] for stage in stages.values()] == ["Done"] * 4
    rungs = {rung["strategy"]: rung["outcome"] for rung in stages["stage-3"]["rungs"]}
    assert rungs == {"naive": "failed", "replay-30": "passed"}
    forgot = next(rung["message"] for rung in stages["stage-3"]["rungs"] if rung["outcome"] == "failed")
    assert "more than 0.30" in forgot


def test_a_simulation_in_which_that_gate_fails_submits_the_same_jobs(quickstart: Repository) -> None:
    assert quickstart.simulated("--throughput=60k", "--gate-fails=stage-3:naive") == quickstart.walked()


def test_a_weak_shift_needs_no_replay(quickstart: Repository) -> None:
    assert quickstart.status()["stage-2"]["strategy"] == "naive"


def test_every_new_dataset_is_learned(quickstart: Repository) -> None:
    for number, stage in enumerate(quickstart.status().values()):
        if stage["losses_before"]:
            name = f"val-D{number}"
            assert stage["losses"][name] < stage["losses_before"][name], f"{stage['stage']} did not learn {name}"


def test_a_rung_starts_again_from_the_stage_s_source(quickstart: Repository) -> None:
    """Not from the checkpoint that the failed rung left."""
    stage = quickstart.status()["stage-3"]
    source = Path(quickstart.status()["stage-2"]["path"]).name
    scripts = list((quickstart.workspace / stage["path"]).glob("jobs/l0-n0-train.pbs"))
    assert len(scripts) == 1
    assert f"/stage-2/{source}/leg-0" in scripts[0].read_text()


def test_its_report_is_a_file_or_followed_until_ctrl_c(quickstart: Repository) -> None:
    assert quickstart.run("report").startswith("report/index.html")
    page = (quickstart.root / "report" / "index.html").read_text()
    assert "All stages are done" in page and "val-D0 +" in page
    command = quickstart.command("report", "--serve")
    with subprocess.Popen(command, cwd=quickstart.root, stdout=subprocess.PIPE, text=True, preexec_fn=heard) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"All stages are done" in answer.read()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=60) == 0
