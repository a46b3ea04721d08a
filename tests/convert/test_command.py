"""The converter as people and jobs call it: one file, plain lines, clear refusals."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.convert import convert
from reconciler.convert import layout, universal
from tests.convert.zero_writer import Saved, state_of, write_checkpoint


def checkpoint(root: Path) -> Path:
    return write_checkpoint(root, state_of([{"a.weight": (8, 8)}, {"norm.weight": (8,)}]), Saved(2))


def run(*arguments: object, program: Path = layout.PROGRAM) -> subprocess.CompletedProcess[str]:
    # -I: without this project on the path, as on a cluster.
    command = [sys.executable, "-I", str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)


def test_one_copied_file_converts_and_verifies(tmp_path: Path) -> None:
    program = tmp_path / "job" / "universal.py"
    program.parent.mkdir()
    program.write_text(layout.program_text(), encoding="utf-8")
    source = checkpoint(tmp_path / "run")
    done = run(source, tmp_path / "run", program=program)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-2] == layout.DONE_LINE
    assert json.loads(lines[-1])["outcome"] == "converted"
    again = run("--verify", tmp_path / "run", program=program)
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["outcome"]) == (0, "verified")


def test_a_refusal_is_one_message_and_exit_1(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    (source / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    failed = run(source, tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1 and "rank 0 is missing" in failed.stderr
    assert "*** Done!" not in failed.stdout


def test_the_program_imports_only_torch_and_the_standard_library_of_python_3_9() -> None:
    tree = ast.parse(layout.program_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)])
    }
    assert imported - set(sys.stdlib_module_names) == {"torch"}
    assert "tomllib" not in imported
    assert (layout.POINTER, layout.RECEIPT) == (universal.POINTER, universal.RECEIPT)


def test_reconcile_convert_defaults_to_the_folder_above_the_source(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = checkpoint(tmp_path)
    result = CliRunner().invoke(convert, [str(source)])
    assert result.exit_code == 0
    assert "*** Done!" in capfd.readouterr().out
    assert (tmp_path / "latest_universal").read_text() == "global_step120_universal"
    assert CliRunner().invoke(convert, ["--verify", str(tmp_path)]).exit_code == 0


def test_reconcile_convert_passes_a_refusal_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(convert, [str(tmp_path / "global_step9"), str(tmp_path)])
    assert result.exit_code == 1
    assert "no such folder" in capfd.readouterr().err


def test_reconcile_convert_without_torch_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(convert, ["global_step1", "there"])
    assert result.exit_code == 1
    assert "pip install" in result.output and "universal.py" in result.output


@pytest.mark.parametrize(
    ("elements", "data_parallel", "without"),
    [
        pytest.param(36, 8, 2, id="the reproduced case: shards of 6, two ranks own nothing"),
        pytest.param(65 * 4096, 375, 0, id="7B norms below the first bad size"),
        pytest.param(65 * 4096, 376, 1, id="7B norms at the first bad size"),
        pytest.param(65 * 4096, 384, 0, id="7B norms at a good size above it"),
        pytest.param(65 * 4096, 768, 2, id="7B norms at 768"),
        pytest.param(51200, 173, 0, id="2B norms below the first bad size"),
        pytest.param(51200, 174, 1, id="2B norms at the first bad size"),
        pytest.param(51200, 3072, 227, id="2B norms at 3072"),
        pytest.param(1, 1, 0, id="one rank owns everything"),
    ],
)
def test_ranks_without_elements(elements: int, data_parallel: int, without: int) -> None:
    assert layout.ranks_without_elements(elements, data_parallel) == without
    assert layout.universal_loads_at([10**9, elements], data_parallel) is (without == 0)


def test_universal_folder_names() -> None:
    assert layout.universal_folder("global_step120") == "global_step120_universal"
    for name in ("global_step", "global_step007", "latest", "global_step1/..", "global_step1\n"):
        with pytest.raises(ValueError, match="must be global_stepN"):
            layout.universal_folder(name)


def test_a_full_disk_is_a_refusal_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(universal.Refused, match="Make room"):
        universal.convert(source, tmp_path)
    assert not list(tmp_path.glob("*universal*"))
