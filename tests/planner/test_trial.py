"""A rung in several variants: pilots from one source, compared at their ends, one of them with the stage's budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from reconciler.domain.trial import pilot, rung_of, variants
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import AttemptSeen, EvaluationSeen
from reconciler.model.plan import Action, ActionKind
from reconciler.model.recipe import read_recipe
from reconciler.model.status import Phase, PilotStatus, Reason, TrialStatus
from reconciler.planner.checks import judge
from tests.planner.world import FORGOT_D0, SAME, World, after, iterations_of, launch_of, quickstart, swapped

TRAIN, EVALUATE, JUDGE = ActionKind.TRAIN, ActionKind.EVALUATE, ActionKind.JUDGE

NAIVE = "    - name: naive\n      legs:\n        - mixture: {D2: 1}\n          lr: {shape: constant}\n"
LEAN, EVEN, RICH = "mixes.lean", "mixes.even", "mixes.rich"
MIXES = {"lean": "{D0: 0.05, D2: 0.95}", "even": "{D0: 0.5, D2: 0.5}"}
GOOD = {"val-D0": 2.0, "val-D1": 2.5, "val-D2": 2.4, "val-D3": 3.5}
BETTER = GOOD | {"val-D2": 2.2}


def trial(mixes: Mapping[str, str] = MIXES, tokens: str = "200k", **fields: str) -> tuple[str, str]:
    """An edit: the first rung of stage 3 becomes a trial of these mixtures."""
    matrix = "".join(f"            {name}: {mixture}\n" for name, mixture in mixes.items())
    more = "".join(f"        {name}: {value}\n" for name, value in fields.items())
    return NAIVE, (
        f"{NAIVE.replace('naive', 'mixes')}      trial:\n        tokens: {tokens}\n        matrix:\n"
        f"          mixture:\n{matrix}        compare: [val-D0, val-D2]\n{more}"
    )


def world_of(*edits: tuple[str, str]) -> World:
    """Two stages done, and a trial in stage 3."""
    done, desired = two_done(), quickstart(swapped(*(edits or (trial(),))))
    return replace(done, desired=desired, jobs=[*done.jobs], receipts=[*done.receipts], attempts=dict(done.attempts))


@cache
def two_done() -> World:
    """What comes before the trial, and hangs on nothing that is edited here."""
    return after(2)


def told(world: World) -> TrialStatus:
    found = world.status("stage-3").trial
    assert found is not None
    return found


def pilots(world: World) -> dict[str, PilotStatus]:
    return {one.variant: one for one in told(world).pilots}


def run(world: World, losses: Mapping[str, float]) -> list[Action]:
    """Carry out the one next action until an attempt is judged."""
    done: list[Action] = []
    while not done or done[-1].key.kind is not JUDGE:
        done.append(world.the_action())
        world.carry_out(losses)
    return done


def tried(*edits: tuple[str, str], lean: Mapping[str, float] = GOOD, even: Mapping[str, float] = BETTER) -> World:
    """Both pilots judged, with these losses at their ends."""
    world = world_of(*edits)
    run(world, lean)
    run(world, even)
    return world


# --- the pilots


def test_pilots_run_one_after_the_other_from_the_stage_s_source_with_the_pilot_budget() -> None:
    world = world_of()
    before = world.plan()
    source = f"/w/quickstart/stage-2/{before.stages[1].attempt}/leg-0"
    first = run(world, GOOD)
    second = run(world, GOOD)
    trains = [next(a for a in done if a.key.kind is TRAIN) for done in (first, second)]
    assert trains[0].key.attempt != trains[1].key.attempt
    assert [launch_of(train)[0]["LOAD"] for train in trains] == [source, source]
    assert [iterations_of(train) for train in trains] == [98, 98], "200k tokens at 2048 a step"
    assert [action.key.kind for action in second] == [TRAIN, EVALUATE, JUDGE]
    recipes = [read_recipe(str(world.seen(train).recipe)) for train in trains]
    assert [(r.strategy, r.tokens, r.pilot) for r in recipes if r] == [(LEAN, 200_000, True), (EVEN, 200_000, True)]


def test_pilots_are_queued_together_as_far_as_the_manifest_allows() -> None:
    rich = {**MIXES, "rich": "{D0: 0.7, D2: 0.3}"}
    world = world_of(trial(rich, atOnce="2"))
    both = world.plan().actions
    assert [action.key.kind for action in both] == [TRAIN, TRAIN]
    assert len({action.key.attempt for action in both}) == 2
    for action in both:
        world.submit(action)
    status = world.status("stage-3")
    assert (world.plan().actions, status.phase, status.reason) == ((), Phase.TRAINING, Reason.JOB_LIVE)
    assert (LEAN in status.message, EVEN in status.message, RICH in status.message) == (True, True, False)


def test_the_plan_with_several_jobs_is_sound() -> None:
    world = world_of(trial(atOnce="2"))
    assert len(world.plan().actions) == 2
    assert judge(world.plan(), world.look()) == ()


def test_the_losses_of_the_source_are_measured_by_one_pilot_for_all() -> None:
    world = world_of(trial(atOnce="2"))
    done = ("stage-2", world.plan().stages[1].attempt)
    world.attempts[done] = replace(world.attempts[done], evaluations=())
    (measures,) = world.plan().actions
    assert (measures.key.kind, measures.reason) == (EVALUATE, Reason.BASELINE_NEEDED)
    job_id = world.submit(measures)
    assert (world.plan().actions, world.status("stage-3").reason) == ((), Reason.JOB_LIVE)
    world.end(job_id)
    found = EvaluationSeen(0, 0, world.results(SAME))
    world.rewrite(measures, evaluations=(found,))
    assert [action.key.kind for action in world.plan().actions] == [TRAIN, TRAIN]


def test_a_pilot_that_holds_keeps_its_place_and_the_stage_asks_for_a_person() -> None:
    world = world_of()
    for _ in range(2):
        world.end(world.submit(world.the_action()))
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.NO_PROGRESS, ())
    assert f"{LEAN}: 2 jobs in a row saved nothing" in status.message


def test_beside_a_pilot_that_holds_another_goes_on() -> None:
    world = world_of(trial(atOnce="2"))
    for _ in range(2):
        held = next(action for action in world.plan().actions if action.key.attempt == pilots(world)[LEAN].attempt)
        world.end(world.submit(held))
    (other,) = world.plan().actions
    assert other.key.attempt == pilots(world)[EVEN].attempt
    assert world.status("stage-3").phase is Phase.TRAINING
    assert f"{LEAN}: 2 jobs in a row saved nothing" in world.status("stage-3").message


def test_a_trial_in_work_counts_nothing_towards_the_stage() -> None:
    world = world_of()
    run(world, GOOD)
    status = world.status("stage-3")
    assert (status.tokens_done, status.tokens_budget) == (0, 1_500_000)
    assert [(rung.strategy, rung.outcome) for rung in status.rungs] == [("mixes", "running")]
    assert "1 of 2 pilots judged" in status.message
    lean = pilots(world)[LEAN]
    assert (lean.outcome, lean.tokens, lean.losses, lean.mean) == (
        "passed",
        200_000,
        {"val-D0": 2.0, "val-D2": 2.4},
        2.2,
    )
    assert (pilots(world)[EVEN].outcome, pilots(world)[EVEN].mean) == ("untried", None)


def test_what_the_end_of_the_stage_must_reach_is_not_asked_of_a_pilot() -> None:
    target = (
        "  shift: strong\n  tokens: 1.5M\n",
        "  shift: strong\n  gates: {target: {val-D2: 1.0}}\n  tokens: 1.5M\n",
    )
    world = tried(trial(), target)
    assert [one.outcome for one in told(world).pilots] == ["passed", "passed"]
    run(world, GOOD)
    assert "val-D2" in world.status("stage-3").rungs[0].message
    assert world.status("stage-3").rungs[0].outcome == "failed"


# --- the choice


def test_the_lowest_mean_loss_gets_the_stage_s_budget_from_the_source_again() -> None:
    world = tried()
    assert (told(world).chosen, told(world).by) == (EVEN, "lowest-loss")
    assert told(world).message == (
        "lowest mean loss of val-D0, val-D2 at the pilots' ends, each after 200k tokens of the same curve: "
        "mixes.even 2.1000, mixes.lean 2.2000"
    )
    action = world.the_action()
    assert action.key.attempt not in {one.attempt for one in told(world).pilots}
    assert (action.key.kind, iterations_of(action)) == (TRAIN, 733)
    assert "--reset-iteration" in launch_of(action)[1]
    run(world, SAME)
    status = world.status("stage-3")
    assert (status.phase, status.strategy, status.tokens_done) == (Phase.DONE, EVEN, 1_500_000)
    assert [(rung.strategy, rung.outcome) for rung in status.rungs] == [("mixes", "passed")]
    assert world.the_action().key.stage == "stage-4"


def test_of_equal_pilots_the_first_is_taken() -> None:
    assert told(tried(lean=GOOD, even=GOOD)).chosen == LEAN


def test_a_pilot_without_a_finite_loss_is_never_the_lowest() -> None:
    assert told(tried(lean=GOOD | {"val-D2": float("nan")})).chosen == EVEN


def test_a_gate_that_fails_takes_a_pilot_out_of_the_choice() -> None:
    world = tried(even=BETTER | {"val-D0": 2.31, "val-D2": 0.5})
    assert [one.outcome for one in told(world).pilots] == ["passed", "failed"]
    assert told(world).chosen == LEAN


def test_no_pilot_that_passes_fails_the_rung_and_the_ladder_goes_on() -> None:
    world = tried(lean=FORGOT_D0, even=FORGOT_D0)
    rung = world.status("stage-3").rungs[0]
    assert (rung.strategy, rung.outcome) == ("mixes", "failed")
    assert rung.message.startswith("no pilot passed its gates: mixes.lean: val-D0 +0.310")
    assert world.status("stage-3").strategy == "replay-30"
    assert iterations_of(world.the_action()) == 733


def test_the_chosen_variant_that_fails_fails_the_rung_and_no_other_is_tried() -> None:
    world = tried()
    run(world, FORGOT_D0)
    assert [(r.strategy, r.outcome) for r in world.status("stage-3").rungs] == [
        ("mixes", "failed"),
        ("replay-30", "untried"),
    ]


def test_a_person_is_asked_with_the_numbers_and_what_to_write() -> None:
    world = tried(trial(choose="person"))
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.TRIAL_AWAITS_CHOICE, ())
    assert "mixes.even 2.1000, mixes.lean 2.2000" in status.message
    assert "write `chosen: NAME` in the trial of mixes" in status.message


def test_what_a_person_chose_is_trained_whatever_was_lower() -> None:
    world = tried(trial(choose="person")).wanting(quickstart(swapped(trial(choose="person", chosen=LEAN))))
    assert (told(world).chosen, told(world).by) == (LEAN, "manifest")
    run(world, SAME)
    assert (world.status("stage-3").phase, world.status("stage-3").strategy) == (Phase.DONE, LEAN)


def test_a_choice_in_the_manifest_needs_no_pilots() -> None:
    world = world_of(trial(chosen=EVEN))
    assert iterations_of(world.the_action()) == 733
    assert judge(world.plan(), world.look()) == ()


def test_losses_that_are_gone_before_the_choice_ask_for_a_person() -> None:
    world = tried()
    lean = pilots(world)[LEAN].attempt
    world.attempts["stage-3", lean] = replace(world.attempts["stage-3", lean], evaluations=())
    status = world.status("stage-3")
    assert (status.reason, world.plan().actions) == (Reason.TRIAL_AWAITS_CHOICE, ())
    assert f"losses of {LEAN} on the validation sets as they are now are not there" in status.message


# --- edits


def begun(*edits: tuple[str, str]) -> World:
    """The chosen variant (the even mix) is half trained."""
    world = tried(*edits)
    world.trained(world.the_action(), 300)
    return world


def rewritten(world: World, *edits: tuple[str, str]) -> World:
    return world.wanting(quickstart(swapped(*edits)))


RICHER = {**MIXES, "rich": "{D0: 0.7, D2: 0.3}"}


def test_a_variant_that_is_added_is_the_only_one_that_runs() -> None:
    world = rewritten(tried(), trial(RICHER))
    assert [one.outcome for one in told(world).pilots] == ["passed", "passed", "untried"]
    assert world.the_action().key.attempt == pilots(world)[RICH].attempt
    assert world.plan().refusals == ()


@pytest.mark.parametrize("left", ["lean", "even"])
def test_a_variant_that_is_taken_out_discards_nothing(left: str) -> None:
    world = rewritten(tried(), trial({left: MIXES[left]}))
    assert (world.plan().refusals, told(world).chosen) == ((), f"mixes.{left}")


def test_variants_of_other_names_with_the_same_content_are_the_same_attempts() -> None:
    world = rewritten(tried(), trial({"a": MIXES["lean"], "b": MIXES["even"]}))
    assert told(world).chosen == "mixes.b"
    assert [one.outcome for one in told(world).pilots] == ["passed", "passed"]


def test_dropping_the_trial_after_its_pilots_is_no_edit_of_what_is_trained() -> None:
    world = rewritten(tried(), (NAIVE, NAIVE.replace("naive", "mixes")))
    assert world.plan().refusals == ()
    assert iterations_of(world.the_action()) == 733


def test_a_trial_put_in_place_of_what_is_trained_is_refused() -> None:
    world = after(2)
    world.trained(world.until(TRAIN), 300)
    edited = rewritten(world, trial())
    assert edited.status("stage-3").reason is Reason.TRAINED_IMMUTABLE
    assert edited.plan().actions == ()


def test_the_choice_is_not_made_again_once_it_is_in_work() -> None:
    world = rewritten(begun(), trial(RICHER))
    assert (told(world).chosen, told(world).by) == (EVEN, "begun")
    assert world.the_action().key.ended == 1


def test_pilots_that_are_cleaned_up_after_the_choice_are_not_trained_again() -> None:
    world = begun()
    gone = {("stage-3", one.attempt) for one in told(world).pilots}
    world.attempts = {key: seen for key, seen in world.attempts.items() if key not in gone}
    world.receipts = [r for r in world.receipts if not any(f"/{attempt}/" in r.key for _, attempt in gone)]
    assert told(world).chosen == EVEN
    assert world.the_action().key.ended == 1
    assert judge(world.plan(), world.look()) == ()


def test_another_choice_after_the_first_is_trained_is_refused_with_the_way_back() -> None:
    world = rewritten(begun(), trial(chosen=LEAN))
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.TRAINED_IMMUTABLE, ())
    (refusal,) = world.plan().refusals
    assert "mixes.lean is chosen after mixes.even had been chosen and 614k tokens of it trained" in refusal.message
    assert "write `chosen: mixes.even` again" in refusal.message


def test_another_choice_after_the_first_has_failed_is_tried() -> None:
    world = tried()
    run(world, FORGOT_D0)
    again = rewritten(world, trial(chosen=LEAN))
    assert (told(again).chosen, iterations_of(again.the_action())) == (LEAN, 733)


def test_a_trial_above_a_rung_that_runs_is_skipped() -> None:
    world = after(2)
    world.trained(world.until(TRAIN), 300)
    old, new = trial()
    edited = rewritten(world, (old, new + old))
    assert [(r.strategy, r.outcome) for r in edited.status("stage-3").rungs] == [
        ("mixes", "skipped"),
        ("naive", "running"),
    ]


def unread(world: World, attempt: str) -> AttemptSeen:
    """An attempt of stage 3, of whose folder something could not be read."""
    return replace(world.attempts["stage-3", attempt], unread="permission denied", evaluations=(), verdicts={}, legs=())


@pytest.mark.parametrize("kept", [{}, {"verdicts": None}], ids=["nothing", "its verdict"])
def test_an_attempt_that_cannot_be_read_keeps_the_choice_open(kept: dict[str, Any]) -> None:
    world = tried()
    lean = pilots(world)[LEAN].attempt
    kept = {part: getattr(world.attempts["stage-3", lean], part) for part in kept}
    world.attempts["stage-3", lean] = replace(unread(world, lean), **kept)
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.WAITING, Reason.WORKSPACE_UNREAD, ())


# --- cost and bounds


def test_a_trial_is_forecast_before_it_starts() -> None:
    forecasts = {f.stage: f.trial for f in World(quickstart(swapped(trial()))).plan().forecasts}
    found = forecasts["stage-3"]
    assert found is not None
    assert (found.variants, found.tokens) == ((LEAN, EVEN), 400_000)
    assert forecasts["stage-2"] is None
    assert {f.stage: f.trial for f in tried().plan().forecasts}["stage-3"] is None, "it is decided"


BOUND = "  bounds:\n    attemptsPerStage: 3\n"


def bounded(tokens: str) -> tuple[str, str]:
    return BOUND, f"{BOUND}    tokens: {tokens}\n"


def test_the_campaign_s_tokens_count_pilots_and_hold_before_they_are_exceeded() -> None:
    # 4M + 2M are trained, 0.4M of pilots follow, and then 1.5M.
    world = tried(trial(), bounded("7.8M"))
    status = world.status("stage-3")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.TOKENS_EXHAUSTED, ())
    assert status.message == (
        "6.4M tokens are trained in the campaign, discarded attempts and pilots included; mixes.even has 1.5M to go, "
        "which exceeds the campaign's bounds.tokens of 7.8M"
    )
    assert tried(trial(), bounded("7.9M")).the_action().key.kind is TRAIN


def test_pilots_on_their_way_count_as_trained() -> None:
    edits = trial(atOnce="2"), bounded("6.3M")
    world = world_of(*edits)
    (only,) = world.plan().actions
    assert "200k more are on their way" in world.status("stage-3").message, "the one that this plan submits"
    world.submit(only)
    assert world.plan().actions == ()
    assert "200k more are on their way" in world.status("stage-3").message


def test_the_bound_on_tokens_stops_no_evaluation_and_counts_failed_attempts() -> None:
    world = after(1, quickstart(swapped(bounded("7M"))))
    world.finish_stage(FORGOT_D0)
    status = world.status("stage-2")
    assert (status.phase, status.reason) == (Phase.HELD, Reason.TOKENS_EXHAUSTED)
    assert status.message.startswith("6M tokens are trained")


# --- what no plan may do


def test_the_judge_finds_a_pilot_over_its_budget() -> None:
    world = world_of()
    made = world.plan()
    (action,) = made.actions
    status = next(s for s in made.stages if s.stage == "stage-3")
    assert status.trial is not None
    short = replace(status, trial=replace(status.trial, tokens=100_000))
    stages = tuple(short if s.stage == "stage-3" else s for s in made.stages)
    assert judge(replace(made, stages=stages), world.look()) == (
        f"{action.key} trains 98 iterations of 2048 tokens in a pilot of 100000",
    )
    assert judge(made, world.look()) == ()


def test_the_judge_finds_a_whole_attempt_before_the_pilots_are_judged() -> None:
    world = tried()
    made = world.plan()
    (action,) = made.actions
    assert judge(made, world.look()) == ()
    lean = pilots(world)[LEAN].attempt
    world.attempts["stage-3", lean] = replace(world.attempts["stage-3", lean], verdicts={})
    assert judge(made, world.look()) == (f"{action.key} trains the stage before pilot {lean} is judged",)


# --- names


def stage_3(*edits: tuple[str, str]) -> StageManifest:
    return quickstart(swapped(*edits)).stages[2]


def test_a_variant_s_name_leads_to_its_rung() -> None:
    stage = stage_3(trial())
    names = {name: rung_of(stage, name) for name in ("mixes", LEAN, "replay-30", "mixes.gone")}
    assert {name: rung.name if rung else None for name, rung in names.items()} == {
        "mixes": "mixes",
        LEAN: "mixes",
        "replay-30": "replay-30",
        "mixes.gone": None,
    }


def test_a_pilot_is_the_variant_with_fewer_tokens() -> None:
    stage = stage_3(trial())
    (lean, _) = variants(stage.spec.strategies[0])
    short = pilot(stage, lean, 200_000)
    assert (short.spec.tokens, [s.name for s in short.spec.strategies]) == (200_000, [LEAN])
    assert short.spec.model_copy(update={"tokens": 0, "strategies": ()}) == stage.spec.model_copy(
        update={"tokens": 0, "strategies": ()}
    )


# --- trials of what the cookbook says to try

STRATEGY_4 = (
    NAIVE,
    "    - name: decay\n      legs:\n        - mixture: {D0: 1}\n"
    "          lr: {shape: cosine, to: lrMax/10, until: lrMax/5}\n"
    "        - mixture: {D0: 0.7, D2: 0.3}\n          lr: {shape: continue}\n"
    "      trial:\n        tokens: 300k\n        matrix: {divisor: [10, 50, 100]}\n        compare: [val-D0, val-D2]\n",
)


def test_strategy_4_is_tried_with_several_n_on_curves_that_are_the_stage_s_but_shorter() -> None:
    world = world_of(STRATEGY_4)
    assert [one.variant for one in told(world).pilots] == ["decay.n10", "decay.n50", "decay.n100"]
    world.until(TRAIN)
    made = world.the_action().trains
    assert made is not None
    short = made.recipe.legs
    whole = after(2, quickstart(swapped((NAIVE, STRATEGY_4[1].split("      trial:")[0]))))
    whole.until(TRAIN)
    trains = whole.the_action().trains
    assert trains is not None
    long = trains.recipe.legs
    assert [leg.curve.low for leg in short] == [leg.curve.low for leg in long] == [2e-4, 2e-4]
    shares = [[leg.iterations / sum(leg.iterations for leg in legs) for leg in legs] for legs in (short, long)]
    assert shares[0] == pytest.approx(shares[1], abs=0.01), "the data is switched at the same rate"
    assert made.recipe.tokens == 300_000


def test_the_variant_of_strategy_4_that_is_chosen_is_what_a_later_stage_asks_about() -> None:
    rung = "    - name: cooldown-mix-a\n"
    asks = rung, f"{rung}      if: {{stage: stage-3, used: [decay]}}\n"
    final = "source: {stage: stage-3, checkpoint: pre-cooldown}", "source: {stage: stage-3, checkpoint: final}"
    rewarm = (
        "          lr: {shape: cooldown, decay: 1-sqrt}     # from",
        "          lr: {shape: cooldown, decay: 1-sqrt, at: lrSource}     # from",
    )
    world = world_of(STRATEGY_4, asks, final, rewarm)
    for _ in range(3):
        run(world, GOOD)
    run(world, SAME)
    assert world.status("stage-3").strategy == "decay.n10"
    status = world.status("stage-4")
    assert [(rung.strategy, rung.outcome) for rung in status.rungs] == [("cooldown-mix-a", "untried")]
