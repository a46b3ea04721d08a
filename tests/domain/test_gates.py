"""Gates on hand-made numbers: the exact bounds, what is missing, and that nothing fails without numbers."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.gates import (
    Before,
    OnTheWay,
    Phases,
    continuity,
    conversion,
    diverged,
    external,
    forgetting,
    forgetting_on_the_way,
    guesses,
    losses_before,
    phases,
    recovery,
    spike,
    target,
)
from reconciler.model.gates import ContinuityGate, ExternalGate, ForgettingGate, Limits, SpikeGate
from reconciler.model.observed import LogPoint, LogWindow, TrainLog
from reconciler.model.verdict import Level

LIMITS = Limits(warn=Decimal("0.05"), fail=Decimal("0.10"))
TENTH = Fraction(1, 10)
VOCABULARY = 257
GUESS = math.log(VOCABULARY)


def window(first: int, last: int, mean: float | None, missing: int = 0) -> LogWindow:
    return LogWindow(first, last, mean, mean, mean, 1e-3, last - first + 1, missing)


def log(*windows: LogWindow, last: tuple[float | None, ...] = ()) -> TrainLog:
    points = tuple(LogPoint(i, loss, 1e-3) for i, loss in enumerate(last))
    return TrainLog("key", last=points, windows=windows)


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
    result = forgetting({"old": 2.0}, {"old": after}, ("old",), LIMITS, Phases.SAME)
    assert (result.gate, result.level) == ("forgetting", level)


def test_the_worst_old_set_decides_and_every_number_is_kept() -> None:
    before, after = {"a": 1.0, "b": 2.0, "new": 9.0}, {"a": 1.02, "b": 2.2, "new": 99.0}
    result = forgetting(before, after, ("a", "b"), LIMITS, Phases.SAME)
    assert result.level is Level.FAIL
    assert result.message == "b +0.200 nats (2.000 → 2.200), more than 0.10"
    assert set(result.numbers) == {"warn", "fail"} | {f"{s}.{k}" for s in "ab" for k in ("before", "after", "rise")}
    assert result.numbers["b.rise"] == pytest.approx(0.2)


def test_a_set_without_a_number_outweighs_a_small_rise() -> None:
    both = {"a": 1.0, "b": 1.0}
    for after in ({"a": 1.01, "b": math.nan}, {"a": math.nan, "b": 1.01}):
        assert forgetting(both, after, ("a", "b"), LIMITS, Phases.SAME).level is Level.FAIL


def test_a_comparison_across_a_cooldown_says_so() -> None:
    result = forgetting({"a": 1.0}, {"a": 1.06}, ("a",), LIMITS, Phases.END_COOLED)
    assert result.message == (
        "a +0.060 nats (1.000 → 1.060), above the warning line of 0.05 (fails above 0.10) (compared across a cooldown)"
    )


def test_nothing_old_is_nothing_to_forget() -> None:
    result = forgetting({}, {"new": 5.0}, (), LIMITS, Phases.SAME)
    assert (result.level, result.message) == (Level.PASS, "no earlier dataset to forget")


def test_a_source_that_had_cooled_down_is_no_proof_of_forgetting() -> None:
    """Cooling down alone lowers a loss, so the rise may be the rate's."""
    result = forgetting({"a": 1.0}, {"a": 1.5}, ("a",), LIMITS, Phases.START_COOLED)
    assert result.level is Level.WARN
    assert "a source that had cooled down" in result.message


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        pytest.param(2e-4, 2e-4, Phases.SAME, id="a plateau"),
        pytest.param(2e-4, 2.83e-4, Phases.SAME, id="another batch, and the rate with it"),
        pytest.param(2e-4, 1e-4, Phases.SAME, id="rewarmed to half of it"),
        pytest.param(2e-4, 0.0, Phases.END_COOLED, id="a cooldown"),
        pytest.param(2e-4, 2e-5, Phases.END_COOLED, id="to a tenth"),
        pytest.param(0.0, 2e-4, Phases.START_COOLED, id="rewarmed, and not cooled down again"),
        pytest.param(0.0, 0.0, Phases.SAME, id="rewarmed, and cooled down again"),
        pytest.param(0.0, 1e-6, Phases.SAME, id="rates that are as good as 0"),
    ],
)
def test_phases_go_by_the_two_rates(start: float, end: float, found: Phases) -> None:
    assert phases(start, end, 2e-4) is found


# --- forgetting on the way

GATE = ForgettingGate(every="10%", weak=LIMITS)


def way(*rises: float, first: int = 1) -> list[OnTheWay]:
    """An evaluation at every tenth of 1 000 tokens."""
    return [OnTheWay((first + place) * 100, {"old": 2.0 + rise}) for place, rise in enumerate(rises)]


@pytest.mark.parametrize(
    ("seen", "ends"),
    [
        pytest.param(way(), False, id="nothing evaluated"),
        pytest.param(way(0.2, 0.2), False, id="two are too few"),
        pytest.param(way(0.2, 0.2, 0.2), True, id="three in a row"),
        pytest.param(way(0.2, 0.05, 0.2, 0.2), False, id="one in between has recovered"),
        pytest.param(way(0.05, 0.2, 0.2, 0.2), True, id="the last three count"),
        pytest.param(way(0.2, 0.2, 0.2, 0.1), False, id="the newest is at the bound"),
        pytest.param(way(0.2, 0.2, math.nan), True, id="no number is no recovery"),
        pytest.param(way(0.2, 0.2, 0.2, first=0), False, id="the first one is within the grace"),
        pytest.param(list(reversed(way(0.05, 0.2, 0.2, 0.2))), True, id="in whatever order they were found"),
    ],
)
def test_an_attempt_ends_early_when_evaluations_in_a_row_fail(seen: list[OnTheWay], ends: bool) -> None:
    result = forgetting_on_the_way({"old": 2.0}, seen, ("old",), GATE, LIMITS, 1_000)
    assert (result is not None) == ends
    if result is not None:
        assert (result.gate, result.level) == ("forgetting", Level.FAIL)
        assert result.numbers["tokens.saved"] == 1_000 - max(at.tokens for at in seen)


def test_an_early_end_says_what_was_seen_and_what_it_saves() -> None:
    result = forgetting_on_the_way({"old": 2.0}, way(0.2, 0.3, 0.4), ("old",), GATE, LIMITS, 1_000)
    assert result is not None
    assert result.message == (
        "old +0.200 at 10 %, old +0.300 at 20 %, old +0.400 at 30 % of the tokens: 3 evaluations in a row above 0.10 "
        "nats; ended early, 700 tokens are not spent"
    )
    assert result.numbers["old.rise at 300 tokens"] == 0.4


def test_what_is_compared_with_a_cooled_source_ends_nothing_early() -> None:
    seen = [OnTheWay(at.tokens, at.losses, Phases.START_COOLED) for at in way(0.2, 0.3, 0.4)]
    assert forgetting_on_the_way({"old": 2.0}, seen, ("old",), GATE, LIMITS, 1_000) is None
    assert forgetting_on_the_way({}, way(0.2, 0.3, 0.4), (), GATE, LIMITS, 1_000) is None


# --- continuity


def points(*losses: float | None, first: int = 1) -> tuple[LogPoint, ...]:
    return tuple(LogPoint(first + place, loss, 1e-3) for place, loss in enumerate(losses))


def loaded(*losses: float | None) -> TrainLog:
    return TrainLog("key", first=points(*losses))


STEADY = Before(2.0, 0.005)
NOISY = Before(2.0, 0.1)


@pytest.mark.parametrize(
    ("losses", "earlier", "same_data", "level"),
    [
        pytest.param((2.0,) * 20, STEADY, True, Level.PASS, id="as before"),
        pytest.param((1.5,) * 20, STEADY, True, Level.PASS, id="lower than before"),
        pytest.param((2.05,) * 20, Before(2.0, 0.0), True, Level.PASS, id="at the bound, within rounding"),
        pytest.param((2.06,) * 20, STEADY, True, Level.FAIL, id="above the rise that is allowed"),
        pytest.param((2.3,) * 20, NOISY, True, Level.PASS, id="within 6 sigma"),
        pytest.param((2.61,) * 20, NOISY, True, Level.FAIL, id="above 6 sigma"),
        pytest.param((2.0,) * 2, STEADY, True, None, id="two lines say nothing"),
        pytest.param((), STEADY, True, None, id="nothing logged"),
        pytest.param((None,) * 20, STEADY, True, None, id="lost losses are divergence's"),
        pytest.param((None, *(2.06,) * 19), STEADY, True, Level.FAIL, id="a line without a loss is left out"),
        pytest.param((2.2,) * 19, STEADY, True, Level.PASS, id="nineteen lines are too few"),
        pytest.param((*(None,) * 11, *(2.2,) * 9), STEADY, True, Level.PASS, id="so are nine with a loss"),
        pytest.param((math.inf,) * 3, STEADY, True, Level.FAIL, id="an infinite loss"),
        pytest.param((3.5,) * 20, STEADY, False, Level.PASS, id="other data: a rise is expected"),
        pytest.param((GUESS - 0.99,) * 3, STEADY, False, Level.FAIL, id="other data: no better than guessing"),
        pytest.param((GUESS, GUESS, GUESS, *(2.0,) * 17), STEADY, True, Level.FAIL, id="it has learned since"),
        pytest.param((GUESS - 0.99,) * 3, None, False, Level.FAIL, id="nothing to compare: guessing"),
        pytest.param((3.5,) * 20, None, False, Level.PASS, id="nothing to compare"),
        pytest.param((GUESS,) * 20, Before(GUESS, 0.05), True, Level.PASS, id="a young model guesses before it too"),
    ],
)
def test_continuity_of_a_load(
    losses: tuple[float | None, ...], earlier: Before | None, same_data: bool, level: Level | None
) -> None:
    result = continuity(loaded(*losses), earlier, ContinuityGate(), VOCABULARY, same_data=same_data)
    assert (result.level if result is not None else None) == level


def test_a_discontinuity_says_by_how_much_and_more_than_what() -> None:
    results = [
        continuity(loaded(*(2.7,) * 20), earlier, ContinuityGate(), VOCABULARY, same_data=True)
        for earlier in (STEADY, NOISY)
    ]
    assert [result.message for result in results if result is not None] == [
        "the first 20 losses after the load average 2.700, +0.700 from 2.000 before; more than 0.05",
        "the first 20 losses after the load average 2.700, +0.700 from 2.000 before; more than 0.600, which is 6 σ of "
        "0.100",
    ]
    assert results[1] is not None
    assert results[1].numbers == {
        "first": 2.7, "lines": 20.0, "start": pytest.approx(2.7), "guess": GUESS, "before": 2.0, "deviation": 0.1,
        "rise": pytest.approx(0.7), "limit": pytest.approx(0.6),
    }  # fmt: skip


def test_the_losses_before_a_load_are_the_last_ones_up_to_it() -> None:
    of = TrainLog("key", last=points(2.0, 2.2, 2.0, 2.2, 9.0, 9.0, first=97))
    found = losses_before([of], 100)
    assert found is not None
    assert found.mean == pytest.approx(2.1)
    assert losses_before([], 100) is None
    assert losses_before([TrainLog("empty")], 100) is None


def test_a_job_that_was_killed_long_after_its_last_save_is_known_by_its_windows() -> None:
    of = TrainLog("key", last=points(*(1.0, 1.2) * 10, first=180), windows=(window(1, 50, 3.0), window(51, 120, 2.0)))
    found = losses_before([of], 100)
    assert found is not None
    assert found.mean == 2.0
    assert found.deviation == pytest.approx(0.1)
    older = TrainLog("older", last=points(*(5.0,) * 5, first=1))
    assert losses_before([older, of], 100) == found, "the newest job that tells of it"
    assert losses_before([older, TrainLog("later", last=points(*(1.0,) * 5, first=200))], 100) == Before(5.0, 0.0)


@pytest.mark.parametrize(("found", "level"), [(2.009, Level.PASS), (2.02, Level.FAIL), (1.98, Level.FAIL),
                                              (math.nan, Level.FAIL)])  # fmt: skip
def test_a_conversion_keeps_the_frozen_losses_either_way(found: float, level: Level) -> None:
    result = conversion({"a": 2.0, "b": 3.0}, {"a": found, "b": 3.0}, ("a", "b"), 0.01)
    assert (result.gate, result.level) == ("conversion", level)
    assert result.numbers["a.own"] == 2.0


def test_a_source_guesses_when_it_does_so_on_every_old_set() -> None:
    assert guesses({"a": GUESS, "b": GUESS - 0.5}, ("a", "b"), VOCABULARY) is not None
    assert guesses({"a": GUESS, "b": 2.0}, ("a", "b"), VOCABULARY) is None
    assert guesses({"a": GUESS, "new": 2.0}, ("a",), VOCABULARY) is not None
    assert guesses({}, ("a",), VOCABULARY) is None


# --- spikes


def spread(first: int, last: int, mean: float, deviation: float, high: float) -> LogWindow:
    return LogWindow(first, last, mean, mean, high, 1e-3, last - first + 1, 0, spread=deviation)


def singles(*losses: float, first: int = 1) -> list[LogWindow]:
    """One line a window, as a short log has them."""
    return [spread(first + place, first + place, loss, 0.0, loss) for place, loss in enumerate(losses)]


CALM = spread(1, 100, 2.0, 0.1, 2.2)


@pytest.mark.parametrize(
    ("windows", "spikes", "level"),
    [
        pytest.param([CALM, spread(101, 200, 2.0, 0.1, 2.59)], 0, Level.PASS, id="below 6 sigma"),
        pytest.param([CALM, spread(101, 200, 2.0, 0.1, 2.61)], 1, Level.WARN, id="one spike is tolerated and told"),
        pytest.param(
            [CALM, *(spread(i * 100 + 1, i * 100 + 100, 2.0, 0.1, 2.7) for i in range(1, 4))], 3, Level.WARN,
            id="three are tolerated"),
        pytest.param(
            [CALM, *(spread(i * 100 + 1, i * 100 + 100, 2.0, 0.1, 2.7) for i in range(1, 5))], 4, Level.FAIL,
            id="four in a short run are not"),
        pytest.param(singles(*(2.0, 2.2) * 16, 2.8), 1, Level.WARN, id="single lines before it are put together"),
        pytest.param(singles(*(2.0, 2.2) * 15, 2.8), None, Level.PASS, id="too few lines before it"),
        pytest.param([CALM, spread(101, 200, 2.0, 0.1, math.inf)], 1, Level.WARN, id="an infinite loss"),
        pytest.param([window(1, 100, 2.0), window(101, 200, 9.0)], None, Level.PASS, id="no spread is logged"),
        pytest.param([spread(1, 100, 2.0, math.nan, 2.0), spread(101, 200, 2.0, 0.1, 9.0)], None, Level.PASS,
                     id="a spread that is no number"),
        pytest.param([], None, Level.PASS, id="nothing logged"),
    ],
)  # fmt: skip
def test_spikes_are_counted_against_the_lines_before(
    windows: list[LogWindow], spikes: int | None, level: Level
) -> None:
    result = spike([log(*windows)], SpikeGate())
    assert (result.gate, result.level, result.numbers.get("spikes")) == ("spike", level, spikes)


def test_a_long_run_tolerates_as_many_in_every_ten_thousand() -> None:
    long = [spread(i * 1000 + 1, i * 1000 + 1000, 2.0, 0.1, 2.7 if i % 5 == 4 else 2.2) for i in range(40)]
    result = spike([log(*long)], SpikeGate())
    assert (result.level, result.numbers["spikes"], result.numbers["allowed"]) == (Level.WARN, 8, 12)


def test_a_job_s_log_is_not_held_against_another_job_s() -> None:
    result = spike([log(CALM), log(spread(101, 200, 3.0, 0.1, 3.2))], SpikeGate())
    assert result.numbers == {}


# --- bounds on single numbers


@pytest.mark.parametrize(
    ("after", "level"),
    [({"a": 2.0}, Level.PASS), ({"a": 2.01}, Level.FAIL), ({"a": math.nan}, Level.FAIL), ({}, Level.FAIL)],
)
def test_a_target_must_be_reached(after: dict[str, float], level: Level) -> None:
    result = target(after, {"a": 2.0})
    assert (result.gate, result.level, result.numbers["a.target"]) == ("target", level, 2.0)


@pytest.mark.parametrize(
    ("bounds", "value", "level"),
    [
        ({"at_least": "0.5"}, 0.5, Level.PASS),
        ({"at_least": "0.5"}, 0.49, Level.FAIL),
        ({"at_most": "1.5"}, 1.5, Level.PASS),
        ({"at_most": "1.5"}, 1.51, Level.FAIL),
        ({"at_least": "0.4", "at_most": "0.6"}, 0.5, Level.PASS),
        ({"at_least": "0.4", "at_most": "0.6"}, 0.7, Level.FAIL),
    ],
)
def test_a_harness_s_number_against_its_bounds(bounds: dict[str, str], value: float, level: Level) -> None:
    gate = ExternalGate.model_validate({"name": "mmlu", "metric": ("results", "acc,none")} | bounds)
    result = external(value, gate)
    assert (result.gate, result.level, result.numbers["results.acc,none"]) == ("external", level, value)
    assert f"mmlu: results.acc,none is {value:g}" in result.message


# --- recovery


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
    if found is None or why is None:
        assert (found, why) == (None, None)
    else:
        assert (found.gate, found.level) == ("divergence", Level.FAIL)
        assert why in found.message
        assert found.numbers["lines"] == 3


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 20)), max_size=6),
    st.lists(st.one_of(st.none(), st.floats(0, 20)), max_size=4),
)
def test_a_run_stops_only_on_three_lines(last: list[float | None], means: list[float | None]) -> None:
    of = log(*(window(i * 5 + 1, i * 5 + 5, mean) for i, mean in enumerate(means)), last=tuple(last))
    if diverged(of, VOCABULARY) is not None:
        assert len(last) >= 3
        assert all(loss is None or loss > GUESS for loss in last[-3:])
