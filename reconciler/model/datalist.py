"""Weighted data lists as a trainer reads them, `weight prefix corpus`: held exactly, printed so that they sum to 1.

Weights are kept as whole numbers over one common scale, column by column: only ratios count for the trainer, sums
stay exact, and a list of a million rows is three tuples rather than a million objects. Reading a list's text is in
`reconciler.model.listreader`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from itertools import repeat
from typing import Final

RELATIVE_ERROR_MAX: Final = Fraction(1, 10**9)
"""How far a printed share may be from the exact one, as a part of it."""
_DIGITS_MIN: Final = 6
_BLOCK_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list: the share of tokens drawn from one `.bin/.idx` pair."""

    weight: Fraction
    """Greater than 0; only its ratio to the list's other weights matters."""
    prefix: str
    """Path of the pair without `.bin` or `.idx`."""
    corpus: str
    """Files of one corpus label are shuffled as one pool by the trainer."""


@dataclass(frozen=True, slots=True)
class DataList:
    """Rows in columns: weight i is `units[i] / scale`, its share is `units[i] / sum(units)`.

    Raises ValueError when columns differ in length, there is no row, or a weight is not above 0.
    """

    units: tuple[int, ...]
    scale: int
    prefixes: tuple[str, ...]
    corpora: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.units) == len(self.prefixes) == len(self.corpora):
            raise ValueError("the columns of a data list differ in length")
        if not self.units:
            raise ValueError("a data list has at least one row")
        if min(self.units) <= 0 or self.scale <= 0:
            raise ValueError("every weight of a data list is above 0")

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> DataList:
        """The list of these rows, in this order. Raises ValueError for a prefix that occurs twice, or as above."""
        table = tuple(rows)
        scale = math.lcm(*(row.weight.denominator for row in table))
        units = tuple(row.weight.numerator * (scale // row.weight.denominator) for row in table)
        prefixes = tuple(row.prefix for row in table)
        if len(set(prefixes)) != len(prefixes):
            raise ValueError("a prefix occurs twice in a data list; add the weights and keep one row")
        return cls(units, scale, prefixes, tuple(row.corpus for row in table))

    def __len__(self) -> int:
        return len(self.units)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows as objects, made anew; for a long list work on the columns."""
        weights = map(Fraction, self.units, repeat(self.scale))
        return tuple(map(Row, weights, self.prefixes, self.corpora))

    @property
    def weight_sum(self) -> Fraction:
        """Σw as written: 1 for a normalised list, 2.717391 for one of relative weights."""
        return Fraction(sum(self.units), self.scale)

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Each row's exact part of the tokens drawn; they sum to exactly 1."""
        return tuple(map(Fraction, self.units, repeat(sum(self.units))))


def apportion(whole: int, units: Sequence[int]) -> list[int]:
    """Split `whole` in proportion to `units` into integers that sum to exactly `whole` (largest remainder).

    Every part is less than 1 away from its exact value. Of equal remainders the earlier row gets more. Raises
    ValueError when nothing in `units` is above 0 or something is below.
    """
    total = sum(units)
    if total <= 0 or min(units) < 0 or whole < 0:
        raise ValueError("only a non-negative whole can be split, by weights that are not all 0")
    # Round to the nearest first: the few units then missing (or too many) belong to the extreme remainders, so that a
    # heap of that few replaces sorting every row. The result is the largest-remainder method's.
    half = total // 2
    parts: list[int] = []
    remainders: list[int] = []
    for unit in units:
        part, remainder = divmod(unit * whole + half, total)
        parts.append(part)
        remainders.append(remainder)
    missing = whole - sum(parts)
    if missing > 0:
        for index in heapq.nlargest(missing, range(len(parts)), key=remainders.__getitem__):
            parts[index] += 1
    elif missing < 0:
        # From the end, so that of equal remainders the later row gives way.
        for index in heapq.nsmallest(-missing, range(len(parts) - 1, -1, -1), key=remainders.__getitem__):
            parts[index] -= 1
    return parts


def share_digits(data: DataList) -> int:
    """Decimals to print so that the smallest share is off by less than `RELATIVE_ERROR_MAX` of itself.

    One more where that prints every share exactly: a list that was printed and read keeps its shares when printed again
    although rounding may have moved the smallest one across a power of ten.
    """
    total = sum(data.units)
    needed = math.ceil(Fraction(total, min(data.units)) / RELATIVE_ERROR_MAX)
    digits = max(len(str(needed - 1)), _DIGITS_MIN)
    denominator = total // math.gcd(*data.units)
    one_more = 10**digits % denominator != 0 and 10 ** (digits + 1) % denominator == 0
    return digits + int(one_more)


def render_blocks(data: DataList) -> Iterator[str]:
    """The text of `render`, in pieces of some thousand lines; the rounding is settled before the first piece."""
    digits = share_digits(data)
    one = 10**digits
    parts = apportion(one, data.units)
    if len(parts) == 1:
        yield f"1.{'0' * digits} {data.prefixes[0]} {data.corpora[0]}\n"
        return
    line = f"0.%0{digits}d %s %s\n".__mod__
    for start in range(0, len(parts), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        yield "".join(map(line, zip(parts[block], data.prefixes[block], data.corpora[block], strict=True)))


def render(data: DataList) -> str:
    """The trainer's format, one `share prefix corpus` a line in the list's order, without exponents.

    The printed shares sum to exactly 1, none is 0, and each is within `RELATIVE_ERROR_MAX` of the exact one (relative);
    digits grow with the smallest share.
    """
    return "".join(render_blocks(data))


def file_sha256(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in hex: the digest of the file that holds it."""
    return sha256(text.encode()).hexdigest()


def list_name(label: str, text: str) -> str:
    """A file name that changes with the content: the trainer's index cache is keyed on the name, not on what is in it.

    `label` must already be safe in a file name.
    """
    return f"{label}-{file_sha256(text)[:16]}.txt"


def content_digest(data: DataList) -> str:
    """SHA-256 in hex of what a list means for training; the same wherever the dataset lies and in whatever row order.

    Hashed is UTF-8 text: a line `cpt-data-list/1`, a line with the sum of all weights, then one line
    `weight TAB prefix TAB corpus` per row, sorted by prefix. Weights are the smallest whole numbers in the exact ratio,
    so relative and normalised lists agree; prefixes are relative to the longest directory common to all of them.
    A list mixed from two datasets therefore changes when only one of them is moved: digest each dataset's own list.
    """
    divisor = math.gcd(*data.units)
    skip = len(_common_directory(data.prefixes))
    hashed = sha256(f"cpt-data-list/1\n{sum(data.units) // divisor}\n".encode())
    order = sorted(range(len(data)), key=data.prefixes.__getitem__)
    for start in range(0, len(order), _BLOCK_ROWS):
        lines = [
            f"{data.units[i] // divisor}\t{data.prefixes[i][skip:]}\t{data.corpora[i]}\n"
            for i in order[start : start + _BLOCK_ROWS]
        ]
        hashed.update("".join(lines).encode())
    return hashed.hexdigest()


def _common_directory(prefixes: Sequence[str]) -> str:
    first, last = min(prefixes), max(prefixes)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]
