"""Data lists: what is read, what is refused, how shares are printed, and what a list's digest rests on."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.model import listreader
from reconciler.model.datalist import (
    RELATIVE_ERROR_MAX,
    DataList,
    Row,
    apportion,
    content_digest,
    file_sha256,
    list_name,
    render,
    share_digits,
)
from reconciler.model.listfields import ListCode
from reconciler.model.listreader import BadList, ParsedList, parse_blocks, parse_list

LISTS = Path(__file__).parents[1] / "data-lists/aurora"


def read(text: str, default_corpus: str | None = None) -> DataList:
    parsed = parse_list(text, default_corpus=default_corpus)
    assert isinstance(parsed, ParsedList), parsed
    return parsed.data


def real(name: str) -> ParsedList:
    parsed = parse_list((LISTS / name).read_text(), default_corpus="dolma")
    assert isinstance(parsed, ParsedList), parsed
    return parsed


def refused(text: str, default_corpus: str | None = None) -> list[tuple[int, int, ListCode]]:
    parsed = parse_list(text, default_corpus=default_corpus)
    assert isinstance(parsed, BadList), parsed
    return [(problem.line, problem.column, problem.code) for problem in parsed.problems]


def printed(text: str) -> list[Decimal]:
    return [Decimal(line.split(" ")[0]) for line in text.splitlines()]


weights = st.one_of(
    st.fractions(min_value=Fraction(1, 10**9), max_value=10**9, max_denominator=10**9),
    st.integers(1, 10**6).map(Fraction),
)
names = st.text("abcdefgh012_-/.", min_size=1, max_size=12).map(
    lambda s: "d/" + "x".join(s.split("/")).strip(".-") + "z"
)
tables = st.lists(st.tuples(weights, names, st.sampled_from(["wiki", "3", "dclm"])), min_size=1, max_size=40).map(
    lambda rows: DataList.from_rows({prefix: Row(weight, prefix, corpus) for weight, prefix, corpus in rows}.values())
)


# Reading


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("0.25 /d/a wiki\n", [("0.25", "/d/a", "wiki")], id="three columns"),
        pytest.param("0.25 /d/a wiki", [("0.25", "/d/a", "wiki")], id="no newline at the end"),
        pytest.param("# c\n\n 1 a w # why\n#\n", [("1", "a", "w")], id="comments and blank lines"),
        pytest.param("1\ta\tw\r\n2 b w\r\n", [("1", "a", "w"), ("2", "b", "w")], id="tabs and Windows line ends"),
        pytest.param("\ufeff1 a w\n", [("1", "a", "w")], id="byte order mark"),
        pytest.param("1 a.bin w\n1 b.idx w\n", [("1", "a", "w"), ("1", "b", "w")], id="suffixes are cut"),
        pytest.param("1 /d//x/./a w\n1 ./b w\n", [("1", "/d/x/a", "w"), ("1", "b", "w")], id="path spellings"),
        pytest.param("1 a 3\n", [("1", "a", "3")], id="a numeric label stays text"),
        pytest.param("1 /d/ü w\n", [("1", "/d/ü", "w")], id="letters beyond ASCII"),
        pytest.param("0 a w\n0.0e5 b w\n1 c w\n", [("1", "c", "w")], id="weight 0 leaves the row out"),
        pytest.param("1 a w\n.5 a w\n1 b w\n", [("1.5", "a", "w"), ("1", "b", "w")], id="duplicates are added"),
        pytest.param("1 a v\n2 a w\n", [("3", "a", "v")], id="the first label stays"),
        pytest.param("3.304e-06 a w\n", [("0.000003304", "a", "w")], id="exponents"),
        pytest.param(
            "+1E2 a w\n5. b w\n.5 c w\n12 d w\n",
            [("100", "a", "w"), ("5", "b", "w"), ("0.5", "c", "w"), ("12", "d", "w")],
            id="every spelling of a number",
        ),
        pytest.param(
            "1e-30 a w\n9e29 b w\n", [("1e-30", "a", "w"), ("9e29", "b", "w")], id="sixty orders of magnitude"
        ),
        pytest.param("1e-30\ta w\n9e29\tb w\n", [("1e-30", "a", "w"), ("9e29", "b", "w")], id="the same, line by line"),
    ],
)
def test_what_people_have_is_read_exactly(text: str, rows: list[tuple[str, str, str]]) -> None:
    assert read(text).rows == tuple(Row(Fraction(weight), prefix, corpus) for weight, prefix, corpus in rows)


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        pytest.param("x /d/a w", 1, ListCode.NOT_A_NUMBER, id="a word"),
        pytest.param("0,5 /d/a w", 1, ListCode.NOT_A_NUMBER, id="decimal comma"),
        pytest.param("1_000 /d/a w", 1, ListCode.NOT_A_NUMBER, id="underscores, which Python would take"),
        pytest.param("٣ /d/a w", 1, ListCode.NOT_A_NUMBER, id="digits of another script, which Python would take"),
        pytest.param("0x1 /d/a w", 1, ListCode.NOT_A_NUMBER, id="hexadecimal"),
        pytest.param(". /d/a w", 1, ListCode.NOT_A_NUMBER, id="a point alone"),
        pytest.param("nan /d/a w", 1, ListCode.NOT_FINITE, id="nan"),
        pytest.param("-inf /d/a w", 1, ListCode.NOT_FINITE, id="minus infinity"),
        pytest.param("-0.5 /d/a w", 1, ListCode.NEGATIVE, id="negative"),
        pytest.param("1e999999 /d/a w", 1, ListCode.OUT_OF_RANGE, id="absurd exponent"),
        pytest.param("1e9999 /d/a w", 1, ListCode.OUT_OF_RANGE, id="large exponent"),
        pytest.param("1e30 /d/a w", 1, ListCode.OUT_OF_RANGE, id="just too large"),
        pytest.param("9e-31 /d/a w", 1, ListCode.OUT_OF_RANGE, id="just too small"),
        pytest.param("1" * 73 + " /d/a w", 1, ListCode.OUT_OF_RANGE, id="too many digits"),
        pytest.param("0." + "1" * 71 + " /d/a w", 1, ListCode.OUT_OF_RANGE, id="too many decimals"),
        pytest.param("1 /d/a", 1, ListCode.COLUMNS, id="no corpus, and no label to take"),
        pytest.param(" 1 /d/a w x", 2, ListCode.COLUMNS, id="four columns"),
        pytest.param("1,/d/a,w", 1, ListCode.COLUMNS, id="commas"),
        pytest.param("1 -rf w", 3, ListCode.PREFIX, id="prefix like an option"),
        pytest.param("1 ~/a w", 3, ListCode.PREFIX, id="home directory"),
        pytest.param("1 /d/$HOME w", 6, ListCode.PREFIX, id="dollar"),
        pytest.param("1 /d/`id` w", 6, ListCode.PREFIX, id="backquote"),
        pytest.param("1 /d/a;id w", 7, ListCode.PREFIX, id="semicolon"),
        pytest.param("1 '/d/a' w", 3, ListCode.PREFIX, id="quotes"),
        pytest.param("1 /d/*.bin w", 6, ListCode.PREFIX, id="a pattern"),
        pytest.param("1 /d/../a w", 3, ListCode.PREFIX, id="parent directory"),
        pytest.param("1 /d/ w", 3, ListCode.PREFIX, id="a directory"),
        pytest.param("1 .bin w", 3, ListCode.PREFIX, id="nothing but a suffix"),
        pytest.param("1 /d.bin/a w", 3, ListCode.PREFIX, id="the trainer would cut at .bin"),
        pytest.param("1 /d/a b/c", 8, ListCode.CORPUS, id="label with a slash"),
        pytest.param("1 /d/a -w", 8, ListCode.CORPUS, id="label like an option"),
        pytest.param("1 /d/a\x07 w", 7, ListCode.CONTROL, id="control character"),
        pytest.param("1 /d/a\u00a0w", 7, ListCode.CONTROL, id="no-break space, which Python splits at"),
        pytest.param("1 /d/a\rw", 7, ListCode.CONTROL, id="a return inside a line"),
        pytest.param("1 /d/" + "a" * 9000 + " w", 1, ListCode.TOO_LONG, id="line too long"),
    ],
)
def test_a_bad_line_is_placed(line: str, column: int, code: ListCode) -> None:
    assert refused(f"1 /ok w\n{line}\n1 /ok2 w\n") == [(2, column, code)]


def test_all_bad_lines_are_told_at_once() -> None:
    assert refused("x a w\n1 b w\n1 c\n-1 -d w/w\n") == [
        (1, 1, ListCode.NOT_A_NUMBER),
        (3, 1, ListCode.COLUMNS),
        (4, 1, ListCode.NEGATIVE),
        (4, 4, ListCode.PREFIX),
        (4, 7, ListCode.CORPUS),
    ]


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        pytest.param("0,5 /d/a w", "Use a point: 0.5", id="decimal comma"),
        pytest.param("/d/a 0.5 w", "The weight comes first: weight prefix corpus", id="columns swapped"),
        pytest.param("5% /d/a w", "Weights are plain numbers, only ratios count: 5", id="percent"),
        pytest.param("1,/d/a,w", "Separate the columns by spaces, not commas.", id="commas"),
        pytest.param("1 /d/a my/books", "Write for example: my-books", id="a safe label"),
    ],
)
def test_a_near_miss_says_what_was_meant(line: str, fix: str) -> None:
    parsed = parse_list(line)
    assert isinstance(parsed, BadList)
    assert parsed.problems[0].fix == fix


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "0 a w\n"], ids=["empty", "blank", "comment", "all zero"])
def test_a_list_without_rows_is_refused(text: str) -> None:
    assert refused(text) == [(1, 1, ListCode.EMPTY)]


def test_two_columns_take_the_sources_label_and_say_so() -> None:
    parsed = parse_list("1 a\n1 b w\n1 c\n", default_corpus="D0")
    assert isinstance(parsed, ParsedList)
    assert parsed.data.corpora == ("D0", "w", "D0")
    notice = parsed.notices[0]
    assert (notice.code, notice.line) == (ListCode.NO_CORPUS, 1)
    assert "2 rows (lines 1, 3)" in notice.message
    with pytest.raises(ValueError, match="no corpus label"):
        parse_list("1 a\n", default_corpus="a b")


def test_what_was_taken_differently_is_noticed() -> None:
    parsed = parse_list("1 a w\n2 a v\n0 b w\n.7 c.bin w\n")
    assert isinstance(parsed, ParsedList)
    assert [(notice.code, notice.line) for notice in parsed.notices] == [
        (ListCode.ZERO, 3),
        (ListCode.SUFFIX, 4),
        (ListCode.DUPLICATE, 2),
        (ListCode.DUPLICATE, 2),
        (ListCode.RELATIVE, 1),
    ]
    assert "sum to 3.7" in parsed.notices[-1].message


def test_problems_are_bounded() -> None:
    found = refused("x a w\n" * 5000)
    assert len(found) == listreader.PROBLEMS_MAX
    assert found[-1][0] == listreader.PROBLEMS_MAX


def test_size_and_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listreader, "LINES_MAX", 10)
    assert refused("1 a w\n" * 11) == [(11, 1, ListCode.TOO_LONG)]
    monkeypatch.setattr(listreader, "TEXT_CHARS_MAX", 20)
    assert refused("1 a w\n" * 5) == [(1, 1, ListCode.TOO_LONG)]


def clean_lines(rows: int, corpus: str = " w") -> list[str]:
    return [f"0.{row + 1:07d} /data/part/shard-{row:05d}{corpus}\n" for row in range(rows)]


@pytest.mark.parametrize("corpus", [" w", ""], ids=["three columns", "two columns"])
@pytest.mark.parametrize(
    "odd",
    ["1 /d/x.bin w\n", "1 x.idx w\n", "1e-20 /d/x w\n", "1e20 /d/x w\n", "12345 /d/x w\n", "1.5e1\t/d/x w # c\n"],
)
def test_long_lists_read_in_blocks_are_read_as_line_by_line(corpus: str, odd: str) -> None:
    lines = clean_lines(3000, corpus)
    lines[1700] = odd
    whole = read("".join(lines), "D0")
    parts = [read(line, "D0") for line in lines]
    assert whole.rows == tuple(part.rows[0] for part in parts)


@pytest.mark.parametrize("text", ["0.5 /d/a", "0.5 /d/a\n0.5 /d/b", "3 d/a c\n3 d/b"])
def test_a_last_line_without_an_end_is_read_as_any_other(text: str) -> None:
    assert read(text, "zz") == read(text + "\n", "zz")


@pytest.mark.parametrize("name", ["_CLEAN_TWO", "_CLEAN_THREE"])
def test_no_group_is_possessive(name: str) -> None:
    """Python before 3.11.5 (gh-106052; Debian 12 has 3.11.2) lets such a group match what it must not."""
    assert re.findall(r"\)(?:[*+?]|\{[0-9,]+\})\+", vars(listreader)[name].pattern) == []


def test_lines_are_counted_through_blocks() -> None:
    lines = clean_lines(4000)
    lines[3500] = "oops\n"
    lines[2000] = "# comment\n"
    assert refused("".join(lines)) == [(3501, 1, ListCode.COLUMNS)]
    lines[3500] = lines[7]
    parsed = parse_blocks(["".join(lines[:1234]), "".join(lines[1234:])])
    assert isinstance(parsed, ParsedList)
    assert (parsed.notices[0].code, parsed.notices[0].line) == (ListCode.DUPLICATE, 3501)
    assert len(parsed.data) == 3998


def test_a_zero_or_an_extreme_inside_a_clean_block_is_not_missed() -> None:
    lines = clean_lines(2000)
    lines[1000] = "0.0 /data/zero w\n"
    parsed = parse_list("".join(lines))
    assert isinstance(parsed, ParsedList)
    assert len(parsed.data) == 1999
    assert parsed.notices[0].line == 1001
    lines[1000] = "1e-31 /data/tiny w\n"
    lines[1500] = "1e30 /data/huge w\n"
    assert refused("".join(lines)) == [(1001, 1, ListCode.OUT_OF_RANGE), (1501, 1, ListCode.OUT_OF_RANGE)]


# The real lists


@pytest.mark.parametrize(
    ("name", "rows", "weight_sum", "codes"),
    [
        pytest.param("olmo-mix-1124.txt", 1438, "2.7173910616", [ListCode.RELATIVE], id="olmo: relative weights"),
        pytest.param("dolmino-mix-1124-fused-file-list.txt", 324, "0.9999999993", [], id="dolmino: rounded shares"),
        pytest.param("dolma_v1_7_file_list.txt", 2419, None, [ListCode.NO_CORPUS], id="dolma: two columns"),
    ],
)
def test_real_lists_are_read(name: str, rows: int, weight_sum: str | None, codes: list[ListCode]) -> None:
    parsed = real(name)
    assert len(parsed.data) == rows
    assert [notice.code for notice in parsed.notices] == codes
    by_hand = sum(Fraction(line.split()[0]) for line in (LISTS / name).read_text().splitlines())
    assert parsed.data.weight_sum == by_hand
    assert weight_sum is None or by_hand == Fraction(weight_sum)


GOLDEN = {
    "olmo-mix-1124.txt": (
        "242f03fa32e8f18a78ddd74941527315ed54dcdd42b73c8bbf377e7cb95b2123",
        "10c4fec527134129e14ae5b514c0cb6d15366be38f274a06cd014e31a84c9bc2",
    ),
    "dolmino-mix-1124-fused-file-list.txt": (
        "25c352bf427653e1bce0362bd2a8fb7e79e8f898f1bba84b224067c72f2e7288",
        "d628021380608be281310ec3b2868d7e2df514978407da92e6cc059edec5b4bd",
    ),
    "dolma_v1_7_file_list.txt": (
        "e3a42d9b2fcaa4062ac9ffa2ea1beb93ca34aa93c68098415650478a7fc231e8",
        "9efa490dd1dd80ae33695698232b9035641b41d5bf1f9659176338f426df5284",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_digest_and_text_of_the_real_lists_stay_what_they_are(name: str) -> None:
    data = real(name).data
    assert (content_digest(data), file_sha256(render(data))) == GOLDEN[name]


# Printing


@given(tables)
def test_printed_shares_sum_to_one_and_are_close(data: DataList) -> None:
    text = render(data)
    shares = printed(text)
    assert sum(map(Fraction, shares)) == 1
    assert "e" not in "".join(line.split(" ")[0] for line in text.splitlines()).lower()
    assert text.endswith("\n")
    for share, exact in zip(shares, data.shares, strict=True):
        assert share > 0
        assert abs(Fraction(share) / exact - 1) < RELATIVE_ERROR_MAX


@given(tables)
@example(DataList((223, 10**15, 1), 10**9, ("a", "b", "c"), ("w", "w", "w")))
def test_what_was_printed_is_read_back_within_the_last_digit(data: DataList) -> None:
    again = read(render(data))
    last = Fraction(1, 10 ** share_digits(data))
    assert again.weight_sum == 1
    assert (again.prefixes, again.corpora) == (data.prefixes, data.corpora)
    assert all(abs(a - b) < last for a, b in zip(again.shares, data.shares, strict=True))
    # Printed once, a list is its own print: its shares never drift.
    assert read(render(again)).shares == again.shares


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("7 a w\n", "1.000000000 a w\n", id="one row"),
        pytest.param(
            "1 a w\n1 b w\n1 c v\n",
            "0.3333333334 a w\n0.3333333333 b w\n0.3333333333 c v\n",
            id="thirds: the first of equals gets the unit",
        ),
        pytest.param("1 a w\n3 b w\n", "0.2500000000 a w\n0.7500000000 b w\n", id="exact quarters"),
        pytest.param(
            "1 a w\n999999999999 b w\n",
            "0.000000000001000000000 a w\n0.999999999999000000000 b w\n",
            id="digits grow with the smallest share",
        ),
        pytest.param(
            "2 a w\n2 b w\n3 c v\n",
            "0.2857142857 a w\n0.2857142857 b w\n0.4285714286 c v\n",
            id="sevenths: the largest remainder gets the unit",
        ),
    ],
)
def test_render(text: str, expected: str) -> None:
    assert render(read(text)) == expected


@given(st.integers(0, 10**20), st.lists(st.integers(0, 10**12), min_size=1, max_size=60).filter(any))
def test_apportion_is_the_largest_remainder_method(whole: int, units: list[int]) -> None:
    parts = apportion(whole, units)
    total = sum(units)
    floors = [whole * unit // total for unit in units]
    remainders = [whole * unit % total for unit in units]
    order = sorted(range(len(units)), key=lambda row: (-remainders[row], row))
    expected = list(floors)
    for row in order[: whole - sum(floors)]:
        expected[row] += 1
    assert sum(parts) == whole
    assert parts == expected


@pytest.mark.parametrize(("whole", "units"), [(1, [0, 0]), (1, [2, -1]), (-1, [1])], ids=["zeros", "below 0", "debt"])
def test_apportion_refuses_what_has_no_answer(whole: int, units: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative whole"):
        apportion(whole, units)


# Digests


def test_the_digest_is_of_the_documented_text() -> None:
    data = read("0.5 /x/d/wiki/b w\n0.25 /x/d/a 3\n0.75 /x/d/wiki/a w\n")
    text = "cpt-data-list/1\n6\n1\ta\t3\n3\twiki/a\tw\n2\twiki/b\tw\n"
    assert content_digest(data) == sha256(text.encode()).hexdigest()


@given(tables, st.sampled_from(["", "/", "/flare/x/", "../"]), st.integers(1, 10**6), st.randoms(use_true_random=False))
def test_moving_scaling_and_reordering_keep_the_digest(data: DataList, root: str, factor: int, rng: object) -> None:
    rows = [Row(row.weight * factor, root + row.prefix, row.corpus) for row in data.rows]
    rng.shuffle(rows)  # type: ignore[attr-defined]  # hypothesis hands out a random.Random
    assert content_digest(DataList.from_rows(rows)) == content_digest(data)


@given(tables, st.integers(0, 39), st.sampled_from(["weight", "prefix", "corpus", "drop"]))
def test_any_other_change_changes_the_digest(data: DataList, position: int, what: str) -> None:
    rows = [*data.rows, Row(Fraction(1, 7), "d/other", "wiki"), Row(Fraction(2, 7), "d/another", "wiki")]
    position %= len(rows)
    changed = list(rows)
    row = rows[position]
    if what == "drop":
        del changed[position]
    else:
        changed[position] = {
            "weight": Row(row.weight * Fraction(10**9 + 1, 10**9), row.prefix, row.corpus),
            "prefix": Row(row.weight, row.prefix + "0", row.corpus),
            "corpus": Row(row.weight, row.prefix, row.corpus + "0"),
        }[what]
    assert content_digest(DataList.from_rows(changed)) != content_digest(DataList.from_rows(rows))


def test_lists_are_named_by_their_content() -> None:
    assert list_name("D0", "1.0 a w\n") == f"D0-{sha256(b'1.0 a w' + bytes([10])).hexdigest()[:16]}.txt"
    assert list_name("D0", "1.0 a w\n") != list_name("D0", "1.0 a v\n")


# The value itself


def test_rows_and_columns_are_the_same_list() -> None:
    rows = (Row(Fraction(1, 3), "a", "w"), Row(Fraction(1, 4), "b", "v"))
    data = DataList.from_rows(rows)
    assert data.rows == rows
    assert (data.units, data.scale) == ((4, 3), math.lcm(3, 4))
    assert data.shares == (Fraction(4, 7), Fraction(3, 7))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no row"),
        pytest.param([Row(Fraction(0), "a", "w")], id="weight 0"),
        pytest.param([Row(Fraction(1), "a", "w"), Row(Fraction(1), "a", "v")], id="a prefix twice"),
    ],
)
def test_what_is_no_list_is_refused(rows: list[Row]) -> None:
    with pytest.raises(ValueError, match=r"row|above 0|twice"):
        DataList.from_rows(rows)


def test_columns_of_one_length() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        DataList((1,), 1, ("a", "b"), ("w",))
