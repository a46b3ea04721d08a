"""Logged and declared numbers of every attempt, on one axis: the tokens that its weights were trained on. Pure.

An attempt begins where its source's weights stand, so one that failed and the one that went on from the same place
begin side by side.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from reconciler.domain import schedule
from reconciler.domain.ledger import source_lineage, tokens
from reconciler.model.observed import AttemptSeen, LegSeen, LogPoint, TrainLog
from reconciler.model.plan import Plan
from reconciler.model.recipe import Recipe
from reconciler.model.verdict import Level, Verdict
from reconciler.page import bounds
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import gather
from reconciler.planner.ledger import Books, Entry
from reconciler.planner.look import Look

POINTS_MAX: Final = 40_000
"""On a page, of all attempts: about 1.1 MB. A look brings at most 64 for each job."""
SAMPLES: Final = 96
"""Of a leg's declared curve."""
SAME_RATE: Final = 1e-3
"""Rates closer than this share are one: launchers log few digits."""


@dataclass(frozen=True, slots=True)
class Point:
    """Consecutive logged iterations, mostly one window of a log."""

    first: int
    last: int
    """Iterations of the attempt, over its legs."""
    mean: float | None
    """None where no line had a loss."""
    low: float | None
    high: float | None
    rate: float
    """At the last of them."""
    lines: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the axis."""

    tokens: int
    kind: str
    """`stage`, `switch`, `pass`, `warn`, `fail` or `checkpoint`."""
    text: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one validation set at one checkpoint."""

    tokens: int
    loss: float
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt on the axis."""

    stage: str
    strategy: str
    attempt: str
    outcome: str
    way: bool
    """Whether the campaign went on with it, or is at it."""
    begins: int
    """Tokens that its source's weights were trained on."""
    tokens_per_iteration: int
    points: tuple[Point, ...]
    declared: tuple[tuple[int, float], ...]
    """(tokens, rate)."""
    strays: tuple[tuple[int, float], ...]
    """(number of a point, declared rate), of those that were not logged with the rate that is declared there."""
    marks: tuple[Mark, ...]
    losses: Mapping[str, tuple[Loss, ...]]
    """By validation set."""
    bounds: Mapping[str, float]
    """By validation set: above this, it has forgotten too much."""

    @property
    def span(self) -> tuple[int, int]:
        """Tokens where its points begin and end."""
        last = self.points[-1].last if self.points else 0
        return self.begins, self.begins + last * self.tokens_per_iteration


@dataclass(frozen=True, slots=True)
class Curves:
    """All that is drawn over tokens."""

    lanes: tuple[tuple[Run, ...], ...]
    """Runs that do not overlap, a lane each; those of the way first."""
    planned: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    """(stage, declared rate over tokens), of stages that are still to begin."""
    sets: tuple[str, ...]
    logged: int
    """Points that the look brought."""
    shown: int
    lines: int
    """Logged iterations that they stand for."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them."""
        return tuple(run for lane in self.lanes for run in lane)

    @property
    def thinned(self) -> bool:
        """Whether neighbouring points were put together for the page."""
        return self.shown < self.logged


def curves(desired: Desired, plan: Plan, look: Look, books: Books, points_max: int = POINTS_MAX) -> Curves:
    """Every attempt of the ledger whose recipe makes sense."""
    found = (_run(desired, plan, look, books, entry) for entry in books.entries)
    runs = [run for run in found if run is not None]
    logged = sum(len(run.points) for run in runs)
    lines = sum(point.lines for run in runs for point in run.points)
    if logged > points_max:
        runs = [replace(run, points=thin(run.points, points_max * len(run.points) // logged)) for run in runs]
    runs = [replace(run, strays=tuple(_strays(books.recipes[run.attempt], run.points))) for run in runs]
    evaluated = {name for run in runs for name in run.losses}
    return Curves(
        lanes=_lanes(runs),
        planned=tuple(_planned(plan, runs)),
        sets=tuple(chosen.name for chosen in desired.model.validation.sets if chosen.name in evaluated),
        logged=logged,
        shown=sum(len(run.points) for run in runs),
        lines=lines,
    )


def _run(desired: Desired, plan: Plan, look: Look, books: Books, entry: Entry) -> Run | None:
    recipe = books.recipes.get(entry.attempt)
    if recipe is None:
        return None
    skipped = len(recipe.taken)
    legs = recipe.legs[skipped:]
    offsets = dict(enumerate(accumulate((leg.iterations for leg in legs), initial=0), start=skipped))
    begins = tokens(source_lineage(books.recipes, entry.attempt, books.outside))
    per = recipe.tokens_per_iteration
    evidence = gather(
        plan.campaign, entry.stage, entry.attempt, look.attempts, look.receipts, look.jobs, look.lists.validation
    )
    seen, verdict = evidence.seen, evidence.verdict()
    points = [
        point
        for leg in (seen.legs if seen is not None else ())
        if skipped <= leg.index < len(recipe.legs)
        for point in _points(leg, offsets[leg.index], recipe.legs[leg.index].iterations)
    ]
    return Run(
        stage=entry.stage,
        strategy=entry.strategy,
        attempt=entry.attempt,
        outcome=entry.outcome,
        way=any(status.attempt == entry.attempt for status in plan.stages),
        begins=begins,
        tokens_per_iteration=per,
        points=tuple(points),
        declared=tuple(_declared(recipe, offsets, begins)),
        strays=(),
        marks=tuple(_marks(entry, recipe, seen, offsets, begins, verdict)),
        losses=_losses(seen, offsets, begins, per),
        bounds=_bounds(desired, plan, entry, verdict),
    )


def _points(leg: LegSeen, offset: int, iterations: int) -> list[Point]:
    """A leg's points in order. What was trained again after a kill is told by the later job."""
    kept: list[Point] = []
    for log in leg.logs:
        new = [point for point in _of_log(log) if 0 < point.last <= iterations]
        if new:
            while kept and kept[-1].last >= new[0].first:
                kept.pop()
            kept += new
    return [replace(point, first=point.first + offset, last=point.last + offset) for point in kept]


def _of_log(log: TrainLog) -> list[Point]:
    """Windows, then the last line by itself; the ends of the log where there are no windows."""
    lines = {point.iteration: point for point in (*log.first, *log.last)}
    if not log.windows:
        return [_single(lines[at]) for at in sorted(lines)]
    found = [
        Point(w.first, w.last, _finite(w.mean), _finite(w.low), _finite(w.high), w.learning_rate, w.lines)
        for w in log.windows
        if math.isfinite(w.learning_rate)
    ]
    found.sort(key=lambda point: point.last)
    if found and found[-1].lines > 1 and len(log.last) > 1 and log.last[-1].iteration == found[-1].last:
        found[-1:] = _without(found[-1], *map(_single, log.last[-2:]))
    return found


def _without(window: Point, before: Point, end: Point) -> tuple[Point, Point]:
    """A window less its last line, with the rate of the line before that; and the last line."""
    mean, lines = window.mean, window.lines - 1
    if mean is not None and end.mean is not None:
        mean = (mean * window.lines - end.mean) / lines
    return replace(window, last=before.last, mean=mean, lines=lines, rate=before.rate), end


def _single(point: LogPoint) -> Point:
    loss = _finite(point.loss)
    return Point(point.iteration, point.iteration, loss, loss, loss, point.learning_rate, 1)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def thin(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """At most so many, by putting neighbours together: lowest, highest and the last of all stay as they are."""
    if len(points) <= max(most, 2):
        return tuple(points)
    size = math.ceil((len(points) - 1) / max(1, most - 1))
    body, end = points[:-1], points[-1]
    return (*(_together(body[at : at + size]) for at in range(0, len(body), size)), end)


def _together(points: Sequence[Point]) -> Point:
    told = [(point.mean, point.lines) for point in points if point.mean is not None]
    weight = sum(lines for _, lines in told)
    return Point(
        first=points[0].first,
        last=points[-1].last,
        mean=sum(mean * lines for mean, lines in told) / weight if weight else None,
        low=min((point.low for point in points if point.low is not None), default=None),
        high=max((point.high for point in points if point.high is not None), default=None),
        rate=points[-1].rate,
        lines=sum(point.lines for point in points),
    )


def _declared(recipe: Recipe, offsets: Mapping[int, int], begins: int) -> Iterator[tuple[int, float]]:
    per = recipe.tokens_per_iteration
    for index, offset in offsets.items():
        if index < len(recipe.legs):
            leg = recipe.legs[index]
            for at, rate in schedule.sample(leg.curve, leg.position, leg.iterations, SAMPLES):
                if math.isfinite(rate):
                    yield begins + (offset + at) * per, rate


def _strays(recipe: Recipe, points: Sequence[Point]) -> Iterator[tuple[int, float]]:
    legs = recipe.legs[len(recipe.taken) :]
    ends = list(accumulate(leg.iterations for leg in legs))
    for number, point in enumerate(points):
        index = bisect_left(ends, point.last)
        leg = legs[index]
        declared = schedule.rate_at(leg.curve, leg.position + point.last - ends[index] + leg.iterations)
        if not math.isclose(point.rate, declared, rel_tol=SAME_RATE, abs_tol=1e-12):
            yield number, declared


def _marks(
    entry: Entry,
    recipe: Recipe,
    seen: AttemptSeen | None,
    offsets: Mapping[int, int],
    begins: int,
    verdict: Verdict | None,
) -> Iterator[Mark]:
    per, name = recipe.tokens_per_iteration, f"{entry.stage} {entry.strategy}"
    yield Mark(begins, "stage", f"{name} begins")
    for index, offset in list(offsets.items())[1:]:
        if index < len(recipe.legs):
            terms = " + ".join(f"{weight} {term}" for term, weight in recipe.legs[index].terms.items())
            yield Mark(begins + offset * per, "switch", f"{name}, leg {index}: {terms}")
    for leg in seen.legs if seen is not None else ():
        for checkpoint in leg.checkpoints:
            if checkpoint.complete and leg.index in offsets:
                at = offsets[leg.index] + checkpoint.iteration
                yield Mark(begins + at * per, "checkpoint", f"{name}, checkpoint at iteration {at}")
    if verdict is not None:
        warned = any(gate.level is Level.WARN for gate in verdict.gates)
        level = "fail" if not verdict.passed else "warn" if warned else "pass"
        at = min(verdict.iteration, recipe.iterations) - sum(leg.iterations for leg in recipe.legs[: len(recipe.taken)])
        yield Mark(begins + max(0, at) * per, level, f"{name}: {verdict.message}")


def _losses(seen: AttemptSeen | None, offsets: Mapping[int, int], begins: int, per: int) -> dict[str, tuple[Loss, ...]]:
    found: dict[str, list[Loss]] = {}
    evaluations = seen.evaluations if seen is not None else ()
    for each in sorted(evaluations, key=lambda each: (each.leg, each.iteration)):
        if each.leg not in offsets:
            continue
        at = offsets[each.leg] + each.iteration
        told = f"at iteration {at}" if at else "at the source"
        for name, loss in each.losses.items():
            if math.isfinite(loss):
                found.setdefault(name, []).append(Loss(begins + at * per, loss, told))
    return {name: tuple(losses) for name, losses in found.items()}


def _bounds(desired: Desired, plan: Plan, entry: Entry, verdict: Verdict | None) -> dict[str, float]:
    if verdict is not None:
        return bounds.judged(verdict)
    status = next((status for status in plan.stages if status.attempt == entry.attempt), None)
    if status is None or entry.outcome == "adopted":
        return {}
    return bounds.to_come(desired, desired.catalog.stage(desired.campaign, status.stage), status)


def _lanes(runs: Sequence[Run]) -> tuple[tuple[Run, ...], ...]:
    """Each run in the first lane in which it overlaps no other; what the campaign went on with comes first, and no
    lane has both."""
    lanes: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: (not run.way, run.begins, run.span[1])):
        if not run.points:
            continue
        room = (lane for lane in lanes if lane[0].way == run.way and lane[-1].span[1] <= run.begins)
        lane = next(room, None)
        if lane is None:
            lanes.append([run])
        else:
            lane.append(run)
    bare = [run for run in runs if not run.points]
    return (*(tuple(lane) for lane in lanes), *((run,) for run in bare))


def _planned(plan: Plan, runs: Sequence[Run]) -> Iterator[tuple[str, tuple[tuple[int, float], ...]]]:
    """Stages to come, each after the one before it."""
    by_stage = {run.stage: run for run in runs if run.way}
    reached = 0
    for forecast in plan.forecasts:
        total = sum(leg.tokens for leg in forecast.legs)
        run = by_stage.get(forecast.stage)
        if run is not None:
            reached = run.declared[-1][0] if run.declared else run.span[1]
            continue
        points, offset = [], reached
        for leg in forecast.legs:
            points += [(offset + at, rate) for at, rate in leg.lr_curve if math.isfinite(rate)]
            offset += leg.tokens
        reached += total
        yield forecast.stage, tuple(points)
