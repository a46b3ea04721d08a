"""Quantities as people write them: 4T tokens, 6h, 2e-4, lrMax/5, 5 %. Exact, and printed back as they were meant.

Tokens are whole numbers; weights, shares and learning rates are exact decimals. Nothing here goes through a binary
float, so `0.1 + 0.2` is `0.3` and a weight printed is the weight read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

_TOKEN_UNITS: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_TIME_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

TOKENS_PATTERN: Final = r"^[0-9]{1,18}(\.[0-9]{1,12})?[kKMBT]?$"
DURATION_PATTERN: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?[smhd])+$|^[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]$"
SHARE_PATTERN: Final = r"^[0-9]{1,3}(\.[0-9]{1,12})?%$"
RATE_PATTERN: Final = r"^(lrMax|lrFinal|lrSource)([/*][1-9][0-9]{0,5}(\.[0-9]{1,6})?)?$"
_DECIMAL: Final = re.compile(r"^[0-9]{1,18}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?$")


class Unreadable(ValueError):
    """A quantity that cannot be read; the message says what was expected."""


def parse_tokens(text: str) -> int:
    """`1.5T` → 1 500 000 000 000. Raises Unreadable for a fraction of a token, a byte unit, a sign."""
    if re.fullmatch(TOKENS_PATTERN, text) is None:
        hint = ""
        if re.fullmatch(r"[0-9.]+ *[kKMGTP]i?B", text):
            hint = f"; {text!r} is an amount of bytes, tokens have no B after the unit"
        raise Unreadable(f"tokens are a whole number with an optional unit k, M, B or T, such as 22B or 1.5T{hint}")
    unit = text[-1] if text[-1].isalpha() else ""
    value = Decimal(text[: len(text) - len(unit)]) * _TOKEN_UNITS[unit]
    if value != int(value):
        raise Unreadable(f"{text} is not a whole number of tokens")
    return int(value)


def format_tokens(tokens: int) -> str:
    """The shortest exact spelling: 1 500 000 000 000 → `1.5T`; inverse of `parse_tokens`."""
    for unit in ("T", "B", "M", "k"):
        scaled = Decimal(tokens) / _TOKEN_UNITS[unit]
        if abs(scaled) >= 1 and -scaled.as_tuple().exponent <= 3:  # type: ignore[operator]  # finite: never 'n' or 'F'
            return f"{scaled.normalize():f}{unit}"
    return str(tokens)


def approximate_tokens(tokens: int) -> str:
    """Three significant digits for people: 1 503 238 553 → `1.5B`."""
    for unit in ("T", "B", "M", "k"):
        if abs(tokens) >= _TOKEN_UNITS[unit]:
            return f"{tokens / _TOKEN_UNITS[unit]:.3g}{unit}"
    return str(tokens)


def parse_duration(text: str) -> Fraction:
    """`6h`, `1h30m`, `0.5s` or `06:00:00` → seconds. Raises Unreadable."""
    if re.fullmatch(DURATION_PATTERN, text) is None:
        raise Unreadable("a duration is written like 6h, 1h30m, 45s or 06:00:00")
    if ":" in text:
        hours, minutes, seconds = (int(part) for part in text.split(":"))
        return Fraction(hours * 3600 + minutes * 60 + seconds)
    parts = re.findall(r"([0-9.]+)([smhd])", text)
    return sum((Fraction(number) * _TIME_UNITS_S[unit] for number, unit in parts), Fraction(0))


def format_walltime(seconds: int) -> str:
    """PBS's `HH:MM:SS`, padded: 3907 → `01:05:07`."""
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def format_duration(seconds: float) -> str:
    """For people, two units at most: 3907 → `1h 5m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for size, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{unit} {rest}{small}" if rest else f"{whole // size}{unit}"
    raise AssertionError("unreachable: 60 s and more is at least a minute")


def format_bytes(size: float) -> str:
    """Three significant digits, in powers of 1000: 94_337_818_624 → `94.3 GB`."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            scaled = size / factor
            return f"{scaled:.3g} {unit}" if scaled < 999.5 else f"{scaled:,.0f} {unit}"
    return f"{size:.0f} B"


def counted(number: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def parse_share(text: str) -> Decimal:
    """`5%` → 0.05. Raises Unreadable outside 0 to 100 %."""
    if re.fullmatch(SHARE_PATTERN, text) is None or Decimal(text[:-1]) > 100:
        raise Unreadable("a share is written like 5% (0% to 100%)")
    return Decimal(text[:-1]) / 100


def parse_decimal(text: str) -> Decimal:
    """A non-negative decimal as written (`0.05`, `2e-4`), exactly. Raises Unreadable for nan, signs, huge exponents."""
    if _DECIMAL.fullmatch(text) is None:
        raise Unreadable("a plain non-negative decimal such as 0.05 or 2e-4 is expected")
    try:
        return Decimal(text)
    except InvalidOperation as error:  # pragma: no cover - the pattern admits nothing that Decimal refuses
        raise Unreadable(str(error)) from error


def format_decimal(value: Decimal) -> str:
    """Plain notation where short, exponent where not; parses back to the same value."""
    if value == 0:
        return "0"
    plain = f"{value.normalize():f}"
    if len(plain) <= 8:
        return plain
    mantissa, _, exponent = f"{value.normalize():e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate: a number, or a part or multiple of a named one (`lrMax/5`, `lrMax*2`).

    The name says which maximum N divides: the campaign's (`lrMax`), or the rate at which the source checkpoint stands.
    """

    of: str | None
    """`lrMax`, `lrFinal`, `lrSource`, or None for a plain number."""
    value: Decimal
    """The number itself, or the divisor or factor when `of` is set."""
    times: bool = False
    """`value` is a factor, and not a divisor."""

    def resolve(self, lr_max: Decimal, lr_final: Decimal, lr_source: Decimal | Fraction | None = None) -> Fraction:
        """The rate as an exact number, given the named ones.

        Raises:
            ValueError: it is of `lrSource`, which is not given; `of` tells beforehand.
        """
        if self.of is None:
            return Fraction(self.value)
        named = {"lrMax": lr_max, "lrFinal": lr_final, "lrSource": lr_source}[self.of]
        if named is None:
            raise ValueError(f"{self} is asked for, and the rate of the source is not known")
        return Fraction(named) * (Fraction(self.value) if self.times else 1 / Fraction(self.value))

    def __str__(self) -> str:
        if self.of is None:
            return format_decimal(self.value)
        return self.of if self.value == 1 else f"{self.of}{'*' if self.times else '/'}{format_decimal(self.value)}"


def parse_rate(text: str) -> Rate:
    """`2e-4`, `lrMax/5` or `lrMax*2`. Raises Unreadable."""
    if re.fullmatch(RATE_PATTERN, text):
        name, sign, number = re.fullmatch(r"([a-zA-Z]+)([/*]?)(.*)", text).groups()  # type: ignore[union-attr]
        value = Decimal(number or 1)
        return Rate(name, value, times=sign == "*" and value != 1)
    try:
        return Rate(None, parse_decimal(text))
    except Unreadable:
        raise Unreadable(
            "a learning rate is a number such as 2e-4, or lrMax, lrMax/5, lrMax*2, lrFinal, lrSource/100"
        ) from None
