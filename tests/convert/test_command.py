"""The converter as people and jobs call it: one file, plain lines, clear refusals."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli.convert import convert, verify
from reconciler.convert import layout, receipt, universal
from reconciler.convert.pickles import Refused
from tests.convert.zero_writer import Saved, state_of, write_checkpoint


def checkpoint(root: Path) -> Path:
    return write_checkpoint(root, state_of([{"a.weight": (8, 8)}, {"norm.weight": (8,)}]), Saved(2))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converter as it is shipped with a job."""
    path = tmp_path_factory.mktemp("job") / "universal.py"
    path.write_text(layout.program_text(), encoding="utf-8")
    return path


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    # -I and -S: without this project, or anything that is installed, on the path.
    command = [sys.executable, "-I", "-S", str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)


def test_one_copied_file_converts_and_verifies_without_anything_installed(tmp_path: Path, program: Path) -> None:
    source = checkpoint(tmp_path / "run")
    refused = run(program, source, tmp_path / "run")
    assert refused.returncode == 1 and "--no-weight-check" in refused.stderr, "the one thing that numpy is needed for"
    done = run(program, source, tmp_path / "run", "--no-weight-check", "--workers", 2)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-2] == layout.DONE_LINE
    assert json.loads(lines[-1])["outcome"] == "converted"
    again = run(program, "--verify", tmp_path / "run")
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["outcome"]) == (0, "verified")


def test_a_refusal_is_one_message_and_exit_1(tmp_path: Path, program: Path) -> None:
    source = checkpoint(tmp_path)
    (source / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    failed = run(program, source, tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1 and "rank 0 is missing" in failed.stderr
    assert "*** Done!" not in failed.stdout


def test_the_program_imports_only_numpy_and_the_standard_library_of_python_3_9() -> None:
    tree = ast.parse(layout.program_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)])
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "reconciler"}, "and those that joining does without"
    assert "tomllib" not in imported


def test_no_two_files_of_the_program_define_one_name() -> None:
    """They share one namespace when they are joined."""
    seen: dict[str, str] = {}
    for name in layout.PROGRAM_FILES:
        for node in ast.parse(layout.PROGRAM.with_name(name).read_text()).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)]
            for defined in names:
                assert seen.setdefault(defined, name) == name, defined


def test_names_that_are_known_without_the_program_are_its_own() -> None:
    assert (layout.POINTER, layout.RECEIPT) == (receipt.POINTER, receipt.RECEIPT)


def test_reconcile_convert_defaults_to_the_folder_above_the_source(
    tmp_path: Path,
) -> None:
    source = checkpoint(tmp_path)
    result = CliRunner().invoke(convert, [str(source)])
    assert result.exit_code == 0
    assert "*** Done!" in result.output
    assert (tmp_path / "latest_universal").read_text() == "global_step120_universal"
    assert CliRunner().invoke(verify, [str(tmp_path)]).exit_code == 0


def test_reconcile_convert_passes_a_refusal_on(tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, [str(tmp_path / "global_step9"), str(tmp_path)])
    assert result.exit_code == 1
    assert "no such folder" in result.stderr


def test_what_stands_in_the_way_of_a_result_is_named_and_left_alone(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    cases = {
        "global_step120_universal.partial-x": "is no folder of an interrupted conversion. Move it away.",
        "latest_universal": f"so it cannot name {tmp_path / 'global_step120_universal'}, which is in place",
    }
    for name, told in cases.items():
        place = tmp_path / name
        place.mkdir() if name == "latest_universal" else place.symlink_to(tmp_path)
        result = CliRunner().invoke(convert, [str(source)])
        assert (result.exit_code, told in result.stderr) == (1, True), result.stderr
        assert sorted(path.name for path in tmp_path.glob(".latest*")) == []
        place.rmdir() if name == "latest_universal" else place.unlink()
    assert CliRunner().invoke(convert, [str(source)]).exit_code == 0
    nowhere = CliRunner().invoke(convert, [str(source), str(source / "mp_rank_00_model_states.pt" / "in")])
    assert (nowhere.exit_code, "TARGET" in nowhere.stderr) == (1, True)


def test_a_path_of_the_wrong_kind_is_told_with_the_right_one(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    above = CliRunner().invoke(convert, [str(tmp_path)])
    assert f"It holds one: {source}" in above.stderr
    for path, told in ((tmp_path / "nowhere", "no such folder"), (source, "PATH is a folder global_stepN_universal")):
        result = CliRunner().invoke(verify, [str(path)])
        assert (result.exit_code, told in result.stderr) == (1, True), result.stderr


def test_the_name_of_a_file_gives_a_terminal_no_orders(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    assert CliRunner().invoke(convert, [str(source)]).exit_code == 0
    (tmp_path / "global_step120_universal" / "\x1b[31mred\nrefused: not really").write_text("")
    result = CliRunner().invoke(verify, [str(tmp_path)])
    assert result.exit_code == 1
    assert "\\x1b[31mred\\nrefused: not really was added later" in result.stderr
    assert result.stderr.count("\n") == 1


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


def test_a_size_that_would_not_load_is_warned_of_with_sizes_that_do(
    tmp_path: Path,
) -> None:
    source = write_checkpoint(tmp_path, state_of([{"a.weight": (64, 8)}, {"norm.weight": (36,)}]), Saved(2))
    done = CliRunner().invoke(convert, [str(source), "--for-data-parallel", "8"])
    assert done.exit_code == 0
    assert "at 8 data-parallel ranks, 2 would own nothing" in done.stderr
    assert "Train on 6 or 9 ranks" in done.stderr
    done = CliRunner().invoke(convert, [str(source), str(tmp_path / "b"), "--for-data-parallel", "6"])
    assert (done.exit_code, done.stderr) == (0, "")


def test_universal_folder_names() -> None:
    assert layout.universal_folder("global_step120") == "global_step120_universal"
    for name in ("global_step", "global_step007", "latest", "global_step1/..", "global_step1\n"):
        with pytest.raises(ValueError, match="must be global_stepN"):
            layout.universal_folder(name)


def test_a_full_disk_is_a_refusal_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(Refused, match="Make room"):
        universal.convert(source, tmp_path)
    assert not list(tmp_path.glob("*universal*"))
