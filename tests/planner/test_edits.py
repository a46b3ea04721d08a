"""Manifests that change under a campaign: what is trained is refused, what is to come is a change."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.model.observed import AttemptSeen, JobState, Stuck, Unread
from reconciler.model.plan import ActionKind, Change
from reconciler.model.recipe import read_recipe
from reconciler.model.status import Phase, Reason
from reconciler.planner import drift
from reconciler.planner.planner import plan
from tests.planner.world import FORGOT_D0, SAME, World, after, quickstart, swapped

TRAIN = ActionKind.TRAIN
REPLAY = ("{D0: 0.05, D1: 0.95}", "{D0: 0.06, D1: 0.94}")
NAIVE_2 = ("        - mixture: {D1: 1}\n", "        - mixture: {D0: 0.02, D1: 0.98}\n")
WARMUP = ("warmup: 10%", "warmup: 5%")


def edited(world: World, *pairs: tuple[str, str]) -> World:
    """The same cluster after an apply of the old manifests and an edit."""
    applied = drift.applied_text(world.desired)
    return replace(world, desired=quickstart(swapped(*pairs)), applied=applied)


# --- what is trained


def test_editing_a_done_stage_is_refused_with_the_legal_ways_on() -> None:
    world = edited(after(2), NAIVE_2)
    attempt = after(2).plan().stages[1].attempt
    made = world.plan()
    assert made.actions == ()
    status = made.stages[1]
    assert (status.phase, status.reason, status.attempt) == (Phase.HELD, Reason.TRAINED_IMMUTABLE, attempt)
    assert (status.strategy, status.tokens_done) == ("naive", 977 * 2048)
    (refusal,) = made.refusals
    assert refusal.message.startswith(f"stage-2: {status.message}\n")
    for words in (
        "naive was edited after 2M tokens had been trained",
        "weights.D1 1 → 0.98",
        "weights.D0 absent → 0.02",
        "revert the edit",
        "leave stage-2 and add one after it",
        "give the edited stage a new name",
        "2M tokens are set aside",
    ):
        assert words in refusal.message


def test_later_stages_of_a_refused_one_wait_and_say_what_they_were_trained_as() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    attempt = world.status("stage-2").attempt
    statuses = edited(world, WARMUP).plan().stages
    assert statuses[1].message == "waits for stage-1, which is held; its 2M trained tokens stay as they are"
    assert (statuses[1].attempt, statuses[1].tokens_done) == (attempt, 977 * 2048)
    assert (statuses[2].phase, statuses[2].message) == (Phase.WAITING, "waits for stage-1, which is held")


def test_a_stage_whose_source_has_become_another_attempt_is_not_said_to_be_edited() -> None:
    """Somebody has taken back the verdict by which the stage before went down its ladder."""
    world, passed = after(1), after(2)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(SAME)
    world.finish_stage(SAME)
    (naive,) = [key for key in passed.attempts if key[0] == "stage-2"]
    world.attempts[naive] = replace(world.attempts[naive], verdicts=passed.attempts[naive].verdicts)
    (refusal,) = world.plan().refusals
    told = "naive starts from another attempt of stage-2 now, after 1.5M tokens had been trained"
    assert refusal.message.startswith(f"stage-3: {told}\n")


def test_editing_the_first_stage_refuses_and_names_its_tokens() -> None:
    made = edited(after(2), WARMUP).plan()
    assert "edited after 4M tokens" in made.refusals[0].message
    assert made.actions == ()
    assert [status.phase for status in made.stages] == [Phase.HELD, Phase.WAITING, Phase.WAITING, Phase.WAITING]


def test_editing_a_stage_that_is_half_trained_is_refused() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 300)
    made = edited(world, NAIVE_2).plan()
    assert made.actions == ()
    assert "edited after 614k tokens" in made.refusals[0].message


def test_editing_a_stage_of_which_nothing_is_saved_is_free() -> None:
    world = after(1)
    made = edited(world, NAIVE_2).plan()
    assert (made.refusals, len(made.actions)) == ((), 1)


def test_editing_the_rung_that_runs_after_a_failed_one_is_refused() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.trained(world.until(TRAIN), 300)
    made = edited(world, REPLAY).plan()
    assert "replay-5 was edited after 614k tokens" in made.refusals[0].message
    assert "weights.D0 0.05 → 0.06" in made.refusals[0].message


def test_editing_a_rung_that_failed_is_free() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    made = edited(world, NAIVE_2).plan()
    assert made.refusals == ()
    assert made.stages[1].rungs[0].strategy == "naive"


def test_a_recipe_that_cannot_be_read_back_is_refused_too() -> None:
    world = after(2)
    (key,) = [key for key in world.attempts if key[0] == "stage-2"]
    world.attempts[key] = replace(world.attempts[key], recipe="{}")
    made = edited(world, NAIVE_2).plan()
    assert made.actions == ()
    assert "2M tokens were trained by a recipe that cannot be read back" in made.refusals[0].message
    assert made.forecasts[0].stage == "stage-1"
    assert len(made.forecasts) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"stage": "stage-2"', '"stage": "stage-9"', id="a stage that is not there"),
        pytest.param('"D1": "1"', '"D9": "1"', id="a dataset that is not there"),
        pytest.param('"D1": "1"', '"D1": "1/0"', id="a share that is no number"),
        pytest.param('"tokens": 2000000', '"tokens": 0', id="no tokens"),
        pytest.param('"iterations": 977', '"iterations": -1', id="iterations below none"),
    ],
)
def test_a_recipe_file_that_lies_is_refused_and_harms_nothing(old: str, new: str) -> None:
    world = after(2)
    (key,) = [key for key in world.attempts if key[0] == "stage-2"]
    text = world.attempts[key].recipe
    assert text is not None
    assert old in text
    world.attempts[key] = replace(world.attempts[key], recipe=text.replace(old, new))
    made = edited(world, NAIVE_2).plan()
    assert made.actions == ()
    assert made.stages[1].reason is Reason.TRAINED_IMMUTABLE


def test_a_trained_attempt_that_could_not_be_read_is_not_taken_for_absent() -> None:
    world = after(2)
    (key,) = [key for key in world.attempts if key[0] == "stage-2"]
    world.attempts[key] = AttemptSeen(*key, None, unread="permission denied")
    made = edited(world, NAIVE_2).plan()
    assert made.actions == ()
    assert made.stages[1].phase is not Phase.TRAINING


def test_a_stage_that_was_trained_and_cleaned_up_is_still_immutable() -> None:
    world = after(2)
    (key,) = [key for key in world.attempts if key[0] == "stage-2"]
    world.attempts[key] = replace(world.attempts[key], legs=())
    assert edited(world, NAIVE_2).plan().actions == ()


def test_an_edit_beside_a_live_job_of_the_old_recipe_starts_no_second_one() -> None:
    world = after(1)
    world.submit(world.until(TRAIN))
    assert edited(world, NAIVE_2).plan().actions == ()


def test_a_job_of_the_old_recipe_that_pbs_will_never_start_is_held_with_the_way_on() -> None:
    """Waiting for it would never end: found by the simulator."""
    world = after(1)
    job_id = world.submit(world.until(TRAIN))
    stuck = {"state": JobState.HELD, "stuck": Stuck.FAILED_STARTS, "comment": "job held, too many failed attempts"}
    world.jobs = [replace(job, **stuck) if job.job_id == job_id else job for job in world.jobs]  # type: ignore[arg-type]
    status = edited(world, NAIVE_2).plan().stages[1]
    assert (status.phase, status.reason) == (Phase.HELD, Reason.JOB_CANNOT_START)
    assert status.message.endswith(f"job held, too many failed attempts. Delete it: qdel {job_id}")


def test_many_differences_are_counted() -> None:
    made = edited(
        after(1),
        ("layers: 2, hidden: 64, heads: 4, kvHeads: 4", "layers: 3, hidden: 96, heads: 6, kvHeads: 6"),
        ("beta1: 0.9, beta2: 0.95, eps: 1e-5", "beta1: 0.8, beta2: 0.9, eps: 1e-6"),
        ("tokens: 4M\n  source", "tokens: 5M\n  source"),
    ).plan()
    assert " and 3 more\n" in made.refusals[0].message


# --- what is to come


def test_a_first_plan_has_nothing_to_compare_with() -> None:
    assert World(quickstart()).plan().changes == ()


@pytest.mark.parametrize("applied", ["", "{", "[]", "null", '{"wants": 3}', '{"wants": {"a": 3}}', "[" * 100_000])
def test_a_damaged_record_costs_only_the_comparison(applied: str) -> None:
    world = World(quickstart(), applied=applied)
    assert (world.plan().changes, len(world.plan().actions)) == ((), 1)


def test_an_unread_record_costs_only_the_comparison() -> None:
    world = World(quickstart())
    made = plan(world.desired, replace(world.look(), applied=Unread("timed out")))
    assert (made.changes, len(made.actions)) == ((), 1)


def test_nothing_changed_is_no_change() -> None:
    assert edited(after(1)).plan().changes == ()


PATH = "strategy replay-30.legs.0.mixture"


@pytest.mark.parametrize(
    ("pair", "changes"),
    [
        pytest.param(
            ("{stage-2: 0.30, D2: 0.70}", "{stage-2: 0.25, D2: 0.75}"),
            [("stage-3", f"{PATH}.stage-2", "0.30", "0.25"), ("stage-3", f"{PATH}.D2", "0.70", "0.75")],
            id="weights",
        ),
        pytest.param(("tokens: 1.5M\n  source", "tokens: 1.6M\n  source"),
                     [("stage-3", "tokens", "1500000", "1600000")], id="tokens"),
        pytest.param(
            ("{stage-2: 0.30, D2: 0.70}", "{D2: 1}"),
            [("stage-3", f"{PATH}.D2", "0.70", "1"), ("stage-3", f"{PATH}.stage-2", "0.30", "absent")],
            id="a source taken out",
        ),
        pytest.param(("nodeHours: 5\n", "nodeHours: 6\n"),
                     [("(campaign)", "campaign.bounds.nodeHours", "5", "6")], id="the campaign's"),
        pytest.param(("checkpointEvery: 100", "checkpointEvery: 50"),
                     [("(campaign)", "model.checkpointEvery", "100", "50")], id="the model's"),
        pytest.param(("poll: 0.5s", "poll: 1s"),
                     [("(campaign)", "cluster.poll", "1/2", "1")], id="the cluster's"),
        pytest.param(("tokens: 0.5M\n  tokenizer", "tokens: 0.6M\n  tokenizer"),
                     [("(campaign)", "datasets.D3.tokens", "500000", "600000")], id="a dataset's"),
    ],
)  # fmt: skip
def test_editing_what_is_to_come_is_a_change_and_no_refusal(
    pair: tuple[str, str], changes: list[tuple[str, str, str, str]]
) -> None:
    made = edited(after(1), pair).plan()
    # What holds for all stages has held for the first.
    assert list(made.changes) == [Change(*change, started=change[0] == "(campaign)") for change in changes]
    assert (made.refusals, len(made.actions)) == ((), 1)


def test_a_change_says_whether_its_stage_has_begun() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 300)
    made = edited(world, REPLAY, ("{D0: 0.33, D2: 0.33, buffer: 0.34}", "{D0: 0.32, D2: 0.34, buffer: 0.34}")).plan()
    started = {(change.stage, change.started) for change in made.changes}
    assert started == {("stage-2", True), ("stage-3", False)}
    assert made.refusals == ()


def test_a_rung_put_on_top_is_told_in_one_line() -> None:
    top = (
        "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n",
        "    - name: new\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: cosine}\n"
        "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n",
    )
    assert edited(after(0), top).plan().changes == (
        Change("stage-2", "ladder", "naive > replay-5", "new > naive > replay-5", False),
        Change("stage-2", "strategy new", "absent", "new", False),
    )


def test_a_rung_taken_away_is_told_in_one_line() -> None:
    replay = quickstart().stages[1].spec.strategies[1].name
    applied = json.loads(drift.applied_text(after(0).desired))
    applied["wants"]["stage-2"] |= {"ladder": f"naive > {replay} > old", "strategy old.legs.0.lr.shape": "cosine"}
    assert replace(World(quickstart()), applied=json.dumps(applied)).plan().changes == (
        Change("stage-2", "ladder", f"naive > {replay} > old", f"naive > {replay}", False),
        Change("stage-2", "strategy old", "present", "removed", False),
    )


def test_a_rung_that_is_only_renamed_is_told_as_renamed() -> None:
    renamed = (
        "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n",
        "    - name: plain\n      legs:\n        - mixture: {D1: 1}\n",
    )
    assert edited(after(0), renamed).plan().changes == (
        Change("stage-2", "ladder", "naive > replay-5", "plain > replay-5", False),
        Change("stage-2", "strategy renamed", "naive", "plain", False),
    )


def test_stages_that_came_and_went() -> None:
    world = World(quickstart())
    applied = json.loads(drift.applied_text(world.desired))
    del applied["wants"]["stage-3"]
    applied["wants"]["old"] = {"tokens": "1"}
    made = replace(world, applied=json.dumps(applied)).plan()
    assert [(c.stage, c.before, c.after) for c in made.changes] == [
        ("stage-3", "absent", "new"),
        ("old", "present", "removed"),
    ]


def test_the_applied_record_holds_revision_and_flat_wants() -> None:
    desired = replace(quickstart(), dirty=True)
    record = json.loads(drift.applied_text(desired))
    assert (record["revision"], record["dirty"]) == ("c" * 40, True)
    assert list(record["wants"]) == sorted(["(campaign)", "stage-1", "stage-2", "stage-3", "stage-4"])
    assert record["wants"]["stage-2"]["strategy replay-5.legs.0.mixture.D0"] == "0.05"
    assert drift.applied_text(desired) == drift.applied_text(replace(quickstart(), dirty=True))


# --- labels


def test_renaming_a_strategy_changes_nothing_that_is_trained() -> None:
    before = after(3)
    renamed = before.wanting(quickstart(swapped(("    - name: pretrain", "    - name: from-scratch"))))
    assert renamed.plan().actions == before.plan().actions
    assert [s.attempt for s in renamed.plan().stages] == [s.attempt for s in before.plan().stages]
    assert renamed.plan().digest != before.plan().digest, "and yet it is another manifest than was reviewed"


def test_an_edit_of_what_is_to_come_is_not_applied_along_with_a_plan_that_was_reviewed_before() -> None:
    before = after(1)
    later = before.wanting(
        quickstart(swapped(("{D0: 0.33, D3: 0.33, buffer: 0.34}", "{D0: 0.34, D3: 0.33, buffer: 0.33}")))
    )
    assert later.plan().actions == before.plan().actions
    changed = {name for name, fact in later.plan().facts.items() if before.plan().facts[name] != fact}
    assert (changed, later.plan().digest == before.plan().digest) == ({"stage-4 as wanted"}, False)


def test_moving_a_list_or_a_checkout_starts_nothing_over() -> None:
    world = after(2).wanting(quickstart(swapped(("{path: data/D0.txt}", "{path: moved/D0.txt}"))))
    assert world.the_action().key.stage == "stage-3"


def test_recipe_changes_name_what_a_person_wrote() -> None:
    recipes = [read_recipe(str(attempt.recipe)) for attempt in after(2).attempts.values()]
    first, second = recipes
    assert first is not None
    assert second is not None
    paths = [path for path, _, _ in drift.recipe_changes(first, second)]
    assert {"weights.D0", "weights.D1", "tokens"} <= set(paths)
    assert not {"campaign", "stage", "strategy", "version", "iterations", "position", "accumulation"} & set(paths)
    assert drift.recipe_changes(first, first) == []


def test_a_done_campaign_with_unchanged_manifests_changes_nothing() -> None:
    made = edited(after(4, losses=SAME)).plan()
    assert (made.actions, made.changes, made.refusals, made.done) == ((), (), (), True)


def test_a_stage_trains_one_rung_at_a_time_whatever_ladder_another_commit_has() -> None:
    """Two people apply commits that differ in the order of the rungs: found by the simulator."""
    naive, replay = (
        "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n",
        "    - name: replay-5\n      legs:\n        - mixture: {D0: 0.05, D1: 0.95}\n          lr: {shape: constant}\n",
    )
    ours = after(1)
    theirs = ours.wanting(quickstart(swapped((naive + replay, replay + naive))))
    for action in (ours.the_action(), theirs.the_action()):  # both looked before either acted
        ours.converted(action, 1)
    job_id = theirs.submit(theirs.the_action())
    status = ours.status("stage-2")
    assert (theirs.status("stage-2").strategy, status.strategy) == ("naive", "replay-5")
    assert (ours.plan().actions, status.reason) == ((), Reason.JOB_LIVE)
    assert status.message.startswith(f"job {job_id} of attempt")
    assert "another rung of the stage" in status.message
