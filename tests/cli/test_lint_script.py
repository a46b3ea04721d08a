"""`reconcile lint-script`: a folder of `tests/cases/lint-script` is one call. Nothing in a script is executed.

A case holds `script.sh`, and may hold `args` and `state.json`; `expected.txt` is all that is printed and the exit
status, `expected.json` what --json gives, with fewer points of the rate. SNAP_UPDATE=1 rewrites what is expected.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cli.lint_script import lint_script
from reconciler.launcher.codes import ERRORS, MEANINGS

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "tests/cases/lint-script").iterdir())
DOCS = ROOT / "docs/lint-script.md"
POINTS = 8


def lint(folder: Path, *more: str) -> Result:
    """The command as a person in that folder calls it."""
    args = (folder / "args").read_text().split() if (folder / "args").exists() else []
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(lint_script, ["script.sh", *args, *more], standalone_mode=False)
    finally:
        os.chdir(before)


def status(result: Result) -> int:
    return int(result.return_value if result.return_value is not None else result.exit_code)


def compared(path: Path, text: str) -> str:
    """What is expected, rewritten first if that is asked for."""
    if os.environ.get("SNAP_UPDATE") == "1":
        path.write_text(text)
    return path.read_text()


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_what_is_said_of_a_script(folder: Path) -> None:
    result = lint(folder)
    said = f"{result.output}exit status {status(result)}\n"
    assert said == compared(folder / "expected.txt", said)
    assert "Traceback" not in said
    assert all(character.isprintable() or character == "\n" for character in said)


def thinned(body: dict[str, Any]) -> str:
    """The JSON with some points of its rate, its length beside."""
    trace = body["lr_trace"]
    step = max(1, (len(trace) - 1) // POINTS)
    few = body | {"lr_trace": [*trace[:-1:step], *trace[-1:]], "lr_trace_length": len(trace)}
    return json.dumps(few, indent=2) + "\n"


@pytest.mark.parametrize("folder", [c for c in CASES if (c / "expected.json").exists()], ids=lambda folder: folder.name)
def test_the_same_for_programs(folder: Path) -> None:
    result = lint(folder, "--json")
    body = json.loads(result.stdout)
    assert set(body) == {
        "start_iteration", "train_iters", "global_batch_size", "load", "save", "data_file_list", "resets", "warnings",
        "lr_trace",
    }  # fmt: skip
    assert thinned(body) == compared(folder / "expected.json", thinned(body))
    assert status(result) == (1 if any(w["severity"] == "error" for w in body["warnings"]) else 0)


def run(text: str, *args: str) -> Result:
    return CliRunner().invoke(lint_script, ["-", *args], input=text, standalone_mode=False)


CALL = "GLOBAL_BATCH=192 TRAIN_ITERS=11 LR_DECAY_STYLE=constant LR_WARMUP_FRAC=0 LR=0.001 bash train_alcf.sh"


def test_every_iteration_has_its_rate() -> None:
    body = json.loads(run(CALL, "--json", "--nodes", "1").stdout)
    assert body["lr_trace"] == [[n, 0.001] for n in range(12)]
    assert (body["start_iteration"], body["train_iters"], body["global_batch_size"]) == (0, 11, 192)


STATE = {
    "iteration": 7,
    "global_batch_size": 192,
    "lr": 1e-3,
    "dp_world_size": 12,
    "path": "/a",
    "scheduler": {
        "max_lr": 1e-3,
        "min_lr": 0,
        "lr_decay_style": "constant",
        "lr_warmup_steps": 0,
        "lr_decay_steps": 7 * 192,
        "wd_incr_style": "constant",
    },
}


def test_a_state_may_be_given_in_a_file_or_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps(STATE))
    call = f"LOAD=/a {CALL}"
    given_ = [
        json.loads(run(call, "--json", "--state", s).stdout) for s in (json.dumps(STATE), f"{tmp_path}/state.json")
    ]
    assert given_[0] == given_[1]
    assert (given_[0]["start_iteration"], given_[0]["lr_trace"][0]) == (7, [7, 1e-3])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("nowhere.json", "--state nowhere.json cannot be read: No such file or directory"),
        ("/", "cannot be read: Is a directory"),
        ("{", "--state does not describe a checkpoint: JSON: Invalid JSON"),
        ("{}", "iteration: Field required; global_batch_size: Field required; scheduler: Field required"),
        (json.dumps(STATE | {"iteration": -1}), "iteration: Input should be greater than or equal to 0"),
        (json.dumps(STATE | {"lr": float("nan")}), "does not describe a checkpoint"),
        ('{"iteration": ' + "[" * 40_000, "does not describe a checkpoint"),
        ("{" + " " * 200_000, "--state has more than 100,000 bytes"),
        ("a\0b", "--state a\ufffdb cannot be read"),
    ],
    ids=range(9),
)
def test_a_state_that_is_none_is_refused_in_words(state: str, message: str) -> None:
    result = run(CALL, "--state", state)
    assert (result.exit_code, message in result.stderr) == (1, True), result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no call of the launcher was found"),
        (b"\x7fELF\0\0", "line 1 holds a NUL byte; this is no script"),
        (b"#" * 10_000_000, "has more than 800,000 bytes; this is no script"),
        (b"# \xff\xfe\n" + CALL.encode(), ""),
        (b"\xef\xbb\xbf" + CALL.encode(), ""),
    ],
    ids=["empty", "a program", "10 MB", "bytes that are no text", "a byte order mark"],
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "script").write_bytes(content)
    result = CliRunner().invoke(lint_script, [str(tmp_path / "script"), "--nodes", "1"], standalone_mode=False)
    assert status(result) == (1 if message else 0)
    assert message in result.stderr


def test_a_file_that_is_not_there() -> None:
    result = CliRunner().invoke(lint_script, ["nowhere.sh"], standalone_mode=False)
    assert (result.exit_code, result.stderr) == (
        1,
        "reconcile: nowhere.sh cannot be read: No such file or directory [NotReadable]\n",
    )


def test_nothing_in_a_script_is_executed(tmp_path: Path) -> None:
    script = f"touch {tmp_path}/pwned; export LR=$(touch {tmp_path}/pwned) X=`touch {tmp_path}/pwned`\n{CALL}\n"
    assert status(run(script)) == 0
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*"\"'`$(){}[]|&;<>\\\n #=*~", "bash train_alcf.sh ", "export ", "LR=", "if ", "fi", "$((",
                             "${", "<<E\n", "for ", "do ", "done", "case ", "esac", "TRAIN_ITERS=9", "--finetune ",
                             "qsub -v"]),
            st.text(max_size=4),
        ),
        max_size=25,
    )
)  # fmt: skip
def test_any_text_ends_without_a_traceback(pieces: list[str]) -> None:
    text = "".join(pieces).encode("utf-8", "replace")
    result = CliRunner().invoke(lint_script, ["-"], input=text, standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, SystemExit), text
    assert all(character.isprintable() or character == "\n" for character in result.output)


def test_on_the_command_line() -> None:
    command = [sys.executable, "-m", "reconciler.cli.main", "lint-script", "-", "--nodes", "1"]
    done = subprocess.run(command, input=CALL, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<stdin>:1: train_alcf.sh trains AuroraGPT-7B on 1 node × 12 ranks")


# --- docs/lint-script.md


def block_after(words: str) -> str:
    """The first block of the documentation after these words."""
    text = DOCS.read_text()
    assert words in text
    return text[text.index(words) :].split("```")[1].split("\n", 1)[1]


def test_the_documentation_shows_the_legacy_command_and_what_is_said_of_it() -> None:
    folder = ROOT / "tests/cases/lint-script/legacy-on-16-nodes"
    assert block_after("The cookbook's command") == (folder / "script.sh").read_text()
    shown = lint(folder).output.replace("script.sh:", "legacy.sh:")
    assert block_after("`reconcile lint-script legacy.sh --nodes 16`") == shown


def test_the_documentation_lists_every_code() -> None:
    rows = [f"| {code} | {'error' if code in ERRORS else 'warning'} | {MEANINGS[code]} |" for code in sorted(MEANINGS)]
    table = "| code | severity | what |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    assert table in DOCS.read_text(), table


def test_the_documentation_s_state_is_one() -> None:
    body = json.loads(run(f"LOAD=/ckpt {CALL}", "--json", "--state", block_after("The source checkpoint")).stdout)
    assert body["start_iteration"] == 136_000
