"""Plain YAML scalars by YAML 1.2's core schema: null, booleans, whole numbers, exact decimals, text.

What YAML 1.1 and 1.2 read differently (a leading zero) and what is no number to calculate with is refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from reconciler.model.problems import clip

DIGITS_MAX: Final = 40
EXPONENT_MAX: Final = 300
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE]([-+]?[0-9]+))?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final[dict[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAYBE_NUMBER: Final = frozenset("0123456789+-.")


class Refused(Exception):
    """A scalar that is refused; carries a problem's detail, expectation and fix."""

    def __init__(self, detail: str, expected: str, fix: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.expected, self.fix = detail, expected, fix


def scalar(text: str) -> object:
    """A plain scalar by YAML 1.2's core schema: None, bool, int, Decimal or str. Raises Refused."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        return text
    if _INT.fullmatch(text):
        return _integer(text)
    number = _FLOAT.fullmatch(text)
    if number is not None:
        exponent = number.group(4) or "0"
        if len(text) > DIGITS_MAX or abs(int(exponent)) > EXPONENT_MAX:
            raise Refused(clip(text, 24), f"at most {DIGITS_MAX} digits and an exponent within ±{EXPONENT_MAX}")
        return Decimal(text)
    if _NOT_FINITE.fullmatch(text):
        raise Refused(text, "a finite number", f'If the text "{text}" is meant, quote it.')
    return text


def _integer(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise Refused(clip(text, 24), f"at most {DIGITS_MAX} digits")
    if text[:2] in ("0x", "0o"):
        return int(text, 0)
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0":
        plain = str(int(text))
        raise Refused(
            f"{text} has a leading zero",
            "a number that YAML 1.1 and 1.2 read alike (1.1 takes this as octal)",
            f'Write {plain}, or "{text}" if text is meant.',
        )
    return int(text)
