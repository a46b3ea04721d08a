"""What jobs of the campaign have shown so far: speed, waits, durations, sizes; each with what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reconciler.domain.cost import BYTES_PER_PARAMETER, parameters
from reconciler.model.observed import AttemptSeen, Job
from reconciler.model.plan import ActionKey, ActionKind, Span
from reconciler.model.quantities import approximate_tokens, counted, format_bytes, format_duration
from reconciler.planner.desired import Desired
from reconciler.planner.strays import recipe_of

SECONDS_MAX = 1e9
"""Thirty years: what a log or a job table says to have taken longer is no measurement."""
BYTES_MAX = 10**18
MEASURED_ENOUGH = 3
"""Jobs whose speed makes a declared one superfluous; with fewer, what was declared is still one end of the range."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of a stage's training jobs."""

    slow: Fraction
    fast: Fraction
    rests_on: str


def speed(desired: Desired, attempts: Sequence[AttemptSeen], stage: str, nodes: int) -> Speed | None:
    """Measured on this stage, else on others of the campaign, and declared by the cluster; None if neither is."""
    found = [(seen.stage, rate) for seen in attempts for rate in _rates(desired, seen, nodes)]
    own = [rate for of, rate in found if of == stage]
    rates = own or [rate for _, rate in found]
    declared = desired.cluster.throughput.get(desired.spec.model)
    told = []
    if rates:
        told.append(f"measured by {counted(len(rates), 'job')} of {'this stage' if own else 'other stages'}")
    if declared is not None and len(rates) < MEASURED_ENOUGH:
        rates = [*rates, Fraction(declared * nodes)]
        told.append("declared by the cluster")
    if not rates:
        return None
    slow, fast = min(rates), max(rates)
    span = approximate_tokens(round(slow))
    if round(slow) != round(fast):
        span += f" to {approximate_tokens(round(fast))}"
    return Speed(slow, fast, f"{span} tokens a second, {' and '.join(told)}")


def _rates(desired: Desired, seen: AttemptSeen, nodes: int) -> Iterator[Fraction]:
    """Tokens per second in each job of an attempt, scaled with the number of ranks to so many nodes."""
    was = next((stage for stage in desired.stages if stage.metadata.name == seen.stage), None)
    if was is None:
        return
    recipe = recipe_of(seen.stage, seen)
    tokens = recipe.tokens_per_iteration if recipe is not None else desired.model.tokens_per_iteration
    scale = Fraction(nodes, was.spec.resources.nodes) if desired.cluster.node.ranks > 1 else Fraction(1)
    for leg in seen.legs:
        for log in leg.logs:
            if log.seconds_per_iteration is not None and 1 / SECONDS_MAX < log.seconds_per_iteration < SECONDS_MAX:
                yield tokens / Fraction(log.seconds_per_iteration) * scale


def waits(desired: Desired, jobs: Iterable[Job]) -> Span | None:
    """Seconds that jobs of the campaign have waited in their queues; None if none has started."""
    found = [
        job.started_s - job.queued_s
        for job in jobs
        if _key(desired, job) is not None and job.started_s is not None and job.queued_s is not None
    ]
    return _span(found)


def durations(desired: Desired, jobs: Iterable[Job], kind: ActionKind) -> Span | None:
    """Seconds that jobs of one kind have taken; None if none has ended well."""
    ended = [job for job in jobs if not job.live and not job.exit_status]
    return _span(
        [
            job.ended_s - job.started_s
            for job in ended
            if (key := _key(desired, job)) is not None
            and key.kind is kind
            and job.started_s is not None
            and job.ended_s is not None
        ]
    )


def checkpoint_bytes(desired: Desired, attempts: Sequence[AttemptSeen]) -> tuple[Span, str]:
    """Size of one checkpoint, and what that rests on."""
    found = [
        float(checkpoint.size_bytes)
        for seen in attempts
        for leg in seen.legs
        for checkpoint in leg.checkpoints
        if checkpoint.complete and 0 < checkpoint.size_bytes < BYTES_MAX
    ]
    if found:
        span = Span(min(found), max(found))
        return span, f"{_sizes(span)} each, by {counted(len(found), 'checkpoint')} there are"
    size = float(parameters(desired.model.architecture) * BYTES_PER_PARAMETER)
    return Span(size, size), f"{format_bytes(size)} each, {BYTES_PER_PARAMETER} bytes a parameter"


def told_waits(span: Span | None) -> str:
    """Queue waits in words."""
    if span is None:
        return "not known yet, and not counted"
    return f"{format_duration(span.low)} to {format_duration(span.high)} a job, as jobs of the campaign have waited"


def _sizes(span: Span) -> str:
    low, high = format_bytes(span.low), format_bytes(span.high)
    return low if low == high else f"{low} to {high}"


def _span(values: Sequence[float]) -> Span | None:
    usable = [value for value in values if 0 <= value < SECONDS_MAX]
    return Span(min(usable), max(usable)) if usable else None


def _key(desired: Desired, job: Job) -> ActionKey | None:
    key = ActionKey.parse(job.key) if job.key else None
    return key if key is not None and key.campaign == desired.campaign else None
