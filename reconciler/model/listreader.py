"""Text of a data list as people have it → `DataList`, or every problem in it at once.

The trainer takes exactly `weight prefix corpus` and nothing else; lists in use have comments, blank lines, Windows
line ends, two columns, relative weights, `.bin` suffixes. What has one meaning is read and noticed, the rest refused.
Clean stretches of a list go through whole-block operations, so that a million rows take seconds; a block with
anything unusual in it is read line by line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, TypeVar

from reconciler.model.datalist import DataList
from reconciler.model.listfields import MAGNITUDE_MAX, ZERO, Fault, ListCode, read_corpus, read_prefix, read_weight

TEXT_CHARS_MAX: Final = 256 * 2**20
LINES_MAX: Final = 5_000_000
LINE_CHARS_MAX: Final = 8192
PROBLEMS_MAX: Final = 1000
"""Reading stops after so many: a wrong file has as many as lines."""
_BLOCK_CHARS: Final = 1 << 16
_ROUNDING: Final = Fraction(1, 10**6)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem or notice at a place in a list; line and column count from 1."""

    line: int
    column: int
    code: ListCode
    message: str
    """What was found and what was expected."""
    fix: str = ""
    """What to do, or nothing when there is nothing to do."""


@dataclass(frozen=True, slots=True)
class ParsedList:
    """A list that was read, with what was taken differently from how it was written."""

    data: DataList
    notices: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class BadList:
    """A list that was refused; at least one problem, in the order of lines."""

    problems: tuple[Finding, ...]


def parse_list(text: str, *, default_corpus: str | None = None) -> ParsedList | BadList:
    """Read a whole list. `default_corpus` labels rows that have none; without it they are a problem."""
    return parse_blocks([text], default_corpus=default_corpus)


def parse_blocks(blocks: Iterable[str], *, default_corpus: str | None = None) -> ParsedList | BadList:
    """Read a list given in pieces, each ending at the end of a line, without ever holding its whole text.

    Raises ValueError when `default_corpus` is no corpus label.
    """
    if default_corpus is not None and isinstance(read_corpus(default_corpus), Fault):
        raise ValueError(f"{default_corpus!r} is no corpus label")
    reader = _Reader(default_corpus)
    chars = 0
    for text in blocks:
        chars += len(text)
        if chars > TEXT_CHARS_MAX:
            reader.problem(1, ListCode.TOO_LONG, f"the list is longer than {TEXT_CHARS_MAX:,} characters", _NOT_A_LIST)
            break
        for block in _cut(text):
            reader.block(block.replace("\r\n", "\n"))
            if reader.lines > LINES_MAX:
                reader.problem(1, ListCode.TOO_LONG, f"the list has more than {LINES_MAX:,} lines", _NOT_A_LIST)
                return reader.finish()
            if len(reader.problems) >= PROBLEMS_MAX:
                return reader.finish()
    return reader.finish()


_NOT_A_LIST: Final = "Is this a data list? Each line holds: weight prefix corpus"
# Lines that need no second look: a path's parts start with a letter, digit or `_`, so there is no `//`, `/./`, `..` or
# final slash. Quantifiers of characters are possessive, all are bounded: a hostile line costs few passes. Those of
# groups are not: before Python 3.11.5 (Debian 12 has 3.11.2) a possessive group matches what it must not.
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.~@%+=:,^-]{0,255}+"
_CLEAN_PAIR: Final = rf"[0-9]{{1,30}}+(?:\.[0-9]{{1,30}}+)?(?:e[-+]?[0-9]{{1,2}}+)? /?+{_PART}(?:/{_PART}){{0,100}}"
_CLEAN_TWO: Final = re.compile(rf"(?:{_CLEAN_PAIR}\n)*")
_CLEAN_THREE: Final = re.compile(rf"(?:{_CLEAN_PAIR} [A-Za-z0-9_][A-Za-z0-9_.+:@=,-]{{0,199}}+\n)*")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#")
_FIELD: Final = re.compile(r"\S+")


def _cut(text: str) -> Iterator[str]:
    """Pieces of about `_BLOCK_CHARS` that end at the end of a line."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK_CHARS) + 1 or len(text)
        yield text[start:end]
        start = end


@dataclass(slots=True)
class _Reader:
    """Columns read so far, and everything found on the way."""

    default_corpus: str | None
    places: int = 0
    """Units are weights times 10^places; grows with the longest decimal."""
    tens: dict[int, int] = field(default_factory=lambda: {0: 1})
    units: list[int] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    corpora: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    row_anchors: list[int] = field(default_factory=list)
    line_anchors: list[int] = field(default_factory=list)
    """Row `row_anchors[k]` stands on line `line_anchors[k]`, and the rows after it on the lines after it."""
    lines: int = 0
    problems: list[Finding] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    zero: list[int] = field(default_factory=list)
    suffixed: list[int] = field(default_factory=list)

    def problem(self, column: int, code: ListCode, message: str, fix: str = "") -> None:
        """Note a problem on the line at hand; the last one that fits says that reading stopped."""
        if len(self.problems) < PROBLEMS_MAX:
            if len(self.problems) == PROBLEMS_MAX - 1:
                message += f" (reading stopped here, after {PROBLEMS_MAX} problems)"
            self.problems.append(Finding(max(self.lines, 1), column, code, message, fix))

    def block(self, block: str) -> None:
        """Take whole lines: at once when all are clean, else one by one."""
        columns = self._clean_columns(block)
        words = block.split() if columns else []
        if columns and not _suffixed(block, words[0::columns]):
            units = self._exact(words[0::columns])
            # A weight of 0 or beyond the bounds is told by the line-wise reading below.
            if min(units) * 10**MAGNITUDE_MAX >= 10**self.places and max(units) < 10 ** (self.places + MAGNITUDE_MAX):
                corpora = words[2::3] if columns == 3 else [self.default_corpus or ""] * len(units)
                if columns == 2:
                    self.bare += range(self.lines + 1, self.lines + len(units) + 1)
                self._extend(self.lines + 1, units, words[1::columns], corpora)
                self.lines += len(units)
                return
        for line in block.removesuffix("\n").split("\n"):
            if len(self.problems) >= PROBLEMS_MAX:
                return
            self.lines += 1
            self._line(line)

    def _clean_columns(self, block: str) -> int:
        """3 or 2 when every line has that many columns and no unusual character or path in them, else 0."""
        if _CLEAN_THREE.fullmatch(block):
            return 3
        return 2 if self.default_corpus is not None and _CLEAN_TWO.fullmatch(block) else 0

    def _exact(self, numbers: list[str]) -> list[int]:
        """Decimals → whole units at `places`, which grows (and the units held so far with it) when they need more."""
        try:
            tens, places = self.tens, self.places
            return [
                int(whole + part) * tens[places - len(part) + int(exponent or 0)]
                for number in numbers
                for mantissa, _, exponent in (number.partition("e"),)
                for whole, _, part in (mantissa.partition("."),)
            ]
        except KeyError:
            needed = max(map(_places, numbers))
        if needed > self.places:
            self.units = [unit * 10 ** (needed - self.places) for unit in self.units]
            self.places = needed
        # Nothing is above places + 99: an exponent has two digits, or `_weight` bounded the number's magnitude.
        self.tens = {power: 10**power for power in range(self.places + 100)}
        return self._exact(numbers)

    def _line(self, line: str) -> None:
        line = line.removesuffix("\r")
        if len(line) > LINE_CHARS_MAX:
            found = f"the line has {len(line):,} characters; at most {LINE_CHARS_MAX:,} are read"
            self.problem(1, ListCode.TOO_LONG, found, _NOT_A_LIST)
            return
        if self.lines == 1:
            line = line.removeprefix("\ufeff")
        comment = _COMMENT.search(line)
        line = (line[: comment.start()] if comment else line).rstrip(" \t")
        plain = line.replace("\t", " ")
        if not plain.isprintable():
            odd = next(i for i, char in enumerate(plain) if not char.isprintable())
            found = f"character U+{ord(line[odd]):04X}; printable characters, spaces and tabs are expected"
            self.problem(odd + 1, ListCode.CONTROL, found, "Remove it.")
            return
        fields = [(match.start() + 1, match.group()) for match in _FIELD.finditer(line)]
        if not fields:
            return
        if len(fields) not in (2, 3) or (len(fields) == 2 and self.default_corpus is None):
            self._wrong_columns(fields)
            return
        self._row(fields)

    def _wrong_columns(self, fields: list[tuple[int, str]]) -> None:
        words = [word for _, word in fields]
        fix = "Write three columns, separated by spaces, without spaces inside a path."
        if len(words) == 1 and "," in words[0]:
            fix = "Separate the columns by spaces, not commas."
        elif len(words) == 2:
            fix = "Add a corpus label as third column."
        found = f"{len(words)} column{'s' if len(words) > 1 else ''}; expected three: weight prefix corpus"
        self.problem(fields[0][0], ListCode.COLUMNS, found, fix)

    def _row(self, fields: list[tuple[int, str]]) -> None:
        number = self._checked(fields[0], read_weight(fields[0][1], fields[1][1]))
        path = self._checked(fields[1], read_prefix(fields[1][1]))
        if len(fields) == 3:
            corpus = self._checked(fields[2], read_corpus(fields[2][1]))
        else:
            corpus = self.default_corpus
            self.bare.append(self.lines)
        if number is None or path is None or corpus is None:
            return
        if number == ZERO:
            self.zero.append(self.lines)
            return
        if path.suffixed:
            self.suffixed.append(self.lines)
        units = self._exact([number])
        self._extend(self.lines, units, [path.prefix], [corpus])

    def _checked(self, word: tuple[int, str], value: _Value | Fault) -> _Value | None:
        if isinstance(value, Fault):
            self.problem(word[0] + value.offset, value.code, value.message, value.fix)
            return None
        return value

    def _extend(self, line: int, units: list[int], prefixes: list[str], corpora: list[str]) -> None:
        """Add rows that stand on the lines from `line` on."""
        self.row_anchors.append(len(self.units))
        self.line_anchors.append(line)
        self.units += units
        self.prefixes += prefixes
        # One string per label, not one per row.
        self.corpora += map(self.labels.setdefault, corpora, corpora)

    def finish(self) -> ParsedList | BadList:
        """The list, with duplicates merged, or the problems."""
        if not self.units and not self.problems:
            found = "no row has a weight above 0" if self.zero else "the list is empty"
            self.problems.append(Finding(1, 1, ListCode.EMPTY, f"{found}; expected at least one row", _NOT_A_LIST))
        if self.problems:
            return BadList(tuple(self.problems))
        notices = list(self._line_notices())
        if len(set(self.prefixes)) != len(self.prefixes):
            notices += self._merge()
        data = DataList(tuple(self.units), 10**self.places, tuple(self.prefixes), tuple(self.corpora))
        # Ten decimals a row do not sum to 1 either; only weights that never meant to be shares are worth a word.
        if abs(data.weight_sum - 1) > _ROUNDING:
            found = f"weights sum to {_decimal(data.weight_sum)}, not 1; only their ratios count, taken exactly"
            notices.append(Finding(1, 1, ListCode.RELATIVE, found))
        return ParsedList(data, tuple(notices))

    def _line_notices(self) -> Iterator[Finding]:
        if self.bare:
            found = f"{_rows(self.bare)} without a corpus label, taken as {self.default_corpus!r}"
            yield Finding(self.bare[0], 1, ListCode.NO_CORPUS, found)
        if self.zero:
            yield Finding(self.zero[0], 1, ListCode.ZERO, f"{_rows(self.zero)} of weight 0 left out")
        if self.suffixed:
            found = f"{_rows(self.suffixed)} with .bin or .idx after the prefix; it was cut"
            yield Finding(self.suffixed[0], 1, ListCode.SUFFIX, found)

    def _merge(self) -> Iterator[Finding]:
        """Add the weights of rows of one prefix; the first row's place and label stay."""
        times = Counter(self.prefixes)
        first: dict[str, int] = {}
        repeated: list[int] = []
        for row, prefix in enumerate(self.prefixes):
            if times[prefix] > 1 and first.setdefault(prefix, row) != row:
                self.units[first[prefix]] += self.units[row]
                repeated.append(row)
        lines = [self._line_of(row) for row in repeated]
        found = f"{_rows(lines)} with the prefix of an earlier row; the weights were added"
        yield Finding(lines[0], 1, ListCode.DUPLICATE, found)
        relabelled = [row for row in repeated if self.corpora[row] != self.corpora[first[self.prefixes[row]]]]
        if relabelled:
            lines = [self._line_of(row) for row in relabelled]
            found = f"{_rows(lines)} with another corpus label than the earlier row; the earlier label stays"
            yield Finding(lines[0], 1, ListCode.DUPLICATE, found)
        gone = set(repeated)
        keep = [row for row in range(len(self.units)) if row not in gone]
        self.units = [self.units[row] for row in keep]
        self.corpora = [self.corpora[row] for row in keep]
        self.prefixes = [self.prefixes[row] for row in keep]

    def _line_of(self, row: int) -> int:
        anchor = bisect_right(self.row_anchors, row) - 1
        return self.line_anchors[anchor] + row - self.row_anchors[anchor]


def _suffixed(block: str, numbers: list[str]) -> bool:
    # Counting one character is many times faster than looking for four: points outside the weights are rare.
    return block.count(".") > "".join(numbers).count(".") and (".bin" in block or ".idx" in block)


def _places(number: str) -> int:
    mantissa, _, exponent = number.partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def _rows(lines: list[int]) -> str:
    listed = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    return f"{len(lines):,} row{'s' if len(lines) > 1 else ''} (line{'s' if len(lines) > 1 else ''} {listed})"


def _decimal(value: Fraction) -> str:
    """An exact decimal of at most twelve places, else the nearest with a ~ before it."""
    scaled = value * 10**12
    text = f"{round(scaled) // 10**12}.{round(scaled) % 10**12:012d}".rstrip("0").rstrip(".")
    return text if scaled.denominator == 1 else f"~{text}"
