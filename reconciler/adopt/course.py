"""The learning rate of a run that is over → legs that say the same, where the manifests' curves can. Pure.

Lengths are iterations of the run's own batch; positions count since its schedule began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Final

from reconciler.adopt.facts import Fact, Known, truth
from reconciler.domain.schedule import same_rate
from reconciler.launcher.scheduler import Schedule, WouldStop

PERCENT_DIGITS: Final = Decimal(1).scaleb(-12)
LENGTHS_SAME: Final = 1e-9
DECAYS: Final = ("cosine", "linear")


@dataclass(frozen=True, slots=True)
class Course:
    """One run's schedule, and the stretch of it that the run trained."""

    style: str
    peak: float
    low: float
    warmup: float
    decay: float
    """Where the schedule ends."""
    cooldown: float | None
    """Length of a constant schedule's cooldown, at its end."""
    begins: int
    """Position at the run's first step."""
    trained: int
    warms_anew: bool
    """It continues from a checkpoint with a schedule of its own."""
    continues: bool = False
    """It goes on along the decay of the run before it."""

    @property
    def ends(self) -> int:
        """Position at the run's last step."""
        return self.begins + self.trained

    @property
    def rate(self) -> float | None:
        """Where it stands at its end; None where the launcher itself would fail to say."""
        schedule = Schedule(self.peak, self.low, self.style, self.warmup, self.decay, self.decay, self.cooldown)
        try:
            return schedule.rate(self.ends)
        except (WouldStop, ValueError, ZeroDivisionError):
            return None

    @property
    def begins_decay(self) -> bool:
        """Whether a leg of its own says its decay from the first step on."""
        return self.style in DECAYS and self.begins == 0 and self.ends <= self.decay + 1

    def same_curve(self, other: Course) -> bool:
        """Whether both are one schedule."""
        same = (self.style, self.peak, self.low) == (other.style, other.peak, other.low)
        return same and all(
            math.isclose(one, two, rel_tol=LENGTHS_SAME, abs_tol=0.5)
            for one, two in ((self.warmup, other.warmup), (self.decay, other.decay))
        )


@dataclass(frozen=True, slots=True)
class PlainLeg:
    """One leg: fields of its `lr` in order, and its tokens where they are not the rest."""

    lr: tuple[tuple[str, Fact], ...]
    iterations: int | None = None


def course_of(
    known: Known, *, begins: int, trained: int, warms_anew: bool, before: Course | None
) -> tuple[Course, Fact]:
    """The run's schedule, and where its length is from."""
    length = _length(known, begins + trained)
    decay = float(length.value)
    stated = known.number("warmup")
    warmup = stated if stated is not None else (known.number("warmup_fraction") or 0.0) * decay
    cooling = known.fact("cooldown")
    cooldown = None
    if cooling is not None and truth(cooling.value):
        fraction = known.number("cooldown_fraction")
        cooldown = (0.05 if fraction is None else fraction) * decay
    course = Course(
        style=known.text("style"),
        peak=known.number("rate") or 0.0,
        low=known.number("rate_min") or 0.0,
        warmup=warmup,
        decay=decay,
        cooldown=cooldown,
        begins=begins,
        trained=trained,
        warms_anew=warms_anew,
    )
    goes_on = (
        before is not None
        and not warms_anew
        and (before.begins_decay or before.continues)
        and begins == before.ends
        and begins < math.floor(decay)
        and course.ends <= decay + 1
        and course.same_curve(before)
    )
    return replace(course, continues=goes_on), length


def _length(known: Known, ends: int) -> Fact:
    """How long the schedule is."""
    for name in ("decay", "decay_iterations", "train_iterations"):
        fact = known.fact(name)
        if fact is not None and known.number(name):
            return Fact(known.number(name) or 0.0, fact.source)
    about, step = known.fact("train_iterations_about"), _step(known)
    if about is not None and step and abs(int(about.value) - ends) > 10**9 / step + 1:
        return about
    return Fact(float(ends), "TODO: nothing tells how long the schedule was; it is taken to have ended with the run")


def _step(known: Known) -> int:
    return (known.integer("global_batch") or 0) * (known.integer("sequence_length") or 0)


class NotSaid(Exception):
    """A run that no stage can stand for; the message says why."""


def legs_of(course: Course, length: Fact, rates: tuple[Fact, Fact]) -> Sequence[PlainLeg]:
    """The legs of a run. `rates` are its peak and its lowest as the manifest names them.

    Raises:
        NotSaid: it ended inside its warm-up.
    """
    warms = course.warmup if course.begins == 0 else 0.0
    if warms and course.trained <= warms:
        raise NotSaid(
            f"it stopped at iteration {course.trained}, inside its warm-up of {course.warmup:g}: no stage can go on "
            "from a rate that has never been reached"
        )
    warmup = _warmup(course, length) if warms else ()
    rewarm = (
        (("rewarm", Fact(value=True, source="it continued with a schedule of its own")),) if course.warms_anew else ()
    )
    high, low = rates
    at = (("at", high),) if high.value != "lrMax" else ()
    to = (("to", low),) if low.value != "lrFinal" else ()
    if course.style == "constant" and course.cooldown is None:
        return [PlainLeg((("shape", _style(course)), *at, *warmup, *rewarm))]
    if course.style == "constant" and course.cooldown is not None:
        return _cooled(course, (at, to, warmup, rewarm))
    if course.continues:
        return [
            PlainLeg((("shape", Fact("continue", "the run before has the same schedule, up to where this begins")),))
        ]
    if course.begins_decay:
        shape: tuple[tuple[str, Fact], ...] = (("shape", Fact("cosine", _style(course).source)),)
        if course.style == "linear":
            shape = (
                ("shape", Fact("cooldown", _style(course).source)),
                ("decay", Fact("linear", "the launcher's linear")),
            )
        return [PlainLeg((*shape, *at, *to, *_over(course, length), *warmup, *rewarm))]
    return [_as_it_ended(course, rewarm)]


def _style(course: Course) -> Fact:
    return Fact(course.style, f"the launcher's LR_DECAY_STYLE={course.style}")


def _warmup(course: Course, length: Fact) -> tuple[tuple[str, Fact], ...]:
    """The share of the leg that comes to these iterations."""
    steps = math.ceil(course.warmup)
    share = (Decimal(steps) / Decimal(course.trained) * 100).quantize(PERCENT_DIGITS, ROUND_FLOOR)
    whole = share.quantize(Decimal(1))
    if math.ceil(Fraction(whole) / 100 * course.trained) == steps:
        share = whole
    told = f"{steps} of {course.trained} iterations; the schedule's {course.decay:g}: {length.source}"
    if length.guessed:
        told = f"TODO: {steps} of {course.trained} iterations, if the schedule ended with the run, which nothing tells"
    return (("warmup", Fact(f"{share.normalize():f}%", told)),)


def _over(course: Course, length: Fact) -> tuple[tuple[str, Fact], ...]:
    """The decay's own length, where the run stopped before its end."""
    if course.ends >= math.floor(course.decay):
        return ()
    falls = round(course.decay - max(course.begins, math.ceil(course.warmup)))
    return (("over", Fact(falls, f"its schedule ends at iteration {course.decay:g}: {length.source}")),)


def _cooled(course: Course, fields: tuple[tuple[tuple[str, Fact], ...], ...]) -> Sequence[PlainLeg]:
    """A constant schedule that falls at its end by 1 − √r."""
    at, to, warmup, rewarm = fields
    falls_at = round(course.decay - int(course.cooldown or 0))
    constant, cooldown = Fact("constant", _style(course).source), Fact("cooldown", "--lr_constant_plus_cooldown")
    if course.ends <= falls_at:
        return [PlainLeg((("shape", constant), *at, *warmup, *rewarm))]
    left = round(course.decay) - falls_at
    over = (("over", Fact(left, "the cooldown ends after the run")),) if course.ends < round(course.decay) else ()
    if course.begins == falls_at and not warmup:
        return [PlainLeg((("shape", cooldown), *at, *to, *over, *rewarm))]
    if course.begins < falls_at and falls_at > course.warmup:
        held = PlainLeg((("shape", constant), *at, *warmup, *rewarm), falls_at - course.begins)
        return [held, PlainLeg((("shape", cooldown), *at, *to, *over))]
    return [_as_it_ended(course, rewarm)]


def _as_it_ended(course: Course, rewarm: tuple[tuple[str, Fact], ...]) -> PlainLeg:
    """A schedule that no curve of ours is: only where it ended is said, which is what later stages build on."""
    rate = course.rate
    why = f"where it ended; its schedule ({course.style}, from position {course.begins}) is none that a leg can say"
    at = Fact(rate, why) if rate is not None else Fact("lrMax", "TODO: its rate at the end is not known")
    return PlainLeg((("shape", Fact("constant", "only its end is said")), ("at", at), *rewarm))


def named_rate(value: float, of: Fact, name: str, campaign: float) -> Fact:
    """A rate as the manifest writes it: by the campaign's name for it where it is that."""
    told = value == campaign or (value and campaign and same_rate(value, campaign))
    return Fact(name if told else value, of.source)
