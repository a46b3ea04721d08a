"""When jobs may be submitted."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.windows import opens
from reconciler.model.cluster import SubmitWindow
from reconciler.model.fieldtypes import DAYS

NIGHTS = SubmitWindow.model_validate({"from": "20:00", "to": "06:00"})
WEEKEND = SubmitWindow.model_validate({"days": ["sat", "sun"], "from": "00:00", "to": "24:00"})
MONDAY_NOON = SubmitWindow.model_validate({"days": ["mon"], "from": "12:00", "to": "13:30"})
BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("windows", "zone", "now", "opening"),
    [
        pytest.param([], "UTC", "2026-11-25 12:00", None, id="no windows: always open"),
        pytest.param([NIGHTS], "UTC", "2026-11-25 12:00", "2026-11-25 20:00", id="by day, closed until the evening"),
        pytest.param([NIGHTS], "UTC", "2026-11-25 20:00", None, id="open from its first second"),
        pytest.param([NIGHTS], "UTC", "2026-11-26 05:59", None, id="open past midnight"),
        pytest.param([NIGHTS], "UTC", "2026-11-26 06:00", "2026-11-26 20:00", id="closed at its end"),
        pytest.param([WEEKEND], "UTC", "2026-11-27 23:59", "2026-11-28 00:00", id="Friday night: a minute to go"),
        pytest.param([WEEKEND], "UTC", "2026-11-29 23:59", None, id="24:00 is the end of the day"),
        pytest.param([WEEKEND], "UTC", "2026-11-30 00:00", "2026-12-05 00:00", id="Monday: until Saturday"),
        pytest.param([MONDAY_NOON], "UTC", "2026-11-30 13:30", "2026-12-07 12:00", id="just missed: a week"),
        pytest.param([MONDAY_NOON, NIGHTS], "UTC", "2026-11-30 07:00", "2026-11-30 12:00", id="the nearest of several"),
        pytest.param([NIGHTS], BERLIN, "2026-11-25 19:30", "2026-11-25 20:00", id="hours are the zone's"),
        pytest.param([NIGHTS], BERLIN, "2026-10-25 03:30", None, id="open through the hour that comes twice"),
    ],
)
def test_when_the_next_window_opens(windows: list[SubmitWindow], zone: str, now: str, opening: str | None) -> None:
    got = opens(windows, zone, at(now, zone))
    assert (got.timestamp() if got else None) == (at(opening, zone) if opening else None)


WINDOW = st.builds(
    lambda days, begin, end: SubmitWindow.model_validate({"days": days, "from": begin, "to": end}),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
    st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59)),
    st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59)),
)


@given(
    st.lists(WINDOW, min_size=1, max_size=3),
    st.sampled_from(["UTC", BERLIN, "America/Chicago", "Asia/Kathmandu"]),
    st.integers(int(at("2026-01-01 00:00")), int(at("2027-01-01 00:00"))),
)
def test_a_closed_window_opens_at_the_moment_that_was_told_and_within_eight_days(
    windows: list[SubmitWindow], zone: str, now_s: int
) -> None:
    opening = opens(windows, zone, now_s)
    if opening is not None:
        assert now_s < opening.timestamp() <= now_s + timedelta(days=8).total_seconds()
        assert opens(windows, zone, opening.timestamp()) is None
        assert opens(windows, zone, opening.timestamp() - 1) is not None or opening.timestamp() - 1 < now_s
