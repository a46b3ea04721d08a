"""The simulator's ordinary run: a hundred seeds, replay to the byte, small spaces enumerated, bugs caught."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from reconciler.cluster.observe import agent_source
from tests.sim.bugs import BUGS
from tests.sim.bugs_of_stories import STORY_BUGS
from tests.sim.chance import RATES_MAX
from tests.sim.checkers import Broken
from tests.sim.link import program
from tests.sim.people import deterministic
from tests.sim.planting import Bug, catch, planted
from tests.sim.qstat import Job
from tests.sim.run import Result, liveness, result_in, simulate
from tests.sim.shrink import shrunk
from tests.sim.spaces import CALLS_MIN, HOW, each_call, each_interruption, quiet
from tests.sim.speed import remembered
from tests.sim.stories import STORIES

FIRST_SEED, SEEDS = 40, 100
"""Among so few each fault must have occurred."""
BUGS_MIN = 60
ALL_BUGS = (*BUGS, *STORY_BUGS)
WITHOUT_A_BUG = {"the file server crashes at any moment", "what the guard keeps is deleted"}
"""A space that was enumerated once and found something, which has a story of its own; and harm that comes to nothing
because there is nobody beside the job."""


def whole(result: Result) -> str:
    tail = "\n".join(result.trace[-40:])
    return (
        f"seed {result.seed}: {result.kind}: {result.failure}\n{tail}\nreplay: python -m tests.sim --seed {result.seed}"
    )


def test_the_ordinary_seeds_are_clean() -> None:
    counts: Counter[str] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        result = simulate(seed)
        assert not result.kind, whole(result)
        counts.update(result.counts)
    assert [name for name in RATES_MAX if not counts[name]] == []


REPLAY = """
import hashlib, sys
from tests.sim.run import simulate
print([hashlib.sha256("\\n".join(simulate(seed).trace).encode()).hexdigest() for seed in (3, 16, 19)])
"""


def test_a_seed_replays_to_the_byte_in_any_process() -> None:
    answers = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", REPLAY],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    here = [hashlib.sha256("\n".join(simulate(seed).trace).encode()).hexdigest() for seed in (3, 16, 19)]
    assert answers == {f"{here}\n"}


def test_two_seeds_differ() -> None:
    assert simulate(1).trace != simulate(2).trace


def test_a_kept_result_is_the_same_and_half_of_one_is_none() -> None:
    """What a run that was interrupted goes on from."""
    made = simulate(3)
    found = result_in(made.line())
    assert found is not None
    assert vars(found) == vars(made) | {"trace": []}
    assert result_in(made.line()[:-9]) is None


# --- small spaces, enumerated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_each_call_of_the_first_apply_goes_wrong(how: str) -> None:
    """N = 1, 2, …: whatever came of it, one job is queued in the end."""
    assert each_call(how) > CALLS_MIN


def test_another_apply_runs_within_each_call_of_the_first() -> None:
    assert each_interruption() > CALLS_MIN


def listed_as_none() -> list[Job]:
    """A qsub gives no answer and its job is held; PBS lists nothing, so it is submitted again, trains and ends; then
    the first is let go. The jobs of that key."""
    world = quiet()
    ada, first = world.people[0], "small/stage-1"
    world.pbs.blank_until = world.now + 1500.0
    with deterministic(world), remembered():
        world.chance.rates["qsub: answer lost"] = 1.0
        ada.one_pass()
        world.chance.rates["qsub: answer lost"] = 0.0
        world.pbs.hold(world.pbs.jobs[101])
        for _ in range(10):
            world.pass_time(world.now + 60.0)
            ada.one_pass()
        world.pbs.release(world.pbs.jobs[101])
        world.pass_time(world.now + 100.0)
    return [job for job in world.pbs.jobs.values() if job.key.startswith(first) and job.kind == "train"]


def test_a_job_that_was_submitted_again_since_none_was_listed_trains_over_nothing() -> None:
    """Nothing can tell of the first, so only the guard in the script stands between the two: one runs, whichever."""
    assert [(job.key[-11:], job.exit) for job in listed_as_none()] == [("l0/n0/train", 75), ("l0/n0/train", 0)]


def test_without_the_guard_it_would() -> None:
    guard = Bug("jobs run under one key", "template guard.pbs", 'if [ "$began" != "$job" ]; then', "if false; then")
    with planted(guard), pytest.raises(Broken, match="runs under the key that"):
        listed_as_none()


def test_a_campaign_without_faults_comes_to_its_end() -> None:
    world = quiet()
    with deterministic(world), remembered():
        assert liveness(world)[0] == "done"


# --- stories ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
def test_each_story_ends_as_it_should(name: str) -> None:
    STORIES[name]()


# --- the simulator itself ---------------------------------------------------------------------------------------------


def test_there_are_enough_bugs_and_each_has_a_name_of_its_own() -> None:
    assert len({bug.name for bug in ALL_BUGS}) == len(ALL_BUGS) >= BUGS_MIN


def test_every_story_has_a_bug_that_it_catches() -> None:
    assert {bug.story for bug in STORY_BUGS} | WITHOUT_A_BUG == set(STORIES)


def test_a_run_of_the_agent_changes_nothing_in_its_program() -> None:
    """It is defined once and begun for every exec."""
    found = program(agent_source()).scope
    before = {name: repr(value) for name, value in found.items() if not callable(value) and name != "__builtins__"}
    simulate(4)
    assert {name: repr(found[name]) for name in before} == before
    assert program(agent_source()).scope is found


@pytest.mark.no_cover  # the lines of the seeds and stories above once more; watching them takes as long as running them
@pytest.mark.parametrize("bug", ALL_BUGS, ids=lambda bug: bug.name)
def test_every_deliberate_bug_is_caught(bug: Bug) -> None:
    assert catch(bug), f"{bug.seeds} seeds did not notice that {bug.name}"


def test_a_failing_seed_is_made_shorter() -> None:
    """A wrong rate needs no fault at all: each of them can be left out."""
    with planted(next(bug for bug in BUGS if bug.name == "the warm-up is forgotten")):
        failed = next(found for found in map(simulate, range(20)) if found.kind and len(found.counts) > 12)
        short, dropped = shrunk(failed, time_s=30.0)
    assert short.kind == failed.kind == "correctness"
    assert dropped
    assert not [name for name in RATES_MAX if short.counts[name]]
    assert len(short.trace) <= len(failed.trace)
