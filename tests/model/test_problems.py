"""Problems are ordered, told once, and safe to print; near misses are found."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reconciler.model.problems import CATALOGUE, Kind, Problem, Severity, Where, clip, near, one_of, ordered, path_text


def test_the_catalogue_is_complete_and_in_order() -> None:
    assert list(CATALOGUE) == sorted(CATALOGUE)
    for code, kind in CATALOGUE.items():
        assert re.fullmatch(r"M[0-9]{3}", code)
        assert kind.summary and not kind.summary.endswith(".")
        assert kind.explanation.endswith("."), code


def test_summary_and_severity_belong_to_the_code() -> None:
    warning = Problem("M061", Where("a"), "x")
    assert (warning.summary, warning.severity) == ("Unusually high learning rate", Severity.WARNING)
    assert Problem("M047", Where("a"), "x").severity is Severity.ERROR


def test_a_rule_of_the_cookbook_brings_its_own_words_and_may_be_waived() -> None:
    kind = Kind("Too bold", "It is.", Severity.ERROR)
    found = Problem("CPT999", Where("a"), "x", rule=kind)
    assert (found.summary, found.severity, found.refuses) == ("Too bold", Severity.ERROR, True)
    assert not replace(found, waived="as agreed").refuses


def test_problems_are_ordered_by_place_and_told_once() -> None:
    places = [Where("b", 1, 1), Where("a", 2, 1), Where("a", 1, 9), Where("a", 1, 2), Where("a", 1, 2)]
    problems = [Problem("M022", where, "x") for where in places]
    assert [problem.where for problem in ordered(problems)] == [places[3], places[2], places[1], places[0]]


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        pytest.param("learning_rate", ["learningRate", "model"], "learningRate", id="other case style"),
        pytest.param("Stage", ["stage"], "stage", id="other case"),
        pytest.param("tokns", ["tokens", "source"], "tokens", id="letter missing"),
        pytest.param("xyz", ["tokens", "source"], None, id="nothing close"),
        pytest.param("", ["tokens"], None, id="nothing"),
        pytest.param("t" * 101, ["t" * 100], None, id="too long to compare"),
        pytest.param("d1", ["D0", "D1"], "D1", id="symbol in lower case"),
    ],
)
def test_near_misses(word: str, known: list[str], meant: str | None) -> None:
    assert near(word, known) == meant


def test_paths_are_written_as_people_write_them() -> None:
    assert path_text(("spec", "legs", 0, "mixture", "D0")) == "spec.legs[0].mixture.D0"
    assert path_text(()) == ""


def test_strange_text_is_made_safe_and_short() -> None:
    assert clip("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
    assert clip("x" * 100, 10) == "x" * 9 + "…"


def test_long_lists_are_cut() -> None:
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"]) == "a, b or c"
    assert one_of([str(n) for n in range(20)]).endswith("11 or 8 more")
    assert one_of([]) == ""
