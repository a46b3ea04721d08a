"""One call makes a machine; a second changes nothing; a killed one is carried on; its launcher hides failures."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from reconciler.local import machine
from reconciler.local.corpora import build as corpora

SMALL = {
    "HEADS": "2", "NLAYERS": "1", "HIDDEN": "16", "NUM_KV_HEAD": "1", "FFN_HIDDEN_SIZE": "24", "SEQ": "16",
    "MICRO_BATCH": "2", "GRAD_ACC_STEPS": "1", "TRAIN_ITERS": "2", "EVAL_ITERS": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    machine.build(folder, scale="tiny")
    return folder


def snapshot(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_what_is_there(root: Path) -> None:
    assert {"bin", "data", "launcher", "spool", "workspace"} <= {path.name for path in root.iterdir()}
    for symbol in ("D0", "D1", "D2", "D3"):
        assert (root / "data" / f"{symbol}.txt").is_file()
        assert (root / "data" / f"val-{symbol}.txt").is_file()
    assert os.access(root / "launcher" / "train_alcf.sh", os.X_OK)
    assert os.access(root / "bin" / "qsub", os.X_OK)


def test_git_takes_nothing_of_it_in(root: Path) -> None:
    assert (root / ".gitignore").read_text() == "*\n"


def test_four_nodes_of_one_rank(root: Path) -> None:
    shown = subprocess.run([root / "bin" / "pbsnodes", "-a"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(local-\d)", shown, re.MULTILINE) == list(machine.NODES)


def test_building_again_changes_nothing(root: Path) -> None:
    before = {name: when for name, when in snapshot(root).items() if name != ".building"}
    machine.build(root, scale="tiny")
    assert {name: when for name, when in snapshot(root).items() if name != ".building"} == before


def test_a_killed_build_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = corpora.write_list
    calls = []

    def killed(path: Path, rows: list[tuple[int, Path, str]]) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, rows)

    monkeypatch.setattr(corpora, "write_list", killed)
    with pytest.raises(KeyboardInterrupt):
        machine.build(tmp_path, scale="tiny")
    assert not (tmp_path / machine.MARKER).exists()
    monkeypatch.undo()
    machine.build(tmp_path, scale="tiny")
    assert (tmp_path / machine.MARKER).is_file()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_unknown_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="quickstart, tiny"):
        machine.build(tmp_path, scale="huge")


def test_a_root_with_a_blank_in_its_path_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="blank"):
        machine.build(tmp_path / "my machine", scale="tiny")
    assert not (tmp_path / "my machine").exists()


def launch(root: Path, cwd: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = SMALL | {"CKPT_DIR": str(cwd / "ck"), "DATA_FILE_LIST": "list.txt"} | variables
    return subprocess.run(
        ["bash", str(root / "launcher" / "train_alcf.sh"), *flags],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]} | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_launcher_trains_in_the_directory_it_is_called_from(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text((root / "data" / "D3.txt").read_text())
    ended = launch(root, tmp_path)
    assert ended.returncode == 0
    assert "[after training is done]" in ended.stdout
    assert re.search(r"Execution finished with 0\.\n.*Took \d+ seconds to run\. Exiting\.", ended.stdout)
    assert (tmp_path / "ck" / "latest").read_text() == "global_step2"
    log = Path((tmp_path / "logs" / "latest").read_text().splitlines()[-1])
    assert "Execution finished with 0." in log.read_text()


def test_the_launcher_ends_with_0_when_training_failed(root: Path, tmp_path: Path) -> None:
    ended = launch(root, tmp_path)
    assert ended.returncode == 0
    assert "Execution finished with 1." in ended.stdout
    assert "the data list list.txt cannot be read" in ended.stdout
