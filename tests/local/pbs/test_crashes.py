"""Killing any process of the embedded PBS loses no job record, and no job runs unwatched for ever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest

from reconciler.local.pbs import ending, processes, run
from reconciler.local.pbs.spool import Spool
from tests.local.pbs.machine import WAIT_S, Machine


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pbs: Machine, job_id: str) -> list[processes.Process]:
    found = pbs.spool.find(int(job_id.split(".")[0]))
    assert found is not None
    return processes.of_job(found.run["session"], found.run["cookie"])


def test_a_killed_supervisor_ends_a_job_that_may_not_run_again(pbs: Machine) -> None:
    job_id = pbs.qsub("echo begun; setsid sleep 100 & sleep 100\n", "-r", "n", "-N", "lost")
    supervisor = pbs.supervisor(job_id)
    until(lambda: len(alive(pbs, job_id)) >= 3, "the job's processes")
    members = alive(pbs, job_id)
    os.kill(supervisor, signal.SIGKILL)
    found = pbs.job(job_id)  # this very command finds it out
    assert (found["job_state"], found["substate"], found["Exit_status"]) == ("F", 93, -4)
    assert found["comment"].endswith("and failed")
    assert not [entry for entry in members if (now := processes.look(entry.pid)) and not now.zombie]
    assert (pbs.work / f"lost.o{job_id.split('.')[0]}").read_text() == "begun\n"


def test_a_killed_supervisor_sends_a_rerunable_job_back_to_the_queue(pbs: Machine) -> None:
    job_id = pbs.qsub("[ -e again ] && exit 7; >again; sleep 100\n")
    supervisor = pbs.supervisor(job_id)
    until((pbs.home / "again").exists, "the first run")
    os.kill(supervisor, signal.SIGKILL)
    assert pbs.sh("qselect").rc == 0
    pbs.wait(job_id)
    found = pbs.job(job_id)
    assert (found["Exit_status"], found["run_count"]) == (7, 2)


def test_a_killed_supervisor_does_not_strand_the_queue(pbs: Machine) -> None:
    first = pbs.qsub("sleep 100\n", "-l", "select=1:ncpus=8", "-r", "n")
    supervisor = pbs.supervisor(first)
    second = pbs.qsub("echo ran\n", "-l", "select=1:ncpus=8")
    assert pbs.job(second)["job_state"] == "Q"
    os.kill(supervisor, signal.SIGKILL)
    pbs.sh("qstat")
    pbs.wait(second)
    assert pbs.job(second)["Exit_status"] == 0


def test_a_deletion_that_was_asked_for_survives_the_supervisor(pbs: Machine) -> None:
    job_id = pbs.qsub("trap '' TERM; >begun; while :; do sleep 1; done\n")
    supervisor = pbs.supervisor(job_id)
    until((pbs.home / "begun").exists, "the script")  # from now on the supervisor holds no lock but its own
    os.kill(supervisor, signal.SIGSTOP)
    assert pbs.sh(f"qdel {job_id}").rc == 0
    os.kill(supervisor, signal.SIGKILL)
    found = pbs.job(job_id)
    assert (found["job_state"], found["substate"]) == ("F", 91)


def test_an_end_that_was_interrupted_is_completed(pbs: Machine) -> None:
    """The supervisor died while it delivered: the exit status that it had recorded stays."""
    job_id = pbs.qsub("echo out; sleep 100\n", "-N", "half")
    os.kill(pbs.supervisor(job_id), signal.SIGKILL)
    job = pbs.spool.find(int(job_id.split(".")[0]))
    assert job is not None
    ending.exiting(job, time.time(), 5)
    pbs.spool.save(job)
    found = pbs.job(job_id)
    assert (found["job_state"], found["substate"], found["Exit_status"], found["Stageout_status"]) == ("F", 93, 5, 1)
    assert (pbs.work / f"half.o{job_id.split('.')[0]}").exists()


def test_the_top_process_killed_from_outside_is_reported(pbs: Machine) -> None:
    job_id = pbs.qsub("sleep 100\n")
    pbs.supervisor(job_id)
    until(lambda: len(alive(pbs, job_id)) >= 2, "the job's processes")
    os.kill(alive(pbs, job_id)[0].session, signal.SIGKILL)
    pbs.wait(job_id)
    assert pbs.job(job_id)["Exit_status"] == 256 + 9
    assert not alive(pbs, job_id)


def test_a_record_from_another_boot_is_not_taken_for_a_living_job(pbs: Machine) -> None:
    job_id = pbs.qsub("sleep 100\n", "-r", "n")
    supervisor = pbs.supervisor(job_id)
    members = alive(pbs, job_id)
    os.kill(supervisor, signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        job = pbs.spool.find(int(job_id.split(".")[0]))
        assert job is not None
        job.run.update(boot="another", session=bystander.pid)
        pbs.spool.save(job)
        assert pbs.job(job_id)["job_state"] == "F"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert not [entry for entry in members if (now := processes.look(entry.pid)) and not now.zombie]


def test_qsub_killed_at_any_moment_leaves_a_whole_job_or_none(pbs: Machine) -> None:
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    printed = []
    for _ in range(40):
        process = subprocess.Popen(
            [str(pbs.bin / "qsub"), "-N", "maybe", "-v", "CPT_KEY=k", "-l", "select=1:ncpus=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=pbs.work,
            env=pbs.environment,
        )
        assert process.stdin is not None
        process.stdin.write(b"echo whole\n")
        process.stdin.close()
        process.stdin = None
        time.sleep(draw.uniform(0, 0.09))
        process.kill()
        out, _ = process.communicate()
        printed += out.decode().split()
    jobs = pbs.jobs()
    assert set(printed) <= jobs.keys(), f"seed {seed}"
    assert all(job["Variable_List"]["CPT_KEY"] == "k" for job in jobs.values()), f"seed {seed}"
    for job_id in jobs:
        pbs.wait(job_id)
        assert pbs.spool.find(int(job_id.split(".")[0])).exit_status == 0, f"seed {seed}"  # type: ignore[union-attr]
        assert (pbs.work / f"maybe.o{job_id.split('.')[0]}").read_text() == "whole\n", f"seed {seed}"
    assert pbs.qsub("true\n").split(".")[0] not in {job_id.split(".")[0] for job_id in jobs}


def test_any_command_killed_at_any_moment_loses_nothing(pbs: Machine) -> None:
    """Random SIGKILLs among clients and supervisors: every accepted job ends, with a record."""
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    accepted = [pbs.qsub("sleep 0.2\n", "-r", "n") for _ in range(6)]
    accepted += [pbs.qsub("true\n", "-r", "n", "-W", f"depend=afterany:{accepted[number]}") for number in range(6)]
    for _ in range(20):
        process = subprocess.Popen(
            [str(pbs.bin / draw.choice(("qstat", "qselect", "pbsnodes"))), "-a"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=pbs.work,
            env=pbs.environment,
        )
        time.sleep(draw.uniform(0, 0.06))
        process.kill()
        process.wait()
        live = [job for job in Spool(pbs.spool.root).live().values() if "supervisor" in job.run and job.state == "R"]
        if live and draw.random() < 0.3:
            try:
                os.kill(draw.choice(live).run["supervisor"], signal.SIGKILL)
            except ProcessLookupError:
                continue
    deadline = time.monotonic() + WAIT_S
    while (states := Counter(job["job_state"] for job in pbs.jobs().values())) != {"F": 12}:
        assert time.monotonic() < deadline, f"seed {seed}: {states}"
        time.sleep(0.1)
    assert pbs.jobs().keys() == set(accepted)


def test_parallel_submissions_get_distinct_ids(pbs: Machine) -> None:
    command = "for i in 1 2 3 4 5 6 7 8; do (echo true | qsub -q idle) & done; wait"
    ids = pbs.sh(command).text.split()
    assert len(ids) == len(set(ids)) == 8


def test_ids_are_not_used_again_after_the_history_is_gone(pbs: Machine) -> None:
    first = pbs.qsub("true\n", "-q", "idle")
    assert pbs.sh(f"qdel -x {first}; qdel -x {first}").rc == 153
    assert int(pbs.qsub("true\n", "-q", "idle").split(".")[0]) == int(first.split(".")[0]) + 1


def test_a_job_that_nobody_looked_at_has_its_record(pbs: Machine) -> None:
    job_id = pbs.qsub("exit 3\n")
    found = pbs.wait(job_id)  # reads the file, runs no command
    assert (found.substate, found.exit_status) == (93, 3)


def test_no_process_outlives_the_jobs(pbs: Machine) -> None:
    job_id = pbs.qsub("sleep 100 & disown; exit 0\n")
    pbs.wait(job_id)
    mark = os.fsencode(str(pbs.spool.root))
    until(lambda: not pbs._mine(mark), "supervisors gone")


def test_a_client_is_not_kept_waiting_by_the_jobs_it_starts(pbs: Machine) -> None:
    """Neither the job nor its supervisor holds the caller's pipes: reading them to the end returns at once."""
    began = time.monotonic()
    pbs.sh("echo sleep 60 | qsub")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("damage", ["missing", "locked"])
def test_a_spool_that_cannot_be_used_is_said_to_be_so(
    pbs: Machine, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "missing":
        pbs.spool.settings.unlink()
        got = pbs.sh("qstat -f -F json")
        assert got.rc == 255
        assert "cannot connect to server" in got.complaint
        assert pbs.sh("qsub </dev/null").rc == 162
        pbs.configure()
        return
    monkeypatch.setattr("reconciler.local.pbs.spool.LOCK_WAIT_S", 0.1)
    with pbs.spool.lock():
        assert run(pbs.spool.root, "qselect", []) == 162
