"""A verdict: warnings pass, failures do not, and its file reads back or is none."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.verdict import GateResult, Level, Verdict, read_verdict


def verdict(*levels: Level) -> Verdict:
    gates = tuple(GateResult(f"g{i}", level, f"{level} {i}", {"n": i / 2}) for i, level in enumerate(levels))
    return Verdict("stage-1", "0" * 12, "naive", 7, gates)


@pytest.mark.parametrize(
    ("levels", "passed", "message"),
    [
        pytest.param((), True, "no gate is on", id="no gates"),
        pytest.param((Level.PASS, Level.PASS), True, "pass 0; pass 1", id="all that was measured is told"),
        pytest.param((Level.PASS, Level.WARN), True, "warning: warn 1", id="a warning passes and is told"),
        pytest.param((Level.WARN, Level.FAIL, Level.FAIL), False, "fail 1; fail 2", id="failures are all told"),
    ],
)
def test_a_verdict_passes_unless_a_gate_fails(levels: tuple[Level, ...], passed: bool, message: str) -> None:
    assert (verdict(*levels).passed, verdict(*levels).message) == (passed, message)


@pytest.mark.parametrize("levels", [(), (Level.PASS,), (Level.WARN, Level.FAIL)])
def test_a_verdict_file_reads_back(levels: tuple[Level, ...]) -> None:
    text = verdict(*levels).to_file()
    assert json.loads(text)["passed"] is verdict(*levels).passed
    assert read_verdict(text) == verdict(*levels)


def test_passed_is_derived_and_not_believed() -> None:
    lied = verdict(Level.FAIL).to_file().replace('"passed": false', '"passed": true')
    read = read_verdict(lied)
    assert read is not None
    assert not read.passed


def test_a_number_that_is_none_survives() -> None:
    made = Verdict("s", "0" * 12, "n", 1, (GateResult("g", Level.FAIL, "m", {"after": math.nan}),))
    read = read_verdict(made.to_file())
    assert read is not None
    assert math.isnan(read.gates[0].numbers["after"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("3", id="a number"),
        pytest.param("{}", id="no fields"),
        pytest.param(verdict(Level.PASS).to_file()[:50], id="half written"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param(verdict(Level.PASS).to_file().replace('"pass"', '"maybe"'), id="an unknown level"),
    ],
)
def test_what_is_no_verdict_is_read_as_none(text: str) -> None:
    assert read_verdict(text) is None


@given(st.text())
def test_any_text_is_no_verdict(text: str) -> None:
    assert read_verdict(text) is None
