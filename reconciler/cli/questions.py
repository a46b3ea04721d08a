"""Questions of `reconcile init`: each is answered by its option, by a person at a terminal, or by its default.

An answer is read by one function, wherever it comes from. Without a terminal, what has no default is collected, so that
one message names every option that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeVar

import click

from reconciler.model import fieldtypes
from reconciler.model.forms import FORMS
from reconciler.model.problems import clip, harmless, near, one_of
from reconciler.model.quantities import Unreadable, parse_tokens
from reconciler.scaffold.answers import Data

Answer = TypeVar("Answer")
Reader = Callable[[str], str]
DataReader = Callable[[str], Data]
DataOrNone = Callable[[str], Data | None]
DATA_FORM: Final = "NAME=PATH:TOKENS, such as papers=/data/papers.txt:22B"


class Interview:
    """Puts questions, and remembers what has no answer."""

    def __init__(self, *, asks: bool) -> None:
        self.asks = asks
        self._missing: list[str] = []

    def put(
        self, given: str | None, option: str, question: str, read: Callable[[str], Answer], default: str | None = None
    ) -> Answer | None:
        """The answer; None only where `require` is going to stop the command.

        Raises:
            click.UsageError: the option's value cannot be read.
        """
        if given is not None:
            try:
                return read(given)
            except click.BadParameter as error:
                raise click.UsageError(f"{option}: {error.message}") from error
        if self.asks:
            answer: Answer = click.prompt(question, default=default, value_proc=read, err=True)
            return answer
        if default is not None:
            return read(default)
        self._missing.append(option)
        return None

    def require(self) -> None:
        """Stops the command where an answer was neither given nor to be asked for."""
        if self._missing:
            wanting = " and ".join(filter(None, [", ".join(self._missing[:-1]), self._missing[-1]]))
            verb = "is" if len(self._missing) == 1 else "are"
            raise click.UsageError(f"{wanting} {verb} missing, and there is nobody to ask (no terminal, or --yes).")


def given(text: str, option: str, read: Reader) -> str:
    """What an option says, read as an answer would be.

    Raises:
        click.UsageError: it cannot be read.
    """
    return Interview(asks=False).put(text, option, "", read) or ""


# --- how answers are read; each raises click.BadParameter with what is expected


def _form(pattern: str, text: str) -> str:
    if re.fullmatch(pattern, text) is None:
        form = FORMS[pattern]
        meant = form.meant(text)
        _bad(text, form.expected + (f". {meant}" if meant else ""))
    return text


def _bad(text: str, expected: str) -> NoReturn:
    raise click.BadParameter(f"{clip(harmless(text), 60)!r} is not {expected}")


def name(text: str) -> str:
    """Of an object."""
    return _form(fieldtypes.NAME_PATTERN, text)


def word(text: str) -> str:
    """A host, queue or project."""
    return _form(fieldtypes.WORD_PATTERN, text)


def word_or_none(text: str) -> str:
    """A word, or nothing."""
    return word(text) if text.strip() else ""


def path(text: str) -> str:
    """On the cluster, where a relative one starts at the cluster's root."""
    found = _form(fieldtypes.PATH_PATTERN, text)
    if ".." in found.split("/"):
        _bad(text, "a path without .. in it")
    return found


def absolute(text: str) -> str:
    """A path on a cluster where there is nothing that it could start from."""
    if not text.startswith("/"):
        _bad(text, "an absolute path on the cluster")
    return path(text)


def choice(known: Mapping[str, object]) -> Callable[[str], str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in known:
            meant = near(text, known)
            _bad(text, f"{one_of(known)}" + (f". Did you mean {meant}?" if meant else ""))
        return text

    return read


def data(read_path: Reader) -> DataReader:
    """`NAME=PATH:TOKENS`; the name may be left out, and is the file's then."""

    def read(text: str) -> Data:
        found = re.fullmatch(r"(?:([^=:]*)=)?([^=:]+):([^=:]+)", text)
        if found is None:
            _bad(text, DATA_FORM)
        where = read_path(found[2])
        stem = re.sub(r"[^a-z0-9.]+", "-", where.rpartition("/")[2].lower().removesuffix(".txt")).strip("-.")
        try:
            tokens = parse_tokens(found[3])
        except Unreadable as error:
            raise click.BadParameter(f"{clip(harmless(text), 60)}: {error}") from error
        if tokens < 1:
            _bad(found[3], "at least one token")
        return Data(name(found[1] if found[1] is not None else stem), where, tokens)

    return read
