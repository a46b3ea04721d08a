"""`reconcile simulate`: the real planner on a simulated cluster does what it does on a real one, and says how it ends.

Golden text is rewritten by `SNAP_UPDATE=1`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from rich.console import Console

from reconciler.cli.human.simulation import render
from reconciler.model.plan import ActionKind
from reconciler.simulate.assumptions import Assumptions, Failing, Gate, NoSpeed, NotThere
from reconciler.simulate.run import End, Simulation, simulate
from tests.simulate.campaigns import shipped

GOLDEN = Path(__file__).parents[1] / "golden" / "simulate"
MONDAY_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
FAST = 68_000
"""Tokens a second of one node here: the quickstart's first stage takes two jobs."""
LADDER = tuple(Failing("code", name) for name in ("naive", "replay-10", "mix-a", "decay"))
CASES: dict[str, tuple[str, Assumptions]] = {
    "quickstart": ("quickstart", Assumptions(0, FAST, (Failing("stage-3"),))),
    "ladder": ("ladder", Assumptions(0, FAST, LADDER)),
    "auroragpt": ("auroragpt-v1", Assumptions(7200, 50_000)),
    "auroragpt-held": ("auroragpt-v1", Assumptions(7200, 50_000, (Failing("stage-3"),), 4)),
    "made-elsewhere": ("agpt-7b", Assumptions(3600, 20_000)),
}


@cache
def made(case: str) -> Simulation:
    campaign, assumed = CASES[case]
    return simulate(shipped(campaign), assumed, MONDAY_S)


def text_of(simulation: Simulation, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(render(simulation))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def walked(simulation: Simulation) -> list[tuple[str, str, str]]:
    """(stage, strategy, kind) of each step; segments of one leg are one."""
    steps = [(step.key.stage, step.strategy, step.key.kind.value, step.key.leg) for step in simulation.steps]
    return [(stage, strategy, kind) for (stage, strategy, kind, _), _ in groupby(steps)]


@pytest.mark.parametrize("case", CASES)
def test_what_would_happen_as_a_person_reads_it(case: str) -> None:
    text, path = text_of(made(case)), GOLDEN / f"{case}.txt"
    if os.environ.get("SNAP_UPDATE") == "1":
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else "(there is no such golden text; run with SNAP_UPDATE=1)\n")


def test_the_quickstart_goes_as_its_readme_says() -> None:
    """`tests/e2e/test_quickstart.py` holds the jobs of the real one against the same."""
    assert walked(made("quickstart")) == [
        ("stage-1", "pretrain", "train"),
        ("stage-1", "pretrain", "evaluate"),
        ("stage-1", "pretrain", "judge"),
        ("stage-2", "naive", "convert"),
        ("stage-2", "naive", "train"),
        ("stage-2", "naive", "evaluate"),
        ("stage-2", "naive", "judge"),
        ("stage-3", "naive", "train"),
        ("stage-3", "naive", "evaluate"),
        ("stage-3", "naive", "judge"),
        ("stage-3", "replay-30", "train"),
        ("stage-3", "replay-30", "evaluate"),
        ("stage-3", "replay-30", "judge"),
        ("stage-4", "cooldown-mix-a", "convert"),
        ("stage-4", "cooldown-mix-a", "train"),
        ("stage-4", "cooldown-mix-a", "evaluate"),
        ("stage-4", "cooldown-mix-a", "judge"),
    ]


def test_the_ladder_goes_down_all_its_rungs() -> None:
    rungs = [(run.strategy, run.outcome) for run in made("ladder").attempts if run.stage == "code"]
    assert rungs == [(failing.strategy, "failed") for failing in LADDER] + [("rewarm", "passed")]


def test_a_campaign_that_a_person_would_hold_goes_on_only_if_that_is_assumed() -> None:
    held = made("auroragpt-held")
    assert (held.end, "move replay-5 to the top" in held.why[0]) == (End.HELD, True)
    on = simulate(shipped("auroragpt-v1"), Assumptions(0, 10**6, (Failing("stage-3"),), merged=True), MONDAY_S)
    assert [run.strategy for run in on.attempts if run.stage == "stage-3"] == ["naive", "replay-5"]
    assert on.end is End.DONE


# --- faults


def test_what_a_killed_job_has_not_saved_is_trained_again() -> None:
    whole, killed = made("auroragpt"), made("auroragpt-held")
    stages = [next(run for run in each.attempts if run.stage == "stage-2") for each in (whole, killed)]
    assert (stages[0].failed_jobs, stages[1].failed_jobs > 0) == (0, True)
    assert stages[0].tokens == stages[1].tokens
    assert stages[1].jobs > stages[0].jobs and stages[1].node_hours > stages[0].node_hours


def test_a_cluster_on_which_every_job_fails_makes_no_progress() -> None:
    end = simulate(shipped("quickstart"), Assumptions(0, FAST, job_fails_every=1), MONDAY_S)
    assert (end.end, "NoProgress" in end.why[0]) == (End.HELD, True)


def test_a_walltime_too_short_for_the_bounds_is_seen_before_it_costs_anything() -> None:
    """Of 32 minutes 15 are for starting and 15 for the last save."""
    short = {"walltime: 6h}": "walltime: 32m}", "jobsPerAttempt: 400": "jobsPerAttempt: 12"}

    def edit(text: str) -> str:
        for old, new in short.items():
            text = text.replace(old, new)
        return text

    end = simulate(shipped("auroragpt-v1", edit), Assumptions(0, 50_000), MONDAY_S)
    assert (end.end, end.jobs, "JobsExhausted" in end.why[0]) == (End.HELD, 12, True)


def test_what_cannot_be_paid_is_refused_at_the_beginning_or_held_on_the_way() -> None:
    poor = shipped("quickstart", lambda text: text.replace("    nodeHours: 5\n", "    nodeHours: 0.03\n"))
    end = simulate(poor, Assumptions(0, FAST), MONDAY_S)
    assert end.end in (End.REFUSED, End.HELD)
    assert end.node_hours_bound == 0.03


@pytest.mark.parametrize(
    ("failing", "says"),
    [
        (Failing("stage-2", gate=Gate.RECOVERY), "did not recover"),
        (Failing("stage-2", gate=Gate.DIVERGENCE), "NaN"),
        (Failing("stage-1"), "did not recover"),  # nothing was trained before that could be forgotten
        (Failing("stage-4", "*"), "did not recover"),
    ],
)
def test_each_gate_can_be_seen_to_fail(failing: Failing, says: str) -> None:
    gate = failing.gate or (Gate.RECOVERY if failing.stage == "stage-4" else None)
    failing = Failing(failing.stage, failing.strategy, gate)
    end = simulate(shipped("quickstart"), Assumptions(0, FAST, (failing,)), MONDAY_S)
    failed = [run for run in end.attempts if run.outcome == "failed"]
    assert failed and all(run.stage == failing.stage and says in run.message for run in failed)


def test_a_target_can_be_seen_to_be_missed() -> None:
    end = simulate(shipped("ladder"), Assumptions(0, FAST, (Failing("code", "naive", Gate.TARGET),)), MONDAY_S)
    assert (
        next(run for run in end.attempts if run.stage == "code").message.count("val-D2 is 1.640, its target 1.54") == 1
    )


def test_an_assumption_that_makes_no_difference_is_told() -> None:
    never = simulate(shipped("quickstart"), Assumptions(0, FAST, (Failing("stage-3", "mix-a"),)), MONDAY_S)
    assert never.unmet == ("a gate fails mix-a of stage-3: it is never tried",)
    none = simulate(shipped("quickstart"), Assumptions(0, FAST, (Failing("stage-1", gate=Gate.TARGET),)), MONDAY_S)
    assert "not judged there" in none.unmet[0]


# --- time


def test_jobs_are_submitted_in_submit_windows_only() -> None:
    nights = (
        'queue: workq, maxWalltime: 1h, submitWindows: [{days: [mon, tue], from: "20:00", to: "21:00"}], timeZone: UTC'
    )
    desired = shipped("quickstart", lambda text: text.replace("queue: workq, maxWalltime: 1h", nights))
    end = simulate(desired, Assumptions(1800, FAST), MONDAY_S)
    submits = [step.at_s + MONDAY_S for step in end.steps if step.key.kind.submits]
    at = [datetime.fromtimestamp(moment, UTC) for moment in submits]
    assert end.end is End.DONE
    assert {(moment.strftime("%a"), moment.hour) for moment in at} <= {("Mon", 20), ("Tue", 20)}


def test_a_job_waits_trains_and_ends_in_the_time_that_was_assumed() -> None:
    end = simulate(shipped("quickstart"), Assumptions(3600, FAST), MONDAY_S)
    first = end.attempts[0]
    # 15 of 25 s are usable; 586 iterations of 2048 tokens take 17.6 s, so two jobs; then one evaluation.
    assert [step.key.kind for step in end.steps[:3]] == [ActionKind.TRAIN, ActionKind.TRAIN, ActionKind.EVALUATE]
    assert 3 * 3600 < first.ended_s < 3 * 3600 + 90
    assert 0 < first.node_hours * 3600 < 90


def test_a_harness_that_a_gate_waits_for_is_taken_to_pass() -> None:
    gate = "    external: [{name: mmlu, metric: [results, mmlu], atLeast: 0.3}]\n    recovery:  # "
    desired = shipped("quickstart", lambda text: text.replace("    recovery:                     # ", gate))
    end = simulate(desired, Assumptions(0, FAST), MONDAY_S)
    assert end.end is End.DONE
    assert all("mmlu is 0.3" in run.message for run in end.attempts)


# --- what says nothing is refused


def test_without_a_speed_no_days_are_guessed() -> None:
    with pytest.raises(NoSpeed, match="declares no throughput for tiny-gpt"):
        simulate(shipped("quickstart"), Assumptions(0), MONDAY_S)


def test_the_declared_speed_is_taken() -> None:
    declared = shipped(
        "quickstart", lambda text: text.replace("allocation: {", "throughput: {tiny-gpt: 68000}\n  allocation: {")
    )
    assert (
        simulate(declared, Assumptions(0), MONDAY_S).seconds
        == simulate(shipped("quickstart"), Assumptions(0, FAST), MONDAY_S).seconds
    )


@pytest.mark.parametrize(
    ("failing", "says"),
    [(Failing("stage-9"), "has no stage 'stage-9'; it has stage-1"), (Failing("stage-3", "x"), "its ladder is naive")],
)
def test_what_the_campaign_does_not_have_cannot_be_assumed(failing: Failing, says: str) -> None:
    with pytest.raises(NotThere, match=says):
        simulate(shipped("quickstart"), Assumptions(0, FAST, (failing,)), MONDAY_S)
