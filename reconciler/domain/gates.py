"""Logged numbers → a verdict. Defaults and their sources: `docs/gates.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from reconciler.model.gates import Gates, Limits
from reconciler.model.observed import LogWindow, TrainLog
from reconciler.model.verdict import GateResult, Level

MISSING_LINES_MAX = 3
"""Consecutive lines without a loss that stop a run: a NaN in bf16 stays (launcher contract, log lines)."""


def _level(value: float, limits: Limits) -> Level:
    if not value <= float(limits.fail):  # a NaN fails too
        return Level.FAIL
    return Level.WARN if value > float(limits.warn) else Level.PASS


def forgetting(
    before: Mapping[str, float],
    after: Mapping[str, float],
    old_sets: Sequence[str],
    limits: Limits,
    *,
    same_phase: bool,
) -> GateResult:
    """Rise of each frozen validation loss on data that earlier stages trained (nats).

    `before` and `after` are losses by validation set at the stage's source checkpoint and at its end. With
    `same_phase` false the end is cooled down and the start is not; cooling alone lowers a loss, so a rise is then
    a rise in spite of it, and the message says so.
    """
    # The launcher prints six decimals; the noise of a binary difference must not push a rise over its bound.
    rises = {name: round(after[name] - before[name], 9) for name in old_sets}
    numbers = {"warn": float(limits.warn), "fail": float(limits.fail)}
    for name in old_sets:
        numbers |= {f"{name}.before": before[name], f"{name}.after": after[name], f"{name}.rise": rises[name]}
    if not rises:
        return GateResult("forgetting", Level.PASS, "no earlier dataset to forget", numbers)
    worst = max(rises, key=lambda name: (math.isnan(rises[name]), rises[name]))
    level = _level(rises[worst], limits)
    bound = {
        Level.FAIL: f", more than {limits.fail}",
        Level.WARN: f", above the warning line of {limits.warn} (fails above {limits.fail})",
    }.get(level, "")
    phase = "" if same_phase else " (compared across a cooldown)"
    message = f"{worst} {rises[worst]:+.3f} nats ({before[worst]:.3f} → {after[worst]:.3f}){bound}{phase}"
    return GateResult("forgetting", level, message, numbers)


def _mean(windows: Sequence[LogWindow]) -> float | None:
    told = [(w.mean, w.lines - w.missing) for w in windows if w.mean is not None and w.lines > w.missing]
    lines = sum(count for _, count in told)
    return sum(mean * count for mean, count in told) / lines if lines else None


def recovery(logs: Sequence[TrainLog], iterations: int, grace: Fraction) -> GateResult:
    """Training loss over the last quarter of a leg lies below its mean within the first `grace` of it.

    The slope of the last windows, which the literature uses, is noise on a plateau; two means are not. A leg whose
    log is too short to have both is passed with that said.
    """
    windows = [window for log in logs for window in log.windows]
    early = _mean(
        [w for w in windows if w.last <= max(1, math.ceil(grace * iterations))]
        or [w for w in windows[:1] if w.first <= iterations * 3 // 4]
    )
    late = _mean([w for w in windows if w.first > iterations * 3 // 4])
    if early is None or late is None:
        return GateResult("recovery", Level.PASS, "too few iterations logged to judge recovery", {})
    numbers = {"early": early, "late": late, "grace": float(grace)}
    if late >= early:
        text = f"training loss did not recover: {early:.3f} after the switch, {late:.3f} in the last quarter"
        return GateResult("recovery", Level.FAIL, text, numbers)
    return GateResult("recovery", Level.PASS, f"training loss {early:.3f} → {late:.3f}", numbers)


def diverged(log: TrainLog, vocabulary: int) -> str | None:
    """Why a running job should be stopped now, or None: a lost loss, or one no better than guessing.

    A bad load looks like ln(vocabulary); the stop line is one nat below it, and only a run that has left its
    first lines behind is held to it, since a run from random weights starts there.
    """
    if len(log.last) >= MISSING_LINES_MAX and all(p.loss is None for p in log.last[-MISSING_LINES_MAX:]):
        return f"no loss logged for {MISSING_LINES_MAX} iterations: the loss is NaN"
    guess = math.log(vocabulary) - 1
    recent = [p.loss for p in log.last[-MISSING_LINES_MAX:] if p.loss is not None]
    was_better = any(w.low is not None and w.low < guess for w in log.windows)
    if was_better and len(recent) == MISSING_LINES_MAX and min(recent) > guess + 1:
        return f"loss {min(recent):.2f} is above ln(vocabulary) = {guess + 1:.2f}: the run has diverged"
    return None


def needed(gates: Gates) -> tuple[str, ...]:
    """The gates that are on, for people."""
    return tuple(name for name in ("forgetting", "recovery") if getattr(gates, name) is not None)
