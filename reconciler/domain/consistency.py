"""What must hold inside one stage or model beyond its shape, and between a stage and its campaign's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Final

from reconciler.domain.budget import usable_seconds
from reconciler.domain.catalog import Catalog
from reconciler.model.manifests import (
    CampaignManifest,
    CampaignSpec,
    ClusterManifest,
    ExternalSource,
    Leg,
    Manifest,
    ModelManifest,
    StageManifest,
    StageSource,
    Strategy,
)
from reconciler.model.problems import Path, Problem, clip, path_text
from reconciler.model.quantities import Rate, format_decimal, format_tokens, format_walltime

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
    for rung, strategy in enumerate(manifest.spec.strategies):
        path: Path = ("spec", "strategies", rung, "legs")
        for number, leg in enumerate(strategy.legs):
            yield from _weights(catalog, manifest, (*path, number, "mixture"), leg)
        yield from _tokens(catalog, manifest, path, strategy)
        if catalog.doubts(manifest, "spec", "source") or any(
            catalog.doubts(manifest, *path, number, "lr") for number in range(len(strategy.legs))
        ):
            continue  # the rate at which a leg begins follows from all that comes before it
        yield from _warmups(catalog, manifest, path, strategy)
        for number, leg in enumerate(strategy.legs):
            for name, rate in (("at", leg.lr.at), ("to", leg.lr.to)):
                if rate.of is None:
                    yield from _plausible(catalog, manifest, (*path, number, "lr", name), rate.value)
        if rates is not None:
            yield from _rates(catalog, manifest, path, strategy, rates)


def on_cluster(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    """What the campaign's cluster and model allow a stage's jobs, as far as they and the stages are there."""
    spec = catalog.campaign(campaign).spec
    cluster = catalog.cluster(spec.cluster) if spec.cluster in catalog.clusters else None
    model = catalog.model_of(campaign) if spec.model in catalog.models else None
    for manifest in (catalog.stage(campaign, name) for name in spec.stages if name in catalog.stage_names(campaign)):
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
    if ranks % cut or spec.batch.global_ % (spec.batch.micro * (ranks // cut)):
        yield Problem(
            "M059",
            catalog.where(manifest, "spec", "resources", "nodes"),
            f"stage {manifest.metadata.name}",
            f"{wanted.nodes} nodes × {cluster.spec.node.ranks} ranks, model cut in {cut}, "
            f"micro batch {spec.batch.micro}, global batch {spec.batch.global_}",
            "a global batch that is a multiple of micro batch × data-parallel ranks",
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
    step = model.spec.tokens_per_iteration
    budgets: list[tuple[Path, int]] = [(("spec", "tokens"), manifest.spec.tokens), *legs]
    for path, tokens in budgets:
        if tokens < step and not catalog.doubts(manifest, *path):
            batch = f"global batch {model.spec.batch.global_} × sequence length {model.spec.sequence_length}"
            yield Problem(
                "M062",
                catalog.where(manifest, *path),
                f"{path_text(path)} of stage {manifest.metadata.name}",
                f"{tokens} tokens",
                f"at least {step} tokens, one step: {batch}",
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


def _weights(catalog: Catalog, manifest: StageManifest, path: Path, leg: Leg) -> Iterator[Problem]:
    # Fractions: a sum of decimals would be rounded to 28 digits, and 1 + 1e-30 would pass.
    if catalog.doubts(manifest, *path):
        return
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
    legs = [(*path, number, "tokens") for number in range(len(strategy.legs))]
    if any(catalog.doubts(manifest, *at) for at in (("spec", "tokens"), *legs)):
        return
    budget = manifest.spec.tokens
    declared = [leg.tokens for leg in strategy.legs if leg.tokens is not None]
    undeclared = [number for number, leg in enumerate(strategy.legs) if leg.tokens is None]
    where = catalog.where(manifest, *path, key=True)
    expected = f"{format_tokens(budget)}, the stage's tokens"
    if len(undeclared) > 1:
        which = ", ".join(str(number) for number in undeclared)
        detail = f"strategy {strategy.name}: legs {which} leave their tokens out"
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
