"""What a stage will do if nothing fails: mixture, tokens, epochs, rates, node-hours; and what was spent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from reconciler.domain import cost
from reconciler.domain.resolve import Unresolved
from reconciler.model.observed import Job, JobState, ListSeen
from reconciler.model.plan import ActionKind, Span, StageForecast
from reconciler.model.status import Phase, Reason
from reconciler.planner.sketch import UNREAD_LIST, sketch
from reconciler.planner.spending import node_hours, nodes_of
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
    made = World(quickstart()).plan()
    one = made.forecasts[1]
    assert (one.node_hours, one.jobs, one.hours) == (None, None, None)
    assert (one.iterations, one.saves) == (977, 10)
    assert made.outlook is not None
    assert made.outlook.unknown == ("stage-1", "stage-2", "stage-3", "stage-4")
    assert (made.outlook.node_hours, made.outlook.over) == (Span(0, 0), False)


DECLARED = ("  poll: 0.5s", "  throughput: {tiny-gpt: 10000}\n  poll: 0.5s")
# Four validation sets of 64 samples of 128 tokens on one node, by start-ups of 5 s: forward only, or as long as a step.
EVALUATED = Span(20 + 4 * 64 * 128 / 20_000 / 3, 40 + 4 * 64 * 128 / 20_000)


def near(low: float, high: float) -> Span:
    return Span(pytest.approx(low), pytest.approx(high))  # type: ignore[arg-type]


def test_a_declared_speed_is_per_node() -> None:
    world = World(quickstart(swapped(DECLARED)))
    # 2M tokens at 20 000 a second: 100 s, in two jobs of 50 usable seconds, each with 10 s around it, on two nodes.
    two = forecast(world, "stage-2")
    convert = Span(5, 60)  # from one shard to two: its start-up at least, its walltime at most
    assert two.jobs == Span(2, 2)
    assert two.node_hours == near(
        (240 + EVALUATED.low + convert.low) / 3600, (240 + EVALUATED.high + convert.high) / 3600
    )
    assert two.hours == near((120 + EVALUATED.low + convert.low) / 3600, (120 + EVALUATED.high + convert.high) / 3600)
    assert two.rests_on["speed"] == "20k tokens a second, declared by the cluster"


def measured(world: World, seconds: float) -> None:
    action = world.until(TRAIN)
    world.trained(action, 300)
    world.leg(action, logs=(log_of(action, 300, 2.0, seconds_per_iteration=seconds),))


def test_what_is_trained_is_left_out() -> None:
    world = World(quickstart(swapped(DECLARED)))
    world.trained(world.until(TRAIN), 300)
    one = forecast(world, "stage-1")
    assert (one.iterations, one.saves) == (1654, 17)
    # 4M × 1654/1954 tokens at 10 000 a second, 50 s a job.
    assert one.jobs == Span(7, 7)


def test_nothing_is_left_of_a_stage_that_is_done() -> None:
    made = after(1, quickstart(swapped(DECLARED))).plan()
    one = made.forecasts[0]
    assert (one.iterations, one.jobs, one.node_hours, one.saves) == (0, Span(0, 0), Span(0, 0), 0)
    assert made.outlook is not None
    assert made.outlook.unknown == ()


def test_with_few_measurements_a_declared_speed_is_one_end_of_the_range() -> None:
    world = World(quickstart(swapped(DECLARED)))
    measured(world, 0.25)
    one = forecast(world, "stage-1")
    # What is left of 4M tokens at 8192 and at 10 000 a second, 50 s a job.
    assert one.jobs == Span(7, 9)
    assert one.rests_on["speed"].startswith(
        "8.19k to 10k tokens a second, measured by 1 job of this stage and declared"
    )


def test_enough_measurements_make_a_declared_speed_superfluous() -> None:
    world = World(quickstart(swapped(DECLARED)))
    action = world.until(TRAIN)
    world.trained(action, 300)
    logs = [log_of(action, 300, 2.0, seconds_per_iteration=seconds) for seconds in (0.25, 0.5, 0.25)]
    world.leg(action, logs=tuple(logs))
    assert forecast(world, "stage-1").jobs == Span(9, 17)
    # One rank a node: speed is not scaled by nodes that are not used as such.
    assert forecast(world, "stage-2").jobs == Span(5, 10)
    assert forecast(world, "stage-2").rests_on["speed"] == (
        "4.1k to 8.19k tokens a second, measured by 3 jobs of other stages"
    )


def test_a_speed_measured_on_other_nodes_is_scaled() -> None:
    two_ranks = (
        ("node: {ranks: 1}", "node: {ranks: 2}"),
        ("batch: {global: 16, micro: 4}", "batch: {global: 16, micro: 2}"),
    )
    world = World(quickstart(swapped(*two_ranks)))
    measured(world, 0.25)
    assert forecast(world, "stage-2").jobs == Span(3, 3)


def test_the_stage_s_own_measurement_counts_first() -> None:
    world = World(quickstart())
    measured(world, 0.25)
    world.trained(world.the_action(), 1954)
    world.finish_stage(SAME)
    measured(world, 0.5)
    assert forecast(world, "stage-2").jobs == Span(7, 7)  # of 677 iterations, half a second each
    assert forecast(world, "stage-3").jobs == Span(4, 8)


# --- by the clock


def queued(world: World, *waits_s: float) -> None:
    """Jobs of the campaign that ended long ago after having waited."""
    key = str(world.the_action().key)
    for number, wait_s in enumerate(waits_s):
        started = NOW_S - 10_000
        job = Job(f"9{number}.x", "n", JobState.FINISHED, "F", key, queued_s=started - wait_s, started_s=started)
        world.jobs.append(replace(job, ended_s=started))


def test_every_job_waits_as_jobs_have_waited() -> None:
    world = World(quickstart(swapped(DECLARED)))
    unwaited = forecast(world, "stage-2").hours
    assert forecast(world, "stage-2").rests_on["waits"] == "not known yet, and not counted"
    queued(world, 60, 600)
    waited = forecast(world, "stage-2")
    # Two segments, one conversion, one evaluation.
    assert unwaited is not None
    assert waited.hours == near(unwaited.low + 4 * 60 / 3600, unwaited.high + 4 * 600 / 3600)
    assert waited.rests_on["waits"] == "1m to 10m a job, as jobs of the campaign have waited"


def test_no_job_is_submitted_outside_the_windows() -> None:
    window = ("maxWalltime: 1h}", "maxWalltime: 1h, submitWindows: [{from: '00:00', to: '00:01'}]}")
    open_always = World(quickstart(swapped(DECLARED)))
    nightly = World(quickstart(swapped(DECLARED, window)))
    hours = forecast(nightly, "stage-1").hours
    assert hours is not None
    # Eight segments and an evaluation of nearly a minute: two may begin in one night, the first after less than a day.
    assert 4 * 24 < hours.low <= hours.high < 5 * 24
    assert forecast(nightly, "stage-1").node_hours == forecast(open_always, "stage-1").node_hours


def test_a_stage_of_very_many_jobs_is_forecast_as_fast() -> None:
    slow = ("  poll: 0.5s", "  throughput: {tiny-gpt: 1}\n  poll: 0.5s")
    window = ("maxWalltime: 1h}", "maxWalltime: 1h, submitWindows: [{from: '08:00', to: '20:00'}]}")
    one = forecast(
        World(quickstart(swapped(slow, window, ("tokens: 4M\n  source", "tokens: 4T\n  source")))), "stage-1"
    )
    assert one.jobs == Span(80_000_000_000, 80_000_000_000)
    assert one.hours is not None
    assert one.hours.low > 1e9


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e300])
def test_times_that_make_no_sense_are_not_forecast_from(seconds: float) -> None:
    world = World(quickstart(swapped(DECLARED)))
    plain = forecast(world, "stage-2")
    queued(world, seconds)
    action = world.until(TRAIN)
    world.trained(action, 300)
    world.leg(action, logs=(log_of(action, 300, 2.0, seconds_per_iteration=seconds),))
    made = forecast(world, "stage-2")
    assert (made.jobs, made.rests_on["speed"], made.rests_on["waits"]) == (
        plain.jobs,
        plain.rests_on["speed"],
        plain.rests_on["waits"],
    )


# --- storage


def test_checkpoints_are_counted_by_parameters_until_one_is_seen() -> None:
    world = World(quickstart(swapped(DECLARED)))
    size = cost.parameters(world.desired.model.architecture) * 14
    # On the interval of 100 and at 1954; at most one more for each of eight jobs that are cut.
    assert forecast(world, "stage-1").storage_bytes == Span(20 * size, 28 * size)
    world.trained(world.until(TRAIN), 300)
    assert forecast(world, "stage-1").storage_bytes == Span(17 * 10, (17 + 7) * 10)
    # The source's universal copy is one more.
    assert forecast(world, "stage-2").storage_bytes.low == 11 * 10


# --- the allocation

TIGHT = ("    nodeHours: 5\n", "    nodeHours: 0.25\n")


def test_a_stage_is_not_begun_when_the_campaign_cannot_be_finished() -> None:
    made = World(quickstart(swapped(DECLARED, TIGHT))).plan()
    assert made.outlook is not None
    assert made.outlook.over
    (refusal,) = made.refusals
    assert refusal.message.startswith(
        "stage-1 is not begun: 0 node-hours are spent and at least 0.303 are to come, 0.053"
    )
    assert "bounds.nodeHours" in refusal.message


def test_a_stage_that_has_begun_goes_on() -> None:
    world = World(quickstart(swapped(DECLARED, TIGHT)))
    world.trained(world.until(TRAIN), 300)
    made = world.plan()
    assert made.outlook is not None
    assert (made.outlook.over, made.refusals, len(made.actions)) == (True, (), 1)


def test_only_the_most_that_is_expected_over_the_allocation_is_no_refusal() -> None:
    between = ("    nodeHours: 5\n", "    nodeHours: 0.33\n")
    made = World(quickstart(swapped(DECLARED, between))).plan()
    assert made.outlook is not None
    assert (made.outlook.over, made.outlook.may_be_over, made.refusals) == (False, True, ())


def test_what_is_spent_counts() -> None:
    world = after(1, quickstart(swapped(DECLARED, ("    nodeHours: 5\n", "    nodeHours: 1\n"))))
    hour = replace(world.jobs[0], job_id="9.x", started_s=NOW_S - 3240, ended_s=NOW_S)
    assert world.plan().refusals == ()
    world.jobs.append(hour)
    assert world.plan().refusals[0].message.startswith("stage-2 is not begun: 0.9")


def test_the_same_from_manifests_alone() -> None:
    desired = quickstart(swapped(DECLARED, TIGHT))
    found = cost.declared(desired.catalog, desired.campaign)
    assert found is not None
    assert list(found.stages) == ["stage-1", "stage-2", "stage-3", "stage-4"]
    assert found.stages["stage-2"] == Fraction(240, 3600)
    assert (found.over, found.bound) == (True, Decimal("0.25"))
    undeclared = quickstart()
    assert cost.declared(undeclared.catalog, undeclared.campaign) is None


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
    for status in made.stages[2:]:  # told while there is time to mend it
        assert status.message.startswith("waits for stage-1, which is training; /r/data/D2.txt")


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


def test_evaluations_at_every_boundary_between_jobs_are_counted() -> None:
    def costs(every: str) -> list[object]:
        edit = ("    forgetting:                   #", f"    forgetting:\n      every: {every}  #")
        return [forecast.node_hours for forecast in World(quickstart(swapped(DECLARED, edit))).plan().forecasts]

    assert costs("0%") == costs("0.000001%") != costs("100%")
