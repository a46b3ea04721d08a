"""What a login shell is given to run, and what came of it as a person may see it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

SHOWN_MAX: Final = 500


def command_line(argv: Sequence[str], path: Sequence[str]) -> str:
    """One line for the login shell, whichever it is: words in quotes that sh, csh and fish read alike.

    `path` holds folders to put in front of PATH. Raises ValueError for a word that some shell cannot quote.
    """
    if any(not word.isprintable() or "!" in word or "\\" in word for word in (*argv, *path)):
        # Even in quotes: csh expands !, fish reads \, and neither takes a line break.
        raise ValueError(f"a command holds a character that not every login shell can quote: {argv!r}")
    line = shlex.join(argv)
    if not path:
        return line
    # `env`, not an assignment: csh has another syntax for that.
    return f'env PATH={shlex.quote(":".join(path))}:"$PATH" {line}'


def shown(errors: bytes) -> str:
    """The end of what a command said, without what could move a terminal's cursor."""
    text = errors.decode("utf-8", "replace").strip()[-SHOWN_MAX:]
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def failure(program: str, status: int, host: str, errors: bytes) -> str:
    """What is said of a command that ended with a status other than 0."""
    told = shown(errors) or "it said nothing on standard error"
    return f"{program} ended with status {status} on {host}: {told}"
