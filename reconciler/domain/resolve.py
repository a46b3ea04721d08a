"""Manifests → recipes: one rung of one stage, with nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from reconciler.domain import budget, buffer, checkpoint, schedule
from reconciler.domain.catalog import Catalog
from reconciler.domain.mixture import expand
from reconciler.model.manifests import BUFFER, ExternalSource, Leg, ModelSpec, StageManifest, StageSource, Strategy
from reconciler.model.quantities import format_decimal
from reconciler.model.recipe import RECIPE_VERSION, LegRecipe, Load, Recipe, SourceRecipe


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """A stage that is done, or is taken to be for a forecast: the recipe that it was trained by."""

    stage: str
    recipe: Recipe

    def mixture(self) -> dict[str, Fraction]:
        """Dataset symbol → share of the stage's tokens, over all legs: the mixture it really used."""
        shares: dict[str, Fraction] = {}
        for leg in self.recipe.legs:
            weight = Fraction(leg.tokens, self.recipe.tokens)
            for symbol, share in leg.mixture.items():
                shares[symbol] = shares.get(symbol, Fraction(0)) + weight * Fraction(share)
        return shares


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why a stage has no recipe; a person must change a manifest."""

    message: str


def data_parallel_size(model: ModelSpec, nodes: int, ranks_per_node: int) -> int | Unresolved:
    """World size over the model-parallel cut; the batch must divide over it (launcher contract 1.2)."""
    world, cut = nodes * ranks_per_node, model.parallelism.tensor * model.parallelism.pipeline
    if world % cut:
        return Unresolved(f"{world} ranks do not divide into model replicas of {cut}")
    size = world // cut
    if model.batch.global_ % (model.batch.micro * size):
        return Unresolved(
            f"global batch {model.batch.global_} is not a multiple of micro batch {model.batch.micro} × {size} "
            "data-parallel ranks; change the stage's nodes"
        )
    return size


def resolve(
    catalog: Catalog,
    campaign: str,
    stage: StageManifest,
    strategy: Strategy,
    before: Sequence[StageOutcome],
    lists: Mapping[str, str],
) -> Recipe | Unresolved:
    """The recipe of one rung.

    `before` holds the outcomes of all earlier stages in order; `lists` maps dataset symbols to content digests.
    """
    model = catalog.model_of(campaign).spec
    size = data_parallel_size(model, stage.spec.resources.nodes, catalog.cluster_of(campaign).spec.node.ranks)
    if isinstance(size, Unresolved):
        return size
    source = _source(stage, before, float(catalog.campaign(campaign).spec.learning_rate.max))
    if isinstance(source, Unresolved):
        return source
    legs = _legs(catalog, campaign, stage, strategy, before, lists, source)
    return Recipe(
        version=RECIPE_VERSION,
        campaign=campaign,
        stage=stage.metadata.name,
        strategy=strategy.name,
        model=_plain(model.model_dump(exclude={"validation", "checkpoint_every"})),
        data_parallel=size,
        accumulation=model.batch.global_ // (model.batch.micro * size),
        tokens=stage.spec.tokens,
        source=source,
        legs=legs,
    )


def _source(stage: StageManifest, before: Sequence[StageOutcome], lr_max: float) -> SourceRecipe | Unresolved:
    wanted = stage.spec.source
    if isinstance(wanted, StageSource):
        outcome = next(outcome for outcome in before if outcome.stage == wanted.stage)
        found = checkpoint.chosen(outcome.recipe, wanted, lr_max)
        return Unresolved(found) if isinstance(found, str) else found
    if isinstance(wanted, ExternalSource):
        return SourceRecipe(
            external=wanted.path,
            iteration=wanted.iteration,
            position=wanted.iteration,
            data_parallel=0 if wanted.format == "universal" else wanted.data_parallel or 0,
        )
    return SourceRecipe()


def _legs(
    catalog: Catalog,
    campaign: str,
    stage: StageManifest,
    strategy: Strategy,
    before: Sequence[StageOutcome],
    lists: Mapping[str, str],
    source: SourceRecipe,
) -> tuple[LegRecipe, ...]:
    model, rates = catalog.model_of(campaign).spec, catalog.campaign(campaign).spec.learning_rate
    definitions = mixture_definitions(catalog, campaign, stage, before)
    position = source.position
    legs: list[LegRecipe] = []
    shares = budget.legs_tokens(stage.spec.tokens, tuple(leg.tokens for leg in strategy.legs))
    for index, (leg, tokens) in enumerate(zip(strategy.legs, shares, strict=True)):
        load = _load(stage, leg, index)
        position = 0 if load is Load.REWARM else position
        iterations = budget.iterations_for(tokens, model.tokens_per_iteration, model.checkpoint_every)
        mixture = expand(leg.mixture, definitions)
        curve = schedule.curve_of(
            leg.lr, lr_max=rates.max, lr_final=rates.final, position=position, iterations=iterations
        )
        legs.append(
            LegRecipe(
                terms={term: format_decimal(weight) for term, weight in leg.mixture.items()},
                mixture={symbol: str(share) for symbol, share in mixture.items() if share},
                lists={symbol: lists.get(symbol, "") for symbol, share in mixture.items() if share},
                tokens=tokens,
                iterations=iterations,
                position=position,
                curve=curve,
                load=load,
            )
        )
        position += iterations
    return tuple(legs)


def mixture_definitions(
    catalog: Catalog, campaign: str, stage: StageManifest, before: Sequence[StageOutcome]
) -> dict[str, dict[str, Fraction]]:
    """What the terms `buffer` and earlier stages' names stand for at this stage, as shares of datasets."""
    definitions = {outcome.stage: outcome.mixture() for outcome in before}
    sizes = {
        symbol: catalog.dataset_by_symbol(campaign, symbol).spec.tokens
        for symbol in catalog.buffer_at(campaign, stage.metadata.name)
    }
    if sizes:
        definitions[BUFFER] = buffer.composition(sizes, catalog.campaign(campaign).spec.buffer.composition)
    return definitions


def _load(stage: StageManifest, leg: Leg, index: int) -> Load:
    if leg.lr.rewarm:
        return Load.REWARM
    return Load.RANDOM if index == 0 and stage.spec.source == "random" else Load.CONTINUE


def _plain(value: Any) -> Any:
    """JSON's own types: decimals become floats, so that 0.90 and 0.9 are one recipe."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return float(value) if isinstance(value, Decimal) else value
