"""YAML is read exactly, bounded, and with the place of everything; nothing in it can do anything."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import source
from reconciler.model.problems import Where
from reconciler.model.scalars import Refused, scalar


def codes(content: bytes) -> list[str]:
    return [problem.code for problem in source.read("f.yaml", content).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("4T", "4T", id="a quantity stays text"),
        pytest.param("6h", "6h", id="a duration stays text"),
        pytest.param("00:10:00", "00:10:00", id="sexagesimal is text in 1.2"),
        pytest.param("1_000", "1_000", id="underscores are text in 1.2"),
        pytest.param("yes", "yes", id="yes is text in 1.2"),
        pytest.param("0.10", Decimal("0.10"), id="decimals keep their digits"),
        pytest.param("2e-4", Decimal("2e-4"), id="exponent without a dot"),
        pytest.param("-.5", Decimal("-0.5"), id="no digit before the dot"),
        pytest.param("5.", Decimal(5), id="no digit after the dot"),
        pytest.param("-12", -12, id="negative"),
        pytest.param("+12", 12, id="plus sign"),
        pytest.param("0", 0, id="zero is no leading zero"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal of 1.2"),
        pytest.param("true", True, id="true"),
        pytest.param("False", False, id="false"),
        pytest.param("~", None, id="null"),
        pytest.param("", None, id="empty"),
        pytest.param("-", "-", id="a lone sign"),
        pytest.param("1.2.3", "1.2.3", id="a version"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    got = scalar(text)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize("text", ["007", "-01", ".nan", "-.inf", ".INF", "9" * 41, "1e301", "1e-301", "0." + "1" * 40])
def test_numbers_that_cannot_be_relied_on_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        scalar(text)


def test_every_value_key_and_item_has_a_place() -> None:
    text = b"a:\n  - x\n  - {b: 1, 'c': [2]}\n---\nd: |\n  text\ne: 5\n"
    first, second = source.read("f.yaml", text).documents
    assert first.data == {"a": ["x", {"b": 1, "c": [2]}]}
    assert first.where(("a", 1, "b")) == Where("f.yaml", 3, 9, ("a", 1, "b"))
    assert first.where(("a", 1, "b"), key=True) == Where("f.yaml", 3, 6, ("a", 1, "b"))
    assert first.where(("a", 1, "c", 0)) == Where("f.yaml", 3, 18, ("a", 1, "c", 0))
    assert first.where() == Where("f.yaml", 1, 1, ())
    assert first.where(("a", 0, "nope")) == Where("f.yaml", 2, 5, ("a", 0, "nope")), "the nearest parent's"
    assert second.where(("e",)) == Where("f.yaml", 7, 4, ("e",))
    assert second.data == {"d": "text\n", "e": 5}


def test_quoted_text_is_text() -> None:
    (document,) = source.read("f.yaml", b"a: '1'\nb: \"true\"\nc: |-\n  7\nd: ''\n").documents
    assert document.data == {"a": "1", "b": "true", "c": "7", "d": ""}


def test_of_two_equal_keys_the_first_is_checked_further() -> None:
    read = source.read("f.yaml", b"a: 1\na: {b: 2}\n")
    assert read.documents[0].data == {"a": 1}
    assert [problem.where.line for problem in read.problems] == [2]


def test_unreadable_values_are_known_so_that_they_are_not_reported_twice() -> None:
    (document,) = source.read("f.yaml", b"a: [.nan]\n").documents
    assert document.data == {"a": [None]}
    assert document.faulty == {("a", 0)}


def test_anchors_without_aliases_do_no_harm() -> None:
    (document,) = source.read("f.yaml", b"a: &x 1\n").documents
    assert document.data == {"a": 1}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 1_000_000, id="open brackets"),
        pytest.param(b"- " * 500_000, id="open lists"),
        pytest.param(b"{" * 1_000_000, id="open braces"),
        pytest.param(b"? " * 500_000, id="open keys"),
        pytest.param(b"a: [" + b"1," * 1_000_000 + b"]", id="long list"),
        pytest.param(b"".join(b"k%d: 1\n" % number for number in range(200_000)), id="many keys"),
        pytest.param(b"---\n\t\n" * 200_000, id="many broken documents"),
        pytest.param(b"--- x\n" * 200_000, id="many documents"),
        pytest.param(b"&a " * 500_000, id="many anchors"),
        pytest.param(b"!" * 1_000_000, id="long tag"),
    ],
)
def test_hostile_shapes_are_refused_soon(content: bytes) -> None:
    start = time.perf_counter()
    assert codes(content)
    assert time.perf_counter() - start < 5, "seconds for a file of 1 MB; each of these is done in well under one"


def test_a_bomb_of_aliases_is_refused_at_the_first() -> None:
    levels = [b"a: &a [x, x]"] + [b"%c: &%c [*%c, *%c]" % (98 + n, 98 + n, 97 + n, 97 + n) for n in range(24)]
    start = time.perf_counter()
    assert codes(b"\n".join(levels)) == ["M013"]
    assert time.perf_counter() - start < 0.1


def test_the_bounds_hold_exactly() -> None:
    deepest = b"[" * source.DEPTH_MAX + b"]" * source.DEPTH_MAX
    assert codes(deepest) == []
    assert codes(b"[" + deepest + b"]") == ["M015"]
    assert codes(b"[" + b"1," * (source.NODES_MAX - 1) + b"]") == []
    assert codes(b"[" + b"1," * source.NODES_MAX + b"]") == ["M015"]
    assert codes(b"--- 1\n" * source.DOCUMENTS_MAX) == []
    assert codes(b"--- 1\n" * (source.DOCUMENTS_MAX + 1)) == ["M015"]
    assert codes(b"--- @\n" * 100) == ["M010"] * source.UNREAD_DOCUMENTS_MAX + ["M019"]
    assert codes(b"#" * (source.FILE_BYTES_MAX + 1)) == ["M002"]


def test_a_document_after_a_broken_one_is_read_at_its_place() -> None:
    read = source.read("f.yaml", b"a: [\n---\nb: *x\n---\nc: 3\n")
    assert [(problem.code, problem.where.line) for problem in read.problems] == [("M010", 2), ("M013", 3)]
    assert read.lost
    assert read.documents[0].data == {"c": 3}
    assert read.documents[0].where(("c",)) == Where("f.yaml", 5, 4, ("c",))


def test_lines_are_counted_as_the_scanner_counts_them() -> None:
    text = "a: 1\r\nb: 2\rc: 3\u2028d: 4\x85e: .nan\n"
    (problem,) = source.read("f.yaml", text.encode()).problems
    assert source.lines_of(text)[problem.where.line - 1].startswith("e: .nan")


def test_a_directive_of_another_yaml_is_a_syntax_problem() -> None:
    assert codes(b"%YAML 3.0\n---\na: 1\n") == ["M010"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read = source.read("f.yaml", content)
    assert read.documents or read.problems


@given(st.text(alphabet="ab01:-?[]{},&*!|>'\"%@`#~<.\n\t \u00e9\ufeff\x85", max_size=80))
def test_any_near_yaml_is_read_or_refused_with_places_inside_the_text(text: str) -> None:
    read = source.read("f.yaml", text.encode())
    assert read.documents or read.problems
    lines = source.lines_of(text.removeprefix("\ufeff"))
    for problem in read.problems:
        assert 1 <= problem.where.line <= len(lines)
        assert 1 <= problem.where.column <= len(lines[problem.where.line - 1]) + 1
