"""The simulator's ordinary run: a few hundred seeds, replay to the byte, small spaces enumerated, bugs caught."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.sim.bugs import BUGS
from tests.sim.chance import RATES_MAX
from tests.sim.people import deterministic
from tests.sim.planting import Bug, catch, planted
from tests.sim.run import Result, liveness, simulate
from tests.sim.shrink import shrunk
from tests.sim.spaces import CALLS_MIN, HOW, each_call, each_interruption, quiet
from tests.sim.speed import remembered

SEEDS = 200
BUGS_MIN = 25


def whole(result: Result) -> str:
    tail = "\n".join(result.trace[-40:])
    return (
        f"seed {result.seed}: {result.kind}: {result.failure}\n{tail}\nreplay: python -m tests.sim --seed {result.seed}"
    )


def test_the_ordinary_seeds_are_clean() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        result = simulate(seed)
        assert not result.kind, whole(result)
        counts.update(result.counts)
    assert [name for name in RATES_MAX if not counts[name]] == []


FOUND = {
    38: "the first save of a stage was cut off: `latest` named it, and every later job loaded it and died",
    62: "the same",
    175: "the journal's folder was not safe in the workspace when the first qsub ran",
    253: "a first stage that lost its checkpoints was stopped for ever, also when a person let it start over",
    43: "without job history a job whose qsub's answer was lost was submitted again after it had ended",
}
"""Seeds that found something in the product, and what; the mended code has tests of its own besides."""


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_found(seed: int) -> None:
    result = simulate(seed)
    assert not result.kind, whole(result)


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


# --- small spaces, enumerated -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_each_call_of_the_first_apply_goes_wrong(how: str) -> None:
    """N = 1, 2, …: whatever came of it, one job is queued in the end."""
    assert each_call(how) > CALLS_MIN


def test_another_apply_runs_within_each_call_of_the_first() -> None:
    assert each_interruption() > CALLS_MIN


def test_a_campaign_without_faults_comes_to_its_end() -> None:
    world = quiet()
    with deterministic(world), remembered():
        assert liveness(world)[0] == "done"


# --- the simulator itself ---------------------------------------------------------------------------------------------


def test_there_are_enough_bugs_and_each_has_a_name_of_its_own() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= BUGS_MIN


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
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
