"""Job scripts as a real bash runs them: one writer for an attempt, no secrets in what is saved, a log that tells."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cluster.render import render
from reconciler.model.cluster import LauncherSpec
from tests.cluster.node import Node
from tests.cluster.world import until
from tests.local.pbs.machine import Machine

TEMPLATES = ("train", "evaluate", "convert")
FIRST, SECOND = "1.pbs", "2.pbs"
LATER = "c/s/0/l0/n1/train"
"""The key of the job after the one that a node's job has."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield Node(tmp_path).build()
    (tmp_path / "hold").unlink(missing_ok=True)  # whatever a failed test left waiting ends


def holding(node: Node) -> None:
    (node.top / "hold").touch()


def let_go(node: Node) -> None:
    (node.top / "hold").unlink()


def pbs_says(node: Node, job: str, status: int) -> None:
    (node.top / "qstat" / job).write_text(str(status))


# --- one writer


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_second_job_of_an_attempt_ends_before_it_touches_anything(node: Node, template: str) -> None:
    holding(node)
    first = node.start(node.job(), PBS_JOBID=FIRST)
    until(lambda: len(node.calls()) == 1)
    before = node.files()
    status, log = node.run(node.job(template), PBS_JOBID=SECOND)
    assert status == 75
    assert "another job of this attempt is running; this one ends without touching anything" in log
    assert (node.files(), len(node.calls())) == (before, 1)
    let_go(node)
    assert first.wait(60) == 0
    first.communicate()


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        pytest.param("c/s/0/l0/n2/train", False, id="the next job of the leg"),
        pytest.param("c/s/0/l0/n10/train", False, id="a later one, by its number"),
        pytest.param("c/s/0/l0/n0/train", True, id="the one before"),
        pytest.param("c/s/0/l1/n2/train", True, id="of another leg"),
        pytest.param("c/s/0/l0/n2/evaluate/leg-0-2", True, id="of another kind"),
        pytest.param("c/s/0/l0/nine/train", True, id="no number"),
    ],
)
def test_a_job_that_was_late_does_not_go_back_behind_a_later_one(node: Node, begun: str, goes_on: bool) -> None:
    (node.attempt / "begun").mkdir()
    (node.attempt / "begun" / begun.replace("/", "+")).write_text(f"{FIRST}\n")
    status, log = node.run(node.job(key=LATER), PBS_JOBID=SECOND)
    assert (status, len(node.calls())) == ((0, 1) if goes_on else (75, 0)), log
    assert ("a later job than this one has begun" in log) is not goes_on


def test_the_lock_goes_with_a_job_that_was_killed_outright(node: Node) -> None:
    holding(node)
    first = node.start(node.job(), PBS_JOBID=FIRST)
    until(lambda: len(node.calls()) == 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert (node.attempt / "writers" / FIRST).exists(), "it could not tidy up"
    let_go(node)
    pbs_says(node, FIRST, 35)
    status, log = node.run(node.job(key=LATER), PBS_JOBID=SECOND)
    assert (status, len(node.calls())) == (0, 2), log
    assert list((node.attempt / "writers").iterdir()) == []


def test_the_lock_is_held_while_a_trainer_outlives_its_script(node: Node) -> None:
    holding(node)
    first = node.start(node.job(), PBS_JOBID=FIRST)
    until(lambda: len(node.calls()) == 1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(60)
    pbs_says(node, FIRST, 35)
    assert node.run(node.job(), PBS_JOBID=SECOND)[0] == 75
    let_go(node)
    first.communicate()
    until(lambda: node.run(node.job(key=LATER), PBS_JOBID=SECOND)[0] == 0)


@pytest.mark.parametrize(
    ("flock", "pbs", "runs", "told"),
    [
        pytest.param(True, 35, True, "", id="a finished job left its id"),
        pytest.param(True, 153, True, "", id="a job that PBS has forgotten left its id"),
        pytest.param(True, 0, False, "job 1.pbs of this attempt is not over", id="flock of this node only, job lives"),
        pytest.param(True, 255, True, "PBS cannot say whether job 1.pbs is over", id="no answer from PBS, lock free"),
        pytest.param(False, 35, True, "", id="no flock, job finished"),
        pytest.param(False, 0, False, "job 1.pbs of this attempt is not over", id="no flock, job lives"),
        pytest.param(False, 255, False, "if it is: rm ", id="neither flock nor PBS: a person must look"),
    ],
)
def test_where_the_lock_proves_nothing_pbs_is_asked(node: Node, flock: bool, pbs: int, runs: bool, told: str) -> None:
    (node.attempt / "writers").mkdir()
    (node.attempt / "writers" / FIRST).touch()
    if not flock:
        (node.top / "no-flock").touch()
    pbs_says(node, FIRST, pbs)
    status, log = node.run(node.job(), PBS_JOBID=SECOND)
    assert (status, len(node.calls())) == ((0, 1) if runs else (75, 0)), log
    assert told in log
    assert not (node.attempt / "writers" / SECOND).exists()


def test_without_flock_two_that_start_at_once_never_both_write(node: Node) -> None:
    (node.top / "no-flock").touch()
    holding(node)
    for job in (FIRST, SECOND):
        pbs_says(node, job, 0)
    for ended in range(5):
        both = [node.start(node.job(key=f"c/s/0/l0/n{ended}/train"), PBS_JOBID=job) for job in (FIRST, SECOND)]
        before = len(node.calls())
        until(lambda: any(child.poll() is not None for child in both))  # noqa: B023
        assert len(node.calls()) - before <= 1
        let_go(node)
        assert sorted(child.wait(60) for child in both) in ([0, 75], [75, 75])
        for child in both:
            child.communicate()
        holding(node)


@pytest.mark.parametrize("flock", [True, False])
def test_under_one_key_one_job_runs_also_when_the_other_has_long_ended(node: Node, flock: bool) -> None:
    """A server that listed nothing had it submitted again; what the first has trained is not trained over."""
    if not flock:
        (node.top / "no-flock").touch()
    assert node.run(node.job(), PBS_JOBID=FIRST)[0] == 0
    pbs_says(node, FIRST, 35)
    status, log = node.run(node.job(), PBS_JOBID=SECOND)
    assert (status, len(node.calls())) == (75, 1), log
    mark = node.attempt / "begun" / "c+s+0+l0+n0+train"
    assert f"job {FIRST} has begun under the key of this one" in log
    assert f"else: rm {mark}" in log
    assert node.run(node.job(), PBS_JOBID=FIRST)[0] == 0, "PBS has started it again itself"
    mark.unlink()
    assert node.run(node.job(), PBS_JOBID=SECOND)[0] == 0, "a person has looked"


def test_a_job_whose_attempt_is_not_there_starts_nothing(node: Node) -> None:
    status, log = node.run(node.job(attempt_folder=str(node.top / "nowhere")))
    assert (status, node.calls()) == (73, [])
    assert "No such file or directory" in log


# --- the log


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_log_begins_and_ends_with_job_host_and_time(node: Node, template: str) -> None:
    _, log = node.run(node.job(template), PBS_JOBID="1234.aurora-pbs")
    lines = log.splitlines()
    stamp = r"reconcile: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    assert re.fullmatch(stamp + r"job 1234\.aurora-pbs begins on \S+", lines[0])
    assert re.fullmatch(stamp + r"job 1234\.aurora-pbs on \S+ ends with status 0 \(0 is no proof .*\)", lines[-1])


def test_the_launcher_s_status_is_the_job_s_and_the_newest_checkpoint_is_named(node: Node) -> None:
    (node.top / "status").write_text("3")
    (node.attempt / "leg-0/latest").write_text("global_step977")
    launch = {"environment": {"SAVE": f"{node.attempt}/leg-0"}, "arguments": []}
    status, log = node.run(node.job(launches=[launch]))
    assert status == 3
    assert "the newest checkpoint by `latest`: global_step977" in log
    assert "ends with status 3" in log


def test_a_job_that_is_told_to_end_says_so(node: Node) -> None:
    holding(node)
    job = node.start(node.job())
    until(lambda: len(node.calls()) == 1)
    os.killpg(job.pid, signal.SIGTERM)  # as PBS does at walltime: every process of the job
    log, _ = job.communicate(timeout=60)
    assert job.returncode == 143
    assert "ends with status 143" in log
    assert list((node.attempt / "writers").iterdir()) == []


@pytest.mark.parametrize("machine", ["aurora", "polaris", "sunspot"])
@pytest.mark.parametrize("loads", [True, False])
def test_a_module_that_does_not_load_ends_the_job_before_the_launcher(node: Node, machine: str, loads: bool) -> None:
    function = f"() {{ return {int(not loads)}; }}"
    modules = {"BASH_FUNC_module%%": function, "BASH_FUNC_conda%%": function}
    status, _ = node.run(node.job(machine=machine), **modules)
    assert (status, len(node.calls())) == ((0, 1) if loads else (72, 0))
    if loads:
        assert node.calls()[0].environment["https_proxy"] == "http://proxy.alcf.anl.gov:3128"


# --- what is saved

SECRETS = (
    "WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "TOKEN", "OPENAI_API_KEY", "MY_APIKEY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "DB_PASSWD", "GH_PAT",
    "hf_token", "MLFLOW_TRACKING_PASSWORD", "CLIENT_SECRET_FILE", "GOOGLE_APPLICATION_CREDENTIALS",
)  # fmt: skip
KEPT = ("CPT_KEY", "PBS_JOBCOOKIE", "TOKENIZER_MODEL", "KEYBOARD", "TOKENS_SEEN", "HF_HOME")


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_secret_reaches_the_launcher_or_what_it_saves(node: Node, template: str) -> None:
    environment = {name: f"sesame-{number}" for number, name in enumerate(SECRETS)}
    environment |= {name: f"kept-{name}" for name in KEPT}
    status, log = node.run(node.job(template), **environment)
    assert status == 0, log
    (call,) = node.calls()
    assert not set(SECRETS) & set(call.environment)
    assert {name: call.environment[name] for name in KEPT} == {name: f"kept-{name}" for name in KEPT}
    assert "sesame" not in log
    saved = [path for path in node.top.rglob("*") if path.is_file() and "sesame" in path.read_text()]
    assert saved == []
    assert template == "convert" or (node.attempt / "leg-0/.env").exists()


@pytest.mark.parametrize("name", [*filter(str.isupper, SECRETS), "CPT_KEY"])
def test_a_manifest_sets_no_secret(name: str) -> None:
    launcher = {"kind": "megatron-deepspeed", "checkout": "launcher", "machine": "local", "startup": "5s"}
    with pytest.raises(ValueError, match=f"environment.{name}.*\\n.*a secret has no place in git"):
        LauncherSpec.model_validate(launcher | {"environment": {name: "sesame"}})


def test_a_secret_that_a_profile_made_read_only_is_kept_back_too(node: Node) -> None:
    (node.checkout / "environment.sh").write_text("readonly WANDB_API_KEY=sesame\nexport WANDB_API_KEY\n")
    status, log = node.run(node.job())
    assert (status, "WANDB_API_KEY" in node.calls()[0].environment) == (0, False), log


def test_what_a_login_shell_left_does_not_change_the_training(node: Node) -> None:
    left = ("WORLD_SIZE", "TRAIN_TOKENS", "TRAIN_ITER", "OVERRIDE_CKPT_OPT_PARAM", "NO_FLASH_ATTN", "DEBUG", "OPTIM")
    node.run(node.job(), **dict.fromkeys(left, "1"))
    assert not set(left) & set(node.calls()[0].environment)


# --- with a real PBS


@pytest.mark.parametrize("first_ends", [False, True])
def test_a_job_under_the_embedded_pbs_asks_it_about_the_other(tmp_path: Path, first_ends: bool) -> None:
    machine, node = Machine(tmp_path / "pbs"), Node(tmp_path / "node").build()
    for name in ("qstat", "flock"):
        (node.top / "bin" / name).unlink()
    script = re.sub(r"(?m)^#PBS -(o|k) .*\n", "", render(node.job(), "/w/log"))
    holding(node)
    try:
        first = machine.qsub(script, "-v", f"NODE={node.top}")
        until(lambda: len(node.calls()) == 1)
        (node.attempt / "writer.lock").unlink()  # a lock that the other node does not see
        if first_ends:
            let_go(node)
            assert machine.wait(first).exit_status == 0
            (node.attempt / "writers" / first).touch()  # as if it had been killed outright
        second = machine.qsub(script.replace("/n0/train", "/n1/train"), "-v", f"NODE={node.top}")
        assert machine.wait(second).exit_status == (0 if first_ends else 75)
        assert len(node.calls()) == (2 if first_ends else 1)
        assert (node.attempt / "writers" / first).exists() is not first_ends, "PBS said that it is over"
    finally:
        (node.top / "hold").unlink(missing_ok=True)
        machine.close()
