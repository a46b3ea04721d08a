"""Which files of a dataset the buffer takes."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.selection import Selected, SelectionRefused, select
from reconciler.model.datalist import DataList, Row
from reconciler.model.manifests import Selection
from reconciler.model.scorefile import Scores

NAMES = ("/d/a/00", "/d/a/01", "/d/b/00", "/d/b/11")
WHOLE = DataList.from_rows(
    Row(Fraction(weight, 10), name, "c") for weight, name in zip((1, 2, 3, 4), NAMES, strict=True)
)


def scored(*scores: str, sizes: tuple[int, ...] = (10, 20, 30, 40), names: tuple[str, ...] = NAMES) -> Scores:
    return Scores(names, tuple(map(Decimal, scores)), sizes)


def wanting(**fields: Any) -> Selection:
    scores = {"scores": {"here": {"path": "scores.txt"}}} if "cap" in fields else {}
    return Selection.model_validate(fields | scores)


def taken(selected: Selected | SelectionRefused) -> list[str]:
    assert isinstance(selected, Selected), selected
    return [prefix.removeprefix("/d/") for prefix in selected.list.prefixes]


@pytest.mark.parametrize(
    ("shards", "files"),
    [
        pytest.param(["00"], ["a/00", "b/00"], id="an end that two files have"),
        pytest.param(["b/00", "a/01"], ["a/01", "b/00"], id="in the order of the list"),
        pytest.param(["/d/b/11"], ["b/11"], id="a whole prefix"),
    ],
)
def test_shards_by_the_end_of_their_prefix(shards: list[str], files: list[str]) -> None:
    assert taken(select(WHOLE, 100, wanting(shards=shards), None)) == files


@pytest.mark.parametrize("shard", ["1", "/00", "d/a", "a/00/"])
def test_a_shard_that_is_no_file_is_refused(shard: str) -> None:
    refused = select(WHOLE, 100, wanting(shards=["a/00", shard]), None)
    assert isinstance(refused, SelectionRefused)
    assert repr(shard) in refused.message


def test_without_scores_a_part_holds_its_share_of_the_list() -> None:
    selected = select(WHOLE, 100, wanting(shards=["b/00", "b/11"]), None)
    assert isinstance(selected, Selected)
    assert (selected.tokens, selected.list.shares) == (70, (Fraction(3, 7), Fraction(4, 7)))


@pytest.mark.parametrize(
    ("order", "cap", "files", "tokens"),
    [
        pytest.param("highest", 40, ["b/11"], 40, id="a file that reaches the cap exactly is the last"),
        pytest.param("highest", 41, ["a/01", "b/11"], 60, id="the file that passes the cap is taken whole"),
        pytest.param("lowest", 1, ["a/00"], 10, id="one file at least"),
        pytest.param("lowest", 11, ["a/00", "b/00"], 40, id="lowest first"),
        pytest.param("middle", 1, ["a/01"], 20, id="of two equally near the median the first in the list"),
        pytest.param("middle", 21, ["a/01", "b/00"], 50, id="then the other"),
        pytest.param("highest", 10**9, ["a/00", "a/01", "b/00", "b/11"], 100, id="a cap above all takes all"),
    ],
)
def test_by_score_until_the_cap(order: str, cap: int, files: list[str], tokens: int) -> None:
    selected = select(WHOLE, 999, wanting(order=order, cap=cap), scored("-1.5", "3", "2", "1e1"))
    assert isinstance(selected, Selected)
    assert (taken(selected), selected.tokens) == (files, tokens)


@pytest.mark.parametrize("order", ["highest", "lowest", "middle"])
def test_equal_scores_keep_the_order_of_the_list(order: str) -> None:
    assert taken(select(WHOLE, 999, wanting(order=order, cap=11), scored("7", "7", "7", "7"))) == ["a/00", "a/01"]


def test_the_order_of_the_score_file_does_not_count() -> None:
    turned = Scores(NAMES[::-1], tuple(map(Decimal, "4321")), (40, 30, 20, 10))
    assert taken(select(WHOLE, 999, wanting(cap=40), turned)) == ["b/11"]


def test_shards_are_taken_before_scores_count() -> None:
    wanted = wanting(shards=["a/00", "a/01", "b/00"], order="middle", cap=1)
    assert taken(select(WHOLE, 999, wanted, scored("1", "2", "3", "100"))) == ["a/01"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param(NAMES[:2], "2 of its 4 files have none, first '/d/b/00'", id="missing"),
        pytest.param((*NAMES, "/e"), "1 are for files that are not in its list, first '/e'", id="too many"),
        pytest.param(("/x", *NAMES[1:]), "1 of its 4 files have none, first '/d/a/00'; 1 are for files", id="both"),
    ],
)
def test_scores_must_be_for_the_files_of_the_list(names: tuple[str, ...], told: str) -> None:
    scores = Scores(names, (Decimal(1),) * len(names), (1,) * len(names))
    refused = select(WHOLE, 999, wanting(cap=1), scores)
    assert isinstance(refused, SelectionRefused)
    assert told in refused.message


@given(
    st.lists(st.tuples(st.decimals(-9, 9, places=2), st.integers(1, 99)), min_size=1, max_size=30),
    st.sampled_from(["highest", "lowest", "middle"]),
    st.integers(1, 2000),
)
def test_a_cap_is_reached_by_the_last_file_and_by_no_earlier_one(
    rows: list[tuple[Decimal, int]], order: str, cap: int
) -> None:
    names = tuple(f"/{row}" for row in range(len(rows)))
    whole = DataList((1,) * len(rows), 1, names, ("c",) * len(rows))
    scores = Scores(names, tuple(score for score, _ in rows), tuple(size for _, size in rows))
    selected = select(whole, 1, wanting(order=order, cap=cap), scores)
    assert isinstance(selected, Selected)
    sizes = [rows[int(name[1:])][1] for name in selected.list.prefixes]
    assert selected.tokens == sum(sizes)
    assert selected.tokens >= cap or len(sizes) == len(rows)
    assert selected.tokens - max(sizes) < cap


def test_a_hundred_thousand_files_take_seconds() -> None:
    names = tuple(f"/data/part-{row % 64}/shard-{row:06d}" for row in range(100_000))
    whole = DataList((1,) * len(names), 1, names, ("c",) * len(names))
    scores = Scores(names, tuple(Decimal(row * 7919 % 100_003) / 7 for row in range(len(names))), (1000,) * len(names))
    wanted = wanting(shards=[f"shard-{row:06d}" for row in range(0, 100_000, 2)], order="middle", cap=10**7)
    began = time.monotonic()
    selected = select(whole, 10**8, wanted, scores)
    assert isinstance(selected, Selected)
    assert len(selected.list) == 10_000
    assert time.monotonic() - began < 20
