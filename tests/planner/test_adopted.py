"""A stage that was trained before there were manifests: done by looking, never trained, and what holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.domain.loading import load
from reconciler.model.observed import CheckpointSeen, FolderAbsent, FolderSeen, Inside, Observed, Unread
from reconciler.model.plan import ActionKind
from reconciler.model.recipe import SourceRecipe
from reconciler.model.status import Phase, Reason, StageStatus
from reconciler.planner.checks import judge
from reconciler.planner.desired import Desired
from reconciler.planner.ledger import books, seen_by
from reconciler.planner.lists import read_lists
from reconciler.planner.planner import plan
from tests.planner.world import MANIFESTS, SAME, World, after, launch_of, quickstart, swapped

FOLDER = "/old/base"
STEPS = 4_096_000 // 2048
INSIDE = Inside(iteration=2000, layers=2, hidden=64, global_batch=16, sequence_length=128)
WHOLE = FolderSeen((CheckpointSeen(STEPS, True, "", 1, 10, inside=INSIDE),), latest=STEPS, tracker=STEPS)
"""2000 is on the model's save interval, where no leg of ours may end."""


def adopting(ranks: int = 1, form: str = "zero") -> Callable[[str], str]:
    """The quickstart with its first stage trained elsewhere."""
    adopted = f"  adopted: {{path: {FOLDER}, iteration: {STEPS}, format: {form}, dataParallel: {ranks}}}\n"
    return swapped(("  tokens: 4M\n  source: random\n", f"  tokens: 4.096M\n  source: random\n{adopted}"))


def look(desired: Desired, folder: FolderSeen | FolderAbsent | Unread, world: World | None = None) -> Observed:
    return replace((world or World(desired)).look(), folders={FOLDER: folder})


def first(observed: Observed, desired: Desired) -> StageStatus:
    return plan(desired, observed).stages[0]


def test_it_is_done_when_its_checkpoint_lies_there_whole_and_nothing_is_done_for_it() -> None:
    desired = quickstart(adopting())
    made = plan(desired, look(desired, WHOLE))
    status = made.stages[0]
    assert (status.phase, status.reason, status.tokens_done) == (Phase.DONE, Reason.ADOPTED, 4_096_000)
    assert status.message == f"adopted: {FOLDER} at iteration {STEPS}"
    assert {action.key.stage for action in made.actions} == {"stage-2"}
    assert made.refusals == ()
    assert judge(made, look(desired, WHOLE)) == ()
    assert made.forecasts[0].iterations == 0, "nothing of it is forecast"


HELD: dict[str, tuple[FolderSeen | FolderAbsent | Unread, Reason, str]] = {
    "the folder is gone": (FolderAbsent(), Reason.ADOPTED_UNUSABLE, f"the adopted folder {FOLDER} is not there"),
    "the folder cannot be read": (
        Unread("permission is denied"),
        Reason.SOURCE_UNREAD,
        f"the adopted folder {FOLDER} could not be read: permission is denied",
    ),
    "the iteration is gone": (
        FolderSeen((CheckpointSeen(1900, True, "", 1, inside=Inside()),)),
        Reason.ADOPTED_UNUSABLE,
        f"{FOLDER} has no complete checkpoint at iteration {STEPS}; there is iteration 1900",
    ),
    "it is not whole": (
        FolderSeen((CheckpointSeen(STEPS, False, "0 of 1 model files", 1),)),
        Reason.ADOPTED_UNUSABLE,
        f"{FOLDER} has no complete checkpoint at iteration {STEPS}; "
        f"there is iteration {STEPS} (incomplete: 0 of 1 model files)",
    ),
    "it is of another model": (
        FolderSeen((CheckpointSeen(STEPS, True, "", 2, inside=replace(INSIDE, layers=12, hidden=None)),)),
        Reason.ADOPTED_UNUSABLE,
        f"{FOLDER}/global_step{STEPS} is not what the manifests say: layers is 12 inside, 2 is declared; "
        "dataParallel is 2 inside, 1 is declared",
    ),
    "it was trained with another batch": (
        FolderSeen((CheckpointSeen(STEPS, True, "", 1, inside=replace(INSIDE, global_batch=32)),)),
        Reason.ADOPTED_UNUSABLE,
        f"{FOLDER} was trained with a global batch of 32, not 16",
    ),
}


@pytest.mark.parametrize("case", HELD)
def test_it_is_held_with_the_reason_and_not_trained_again_when(case: str) -> None:
    folder, reason, message = HELD[case]
    desired = quickstart(adopting())
    made = plan(desired, look(desired, folder))
    status = made.stages[0]
    assert (status.reason, status.message) == (reason, message)
    assert status.phase is (Phase.WAITING if isinstance(folder, Unread) else Phase.HELD)
    assert made.actions == ()
    assert made.stages[1].reason is Reason.SOURCE_NOT_DONE


@pytest.mark.parametrize(
    ("ranks", "form", "kinds"),
    [
        pytest.param(1, "zero", [ActionKind.CONVERT], id="saved by other ranks: converted first"),
        pytest.param(2, "zero", [ActionKind.EVALUATE], id="saved by as many ranks"),
        pytest.param(1, "universal", [ActionKind.EVALUATE], id="universal"),
    ],
)
def test_the_next_stage_goes_on_from_it_as_from_any_other(ranks: int, form: str, kinds: list[ActionKind]) -> None:
    desired = quickstart(adopting(ranks, form))
    universal = form == "universal"
    seen = FolderSeen(
        (CheckpointSeen(STEPS, True, "", 0 if universal else ranks, universal=universal, inside=INSIDE),),
        latest_universal=STEPS,
    )
    (action,) = plan(desired, look(desired, seen)).actions
    assert [action.key.kind] == kinds
    assert FOLDER in str(action.job)


def test_the_schedule_goes_on_where_it_stood_and_the_rate_does_not_jump() -> None:
    desired = quickstart(adopting(2))
    seen = FolderSeen((CheckpointSeen(STEPS, True, "", 2, inside=INSIDE),))
    world = World(desired)
    action = plan(desired, look(desired, seen, world)).actions[0]
    world.evaluated(action, SAME)
    action = plan(desired, look(desired, seen, world)).actions[0]
    assert action.key.kind is ActionKind.TRAIN
    environment, arguments = launch_of(action)
    assert environment["LOAD"] == FOLDER
    assert f"--load-tag=global_step{STEPS}" in arguments
    assert action.trains is not None
    recipe = action.trains.recipe
    assert recipe.source == SourceRecipe(
        external=FOLDER, iteration=STEPS, position=STEPS, data_parallel=2, rate=recipe.legs[0].curve.high
    )
    assert recipe.legs[0].position == STEPS


def test_a_stage_that_was_trained_here_is_not_taken_for_one_that_was_trained_elsewhere() -> None:
    world = after(1)
    desired = quickstart(adopting())
    status = first(look(desired, WHOLE, world.wanting(desired)), desired)
    assert (status.phase, status.reason) == (Phase.HELD, Reason.TRAINED_IMMUTABLE)
    assert "take `adopted` out, or give the adopted stage another name" in status.message


def test_the_ledger_counts_what_it_drew_and_follows_descent_into_it() -> None:
    desired = quickstart(adopting(2))
    seen = FolderSeen((CheckpointSeen(STEPS, True, "", 2, inside=INSIDE),))
    world = World(desired)
    while len(world.attempts) < 1 or not next(iter(world.attempts.values())).legs:
        action = plan(desired, look(desired, seen, world)).actions[0]
        if action.key.kind is ActionKind.TRAIN:
            world.trained(action, 100)
        else:
            world.evaluated(action, SAME)
    observed = look(desired, seen, world)
    kept = books(desired, tuple(world.attempts.values()), read_lists(desired, observed).digests)
    (base, stage) = kept.entries
    assert (base.stage, base.outcome, sum(part.tokens for part in base.drawn)) == ("stage-1", "adopted", 4_096_000)
    stretches, origin = seen_by(kept, stage.attempt, 0, 100)
    assert [(part.stage, part.tokens) for part in stretches] == [("stage-2", 204_800), ("stage-1", 4_096_000)]
    assert origin == "random weights"


REFUSED = {
    "  suspend: true\n": "nothing of an adopted stage is submitted or judged: leave gates and suspend out",
    "  strategies:\n    - {name: two, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}\n": "trained in one way",
}


@pytest.mark.parametrize("more", REFUSED)
def test_a_manifest_that_would_still_do_something_with_it_is_refused(more: str) -> None:
    texts = {path.name: adopting()(path.read_text()) for path in MANIFESTS.glob("*.yaml")}
    stages = texts["stages.yaml"]
    if more.startswith("  strategies"):
        texts["stages.yaml"] = stages.replace("  strategies:\n", more, 1)
    else:
        texts["stages.yaml"] = stages.replace("  source: random\n", f"  source: random\n{more}", 1)
    loaded = load([(name, text.encode()) for name, text in sorted(texts.items())])
    assert any(REFUSED[more] in str(problem) for problem in loaded.problems)


def test_it_ends_where_it_ended_though_no_leg_of_ours_may_end_on_a_save() -> None:
    desired = quickstart(adopting())
    assert plan(desired, look(desired, WHOLE)).stages[0].iterations == STEPS
