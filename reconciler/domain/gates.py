"""Logged numbers → answers of gates. Defaults, their sources and what was measured: `docs/gates.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from statistics import fmean, pstdev

from reconciler.model.gates import ContinuityGate, ExternalGate, ForgettingGate, Limits, SpikeGate
from reconciler.model.observed import LogWindow, TrainLog
from reconciler.model.quantities import approximate_tokens, counted
from reconciler.model.verdict import GateResult, Level

MISSING_LINES_MAX = 3
"""Consecutive lines without a loss that stop a run: a NaN in bf16 stays (launcher contract, log lines)."""
LOAD_LINES = 20
"""First losses after a load that are put together; a log keeps so many."""
LOAD_LINES_MIN = 3
"""Fewer say nothing of a load; and a model from random weights has learned something after more."""
SPIKE_LINES = 128
"""Iterations before a window that its highest loss is held against (OLMo-core, stability monitor)."""
SPIKE_LINES_MIN = 32
"""With fewer before it, a standard deviation says nothing."""
SPIKES_PER = 10_000
"""Iterations that `per_10k` counts in; a shorter run tolerates as many."""


def _level(value: float, limits: Limits) -> Level:
    if not value <= float(limits.fail):  # a NaN fails too
        return Level.FAIL
    return Level.WARN if value > float(limits.warn) else Level.PASS


def _guess(vocabulary: int) -> float:
    """The loss of an untrained model."""
    return math.log(vocabulary)


# --- forgetting ------------------------------------------------------------------------------------------------------


class Phases(StrEnum):
    """How the learning rate stood at the two checkpoints that are compared: cooling down alone lowers a loss."""

    SAME = "at the same phase of the learning rate"
    END_COOLED = "compared across a cooldown"
    START_COOLED = "compared with a source that had cooled down: part of the rise may be the rate's, so this only warns"


def phases(start: float, end: float, peak: float) -> Phases:
    """The comparison of checkpoints at two learning rates, of which below a hundredth of `peak` all are as good as 0.

    Rates within a factor of 2 are one phase: what a rate does to a loss goes with its magnitude, and another batch
    has another rate.
    """
    start, end = max(start, peak / 100), max(end, peak / 100)
    if end * 2 < start:
        return Phases.END_COOLED
    return Phases.START_COOLED if end > start * 2 else Phases.SAME


def forgetting(
    before: Mapping[str, float],
    after: Mapping[str, float],
    old_sets: Sequence[str],
    limits: Limits,
    compared: Phases,
) -> GateResult:
    """Rise of each frozen validation loss on data that earlier stages trained (nats).

    `before` and `after` are losses by validation set at the stage's source checkpoint and at its end. With the end
    cooled and the start not, a rise is one in spite of the cooldown; the other way round it may be no forgetting at
    all, and is not failed for.
    """
    rises = _rises(before, after, old_sets)
    numbers = {"warn": float(limits.warn), "fail": float(limits.fail)}
    for name in old_sets:
        numbers |= {f"{name}.before": before[name], f"{name}.after": after[name], f"{name}.rise": rises[name]}
    if not rises:
        return GateResult("forgetting", Level.PASS, "no earlier dataset to forget", numbers)
    worst = _worst(rises)
    level = _level(rises[worst], limits)
    bound = {
        Level.FAIL: f", more than {limits.fail}",
        Level.WARN: f", above the warning line of {limits.warn} (fails above {limits.fail})",
    }.get(level, "")
    if compared is Phases.START_COOLED and level is Level.FAIL:
        level = Level.WARN
    phase = "" if compared is Phases.SAME else f" ({compared})"
    message = f"{worst} {rises[worst]:+.3f} nats ({before[worst]:.3f} → {after[worst]:.3f}){bound}{phase}"
    return GateResult("forgetting", level, message, numbers)


def _rises(before: Mapping[str, float], after: Mapping[str, float], sets: Sequence[str]) -> dict[str, float]:
    # The launcher prints six decimals; the noise of a binary difference must not push a rise over its bound.
    return {name: round(after[name] - before[name], 9) for name in sets}


def _worst(rises: Mapping[str, float]) -> str:
    return max(rises, key=lambda name: (math.isnan(rises[name]), rises[name]))


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """Validation losses at a checkpoint before the stage's end."""

    tokens: int
    """Of the stage, trained by then."""
    losses: Mapping[str, float]
    compared: Phases = Phases.SAME


def forgetting_on_the_way(
    before: Mapping[str, float],
    seen: Sequence[OnTheWay],
    old_sets: Sequence[str],
    gate: ForgettingGate,
    limits: Limits,
    tokens: int,
) -> GateResult | None:
    """The verdict that ends an attempt before its `tokens` are spent, or None to train on.

    Losses dip first and come back (stability gap, arXiv 2406.14833): evaluations before `grace` do not count, and
    `consecutive` in a row must lie above `fail`.
    """
    counting = [at for at in sorted(seen, key=lambda at: at.tokens) if at.tokens >= Fraction(gate.grace) * tokens]
    last = counting[-gate.consecutive :]
    if not old_sets or len(last) < gate.consecutive:
        return None
    numbers = {"warn": float(limits.warn), "fail": float(limits.fail), "tokens": float(tokens)}
    told = []
    for at in last:
        result = forgetting(before, at.losses, old_sets, limits, at.compared)
        if result.level is not Level.FAIL:
            return None
        rises = _rises(before, at.losses, old_sets)
        worst = _worst(rises)
        told.append(f"{worst} {rises[worst]:+.3f} at {_percent(at.tokens, tokens)}")
        numbers |= {f"{name}.rise at {at.tokens} tokens": rise for name, rise in rises.items()}
    saved = max(0, tokens - last[-1].tokens)
    numbers["tokens.saved"] = float(saved)
    message = (
        f"{', '.join(told)} of the tokens: {counted(len(last), 'evaluation')} in a row above {limits.fail} nats; ended "
        f"early, {approximate_tokens(saved)} tokens are not spent"
    )
    return GateResult("forgetting", Level.FAIL, message, numbers)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %"


# --- continuity ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Before:
    """The losses that were logged last before a checkpoint that is loaded."""

    mean: float
    deviation: float
    """Standard deviation from line to line (nats); 0 where it is not known."""


def losses_before(logs: Sequence[TrainLog], iteration: int) -> Before | None:
    """What a leg's jobs logged up to one of its iterations; None where nothing of it is left."""
    for log in reversed(logs):
        found = _losses_before(log, iteration)
        if found is not None:
            return found
    return None


def _losses_before(log: TrainLog, iteration: int) -> Before | None:
    recent = [(p.iteration, p.loss) for p in log.last if p.loss is not None and math.isfinite(p.loss)]
    deviation = pstdev(loss for _, loss in recent) if len(recent) > 1 else 0.0
    losses = [loss for at, loss in recent if at <= iteration]
    if len(losses) >= LOAD_LINES_MIN:
        return Before(fmean(losses), deviation)
    # A job that is killed logs on past its last save: what it logged at the save is in a window alone.
    windows = [w for w in log.windows if w.first <= iteration and w.mean is not None and math.isfinite(w.mean)]
    if not windows:
        return None
    window = max(windows, key=lambda w: w.first)
    spread = window.spread if window.spread is not None and math.isfinite(window.spread) else deviation
    return Before(window.mean or 0.0, max(spread, deviation))


def continuity(
    log: TrainLog, earlier: Before | None, gate: ContinuityGate, vocabulary: int, *, same_data: bool
) -> GateResult | None:
    """Whether the first losses after a load go on where its parent's ended; None while there are too few.

    With the same data all `LOAD_LINES` may lie above the parent's mean by `rise`, or by `sigmas` standard deviations
    where that is more. Where the data changes a rise is expected, and only a loss near that of an untrained model is
    none of the data's doing.
    """
    losses = [point.loss for point in log.first[:LOAD_LINES] if point.loss is not None]
    if len(losses) < LOAD_LINES_MIN:
        return None
    first, start, line = fmean(losses), fmean(losses[:LOAD_LINES_MIN]), _guess(vocabulary) - 1
    numbers = {"first": first, "lines": float(len(losses)), "start": start, "guess": _guess(vocabulary)}
    if earlier is not None:
        numbers |= {"before": earlier.mean, "deviation": earlier.deviation, "rise": round(first - earlier.mean, 9)}
    if start > line and (earlier is None or earlier.mean <= line):
        was = "" if earlier is None else f"; before it they averaged {earlier.mean:.3f}"
        text = (
            f"the first {LOAD_LINES_MIN} losses after the load average {start:.3f}, and an untrained model's is "
            f"{_guess(vocabulary):.2f}{was}"
        )
        return GateResult("continuity", Level.FAIL, text, numbers)
    if earlier is None:
        return GateResult("continuity", Level.PASS, "nothing was logged before the load to compare with", numbers)
    rise = numbers["rise"]
    if not same_data:
        return GateResult("continuity", Level.PASS, f"{rise:+.3f} nats where the data changes", numbers)
    if len(log.first) < LOAD_LINES or len(losses) < LOAD_LINES // 2:
        return GateResult("continuity", Level.PASS, f"{rise:+.3f} nats; too few lines to judge it", numbers)
    limit = max(float(gate.rise), float(gate.sigmas) * earlier.deviation)
    numbers["limit"] = limit
    text = (
        f"the first {len(losses)} losses after the load average {first:.3f}, {rise:+.3f} from {earlier.mean:.3f} before"
    )
    if rise <= limit:
        return GateResult("continuity", Level.PASS, text, numbers)
    return GateResult("continuity", Level.FAIL, f"{text}; more than {_limit_told(gate, earlier, limit)}", numbers)


def _limit_told(gate: ContinuityGate, earlier: Before, limit: float) -> str:
    if limit > float(gate.rise):
        return f"{limit:.3f}, which is {gate.sigmas} σ of {earlier.deviation:.3f}"
    return f"{gate.rise}"


def conversion(
    own: Mapping[str, float], converted: Mapping[str, float], sets: Sequence[str], tolerance: float
) -> GateResult:
    """A converted checkpoint has the losses of the checkpoint that it was made from, on the same frozen sets."""
    differences = {name: abs(converted[name] - own[name]) for name in sets}
    numbers = {"tolerance": tolerance}
    for name in sets:
        numbers |= {f"{name}.own": own[name], f"{name}.converted": converted[name]}
    worst = _worst(differences)
    text = f"{worst} is {converted[worst]:.4f} after the conversion and {own[worst]:.4f} before it"
    if differences[worst] <= tolerance:
        return GateResult("conversion", Level.PASS, text, numbers)
    return GateResult("conversion", Level.FAIL, f"{text}, more than {tolerance:g} nats apart", numbers)


def guesses(losses: Mapping[str, float], sets: Sequence[str], vocabulary: int) -> str | None:
    """Why a source cannot be the trained checkpoint that it should be: it is no better than guessing on every set."""
    told = {name: losses[name] for name in sets if name in losses}
    if not told or min(told.values()) <= _guess(vocabulary) - 1:
        return None
    best = min(told, key=lambda name: told[name])
    return (
        f"its best validation loss is {told[best]:.2f} ({best}), and an untrained model's is {_guess(vocabulary):.2f}"
    )


# --- the training loss -----------------------------------------------------------------------------------------------


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


def spike(logs: Sequence[TrainLog], gate: SpikeGate) -> GateResult:
    """Losses far above those before them. A window counts once, however many spikes it has; one without `spread`
    before it is not judged."""
    highest, found, iterations, judged = 0.0, 0, 0, False
    for log in logs:
        iterations += sum(window.lines for window in log.windows)
        for place, window in enumerate(log.windows):
            earlier = _pooled(log.windows[:place])
            if earlier is None or window.high is None:
                continue
            judged = True
            mean, deviation = earlier
            above = (window.high - mean) / deviation if deviation > 0 else 0.0
            highest = max(highest, above)
            found += above > float(gate.sigmas)
    if not judged:
        return GateResult("spike", Level.PASS, "no spread of the loss is logged to judge spikes by", {})
    allowed = math.floor(gate.per_10k * max(SPIKES_PER, iterations) / SPIKES_PER)
    numbers = {
        "spikes": float(found),
        "allowed": float(allowed),
        "iterations": float(iterations),
        "highest": highest,
        "sigmas": float(gate.sigmas),
    }
    if not found:
        return GateResult("spike", Level.PASS, f"no spike: the loss rose by {highest:.1f} σ at most", numbers)
    text = f"{counted(found, 'spike')} above {gate.sigmas} σ in {counted(iterations, 'iteration')}"
    if found > allowed:
        return GateResult("spike", Level.FAIL, f"{text}; {allowed} are tolerated", numbers)
    return GateResult("spike", Level.WARN, f"{text} ({allowed} are tolerated)", numbers)


def _pooled(windows: Sequence[LogWindow]) -> tuple[float, float] | None:
    """Mean and standard deviation of the last `SPIKE_LINES` losses or so; None where too few are known."""
    count, total, squares = 0, 0.0, 0.0
    for window in reversed(windows):
        lines = window.lines - window.missing
        if window.mean is None or window.spread is None or lines < 1:
            continue
        if not math.isfinite(window.mean) or not math.isfinite(window.spread):
            continue
        count, total = count + lines, total + lines * window.mean
        squares += lines * (window.spread**2 + window.mean**2)
        if count >= SPIKE_LINES:
            break
    if count < SPIKE_LINES_MIN:
        return None
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2))


def diverged(log: TrainLog, vocabulary: int) -> GateResult | None:
    """Why a running job should be stopped now, or None: a lost loss, or one no better than guessing.

    The stop line is that of an untrained model, and only a run that has left its first lines behind is held to it,
    since a run from random weights starts there.
    """
    last = log.last[-MISSING_LINES_MAX:]
    if len(last) < MISSING_LINES_MAX:
        return None
    numbers = {"iteration": float(last[-1].iteration), "lines": float(len(last))}
    if all(point.loss is None for point in last):
        text = f"no loss logged for {MISSING_LINES_MAX} iterations: the loss is NaN"
        return GateResult("divergence", Level.FAIL, text, numbers)
    guess = _guess(vocabulary)
    recent = [point.loss for point in last if point.loss is not None]
    was_better = any(w.low is not None and w.low < guess - 1 for w in log.windows)
    if not was_better or len(recent) < MISSING_LINES_MAX or not min(recent) > guess:
        return None
    text = f"loss {min(recent):.2f} is above ln(vocabulary) = {guess:.2f}: the run has diverged"
    return GateResult("divergence", Level.FAIL, text, numbers | {"loss": min(recent), "guess": guess})


# --- bounds on single numbers ----------------------------------------------------------------------------------------


def target(after: Mapping[str, float], wanted: Mapping[str, float]) -> GateResult:
    """Losses that the end of a stage must reach."""
    numbers: dict[str, float] = {}
    missed = {}
    for name, bound in wanted.items():
        loss = after.get(name, math.nan)
        numbers |= {f"{name}.loss": loss, f"{name}.target": bound}
        if not loss <= bound:
            missed[name] = f"{name} is {loss:.3f}, its target {bound:g}"
    if missed:
        return GateResult("target", Level.FAIL, "; ".join(missed.values()), numbers)
    told = "; ".join(f"{name} {after[name]:.3f}, target {bound:g}" for name, bound in wanted.items())
    return GateResult("target", Level.PASS, told, numbers)


def external(value: float, gate: ExternalGate) -> GateResult:
    """A harness's number against its bounds."""
    name = ".".join(gate.metric)
    numbers = {name: value}
    text = f"{gate.name}: {name} is {value:g}"
    if gate.at_least is not None:
        numbers["at least"] = float(gate.at_least)
        if not value >= float(gate.at_least):
            return GateResult("external", Level.FAIL, f"{text}, below {gate.at_least}", numbers)
    if gate.at_most is not None:
        numbers["at most"] = float(gate.at_most)
        if not value <= float(gate.at_most):
            return GateResult("external", Level.FAIL, f"{text}, above {gate.at_most}", numbers)
    return GateResult("external", Level.PASS, text, numbers)
