"""Manifests to recipes: what a rung of the quickstart campaign comes to, leg by leg."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from reconciler.domain.resolve import StageOutcome, Unresolved, data_parallel_size, mixture_definitions, resolve
from reconciler.model.recipe import Load, Recipe, SourceRecipe
from reconciler.planner.desired import Desired
from tests.planner.world import quickstart, swapped

COOLDOWN_A = "{D0: 0.33, D3: 0.33, buffer: 0.34}\n          lr: {shape: cooldown, decay: 1-sqrt}     # from"
TWO_LEGS = swapped(
    (
        "    - name: cooldown-mix-a\n      legs:\n",
        "    - name: cooldown-mix-a\n      legs:\n"
        "        - mixture: {D2: 1}\n          tokens: 0.2M\n          lr: {shape: constant}\n",
    )
)


def outcomes(desired: Desired, upto: str, rungs: dict[str, int] | None = None) -> list[StageOutcome]:
    """Earlier stages as done on the rung given, else on their first."""
    before: list[StageOutcome] = []
    for stage in desired.stages:
        name = stage.metadata.name
        if name == upto:
            break
        strategy = stage.spec.strategies[(rungs or {}).get(name, 0)]
        recipe = resolve(desired.catalog, desired.campaign, stage, strategy, before, {})
        assert isinstance(recipe, Recipe)
        before.append(StageOutcome(name, recipe))
    return before


def recipe_of(
    stage: str, rung: int = 0, desired: Desired | None = None, rungs: dict[str, int] | None = None
) -> Recipe | Unresolved:
    desired = desired or quickstart()
    manifest = desired.catalog.stage(desired.campaign, stage)
    before = outcomes(desired, stage, rungs)
    lists = {f"D{i}": f"digest-{i}" for i in range(4)}
    return resolve(desired.catalog, desired.campaign, manifest, manifest.spec.strategies[rung], before, lists)


def resolved(stage: str, rung: int = 0, desired: Desired | None = None, rungs: dict[str, int] | None = None) -> Recipe:
    recipe = recipe_of(stage, rung, desired, rungs)
    assert isinstance(recipe, Recipe), recipe
    return recipe


@pytest.mark.parametrize(
    ("stage", "rung", "rungs", "mixture"),
    [
        pytest.param("stage-1", 0, {}, {"D0": "1"}, id="pretraining"),
        pytest.param("stage-2", 0, {}, {"D1": "1"}, id="naive"),
        pytest.param("stage-2", 1, {}, {"D0": "1/20", "D1": "19/20"}, id="5 % replay"),
        pytest.param("stage-3", 1, {}, {"D1": "3/10", "D2": "7/10"}, id="replay of a naive stage is its dataset"),
        pytest.param(
            "stage-3", 1, {"stage-2": 1}, {"D0": "3/200", "D1": "57/200", "D2": "7/10"}, id="replay of what really ran"
        ),
        pytest.param(
            "stage-3", 2, {}, {"D0": "33/100", "D1": "17/50", "D2": "33/100"}, id="the buffer is stage 2's dataset"
        ),
        pytest.param(
            "stage-4",
            0,
            {},
            {"D0": "33/100", "D1": str(Fraction(34, 100) * Fraction(4, 7)), "D2": "51/350", "D3": "33/100"},
            id="the buffer is earlier stages' data by tokens, never its own or D0",
        ),
    ],
)
def test_mixture_expanded(stage: str, rung: int, rungs: dict[str, int], mixture: dict[str, str]) -> None:
    recipe = resolved(stage, rung, rungs=rungs)
    (leg,) = recipe.legs
    assert dict(leg.mixture) == mixture
    assert set(leg.lists) == set(mixture)
    assert sum(Fraction(share) for share in leg.mixture.values()) == 1


def test_equal_buffer() -> None:
    desired = quickstart(swapped(("composition: by-tokens", "composition: equal")))
    (leg,) = resolved("stage-4", 0, desired).legs
    assert leg.mixture["D1"] == leg.mixture["D2"] == "17/100"


def test_a_term_of_weight_zero_is_left_out() -> None:
    desired = quickstart(swapped(("{D0: 0.33, D2: 0.33, buffer: 0.34}", "{D0: 0, D2: 0.1, buffer: 0.9}")))
    (leg,) = resolved("stage-3", 2, desired).legs
    assert dict(leg.mixture) == {"D1": "9/10", "D2": "1/10"}
    assert dict(leg.terms) == {"D0": "0", "D2": "0.1", "buffer": "0.9"}
    assert dict(leg.lists) == {"D1": "digest-1", "D2": "digest-2"}


def test_there_is_no_buffer_before_the_second_stage_is_done() -> None:
    desired = quickstart()
    stage = desired.catalog.stage(desired.campaign, "stage-2")
    assert "buffer" not in mixture_definitions(desired.catalog, desired.campaign, stage, outcomes(desired, "stage-2"))


def test_a_stage_starts_where_its_source_ended() -> None:
    first, second = resolved("stage-1"), resolved("stage-2")
    before = outcomes(quickstart(), "stage-2")[0].recipe
    assert (first.legs[0].load, first.source) == (Load.RANDOM, SourceRecipe())
    assert second.source == SourceRecipe(before.attempt, 0, 1954, "", 1954, 1, stage="stage-1", rate=2e-3)
    assert (second.legs[0].load, second.legs[0].position) == (Load.CONTINUE, 1954)


def test_batch_over_ranks() -> None:
    shapes = [(r.data_parallel, r.accumulation) for r in map(resolved, ("stage-1", "stage-2", "stage-4"))]
    assert shapes == [(1, 4), (2, 2), (4, 1)]


def test_second_leg_goes_on_from_the_first() -> None:
    recipe = resolved("stage-4", 0, quickstart(TWO_LEGS))
    hold, fall = recipe.legs
    assert (hold.tokens, fall.tokens, recipe.tokens) == (200_000, 300_000, 500_000)
    assert (hold.iterations, fall.iterations, recipe.iterations) == (98, 147, 245)
    assert fall.position == hold.position + hold.iterations == 1954 + 977 + 733 + 98
    assert (fall.load, fall.curve.start, fall.curve.end) == (Load.CONTINUE, fall.position, fall.position + 147)


def test_a_stage_of_two_legs_used_the_mean_of_their_mixtures() -> None:
    recipe = resolved("stage-4", 0, quickstart(TWO_LEGS))
    shares = StageOutcome("stage-4", recipe).mixture()
    assert sum(shares.values()) == 1
    assert shares["D0"] == Fraction(33, 100) * Fraction(3, 5)
    assert shares["D2"] == Fraction(2, 5) + Fraction(51, 350) * Fraction(3, 5)


def test_a_rewarm_starts_its_schedule_at_zero() -> None:
    edit = swapped((COOLDOWN_A, COOLDOWN_A.replace("decay: 1-sqrt", "decay: 1-sqrt, rewarm: true, warmup: 10%")))
    (leg,) = resolved("stage-4", 0, quickstart(edit)).legs
    assert (leg.load, leg.position) == (Load.REWARM, 0)
    assert (leg.curve.warmup, leg.curve.start, leg.curve.end) == (25, 25, 245)


def test_a_later_leg_may_rewarm_too() -> None:
    rewarmed = COOLDOWN_A.replace("decay: 1-sqrt", "decay: 1-sqrt, rewarm: true, warmup: 10%")
    desired = quickstart(lambda text: TWO_LEGS(swapped((COOLDOWN_A, rewarmed))(text)))
    hold, fall = resolved("stage-4", 0, desired).legs
    assert (hold.load, hold.position) == (Load.CONTINUE, 1954 + 977 + 733)
    assert (fall.load, fall.position, fall.curve.warmup, fall.curve.end) == (Load.REWARM, 0, 15, 147)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        pytest.param(
            "{path: old/run, checkpoint: {iteration: 500}, format: zero, dataParallel: 768}",
            SourceRecipe(external="old/run", iteration=500, position=500, data_parallel=768, wish="at iteration 500"),
            id="as training saved it",
        ),
        pytest.param(
            "{path: /old/run, checkpoint: {iteration: 500}, format: universal, dataParallel: 768}",
            SourceRecipe(
                external="/old/run",
                iteration=500,
                position=500,
                data_parallel=0,
                universal=True,
                wish="at iteration 500",
            ),
            id="universal, for any size",
        ),
    ],
)
def test_an_external_source(text: str, source: SourceRecipe) -> None:
    edit = swapped(
        ("source: random", f"source: {text}"), ("lr: {shape: constant, warmup: 10%}", "lr: {shape: constant}")
    )
    recipe = resolved("stage-1", 0, quickstart(edit))
    assert recipe.source == source
    assert (recipe.legs[0].load, recipe.legs[0].position) == (Load.CONTINUE, 500)


def test_a_source_without_the_wanted_checkpoint_is_unresolved() -> None:
    edit = swapped(
        (
            "source: {stage: stage-2, checkpoint: pre-cooldown}",
            "source: {stage: stage-2, checkpoint: converged}",
        ),
        ("{D2: 1}\n          lr: {shape: constant}", "{D2: 1}\n          lr: {shape: constant, rewarm: true}"),
        ("{stage-2: 0.30, D2: 0.70}\n          lr: {shape: constant}",
         "{stage-2: 0.30, D2: 0.70}\n          lr: {shape: constant, rewarm: true}"),
        ("{D0: 0.33, D2: 0.33, buffer: 0.34}\n          lr: {shape: constant}",
         "{D0: 0.33, D2: 0.33, buffer: 0.34}\n          lr: {shape: constant, rewarm: true}"),
    )  # fmt: skip
    found = recipe_of("stage-3", 0, quickstart(edit))
    assert isinstance(found, Unresolved)
    assert "stage-2 has no converged checkpoint" in found.message


@pytest.mark.parametrize(
    ("nodes", "ranks", "tensor", "expected"),
    [
        pytest.param(1, 1, 1, 1, id="one rank"),
        pytest.param(2, 2, 1, 4, id="nodes × ranks"),
        pytest.param(2, 2, 2, 2, id="less the model's cut"),
        pytest.param(3, 1, 2, "do not divide", id="ranks that the cut does not divide"),
        pytest.param(3, 1, 1, "change the stage's nodes", id="a batch that the ranks do not divide"),
    ],
)
def test_data_parallel_size(nodes: int, ranks: int, tensor: int, expected: int | str) -> None:
    model = quickstart().model
    cut = model.parallelism.model_copy(update={"tensor": tensor})
    size = data_parallel_size(model.model_copy(update={"parallelism": cut}), nodes, ranks)
    if isinstance(expected, str):
        assert isinstance(size, Unresolved)
        assert expected in size.message
    else:
        assert size == expected


def test_nodes_that_do_not_divide_the_batch_leave_a_stage_unresolved() -> None:
    desired = quickstart()
    manifest = desired.catalog.stage("quickstart", "stage-1")
    odd = manifest.spec.resources.model_copy(update={"nodes": 3})
    stage = manifest.model_copy(update={"spec": manifest.spec.model_copy(update={"resources": odd})})
    found = resolve(desired.catalog, "quickstart", stage, stage.spec.strategies[0], (), {})
    assert isinstance(found, Unresolved)


def test_an_unread_list_has_no_digest_in_the_recipe() -> None:
    desired = quickstart()
    stage = desired.catalog.stage("quickstart", "stage-1")
    recipe = resolve(desired.catalog, "quickstart", stage, stage.spec.strategies[0], (), {})
    assert isinstance(recipe, Recipe)
    assert dict(recipe.legs[0].lists) == {"D0": ""}
    assert replace(recipe, legs=()) == replace(resolved("stage-1"), legs=())
