"""Training logs → numbers: every line of the launcher's contract, and reading in pieces equals reading whole."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cluster.agent_disk import Refused
from reconciler.cluster.agent_logs import TrainLogFile
from reconciler.cluster.agent_numbers import Numbers

NO_HURRY = float("inf")
PREFIX = "[2026-01-12 04:11:02,501177][I][megatron/training_log:402:training_log] "
OLD_PREFIX = "[2024-12-29 00:41:41.185272][INFO][utils.py:368] "


def line(
    iteration: int,
    loss: str | None = "2.418306",
    *,
    rate: str = "2.17e-05",
    skipped: int = 0,
    ms: str = "3412.7",
    prefix: str = PREFIX,
) -> str:
    told = f" lm loss={loss} |" if loss is not None else ""
    return (
        f"{prefix} iteration={iteration:8d}/  140352 | consumed_samples=   572313600 | consumed_tokens=4688393011200 | "
        f"elapsed_time_per_iteration_ms={ms} | learning_rate={rate} | global_batch_size= 6144 |{told} loss_scale=1.0 | "
        f"grad_norm=0.412 | actual_seqlen= 8192 | number_of_skipped_iterations={skipped:3d} | "
        "number_of_nan_iterations=  0 | samples_per_second=1800.334 | tokens_per_gpu_per_second_tgs=4800.891 | "
        "TFLOPs=53.70 |"
    )


def told(*lines: str, windows: int = 8) -> dict[str, Any]:
    numbers = Numbers(windows)
    for text in lines:
        numbers.take(text.encode())  # line by line; the property below takes many at once
    return numbers.answer("k")


@pytest.mark.parametrize(
    ("text", "point"),
    [
        pytest.param(line(93150), [93150, 2.418306, 2.17e-05], id="normal"),
        pytest.param(line(93151, None), [93151, None, 2.17e-05], id="NaN shows as a missing field"),
        pytest.param(line(7, "inf"), [7, float("inf"), 2.17e-05], id="infinite loss"),
        pytest.param(line(7, "nan"), [7, None, 2.17e-05], id="a printed nan is no number"),
        pytest.param(line(7, prefix=OLD_PREFIX), [7, 2.418306, 2.17e-05], id="older prefix"),
        pytest.param(line(7, prefix="\x1b[2m[2026]\x1b[0m\x1b[32m[I]\x1b[0m "), [7, 2.418306, 2.17e-05], id="colours"),
        pytest.param("4096 garbage from rank 3" + line(7), [7, 2.418306, 2.17e-05], id="another rank in front"),
        pytest.param(line(7) + "8191", [7, 2.418306, 2.17e-05], id="digits of another rank behind"),
        pytest.param(
            line(7).replace("iteration=", "\x1b[1miteration\x1b[0m="), [7, 2.418306, 2.17e-05], id="colour inside"
        ),
    ],
)
def test_iteration_lines(text: str, point: list[Any]) -> None:
    assert told(text)["last"] == [point]


@pytest.mark.parametrize(
    "text",
    [
        "8191",
        "iteration=",
        line(7)[:-60],
        line(7, rate="nan"),
        line(7, rate="inf"),
        line(7, rate="--"),
        line(7).replace("iteration=", "it="),
        "iteration=" + "9" * 40 + "/ 1 | consumed_samples= 1 |",
    ],
    ids=lambda text: text[-60:],
)
def test_what_is_no_iteration_line(text: str) -> None:
    assert told(text)["last"] == []


def test_skipped_steps_and_missing_losses_are_counted_per_window() -> None:
    found = told(line(1, "2.0"), line(2, None), line(3, "4.0", skipped=1), line(4, "inf"), windows=1)
    (window,) = found["windows"]
    assert (window["lines"], window["missing"], window["skipped"]) == (4, 1, 1)
    assert (window["mean"], window["low"], window["high"]) == (3.0, 2.0, float("inf"))


LOSSES = st.lists(st.none() | st.just("inf") | st.floats(0.01, 12.0).map("{:.6f}".format), max_size=60)


@given(losses=LOSSES, windows=st.integers(1, 5), back=st.integers(0, 60))
def test_the_spread_of_a_window_is_the_deviation_of_its_lines_whatever_was_put_together(
    losses: list[str | None], windows: int, back: int
) -> None:
    """Also where the log goes back, because PBS ran its job twice."""
    told_twice = [*enumerate(losses, 1), *list(enumerate(losses, 1))[back:]]
    for window in told(*(line(i, loss) for i, loss in told_twice), windows=windows)["windows"]:
        inside = [loss for i, loss in told_twice if window["first"] <= i <= window["last"]]
        finite = [float(loss) for loss in inside if loss not in (None, "inf")]
        assert window["spread"] == (pytest.approx(statistics.pstdev(finite), abs=1e-9) if finite else None)


def test_a_small_spread_around_a_large_loss_does_not_cancel_out() -> None:
    (window,) = told(*(line(i, f"{1e9 + i % 2}") for i in range(1, 1001)), windows=1)["windows"]
    assert window["spread"] == pytest.approx(0.5, rel=1e-6)


def test_losses_too_large_to_be_squared_have_no_spread_and_do_not_make_their_log_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "l0-n0-train.log"
    path.write_text("".join(line(i, loss) + "\n" for i, loss in enumerate(["1.0", "1e300", "-1e300"], 1)))
    seen, _ = look(path, windows=1)
    assert [window["spread"] for window in seen["windows"]] == [None]
    assert look(path, windows=1) == (seen, 0)


@pytest.mark.parametrize("squares", [-1.0, math.nan, "0", None, True])
def test_kept_numbers_with_an_impossible_spread_are_read_anew(log: Path, squares: object) -> None:
    whole, _ = look(log)
    cache = log.with_name(log.name + ".numbers.json")
    saved = json.loads(cache.read_text())
    saved["numbers"]["windows"][0]["m2"] = squares
    cache.write_text(json.dumps(saved))
    assert look(log) == (whole, log.stat().st_size)


def test_windows_stay_bounded_equally_wide_and_whole() -> None:
    found = told(*(line(i, f"{i / 100:.6f}") for i in range(1, 1001)), windows=16)
    windows = found["windows"]
    assert 8 <= len(windows) <= 16
    assert {w["last"] - w["first"] + 1 for w in windows[:-1]} == {64}
    assert (windows[0]["first"], windows[-1]["last"], sum(w["lines"] for w in windows)) == (1, 1000, 1000)
    assert windows[0]["mean"] == pytest.approx(0.325)
    assert (len(found["first"]), len(found["last"])) == (20, 20)
    assert (found["first"][0][0], found["last"][-1][0]) == (1, 1000)


def test_a_log_that_goes_back_because_its_job_was_started_again_keeps_its_windows_in_order() -> None:
    found = told(*(line(i) for i in (1, 2, 3, 4, 2, 3, 4, 5)), windows=4)
    assert [w["first"] for w in found["windows"]] == sorted(w["first"] for w in found["windows"])
    assert sum(w["lines"] for w in found["windows"]) == 8


def test_seconds_per_iteration_is_not_moved_by_the_first_slow_one() -> None:
    found = told(line(1, ms="90000.0"), *(line(i, ms="2000.0") for i in range(2, 9)))
    assert found["seconds"] == 2.0


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("  successfully loaded checkpoint from /a b/leg-0 at iteration 300", "loaded", 300),
        ("    will not load any checkpoints and will start from random", "random", True),
        ("  successfully saved checkpoint at iteration      60 to /x/leg-0", "saved", [60]),
        (
            "[exiting program after 5.03 minutes] datetime=2026-01-12 04:11:02 ",
            "exit",
            "exiting program after 5.03 minutes",
        ),
        ("[exiting program after receiving SIGTERM.] datetime=x", "exit", "exiting program after receiving SIGTERM."),
        (
            "[Detected kill switch at /x/stop, iteration=90. Exiting] datetime=x",
            "exit",
            "Detected kill switch at /x/stop, iteration=90. Exiting",
        ),
        ("[after training is done] datetime=2026", "exit", "after training is done"),
        ("Execution finished with 0.", "rc", 0),
        ("Execution finished with -9.", "rc", -9),
        ("torch.OutOfMemoryError: CUDA out of memory", "errors", ["torch.OutOfMemoryError: CUDA out of memory"]),
        ("rank 3 exited with code 1", "errors", ["rank 3 exited with code 1"]),
        ("rank 3 exited with code 0", "errors", []),
        ("rank 3 died from signal 9", "errors", ["rank 3 died from signal 9"]),
        ("rank 3 died from signal 15", "errors", []),
        ("EOFError: No data left in file", "errors", ["EOFError: No data left in file"]),
        (
            "=>> PBS: job killed: walltime 5 exceeded limit 3",
            "errors",
            ["=>> PBS: job killed: walltime 5 exceeded limit 3"],
        ),
        ("\x1b]0;evil\x07AssertionError", "errors", ["]0;evil AssertionError"]),
    ],
)
def test_life_cycle_lines(text: str, field: str, value: Any) -> None:
    assert told(PREFIX + text if field != "errors" else text)[field] == value


def test_of_a_traceback_the_last_line_counts_once_for_all_ranks() -> None:
    lines = []
    for rank in range(3):
        lines += [f"[rank{rank}]: Traceback (most recent call last):", f'[rank{rank}]:   File "x.py", line 3, in f']
        lines += [f"[rank{rank}]:     raise ValueError('x')", f"[rank{rank}]: ValueError: no such file: 'x'"]
    assert told(*lines, "all good")["errors"] == ["ValueError: no such file: 'x'"]


def test_errors_are_bounded_in_number_and_length() -> None:
    errors = told(*(f"AssertionError {i} " + "x" * 5000 for i in range(100)))["errors"]
    assert len(errors) == 8
    assert max(map(len, errors)) <= 300


PIECES = [
    line(1),
    line(2, None),
    line(3, "inf"),
    line(900, "1.5"),
    "",
    "4711",
    "Traceback (most recent call last):",
    '  File "x.py"',
    "ValueError: x",
    "  successfully saved checkpoint at iteration      60 to /x",
    "[exiting program at iteration 3] datetime=x",
    "\rprogress  1%\rprogress 99%",
    "AssertionError",
    "Execution finished with 1.",
    "y" * 70_000,
]


@settings(max_examples=60)
@given(
    lines=st.lists(st.sampled_from(PIECES) | st.integers(1, 2000).map(line), max_size=30),
    cuts=st.lists(st.floats(0, 1), max_size=5),
    end=st.sampled_from(["", "\n", "\r\n", "half a line"]),
)
def test_reading_in_pieces_equals_reading_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[float], end: str
) -> None:
    data = ("\n".join(lines) + end).encode() + b"\xff\xfe"
    folder = tmp_path_factory.mktemp("log")
    whole, grown = folder / "whole.log", folder / "grown.log"
    whole.write_bytes(data)
    grown.write_bytes(b"")
    seen: dict[str, Any] = {}
    with grown.open("ab") as log:
        reached = 0
        for cut in [*sorted(int(c * len(data)) for c in cuts), len(data)]:
            log.write(data[reached:cut])
            log.flush()
            reached = max(reached, cut)
            seen = TrainLogFile(str(grown), 8, NO_HURRY).look("k")
    assert seen == TrainLogFile(str(whole), 8, NO_HURRY).look("k")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "l0-n0-train.log"
    path.write_text("".join(line(i) + "\n" for i in range(1, 200)))
    return path


def look(path: Path, windows: int = 8) -> tuple[dict[str, Any], int]:
    file = TrainLogFile(str(path), windows, NO_HURRY)
    return file.look("k"), file.bytes_read


def test_only_new_bytes_are_read_and_nothing_is_written_when_there_are_none(log: Path) -> None:
    _, first = look(log)
    cache = log.with_name(log.name + ".numbers.json")
    before = cache.stat().st_mtime_ns, cache.stat().st_ino
    assert (first, look(log)[1]) == (log.stat().st_size, 0)
    assert (cache.stat().st_mtime_ns, cache.stat().st_ino) == before
    new = line(200) + "\n"
    with log.open("a") as file:
        file.write(new)
    assert look(log)[1] == len(new)


def test_a_last_line_without_its_end_waits(log: Path) -> None:
    half, rest = line(200)[:100], line(200)[100:]
    with log.open("a") as file:
        file.write(half)
    assert look(log)[0]["last"][-1][0] == 199
    with log.open("a") as file:
        file.write(rest + "\n")
    assert look(log)[0]["last"][-1][0] == 200


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "other shape", "other version", "folder"])
def test_without_its_cache_a_log_reads_the_same(log: Path, damage: str) -> None:
    whole, _ = look(log)
    cache = log.with_name(log.name + ".numbers.json")
    saved = json.loads(cache.read_text())
    cache.unlink()
    match damage:
        case "empty":
            cache.write_text("")
        case "garbage":
            cache.write_bytes(b"\xff{")
        case "other shape":
            cache.write_text(json.dumps(saved | {"numbers": {"first": 1}}))
        case "other version":
            cache.write_text(json.dumps(saved | {"version": 99}))
        case "folder":
            cache.mkdir()
        case _:
            assert damage == "gone"
    assert look(log) == (whole, log.stat().st_size)


@pytest.mark.parametrize("how", ["shrank", "replaced", "overwritten in place by a longer one"])
def test_a_log_that_was_started_again_is_read_from_its_start(log: Path, how: str) -> None:
    look(log)
    if how == "replaced":
        log.rename(log.with_name("old"))
    count = 50 if how == "shrank" else 900
    log.write_text("".join(line(i, "9.0") + "\n" for i in range(1, count)))
    seen, size = look(log)
    assert (seen["first"][0][1], size) == (9.0, log.stat().st_size)


def test_a_folder_that_cannot_be_written_only_costs_reading_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(source: str, target: str) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(os, "rename", full)
    assert look(log) == look(log)


def test_a_log_of_200_mb_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    block = ("".join(line(i) + "\n" for i in range(1, 40)) + ("noise of other ranks, 0123456789\n" * 30_000)).encode()
    with path.open("wb") as file:
        while file.tell() < 200_000_000:
            file.write(block)
    _, first = look(path)
    with path.open("a") as more:
        more.write(line(50) + "\n")
    seen, again = look(path)
    assert (first >= 200_000_000, again) == (True, len(line(50)) + 1)
    assert seen["last"][-1][0] == 50
    assert path.with_name("big.log.numbers.json").stat().st_size < 20_000


def test_a_log_too_long_for_one_look_is_read_by_several_and_meanwhile_is_unread(tmp_path: Path) -> None:
    path = tmp_path / "weeks.log"
    path.write_text("".join(line(i) + "\n" for i in range(1, 12_000)))
    seen = None
    looks = 0
    while seen is None:
        looks += 1
        try:
            seen = TrainLogFile(str(path), 8, until=0.0).look("k")
        except Refused as unread:
            assert f"of {path.stat().st_size}; the next look goes on" in str(unread)
    assert looks > 3
    path.with_name("weeks.log.numbers.json").unlink()
    assert seen == look(path)[0]


def test_a_line_without_end_does_not_grow_in_memory_or_hide_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(line(1).encode() + b"\n" + b"x" * 5_000_000)
    assert look(path)[1] > 5_000_000
    assert look(path)[1] == 0, "what was dropped is not read again"
    with path.open("ab") as file:
        file.write(b"still the same line iteration=\n" + line(2).encode() + b"\n")
    assert [point[0] for point in look(path)[0]["last"]] == [1, 2]
