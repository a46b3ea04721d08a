"""What a stage will do if nothing fails: mixture, tokens, epochs, rates, node-hours; and what was spent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.domain.resolve import Unresolved
from reconciler.model.observed import Job, JobState, ListSeen
from reconciler.model.plan import ActionKind, StageForecast
from reconciler.model.status import Phase, Reason
from reconciler.planner.ledger import node_hours, nodes_of
from reconciler.planner.sketch import UNREAD_LIST, sketch
from tests.planner.world import NOW_S, SAME, World, after, launch_of, log_of, quickstart, swapped

TRAIN = ActionKind.TRAIN


def forecast(world: World, stage: str) -> StageForecast:
    return next(forecast for forecast in world.plan().forecasts if forecast.stage == stage)


def test_every_stage_is_forecast_on_its_first_rung() -> None:
    forecasts = World(quickstart()).plan().forecasts
    assert [(f.stage, f.strategy) for f in forecasts] == [
        ("stage-1", "pretrain"),
        ("stage-2", "naive"),
        ("stage-3", "naive"),
        ("stage-4", "cooldown-mix-a"),
    ]
    assert [leg.lr for f in forecasts for leg in f.legs] == [
        "warm-up over 196 iterations, then constant at 0.002",
        "constant at 0.002",
        "constant at 0.002",
        "1-sqrt cooldown from 0.002 to 0",
    ]


def test_a_leg_says_its_mixture_as_written_and_as_it_is_and_its_epochs() -> None:
    (leg,) = forecast(World(quickstart()), "stage-4").legs
    assert dict(leg.terms) == {"D0": "0.33", "D3": "0.33", "buffer": "0.34"}
    assert dict(leg.mixture)["D2"] == "51/350"
    assert (leg.tokens, leg.iterations) == (500_000, 245)
    assert leg.epochs["D3"] == pytest.approx(0.33)
    assert leg.epochs["D0"] == pytest.approx(0.33 * 0.5 / 4)
    assert leg.lr_curve[0] == (0, 2e-3)
    assert leg.lr_curve[-1] == (245 * 2048, 0.0)


def test_cost_is_unknown_until_a_speed_is() -> None:
    one = forecast(World(quickstart()), "stage-2")
    assert (one.node_hours, one.jobs) == (None, None)


DECLARED = ("  poll: 0.5s", "  throughput: {tiny-gpt: 10000}\n  poll: 0.5s")


def test_a_declared_speed_is_per_node() -> None:
    world = World(quickstart(swapped(DECLARED)))
    # 2M tokens at 20 000 a second: 100 s, in two jobs of 50 usable seconds, each with 10 s around it, on two nodes.
    two = forecast(world, "stage-2")
    assert two.jobs == 2
    assert two.node_hours == pytest.approx((100 + 2 * 10) * 2 / 3600)


def measured(world: World, seconds: float) -> None:
    action = world.until(TRAIN)
    world.trained(action, 300)
    world.leg(action, logs=(log_of(action, 300, 2.0, seconds_per_iteration=seconds),))


def test_a_measured_speed_wins_over_a_declared_one() -> None:
    world = World(quickstart(swapped(DECLARED)))
    measured(world, 0.25)
    assert forecast(world, "stage-1").jobs == 10  # 4M tokens at 8192 a second, 50 s a job
    # One rank a node: speed is not scaled by nodes that are not used as such.
    assert forecast(world, "stage-2").jobs == 5


def test_a_speed_measured_on_other_nodes_is_scaled() -> None:
    two_ranks = (
        ("node: {ranks: 1}", "node: {ranks: 2}"),
        ("batch: {global: 16, micro: 4}", "batch: {global: 16, micro: 2}"),
    )
    world = World(quickstart(swapped(*two_ranks)))
    measured(world, 0.25)
    assert forecast(world, "stage-2").jobs == 3


def test_the_stage_s_own_measurement_counts_first() -> None:
    world = World(quickstart())
    measured(world, 0.25)
    world.trained(world.the_action(), 1954)
    world.finish_stage(SAME)
    measured(world, 0.5)
    assert forecast(world, "stage-2").jobs == 10
    assert forecast(world, "stage-3").jobs == 4


def test_a_speed_of_a_stage_that_is_gone_is_not_used() -> None:
    world = World(quickstart())
    measured(world, 0.2)
    ((key, seen),) = world.attempts.items()
    world.attempts = {("old", key[1]): replace(seen, stage="old")}
    assert forecast(world, "stage-2").jobs is None


# --- spending


def test_node_hours_count_the_campaign_s_jobs_up_to_now() -> None:
    world = after(1)
    key = world.until(TRAIN).key
    desired = world.desired

    def job(key_text: str | None, started: float | None, ended: float | None) -> Job:
        return Job("j", "n", JobState.RUNNING, "R", key_text, started_s=started, ended_s=ended)

    text, hour = str(key), 3600.0
    evaluation = str(replace(key, kind=ActionKind.EVALUATE, detail="leg-0-1"))
    silent = job(text, None, None)
    assert nodes_of(desired, silent, key) == 2
    assert nodes_of(desired, silent, replace(key, kind=ActionKind.EVALUATE)) == 1
    assert nodes_of(desired, silent, replace(key, stage="gone")) == 1
    assert nodes_of(desired, replace(silent, nodes=7), key) == 7, "what PBS says is what was spent"
    table = [
        job(text, NOW_S - hour, None),
        job(text, NOW_S - 3 * hour, NOW_S - 2 * hour),
        job(evaluation, NOW_S - hour, NOW_S),
        job(text, None, None),
        job(None, NOW_S - hour, NOW_S),
        job("rubbish", NOW_S - hour, NOW_S),
        job(str(replace(key, campaign="other")), NOW_S - hour, NOW_S),
        job(text, NOW_S + hour, None),
    ]
    assert node_hours(desired, table, NOW_S) == pytest.approx(5)
    assert node_hours(desired, table, NOW_S, "stage-2", key.attempt) == pytest.approx(5)
    assert node_hours(desired, table, NOW_S, "stage-1") == 0
    assert node_hours(desired, table, NOW_S, "stage-2", "f" * 12) == 0


# --- waiting stages that cannot be resolved


def test_a_later_stage_whose_list_is_in_trouble_is_not_forecast() -> None:
    world = World(quickstart())
    world.lists["/r/data/D2.txt"] = ListSeen("", "x")
    made = world.plan()
    assert [f.stage for f in made.forecasts] == ["stage-1", "stage-2"]
    assert [s.reason for s in made.stages[2:]] == [Reason.SOURCE_NOT_DONE] * 2
    assert made.stages[3].message == "waits for stage-1, which is training"


CONVERGED = (
    "  tokens: 0.5M\n  source: {stage: stage-3, checkpoint: pre-cooldown}",
    "  tokens: 0.5M\n  source: {stage: stage-3, checkpoint: converged}",
)
REWARMED = (
    "lr: {shape: cooldown, decay: 1-sqrt}     # from lrMax to lrFinal over the whole leg",
    "lr: {shape: cooldown, rewarm: true}",
)
REWARMED_B = (
    "{D0: 0.05, D3: 0.47, buffer: 0.48}\n          lr: {shape: cooldown, decay: 1-sqrt}",
    "{D0: 0.05, D3: 0.47, buffer: 0.48}\n          lr: {shape: cooldown, rewarm: true}",
)


def test_a_source_without_the_wanted_checkpoint_is_told_ahead_and_holds_in_its_turn() -> None:
    desired = quickstart(swapped(CONVERGED, REWARMED, REWARMED_B))
    ahead = World(desired).status("stage-4")
    assert ahead.phase is Phase.WAITING
    assert "stage-3 has no converged checkpoint" in ahead.message
    turn = after(3, desired)
    assert turn.plan().actions == ()
    assert (turn.status("stage-4").phase, turn.status("stage-4").reason) == (Phase.HELD, Reason.SOURCE_UNUSABLE)


# --- sketches


@pytest.mark.parametrize("later", [False, True])
def test_a_sketch_is_the_job_that_a_plan_would_submit_but_for_lists(later: bool) -> None:
    desired = quickstart()
    stage = desired.catalog.stage("quickstart", "stage-2")
    made = sketch(desired, stage, stage.spec.strategies[1], 0, later=later)
    assert not isinstance(made, Unresolved)
    environment, arguments = launch_of(made.action)
    assert environment["DATA_FILE_LIST"].endswith(f"/lists/leg-0-{UNREAD_LIST}.txt")
    assert made.action.key.ended == int(later)
    assert made.attempt == made.action.key.attempt
    assert ("--load-tag=global_step100" in arguments) is later
    assert ("--universal-checkpoint" in arguments) is not later


def test_a_sketch_of_a_short_leg_resumes_short_of_its_end() -> None:
    desired = quickstart(swapped(("tokens: 0.5M\n  source", "tokens: 0.1M\n  source")))
    stage = desired.catalog.stage("quickstart", "stage-4")
    made = sketch(desired, stage, stage.spec.strategies[0], 0, later=True)
    assert not isinstance(made, Unresolved)
    assert "--load-tag=global_step48" in launch_of(made.action)[1]


def test_a_sketch_of_what_cannot_be_resolved_says_why() -> None:
    desired = quickstart(swapped(CONVERGED, REWARMED, REWARMED_B))
    stage = desired.catalog.stage("quickstart", "stage-4")
    made = sketch(desired, stage, stage.spec.strategies[0], 0, later=False)
    assert isinstance(made, Unresolved)
    assert "no converged checkpoint" in made.message


def test_a_sketch_behind_what_cannot_be_resolved_says_why() -> None:
    wanting = swapped(
        ("  tokens: 2M\n  source: {stage: stage-1, checkpoint: pre-cooldown}",
         "  tokens: 2M\n  source: {stage: stage-1, checkpoint: converged}"),
        ("{D1: 1}\n          lr: {shape: constant}", "{D1: 1}\n          lr: {shape: constant, rewarm: true}"),
        ("{D0: 0.05, D1: 0.95}\n          lr: {shape: constant}",
         "{D0: 0.05, D1: 0.95}\n          lr: {shape: constant, rewarm: true}"),
    )  # fmt: skip
    desired = quickstart(wanting)
    stage = desired.catalog.stage("quickstart", "stage-3")
    assert isinstance(sketch(desired, stage, stage.spec.strategies[0], 0, later=False), Unresolved)


# --- jobs


def test_job_names_fit_and_say_which_job() -> None:
    world = World(quickstart(lambda text: text.replace("stage-1", "a-stage-of-a-long-name")))
    job = world.the_action().job
    assert job is not None
    assert job.name == "a-stage.train.0"
    assert len(job.name) <= 15


@pytest.mark.parametrize(
    ("machine", "walltime", "minutes"),
    [
        ("local", "1m", "0.833"),
        ("local", "11s", "0.050"),
        ("sunspot", "30m", "29"),
        ("sunspot", "1h", "59"),
        ("sunspot", "30s", "1"),
    ],
)
def test_time_to_exit_is_whole_minutes_but_on_this_machine(machine: str, walltime: str, minutes: str) -> None:
    desired = quickstart(
        swapped(("machine: local", f"machine: {machine}"), ("resources: {nodes: 1, walltime: 1m}",
                                                            f"resources: {{nodes: 1, walltime: {walltime}}}"))
    )  # fmt: skip
    action = World(desired).the_action()
    assert f"--exit-duration-in-mins={minutes}" in launch_of(action)[1]


def test_a_stage_s_queue_and_the_cluster_s_account_and_filesystems_reach_the_job() -> None:
    desired = quickstart(
        swapped(
            ("resources: {nodes: 1, walltime: 1m}", "resources: {nodes: 1, walltime: 1m, queue: debug}"),
            ("queue: workq, maxWalltime: 1h}", "queue: workq, account: AuroraGPT, maxWalltime: 1h}"),
            ("node: {ranks: 1}", "node: {ranks: 1}\n  filesystems: [flare, home]"),
        )
    )
    job = World(desired).the_action().job
    assert job is not None
    assert (job.queue, job.account, job.filesystems) == ("debug", "AuroraGPT", ("flare", "home"))


def test_the_header_names_commit_and_uncommitted_changes() -> None:
    clean, dirty = (replace(quickstart(), dirty=dirty) for dirty in (False, True))
    jobs = [World(desired).the_action().job for desired in (clean, dirty)]
    assert [job.header["commit"] for job in jobs if job] == ["c" * 40, "c" * 40 + " (with uncommitted changes)"]
    assert jobs[0] is not None
    assert jobs[0].header["what"] == "train of leg 0, job 1"
