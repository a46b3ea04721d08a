"""What harnesses write is anybody's file: one number is found in it, or it is said why there is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.external import DEPTH_MAX, EXTERNAL_CHARS_MAX, NoNumber, metric

HARNESS = json.dumps({"results": {"mmlu": {"acc,none": 0.41, "alias": "mmlu"}, "arc": {"acc,none": 1}}, "n": [1, 2]})


@pytest.mark.parametrize(
    ("path", "found"),
    [(("results", "mmlu", "acc,none"), 0.41), (("results", "arc", "acc,none"), 1.0)],
)
def test_a_number_is_found_by_its_keys(path: tuple[str, ...], found: float) -> None:
    assert metric(HARNESS, path) == found


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (("results", "mmlu"), "at results → mmlu there is an object, not a number"),
        (("results", "mmlu", "alias"), "at results → mmlu → alias there is a text, not a number"),
        (("results", "gsm8k", "acc"), "at results there is no 'gsm8k'; there is 'arc', 'mmlu'"),
        (("acc",), "at its top there is no 'acc'; there is 'n', 'results'"),
        (("n", "0"), "at n there is a list, and no '0' in it"),
    ],
)
def test_a_metric_that_is_not_there_is_told_with_what_is(path: tuple[str, ...], why: str) -> None:
    assert metric(HARNESS, path) == NoNumber(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "it is not JSON", id="empty"),
        pytest.param('{"a": 1', "it is not JSON", id="half written"),
        pytest.param('{"a": NaN}', "NaN is no JSON number", id="not a number"),
        pytest.param('{"a": Infinity}', "Infinity is no JSON number", id="infinite"),
        pytest.param('{"a": 1e999}', "the number at a is out of range", id="beyond a float"),
        pytest.param('{"a": 1' + "0" * 400 + "}", "the number at a is out of range", id="an integer beyond a float"),
        pytest.param('{"a": 1' + "0" * 9000 + "}", "it is not JSON", id="an integer of many digits"),
        pytest.param('{"a": true}', "true or false, not a number", id="true is not 1"),
        pytest.param('{"a": null}', "null, not a number", id="null"),
        pytest.param('{"a": 1, "a": 2}', "stands twice", id="a key twice"),
        pytest.param("[" * 100_000, f"nests deeper than {DEPTH_MAX} levels", id="nested without end"),
        pytest.param('{"b":' * 65 + "1" + "}" * 65, f"nests deeper than {DEPTH_MAX} levels", id="just too deep"),
        pytest.param('"' + "x" * EXTERNAL_CHARS_MAX, "longer than", id="too long"),
    ],
)
def test_what_is_no_result_is_said(text: str, why: str) -> None:
    found = metric(text, ("a",))
    assert isinstance(found, NoNumber)
    assert why in found.why


def test_brackets_inside_a_text_do_not_nest() -> None:
    assert metric(json.dumps({"prompt": '[{"\\' * 100, "a": 1}), ("a",)) == 1.0


def test_many_names_are_not_all_told() -> None:
    found = metric(json.dumps({f"task-{i:03}": 1 for i in range(300)}), ("a",))
    assert isinstance(found, NoNumber)
    assert found.why.endswith("'task-011' and 288 more")


@given(st.text(), st.lists(st.text(), min_size=1).map(tuple))
def test_any_text_has_an_answer(text: str, path: tuple[str, ...]) -> None:
    assert isinstance(metric(text, path), float | NoNumber)


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_number_that_was_written_is_read_back(numbers: dict[str, float]) -> None:
    assert {name: metric(json.dumps(numbers), (name,)) for name in numbers} == numbers
