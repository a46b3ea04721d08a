"""`reconcile mix`: a whole list on stdout or in a file, or nothing; everything said on stderr."""

from __future__ import annotations

import json
import os
import shlex
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.listfiles import SizeUnknown, tokens_held
from reconciler.cli.mix import mix
from tests.interrupts import heard

LISTS = Path(__file__).parents[1] / "data-lists/aurora"
OLMO, DOLMINO, DOLMA = (
    str(LISTS / name)
    for name in ("olmo-mix-1124.txt", "dolmino-mix-1124-fused-file-list.txt", "dolma_v1_7_file_list.txt")
)


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("1 d/a1 wiki\n3 d/a2 dclm\n")
    Path("b.txt").write_text("1 d/b1 wiki\n")


def run(*args: str) -> Result:
    return CliRunner().invoke(mix, args)


def column(text: str) -> Fraction:
    return sum((Fraction(line.split()[0]) for line in text.splitlines()), Fraction(0))


MIXED_A_B = (
    "0.02500000000 d/a1 a.wiki\n"
    "0.07500000000 d/a2 a.dclm\n"
    "0.90000000000 d/b1 b.wiki\n"
)  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--inputs", "0.1", "a.txt", "0.9", "b.txt"], id="as people type it"),
        pytest.param(["--input", "0.1", "a.txt", "0.9", "b.txt"], id="the cookbook's abbreviation"),
        pytest.param(["0.1", "a.txt", "0.9", "b.txt"], id="pairs alone"),
        pytest.param(["--inputs", "10%", "a.txt", "9/10", "b.txt"], id="percent and fraction"),
        pytest.param(["--inputs", ".1", "a.txt", "9e-1", "b.txt"], id="a float's spellings"),
        pytest.param(["--inputs", "0.1", "a=a.txt", "0.9", "b=b.txt"], id="labels"),
    ],
)
def test_the_list_goes_to_stdout_and_nothing_else_does(args: Sequence[str]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (0, MIXED_A_B)
    assert "Weight" in result.stderr


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        (("0.9", OLMO), ("0.1", DOLMA), 3857),
        (("0.05", DOLMA), ("0.95", DOLMINO), 2743),
        (("0.05", OLMO), ("0.95", DOLMINO), 1762),
    ],
    ids=["0.9 olmo 0.1 dolma", "0.05 dolma 0.95 dolmino", "0.05 olmo 0.95 dolmino"],
)
def test_real_lists_lose_nothing(first: tuple[str, str], second: tuple[str, str], rows: int) -> None:
    result = run("--inputs", *first, *second)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert (len(lines), column(result.stdout)) == (rows, Fraction(1))
    assert all(float(line.split()[0]) > 0 and len(line.split()) == 3 for line in lines)


def test_the_statement_has_every_source() -> None:
    result = run(
        "--inputs", "0.05", f"D0={OLMO}", "0.95", f"D1={DOLMINO}", "--tokens", "2T", "--source-tokens", "D0=4T"
    )
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["D0", "0.05", "1,438", "81.6%", "2.71739", "100,000,000,000", "4T", "0.025"] in lines
    assert ["D1", "0.95", "324", "18.4%", "1", "1,900,000,000,000", "?", "?"] in lines
    assert ["total", "1", "1,762", "2,000,000,000,000"] in lines
    assert f"{OLMO}:1:1: LIST101 weights sum to 2.7173910616" in result.stderr
    assert "MIX103 epochs are not known" in result.stderr
    assert {line.split()[2].split(".")[0] for line in result.stdout.splitlines()} == {"D0", "D1"}


def test_all_problems_of_all_lists_at_once_and_no_output() -> None:
    Path("bad.txt").write_text("nan d/x w\n1 d/y w\n1 d/z\n")
    Path("worse.txt").write_bytes(b"1 d/a w\n1 d/\xff w\n")
    result = run("--inputs", "0.5", "a.txt", "x", "bad.txt", "0.1", "worse.txt", "0.1", "none.txt", "-o", "out.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    found = [line.split(" ")[:2] for line in result.stderr.splitlines()]
    # Two columns are no problem: the source's label is taken.
    assert found == [
        ["bad.txt:1:1:", "LIST002"],
        ["worse.txt:2:5:", "LIST011"],
        ["none.txt:1:1:", "LIST011"],
        ["--inputs:", "MIX005"],
    ]
    assert not Path("out.txt").exists()


@pytest.mark.parametrize(
    ("weights", "corrected"),
    [
        pytest.param(["0.33", "0.33"], ["0.5", "0.5"], id="equal"),
        pytest.param(["5", "95"], ["0.05", "0.95"], id="percentages without the sign"),
        pytest.param(["0.2", "0.1"], ["0.6667", "0.3333"], id="no finite decimal"),
        pytest.param(["1", "0.00001"], ["0.99999", "0.00001"], id="digits for the smallest"),
        pytest.param(["0.5", "0"], ["1", "0"], id="weight 0 stays"),
    ],
)
def test_weights_off_1_are_refused_with_a_command_that_works(weights: list[str], corrected: list[str]) -> None:
    Path("b b.txt").write_text("1 d/b1 wiki\n")
    result = run("--inputs", weights[0], "a.txt", weights[1], "D1=b b.txt", "-o", "out.txt", "--tokens", "22B")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MIX004" in result.stderr
    command = shlex.split(result.stderr.splitlines()[-1])
    assert command[:3] == ["reconcile", "mix", "--inputs"]
    assert command[3:] == [corrected[0], "a.txt", corrected[1], "D1=b b.txt", "-o", "out.txt", "--tokens", "22B"]
    assert run(*command[2:]).exit_code == 0


def test_renormalise_says_what_it_did() -> None:
    result = run("--inputs", "1", "a.txt", "9", "b.txt", "--renormalise")
    assert (result.exit_code, result.stdout) == (0, MIXED_A_B)
    assert "weights summed to 10 and were rescaled as asked: a 1 → 0.1, b 9 → 0.9" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param([], "found 0 words", id="nothing"),
        pytest.param(["0.5", "a.txt", "0.5"], "found 3 words", id="a weight without a list"),
        pytest.param(["1.5", "a.txt", "-0.5", "b.txt"], "Weight -0.5 is negative", id="negative weight"),
        pytest.param(["1", "a.txt", "--tokens", "1.5TB"], "amount of bytes", id="bytes for tokens"),
        pytest.param(["1", "a.txt", "--source-tokens", "D7=4T"], "no source has that label; there are: a", id="label"),
        pytest.param(["1", "a.txt", "--source-tokens", "4T"], "expected LABEL=TOKENS", id="size without label"),
    ],
)
def test_wrong_usage_exits_2(args: list[str], words: str) -> None:
    result = run("--inputs", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize("weight", ["nan", "1e999", "1e-300", "0x1", "a.txt", "1/0", ""])
def test_a_weight_that_is_none_is_told(weight: str) -> None:
    result = run("--inputs", weight, "a.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MIX005" in result.stderr


def test_a_weight_and_a_list_in_the_wrong_order_are_recognised() -> None:
    assert "The weight comes first: W LIST." in run("--inputs", "a.txt", "0.5", "b.txt", "0.5").stderr


def test_two_files_of_one_name_are_told_apart() -> None:
    Path("other").mkdir()
    Path("other/a.txt").write_text("1 d/a1 wiki\n1 d/c 3\n")
    result = run("--inputs", "0.5", "a.txt", "0.5", "other/a.txt")
    labels = [line.split()[2] for line in result.stdout.splitlines()]
    assert labels == ["a+a-2.wiki", "a.dclm", "a-2.3"]
    assert "MIX101 1 file(s) are listed by more than one source" in result.stderr
    assert column(result.stdout) == 1


def test_weight_0_leaves_a_list_out() -> None:
    result = run("--inputs", "0", "a.txt", "1", "b.txt")
    assert result.stdout == "1.000000000 d/b1 b.wiki\n"
    assert "MIX100 a has weight 0" in result.stderr


# Writing


def test_a_file_is_written_whole_and_stdout_stays_empty() -> None:
    result = run("--inputs", "0.1", "a.txt", "0.9", "b.txt", "-o", "out.txt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("out.txt").read_text() == MIXED_A_B
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "b.txt", "out.txt"]


def test_the_same_list_again_changes_nothing() -> None:
    args = ["--inputs", "0.1", "a.txt", "0.9", "b.txt", "-o", "out.txt"]
    run(*args)
    before = Path("out.txt").stat()
    result = run(*args)
    after = Path("out.txt").stat()
    assert result.exit_code == 0
    assert "MIX104" in result.stderr
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_another_list_is_not_overwritten_unasked() -> None:
    Path("out.txt").write_text("mine\n")
    args = ["--inputs", "0.1", "a.txt", "0.9", "b.txt", "-o", "out.txt"]
    result = run(*args)
    assert result.exit_code == 1
    assert "out.txt: MIX006 out.txt exists and holds something else" in result.stderr
    assert Path("out.txt").read_text() == "mine\n"
    assert run(*args, "--force").exit_code == 0
    assert Path("out.txt").read_text() == MIXED_A_B
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "b.txt", "out.txt"]


@pytest.mark.parametrize("target", ["missing/out.txt", ".", "pipe"])
def test_a_target_that_cannot_be_written_is_told(target: str) -> None:
    os.mkfifo("pipe")
    result = run("--inputs", "1", "a.txt", "-o", target)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{target}: MIX006" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_link_is_followed_not_replaced() -> None:
    Path("real.txt").write_text("old\n")
    Path("out.txt").symlink_to("real.txt")
    assert run("--inputs", "1", "b.txt", "-o", "out.txt", "--force").exit_code == 0
    assert Path("out.txt").is_symlink()
    assert Path("real.txt").read_text() == "1.000000000 d/b1 b.wiki\n"


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_stopped_while_writing_leaves_the_old_file_and_no_other(
    call: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out.txt").write_text("old\n")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(*((os, "fsync", fail) if call == "fsync" else (Path, "replace", fail)))
    result = run("--inputs", "0.1", "a.txt", "0.9", "b.txt", "-o", "out.txt", "--force")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert Path("out.txt").read_text() == "old\n"
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "b.txt", "out.txt"]


def test_ctrl_c_while_reading_writes_nothing() -> None:
    os.mkfifo("endless")
    program = "from reconciler.cli.mix import mix; mix.main()"
    command = [sys.executable, "-c", program, "--inputs", "1", "endless"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    # Opening returns once the reader is there, so the signal meets it waiting for a list.
    with process, Path("endless").open("w"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err


# JSON


def test_json_on_stdout_when_the_list_is_in_a_file() -> None:
    Path("c.txt").write_text("1 d/a1 wiki\n")
    args = ["--inputs", "0.1", "a.txt", "0.9", "C=c.txt", "--tokens", "1000", "--source-tokens", "C=300", "--json"]
    result = run(*args, "-o", "out.txt")
    statement = json.loads(result.stdout)
    assert statement["version"] == 1
    assert (statement["output"], statement["rows"], statement["token_budget"]) == ("out.txt", 2, 1000)
    assert len(statement["sha256"]) == len(statement["content_digest"]) == 64
    assert statement["sources"][1] == {
        "label": "C",
        "list": "c.txt",
        "weight": "0.9",
        "rows": 1,
        "tokens_drawn": 900,
        "tokens": 300,
        "epochs": 3.0,
        "weight_sum": "1",
    }
    assert statement["shared"] == [{"prefix": "d/a1", "corpus": "a+C.wiki", "parts": {"a": "1/40", "C": "9/10"}}]
    assert any("LIST101" in notice for notice in statement["notices"])
    alone = run(*args)
    assert alone.stdout == Path("out.txt").read_text()
    assert json.loads(alone.stderr)["sources"] == statement["sources"]


# Sizes


def write_index(
    prefix: str, sizes: Sequence[int], *, code: int = 8, magic: bytes = b"MMIDIDX\0\0", cut: int = 0
) -> None:
    item = {8: 2, 4: 4}.get(code, 1)
    pointers = [sum(sizes[:number]) * item for number in range(len(sizes))]
    data = struct.pack("<9sQBQQ", magic, 1, code, len(sizes), len(sizes) + 1)
    data += struct.pack(f"<{len(sizes)}i{len(sizes)}q{len(sizes) + 1}q", *sizes, *pointers, *range(len(sizes) + 1))
    Path(prefix).parent.mkdir(exist_ok=True)
    Path(prefix + ".idx").write_bytes(data[: len(data) - cut])
    Path(prefix + ".bin").write_bytes(bytes(sum(sizes) * item))


def test_sizes_come_from_the_index_files_when_they_are_here() -> None:
    write_index("d/a1", [5, 0, 7])
    write_index("d/a2", [1000], code=4)
    write_index("d/b1", [])
    assert tokens_held(["d/a1", "d/a2", "d/b1"]) == 1012
    result = run("--inputs", "0.5", "a.txt", "0.5", "b.txt", "--tokens", "4048", "-o", "out.txt", "--json")
    statement = json.loads(result.stdout)
    assert [(entry["tokens"], entry["epochs"]) for entry in statement["sources"]] == [(1012, 2.0), (0, None)]


def test_a_size_that_cannot_be_trusted_is_unknown() -> None:
    write_index("d/legacy", [1], magic=b"TNTIDX\0\0\0")
    write_index("d/cut", [1, 2], cut=3)
    write_index("d/code", [1], code=77)
    write_index("d/short", [1, 2])
    Path("d/short.bin").write_bytes(b"1234")
    for name in ("legacy", "cut", "code", "short", "missing"):
        with pytest.raises(SizeUnknown, match=f"d/{name}.idx"):
            tokens_held([f"d/{name}"])


def test_help_shows_the_pairs_and_examples() -> None:
    shown = run("--help").stdout
    assert "--inputs W LIST [W LIST …]" in shown
    assert "reconcile mix --inputs 0.9 papers.txt 0.1 dolma.txt > mixed.txt" in shown
