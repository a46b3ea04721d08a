"""When jobs may be submitted: hours of the week in a time zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from reconciler.model.cluster import SubmitWindow
from reconciler.model.fieldtypes import DAYS

DAYS_AHEAD = 8
"""Every window begins again within a week; one day more for one that a change of clocks moves."""


def opens(windows: Sequence[SubmitWindow], zone: str, now_s: float) -> datetime | None:
    """When the next window opens, in the zone's time; None if one is open at `now_s` (seconds since the epoch), or if
    there are no windows, which is always open."""
    if not windows:
        return None
    there = ZoneInfo(zone)
    today = datetime.fromtimestamp(now_s, there).date()
    spans = [span for offset in range(-1, DAYS_AHEAD) for span in _of_day(windows, today + timedelta(offset), there)]
    if any(begins.timestamp() <= now_s < ends.timestamp() for begins, ends in spans):
        return None
    return min((begins for begins, _ in spans if begins.timestamp() > now_s), key=datetime.timestamp)


def _of_day(windows: Sequence[SubmitWindow], day: date, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """(begin, end) of the windows that begin on a day."""
    for window in windows:
        if DAYS[day.weekday()] in window.days:
            begins, ends = _at(day, window.from_, zone), _at(day, window.to, zone)
            yield begins, ends if window.to > window.from_ else _at(day + timedelta(1), window.to, zone)


def _at(day: date, clock: str, zone: ZoneInfo) -> datetime:
    hours, minutes = (int(part) for part in clock.split(":"))
    whole_days, hour = divmod(hours, 24)
    return datetime.combine(day + timedelta(whole_days), time(hour, minutes), zone)
