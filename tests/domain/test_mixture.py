"""Mixtures: no share is lost, the ledger is true, and terms flatten to dataset symbols."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.mixture import (
    ExpansionRefused,
    MixCode,
    Mixed,
    MixRefused,
    Source,
    decimal,
    expand,
    mix,
    rescaled,
)
from reconciler.model.datalist import DataList, Row, content_digest, file_sha256, render
from reconciler.model.listreader import ParsedList, parse_list

LISTS = Path(__file__).parents[1] / "data-lists/aurora"
REAL = {
    "D0": "olmo-mix-1124.txt",
    "D1": "dolmino-mix-1124-fused-file-list.txt",
    "dolma": "dolma_v1_7_file_list.txt",
}


def real(label: str, weight: str, tokens: int | None = None) -> Source:
    parsed = parse_list((LISTS / REAL[label]).read_text(), default_corpus=label)
    assert isinstance(parsed, ParsedList), parsed
    return Source(label, Fraction(weight), parsed.data, tokens)


def source(label: str, weight: str, *rows: tuple[str, str, str], tokens: int | None = None) -> Source:
    table = [Row(Fraction(row_weight), prefix, corpus) for row_weight, prefix, corpus in rows]
    return Source(label, Fraction(weight), DataList.from_rows(table), tokens)


def mixed(*sources: Source, token_budget: int | None = None) -> Mixed:
    result = mix(sources, token_budget=token_budget)
    assert isinstance(result, Mixed), result
    return result


def shares(result: Mixed) -> dict[str, Fraction]:
    return dict(zip(result.list.prefixes, result.list.shares, strict=True))


@st.composite
def mixtures(draw: st.DrawFn) -> list[Source]:
    """One to four sources with weights that sum to 1, over few enough files that some are shared."""
    parts = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=4).filter(any))
    sources = []
    for number, part in enumerate(parts):
        files = draw(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
        rows = [Row(Fraction(draw(st.integers(1, 10**6)), 10**6), f"/d/{name}", f"c{name % 3}") for name in files]
        sources.append(Source(f"D{number}", Fraction(part, sum(parts)), DataList.from_rows(rows)))
    return sources


# Shares


def test_a_rows_share_is_its_sources_weight_times_its_share_there() -> None:
    result = mixed(
        source("D0", "0.25", ("2", "/a/1", "wiki"), ("6", "/a/2", "dclm")), source("D1", "0.75", ("5", "/b/1", "wiki"))
    )
    assert shares(result) == {"/a/1": Fraction(1, 16), "/a/2": Fraction(3, 16), "/b/1": Fraction(3, 4)}
    assert result.list.corpora == ("D0.wiki", "D0.dclm", "D1.wiki")
    assert result.list.weight_sum == 1
    assert (result.shared, result.notices) == ((), ())


def test_a_shared_file_is_one_row_whose_share_is_split_in_the_ledger() -> None:
    result = mixed(
        source("D0", "0.4", ("1", "/d/x", "wiki"), ("1", "/d/y", "wiki")),
        source("D1", "0.5", ("1", "/d/z", "dclm"), ("4", "/d/x", "wiki")),
        source("D2", "0.1", ("1", "/d/x", "web")),
    )
    assert shares(result) == {"/d/x": Fraction("0.7"), "/d/y": Fraction("0.2"), "/d/z": Fraction("0.1")}
    assert result.list.corpora == ("D0+D1+D2.wiki+web", "D0.wiki", "D1.dclm")
    assert [(file.prefix, file.corpus, file.parts) for file in result.shared] == [
        (
            "/d/x",
            "D0+D1+D2.wiki+web",
            (("D0", Fraction("0.2")), ("D1", Fraction("0.4")), ("D2", Fraction("0.1"))),
        )
    ]
    assert [entry.rows for entry in result.ledger] == [2, 2, 1]
    assert [notice.code for notice in result.notices] == [MixCode.SHARED]


def test_a_file_with_one_label_in_two_sources_names_both() -> None:
    result = mixed(source("D0", "0.5", ("1", "/d/x", "wiki")), source("D1", "0.5", ("1", "/d/x", "wiki")))
    assert result.list.corpora == ("D0+D1.wiki",)


def test_a_corpus_named_as_its_source_is_named_once() -> None:
    assert mixed(source("D0", "1", ("1", "/d/x", "D0"))).list.corpora == ("D0",)


def test_weight_0_leaves_a_source_out_and_says_so() -> None:
    result = mixed(source("D0", "0", ("1", "/a", "w"), tokens=7), source("D2", "1", ("1", "/b", "w")), token_budget=10)
    assert result.list.prefixes == ("/b",)
    assert [notice.code for notice in result.notices] == [MixCode.LEFT_OUT]
    assert [(entry.label, entry.weight, entry.rows, entry.tokens_drawn) for entry in result.ledger] == [
        ("D0", Fraction(0), 0, 0),
        ("D2", Fraction(1), 1, 10),
    ]


@given(mixtures())
def test_conservation(sources: list[Source]) -> None:
    result = mixed(*sources)
    assert sum(result.list.shares) == 1
    by_hand: dict[str, Fraction] = {}
    for part in sources:
        for prefix, share in zip(part.list.prefixes, part.list.shares, strict=True):
            if part.weight:
                by_hand[prefix] = by_hand.get(prefix, Fraction(0)) + part.weight * share
    assert shares(result) == by_hand
    # What each source has in rows of its own and in shared ones is exactly its weight.
    found = {part.label: Fraction(0) for part in sources}
    for row in result.list.rows:
        owners = row.corpus.split(".")[0].split("+")
        parts = next((file.parts for file in result.shared if file.prefix == row.prefix), ((owners[0], row.weight),))
        assert [label for label, _ in parts] == owners
        assert sum(share for _, share in parts) == row.weight
        for label, share in parts:
            found[label] += share
    assert found == {part.label: part.weight for part in sources}
    assert sum(Fraction(line.split()[0]) for line in render(result.list).splitlines()) == 1


@given(mixtures(), st.integers(0, 23))
def test_the_order_of_sources_changes_no_share(sources: list[Source], turn: int) -> None:
    turned = sources[turn % len(sources) :] + sources[: turn % len(sources)]
    assert shares(mixed(*turned)) == shares(mixed(*sources))


@given(mixtures(), st.integers(1, 99))
def test_mixing_a_source_with_itself_is_that_source(sources: list[Source], percent: int) -> None:
    alone = sources[0].list
    twice = mixed(Source("A", Fraction(percent, 100), alone), Source("B", Fraction(100 - percent, 100), alone))
    assert shares(twice) == dict(zip(alone.prefixes, alone.shares, strict=True))


@given(mixtures())
def test_mixing_a_mixture_multiplies_the_weights(sources: list[Source]) -> None:
    inner = mixed(*sources)
    other = Source("Z", Fraction(1, 4), DataList.from_rows([Row(Fraction(1), "/z", "w")]))
    result = mixed(Source("M", Fraction(3, 4), inner.list), other)
    assert shares(result) == {prefix: share * 3 / 4 for prefix, share in shares(inner).items()} | {"/z": Fraction(1, 4)}


# Refusals


@pytest.mark.parametrize(
    ("weights", "codes", "words"),
    [
        pytest.param(["0.33", "0.33", "0.33"], [MixCode.SUM], "sum to 0.99, which is 0.01 too little", id="below 1"),
        pytest.param(["0.5", "0.6"], [MixCode.SUM], "sum to 1.1, which is 0.1 too much", id="above 1"),
        pytest.param(["1/3", "1/3", "1/4"], [MixCode.SUM], "sum to 11/12, which is 1/12 too little", id="fractions"),
        pytest.param(["1.5", "-0.5"], [MixCode.NEGATIVE], "weight -0.5 of D1 is negative", id="negative, sum 1"),
        pytest.param(["0", "0"], [MixCode.SUM], "sum to 0,", id="all 0"),
        pytest.param([], [MixCode.EMPTY], "no source", id="nothing"),
        pytest.param(
            ["0.999999999999999999", "0"], [MixCode.SUM], "1/1000000000000000000 too little", id="off by 1e-18"
        ),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights: list[str], codes: list[MixCode], words: str) -> None:
    result = mix([source(f"D{i}", weight, ("1", f"/{i}", "w")) for i, weight in enumerate(weights)])
    assert isinstance(result, MixRefused)
    assert [problem.code for problem in result.problems] == codes
    assert words in result.problems[0].message


@pytest.mark.parametrize("label", ["", "D0.x", "D0+D1", "a b", "-a", "a" * 64, "ü"])
def test_labels_that_would_blur_the_ledger_are_refused(label: str) -> None:
    result = mix([source(label, "1", ("1", "/a", "w"))])
    assert isinstance(result, MixRefused)
    assert [problem.code for problem in result.problems] == [MixCode.LABEL]


def test_a_label_given_twice_is_refused() -> None:
    result = mix([source("D0", "0.5", ("1", "/a", "w")), source("D0", "0.5", ("1", "/b", "w"))])
    assert isinstance(result, MixRefused)
    assert "twice" in result.problems[0].message


# The ledger


def test_tokens_and_epochs() -> None:
    result = mixed(
        source("D0", "0.05", ("1", "/a", "w"), tokens=4 * 10**12),
        source("D1", "0.95", ("1", "/b", "w"), tokens=10**12),
        token_budget=2 * 10**12,
    )
    assert [(entry.tokens_drawn, entry.epochs) for entry in result.ledger] == [
        (10**11, Fraction(1, 40)),
        (19 * 10**11, Fraction(19, 10)),
    ]


def test_without_budget_or_size_nothing_is_claimed() -> None:
    parts = source("D0", "0.5", ("1", "/a", "w"), tokens=8), source("D1", "0.5", ("1", "/b", "w"))
    assert [(entry.tokens_drawn, entry.epochs) for entry in mixed(*parts).ledger] == [(None, None), (None, None)]
    known = mixed(*parts, token_budget=8)
    assert [(entry.tokens_drawn, entry.epochs) for entry in known.ledger] == [(4, Fraction(1, 2)), (4, None)]


@given(mixtures(), st.integers(0, 10**15))
def test_tokens_drawn_sum_to_the_budget(sources: list[Source], budget: int) -> None:
    ledger = mixed(*sources, token_budget=budget).ledger
    assert sum(entry.tokens_drawn or 0 for entry in ledger) == budget
    for entry, part in zip(ledger, sources, strict=True):
        assert entry.tokens_drawn is not None
        assert abs(entry.tokens_drawn - part.weight * budget) < 1


# The real lists


GOLDEN = {
    ("0.9", "D0", "0.1", "dolma"): (
        "f4012ccf2c6f2ee7951fad0ba198c9d0ac4d4e9c21829919e0599d724e4507c8",
        "16e45ee43a04678cb9c962b2665ec14127b732b0dbbf8c7d0b0b24867c959254",
    ),
    ("0.05", "dolma", "0.95", "D1"): (
        "c72665454a341fff38f94ea2ef4e81221d5d5c3a0bbddbcaf8846c551153747e",
        "95bdb9e776f0b82aee95c35bb4d879cd0c69eb36c91f68e8c9ee3822b2c0f0ea",
    ),
    ("0.05", "D0", "0.95", "D1"): (
        "53cc90948ea6aba090f0f9cfa7e2ac128cf32b5950820404d243559720b09b5b",
        "24950481ba06274269b9fe0e3fef19cab810143e2092df761d25ffd629c9fdf2",
    ),
}


@pytest.mark.parametrize("pairs", GOLDEN, ids=" ".join)
def test_real_mixes_lose_no_row_and_sum_to_one(pairs: tuple[str, str, str, str]) -> None:
    sources = [real(pairs[1], pairs[0]), real(pairs[3], pairs[2])]
    result = mixed(*sources)
    assert len(result.list) == sum(len(part.list) for part in sources)
    text = render(result.list)
    printed = [Decimal(line.split()[0]) for line in text.splitlines()]
    assert sum(map(Fraction, printed)) == 1
    assert min(printed) > 0
    for part in sources:
        drawn = sum(
            Fraction(share)
            for share, corpus in zip(printed, result.list.corpora, strict=True)
            if corpus.split(".")[0] == part.label
        )
        assert abs(drawn - part.weight) < Fraction(1, 10**9)
    assert (content_digest(result.list), file_sha256(text)) == GOLDEN[pairs]


def test_six_places_would_lose_25_rows_of_dolma() -> None:
    result = mixed(real("dolma", "0.05"), real("D1", "0.95"))
    gone = [share for share in result.list.shares if f"{float(share):.6f}" == "0.000000"]
    assert len(gone) == 25


# Rescaling and printing


def test_rescaled_keeps_ratios() -> None:
    assert rescaled([Fraction(1, 3), Fraction(1, 6)]) == (Fraction(2, 3), Fraction(1, 3))
    for hopeless in ([Fraction(0)], [Fraction(2), Fraction(-1)]):
        with pytest.raises(ValueError, match="0 and more"):
            rescaled(hopeless)


@pytest.mark.parametrize(
    ("value", "text"),
    [("0.05", "0.05"), ("1", "1"), ("100", "100"), ("-0.5", "-0.5"), ("1/3", "1/3"), ("1e-12", "0.000000000001")],
)
def test_decimal(value: str, text: str) -> None:
    assert decimal(Fraction(value)) == text


# Expansion


@pytest.mark.parametrize(
    ("terms", "definitions", "expected"),
    [
        pytest.param({"D1": "1"}, {}, {"D1": "1"}, id="one dataset"),
        pytest.param(
            {"D0": "0.33", "D2": "0.33", "buffer": "0.34"},
            {"buffer": {"D1": "1"}},
            {"D0": "0.33", "D2": "0.33", "D1": "0.34"},
            id="Mix A with the buffer of stage 3",
        ),
        pytest.param(
            {"D0": "0", "D2": "0.1", "buffer": "0.9"},
            {"buffer": {"D1": "1"}},
            {"D2": "0.1", "D1": "0.9"},
            id="Mix C: weight 0 is gone",
        ),
        pytest.param(
            {"stage-2": "0.3", "D2": "0.7"},
            {"stage-2": {"D0": "0.05", "D1": "0.95"}},
            {"D0": "0.015", "D1": "0.285", "D2": "0.7"},
            id="replay of an earlier mixture",
        ),
        pytest.param(
            {"D0": "0.33", "D3": "0.33", "buffer": "0.34"},
            {"buffer": {"D1": "4/7", "D2": "3/7"}},
            {"D0": "0.33", "D3": "0.33", "D1": "34/175", "D2": "51/350"},
            id="a buffer by tokens",
        ),
        pytest.param(
            {"stage-3": "0.5", "buffer": "0.5"},
            {
                "stage-3": {"D0": "0.5", "stage-2": "0.5"},
                "stage-2": {"D0": "0.1", "D1": "0.9"},
                "buffer": {"D1": "0.5", "stage-2": "0.5"},
            },
            {"D0": "0.3", "D1": "0.7"},
            id="several ways to one dataset add up",
        ),
        pytest.param({"D0": "1", "buffer": "0"}, {"buffer": {}}, {"D0": "1"}, id="an empty buffer of weight 0"),
    ],
)
def test_expand(
    terms: Mapping[str, str], definitions: Mapping[str, Mapping[str, str]], expected: Mapping[str, str]
) -> None:
    defined = {name: {term: Fraction(weight) for term, weight in inner.items()} for name, inner in definitions.items()}
    got = expand({term: Fraction(weight) for term, weight in terms.items()}, defined)
    assert got == {symbol: Fraction(share) for symbol, share in expected.items()}
    assert list(got) == list(expected)
    assert sum(got.values()) == 1


@pytest.mark.parametrize(
    ("terms", "definitions", "words"),
    [
        pytest.param({"D0": "0.9"}, {}, "the mixture: weights sum to 0.9", id="sum below 1"),
        pytest.param({"D0": "NaN", "D1": "1"}, {}, "weight NaN of D0 is not a number", id="nan"),
        pytest.param({"D0": "2", "D1": "-1"}, {}, "negative", id="negative"),
        pytest.param({}, {}, "nothing in it", id="no term"),
        pytest.param({"buffer": "1"}, {"buffer": {}}, "buffer: there is nothing in it", id="an empty buffer"),
        pytest.param({"a": "1"}, {"a": {"D0": "0.5"}}, "a: weights sum to 0.5", id="a definition that is no mixture"),
        pytest.param({"a": "1"}, {"a": {"a": "1"}}, "a → a", id="a stage of itself"),
        pytest.param(
            {"D0": "0.5", "a": "0.5"},
            {"a": {"b": "1"}, "b": {"D1": "0.5", "c": "0.5"}, "c": {"b": "1"}},
            "b is defined by itself: b → c → b",
            id="a ring",
        ),
    ],
)
def test_expand_refuses(terms: Mapping[str, str], definitions: Mapping[str, Mapping[str, str]], words: str) -> None:
    defined = {name: {term: Fraction(weight) for term, weight in inner.items()} for name, inner in definitions.items()}
    with pytest.raises(ExpansionRefused, match="^.*" + words.replace(".", r"\.")):
        expand({term: Decimal(weight) for term, weight in terms.items()}, defined)


def test_expand_follows_long_chains_and_wide_diamonds() -> None:
    chain = {f"s{i}": {f"s{i + 1}": Fraction(1, 2), f"s{i + 2}": Fraction(1, 2)} for i in range(3000)}
    got = expand({"s0": Fraction(1)}, chain)
    assert set(got) == {"s3000", "s3001"}
    assert sum(got.values()) == 1


@given(mixtures(), st.integers(0, 100))
def test_expanding_equals_mixing_the_mixture(sources: list[Source], percent: int) -> None:
    inner = {part.label: part.weight for part in sources}
    got = expand({"old": Fraction(percent, 100), "D9": Fraction(100 - percent, 100)}, {"old": inner})
    assert sum(got.values()) == 1
    for label, weight in inner.items():
        assert got.get(label, 0) == weight * percent / 100
