"""What the rules look at: a campaign's stages in order, each rung resolved as if nothing but its manifests were known.

An earlier stage that something builds on is taken to have been done by its first rung, as in a forecast, or by the one
that a rung's `if: {stage, used}` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from reconciler.domain import buffer, checkpoint, trial
from reconciler.domain.catalog import Catalog
from reconciler.domain.mixture import expand
from reconciler.domain.resolve import StageOutcome, Unresolved, mixture_definitions, resolve
from reconciler.domain.schedule import rate_at, same_rate
from reconciler.model.manifests import CampaignManifest, ClusterManifest, DatasetManifest, ModelManifest, StageManifest
from reconciler.model.problems import Path
from reconciler.model.recipe import LegRecipe, Recipe
from reconciler.model.strategy import ExternalSource, Leg, StageSource, Strategy, UsedStrategy

Source = ExternalSource | StageSource | str


@dataclass(frozen=True, slots=True)
class LegView:
    """One leg with its numbers; without those of the schedule where the rung cannot be resolved yet."""

    spec: Leg
    path: Path
    shares: Mapping[str, Fraction]
    """Dataset symbol → share, buffer and earlier stages expanded."""
    tokens: int | None = None
    begins: float | None = None
    """Rate after warm-up, in terms of the model's batch."""
    ends: float | None = None
    aims: float | None = None
    """Where its decay ends, which may be after it."""
    plateau: bool = False
    """Whether the checkpoint at its end is pre-cooldown."""
    selected: Mapping[str, Fraction] = field(default_factory=dict)
    """Dataset symbol → share of what the buffer selects of it."""

    @property
    def falls(self) -> bool:
        """Whether the rate falls over the leg."""
        known = self.begins is not None and self.ends is not None
        return known and self.ends < self.begins and not same_rate(self.ends, self.begins)  # type: ignore[operator,arg-type]

    def share(self, symbols: tuple[str, ...]) -> Fraction:
        """What all of several datasets make up."""
        return sum((self.shares.get(symbol, Fraction(0)) for symbol in symbols), Fraction(0))


@dataclass(frozen=True, slots=True)
class RungView:
    """One strategy of a stage; of one with a trial, the variant that is chosen or comes first."""

    spec: Strategy
    path: Path
    source: Source
    legs: tuple[LegView, ...]
    recipe: Recipe | None = None

    def naive(self, stage: StageView) -> bool:
        """Whether it trains on nothing but the stage's own data."""
        return all(leg.share((stage.symbol,)) == 1 for leg in self.legs)

    @property
    def falls(self) -> bool:
        """Whether the rate falls anywhere (Strategy 4, and every last stage)."""
        return any(leg.falls for leg in self.legs)

    @property
    def rewarms(self) -> bool:
        """Whether the rate rises again (Strategy 5)."""
        return any(leg.spec.lr.rewarm for leg in self.legs)

    @property
    def plateau(self) -> bool:
        """Whether it leaves a checkpoint at LR max."""
        return any(leg.plateau for leg in self.legs)

    @property
    def number(self) -> int:
        """Place in the ladder, from 0."""
        return int(self.path[-1])

    @property
    def known(self) -> bool:
        """Whether tokens and rates of all legs are known."""
        return self.recipe is not None

    def drawn(self, symbol: str) -> Fraction:
        """Tokens drawn from one dataset over all legs whose tokens are known."""
        return sum((leg.shares.get(symbol, Fraction(0)) * (leg.tokens or 0) for leg in self.legs), Fraction(0))


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage, with what came before it."""

    manifest: StageManifest
    symbol: str
    """Of the dataset that is new in it."""
    earlier: tuple[str, ...]
    """Symbols of all data before it."""
    buffer: tuple[str, ...]
    """Symbols of what the buffer holds at it."""
    rungs: tuple[RungView, ...]
    number: int
    """Place in the campaign, from 0."""
    last: bool

    @property
    def name(self) -> str:
        return self.manifest.metadata.name

    @property
    def strong(self) -> bool:
        return self.manifest.spec.shift == "strong" and bool(self.earlier)

    @property
    def outcome(self) -> StageOutcome | None:
        """What it is taken to come to: its first rung that can be resolved."""
        recipe = next((rung.recipe for rung in self.rungs if rung.recipe is not None), None)
        return StageOutcome(self.name, recipe) if recipe is not None else None


@dataclass(frozen=True, slots=True)
class LoggedRate:
    """The learning rate that the launcher logged at the checkpoint that a stage starts from, and the declared one."""

    source: str
    """Where the checkpoint lies, for people."""
    iteration: int
    logged: float
    declared: float
    step: float = 0.0
    """What the declared rate changes by in one iteration there; the log may show either side."""


@dataclass(frozen=True, slots=True)
class CampaignView:
    """A campaign about which nothing else is wrong."""

    catalog: Catalog
    manifest: CampaignManifest
    model: ModelManifest
    cluster: ClusterManifest
    stages: tuple[StageView, ...]
    datasets: Mapping[str, DatasetManifest]
    """By symbol."""
    logged: Mapping[str, LoggedRate] = field(default_factory=dict)
    """Stage → what was logged at its source; empty before the first look at a cluster."""

    @property
    def name(self) -> str:
        return self.manifest.metadata.name

    @property
    def lr_max(self) -> float:
        return float(self.manifest.spec.learning_rate.max)

    @property
    def lr_final(self) -> float:
        return float(self.manifest.spec.learning_rate.final)

    def size(self, symbol: str) -> int:
        """Tokens of a dataset."""
        return self.datasets[symbol].spec.tokens

    def selection(self, symbol: str) -> int | None:
        """Most tokens that the buffer selects of a dataset; None where it takes all of it or only the cluster knows."""
        chosen = self.manifest.spec.buffer.select.get(symbol)
        return None if chosen is None or chosen.cap is None else min(chosen.cap, self.size(symbol))

    def passes(self, symbol: str) -> Decimal:
        """How often a dataset may be seen."""
        return self.datasets[symbol].spec.max_epochs

    def rungs(self) -> Iterator[tuple[StageView, RungView]]:
        """Every rung of every stage."""
        for stage in self.stages:
            for rung in stage.rungs:
                yield stage, rung

    def stage(self, name: str) -> StageView | None:
        """The stage of that name."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def before(self, stage: StageView) -> tuple[StageView, ...]:
        """The stages before one."""
        return self.stages[: stage.number]


def view_of(catalog: Catalog, campaign: str, logged: Mapping[str, LoggedRate] | None = None) -> CampaignView:
    """The campaign as the rules look at it; every reference of it must hold."""
    manifest = catalog.campaign(campaign)
    stages: list[StageView] = []
    for stage in catalog.stages(campaign):
        stages.append(_stage(catalog, manifest, stage, stages))
    model, cluster = catalog.model_of(campaign), catalog.cluster_of(campaign)
    return CampaignView(catalog, manifest, model, cluster, tuple(stages), catalog.datasets(campaign), logged or {})


def _stage(catalog: Catalog, campaign: CampaignManifest, stage: StageManifest, before: list[StageView]) -> StageView:
    own, name = catalog.dataset_of(stage).spec.symbol, campaign.metadata.name
    introduced = catalog.introduced(name, stage.metadata.name)
    rungs = tuple(_rung(catalog, campaign, stage, index, before) for index in range(len(stage.spec.strategies)))
    return StageView(
        manifest=stage,
        symbol=own,
        earlier=tuple(symbol for symbol in introduced if symbol != own),
        buffer=catalog.buffer_at(name, stage.metadata.name),
        rungs=rungs,
        number=len(before),
        last=campaign.spec.stages[-1] == stage.metadata.name,
    )


def _rung(
    catalog: Catalog, campaign: CampaignManifest, stage: StageManifest, index: int, before: list[StageView]
) -> RungView:
    path: Path = ("spec", "strategies", index)
    strategy = trial.assumed(stage.spec.strategies[index])
    source, name = stage.spec.source_of(strategy), campaign.metadata.name
    terms = {term for leg in strategy.legs for term in leg.mixture}
    needed = [b for b in before if b.name in terms or (isinstance(source, StageSource) and b.name == source.stage)]
    outcomes = _outcomes(needed, strategy)
    recipe = resolve(catalog, name, stage, strategy, outcomes, {}) if len(outcomes) == len(needed) else None
    if recipe is None or isinstance(recipe, Unresolved):
        shares = _shares(catalog, name, stage, strategy, needed, outcomes)
        legs = [LegView(leg, (*path, "legs", number), shares[number]) for number, leg in enumerate(strategy.legs)]
        return RungView(stage.spec.strategies[index], path, source, tuple(legs))
    lr_max = float(campaign.spec.learning_rate.max)
    found = tuple(
        _leg(leg, (*path, "legs", number), recipe, recipe.legs[number], checkpoint.pre_cooldown(recipe, number, lr_max))
        for number, leg in enumerate(strategy.legs)
    )
    return RungView(stage.spec.strategies[index], path, source, found, recipe)


def _outcomes(before: Sequence[StageView], strategy: Strategy) -> list[StageOutcome]:
    """What earlier stages are taken to have come to; fewer than there are where one cannot be resolved."""
    found = []
    for stage in before:
        wanted = strategy.if_
        used = wanted.used if isinstance(wanted, UsedStrategy) and wanted.stage == stage.name else ()
        recipes = [rung.recipe for rung in stage.rungs if rung.spec.name in used and rung.recipe is not None]
        outcome = StageOutcome(stage.name, recipes[0]) if recipes else stage.outcome
        if outcome is not None:
            found.append(outcome)
    return found


def _leg(leg: Leg, path: Path, recipe: Recipe, made: LegRecipe, plateau: bool) -> LegView:
    curve, end = made.curve, made.position + made.iterations
    begins = rate_at(curve, max(made.position, curve.warmup)) / recipe.rate_scale
    ends = rate_at(curve, end) / recipe.rate_scale
    shares = _datasets({label: Fraction(share) for label, share in made.mixture.items()})
    selected = {
        buffer.dataset_of(label): Fraction(share)
        for label, share in made.mixture.items()
        if label != buffer.dataset_of(label)
    }
    return LegView(leg, path, shares, made.tokens, begins, ends, curve.low / recipe.rate_scale, plateau, selected)


def _shares(
    catalog: Catalog,
    campaign: str,
    stage: StageManifest,
    strategy: Strategy,
    before: Sequence[StageView],
    outcomes: Sequence[StageOutcome],
) -> list[dict[str, Fraction]]:
    """The mixtures of a rung that cannot be resolved, or builds on one that cannot: of that, the first leg's."""
    terms = {earlier.name: dict(earlier.rungs[0].legs[0].shares) for earlier in before}
    terms |= mixture_definitions(catalog, campaign, stage, outcomes)
    return [_datasets(expand(leg.mixture, terms)) for leg in strategy.legs]


def _datasets(shares: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """By symbol: the buffer's selection of a dataset counts as the dataset."""
    found: dict[str, Fraction] = {}
    for label, share in shares.items():
        symbol = buffer.dataset_of(label)
        found[symbol] = found.get(symbol, Fraction(0)) + share
    return found
