"""`-v`: what reaches a job of the values given to it, as PBS has it, mangling included. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.local.pbs.refusals import Refusal, unsupported

CANNOT_SEND = "cannot send environment with the job"


def requested(text: str, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """`A=1,B="x,y",HOME` → pairs as the job gets them; a bare name takes its value from `environment`.

    Outside quotes a comma ends a value; quotes vanish; a backslash is doubled unless it stands before a comma. A
    double quote inside single ones, which PBS mangles, is refused.

    Raises:
        Refusal: an empty or unset name, or a quote left open (return code 1).
    """
    sent = []
    for name, value in _terms(text):
        if not name or (value is None and name not in environment):
            raise Refusal(CANNOT_SEND, 1)
        sent.append(f"{name}={_protected(environment[name]) if value is None else value}")
    return list(decoded(",".join(sent)))


def _terms(text: str) -> Iterator[tuple[str, str | None]]:
    at = 0
    while at < len(text):
        name_end = at
        while name_end < len(text) and text[name_end] not in "=,":
            name_end += 1
        name = text[at:name_end].strip()
        if name_end < len(text) and text[name_end] == "=":
            value, at = _value(text, name_end + 1)
            yield name, value
        else:
            yield name, None
            at = name_end
        at += 1  # the comma


def _value(text: str, at: int) -> tuple[str, int]:
    """One value as it is sent, and where it ended."""
    sent: list[str] = []
    quote = ""
    while at < len(text) and (quote or text[at] != ","):
        letter = text[at]
        if letter in "\"'":
            if quote and quote != letter:
                raise _mixed(letter)
            quote = "" if quote else letter
        elif letter == "\\":
            following = text[at + 1 : at + 2]
            sent.append("\\," if following == "," else "\\\\")
            at += following == ","
        elif letter == ",":
            sent.append("\\,")
        else:
            sent.append(letter)
        at += 1
    if quote:
        raise Refusal(CANNOT_SEND, 1)
    return "".join(sent), at


def _mixed(inner: str) -> Refusal:
    if inner == "'":
        return Refusal(CANNOT_SEND, 1)
    return unsupported("a double quote inside single ones in -v")


def _protected(value: str) -> str:
    """A value from the environment as it is sent: its commas are its own."""
    if "'" in value or '"' in value:
        raise Refusal(CANNOT_SEND, 1)
    return value.replace("\\", "\\\\").replace(",", "\\,")


def decoded(sent: str) -> Iterator[tuple[str, str]]:
    """What the server makes of a sent list: only a backslash right before a comma protects it."""
    for piece in split(sent):
        name, _, value = piece.partition("=")
        yield name, value.rstrip(" \t\n")


def encoded(pairs: list[tuple[str, str]]) -> str:
    """A Variable_List as the server shows it in text."""
    return ",".join(f"{name}=" + value.replace("\\", "\\\\").replace(",", "\\,") for name, value in pairs)


def split(text: str) -> list[str]:
    """Pieces of a list between commas that no backslash protects; protecting backslashes are taken away."""
    pieces = [""]
    for number, part in enumerate(text.split(",")):
        if number and pieces[-1].endswith("\\"):
            pieces[-1] = pieces[-1][:-1] + "," + part
        elif number:
            pieces.append(part)
        else:
            pieces[0] = part
    return pieces
