"""A strategy that is lengthened in the middle of a campaign: what is trained is kept, and nothing is trained again."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from reconciler.domain.ledger import by_source, tokens
from reconciler.model.observed import ListSeen
from reconciler.model.plan import Action, ActionKind
from reconciler.model.recipe import Recipe, read_recipe
from reconciler.model.status import Phase, Reason
from reconciler.planner import ledger
from reconciler.planner.desired import Desired
from tests.planner.world import FORGOT_D0, SAME, World, after, launch_of, quickstart, swapped

TRAIN = ActionKind.TRAIN
STEP = 2048
NAIVE = "    - name: naive\n      legs:\n        - mixture: {D1: 1}\n          lr: {shape: constant}\n"
STAGE_TOKENS = "  tokens: 2M\n  source: {stage: stage-1, checkpoint: pre-cooldown}"


def legs(*mixtures: tuple[str, str]) -> str:
    lines = "".join(
        f"        - mixture: {mixture}\n          tokens: {budget}\n          lr: {{shape: constant}}\n"
        for mixture, budget in mixtures
    )
    return f"    - name: naive\n      legs:\n{lines}"


FIRST, SECOND, THIRD = ("{D1: 1}", "2M"), ("{D0: 0.1, D1: 0.9}", "1M"), ("{D1: 1}", "0.5M")


def desired(stage_tokens: str, *of: tuple[str, str]) -> Desired:
    replay = "    - name: replay-5\n      legs:\n        - mixture: {D0: 0.05, D1: 0.95}\n"
    return quickstart(
        swapped(
            (STAGE_TOKENS, STAGE_TOKENS.replace("2M", stage_tokens)),
            (NAIVE + replay, legs(*of) + replay),
        )
    )


LONGER = desired("3M", FIRST, SECOND)


def recipe_of(action: Action) -> Recipe:
    recipe = read_recipe(next(f.text for f in action.files if f.path.endswith("/recipe.json")))
    assert recipe is not None
    return recipe


def former(world: World) -> str:
    return next(attempt for stage, attempt in world.attempts if stage == "stage-2")


def kinds_until_done(world: World) -> list[str]:
    kinds = []
    while world.status("stage-2").phase is not Phase.DONE:
        action = world.the_action()
        kinds.append(f"{action.key.kind} l{action.key.leg} {action.key.attempt}")
        world.carry_out(SAME)
    return kinds


def test_a_stage_that_is_done_goes_on_with_the_legs_that_were_added() -> None:
    world = after(2).wanting(LONGER)
    old = former(world)
    assert world.plan().refusals == ()
    status = world.status("stage-2")
    assert (status.phase, status.tokens_done, status.tokens_budget) == (Phase.TRAINING, 977 * STEP, 3_000_000)
    action = world.the_action()
    assert (action.key.kind, action.key.leg, action.key.attempt != old) == (TRAIN, 1, True)
    assert recipe_of(action).taken == (old,)
    environment, arguments = launch_of(action)
    assert environment["LOAD"] == f"/w/quickstart/stage-2/{old}/leg-0"
    assert {"--load-tag=global_step977", "--reset-iteration"} <= set(arguments)
    new = action.key.attempt
    assert kinds_until_done(world) == [f"train l1 {new}", f"evaluate l1 {new}", f"judge l1 {new}"]


def test_what_comes_after_builds_on_all_of_it() -> None:
    world = after(2).wanting(LONGER)
    kinds_until_done(world)
    action = world.until(TRAIN)
    assert (action.key.stage, recipe_of(action).source.leg) == ("stage-3", 1)
    world.finish_stage(SAME | {"val-D1": 3.5})
    replayed = recipe_of(world.until(TRAIN))
    assert replayed.strategy == "replay-30"
    # 30 % of stage 2's mixture: 2M of D1, and 1M with a tenth of D0.
    assert Fraction(replayed.legs[0].mixture["D0"]) == Fraction(3, 10) * Fraction(1, 30)


def test_the_ledger_counts_the_legs_that_were_taken_once() -> None:
    world = after(2).wanting(LONGER)
    old = former(world)
    kinds_until_done(world)
    books = ledger.books(world.desired, tuple(world.attempts.values()))
    assert tokens(books.drawn) == (1954 + 977 + 489) * STEP
    new = next(entry for entry in books.entries if entry.stage == "stage-2" and entry.attempt != old)
    assert (tokens(new.drawn), new.lost, new.end) == (489 * STEP, 0, (1, 489))
    seen, _ = ledger.seen_by(books, new.attempt, 1, 489)
    assert [(part.attempt == new.attempt, part.leg, part.iterations) for part in seen] == [
        (True, 1, 489),
        (False, 0, 977),
        (False, 0, 1954),
    ]
    assert by_source(seen) == by_source(books.drawn)


def test_an_attempt_in_the_middle_is_trained_to_its_end_first() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 300)
    longer = world.wanting(LONGER)
    old = former(longer)
    action = longer.the_action()
    assert (action.key.attempt, action.key.leg, recipe_of(action).taken) == (old, 0, ())
    assert "--load-tag=global_step300" in launch_of(action)[1]
    longer.carry_out(SAME)
    action = longer.the_action()
    assert (action.key.kind, action.key.leg, recipe_of(action).taken) == (TRAIN, 1, (old,))
    assert [kind.rsplit(" ", 1)[0] for kind in kinds_until_done(longer)] == ["train l1", "evaluate l1", "judge l1"]


def test_a_job_that_runs_is_not_disturbed() -> None:
    world = after(1)
    world.trained(world.until(TRAIN), 300)
    world.submit(world.until(TRAIN))
    longer = world.wanting(LONGER)
    assert longer.plan().actions == ()
    assert longer.status("stage-2").reason is Reason.JOB_LIVE


def test_a_job_without_a_checkpoint_yet_is_waited_for() -> None:
    world = after(1)
    world.submit(world.until(TRAIN))
    longer = world.wanting(LONGER)
    assert longer.plan().actions == ()
    assert longer.status("stage-2").phase is Phase.WAITING


def test_a_strategy_may_be_lengthened_again() -> None:
    world = after(2).wanting(LONGER)
    kinds_until_done(world)
    again = world.wanting(desired("3.5M", FIRST, SECOND, THIRD))
    action = again.the_action()
    makers = recipe_of(action).taken
    assert (action.key.leg, len(makers), len(set(makers))) == (2, 2, 2)
    assert launch_of(action)[0]["LOAD"] == f"/w/quickstart/stage-2/{makers[1]}/leg-1"
    kinds_until_done(again)
    books = ledger.books(again.desired, tuple(again.attempts.values()))
    assert tokens(books.drawn) == (1954 + 977 + 489 + 245) * STEP


def test_later_jobs_of_the_added_leg_go_on_from_their_own() -> None:
    world = after(2).wanting(LONGER)
    world.trained(world.until(TRAIN), 200)
    action = world.the_action()
    environment, arguments = launch_of(action)
    assert environment["LOAD"] == f"/w/quickstart/stage-2/{action.key.attempt}/leg-1"
    assert "--load-tag=global_step200" in arguments
    assert "--reset-iteration" not in arguments


def test_taken_checkpoints_that_were_deleted_hold_before_and_do_not_matter_after() -> None:
    world = after(2).wanting(LONGER)
    key = ("stage-2", former(world))
    cleaned = replace(world.attempts[key], legs=())
    kept = world.attempts[key]
    world.attempts[key] = cleaned
    status = world.status("stage-2")
    assert (status.phase, status.reason, world.plan().actions) == (Phase.HELD, Reason.SOURCE_UNUSABLE, ())
    assert f"quickstart/stage-2/{key[1]}/leg-0/global_step977, is not there any more" in status.message
    world.attempts[key] = kept
    world.trained(world.until(TRAIN), 200)
    world.attempts[key] = cleaned
    assert world.the_action().key.leg == 1


def test_an_attempt_that_gave_legs_and_cannot_be_read_is_waited_for() -> None:
    world = after(2).wanting(LONGER)
    world.trained(world.until(TRAIN), 200)
    key = ("stage-2", former(world))
    world.attempts[key] = replace(world.attempts[key], unread="permission denied")
    assert world.plan().actions == ()
    assert world.status("stage-2").reason is Reason.WORKSPACE_UNREAD


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(desired("3M", ("{D0: 0.1, D1: 0.9}", "2M"), SECOND), id="the first leg's mixture"),
        pytest.param(desired("3M", ("{D1: 1}", "1.9M"), ("{D1: 1}", "1.1M")), id="the first leg's tokens"),
    ],
)
def test_legs_that_were_changed_are_refused_as_ever(wanted: Desired) -> None:
    made = after(2).wanting(wanted).plan()
    assert made.actions == ()
    assert made.stages[1].reason is Reason.TRAINED_IMMUTABLE


def test_other_data_under_the_first_leg_is_refused_as_ever() -> None:
    world = after(2).wanting(LONGER)
    world.lists[world.desired.list_paths()["D1"]] = ListSeen("1 /data/other text\n", "other")
    assert world.plan().actions == ()


def test_nothing_is_taken_from_an_attempt_that_failed() -> None:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    action = world.wanting(LONGER).the_action()
    assert recipe_of(action).taken == ()


def test_what_a_recipe_file_says_of_its_makers_becomes_no_path_unless_it_is_a_name() -> None:
    world = after(2).wanting(LONGER)
    world.trained(world.until(TRAIN), 200)
    key = next((key for key in world.attempts if key[0] == "stage-2" and key[1] != former(world)), None)
    assert key is not None
    seen = world.attempts[key]
    text = str(seen.recipe)
    assert former(world) in text
    world.attempts[key] = replace(seen, recipe=text.replace(former(world), "../../../etc"))
    # Who trained the legs is found out anew, and nothing starts over.
    action = world.the_action()
    assert (action.key.leg, recipe_of(action).taken) == (1, (former(world),))
    assert ".." not in str(launch_of(action)[0])


# --- a leg whose own end is lost


def trained_both() -> tuple[World, tuple[str, str]]:
    """Two legs are trained, and nothing is evaluated yet."""
    world = World(LONGER)
    world.finish_stage(SAME)
    world.until(ActionKind.TRAIN)
    while world.the_action().key.kind is not ActionKind.EVALUATE or world.the_action().key.leg == 0:
        world.carry_out(SAME)
    return world, next(key for key in world.attempts if key[0] == "stage-2")


def test_the_end_of_a_leg_that_the_next_went_on_from_is_not_trained_again() -> None:
    world, key = trained_both()
    first, second = world.attempts[key].legs
    for left in ((), (replace(first.checkpoints[-1], iteration=300),)):
        harmed = replace(world.attempts[key], legs=(replace(first, checkpoints=left), second))
        lost = replace(world, attempts=world.attempts | {key: harmed})
        assert lost.the_action().key.kind is ActionKind.EVALUATE
        assert lost.status("stage-2").iteration == lost.status("stage-2").iterations
        lost.finish_stage(SAME)
        status = lost.status("stage-2")
        assert status.phase is Phase.DONE
        assert json.loads(lost.attempts[key].verdicts["final"])["iteration"] == status.iterations
        (gone,) = status.drift
        assert gone.message.startswith(f"the checkpoint that leg 0 ended with, quickstart/stage-2/{key[1]}/leg-0/")


def test_a_folder_that_was_moved_to_a_leg_of_no_recipe_tells_of_no_training() -> None:
    world, key = trained_both()
    first, second = world.attempts[key].legs
    moved = replace(world.attempts[key], legs=(replace(second, index=9), replace(first, index=7)))
    action = replace(world, attempts=world.attempts | {key: moved}).the_action()
    assert (action.key.kind, action.key.leg) == (ActionKind.TRAIN, 0)
