"""Gates on hand-made numbers: the exact bounds, what is missing, and that nothing fails without numbers."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.gates import diverged, forgetting, needed, recovery
from reconciler.model.gates import Gates, Limits
from reconciler.model.observed import LogPoint, LogWindow, TrainLog
from reconciler.model.verdict import Level

LIMITS = Limits(warn=Decimal("0.05"), fail=Decimal("0.10"))
TENTH = Fraction(1, 10)
VOCABULARY = 257
GUESS = math.log(VOCABULARY)


# --- forgetting


@pytest.mark.parametrize(
    ("after", "level"),
    [
        pytest.param(1.5, Level.PASS, id="the loss fell"),
        pytest.param(2.0, Level.PASS, id="no change"),
        pytest.param(2.05, Level.PASS, id="exactly the warning bound passes"),
        pytest.param(2.050001, Level.WARN, id="just above the warning bound"),
        pytest.param(2.1, Level.WARN, id="exactly the failing bound only warns"),
        pytest.param(2.100001, Level.FAIL, id="just above the failing bound"),
        pytest.param(math.inf, Level.FAIL, id="an infinite loss fails"),
        pytest.param(math.nan, Level.FAIL, id="a loss that is no number fails"),
    ],
)
def test_forgetting_levels(after: float, level: Level) -> None:
    result = forgetting({"old": 2.0}, {"old": after}, ("old",), LIMITS, same_phase=True)
    assert (result.gate, result.level) == ("forgetting", level)


def test_the_worst_old_set_decides_and_every_number_is_kept() -> None:
    before, after = {"a": 1.0, "b": 2.0, "new": 9.0}, {"a": 1.02, "b": 2.2, "new": 99.0}
    result = forgetting(before, after, ("a", "b"), LIMITS, same_phase=True)
    assert result.level is Level.FAIL
    assert result.message == "b +0.200 nats (2.000 → 2.200), more than 0.10"
    assert set(result.numbers) == {"warn", "fail"} | {f"{s}.{k}" for s in "ab" for k in ("before", "after", "rise")}
    assert result.numbers["b.rise"] == pytest.approx(0.2)


def test_a_set_without_a_number_outweighs_a_small_rise() -> None:
    both = {"a": 1.0, "b": 1.0}
    for after in ({"a": 1.01, "b": math.nan}, {"a": math.nan, "b": 1.01}):
        assert forgetting(both, after, ("a", "b"), LIMITS, same_phase=True).level is Level.FAIL


def test_a_comparison_across_a_cooldown_says_so() -> None:
    result = forgetting({"a": 1.0}, {"a": 1.06}, ("a",), LIMITS, same_phase=False)
    assert result.message == (
        "a +0.060 nats (1.000 → 1.060), above the warning line of 0.05 (fails above 0.10) (compared across a cooldown)"
    )


def test_nothing_old_is_nothing_to_forget() -> None:
    result = forgetting({}, {"new": 5.0}, (), LIMITS, same_phase=True)
    assert (result.level, result.message) == (Level.PASS, "no earlier dataset to forget")


# --- recovery


def window(first: int, last: int, mean: float | None, missing: int = 0) -> LogWindow:
    return LogWindow(first, last, mean, mean, mean, 1e-3, last - first + 1, missing)


def log(*windows: LogWindow, last: tuple[float | None, ...] = ()) -> TrainLog:
    points = tuple(LogPoint(i, loss, 1e-3) for i, loss in enumerate(last))
    return TrainLog("key", last=points, windows=windows)


@pytest.mark.parametrize(
    ("windows", "level", "early", "late"),
    [
        pytest.param([window(1, 10, 3.0), window(76, 100, 2.9)], Level.PASS, 3.0, 2.9, id="fell"),
        pytest.param([window(1, 10, 3.0), window(76, 100, 3.0)], Level.FAIL, 3.0, 3.0, id="stayed"),
        pytest.param([window(1, 10, 3.0), window(76, 100, 3.1)], Level.FAIL, 3.0, 3.1, id="rose"),
        pytest.param(
            [window(1, 10, 3.0), window(11, 75, 9.0), window(76, 100, 2.0)], Level.PASS, 3.0, 2.0, id="middle is free"
        ),
        pytest.param([window(1, 11, 3.0), window(76, 100, 2.0)], Level.PASS, 3.0, 2.0, id="a wide first window counts"),
        pytest.param(
            [window(1, 5, 5.0), window(6, 10, 1.0), window(76, 100, 2.0)], Level.PASS, 3.0, 2.0, id="means by lines"
        ),
        pytest.param(
            [window(1, 8, 4.0, missing=6), window(9, 10, 2.0), window(76, 100, 2.5)],
            Level.PASS,
            3.0,
            2.5,
            id="lines without a loss do not weigh",
        ),
        pytest.param(
            [window(1, 10, 3.0), window(75, 80, 9.0), window(81, 100, 2.0)],
            Level.PASS,
            3.0,
            2.0,
            id="last quarter only",
        ),
    ],
)
def test_recovery_compares_the_last_quarter_with_the_first_grace(
    windows: list[LogWindow], level: Level, early: float, late: float
) -> None:
    result = recovery([log(*windows)], 100, TENTH)
    assert (result.gate, result.level) == ("recovery", level)
    assert result.numbers == {"early": early, "late": late, "grace": 0.1}


def test_recovery_reads_all_jobs_of_the_leg() -> None:
    result = recovery([log(window(1, 10, 3.0)), log(window(76, 100, 2.0))], 100, TENTH)
    assert (result.numbers["early"], result.numbers["late"]) == (3.0, 2.0)


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param([], id="nothing logged"),
        pytest.param([window(1, 10, None, missing=10), window(76, 100, 2.0)], id="no early loss"),
        pytest.param([window(1, 10, 2.0)], id="no late window"),
        pytest.param([window(1, 10, 2.0), window(76, 100, None, missing=25)], id="no late loss"),
        pytest.param([window(90, 100, 2.0)], id="only the end was logged"),
        pytest.param([window(80, 90, 2.0), window(91, 100, 2.1)], id="the beginning was lost"),
    ],
)
def test_recovery_without_numbers_passes_and_says_so(windows: list[LogWindow]) -> None:
    result = recovery([log(*windows)], 100, TENTH)
    assert (result.level, result.numbers) == (Level.PASS, {})
    assert "too few iterations" in result.message


# --- divergence

HEALTHY = window(1, 20, 2.0)


@pytest.mark.parametrize(
    ("of", "why"),
    [
        pytest.param(log(), None, id="nothing logged"),
        pytest.param(log(last=(None, None)), None, id="two missing losses may come back"),
        pytest.param(log(last=(2.0, None, None, None)), "NaN", id="three missing losses in a row do not"),
        pytest.param(log(last=(None, None, 2.0, None)), None, id="missing losses apart"),
        pytest.param(log(HEALTHY, last=(GUESS + 0.1,) * 3), "diverged", id="worse than guessing after having learned"),
        pytest.param(log(HEALTHY, last=(GUESS + 0.1,) * 2), None, id="two bad lines are too few"),
        pytest.param(log(HEALTHY, last=(9.0, GUESS - 0.01, 9.0)), None, id="one line below guessing"),
        pytest.param(log(HEALTHY, last=(9.0, None, 9.0)), None, id="a missing line among bad ones"),
        pytest.param(log(window(1, 20, GUESS), last=(GUESS + 0.1,) * 3), None, id="a fresh run starts at guessing"),
        pytest.param(log(window(1, 9, None, missing=9), last=(9.0,) * 3), None, id="a window without a loss"),
        pytest.param(log(HEALTHY, last=(math.inf,) * 3), "diverged", id="an infinite loss"),
    ],
)
def test_divergence(of: TrainLog, why: str | None) -> None:
    found = diverged(of, VOCABULARY)
    assert found is None if why is None else why in str(found)


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 20)), max_size=6),
    st.lists(st.one_of(st.none(), st.floats(0, 20)), max_size=4),
)
def test_a_run_stops_only_on_three_lines(last: list[float | None], means: list[float | None]) -> None:
    of = log(*(window(i * 5 + 1, i * 5 + 5, mean) for i, mean in enumerate(means)), last=tuple(last))
    if diverged(of, VOCABULARY) is not None:
        assert len(last) >= 3
        assert all(loss is None or loss > GUESS for loss in last[-3:])


def test_gates_that_are_on() -> None:
    assert needed(Gates()) == ("forgetting", "recovery")
    assert needed(Gates(forgetting=None, recovery=None)) == ()
