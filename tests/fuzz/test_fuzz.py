"""Every kept input is taken as it must be, and a second of new ones for each target finds nothing."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import TARGETS
from tests.fuzz.engine import CORPUS, Report, Target, corpus, fuzz, mutated, once

CORPUS_BYTES_MAX = 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_a_kept_input_breaks_nothing(name: str) -> None:
    target = TARGETS[name]
    report = Report(name)
    kept = corpus(target)
    assert kept, f"tests/fuzz/corpus/{name} is empty"
    for _, data in [*kept, *((name, data) for data in target.seeds())]:
        once(target, data, report)
    assert report.broken == []


@pytest.mark.parametrize("name", TARGETS)
def test_a_second_of_new_inputs_breaks_nothing(name: str) -> None:
    report = fuzz(TARGETS[name], seed=1, seconds=1.0)
    assert report.broken == []
    assert report.runs > 0


def test_a_broken_promise_is_found_and_the_same_seed_finds_it_again() -> None:
    def check(data: bytes) -> int:
        assert b"ab" not in data
        return data.count(b"a") % 3

    target = Target("toy", "no a before a b", lambda: iter([b"a", b"b"]), check, (b"a", b"b"))
    first, second = fuzz(target, seed=3, runs=3000), fuzz(target, seed=3, runs=3000)
    assert first.broken
    assert [data for data, _ in first.broken] == [data for data, _ in second.broken]
    assert (first.runs, first.kinds) == (second.runs, second.kinds)


def test_mutation_is_bounded() -> None:
    chance, data = random.Random(0), b"x" * 150_000
    assert all(len(mutated(chance, [data], ())) <= 200_000 for _ in range(50))


def test_the_corpus_is_small_and_has_no_target_that_is_gone() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < CORPUS_BYTES_MAX
