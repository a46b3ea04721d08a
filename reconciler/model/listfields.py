"""The three columns of a data list's line: one word in, its value or what is wrong with it out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NUMBER_CHARS_MAX: Final = 72
MAGNITUDE_MAX: Final = 30
"""Weights lie between 1e-30 and 1e30: a float's digits with room to spare, and exponents cannot blow integers up."""
ZERO: Final = "0"
"""What `read_weight` returns for a weight of 0, however it was written."""

_NUMBER: Final = re.compile(r"\+?(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]{1,4}))?")
_HUGE_EXPONENT: Final = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+")
_NOT_FINITE: Final = re.compile(r"[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_CORPUS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:@=,-]{0,199}")
_UNSAFE: Final = re.compile(r"['\"$`;\\|&<>*?!(){}\[\]]")


class ListCode(StrEnum):
    """What a finding is about; below LIST100 the list is refused, from LIST100 it is a notice."""

    NOT_A_NUMBER = "LIST001"
    NOT_FINITE = "LIST002"
    NEGATIVE = "LIST003"
    OUT_OF_RANGE = "LIST004"
    COLUMNS = "LIST005"
    PREFIX = "LIST006"
    CORPUS = "LIST007"
    CONTROL = "LIST008"
    TOO_LONG = "LIST009"
    EMPTY = "LIST010"
    UNREADABLE = "LIST011"
    NO_CORPUS = "LIST100"
    RELATIVE = "LIST101"
    ZERO = "LIST102"
    DUPLICATE = "LIST103"
    SUFFIX = "LIST104"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a word was refused; `offset` counts characters from the word's first."""

    offset: int
    code: ListCode
    message: str
    """What was found and what was expected."""
    fix: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """A path as the trainer opens it, and whether a `.bin` or `.idx` was cut off it."""

    prefix: str
    suffixed: bool


def read_weight(word: str, following: str) -> str | Fault:
    """A weight in the one spelling `0.5e-3`, or `ZERO`; `following`, the next word, only helps the fix."""
    shown = shorten(word)
    if _NOT_FINITE.fullmatch(word):
        message = f"weight {shown} is not finite; expected a decimal such as 0.0018"
        return Fault(0, ListCode.NOT_FINITE, message, "Correct the weight.")
    if len(word) > NUMBER_CHARS_MAX and not word.strip("+-.eE0123456789"):
        message = f"weight {shown} has {len(word):,} characters; at most {NUMBER_CHARS_MAX} are read"
        return Fault(0, ListCode.OUT_OF_RANGE, message, "Write it with at most 17 digits.")
    if word.startswith("-") and _NUMBER.fullmatch(word[1:]):
        fix = "A weight is 0 or more; remove the row to leave the file out."
        return Fault(0, ListCode.NEGATIVE, f"weight {shown} is negative", fix)
    match = _NUMBER.fullmatch(word)
    if match is None and not _HUGE_EXPONENT.fullmatch(word):
        message = f"weight {shown} is not a number; expected a decimal such as 0.0018 or 1.8e-3"
        return Fault(0, ListCode.NOT_A_NUMBER, message, _number_fix(word, following))
    if match is not None:
        whole, part, exponent = match.group(1), match.group(2) or "", int(match.group(3) or 0)
        significant = (whole + part).lstrip("0")
        if not significant:
            return ZERO
        # Judged by the place of the first digit, before anything is raised to a power.
        if -MAGNITUDE_MAX < len(significant) - len(part) + exponent <= MAGNITUDE_MAX:
            return f"{whole}.{part}e{exponent}"
    message = f"weight {shown} is outside 1e-{MAGNITUDE_MAX} to 1e{MAGNITUDE_MAX}"
    return Fault(0, ListCode.OUT_OF_RANGE, message, "Only ratios count: scale the list's weights together.")


def _number_fix(word: str, following: str) -> str:
    if re.fullmatch(r"[0-9]+,[0-9]+", word):
        return f"Use a point: {word.replace(',', '.')}"
    if _NUMBER.fullmatch(following):
        return "The weight comes first: weight prefix corpus"
    if word.endswith("%") and _NUMBER.fullmatch(word[:-1]):
        return f"Weights are plain numbers, only ratios count: {word[:-1]}"
    return "Correct the weight, or put a # before a line that is no row."


def read_prefix(word: str) -> Prefix | Fault:
    """A path without suffix, doubled slashes and `./`; refused when shell or trainer would take it for another."""
    suffixed = word.endswith((".bin", ".idx"))
    prefix = re.sub(r"/(?:\.?/)+", "/", word[:-4] if suffixed else word).removeprefix("./")
    shown = shorten(word)
    unsafe = _UNSAFE.search(word)
    offset = 0
    if unsafe is not None:
        offset = unsafe.start()
        message = f"prefix {shown} has {unsafe.group()!r} in it, which does not survive the launcher's shell"
        fix = "Rename or link the file without it."
    elif word.startswith(("-", "~")):
        message = f"prefix {shown} starts with {word[0]!r}, which the trainer does not take for a path"
        fix = "Write the whole path."
    elif ".." in prefix.split("/"):
        message = f"prefix {shown} has '..' in it, so that which file is meant depends on where it is read"
        fix = "Write the path that it resolves to."
    elif not prefix or prefix.endswith(("/", "/.")) or prefix == ".":
        message = f"prefix {shown} names no file; expected the path of a .bin/.idx pair without the suffix"
        fix = "Add the file's name."
    elif ".bin" in prefix:
        cut = shorten(prefix[: prefix.index(".bin")])
        message = f"prefix {shown} has '.bin' inside; the trainer cuts it there and would open {cut}"
        fix = "Rename or link the directory or file without '.bin'."
    else:
        return Prefix(prefix, suffixed)
    return Fault(offset, ListCode.PREFIX, message, fix)


def read_corpus(word: str) -> str | Fault:
    """A corpus label, as it is: a number stays text."""
    if _CORPUS.fullmatch(word):
        return word
    safe = re.sub(r"[^A-Za-z0-9_.+:@=,-]+", "-", word).strip("-.")[:200] or "corpus"
    message = f"corpus label {shorten(word)}; expected letters, digits and _.+:@=,- (200 at most)"
    return Fault(0, ListCode.CORPUS, message, f"Write for example: {safe}")


def shorten(word: str) -> str:
    """A word for a message: quoted, unusual characters escaped, cut when long."""
    return ascii(word if len(word) <= 120 else word[:117] + "...")
