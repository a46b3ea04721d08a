"""Text of a score file, `score tokens prefix` a line → columns, or the first thing that is wrong with it.

What gave the scores (perplexity under the source checkpoint, a quality classifier) is not our subject; only their order
counts. Blank lines and comments are as in data lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from reconciler.model.listfields import Fault, read_prefix, shorten

LINES_MAX: Final = 5_000_000
LINE_CHARS_MAX: Final = 8192
COLUMNS: Final = "score tokens prefix"
# Bounded and possessive: a hostile line costs one pass, and no exponent makes a number of a million digits.
_SCORE: Final = re.compile(r"[-+]?(?=\.?[0-9])[0-9]{0,40}+(?:\.[0-9]{0,40}+)?(?:[eE][-+]?[0-9]{1,2})?")
_TOKENS: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Scores:
    """One row a file, in the file's order."""

    prefixes: tuple[str, ...]
    scores: tuple[Decimal, ...]
    tokens: tuple[int, ...]
    """Above 0."""


@dataclass(frozen=True, slots=True)
class BadScores:
    """Why a score file was refused; the line counts from 1, 0 where it is the file as a whole."""

    line: int
    message: str


def parse_scores(text: str) -> Scores | BadScores:
    """Read a whole score file."""
    first_on: dict[str, int] = {}
    scores: list[Decimal] = []
    tokens: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if number > LINES_MAX:
            return BadScores(0, f"it has more than {LINES_MAX:,} lines")
        row = _row(line.removesuffix("\r"))
        if row is None:
            continue
        if isinstance(row, str):
            return BadScores(number, row)
        score, size, prefix = row
        earlier = first_on.setdefault(prefix, number)
        if earlier != number:
            return BadScores(number, f"prefix {shorten(prefix)} has a score on line {earlier} already")
        scores.append(score)
        tokens.append(size)
    if not first_on:
        return BadScores(0, f"it has no row; expected `{COLUMNS}` a line")
    return Scores(tuple(first_on), tuple(scores), tuple(tokens))


def _row(line: str) -> tuple[Decimal, int, str] | str | None:
    """The three values of a line, what is wrong with it, or None for one that holds nothing."""
    if len(line) > LINE_CHARS_MAX:
        return f"a line of {len(line):,} characters; expected `{COLUMNS}`"
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    if len(words) != 3:
        return f"{len(words)} columns; expected `{COLUMNS}`"
    score, size, prefix = words
    if _SCORE.fullmatch(score) is None:
        return f"score {shorten(score)} is not a number; expected a decimal such as 2.71 or -0.3"
    if _TOKENS.fullmatch(size) is None or int(size) == 0:
        return f"tokens {shorten(size)}; expected the file's size, a whole number above 0"
    read = read_prefix(prefix)
    if isinstance(read, Fault):
        return read.message
    return Decimal(score), int(size), read.prefix
