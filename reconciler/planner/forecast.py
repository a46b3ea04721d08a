"""What a stage's current rung will do: mixture, tokens, epochs, rates, node-hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from reconciler.domain import budget, schedule
from reconciler.domain.resolve import StageOutcome
from reconciler.model.observed import AttemptSeen
from reconciler.model.plan import LegForecast, StageForecast
from reconciler.model.recipe import LegRecipe, Recipe
from reconciler.planner.desired import Desired


def forecast(desired: Desired, attempts: Sequence[AttemptSeen], outcome: StageOutcome) -> StageForecast:
    """The stage as its recipe will run, costed by the speed that was declared or last measured on this cluster."""
    recipe = outcome.recipe
    stage = desired.catalog.stage(desired.campaign, outcome.stage)
    nodes = stage.spec.resources.nodes
    speed = tokens_per_second(desired, attempts, recipe, nodes)
    legs = tuple(_leg(desired, leg) for leg in recipe.legs)
    if speed is None:
        return StageForecast(outcome.stage, recipe.strategy, legs, None, None)
    usable = budget.usable_seconds(stage.spec.resources.walltime, desired.cluster.launcher.startup)
    jobs = budget.jobs_forecast(recipe.tokens, speed, usable)  # usable is above 0 in manifests that are valid
    seconds = Fraction(recipe.tokens) / speed
    started = jobs * 2 * desired.cluster.launcher.startup
    return StageForecast(outcome.stage, recipe.strategy, legs, float((seconds + started) * nodes / 3600), jobs)


def tokens_per_second(desired: Desired, attempts: Sequence[AttemptSeen], recipe: Recipe, nodes: int) -> Fraction | None:
    """Measured on this stage or an earlier one of the campaign, else declared by the cluster, else unknown.

    A speed measured on other nodes is scaled with the number of ranks.
    """
    for seen in sorted(attempts, key=lambda a: a.stage != recipe.stage):
        for leg in seen.legs:
            for log in reversed(leg.logs):
                if log.seconds_per_iteration is not None and 0 < log.seconds_per_iteration < math.inf:
                    was = next((s for s in desired.stages if s.metadata.name == seen.stage), None)
                    if was is None:
                        continue
                    scale = Fraction(nodes, was.spec.resources.nodes) if desired.cluster.node.ranks > 1 else 1
                    return desired.model.tokens_per_iteration / Fraction(log.seconds_per_iteration) * scale
    declared = desired.cluster.throughput.get(desired.spec.model)
    return Fraction(declared * nodes) if declared is not None else None


def _leg(desired: Desired, leg: LegRecipe) -> LegForecast:
    sizes = {symbol: desired.catalog.dataset_by_symbol(desired.campaign, symbol).spec.tokens for symbol in leg.mixture}
    per_iteration = desired.model.tokens_per_iteration
    curve = schedule.sample(leg.curve, leg.position, leg.iterations)
    return LegForecast(
        mixture=leg.mixture,
        terms=leg.terms,
        tokens=leg.tokens,
        iterations=leg.iterations,
        lr=schedule.describe(leg.curve),
        lr_curve=tuple((step * per_iteration, rate) for step, rate in curve),
        epochs={s: float(Fraction(share) * leg.tokens / sizes[s]) for s, share in leg.mixture.items()},
    )
