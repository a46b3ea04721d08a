"""A small mutation fuzzer: inputs that behave in a new way are kept and mutated further. Equal seeds, equal runs.

What an input "did" is what its target says of it (the codes of its problems, the reason of its refusal), not the lines
it ran through: tracing Python costs more than it finds here.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX: Final = 200_000
RUN_SECONDS_MAX: Final = 10.0
POOL_MAX: Final = 2_000
NUMBERS: Final = (
    b"0",
    b"-1",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"1" * 400,
    b"9007199254740993",
    b"1e308",
    b"0.1",
    b"2147483648",
    b"18446744073709551616",
    b"-0",
    b"true",
    b"null",
    b'""',
    b"[]",
    b"{}",
    b'"\\ud800"',
    b"1_0",
    b"0x10",
)
ODD: Final = (
    b"\x00",
    b"\r\n",
    b"\x1b[2J",
    "\u202e\u2028".encode(),
    b"\xff\xfe",
    b"\xc3\x28",
    "\ufeff".encode(),
    b"\x85",
    b"'",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b"`",
    b"$(",
    b"${",
    b"\t",
    b"\n",
    b" ",
    b"#",
    b"&",
    b"*",
    b"|",
    b"%",
    b"@",
)


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote."""

    name: str
    promise: str
    """What no input may break, in a sentence."""
    seeds: Callable[[], Iterator[bytes]]
    """Real inputs; the corpus comes on top."""
    check: Callable[[bytes], Hashable]
    """Raises if the promise is broken; what it returns says how the input was taken."""
    words: tuple[bytes, ...] = ()
    """What inputs are made of."""


@dataclass
class Report:
    """What came of a run."""

    target: str
    runs: int = 0
    seconds: float = 0.0
    kinds: set[Hashable] = field(default_factory=set)
    slowest_s: float = 0.0
    broken: list[tuple[bytes, BaseException]] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.target}: {self.runs} runs in {self.seconds:.0f} s, {len(self.kinds)} ways of taking them, "
            f"slowest {self.slowest_s * 1000:.0f} ms, {len(self.broken)} broke the promise"
        )


class TooSlow(BaseException):
    """An input took longer than any may."""


def corpus(target: Target) -> list[tuple[str, bytes]]:
    """The kept inputs of a target, by name."""
    return [(path.name, path.read_bytes()) for path in sorted((CORPUS / target.name).glob("*"))]


def fuzz(target: Target, seed: int, *, runs: int | None = None, seconds: float | None = None) -> Report:
    """Run inputs until there were `runs`, or for `seconds`; stops at the fifth that breaks the promise."""
    chance = random.Random(f"{target.name} {seed}")
    pool = [*(data for _, data in corpus(target)), *target.seeds()]
    report, began = Report(target.name), time.monotonic()
    waiting = list(pool)
    while len(report.broken) < 5:
        report.seconds = time.monotonic() - began
        if (runs is not None and report.runs >= runs) or (seconds is not None and report.seconds >= seconds):
            break
        data = waiting.pop() if waiting else mutated(chance, pool, target.words)
        once(target, data, report)
        if report.kept and report.kept[-1] is data and len(pool) < POOL_MAX:
            pool.append(data)
    return report


def once(target: Target, data: bytes, report: Report) -> None:
    """One input, timed; a new way of taking it is noted."""
    began = time.monotonic()
    try:
        with limited():
            kind = target.check(data)
    except (Exception, TooSlow) as broken:
        report.broken.append((data, broken))
        return
    finally:
        report.runs += 1
        report.slowest_s = max(report.slowest_s, time.monotonic() - began)
    if kind not in report.kinds:
        report.kinds.add(kind)
        report.kept.append(data)


@contextmanager
def limited() -> Iterator[None]:
    """TooSlow after `RUN_SECONDS_MAX`."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"it takes more than {RUN_SECONDS_MAX:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, RUN_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutated(chance: random.Random, pool: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One input of the pool after one to eight changes."""
    data = bytearray(chance.choice(pool))
    for _ in range(1 << chance.randrange(4)):
        change(chance, data, pool, words)
        del data[INPUT_BYTES_MAX:]
    return bytes(data)


def change(chance: random.Random, data: bytearray, pool: Sequence[bytes], words: Sequence[bytes]) -> None:
    """One change in place."""
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 2, 4, 8, 16, 64, 512)))
    match chance.randrange(11):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end]
        case 4:
            data[at:end] = chance.choice(ODD)
        case 5:
            data[at:at] = chance.choice(words or ODD)
        case 6:
            _replace_number(chance, data, at)
        case 7:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + chance.choice((4, 16, 64, 512))]
        case 8:
            data[at:at] = data[at:end] * chance.choice((2, 10, 100, 1000))
        case 9:
            data[at : at + 8] = chance.choice(
                (b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f", b"\x00\x00\x00\x80" * 2)
            )
        case _:
            _swap_lines(chance, data)


def _replace_number(chance: random.Random, data: bytearray, at: int) -> None:
    """The next run of digits or letters from `at` on becomes an odd number."""
    while at < len(data) and not chr(data[at]).isalnum():
        at += 1
    end = at
    while end < len(data) and chr(data[end]).isalnum():
        end += 1
    data[at:end] = chance.choice(NUMBERS)


def _swap_lines(chance: random.Random, data: bytearray) -> None:
    lines = bytes(data).split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"\n".join(lines)
