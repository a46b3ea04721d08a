"""Jobs of every attempt over the hours, as rectangles in a drawing of fixed width. Pure: times are the cluster's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from reconciler.model.observed import Job, JobState
from reconciler.model.plan import ActionKey, Plan
from reconciler.model.quantities import counted, format_duration
from reconciler.planner.evidence import keyed
from reconciler.planner.ledger import Books
from reconciler.planner.look import Look
from reconciler.planner.why import what_of

WIDTH: Final = 960
LABELS: Final = 200
"""Room for the names of attempts, left of the hours."""
ROW: Final = 26
BAR: Final = 14
AXIS: Final = 24
NARROW: Final = 2.0
"""A job is never drawn narrower."""
JOBS_TOLD: Final = 200
"""The last of the campaign's jobs are told one by one."""
_STEPS_S: Final = (
    *(60 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3600 * n for n in (1, 2, 3, 6, 12)),
    *(86400 * n for n in (1, 2, 7, 14, 28, 91, 182, 365)),
)
_TICKS_MAX: Final = 8
YEARS_S: Final = 50 * 365 * 86400.0
"""Times further apart are no times of one campaign."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One job, drawn and in words."""

    x: float
    width: float
    waits_x: float
    """Where its wait in the queue begins."""
    kind: str
    """`train`, `evaluate` or `convert`."""
    state: str
    """`ended`, `failed`, `running` or `queued`."""
    what: str
    job: str
    began: str
    took: str
    came: str


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt."""

    stage: str
    strategy: str
    attempt: str
    outcome: str
    y: int
    bars: tuple[Bar, ...]
    """As they are drawn: jobs that would lie over each other are one."""
    jobs: tuple[Bar, ...]
    """Of the last of the campaign, each by itself."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """All rows; `height` in the same units as `WIDTH`."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    now_x: float
    height: int
    jobs: int
    """All of them, told or not."""
    width: int = WIDTH
    left: int = LABELS
    bar: int = BAR


def drawn(plan: Plan, look: Look, books: Books) -> Drawn | None:
    """The timeline; None before the first job."""
    by_attempt = _jobs(plan.campaign, look)
    times = [at for jobs in by_attempt.values() for _, job in jobs if (at := _begins(job)) is not None]
    if not times:
        return None
    first, now = min(times), look.now_s
    first = max(first, now - YEARS_S)
    span = max(1.0, now - first)

    def place(at_s: float) -> float:
        return round(LABELS + (WIDTH - LABELS - 4) * min(1.0, max(0.0, (at_s - first) / span)), 2)

    names = {entry.attempt: (entry.strategy, entry.outcome) for entry in books.entries}
    told = sorted(times)[-JOBS_TOLD:][0]
    rows = []
    for number, who in enumerate(_in_order(plan, by_attempt)):
        strategy, outcome = names.get(who[1], ("", "not judged"))
        each = [(at, _bar(key, job, now, place)) for key, job in by_attempt[who] if (at := _begins(job)) is not None]
        jobs = tuple(bar for at, bar in each if at >= told)
        bars = tuple(_side_by_side([bar for _, bar in each]))
        rows.append(Row(who[0], strategy, who[1], outcome, AXIS + number * ROW, bars, jobs))
    height = AXIS + len(rows) * ROW + 6
    return Drawn(tuple(rows), tuple(_ticks(first, now, place)), place(now), height, len(times))


Who = tuple[str, str]
"""Stage and attempt."""
Jobs = Mapping[Who, Sequence[tuple[ActionKey, Job]]]


def _in_order(plan: Plan, jobs: Jobs) -> list[Who]:
    """As the campaign's stages are, and then as they began."""
    order = {status.stage: number for number, status in enumerate(plan.stages)}

    def place(who: Who) -> tuple[int, float]:
        times = [at for _, job in jobs[who] if (at := _begins(job)) is not None]
        return order.get(who[0], len(order)), min(times, default=math.inf)

    return sorted(jobs, key=place)


def _side_by_side(bars: Sequence[Bar]) -> Iterator[Bar]:
    """Bars of one kind and state that would lie over each other become one, so that months of jobs can be drawn."""
    some: list[Bar] = []
    for bar in bars:
        if some and (bar.kind, bar.state) == (some[0].kind, some[0].state) and bar.x < some[-1].x + some[-1].width:
            some.append(bar)
            continue
        yield from _as_one(some)
        some = [bar]
    yield from _as_one(some)


def _as_one(bars: Sequence[Bar]) -> Iterator[Bar]:
    if len(bars) < 2:
        yield from bars
        return
    first, last = bars[0], bars[-1]
    what = f"{counted(len(bars), 'job')}, {first.what} to {last.what}"
    yield replace(first, width=round(last.x + last.width - first.x, 2), what=what, job="", took=f"to {last.began}")


def _jobs(campaign: str, look: Look) -> Jobs:
    found: dict[Who, list[tuple[ActionKey, Job]]] = {}
    for key, job in keyed(look.jobs, look.receipts):
        if key.campaign == campaign and key.kind.submits:
            found.setdefault((key.stage, key.attempt), []).append((key, job))
    for jobs in found.values():
        jobs.sort(key=lambda pair: _begins(pair[1]) or 0.0)
    return found


def _begins(job: Job) -> float | None:
    """When it started, else since when it waits."""
    return job.started_s if job.started_s is not None else job.queued_s


def _bar(key: ActionKey, job: Job, now: float, place: Callable[[float], float]) -> Bar:
    begins = _begins(job) or 0.0
    started = job.started_s is not None
    ends = job.ended_s if job.ended_s is not None else now
    x = place(begins)
    state = "ended"
    if job.live:
        state = "running" if job.state in (JobState.RUNNING, JobState.EXITING) and started else "queued"
    elif job.exit_status:
        state = "failed"
    came = str(job.state) if job.exit_status is None else f"exit status {job.exit_status}"
    return Bar(
        x=x,
        width=round(max(NARROW, place(ends) - x), 2),
        waits_x=place(job.queued_s) if job.queued_s is not None and started else x,
        kind=str(key.kind),
        state=state,
        what=what_of(key),
        job=job.job_id,
        began=clock(begins) if started else f"queued since {clock(begins)}",
        took=format_duration(max(0.0, ends - begins)),
        came=came + (f": {job.comment}" if job.comment and (job.exit_status or job.live) else ""),
    )


def clock(at_s: float) -> str:
    """A time by the cluster's clock, in UTC: `2026-11-27 18:30`."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "at no time"


def _ticks(first: float, now: float, place: Callable[[float], float]) -> Iterator[Tick]:
    step = next((step for step in _STEPS_S if (now - first) / step <= _TICKS_MAX), _STEPS_S[-1])
    form = "%H:%M" if step < 86400 else "%d %b" if step < 91 * 86400 else "%b %Y"
    at = first - first % step + step
    while at <= now:
        text = datetime.fromtimestamp(at, UTC).strftime(form)
        if step < 86400 and at % 86400 < step:
            text = datetime.fromtimestamp(at, UTC).strftime("%d %b")
        yield Tick(place(at), text)
        at += step
