"""Bash arithmetic on whole numbers, as `$((…))` and the launcher's own divisions do it. Nothing is executed.

Bounded in every direction: length, nesting, and 64 bits, where bash wraps around and we refuse instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

EXPRESSION_CHARS_MAX: Final = 1000
DEPTH_MAX: Final = 40
LOOK_UPS_MAX: Final = 500
_BITS: Final = 63
_TOKEN: Final = re.compile(r"\s*(?:(?P<number>[0-9][0-9A-Za-z_.#@]*)|"
                           r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<operator>\*\*|<<|>>|\+\+|--|[-+*/%()]))")  # fmt: skip


class NotArithmetic(ValueError):
    """An expression that bash would refuse, or that is beyond what is evaluated here; the message says why."""


def evaluate(text: str, look_up: Callable[[str], str]) -> int:
    """The value of an expression; `look_up` gives a variable's text, which bash evaluates in its turn.

    Raises:
        NotArithmetic: bad syntax, division by zero, beyond 64 bits, too long or nested too deeply.
    """
    return _evaluate(text, look_up, 0, [LOOK_UPS_MAX])


def _evaluate(text: str, look_up: Callable[[str], str], depth: int, left: list[int]) -> int:
    """`left` holds how many variables may still be looked up: `a=b+b b=c+c …` doubles with every level."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise NotArithmetic(f"it has more than {EXPRESSION_CHARS_MAX} characters")
    if depth > DEPTH_MAX or left[0] < 0:
        raise NotArithmetic("it is nested too deeply")
    return _Reader(text, look_up, depth, left).whole()


class _Reader:
    """Recursive descent: sum → product → power → unary → atom."""

    def __init__(self, text: str, look_up: Callable[[str], str], depth: int, left: list[int]) -> None:
        self._left = left
        self._tokens = _tokens(text)
        self._at = 0
        self._look_up = look_up
        self._depth = depth

    def whole(self) -> int:
        if not self._tokens:
            return 0
        value = self._shift()
        if self._at < len(self._tokens):
            raise NotArithmetic(f"{self._tokens[self._at]!r} is not expected there")
        return value

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._next()
        if token and token in wanted:
            self._at += 1
            return token
        return ""

    def _shift(self) -> int:
        value = self._sum()
        while operator := self._take("<<", ">>"):
            by = self._sum()
            if not 0 <= by <= _BITS:
                raise NotArithmetic("a shift by that much")
            value = _bounded(value << by if operator == "<<" else value >> by)
        return value

    def _sum(self) -> int:
        value = self._product()
        while operator := self._take("+", "-"):
            other = self._product()
            value = _bounded(value + other if operator == "+" else value - other)
        return value

    def _product(self) -> int:
        value = self._power()
        while operator := self._take("*", "/", "%"):
            other = self._power()
            if operator != "*" and other == 0:
                raise NotArithmetic("division by zero")
            # C's division cuts towards zero, Python's down.
            quotient = 0 if operator == "*" else abs(value) // abs(other) * (1 if (value < 0) == (other < 0) else -1)
            value = _bounded({"*": value * other, "/": quotient, "%": value - other * quotient}[operator])
        return value

    def _power(self) -> int:
        value = self._unary()
        if not self._take("**"):
            return value
        exponent = self._nested(self._power)
        if exponent < 0:
            raise NotArithmetic("a negative exponent")
        if abs(value) > 1 and exponent > _BITS:
            raise NotArithmetic("a number beyond 64 bits")
        return _bounded(value ** min(exponent, _BITS + exponent % 2))

    def _unary(self) -> int:
        if operator := self._take("+", "-"):
            value = self._nested(self._unary)
            return -value if operator == "-" else value
        return self._atom()

    def _atom(self) -> int:
        if self._take("("):
            value = self._nested(self._shift)
            if not self._take(")"):
                raise NotArithmetic("a closing parenthesis is missing")
            return value
        token = self._next()
        self._at += 1
        if token[:1].isdigit():
            return _number(token)
        if token[:1].isalpha() or token[:1] == "_":
            self._left[0] -= 1
            return _evaluate(self._look_up(token), self._look_up, self._depth + 1, self._left)
        raise NotArithmetic(f"{token!r} stands where a number is expected" if token else "it ends too early")

    def _nested(self, part: Callable[[], int]) -> int:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise NotArithmetic("it is nested too deeply")
        value = part()
        self._depth -= 1
        return value


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            raise NotArithmetic(f"{text[at:].strip()[:1]!r} is not understood")
        found.append(token[0].strip())
        at = token.end()
    return found


def _number(token: str) -> int:
    try:
        if token[:2].lower() == "0x":
            return _bounded(int(token, 16))
        return _bounded(int(token, 8) if len(token) > 1 and token.startswith("0") else int(token))
    except ValueError:
        raise NotArithmetic(f"{token!r} is not a whole number") from None


def _bounded(value: int) -> int:
    if not -(2**_BITS) <= value < 2**_BITS:
        raise NotArithmetic("a number beyond 64 bits")
    return value
