"""A conversion that is killed, or finds the disk full, at any point leaves nothing that could pass for a result. The
source stays as it was, and the next run ends with the right result."""

from __future__ import annotations

import errno
import functools
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.convert import layout, universal
from tests.convert.faults import Ended, disk_full, in_fork, killed
from tests.convert.test_damaged_folders import everything
from tests.convert.zero_writer import ZERO, Saved, state_of, write_checkpoint

POINTS = 20
RESULT = "global_step120_universal"
SHAPES: list[dict[str, tuple[int, ...]]] = [{f"layers.{n}.weight": (16, 8) for n in range(3)}, {"norm.weight": (30,)}]


@dataclass(frozen=True)
class Undisturbed:
    """A source, the result of a run without faults, and how many calls that change files it made."""

    source: Path
    result: dict[str, bytes]
    calls: int

    def point(self, number: int) -> int:
        """The call at which fault `number` of `POINTS` strikes: the first, the last, and evenly between."""
        return 1 + round(number * (self.calls - 1) / (POINTS - 1))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root = tmp_path_factory.mktemp("undisturbed")
    source = write_checkpoint(root, state_of(SHAPES), Saved(4, ZERO))
    ended = in_fork(functools.partial(universal.convert, source, root))
    assert (ended.error, ended.value["outcome"]) == (None, "converted")
    assert ended.calls >= POINTS
    return Undisturbed(source, result_in(root), ended.calls)


def result_in(target: Path) -> dict[str, bytes]:
    folder = target / RESULT
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def struck(undisturbed: Undisturbed, target: Path, number: int, fault: Callable[[], None]) -> Ended:
    """Run with a fault; holds the source and what is published to be as before, or whole."""
    before = everything(undisturbed.source)
    work = functools.partial(universal.convert, undisturbed.source, target)
    ended = in_fork(work, undisturbed.point(number), fault)
    assert everything(undisturbed.source) == before
    if (target / RESULT).exists():
        assert result_in(target) == undisturbed.result
    else:
        assert not (target / layout.POINTER).exists()
    return ended


def assert_ends_right(undisturbed: Undisturbed, target: Path) -> None:
    """The next run, without a fault, has the result and nothing else."""
    universal.convert(undisturbed.source, target)
    assert result_in(target) == undisturbed.result
    assert sorted(path.name for path in target.iterdir()) == [RESULT, layout.POINTER]
    assert (target / layout.POINTER).read_text() == RESULT
    assert universal.verify(target)["source_compared"] is True


@pytest.mark.parametrize("number", range(POINTS))
def test_killed_and_run_again(undisturbed: Undisturbed, tmp_path: Path, number: int) -> None:
    assert struck(undisturbed, tmp_path, number, killed).signal == signal.SIGKILL
    assert_ends_right(undisturbed, tmp_path)


def test_killed_again_and_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Each run takes up what the one before left, and is killed a little later."""
    for number in range(POINTS):
        struck(undisturbed, tmp_path, number, killed)
    assert_ends_right(undisturbed, tmp_path)


@pytest.mark.parametrize("number", range(POINTS))
def test_no_space_left_and_run_again(undisturbed: Undisturbed, tmp_path: Path, number: int) -> None:
    ended = struck(undisturbed, tmp_path, number, disk_full)
    if ended.error is None:  # at what need not succeed, such as giving a lock back
        assert result_in(tmp_path) == undisturbed.result
    else:
        assert isinstance(ended.error, universal.Refused) or getattr(ended.error, "errno", 0) == errno.ENOSPC
    assert_ends_right(undisturbed, tmp_path)


def test_a_limit_of_the_system_on_what_may_be_written(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """As a full disk or quota, met by a real write: the system refuses what goes beyond half of the largest file."""
    largest = max(map(len, undisturbed.result.values()))

    def limited() -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))
        return universal.convert(undisturbed.source, tmp_path)

    before = everything(undisturbed.source)
    ended = in_fork(limited)
    assert getattr(ended.error, "errno", 0) == errno.EFBIG
    assert not (tmp_path / RESULT).exists() and not (tmp_path / layout.POINTER).exists()
    assert everything(undisturbed.source) == before
    assert_ends_right(undisturbed, tmp_path)


def test_a_full_disk_is_seen_before_the_work(undisturbed: Undisturbed, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(universal.Refused, match="Make room"):
        universal.convert(undisturbed.source, tmp_path)
    assert not list(tmp_path.iterdir())
