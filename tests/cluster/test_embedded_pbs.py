"""Agent and embedded PBS together: the job that is submitted runs, and is seen through all its states."""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.observed import Job, JobState, Unread
from tests.cluster.test_agent_logs import line
from tests.cluster.world import FOLDER, World, train, until
from tests.local.pbs.machine import Machine


@pytest.fixture
def real(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    machine = Machine(tmp_path)
    yield world
    machine.close()


def script(world: World, body: str) -> str:
    log = shlex.quote(f"{world.attempt}/jobs/l0-n0-train.log")
    directives = ("-N train", "-l select=1", "-l walltime=00:01:00", "-j oe", f"-o {log}")
    return "\n".join(["#!/bin/bash", *(f"#PBS {directive}" for directive in directives), body, ""])


def job(world: World) -> Job:
    (found,) = seen(world)
    return found


def test_a_job_from_submission_to_its_log(real: World) -> None:
    go = real.top / "go"
    printed = f"echo {shlex.quote(line(7))}\necho 'Execution finished with 0.'"
    body = f"{printed}\nuntil [ -e '{go}' ]; do sleep 0.1; done; exit 3"
    (outcome,) = real.execute(train(), script=script(real, body))
    assert (outcome.kind, outcome.message) == ("done", "")
    until(lambda: job(real).state is JobState.RUNNING)
    assert (job(real).job_id, job(real).key) == (outcome.job_id, outcome.key)
    assert real.execute(train(ended=1), script=script(real, "true"))[0].kind == "forbidden"
    go.touch()
    until(lambda: job(real).state is JobState.FINISHED)
    ended = job(real)
    assert (ended.exit_status, ended.live) == (3, False)
    assert ended.started_s is not None
    assert ended.ended_s is not None
    assert ended.ended_s >= ended.started_s
    attempts = real.observe().attempts
    assert isinstance(attempts, tuple)
    (log,) = attempts[0].legs[0].logs
    assert (log.last[0].iteration, log.finished_rc) == (7, 0)


def test_a_refusal_of_the_queue_is_told_in_its_words(real: World) -> None:
    text = script(real, "true").replace("-l select=1", "-q nosuch")
    (outcome,) = real.execute(train(), script=text)
    assert (outcome.kind, outcome.message) == ("refused", "PBS refused the job: qsub: Unknown queue")


def test_killed_at_random_moments_one_job_is_submitted(real: World) -> None:
    chance = random.Random(11)
    for _ in range(12):
        running = real.started(real.batch(train(), script=script(real, "sleep 30")))
        time.sleep(chance.uniform(0.05, 0.5))
        running.kill()
    until(lambda: real.execute(train(), script=script(real, "sleep 30"))[0].job_id is not None)
    found = job(real)
    assert found.key == f"{FOLDER}/l0/n0/train"


def test_several_jobs_are_seen_at_once_and_one_that_pbs_forgot_is_absent(real: World) -> None:
    """This release's JSON has only the first of several: the others come from the plain form."""
    attempts = [f"{number:012x}" for number in range(3)]
    text = script(real, "sleep 30")
    submitted = [real.execute(train(attempt=attempt), script=text)[0] for attempt in attempts]
    keys = {outcome.job_id: outcome.key for outcome in submitted}
    assert {job.job_id: job.key for job in seen(real)} == keys
    forgotten = str(submitted[1].job_id)
    real.link.exec(["qdel", "-x", forgotten], b"", 20.0)
    until(lambda: forgotten not in {job.job_id for job in seen(real)})
    assert {job.job_id: job.key for job in seen(real)} == {k: v for k, v in keys.items() if k != forgotten}


def seen(world: World) -> tuple[Job, ...]:
    jobs = world.observe().jobs
    assert not isinstance(jobs, Unread), jobs
    return jobs
