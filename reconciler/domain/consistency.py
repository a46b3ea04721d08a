"""What must hold inside one stage or model beyond its shape, and between a stage and its campaign's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Final

from reconciler.domain import batch, policies
from reconciler.domain.budget import usable_seconds
from reconciler.domain.catalog import Catalog, source_places
from reconciler.domain.ladder import few_variants, mixtures
from reconciler.model.manifests import (
    CampaignManifest,
    CampaignSpec,
    ClusterManifest,
    Manifest,
    ModelManifest,
    StageManifest,
)
from reconciler.model.problems import Path, Problem, clip, path_text
from reconciler.model.quantities import Rate, format_decimal, format_walltime
from reconciler.model.strategy import ExternalSource, Strategy

RATE_MAX: Final = Decimal(1)
RATE_WARNED: Final = Decimal("0.1")
"""Ten times the greatest rate that published AdamW runs of transformers use."""


def campaign(catalog: Catalog, manifest: CampaignManifest) -> Iterator[Problem]:
    """Learning rates that a person can have meant."""
    rates = manifest.spec.learning_rate
    for name, rate in (("max", rates.max), ("final", rates.final)):
        yield from _plausible(catalog, manifest, ("spec", "learningRate", name), rate)


def _plausible(catalog: Catalog, manifest: Manifest, path: Path, rate: Decimal) -> Iterator[Problem]:
    if rate <= RATE_WARNED or catalog.doubts(manifest, *path):
        return
    where, found = catalog.where(manifest, *path), f"the number {clip(format_decimal(rate), 40)}"
    if rate > RATE_MAX:
        turned = rate.scaleb(-2 * rate.adjusted()).normalize()
        fix = f"Is the minus of an exponent missing? {turned:e} would be a rate." if 1 <= rate.adjusted() <= 7 else None
        expected = f"at most {RATE_MAX}; a rate of AdamW is usually between 1e-5 and 1e-2"
        yield Problem("M027", where, path_text(path), found, expected, fix)
    else:
        yield Problem("M061", where, path_text(path), found, "usually between 1e-5 and 1e-2")


def model(catalog: Catalog, manifest: ModelManifest) -> Iterator[Problem]:
    """Validation sets are told apart by name; attention splits the width evenly over its heads."""
    shape, at = manifest.spec.architecture, ("spec", "architecture")
    for name, whole, part, parts in (
        ("hidden", shape.hidden, "heads", shape.heads),
        ("heads", shape.heads, "kvHeads", shape.kv_heads),
    ):
        if whole % parts and not any(catalog.doubts(manifest, *at, field) for field in (name, part)):
            detail = f"{name} is not a multiple of {part}"
            found = f"{name} {whole}, {part} {parts}; {whole % parts} left over"
            yield Problem("M028", catalog.where(manifest, *at, part), detail, found, f"a number that divides {whole}")
    names = [validation.name for validation in manifest.spec.validation.sets]
    yield from _same_names(catalog, manifest, ("spec", "validation", "sets"), names, "validation sets")


def stage(catalog: Catalog, manifest: StageManifest) -> Iterator[Problem]:
    """Names, weights and tokens of a stage's strategies; learning rates where the campaign is known."""
    names = [strategy.name for strategy in manifest.spec.strategies]
    yield from _same_names(catalog, manifest, ("spec", "strategies"), names, "strategies")
    known = manifest.spec.campaign in catalog.campaigns
    of = catalog.campaign(manifest.spec.campaign) if known else None
    rates = of.spec if of is not None and not catalog.doubts(of, "spec", "learningRate") else None
    for at, source in source_places(manifest):
        if isinstance(source, ExternalSource) and source.rate is not None:
            yield from _plausible(catalog, manifest, (*at, "rate"), source.rate)
    stands: policies.Known = {}
    for rung, strategy in enumerate(manifest.spec.strategies):
        path: Path = ("spec", "strategies", rung, "legs")
        for within, mixture in mixtures(strategy):
            yield from _weights(catalog, manifest, ("spec", "strategies", rung, *within), mixture)
        yield from policies.tokens(catalog, manifest, path, strategy)
        own = [("spec", "strategies", rung, name) for name in ("source", "batch")]
        follows_from = [("spec", "source"), *own, *((*path, number, "lr") for number in range(len(strategy.legs)))]
        # The rate at which a leg begins follows from all that comes before it.
        if not any(catalog.doubts(manifest, *at) for at in follows_from):
            yield from _policies(catalog, manifest, path, strategy, rates, stands)


def _policies(
    catalog: Catalog,
    manifest: StageManifest,
    path: Path,
    strategy: Strategy,
    campaign: CampaignSpec | None,
    known: policies.Known,
) -> Iterator[Problem]:
    yield from policies.forms(catalog, manifest, path, strategy)
    for number, leg in enumerate(strategy.legs):
        for name, rate in (("at", leg.lr.at), ("to", leg.lr.to), ("until", leg.lr.until)):
            stands_for = _number(rate, campaign)
            if stands_for is not None:
                yield from _plausible(catalog, manifest, (*path, number, "lr", name), stands_for)
    if campaign is not None and manifest.spec.adopted is None:
        # Variants of a trial are looked at where the strategy itself is sound, or each would say the same.
        found = [*policies.rates(catalog, manifest, path, strategy, campaign, known)]
        yield from found
        for variant in few_variants(strategy) if not found else ():
            yield from policies.rates(catalog, manifest, path, variant, campaign, known)


def _number(rate: Rate | None, campaign: CampaignSpec | None) -> Decimal | None:
    """What a rate that is written out, or is a multiple of the campaign's, comes to; a part of one is no news."""
    if rate is None or rate.of == "lrSource" or (rate.of is not None and not rate.times):
        return None
    if rate.of is None:
        return rate.value
    if campaign is None:
        return None
    exact = rate.resolve(campaign.learning_rate.max, campaign.learning_rate.final)
    return Decimal(exact.numerator) / Decimal(exact.denominator)


def on_cluster(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    """What the campaign's cluster and model allow a stage's jobs, as far as they and the stages are there."""
    spec = catalog.campaign(campaign).spec
    cluster = catalog.cluster(spec.cluster) if spec.cluster in catalog.clusters else None
    model = catalog.model_of(campaign) if spec.model in catalog.models else None
    for manifest in (catalog.stage(campaign, name) for name in spec.stages if name in catalog.stage_names(campaign)):
        if manifest.spec.adopted is not None:
            continue  # nothing is submitted for it, and how it was trained is not ours to refuse
        if cluster is not None:
            yield from _walltime(catalog, cluster, manifest)
            yield from _time_to_train(catalog, cluster, manifest)
        if model is not None:
            yield from _steps(catalog, model, manifest)
        if cluster is not None and model is not None:
            yield from _batch(catalog, cluster, model, manifest)


def _walltime(catalog: Catalog, cluster: ClusterManifest, manifest: StageManifest) -> Iterator[Problem]:
    wanted, scheduler = manifest.spec.resources, cluster.spec.scheduler
    unsure = any(catalog.doubts(manifest, "spec", "resources", name) for name in ("walltime", "queue"))
    if unsure or any(catalog.doubts(cluster, "spec", "scheduler", name) for name in ("queue", "maxWalltime")):
        return
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


def _time_to_train(catalog: Catalog, cluster: ClusterManifest, manifest: StageManifest) -> Iterator[Problem]:
    """A job that is over before it has trained costs as much as any other."""
    walltime, startup = manifest.spec.resources.walltime, cluster.spec.launcher.startup
    if catalog.doubts(manifest, "spec", "resources", "walltime") or catalog.doubts(cluster, "spec", "launcher"):
        return
    if usable_seconds(walltime, startup) <= 0:
        yield Problem(
            "M065",
            catalog.where(manifest, "spec", "resources", "walltime"),
            f"stage {manifest.metadata.name} on {cluster.metadata.name}",
            format_walltime(math.ceil(walltime)),
            f"more than {format_walltime(math.ceil(2 * startup))}, twice the start-up of {cluster.metadata.name}",
            related=((catalog.where(cluster, "spec", "launcher", "startup"), "the start-up"),),
        )


def _batch(
    catalog: Catalog, cluster: ClusterManifest, model: ModelManifest, manifest: StageManifest
) -> Iterator[Problem]:
    wanted, spec = manifest.spec.resources, model.spec
    unsure = catalog.doubts(manifest, "spec", "resources", "nodes") or catalog.doubts(cluster, "spec", "node", "ranks")
    if unsure or catalog.doubts(model, "spec", "batch") or catalog.doubts(model, "spec", "parallelism"):
        return
    ranks, cut = wanted.nodes * cluster.spec.node.ranks, spec.parallelism.tensor * spec.parallelism.pipeline
    yield from _scaled_batches(catalog, manifest, model, ranks, cut)
    if ranks % cut or spec.batch.global_ % (spec.batch.micro * (ranks // cut)):
        yield Problem(
            "M059",
            catalog.where(manifest, "spec", "resources", "nodes"),
            f"stage {manifest.metadata.name}",
            f"{wanted.nodes} nodes × {cluster.spec.node.ranks} ranks, model cut in {cut}, "
            f"micro batch {spec.batch.micro}, global batch {spec.batch.global_}",
            "a global batch that is a multiple of micro batch × data-parallel ranks",
        )


def _scaled_batches(
    catalog: Catalog, manifest: StageManifest, model: ModelManifest, ranks: int, cut: int
) -> Iterator[Problem]:
    """A strategy's own batch is k × the model's: whole, and divided over the same ranks."""
    micro = model.spec.batch.micro
    for rung, strategy in enumerate(manifest.spec.strategies):
        path: Path = ("spec", "strategies", rung, "batch", "times")
        if strategy.batch is None or catalog.doubts(manifest, *path) or ranks % cut:
            continue
        own = batch.of(model.spec, strategy)
        if own is None or own % (micro * (ranks // cut)):
            yield Problem(
                "M059",
                catalog.where(manifest, *path),
                f"strategy {strategy.name} of stage {manifest.metadata.name}",
                f"{format_decimal(strategy.batch.times)} × global batch {model.spec.batch.global_}",
                f"a multiple of {micro * (ranks // cut)}: micro batch {micro} × {ranks // cut} data-parallel ranks",
            )


def _steps(catalog: Catalog, model: ModelManifest, manifest: StageManifest) -> Iterator[Problem]:
    """A stage or leg of fewer tokens than one optimizer step would train nothing."""
    if catalog.doubts(model, "spec", "batch", "global") or catalog.doubts(model, "spec", "sequenceLength"):
        return
    strategies = manifest.spec.strategies
    legs = [
        (("spec", "strategies", rung, "legs", number, "tokens"), leg.tokens)
        for rung, strategy in enumerate(strategies)
        for number, leg in enumerate(strategy.legs)
        if leg.tokens is not None
    ]
    scaled = [
        (("spec", "strategies", rung, "batch", "times"), manifest.spec.tokens)
        for rung, strategy in enumerate(strategies)
        if strategy.batch is not None
    ]
    budgets: list[tuple[Path, int]] = [(("spec", "tokens"), manifest.spec.tokens), *scaled, *legs]
    for path, tokens in budgets:
        own = batch.of(model.spec, strategies[int(path[2])]) if len(path) > 2 else None
        step = (own or model.spec.batch.global_) * model.spec.sequence_length
        if tokens < step and not catalog.doubts(manifest, *path):
            told = f"global batch {own or model.spec.batch.global_} × sequence length {model.spec.sequence_length}"
            yield Problem(
                "M062",
                catalog.where(manifest, *path),
                f"{path_text(path)} of stage {manifest.metadata.name}",
                f"{tokens} tokens",
                f"at least {step} tokens, one step: {told}",
                related=((catalog.where(model, "spec", "batch"), f"the batch of model {model.metadata.name}"),),
            )


def _same_names(catalog: Catalog, manifest: Manifest, path: Path, names: Iterable[str], what: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if catalog.doubts(manifest, *path, index, "name"):
            continue
        earlier = first.setdefault(name, index)
        if earlier != index:
            there = catalog.where(manifest, *path, earlier, "name")
            where = catalog.where(manifest, *path, index, "name")
            yield Problem("M051", where, f"two {what} are called {name}", related=((there, "the first"),))


def _weights(
    catalog: Catalog, manifest: StageManifest, path: Path, mixture: Mapping[str, Decimal]
) -> Iterator[Problem]:
    # Fractions: a sum of decimals would be rounded to 28 digits, and 1 + 1e-30 would pass.
    if catalog.doubts(manifest, *path):
        return
    total = sum((Fraction(weight) for weight in mixture.values()), Fraction(0))
    if total == 1:
        return
    terms = " + ".join(f"{term} {_written(Fraction(weight))}" for term, weight in mixture.items())
    expected = f"exactly 1; {_written(abs(1 - total))} {'is missing' if total < 1 else 'too much'}"
    yield Problem("M047", catalog.where(manifest, *path), terms, f"a sum of {_written(total)}", expected)


def _written(value: Fraction) -> str:
    """A sum of decimals with all its digits, or with an exponent where those are too many to read."""
    with localcontext(prec=1000):
        exact = (Decimal(value.numerator) / Decimal(value.denominator)).normalize()
        plain = f"{exact:f}"
        return plain if len(plain) <= 24 else clip(f"{exact:e}", 40)
