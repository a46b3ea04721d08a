"""The cookbook's ladder of stage 2 → 3 for real: each strategy fails a gate until the last holds."""

from __future__ import annotations

import math

import pytest

from tests.e2e.campaign import Repository, make
from tests.e2e.walk import BATCH, leg, sampling_error

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

LR = 2e-3
FAILED = {
    "naive": "val-D0 +",  # what was learned before is forgotten
    "replay-10": "val-D0 +",
    "mix-a": "val-D2 is",  # nothing is forgotten, and too little of the new data is learned
    "decay": "val-D2 is",
}
"""Strategy → what its gate says."""

GATES = {"naive": "forgetting", "replay-10": "forgetting", "mix-a": "target", "decay": "target"}
"""Strategy → the gate that fails it."""


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The campaign as it is committed, run to its end."""
    repository = make(tmp_path_factory.mktemp("ladder") / "repository", scale="quickstart", campaign="ladder")
    repository.run("apply", "--until-done", "--yes", timeout_s=1600)
    return repository


def test_strategies_1_to_4_fail_and_the_fifth_holds(ladder: Repository) -> None:
    stages = ladder.status()
    assert [stage["phase"] for stage in stages.values()] == ["Done"] * 3
    rungs = {rung["strategy"]: rung["outcome"] for rung in stages["code"]["rungs"]}
    assert rungs == dict.fromkeys(FAILED, "failed") | {"rewarm": "passed"}


def test_a_simulation_in_which_these_gates_fail_submits_the_same_jobs(ladder: Repository) -> None:
    failing = [f"--gate-fails=code:{name}:{gate}" for name, gate in GATES.items()]
    assert ladder.simulated("--throughput=60k", *failing) == ladder.walked()


def test_each_of_them_fails_for_its_own_reason(ladder: Repository) -> None:
    told = {rung["strategy"]: rung["message"] for rung in ladder.status()["code"]["rungs"]}
    assert {name: reason in told[name] for name, reason in FAILED.items()} == dict.fromkeys(FAILED, True), told


def test_strategies_1_to_4_continue_from_the_plateau_and_the_fifth_from_a_converged_checkpoint(
    ladder: Repository,
) -> None:
    campaign = ladder.workspace / "ladder"
    docs = leg(campaign, "docs", "naive", 0).folder.name
    sources = {name: leg(campaign, "code", name, 0).recipe["source"] for name in (*FAILED, "rewarm")}
    assert {source["attempt"] for source in sources.values()} == {docs}
    assert [(sources[name]["leg"], sources[name]["rate"]) for name in FAILED] == [(0, LR)] * len(FAILED)
    assert (sources["rewarm"]["leg"], sources["rewarm"]["rate"]) == (1, 0)


def test_a_rewarm_rises_to_its_own_maximum_and_falls_along_its_line(ladder: Repository) -> None:
    logged = leg(ladder.workspace / "ladder", "code", "rewarm", 0).rates()
    count, warmup = len(logged), math.ceil(len(logged) / 50)
    rising = [2 * LR * at / warmup for at in range(1, warmup)]
    falling = [2 * LR * (1 - at / (count - warmup)) for at in range(count - warmup + 1)]
    assert logged == pytest.approx(rising + falling, rel=1e-5, abs=1e-12)


def test_the_buffer_is_drawn_from_in_mix_a(ladder: Repository) -> None:
    trained = leg(ladder.workspace / "ladder", "code", "mix-a", 0)
    drawn, draws = trained.drawn(ladder.root / ".local" / "quickstart" / "data"), BATCH * len(trained.rates())
    for symbol, share in {"D0": 0.33, "D2": 0.33, "D1": 0.34}.items():
        assert abs(drawn[symbol] - share) <= sampling_error(share, draws), drawn
