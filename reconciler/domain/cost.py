"""What training costs: jobs and node-hours at a known speed, saves of a leg, bytes of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from reconciler.domain.budget import jobs_forecast, usable_seconds
from reconciler.domain.catalog import Catalog
from reconciler.model.manifests import Architecture

BYTES_PER_PARAMETER: Final = 14
"""Of a checkpoint: the weight in 16 bits; its master copy and Adam's two moments in 32 bits each."""
USABLE_S_MIN: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Training:
    """Segments one after the other."""

    jobs: int
    seconds: Fraction
    """Of all jobs, each with its start-up and as much again for its last save."""

    def node_hours(self, nodes: int) -> Fraction:
        """What they cost on so many nodes."""
        return self.seconds * nodes / 3600


def training(
    tokens: int | Fraction, tokens_per_second: Fraction, walltime_s: Fraction, startup_s: Fraction
) -> Training:
    """The segments that train `tokens` at a speed."""
    if tokens <= 0:
        return Training(0, Fraction(0))
    usable = max(usable_seconds(walltime_s, startup_s), USABLE_S_MIN)
    jobs = jobs_forecast(tokens, tokens_per_second, usable)
    return Training(jobs, Fraction(tokens) / tokens_per_second + 2 * startup_s * jobs)


def saves(done: int, iterations: int, every: int) -> int:
    """Checkpoints that a leg still writes after iteration `done`: on the interval, and at its end."""
    if done >= iterations:
        return 0
    return iterations // every - done // every + (iterations % every != 0)


def parameters(model: Architecture) -> int:
    """How many a Llama-like model of these sizes has, embeddings and output layer apart."""
    keys_and_values = 2 * model.hidden * model.hidden * model.kv_heads // model.heads
    attention = 2 * model.hidden * model.hidden + keys_and_values
    layer = attention + 3 * model.hidden * model.ffn_hidden + 2 * model.hidden
    return model.layers * layer + 2 * model.vocabulary * model.hidden + model.hidden


@dataclass(frozen=True, slots=True)
class DeclaredCost:
    """A campaign from its beginning at the speed that its cluster declares, if every first rung holds."""

    stages: dict[str, Fraction]
    """Stage → node-hours of its training."""
    bound: Decimal
    """What may be spent, by campaign and allocation."""

    @property
    def node_hours(self) -> Fraction:
        """Of all stages."""
        return sum(self.stages.values(), Fraction(0))

    @property
    def over(self) -> bool:
        """Whether the campaign cannot be finished with what may be spent."""
        return self.node_hours > Fraction(self.bound)


def declared(catalog: Catalog, campaign: str) -> DeclaredCost | None:
    """What the manifests alone say it costs; None where they declare no speed for the model."""
    spec, cluster = catalog.campaign(campaign).spec, catalog.cluster_of(campaign).spec
    speed = cluster.throughput.get(spec.model)
    if speed is None:
        return None
    costs = {}
    for stage in catalog.stages(campaign):
        asked = stage.spec.resources
        segments = training(stage.spec.tokens, Fraction(speed * asked.nodes), asked.walltime, cluster.launcher.startup)
        costs[stage.metadata.name] = segments.node_hours(asked.nodes)
    return DeclaredCost(costs, min(spec.bounds.node_hours, cluster.allocation.node_hours))
