"""Manifests → recipes: one rung of one stage, with nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

from reconciler.domain import batch, budget, buffer, checkpoint
from reconciler.domain.catalog import Catalog
from reconciler.domain.mixture import expand
from reconciler.domain.outside import Outside, declared
from reconciler.domain.schedule import NamedRates, rate_at, same_rate
from reconciler.domain.stretches import DoesNotFit, Steps, Stretch, Strip
from reconciler.model.manifests import BUFFER, CampaignSpec, ModelSpec, StageManifest
from reconciler.model.quantities import format_decimal
from reconciler.model.recipe import RECIPE_VERSION, LegRecipe, Load, Recipe, SourceRecipe
from reconciler.model.strategy import ExternalSource, Leg, StageSource, Strategy

NO_PARTS: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """A stage that is done, or is taken to be for a forecast: the recipe that it was trained by."""

    stage: str
    recipe: Recipe
    saved: Mapping[int, tuple[int, ...]] | None = None
    """Iterations of its complete checkpoints, by leg; None while they are still to come."""

    def mixture(self) -> dict[str, Fraction]:
        """Source → share of the stage's tokens, over all legs: the mixture it really used."""
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
    unread: bool = False
    """It is only that something could not be read: the next look may tell."""


def data_parallel_size(
    model: ModelSpec, nodes: int, ranks_per_node: int, global_batch: int | None = None
) -> int | Unresolved:
    """World size over the model-parallel cut; the batch must divide over it (launcher contract 1.2)."""
    world, cut = nodes * ranks_per_node, model.parallelism.tensor * model.parallelism.pipeline
    if world % cut:
        return Unresolved(f"{world} ranks do not divide into model replicas of {cut}")
    size, whole = world // cut, global_batch or model.batch.global_
    if whole % (model.batch.micro * size):
        return Unresolved(
            f"global batch {whole} is not a multiple of micro batch {model.batch.micro} × {size} "
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
    parts: Mapping[str, int] = NO_PARTS,
    outside: Outside | None = None,
    kept: SourceRecipe | None = None,
) -> Recipe | Unresolved:
    """The recipe of one rung.

    `before` holds the outcomes of all earlier stages in order; `lists` maps sources to content digests; `parts` maps
    the buffer's selections to the tokens they hold, as far as the cluster has told. `outside` is a source made
    elsewhere as it was found there; `kept` one that an attempt of the stage was begun with.
    """
    spec, model = catalog.campaign(campaign).spec, catalog.model_of(campaign).spec
    own = batch.of(model, strategy)
    if own is None:
        return Unresolved(batch.not_whole(model, strategy))
    size = _ranks(catalog, campaign, stage, own)
    if isinstance(size, Unresolved):
        return size
    begin = _begin(catalog, campaign, stage, strategy, before, own, outside, kept)
    if isinstance(begin, Unresolved):
        return begin
    save_every = budget.save_interval(model.checkpoint_every, model.batch.global_, own)
    if stage.spec.adopted is not None:
        save_every = budget.NO_INTERVAL  # where it ended is not for us to choose
    steps = Steps(own * model.sequence_length, save_every)
    found = _stretches(spec, model, stage, strategy, begin, steps)
    if isinstance(found, Unresolved):
        return found
    named = {term for leg in strategy.legs for term in leg.mixture}
    replayed = [outcome for outcome in before if outcome.stage in named]
    terms = mixture_definitions(catalog, campaign, stage, replayed, parts)
    trained_by = model.model_dump(exclude={"validation", "checkpoint_every"})
    trained_by["batch"]["global_"] = own
    return Recipe(
        version=RECIPE_VERSION,
        campaign=campaign,
        stage=stage.metadata.name,
        strategy=strategy.name,
        model=_plain(trained_by),
        data_parallel=size,
        accumulation=own // (model.batch.micro * size),
        tokens=stage.spec.tokens,
        source=begin.source,
        legs=tuple(
            _leg(leg, stretch, expand(leg.mixture, terms), lists, _load(begin, leg, index))
            for index, (leg, stretch) in enumerate(zip(strategy.legs, found, strict=True))
        ),
        rate_scale=batch.rate_scale(strategy),
    )


@dataclass(frozen=True, slots=True)
class _Begin:
    """What a stage starts from."""

    source: SourceRecipe
    made_by: Recipe | None = None
    """The recipe of the attempt that made it."""
    batch: int | None = None
    """The global batch that it was trained with; None for random weights."""

    @property
    def is_random(self) -> bool:
        return self.batch is None


def _ranks(catalog: Catalog, campaign: str, stage: StageManifest, own: int) -> int | Unresolved:
    """Data-parallel size: what the stage's nodes come to, or what an adopted one was saved by."""
    if stage.spec.adopted is not None and stage.spec.adopted.data_parallel is not None:
        return stage.spec.adopted.data_parallel
    ranks = catalog.cluster_of(campaign).spec.node.ranks
    return data_parallel_size(catalog.model_of(campaign).spec, stage.spec.resources.nodes, ranks, own)


def _begin(
    catalog: Catalog,
    campaign: str,
    stage: StageManifest,
    strategy: Strategy,
    before: Sequence[StageOutcome],
    own: int,
    outside: Outside | None,
    kept: SourceRecipe | None,
) -> _Begin | Unresolved:
    spec, model = catalog.campaign(campaign).spec, catalog.model_of(campaign).spec
    wanted = stage.spec.source_of(strategy)
    if isinstance(wanted, StageSource):
        outcome = next(outcome for outcome in before if outcome.stage == wanted.stage)
        made_by = outcome.recipe
        if kept is not None and (kept.leg >= len(made_by.legs) or kept.attempt != made_by.maker(kept.leg)):
            kept = None
        adopted = catalog.stage(campaign, wanted.stage).spec.adopted
        every = budget.save_interval(model.checkpoint_every, model.batch.global_, made_by.global_batch)
        saved = checkpoint.foreseen(made_by, wanted, every) if outcome.saved is None else outcome.saved
        rates = NamedRates(max=spec.learning_rate.max, final=spec.learning_rate.final)
        found = kept or checkpoint.chosen(made_by, wanted, rates, saved)
        if isinstance(found, str):
            return Unresolved(found)
        if adopted is not None:
            if not checkpoint.is_end(made_by, found):
                wish = checkpoint.named(wanted.checkpoint)
                return Unresolved(f"{wanted.stage} is adopted at iteration {adopted.iteration}, after {wish} of it")
            found = checkpoint.adopted_as(found, adopted)
        begin = _Begin(found, made_by, made_by.global_batch)
    elif isinstance(wanted, ExternalSource):
        made = outside or (Outside(kept, model.batch.global_) if kept is not None else declared(wanted, model))
        if isinstance(made, str):
            return Unresolved(made)
        begin = _Begin(made.source, None, made.batch)
    else:
        return _Begin(SourceRecipe())
    if kept is not None:
        return begin  # it was placed when it was chosen
    placed = batch.placed(begin.source, begin.batch or own, own, strategy)
    return Unresolved(placed) if isinstance(placed, str) else replace(begin, source=placed)


def _stretches(
    spec: CampaignSpec, model: ModelSpec, stage: StageManifest, strategy: Strategy, begin: _Begin, steps: Steps
) -> tuple[Stretch, ...] | Unresolved:
    """The legs' lengths and curves, each beginning at the rate where what it continues from ended."""
    own = steps.tokens // model.sequence_length
    same_batch = begin.batch == own
    rates = NamedRates(
        max=spec.learning_rate.max,
        final=spec.learning_rate.final,
        source=begin.source.rate,
        scale=batch.rate_scale(strategy),
        source_scale=1.0 if begin.batch is None else batch.rate_scale(strategy, Fraction(own, begin.batch)),
    )
    curve = begin.made_by.legs[begin.source.leg].curve if begin.made_by is not None and same_batch else None
    where = f"strategy {strategy.name} of stage {stage.metadata.name}"
    first = strategy.legs[0].lr
    if first.shape == "continue" and begin.made_by is not None and not same_batch:
        return Unresolved(f"{where}: a decay that began with a global batch of {begin.batch} goes on with that batch")
    asks = [rate for leg in strategy.legs for rate in (leg.lr.at, leg.lr.to, leg.lr.until) if rate is not None]
    if begin.source.rate is None and any(rate.of == "lrSource" for rate in asks):
        return Unresolved(f"{where} asks for lrSource; its source says no rate: write `rate` beside its path")
    try:
        found = Strip(rates, steps, begin.source.position, curve).stretches(strategy.legs, stage.spec.tokens)
    except DoesNotFit as problem:
        return Unresolved(f"{where}: {problem}")
    # What an adopted stage did is over: it may have jumped, and is not asked why.
    jump = "" if stage.spec.adopted else _jump(stage, strategy, begin, rates, found, same_batch=same_batch)
    return Unresolved(f"{where}: {jump}") if jump else found


def _jump(
    stage: StageManifest,
    strategy: Strategy,
    begin: _Begin,
    rates: NamedRates,
    found: Sequence[Stretch],
    *,
    same_batch: bool,
) -> str:
    """Where a rate changes that nobody said is meant to; empty if nowhere."""
    wanted = stage.spec.source_of(strategy)
    ended = None if begin.source.rate is None else begin.source.rate * rates.source_scale
    # Going on from a converged checkpoint as it is, is a warning; and a batch that changes takes its rate along.
    if (isinstance(wanted, StageSource) and wanted.checkpoint == "converged") or not (same_batch or strategy.batch):
        ended = None
    for number, (leg, stretch) in enumerate(zip(strategy.legs, found, strict=True)):
        starts = rate_at(stretch.curve, max(stretch.position, stretch.curve.warmup))
        if ended is not None and not leg.lr.rewarm and not same_rate(ended, starts):
            before = f"leg {number - 1} ends" if number else "its source stands"
            return (
                f"leg {number} begins at {starts:.4g}, but {before} at {ended:.4g}; "
                "begin there (`lrSource` is the source's rate), or add rewarm: true if the rate is meant to change"
            )
        ended = rate_at(stretch.curve, stretch.position + stretch.iterations)
    return ""


def _leg(
    leg: Leg, stretch: Stretch, mixture: Mapping[str, Fraction], lists: Mapping[str, str], load: Load
) -> LegRecipe:
    drawn = {symbol: share for symbol, share in mixture.items() if share}
    return LegRecipe(
        terms={term: format_decimal(weight) for term, weight in leg.mixture.items()},
        mixture={symbol: str(share) for symbol, share in drawn.items()},
        lists={symbol: lists.get(symbol, "") for symbol in drawn},
        tokens=stretch.tokens,
        iterations=stretch.iterations,
        position=stretch.position,
        curve=stretch.curve,
        load=load,
    )


def mixture_definitions(
    catalog: Catalog,
    campaign: str,
    stage: StageManifest,
    before: Sequence[StageOutcome],
    parts: Mapping[str, int] = NO_PARTS,
) -> dict[str, dict[str, Fraction]]:
    """What the terms `buffer` and earlier stages' names stand for at this stage, as shares of sources."""
    definitions = {outcome.stage: outcome.mixture() for outcome in before}
    of = catalog.campaign(campaign).spec.buffer
    sizes: dict[str, int] = {}
    for symbol in catalog.buffer_at(campaign, stage.metadata.name):
        whole = catalog.dataset_by_symbol(campaign, symbol).spec.tokens
        cap = of.select[symbol].cap if symbol in of.select else None
        # Until the list and its scores have been read, a selection is taken to be what it may be at most.
        sizes[symbol] = parts.get(buffer.label_in(of, symbol), min(whole, cap or whole))
    shares = buffer.composition(sizes, of)
    if shares:
        definitions[BUFFER] = {buffer.label_in(of, symbol): share for symbol, share in shares.items()}
    return definitions


def _load(begin: _Begin, leg: Leg, index: int) -> Load:
    if leg.lr.rewarm:
        return Load.REWARM
    return Load.RANDOM if index == 0 and begin.is_random else Load.CONTINUE


def _plain(value: Any) -> Any:
    """JSON's own types: decimals become floats, so that 0.90 and 0.9 are one recipe."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return float(value) if isinstance(value, Decimal) else value
