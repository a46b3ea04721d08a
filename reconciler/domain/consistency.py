"""What must hold inside one stage or model beyond its shape, and between a stage and its campaign's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

from reconciler.domain.catalog import Catalog
from reconciler.model.manifests import (
    CampaignSpec,
    ExternalSource,
    Leg,
    Manifest,
    ModelManifest,
    StageManifest,
    StageSource,
    Strategy,
)
from reconciler.model.problems import Path, Problem, clip
from reconciler.model.quantities import Rate, format_tokens, format_walltime


def model(catalog: Catalog, manifest: ModelManifest) -> Iterator[Problem]:
    """Validation sets are told apart by name."""
    names = [validation.name for validation in manifest.spec.validation.sets]
    yield from _same_names(catalog, manifest, ("spec", "validation", "sets"), names, "validation sets")


def stage(catalog: Catalog, manifest: StageManifest) -> Iterator[Problem]:
    """Names, weights and tokens of a stage's strategies; learning rates where the campaign is known."""
    names = [strategy.name for strategy in manifest.spec.strategies]
    yield from _same_names(catalog, manifest, ("spec", "strategies"), names, "strategies")
    known = manifest.spec.campaign in catalog.campaigns
    campaign = catalog.campaign(manifest.spec.campaign).spec if known else None
    for rung, strategy in enumerate(manifest.spec.strategies):
        path: Path = ("spec", "strategies", rung, "legs")
        for number, leg in enumerate(strategy.legs):
            yield from _weights(catalog, manifest, (*path, number, "mixture"), leg)
        yield from _tokens(catalog, manifest, path, strategy)
        yield from _warmups(catalog, manifest, path, strategy)
        if campaign is not None:
            yield from _rates(catalog, manifest, path, strategy, campaign)


def on_cluster(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    """What the campaign's cluster and model allow a stage's jobs."""
    cluster, spec = catalog.cluster_of(campaign), catalog.model_of(campaign).spec
    for manifest in catalog.stages(campaign):
        wanted = manifest.spec.resources
        scheduler = cluster.spec.scheduler
        if wanted.queue in (None, scheduler.queue) and wanted.walltime > scheduler.max_walltime:
            there = catalog.where(cluster, "spec", "scheduler", "maxWalltime")
            yield Problem(
                "M054",
                catalog.where(manifest, "spec", "resources", "walltime"),
                f"stage {manifest.metadata.name}, queue {scheduler.queue} of {cluster.metadata.name}",
                format_walltime(math.ceil(wanted.walltime)),
                f"at most {format_walltime(int(scheduler.max_walltime))}",
                related=((there, "the queue's limit"),),
            )
        ranks, cut = wanted.nodes * cluster.spec.node.ranks, spec.parallelism.tensor * spec.parallelism.pipeline
        if ranks % cut or spec.batch.global_ % (spec.batch.micro * (ranks // cut)):
            yield Problem(
                "M059",
                catalog.where(manifest, "spec", "resources", "nodes"),
                f"stage {manifest.metadata.name}",
                f"{wanted.nodes} nodes × {cluster.spec.node.ranks} ranks, model cut in {cut}, "
                f"micro batch {spec.batch.micro}, global batch {spec.batch.global_}",
                "a global batch that is a multiple of micro batch × data-parallel ranks",
            )


def _same_names(catalog: Catalog, manifest: Manifest, path: Path, names: Iterable[str], what: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        earlier = first.setdefault(name, index)
        if earlier != index:
            there = catalog.where(manifest, *path, earlier, "name")
            where = catalog.where(manifest, *path, index, "name")
            yield Problem("M051", where, f"two {what} are called {name}", related=((there, "the first"),))


def _weights(catalog: Catalog, manifest: StageManifest, path: Path, leg: Leg) -> Iterator[Problem]:
    # Fractions: a sum of decimals would be rounded to 28 digits, and 1 + 1e-30 would pass.
    total = sum((Fraction(weight) for weight in leg.mixture.values()), Fraction(0))
    if total == 1:
        return
    terms = " + ".join(f"{term} {_written(Fraction(weight))}" for term, weight in leg.mixture.items())
    expected = f"exactly 1; {_written(abs(1 - total))} {'is missing' if total < 1 else 'too much'}"
    yield Problem("M047", catalog.where(manifest, *path), terms, f"a sum of {_written(total)}", expected)


def _written(value: Fraction) -> str:
    """A sum of decimals with all its digits, or with an exponent where those are too many to read."""
    with localcontext(prec=1000):
        exact = (Decimal(value.numerator) / Decimal(value.denominator)).normalize()
        plain = f"{exact:f}"
        return plain if len(plain) <= 24 else clip(f"{exact:e}", 40)


def _tokens(catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy) -> Iterator[Problem]:
    budget = manifest.spec.tokens
    declared = [leg.tokens for leg in strategy.legs if leg.tokens is not None]
    undeclared = [number for number, leg in enumerate(strategy.legs) if leg.tokens is None]
    where = catalog.where(manifest, *path, key=True)
    expected = f"{format_tokens(budget)}, the stage's tokens"
    if len(undeclared) > 1:
        legs = ", ".join(str(number) for number in undeclared)
        detail = f"strategy {strategy.name}: legs {legs} leave their tokens out"
        yield Problem("M048", where, detail, expected="at most one leg without tokens")
    elif undeclared and sum(declared) >= budget:
        detail = f"strategy {strategy.name}: nothing is left for leg {undeclared[0]}"
        yield Problem("M048", where, detail, format_tokens(sum(declared)), f"less than {expected}")
    elif not undeclared and sum(declared) != budget:
        detail = f"strategy {strategy.name}"
        yield Problem("M048", where, detail, f"a sum of {format_tokens(sum(declared))}", expected)


def _warmups(catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy) -> Iterator[Problem]:
    for number, leg in enumerate(strategy.legs):
        begins = number == 0 and manifest.spec.source == "random"
        if leg.lr.warmup > 0 and not leg.lr.rewarm and not begins:
            where = catalog.where(manifest, *path, number, "lr", "warmup")
            detail = f"leg {number} of strategy {strategy.name} warms up, but does not start from random weights"
            yield Problem("M053", where, detail, fix="Leave warmup out, or add rewarm: true.")


def _rates(
    catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy, campaign: CampaignSpec
) -> Iterator[Problem]:
    def value(rate: Rate) -> Fraction:
        return rate.resolve(campaign.learning_rate.max, campaign.learning_rate.final)

    source = manifest.spec.source
    converged = isinstance(source, StageSource) and source.checkpoint == "converged"
    if converged and not strategy.legs[0].lr.rewarm:
        where = catalog.where(manifest, *path, 0, "lr", key=True)
        fix = "Add rewarm: true, or take the pre-cooldown checkpoint."
        yield Problem("M055", where, f"strategy {strategy.name} of stage {manifest.metadata.name}", fix=fix)
    # Where an external or a converged checkpoint ended is not known here; anything else ended at LR max.
    ended: Rate | None = None if converged or isinstance(source, ExternalSource) else Rate("lrMax", Decimal(1))
    for number, leg in enumerate(strategy.legs):
        here = (*path, number, "lr")
        if ended is not None and not leg.lr.rewarm and value(leg.lr.at) != value(ended):
            before = "the source" if number == 0 else f"leg {number - 1}"
            yield Problem(
                "M056",
                catalog.where(manifest, *here, "at"),
                f"leg {number} of strategy {strategy.name} begins at {leg.lr.at}, but {before} ended at {ended}",
                str(leg.lr.at),
                str(ended),
                f"Write at: {ended}, or add rewarm: true if the rate is meant to change.",
            )
        if leg.lr.shape != "constant" and value(leg.lr.to) > value(leg.lr.at):
            where = catalog.where(manifest, *here, "to")
            detail = f"leg {number} of strategy {strategy.name}"
            yield Problem("M058", where, detail, f"from {leg.lr.at} to {leg.lr.to}", "a rate that falls")
        ended = leg.lr.at if leg.lr.shape == "constant" else leg.lr.to
