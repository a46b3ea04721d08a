"""What a simulated cluster takes for granted, each in words that stand above what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from reconciler.domain.trial import rung_of
from reconciler.model.quantities import approximate_tokens, counted, format_duration
from reconciler.planner import measured
from reconciler.planner.desired import Desired

CONVERSION_S: Final = 1800.0
"""How long a conversion is taken to run, or its walltime where that is shorter."""
KILLED_AT: Final = Fraction(1, 2)
"""Share of what a job would have done after which one that fails is killed."""
EVERY_STRATEGY: Final = "*"


class Gate(StrEnum):
    """A gate that a person may want to see fail."""

    FORGETTING = "forgetting"
    TARGET = "target"
    RECOVERY = "recovery"
    DIVERGENCE = "divergence"


@dataclass(frozen=True, slots=True)
class Failing:
    """A gate that fails: of one strategy of a stage, of its first one that is tried (empty), or of all (`*`)."""

    stage: str
    strategy: str = ""
    gate: Gate | None = None
    """None: forgetting where that can fail, else the next gate that the stage has."""

    def __str__(self) -> str:
        which = {"": "the first strategy that is tried", EVERY_STRATEGY: "every strategy"}
        gate = f"its {self.gate} gate" if self.gate is not None else "a gate"
        return f"{gate} fails {which.get(self.strategy, self.strategy)} of {self.stage}"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """How the cluster behaves."""

    queue_wait_s: float
    """Every job waits as long."""
    throughput: int | None = None
    """Tokens per second and node, in place of what the cluster declares."""
    failing: tuple[Failing, ...] = ()
    job_fails_every: int | None = None
    """Each so many-th job is killed half-way."""
    merged: bool = False
    """A failed gate never waits for a person: as if `onFailedGate` were `advance`."""


class NoSpeed(Exception):
    """Nothing says how fast the model trains, and days would be guesses."""


class NotThere(Exception):
    """An assumption about something that the campaign does not have."""


def check(desired: Desired, assumed: Assumptions) -> None:
    """Refuse assumptions that would say nothing.

    Raises:
        NoSpeed: neither declared nor assumed.
        NotThere: a stage or strategy that the campaign does not have.
    """
    stages = {stage.metadata.name: stage for stage in desired.stages}
    for failing in assumed.failing:
        if failing.stage not in stages:
            raise NotThere(f"{desired.campaign} has no stage {failing.stage!r}; it has {', '.join(stages)}")
        stage = stages[failing.stage]
        if failing.strategy not in ("", EVERY_STRATEGY) and rung_of(stage, failing.strategy) is None:
            ladder = ", ".join(strategy.name for strategy in stage.spec.strategies)
            raise NotThere(f"{failing.stage} has no strategy {failing.strategy!r}; its ladder is {ladder}")
    for stage in desired.stages:
        tokens_per_second(desired, assumed, stage.metadata.name, stage.spec.resources.nodes)


def tokens_per_second(desired: Desired, assumed: Assumptions, stage: str, nodes: int) -> Fraction:
    """Of a training job on so many nodes."""
    if assumed.throughput is not None:
        return Fraction(assumed.throughput * nodes)
    declared = measured.speed(desired, (), stage, nodes)
    if declared is None:
        spec = desired.spec
        raise NoSpeed(f"cluster {spec.cluster} declares no throughput for {spec.model}, and days would be guesses")
    return declared.slow


def told(desired: Desired, assumed: Assumptions) -> tuple[str, ...]:
    """The assumptions in words, one a line."""
    spec, startup = desired.spec, format_duration(float(desired.cluster.launcher.startup))
    declared = desired.cluster.throughput.get(spec.model)
    speed = assumed.throughput if assumed.throughput is not None else declared
    by = "as asked for here" if assumed.throughput is not None else f"as cluster {spec.cluster} declares"
    wait = format_duration(assumed.queue_wait_s) if assumed.queue_wait_s else "not at all"
    fails = [str(failing) for failing in assumed.failing]
    faults = "no job fails"
    if assumed.job_fails_every is not None:
        which = "every job" if assumed.job_fails_every == 1 else f"every {assumed.job_fails_every}th job"
        faults = f"{which} is killed half-way, and loses what it has not saved"
    return (
        f"speed: {approximate_tokens(speed or 0)} tokens a second and node, {by}; {startup} to start a job or end it",
        f"queue: every job waits {wait}",
        f"gates: {'; '.join(fails)}; every other one passes" if fails else "gates: every one passes",
        f"faults: {faults}",
        "evaluations: forward passes at a third of that time a token, on one node; a conversion takes "
        f"{format_duration(CONVERSION_S)}, or its walltime",
        *(["people: a failed gate is answered at once with the next strategy"] if assumed.merged else []),
        f"{counted(len(desired.stages), 'stage')} from nothing: what is on the cluster now is not looked at",
    )
