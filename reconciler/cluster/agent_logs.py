"""Training logs, each read only past where the last look stopped; what was read is kept beside it as numbers."""

import hashlib
import json
import os
import time

MYPY = False
if MYPY:
    from typing import Any, BinaryIO, Dict, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        MESSAGE_CHARS_MAX,
        Refused,
        fresh_file,
        ordinary,
        read_whole,
    )
    from reconciler.cluster.agent_numbers import (
        ERROR_CHARS_MAX,
        ERRORS_MAX,
        LINE_BYTES_MAX,
        POINTS_MAX,
        SAVED_MAX,
        WINDOWS_MAX,
        Numbers,
    )
    from reconciler.cluster.agent_qstat import number_of

CACHE_VERSION = 2
PIECE_BYTES = 1024 * 1024
LOGS_S_MAX = 60.0
"""How long one look reads logs for: about half of the time that a look may take."""
SIGNATURE_BYTES = 1024
FOREIGN_BYTES_MAX = 32 * 1024 * 1024
"""Of the end of a log that no job of ours wrote: some 50,000 iterations."""


class TrainLogFile:
    """A training job's log, read only past where the last look stopped.

    What was read so far lies beside the log as numbers. Deleting that file changes nothing; a log that shrank or was
    replaced is read from its start. Reading stops at `until` (of the monotonic clock), and the next look goes on: a log
    that has grown for weeks must not make every look run out of time.
    """

    def __init__(self, path: str, windows: int, until: float) -> None:
        self.path, self.cache, self.windows, self.until = path, path + ".numbers.json", windows, until
        self.bytes_read = 0

    def look(self, key: str) -> "Json":
        with ordinary(self.path) as file:
            about = os.fstat(file.fileno())
            saved = self.remembered(file, about)
            numbers = Numbers(self.windows, saved["numbers"] if saved else None)
            offset, overlong = (saved["offset"], saved["overlong"]) if saved else (0, False)
            reached, overlong = self.read_lines(file, offset, overlong, about.st_size, numbers)
            if saved is None or reached != offset:
                self.remember(file, about, reached, overlong, numbers)
            if about.st_size - reached > LINE_BYTES_MAX:  # more than a last line without its end
                raise Refused(
                    "{} is read up to byte {} of {}; the next look goes on".format(self.path, reached, about.st_size)
                )
        return numbers.answer(key)

    def read_lines(
        self, file: "BinaryIO", offset: int, overlong: bool, end: int, numbers: Numbers
    ) -> "Tuple[int, bool]":
        """Take every whole line between `offset` and `end`. A last line without an end waits, unless it is longer
        than any line may be: then it is dropped as far as it got (`overlong`), and so is its rest."""
        file.seek(offset)
        rest = b""
        while offset + len(rest) < end:
            piece = file.read(min(PIECE_BYTES, end - offset - len(rest)))
            if not piece:
                break
            self.bytes_read += len(piece)
            whole, newline, tail = (rest + piece).replace(b"\r", b"\n").rpartition(b"\n")
            offset += len(rest) + len(piece) - len(tail)
            rest = tail
            if newline and overlong:
                whole, overlong = whole.partition(b"\n")[2], False
            numbers.take(whole)
            if len(rest) > LINE_BYTES_MAX:
                offset, rest, overlong = offset + len(rest), b"", True
            if time.monotonic() > self.until:
                break
        return offset, overlong

    def remembered(self, file: "BinaryIO", about: "os.stat_result") -> "Optional[Json]":
        try:
            data = read_whole(self.cache, JSON_BYTES_MAX)
            saved = json.loads((data or b"").decode("ascii"))
            if saved["version"] != CACHE_VERSION or saved["windows"] != self.windows or saved["inode"] != about.st_ino:
                return None
            offset = saved["offset"]
            if not 0 <= offset <= about.st_size or saved["signature"] != signature(file, offset):
                return None
            if type(saved["overlong"]) is not bool or not usable(saved["numbers"]):
                return None
        except (OSError, Refused, ValueError, KeyError, TypeError, RecursionError):
            return None
        return dict(saved)

    def remember(
        self, file: "BinaryIO", about: "os.stat_result", offset: int, overlong: bool, numbers: Numbers
    ) -> None:
        saved = {
            "version": CACHE_VERSION,
            "windows": self.windows,
            "inode": about.st_ino,
            "offset": offset,
            "overlong": overlong,
            "signature": signature(file, offset),
            "numbers": numbers.state,
        }
        temporary = "{}.{}".format(self.cache, os.getpid())
        try:
            with os.fdopen(fresh_file(temporary), "wb") as target:
                target.write(json.dumps(saved).encode("ascii"))
            os.rename(temporary, self.cache)
        except OSError:
            pass  # a full or read-only disk only costs reading the log again


def signature(file: "BinaryIO", offset: int) -> str:
    """Digest of what surrounds the part that was read: a log that was overwritten by a longer one shows."""
    head = os.pread(file.fileno(), min(SIGNATURE_BYTES, offset), 0)
    start = max(0, offset - SIGNATURE_BYTES)
    return hashlib.sha256(head + os.pread(file.fileno(), offset - start, start)).hexdigest()


def usable(state: "Any") -> bool:
    """Whether numbers read back have the shape that `Numbers` works on; anything else is read anew."""
    shapes = Numbers(1).state
    if not isinstance(state, dict) or set(state) != set(shapes):
        return False
    lists = all(isinstance(state[name], list) for name, value in shapes.items() if isinstance(value, list))
    counts = all(type(state[name]) is int and state[name] >= 0 for name in ("width", "traceback"))
    return (
        lists
        and counts
        and state["width"] > 0
        and isinstance(state["exit"], str)
        and len(state["exit"]) <= MESSAGE_CHARS_MAX
        and type(state["random"]) is bool
        and all(state[name] is None or number_of(state[name]) is not None for name in ("loaded", "rc"))
        and all(map(usable_window, state["windows"]))
        and all(map(usable_point, state["first"] + state["last"]))
        and all(real_number(value) for value in state["ms"])
        and all(number_of(value) is not None and value >= 0 for value in state["saved"])
        and all(isinstance(value, str) and len(value) <= ERROR_CHARS_MAX for value in state["errors"])
        and len(state["windows"]) <= WINDOWS_MAX
        and max(len(state["first"]), len(state["last"])) <= POINTS_MAX
        and len(state["saved"]) <= SAVED_MAX
        and len(state["errors"]) <= ERRORS_MAX
    )


def usable_window(window: "Any") -> bool:
    counts = ("first", "last", "finite", "lines", "missing", "skipped")
    return (
        isinstance(window, dict)
        and set(window) == {*counts, "at", "sum", "m2", "low", "high", "rate"}
        and number_of(window["at"]) is not None
        and all(number_of(window[name]) is not None and window[name] >= 0 for name in counts)
        and all(real_number(window[name]) for name in ("sum", "m2", "rate"))
        and window["m2"] >= 0
        and all(window[name] is None or real_number(window[name]) for name in ("low", "high"))
    )


def usable_point(point: "Any") -> bool:
    """Iteration, loss, learning rate."""
    return (
        isinstance(point, list)
        and len(point) == 3
        and number_of(point[0]) is not None
        and point[0] >= 0
        and (point[1] is None or real_number(point[1]))
        and real_number(point[2])
    )


def real_number(value: object) -> bool:
    """Whether it is a number as `real` gives; a whole one within what JSON's readers agree on."""
    return (type(value) is float and value == value) or number_of(value) is not None


def foreign_log(path: str, windows: int) -> "Optional[Json]":
    """The end of a log that no job of ours wrote, as numbers; None without one. Nothing is written beside it."""
    try:
        file = ordinary(path, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with file:
        about = os.fstat(file.fileno())
        file.seek(max(0, about.st_size - FOREIGN_BYTES_MAX))
        lines = file.read(FOREIGN_BYTES_MAX).replace(b"\r", b"\n")
    numbers = Numbers(windows, None)
    numbers.take(lines if about.st_size <= FOREIGN_BYTES_MAX else lines.partition(b"\n")[2])
    return numbers.answer("")
