"""What the agent makes of a training log: numbers of bounded size, line by line."""

import math
import re

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    Json = Dict[str, Any]

POINTS_MAX = 20
SAVED_MAX = 64
ERRORS_MAX = 8
ERROR_CHARS_MAX = 300
LINE_BYTES_MAX = 65536
TRACEBACK_LINES_MAX = 200
ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
ITERATION = re.compile(
    rb"iteration=\s*(\d{1,12})/\s*\d{1,12} \| consumed_samples=\s*\d+ \| consumed_tokens=\s*\d+ \| "
    rb"elapsed_time_per_iteration_ms=([0-9.einfa+]+) \| learning_rate=([0-9.einfa+-]+) \| global_batch_size=\s*\d+ \|"
    rb"(?: lm loss=([0-9.einfa+-]+) \|)?(?: [^|]*\|)*? number_of_skipped_iterations=\s*(\d{1,9}) \| "
    rb"number_of_nan_iterations=\s*\d+ \| samples_per_second=\S+ \| tokens_per_gpu_per_second_tgs=\S+ \| TFLOPs=\S+ \|"
)
LOADED = re.compile(rb"successfully loaded checkpoint from .* at iteration\s+(\d{1,12})")
SAVED = re.compile(rb"successfully saved checkpoint at iteration\s+(\d{1,12})")
LEAVING = re.compile(rb"\[((?:exiting program|Detected kill switch|after training is done)[^\]]{0,300})\]")
FINISHED = re.compile(rb"Execution finished with (-?\d{1,9})\.")
EVENTS = (b"successfully ", b"start from random", b"[exiting", b"[Detected", b"[after", b"Execution finished")
RANDOM = b"will not load any checkpoints and will start from random"
FAILURES = (
    b"OutOfMemoryError",
    b"UR_RESULT_ERROR_OUT_OF_RESOURCES",
    b"died from signal",
    b"exited with code",
    b"Connection closed by peer",
    b"Timed out waiting",
    b"No data left in file",
    b"AssertionError",
    b"no samples left to consume",
    b"Please provide the file list as",
    b"Dataset does not exist:",
    b"size mismatch for",
    b"Failed saving model checkpoint",
    b"=>> PBS: job killed",
    b"another job of this attempt is running",
)
TRACEBACK = b"Traceback ("
WORDS = (b"iteration=", TRACEBACK, *EVENTS, *FAILURES)
NO_FAILURE = re.compile(rb"rank \d+ died from signal (?:11|15)\b|exited with code 0\b")
RANK = re.compile(rb"^\[(?:default|rank)?\d+\]:\s?")
RAISED = re.compile(rb"[A-Za-z_][\w.]*(?::\s.*)?")
WINDOWS_MAX = 4096
"""Of one log; more are not read on the other side."""
INFINITY = float("inf")


class Numbers:
    """What one training log says, as numbers of bounded size. Taking lines one by one or all at once is the same."""

    def __init__(self, windows: int, state: "Optional[Json]" = None) -> None:
        self.windows_max = windows
        self.state = state or {
            "first": [],
            "last": [],
            "width": 1,
            "windows": [],
            "saved": [],
            "loaded": None,
            "random": False,
            "exit": "",
            "rc": None,
            "errors": [],
            "ms": [],
            "traceback": 0,
        }

    def take(self, data: bytes) -> None:
        """Whole lines. Looked at are those that hold one of `WORDS`, and those of a traceback: searching for words in
        a megabyte at once is ten times as fast as going through its lines."""
        if b"\x1b" in data:
            lines = data.split(b"\n")
            data = b"\n".join([ANSI.sub(b"", line) for line in lines if len(line) <= LINE_BYTES_MAX])
        reached = self.rest_of_traceback(data, 0)
        for place in places(data, WORDS):
            if place >= reached:
                start = data.rfind(b"\n", 0, place) + 1
                reached = self.rest_of_traceback(data, self.line_at(data, start))

    def rest_of_traceback(self, data: bytes, start: int) -> int:
        """Take lines for as long as they belong to a traceback; returns where the rest begins."""
        while self.state["traceback"] and start < len(data):
            start = self.line_at(data, start)
        return start

    def line_at(self, data: bytes, start: int) -> int:
        """Take the line that begins at `start`; returns where the next one does."""
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        self.line(data[start:end])
        return end + 1

    def line(self, line: bytes) -> None:
        """One line, without its end. Ranks write over each other, so a message may stand anywhere in it."""
        if not line or len(line) > LINE_BYTES_MAX:
            return
        if b"iteration=" in line:
            for found in ITERATION.finditer(line):
                self.iteration(found)
        if any(word in line for word in EVENTS):
            self.event(line)
        if self.state["traceback"] or TRACEBACK in line:
            self.traceback(line)
        elif any(word in line for word in FAILURES) and NO_FAILURE.search(line) is None:
            self.error(line)

    def iteration(self, found: "Any") -> None:
        number, rate, skipped = int(found.group(1)), real(found.group(3)), int(found.group(5))
        milliseconds, loss = real(found.group(2)), real(found.group(4))
        if rate is None or rate in (INFINITY, -INFINITY):
            return
        state, point = self.state, [number, loss, rate]
        if len(state["first"]) < POINTS_MAX:
            state["first"].append(point)
        state["last"] = [*state["last"][1 - POINTS_MAX :], point]
        if milliseconds is not None and milliseconds < INFINITY:
            state["ms"] = [*state["ms"][1 - POINTS_MAX :], milliseconds]
        self.put_in_window(number, loss, rate, skipped)

    def put_in_window(self, number: int, loss: "Optional[float]", rate: float, skipped: int) -> None:
        """Windows are equally wide in iterations; when there are too many, each two neighbours become one."""
        state = self.state
        finite = loss is not None and abs(loss) < INFINITY
        fresh = {
            "at": (number - 1) // state["width"],
            "first": number,
            "last": number,
            "sum": loss if finite else 0.0,
            "finite": 1 if finite else 0,
            "m2": 0.0,
            "low": loss,
            "high": loss,
            "rate": rate,
            "lines": 1,
            "missing": 1 if loss is None else 0,
            "skipped": skipped,
        }
        self.merge(state["windows"], fresh)
        while len(state["windows"]) > self.windows_max:
            state["width"] *= 2
            wider = []  # type: List[Json]
            for window in state["windows"]:
                self.merge(wider, dict(window, at=(window["first"] - 1) // state["width"]))
            state["windows"] = wider

    @staticmethod
    def merge(windows: "List[Json]", fresh: "Json") -> None:
        """Into the window of the same place, mostly the last; a log whose job was started again goes back."""
        place = len(windows)
        while place > 0 and windows[place - 1]["at"] > fresh["at"]:
            place -= 1
        if place == 0 or windows[place - 1]["at"] != fresh["at"]:
            windows.insert(place, fresh)
            return
        old = windows[place - 1]
        old["m2"] = squares_of(old, fresh)
        for name in ("sum", "finite", "lines", "missing", "skipped"):
            old[name] += fresh[name]
        lows = [value for value in (old["low"], fresh["low"]) if value is not None]
        highs = [value for value in (old["high"], fresh["high"]) if value is not None]
        old["low"], old["high"] = min(lows, default=None), max(highs, default=None)
        old["first"], old["last"] = min(old["first"], fresh["first"]), max(old["last"], fresh["last"])
        old["rate"] = fresh["rate"]

    def event(self, line: bytes) -> None:
        """A checkpoint loaded or saved, a reason to leave, an end."""
        for found in LOADED.finditer(line):
            self.state["loaded"] = int(found.group(1))
        for found in SAVED.finditer(line):
            self.state["saved"] = [*self.state["saved"][1 - SAVED_MAX :], int(found.group(1))]
        for found in LEAVING.finditer(line):
            self.state["exit"] = plain(found.group(1))
        for found in FINISHED.finditer(line):
            self.state["rc"] = int(found.group(1))
        if RANDOM in line:
            self.state["random"] = True

    def traceback(self, line: bytes) -> None:
        """Inside a traceback until its last line, which alone is kept: the first that is not indented."""
        if TRACEBACK in line:
            self.state["traceback"] = 1
            return
        self.state["traceback"] += 1
        text = RANK.sub(b"", line)
        if RAISED.fullmatch(text):
            self.state["traceback"] = 0
            self.error(text)
        elif self.state["traceback"] > TRACEBACK_LINES_MAX:
            self.state["traceback"] = 0

    def error(self, line: bytes) -> None:
        text = plain(RANK.sub(b"", line))[:ERROR_CHARS_MAX]
        if text not in self.state["errors"]:  # every rank says it
            self.state["errors"] = [*self.state["errors"][1 - ERRORS_MAX :], text]

    def answer(self, key: str) -> "Json":
        state = self.state
        middle = sorted(state["ms"])[len(state["ms"]) // 2] / 1000.0 if state["ms"] else None
        windows = [
            dict(
                {
                    name: window[name]
                    for name in ("first", "last", "low", "high", "rate", "lines", "missing", "skipped")
                },
                mean=mean_of(window),
                spread=spread_of(window),
            )
            for window in state["windows"]
        ]
        return {
            "key": key,
            "loaded": state["loaded"],
            "random": state["random"],
            "first": state["first"],
            "last": state["last"],
            "windows": windows,
            "saved": state["saved"],
            "exit": state["exit"],
            "rc": state["rc"],
            "errors": state["errors"],
            "seconds": middle,
        }


def mean_of(window: "Json") -> "Optional[float]":
    """None where the sum is no number: infinite up and down."""
    mean = window["sum"] / window["finite"] if window["finite"] else window["low"]
    return None if mean != mean else mean


def squares_of(one: "Json", other: "Json") -> float:
    """Sum of the squares of all finite losses' distances from their mean, of two windows put together: exact in any
    order, where sums of plain squares would cancel. Infinite where it has become too large for a number."""
    if not (one["finite"] and other["finite"]):
        return float(one["m2"] if one["finite"] else other["m2"])
    apart = one["sum"] / one["finite"] - other["sum"] / other["finite"]
    share = one["finite"] * other["finite"] / (one["finite"] + other["finite"])
    both = float(one["m2"] + other["m2"] + apart * apart * share)
    return both if both == both else INFINITY


def spread_of(window: "Json") -> "Optional[float]":
    """Standard deviation of the finite losses; None without any, and where it is too large for a number."""
    if not window["finite"] or window["m2"] == INFINITY:
        return None
    return math.sqrt(window["m2"] / window["finite"])


def places(data: bytes, words: "Tuple[bytes, ...]") -> "List[int]":
    """Where any of the words stands, in order."""
    found = []
    for word in words:
        place = data.find(word)
        while place >= 0:
            found.append(place)
            place = data.find(word, place + len(word))
    return sorted(found)


def real(text: "Optional[bytes]") -> "Optional[float]":
    """A number as the launcher prints it; None for NaN, for garbage, and for a field that is not there."""
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return None if value is None or value != value else value


def plain(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
