"""How the texts in a manifest are written: for each form what is expected, and what a near miss probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from reconciler.model import fieldtypes, quantities
from reconciler.model.problems import clip, near

_UNITS: Final = {"k": "k", "K": "k", "m": "M", "M": "M", "b": "B", "B": "B", "g": "B", "G": "B", "t": "T", "T": "T"}
_SCALES: Final = {"thousand": "k", "million": "M", "billion": "B", "trillion": "T"}


@dataclass(frozen=True, slots=True)
class Form:
    """One way of writing a value."""

    expected: str
    meant: Callable[[str], str | None]
    """The text → a fix in a sentence, or None where nothing better is known than `expected`."""


def describe(value: object) -> str:
    """What was found, in words: `text "1.5 TB"`, `the number 5`, `a list of 3`."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return f"the number {clip(str(value), 40)}"
        case str():
            return f'text "{clip(value, 60)}"'
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            names = ", ".join(clip(str(key), 30) for key in list(value)[:4]) + (", …" if len(value) > 4 else "")
            return f"a mapping with {names}" if value else "an empty mapping"
        case _:  # pragma: no cover - documents hold nothing else
            return type(value).__name__


def _write(text: str, pattern: str) -> str | None:
    return f"Write {text}." if re.fullmatch(pattern, text) else None


def _tokens(text: str) -> str | None:
    if text.startswith("-"):
        return "A budget cannot be negative."
    bare = re.sub(r"[\s_,]", "", text)
    amount = re.fullmatch(r"([0-9.]+)([a-zA-Z]+)", bare)
    if amount is None:
        return _write(bare, quantities.TOKENS_PATTERN)
    number, unit = amount.groups()
    bytes_unit = re.fullmatch(r"([kKMGTP])i?B", unit)
    if bytes_unit is not None:
        plain = _UNITS.get(bytes_unit.group(1))
        instead = f"; if {number} {plain} tokens are meant, write {number}{plain}" if plain else ""
        return f"{text} is an amount of bytes, and bytes are not tokens{instead}."
    word = unit.lower().removesuffix("tokens").removesuffix("tok").removesuffix("s")
    return _write(number + _SCALES.get(word, _UNITS.get(unit, unit)), quantities.TOKENS_PATTERN)


def _duration(text: str) -> str | None:
    if re.fullmatch(r"[0-9]+", text):
        return f"Say the unit: {text}s, {text}m or {text}h."
    if re.fullmatch(r"[0-9]{1,3}:[0-5][0-9]", text):
        return f'Write "{text.zfill(5)}:00" if hours and minutes are meant.'
    bare = re.sub(r"[\s,]", "", text.lower())
    bare = re.sub(r"(seconds?|secs?|sec)$", "s", re.sub(r"(minutes?|mins?)", "m", re.sub(r"(hours?|hrs?)", "h", bare)))
    return _write(re.sub(r"days?", "d", bare), quantities.DURATION_PATTERN)


def _share(text: str) -> str | None:
    return _write(re.sub(r"\s", "", text), quantities.SHARE_PATTERN)


def _rate(text: str) -> str | None:
    names = ("lrMax", "lrFinal", "lrSource")
    factor = re.fullmatch(r"\s*([0-9.]{1,12})\s*[*x×]?\s*(lr[ _-]?[a-z]{3,6})\s*", text, re.IGNORECASE)
    if factor is not None and (of := near(factor.group(2), names)):
        return _write(f"{of}*{factor.group(1)}", quantities.RATE_PATTERN)
    named = re.fullmatch(r"\s*(lr[ _-]?(?:max|final|source))\s*(?:([/*x×])\s*([0-9.]{1,12}))?\s*", text, re.IGNORECASE)
    if named is None:
        return None
    name, sign, number = named.groups()
    part = f"{'/' if sign == '/' else '*'}{number}" if sign else ""
    return _write((near(name, names) or "") + part, quantities.RATE_PATTERN)


def _name(text: str) -> str | None:
    return _write(re.sub(r"[^a-z0-9.]+", "-", text.strip().lower()).strip("-."), fieldtypes.NAME_PATTERN)


def _symbol(text: str) -> str | None:
    return _write(re.sub(r"[\s_]", "", text.upper()), fieldtypes.SYMBOL_PATTERN)


def _term(text: str) -> str | None:
    if text in ("B", "Buffer", "BUFFER"):
        return "Write buffer."
    return _symbol(text) or _name(text)


def _environment(text: str) -> str | None:
    return _write(re.sub(r"[^A-Z0-9_]", "_", text.upper()), fieldtypes.ENVIRONMENT_PATTERN)


def _sha256(text: str) -> str | None:
    return _write(text.strip().lower().removeprefix("sha256:"), fieldtypes.SHA256_PATTERN)


def _hour(text: str) -> str | None:
    found = re.fullmatch(r"([0-9]{1,2})(?::([0-9]{2}))?\s*([ap]m)?", text.strip().lower())
    if found is None:
        return None
    hour = int(found[1]) % 12 + (12 if found[3] == "pm" else 0) if found[3] else int(found[1])
    return _write(f"{hour:02d}:{found[2] or '00'}", fieldtypes.HOUR_PATTERN)


def _branch(text: str) -> str | None:
    return _write(re.sub(r"^(refs/heads/|refs/remotes/[^/]+/|origin/)", "", text.strip()), fieldtypes.BRANCH_PATTERN)


def _nothing(text: str) -> str | None:
    return None


FORMS: Final[dict[str, Form]] = {
    quantities.TOKENS_PATTERN: Form("a whole number of tokens, such as 22B or 1.5T (k, M, B or T)", _tokens),
    quantities.DURATION_PATTERN: Form("a duration such as 6h, 1h30m, 45s or 06:00:00", _duration),
    quantities.SHARE_PATTERN: Form("a share such as 5%", _share),
    quantities.RATE_PATTERN: Form("a learning rate such as 2e-4, lrMax, lrMax/5, lrMax*2 or lrSource/100", _rate),
    fieldtypes.NAME_PATTERN: Form("a name of lower-case letters, digits, - and ., at most 63", _name),
    fieldtypes.LABEL_PATTERN: Form("a name of letters, digits, - and ., at most 63", _nothing),
    fieldtypes.SYMBOL_PATTERN: Form("a dataset symbol such as D0 or D1", _symbol),
    fieldtypes.TERM_PATTERN: Form("a dataset symbol such as D1, the name of an earlier stage, or buffer", _term),
    fieldtypes.WORD_PATTERN: Form("one word of letters, digits and _ . / : + -, since a shell reads it", _nothing),
    fieldtypes.VALUE_PATTERN: Form("letters, digits and _ . / : = , @ % + -, since a shell reads it", _nothing),
    fieldtypes.PATH_PATTERN: Form("a path of letters, digits and _ . / + -", _nothing),
    fieldtypes.SHA256_PATTERN: Form("64 hexadecimal digits", _sha256),
    fieldtypes.ENVIRONMENT_PATTERN: Form("a variable's name in capitals", _environment),
    fieldtypes.HOUR_PATTERN: Form("a time of day such as 06:30 or 20:00; 24:00 is the end of the day", _hour),
    fieldtypes.ZONE_PATTERN: Form("a time zone such as America/Chicago or UTC", _nothing),
    fieldtypes.BRANCH_PATTERN: Form("a branch by its name on the remote, such as main", _branch),
    fieldtypes.RULE_PATTERN: Form("a rule's code such as CPT004; `reconcile explain` lists them", _nothing),
    fieldtypes.TEXT_PATTERN: Form("text in one line", _nothing),
    fieldtypes.SENTENCE_PATTERN: Form("a sentence in one line", _nothing),
}
