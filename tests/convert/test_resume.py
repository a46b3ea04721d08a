"""A conversion that was stopped goes on where it was; any number of workers makes the same result."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reconciler.convert import universal
from reconciler.convert.pickles import Refused
from reconciler.convert.writing import write_parameter
from tests.convert.zero_writer import ZERO, Saved, State, state_of, write_checkpoint

SHAPES: dict[str, tuple[int, ...]] = {f"layers.{number}.weight": (8 + number, 6) for number in range(6)}
PARTIAL = "global_step120_universal.partial-*"


def six() -> State:
    return state_of([SHAPES, {"norm.weight": (9,)}])


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of parameters as they are written; the disk is full before the fifth."""
    names: list[str] = []

    def counted(source: Any, parameter: Any, *rest: Any) -> Any:
        if len(names) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        names.append(parameter.name)
        return write_parameter(source, parameter, *rest)

    monkeypatch.setattr(universal, "write_parameter", counted)
    yield names


def test_what_is_finished_is_taken_up_and_not_done_again(
    tmp_path: Path, written: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path, six(), Saved(3))
    with pytest.raises(OSError, match="No space"):
        universal.convert(source, tmp_path)
    assert len(list(tmp_path.glob(PARTIAL))) == 1
    before = list(written)
    written.clear()
    written.append("so that there is room for three")
    universal.convert(source, tmp_path)
    assert "taking up 4 parameters" in capsys.readouterr().out
    assert sorted(before + written[1:]) == sorted({**SHAPES, "norm.weight": ()})
    assert not list(tmp_path.glob(PARTIAL))
    assert not list((tmp_path / "global_step120_universal").glob("journal*"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-9], id="cut short"),
        pytest.param(lambda data: data[:-700] + bytes([data[-700] ^ 1]) + data[-699:], id="a flipped bit"),
        pytest.param(lambda data: b"", id="empty"),
    ],
)
def test_what_no_longer_holds_what_was_noted_is_done_again(tmp_path: Path, written: list[str], damage: Any) -> None:
    source = write_checkpoint(tmp_path, six(), Saved(2))
    with pytest.raises(OSError, match="No space"):
        universal.convert(source, tmp_path)
    hurt = written[1]
    path = next(tmp_path.glob(PARTIAL)) / "zero" / hurt / "exp_avg.pt"
    path.write_bytes(damage(path.read_bytes()))
    written.clear()
    outcome = universal.convert(source, tmp_path)
    assert hurt in written
    assert outcome["weights_compared"] == 7


def test_what_was_begun_from_other_files_is_not_taken_up(tmp_path: Path, written: list[str]) -> None:
    with pytest.raises(OSError, match="No space"):
        universal.convert(write_checkpoint(tmp_path, six(), Saved(2)), tmp_path)
    for path in (tmp_path / "global_step120").iterdir():
        path.touch()
    written.clear()
    with pytest.raises(OSError, match="No space"):
        universal.convert(tmp_path / "global_step120", tmp_path)
    assert len(written) == 4, "from the start"


def test_any_number_of_workers_makes_the_same_result(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, six(), Saved(5, ZERO))
    results = []
    for workers in (1, 3):
        universal.convert(source, tmp_path / str(workers), universal.Options(workers=workers))
        root = tmp_path / str(workers) / "global_step120_universal"
        results.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert results[0] == results[1]


def test_a_refusal_of_a_worker_is_told_as_any_other(tmp_path: Path) -> None:
    state = six()
    source = write_checkpoint(tmp_path, state, Saved(2))
    other = write_checkpoint(tmp_path / "other", state_of([SHAPES, {"norm.weight": (9,)}], seed=4), Saved(2))
    (source / "mp_rank_00_model_states.pt").write_bytes((other / "mp_rank_00_model_states.pt").read_bytes())
    with pytest.raises(Refused, match="files of two saves or runs are mixed"):
        universal.convert(source, tmp_path, universal.Options(workers=3))
    assert not list(tmp_path.glob("*universal*"))


def test_there_may_be_more_shards_than_a_process_may_have_files_open(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, six(), Saved(150))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        universal.convert(source, tmp_path, universal.Options(workers=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    got = torch.load(tmp_path / "global_step120_universal" / "zero" / "norm.weight" / "exp_avg.pt")["param"]
    assert torch.equal(got, six().parameters()["norm.weight"]["exp_avg"])


@pytest.mark.parametrize(
    ("names", "files"),
    [
        pytest.param({"exp_avg_sq": "hessian"}, {"exp_avg", "fp32", "hessian", "step"}, id="Sophia"),
        pytest.param({"exp_avg_sq": ""}, {"exp_avg", "fp32", "step"}, id="Lion"),
        pytest.param(
            {"exp_avg": "moment1", "exp_avg_sq": "moment2"}, {"moment1", "moment2", "fp32", "step"}, id="Muon"
        ),
    ],
)
def test_states_of_other_names_are_converted_under_them(tmp_path: Path, names: dict[str, str], files: set[str]) -> None:
    """DeepSpeed's loader takes every file that lies there, by its name."""
    universal.convert(write_checkpoint(tmp_path, six(), Saved(3, names=names)), tmp_path)
    home = tmp_path / "global_step120_universal" / "zero" / "layers.2.weight"
    assert {path.stem for path in home.iterdir()} == files
    for state in six().parameters()["layers.2.weight"]:
        name = names.get(state, state)
        if name:
            assert torch.equal(torch.load(home / f"{name}.pt")["param"], six().parameters()["layers.2.weight"][state])
