"""Score files as people have them, and what is said of one that cannot be read."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.scorefile import BadScores, Scores, parse_scores


def test_a_score_file() -> None:
    text = "# perplexity tokens file\n\n2.71 1000 /d/a.bin\r\n-0.5e1\t20  ./b\n+.5 3 c"
    assert parse_scores(text) == Scores(
        ("/d/a", "b", "c"), (Decimal("2.71"), Decimal(-5), Decimal("0.5")), (1000, 20, 3)
    )


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        pytest.param("", 0, "no row", id="nothing"),
        pytest.param("# only words\n", 0, "no row", id="only a comment"),
        pytest.param("1 2 /a\n1 2\n", 2, "2 columns; expected `score tokens prefix`", id="a column missing"),
        pytest.param("1 2 /a b\n", 1, "4 columns", id="a column too many"),
        pytest.param("nan 2 /a\n", 1, "score 'nan' is not a number", id="not a number"),
        pytest.param("inf 2 /a\n", 1, "score 'inf' is not a number", id="not finite"),
        pytest.param("1e999 2 /a\n", 1, "is not a number", id="a huge exponent"),
        pytest.param(". 2 /a\n", 1, "is not a number", id="a point alone"),
        pytest.param(f"{'1' * 41} 2 /a\n", 1, "is not a number", id="too many digits"),
        pytest.param("1 0 /a\n", 1, "tokens '0'; expected the file's size", id="no tokens"),
        pytest.param("1 2.5 /a\n", 1, "tokens '2.5'", id="part of a token"),
        pytest.param("1 -2 /a\n", 1, "tokens '-2'", id="tokens below none"),
        pytest.param("1 2 /a/../b\n", 1, "has '..' in it", id="a path that climbs"),
        pytest.param("1 2 $(id)\n", 1, "does not survive the launcher's shell", id="a command"),
        pytest.param("1 2 /a\n3 4 /b\n5 6 //a.idx\n", 3, "has a score on line 1 already", id="twice"),
        pytest.param("1" * 9000 + "\n", 1, "a line of 9,000 characters", id="a long line"),
    ],
)
def test_what_is_wrong_and_where(text: str, line: int, told: str) -> None:
    bad = parse_scores(text)
    assert isinstance(bad, BadScores)
    assert bad.line == line
    assert told in bad.message


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    assert isinstance(parse_scores(text), Scores | BadScores)


def test_a_hundred_thousand_lines_take_seconds() -> None:
    text = "".join(
        f"{row % 977}.{row % 10} {row + 1} /data/part-{row % 64}/shard-{row:06d}\n" for row in range(100_000)
    )
    began = time.monotonic()
    read = parse_scores(text)
    assert isinstance(read, Scores)
    assert len(read.prefixes) == 100_000
    assert time.monotonic() - began < 20
