"""What one simulated job does: how long it takes, and what it leaves. Losses are assumed, never predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from reconciler.domain.budget import save_interval, usable_seconds
from reconciler.domain.gates import LOAD_LINES, MISSING_LINES_MAX, Phases
from reconciler.domain.schedule import rate_at
from reconciler.domain.trial import rung_of
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import CheckpointSeen, LegSeen, LogPoint, LogWindow, TrainLog
from reconciler.model.plan import Action, ActionKind, Training
from reconciler.model.recipe import LegRecipe, Recipe
from reconciler.planner import measured
from reconciler.planner.desired import Desired
from reconciler.planner.forecast import FORWARD_SHARE
from reconciler.planner.judging import limits_of, phases
from reconciler.planner.rungs import old_sets
from reconciler.simulate.assumptions import (
    CONVERSION_S,
    EVERY_STRATEGY,
    KILLED_AT,
    Assumptions,
    Failing,
    Gate,
    tokens_per_second,
)

LOSS: Final = 2.0
"""Of all that is trained and evaluated (nats), unless a gate asks for less."""
CHANGE: Final = 0.001
"""By which the training loss falls over a leg; where its gate fails, by which it rises."""
BEYOND: Final = 0.1
"""How far past its bound a gate fails (nats)."""
WINDOWS: Final = 16
"""Stretches that a job's log is summed up in."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that has run."""

    seconds: float
    iterations: int = 0
    """Trained by it."""


def duration(desired: Desired, assumed: Assumptions, action: Action, *, killed: bool) -> Ran:
    """How long the job of an action runs, and how far it trains."""
    assert action.job is not None  # noqa: S101
    share, walltime = KILLED_AT if killed else Fraction(1), Fraction(action.job.walltime_s)
    stage, startup = action.key.stage, desired.cluster.launcher.startup
    if action.trains is not None:
        speed = tokens_per_second(desired, assumed, stage, action.job.nodes)
        each = action.trains.recipe.tokens_per_iteration / speed
        left = action.trains.recipe.legs[action.trains.leg].iterations - (action.trains.newest or 0)
        usable = max(Fraction(0), usable_seconds(walltime, startup))
        iterations = math.floor(min(left, math.floor(usable / each)) * share)
        ends = Fraction(0) if killed else startup
        return Ran(float(min(walltime, startup + iterations * each + ends)), iterations)
    seconds = Fraction(CONVERSION_S)
    if action.key.kind is ActionKind.EVALUATE:
        sets = desired.model.validation.sets
        tokens = sum(chosen.samples for chosen in sets) * desired.model.sequence_length
        seconds = len(sets) * startup + tokens * FORWARD_SHARE / tokens_per_second(desired, assumed, stage, 1)
    return Ran(float(min(walltime, seconds) * share))


def trained(desired: Desired, action: Action, leg: LegSeen, ran: Ran, gate: Gate | None, *, killed: bool) -> LegSeen:
    """The leg's folder after a training job; `gate` is what its attempt fails by."""
    training = action.trains
    assert training is not None  # noqa: S101
    model, recipe = desired.model, training.recipe
    first = training.newest or 0
    last = first + ran.iterations
    every = save_interval(model.checkpoint_every, model.batch.global_, recipe.global_batch)
    saved = {at for at in range((first // every + 1) * every, last + 1, every)} | (set() if killed else {last})
    saved -= {first}
    size = int(measured.checkpoint_bytes(desired, ())[0].low)
    made = tuple(CheckpointSeen(at, True, "", recipe.data_parallel, size) for at in sorted(saved))
    newest = max(saved, default=leg.latest)
    log = _log(action, training, first, last, gate)
    log = replace(log, saved=tuple(sorted(saved))[-64:], finished_rc=None if killed else 0)
    checkpoints = (*leg.checkpoints, *made)
    return replace(leg, checkpoints=checkpoints, latest=newest, tracker=newest, logs=(*leg.logs, log))


def _log(action: Action, training: Training, first: int, last: int, gate: Gate | None) -> TrainLog:
    leg = training.recipe.legs[training.leg]
    width = max(1, math.ceil((last - first) / WINDOWS))
    windows = tuple(_window(leg, at, min(last, at + width - 1), gate) for at in range(first + 1, last + 1, width))
    begins = tuple(_point(leg, at, gate) for at in range(first + 1, min(last, first + LOAD_LINES) + 1))
    ends = tuple(_point(leg, at, gate) for at in range(max(first + 1, last - LOAD_LINES + 1), last + 1))
    if gate is Gate.DIVERGENCE:
        lost = max(0, len(ends) - MISSING_LINES_MAX)
        ends = (*ends[:lost], *(replace(point, loss=None) for point in ends[lost:]))
    return TrainLog(str(action.key), loaded_iteration=first or None, first=begins, last=ends, windows=windows)


def _loss(leg: LegRecipe, at: int, gate: Gate | None) -> float:
    way = CHANGE * at / leg.iterations
    return LOSS + way if gate is Gate.RECOVERY else LOSS - way


def _point(leg: LegRecipe, at: int, gate: Gate | None) -> LogPoint:
    return LogPoint(at, _loss(leg, at, gate), rate_at(leg.curve, leg.position + at))


def _window(leg: LegRecipe, first: int, last: int, gate: Gate | None) -> LogWindow:
    ends = _loss(leg, first, gate), _loss(leg, last, gate)
    rate = rate_at(leg.curve, leg.position + last)
    return LogWindow(first, last, sum(ends) / 2, min(ends), max(ends), rate, last - first + 1, 0)


def losses(desired: Desired, stage: StageManifest, gate: Gate | None) -> Mapping[str, float]:
    """Validation set → loss at a checkpoint of an attempt; `gate` is what it fails by."""
    found = well(desired)
    asked = stage.spec.gates or desired.spec.gates
    if gate is Gate.FORGETTING and asked.forgetting is not None:
        rise = float(limits_of(asked.forgetting, stage).fail) + BEYOND
        found |= {name: found[name] + rise for name in old_sets(desired, stage)}
    if gate is Gate.TARGET:
        found |= {name: float(bound) + BEYOND for name, bound in asked.target.items()}
    return found


def well(desired: Desired) -> dict[str, float]:
    """Losses that every gate passes with: the same at every checkpoint, so that nothing is forgotten."""
    every = [desired.spec.gates, *(stage.spec.gates for stage in desired.stages)]
    targets = [gates.target for gates in every if gates is not None]
    return {
        chosen.name: min([LOSS, *(float(wanted[chosen.name]) for wanted in targets if chosen.name in wanted)])
        for chosen in desired.model.validation.sets
    }


def fails_by(
    desired: Desired, assumed: Assumptions, stage: StageManifest, recipe: Recipe, begun: tuple[str, ...]
) -> Gate | None:
    """The gate that an attempt fails by, if one is assumed to; `begun` are the stage's rungs in the order of their
    first jobs."""
    rung = rung_of(stage, recipe.strategy)
    name = rung.name if rung is not None else recipe.strategy
    for failing in assumed.failing:
        if failing.stage == stage.metadata.name and _meant(failing, name, recipe.strategy, begun):
            return failing.gate or _likely(desired, stage, recipe)
    return None


def _meant(failing: Failing, rung: str, strategy: str, begun: tuple[str, ...]) -> bool:
    if failing.strategy == "":
        return begun[:1] == (rung,)
    return failing.strategy in (EVERY_STRATEGY, rung, strategy)


def _likely(desired: Desired, stage: StageManifest, recipe: Recipe) -> Gate:
    """Forgetting, unless there is nothing to forget or the comparison would only warn; else the next gate there is."""
    gates, last = stage.spec.gates or desired.spec.gates, len(recipe.legs) - 1
    compared = phases(recipe, last, recipe.legs[last].iterations)
    if gates.forgetting is not None and old_sets(desired, stage) and compared is not Phases.START_COOLED:
        return Gate.FORGETTING
    if gates.target and not recipe.pilot:
        return Gate.TARGET
    return Gate.RECOVERY if gates.recovery is not None else Gate.DIVERGENCE
