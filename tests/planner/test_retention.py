"""What of an attempt may go: examples, and the law that no future ever asks for what has gone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.domain.catalog import every_source
from reconciler.model.observed import AttemptSeen, CheckpointSeen, EvaluationSeen, LegSeen, PrunedSeen, Receipt
from reconciler.model.plan import Action, ActionKind, Plan
from reconciler.model.recipe import read_recipe
from reconciler.model.status import Reason
from reconciler.model.upkeep import Delete, Folder, Prune, Repair
from reconciler.planner.checks import judge
from tests.planner.test_trial import trial
from tests.planner.world import FORGOT_D0, NOW_S, SAME, World, iterations_of, log_of, quickstart, swapped

BOUNDS = "    jobsPerAttempt: 12\n    nodeHours: 5\n"
TRAIN, EVALUATE = ActionKind.TRAIN, ActionKind.EVALUATE
SIZE = 1_000


def policy(**fields: object) -> tuple[str, str]:
    """An edit: the campaign's retention."""
    told = ", ".join(f"{name}: {str(value).lower()}" for name, value in fields.items())
    return BOUNDS, f"{BOUNDS.replace('12', '99')}  retention: {{{told}}}\n"


PRUNE = policy(prune=True, newest=1)
KEEP = (BOUNDS, BOUNDS.replace("12", "99"))


def checkpoint(iteration: int, why_not: str = "", saved_s: float = 0.0) -> CheckpointSeen:
    told = f"{iteration:016x}"
    return CheckpointSeen(iteration, not why_not, why_not, 1, SIZE, identity=told, saved_s=saved_s)


def save(world: World, action: Action, *iterations: int, partial: int = 0) -> None:
    """The job of this action saved at these iterations, and ended; `partial` was cut off."""
    job = world.submit(action)
    leg = next((leg for leg in world.seen(action).legs if leg.index == action.key.leg), LegSeen(action.key.leg))
    there = {c.iteration: c for c in leg.checkpoints} | {i: checkpoint(i) for i in iterations}
    if partial:
        there[partial] = checkpoint(partial, "the tracker file says 0")
    last = iterations[-1] if iterations else max((i for i, c in there.items() if c.complete), default=0)
    logs = leg.logs if not iterations else (*leg.logs, log_of(action, last, 2.0))
    world.leg(
        action,
        checkpoints=tuple(there[i] for i in sorted(there)),
        latest=max(partial, last) or None,
        tracker=last or None,
        logs=logs,
    )
    world.end(job)


def begun(*edits: tuple[str, str], at: tuple[int, ...] = (100, 200, 300, 400), partial: int = 0) -> World:
    """The first stage, with these saves of its 1954 iterations."""
    world = World(quickstart(swapped(*(edits or (PRUNE,)))))
    save(world, world.the_action(), *at, partial=partial)
    return world


def gone(plan: Plan) -> dict[str, str]:
    """Folder → why, of all that is pruned now."""
    prunes = [action.upkeep for action in plan.actions if isinstance(action.upkeep, Prune)]
    return {folder.path.split("/", 3)[3]: folder.why for prune in prunes for folder in prune.folders}


def prunable(plan: Plan) -> list[str]:
    return [folder.path.split("/", 3)[3] for folder in plan.retained.prunable]


def checked(world: World) -> Plan:
    """The plan, which the independent checks have found sound."""
    plan = world.plan()
    assert judge(plan, world.look(), every_source(world.desired.catalog)) == ()
    return plan


# --- the policy -------------------------------------------------------------------------------------------------------


def test_without_a_policy_nothing_goes_and_the_plan_says_what_could() -> None:
    plan = checked(begun(KEEP))
    assert not any(action.upkeep for action in plan.actions)
    assert (plan.retained.prune, prunable(plan)) == (False, ["leg-0/global_step100", "leg-0/global_step200"])
    assert plan.retained.size_bytes == 2 * SIZE


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (policy(prune=True, newest=1), [400]),
        (policy(prune=True, newest=3), [200, 300, 400]),
        (policy(prune=True, newest=1, every="400k"), [200, 400]),
        (policy(prune=True, newest=1, every="100k"), [100, 200, 300, 400]),
        (policy(prune=True, newest=9), [100, 200, 300, 400]),
    ],
)
def test_the_newest_are_kept_and_one_in_each_stretch_of_tokens(retention: tuple[str, str], left: list[int]) -> None:
    went = {int(path.removeprefix("leg-0/global_step")) for path in gone(checked(begun(retention)))}
    assert sorted({100, 200, 300, 400} - went) == left


def test_folders_go_before_the_next_job_and_each_says_why() -> None:
    plan = checked(begun())
    assert [action.key.kind for action in plan.actions] == [ActionKind.PRUNE, TRAIN]
    assert plan.actions[0].summary == "prune 3 folders, 3 kB, of leg 0"
    assert set(gone(plan).values()) == {"the newest of its leg is kept, and nothing names this one"}


def test_what_was_cut_off_goes_when_a_newer_one_is_whole() -> None:
    world = begun(at=(100, 200), partial=300)
    assert "leg-0/global_step300" not in gone(checked(world))
    world = begun(at=(100, 400), partial=300)
    assert gone(checked(world))["leg-0/global_step300"].startswith("never finished (the tracker file says 0)")


def test_what_was_just_saved_makes_nothing_needless() -> None:
    world = begun()
    action = world.the_action()
    (leg,) = world.seen(action).legs
    young = replace(leg.checkpoints[-1], saved_s=NOW_S - 60.0)
    world.leg(action, checkpoints=(*leg.checkpoints[:-1], young))
    assert sorted(gone(checked(world))) == ["leg-0/global_step100", "leg-0/global_step200"]


def test_a_plan_that_prunes_other_folders_is_another_plan() -> None:
    world = begun()
    before = world.plan().digest
    action = world.the_action()
    (leg,) = world.seen(action).legs
    world.leg(action, checkpoints=(replace(leg.checkpoints[0], identity="f" * 16), *leg.checkpoints[1:]))
    assert world.plan().digest != before


# --- what is needed ---------------------------------------------------------------------------------------------------


def unread(world: World) -> None:
    world.attempts["stage-9", "9" * 12] = AttemptSeen("stage-9", "9" * 12, None, unread="permission is denied")


def no_recipe(world: World) -> None:
    world.attempts["stage-9", "9" * 12] = AttemptSeen("stage-9", "9" * 12, "{", (LegSeen(0),))


def is_live(world: World) -> None:
    world.submit(world.the_action())


def in_doubt(world: World) -> None:
    world.receipts.append(Receipt(str(world.the_action().key), NOW_S, done=False))


def is_suspended(world: World) -> None:
    world.desired = quickstart(swapped(PRUNE, ("  source: random\n", "  source: random\n  suspend: true\n")))


def is_held(world: World) -> None:
    for number in (1, 2):
        save(world, world.the_action())
        assert len(world.receipts) == number + 1


@pytest.mark.parametrize(
    "what", [unread, no_recipe, is_live, in_doubt, is_suspended, is_held], ids=lambda f: f.__name__
)
def test_nothing_goes_while(what: Callable[[World], None]) -> None:
    world = begun()
    what(world)
    plan = checked(world)
    assert gone(plan) == {}
    assert plan.retained.notes, "it is not said why"


def test_nothing_goes_of_an_attempt_that_a_path_leads_into() -> None:
    world = begun()
    attempt = world.the_action().key.attempt
    path = f"/w/quickstart/stage-1/{attempt}/leg-0"
    source = ("    - name: cooldown-mix-b\n", "    - name: cooldown-mix-b\n      source: "
              f"{{path: {path}, checkpoint: {{iteration: 100}}, format: zero, dataParallel: 1}}\n")  # fmt: skip
    world.desired = quickstart(swapped(PRUNE, source))
    assert gone(checked(world)) == {}


def test_what_a_recipe_of_another_commit_starts_from_stays() -> None:
    world = begun()
    action = world.the_action()
    recipe = world.seen(action).recipe
    assert recipe is not None
    other = recipe.replace('"attempt": ""', f'"attempt": "{action.key.attempt}"').replace(
        '"iteration": 0', '"iteration": 200'
    )
    was = read_recipe(other)
    assert was is not None
    world.attempts["stage-2", was.attempt] = AttemptSeen("stage-2", was.attempt, other, (LegSeen(0),))
    assert sorted(gone(checked(world))) == ["leg-0/global_step100", "leg-0/global_step300"]


def test_an_attempt_that_no_manifest_describes_is_left_as_it_is() -> None:
    world = begun()
    world.desired = quickstart(swapped(PRUNE, ("warmup: 10%", "warmup: 9%")))
    plan = world.plan()
    assert plan.stages[0].reason is Reason.TRAINED_IMMUTABLE
    assert (gone(plan), prunable(plan)) == ({}, [])


def test_the_best_on_the_way_and_one_that_is_half_evaluated_stay() -> None:
    world = begun()
    action = world.the_action()
    found = [EvaluationSeen(0, at, world.results(losses)) for at, losses in
             ((100, SAME | {"val-D0": 1.0}), (200, SAME), (300, {"val-D0": 9.0}))]  # fmt: skip
    world.rewrite(action, evaluations=tuple(found))
    assert sorted(gone(checked(world))) == ["leg-0/global_step200"]


def test_the_copy_of_a_source_goes_when_the_leg_has_its_own_checkpoints() -> None:
    world = begun(PRUNE, at=(1954,))
    while world.the_action().key.kind is not ActionKind.CONVERT:
        world.carry_out(SAME)
    convert = world.the_action()
    world.converted(convert, 1954)
    world.leg(convert, copy_bytes=77, copy_identity="c" * 16)
    assert gone(checked(world)) == {}
    while world.the_action().key.kind is not TRAIN:
        world.carry_out(SAME)
    save(world, world.the_action(), 100)
    why = "a universal copy of the source, which is still there; the leg has checkpoints of its own"
    assert gone(checked(world)) == {"leg-0-source/global_step1954_universal": why}


def test_what_the_cluster_has_refused_is_told_and_not_tried_again() -> None:
    world = begun()
    (action,) = [action for action in world.plan().actions if action.key.kind is ActionKind.PRUNE]
    world.receipts.append(Receipt(str(action.key), NOW_S, True, None, "x is what y starts from"))
    plan = checked(world)
    assert gone(plan) == {}
    assert "x is what y starts from" in plan.retained.notes[0]


# --- the second step, and latest --------------------------------------------------------------------------------------


def test_what_was_set_aside_is_deleted_after_everything_else() -> None:
    world = begun(at=(400,))
    action = world.the_action()
    world.leg(action, pruned=(PrunedSeen("leg-0/.pruned-0000000000000064-global_step100", SIZE),))
    plan = checked(world)
    assert [each.key.kind for each in plan.actions] == [TRAIN, ActionKind.DELETE]
    assert plan.actions[-1].upkeep == Delete(
        (Folder(f"quickstart/stage-1/{action.key.attempt}/leg-0/.pruned-0000000000000064-global_step100", SIZE,
                "set aside"),)
    )  # fmt: skip
    unasked = replace(world, desired=quickstart(swapped(KEEP))).plan()
    assert [each.key.kind for each in unasked.actions] == [TRAIN]
    assert unasked.retained.size_bytes == SIZE


@pytest.mark.parametrize(
    ("latest", "told"),
    [
        (500, "it names global_step500, which is incomplete (the tracker file says 0)"),
        (100, "it names global_step100, which is complete too"),
        (0, "it names no iteration"),
        (None, "it is not there"),
    ],
)
def test_a_pointer_that_is_astray_is_repaired_whatever_the_policy(latest: int | None, told: str) -> None:
    world = begun(KEEP, partial=500)
    world.leg(world.the_action(), latest=latest)
    plan = checked(world)
    first, second = plan.actions
    assert isinstance(first.upkeep, Repair)
    assert (first.upkeep.was, first.upkeep.newest, first.reason) == (latest, 400, Reason.LATEST_ASTRAY)
    assert told in first.summary
    assert second.key.kind is TRAIN


def test_a_repair_that_the_cluster_has_refused_is_not_tried_again() -> None:
    world = begun(KEEP, partial=500)
    (repair,) = [action for action in world.plan().actions if isinstance(action.upkeep, Repair)]
    world.receipts.append(Receipt(str(repair.key), NOW_S, True, None, "`latest` is a link"))
    assert [action.key.kind for action in checked(world).actions] == [TRAIN]


def test_no_pointer_is_repaired_beside_a_live_job() -> None:
    world = begun(KEEP, partial=500)
    world.submit(world.the_action())
    assert checked(world).actions == ()


# --- the law ----------------------------------------------------------------------------------------------------------

EVERY = ("      strong: {warn: 0.15, fail: 0.30}\n", "      strong: {warn: 0.15, fail: 0.30}\n      every: 25%\n")
MIX_A = "        - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}\n"
SPLIT = (
    f"{MIX_A}          lr: {{shape: cooldown, decay: 1-sqrt}}     # from lrMax to lrFinal over the whole leg\n",
    f"{MIX_A}          lr: {{shape: cooldown, until: lrMax/3}}\n"
    "        - mixture: {D3: 1}\n          lr: {shape: continue}\n",
)
FORGETS = ("onFailedGate: advance", "onFailedGate: hold")
LADDERS: tuple[tuple[tuple[str, str], ...], ...] = ((), (EVERY,), (SPLIT,), (trial(),), (FORGETS,), (EVERY, SPLIT))
LATER = {"": (), "another rung": (("    - name: mix-a\n", "    - name: replay-31\n      legs:\n"
                                  "        - mixture: {stage-2: 0.31, D2: 0.69}\n          lr: {shape: constant}\n"
                                  "    - name: mix-a\n"),)}  # fmt: skip
"""What a later commit may add."""


def asked_for(actions: Collection[Action]) -> set[str]:
    """Folders that jobs load from or convert."""
    found = set[str]()
    for action in actions:
        values = action.job.values if action.job is not None else {}
        found.add(str(values.get("source", "")))
        launches = values.get("launches", ())
        assert isinstance(launches, list | tuple)
        for launch in launches:
            tags = [word.split("=")[1] for word in launch["arguments"] if word.startswith("--load-tag=")]
            found |= {f"{launch['environment'].get('LOAD', '')}/{tag}" for tag in tags}
    return found


def take_away(world: World, plan: Plan) -> set[str]:
    """Do what the plan's prunes say; returns the folders, as jobs would name them."""
    went = set[str]()
    for prune in (action.upkeep for action in plan.actions if isinstance(action.upkeep, Prune)):
        for folder in prune.folders:
            _, stage, attempt, leg_folder, name = folder.path.split("/")
            seen = world.attempts[stage, attempt]
            index, copy = int(leg_folder.split("-")[1]), leg_folder.endswith("-source")
            legs = []
            for leg in seen.legs:
                if leg.index == index and copy:
                    leg = replace(leg, converted=None, copy_identity="")
                elif leg.index == index:
                    left = [c for c in leg.checkpoints if f"global_step{c.iteration}" != name]
                    leg = replace(leg, checkpoints=tuple(left))
                legs.append(leg)
            world.attempts[stage, attempt] = replace(seen, legs=tuple(legs))
            went.add(f"/w/{folder.path}")
    return went


@st.composite
def chances(draw: st.DrawFn) -> list[tuple[int, bool]]:
    """For each step: how far a job comes, in hundreds of iterations (0: to its end), and whether a model forgets."""
    return draw(st.lists(st.tuples(st.sampled_from((0, 0, 0, 1, 3, 7)), st.booleans()), min_size=40, max_size=40))


def carry_out(world: World, action: Action, reach: int, losses: dict[str, float]) -> None:
    match action.key.kind:
        case ActionKind.TRAIN:
            end, leg = (
                iterations_of(action),
                next((g for g in world.seen(action).legs if g.index == action.key.leg), None),
            )
            newest = leg.newest_complete() if leg is not None else None
            start = newest.iteration if newest is not None else 0
            whole = start + 100 * reach
            cut = whole if reach > 0 and whole < end else 0
            saves = [at for at in range(100, cut or end, 100) if at > start] + ([] if cut else [end])
            save(world, action, *saves, partial=cut + 50 if cut and cut + 50 < end else 0)
        case ActionKind.CONVERT:
            world.converted(action, 1)
            world.leg(action, copy_bytes=9, copy_identity="c" * 16)
        case ActionKind.EVALUATE:
            world.evaluated(action, losses)
        case _:
            world.judged(action)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LADDERS), st.sampled_from(sorted(LATER)), st.integers(5, 40), chances())
def test_a_campaign_that_prunes_takes_the_same_steps_as_one_that_keeps_everything(
    ladder: tuple[tuple[str, str], ...], later: str, when: int, drawn: list[tuple[int, bool]]
) -> None:
    """Whatever jobs save and gates say: whichever step comes, it never needs what has gone."""
    keeps, prunes = (World(quickstart(swapped(retention, *ladder))) for retention in (KEEP, PRUNE))
    went = set[str]()
    for step, (reach, forgets) in enumerate(drawn):
        if step == when:
            keeps.desired, prunes.desired = (
                quickstart(swapped(retention, *ladder, *LATER[later])) for retention in (KEEP, PRUNE)
            )
        kept, plan = keeps.plan(), checked(prunes)
        wanted = [action for action in kept.actions if action.upkeep is None]
        due = [action for action in plan.actions if action.upkeep is None]
        assert [action.semantic() for action in due] == [action.semantic() for action in wanted]
        assert [(s.stage, s.phase, s.reason, s.tokens_done) for s in plan.stages] == [
            (s.stage, s.phase, s.reason, s.tokens_done) for s in kept.stages
        ]
        went |= take_away(prunes, plan)
        assert not asked_for(due) & went
        if not due:
            break
        for action in due:
            for world in (keeps, prunes):
                carry_out(world, action, reach, dict(FORGOT_D0 if forgets else SAME))
