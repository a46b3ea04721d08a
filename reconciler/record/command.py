"""A command of the person's choice, run as words and never by a shell: it opens a pull request, or takes a notice.

Nothing in a repository can set one; whoever applies gives it.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from reconciler.model.problems import clip

PRINTED_BYTES_MAX: Final = 4096
"""Of what a command prints, read back."""
_FIELD: Final = re.compile(r"\{([a-z]+)\}")


class CommandFailed(Exception):
    """The command did not do it."""


def words_of(command: str) -> tuple[str, ...]:
    """A command line as words, quotes as a shell has them.

    Raises:
        ValueError: a quote is not closed, or there is no word.
    """
    words = tuple(shlex.split(command))
    if not words:
        raise ValueError("no command")
    return words


def filled(words: Sequence[str], fields: Mapping[str, str]) -> list[str]:
    """The words with each `{field}` in place, which stays within its word; other braces are left as they are."""
    return [_FIELD.sub(lambda found: fields.get(found[1], found[0]), word) for word in words]


def run(
    words: Sequence[str], root: Path, timeout_s: float, *, stdin: bytes = b"", environment: Mapping[str, str] = {}
) -> str:
    """Run a command in the repository's folder, with these variables beside those that are set; what it printed.

    Raises:
        CommandFailed: it ended with another status than 0, too late, or there is no such command.
    """
    # Files, not pipes: what the command leaves behind cannot hold one open, and what it prints has no end in memory.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        try:
            started = subprocess.Popen(  # the operator's own command
                words,
                cwd=root,
                env={**os.environ, **environment},
                stdin=given,
                stdout=printed,
                stderr=errors,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CommandFailed(f"{words[0]} cannot be run: {clip(why, 200)}") from error
        try:
            status = started.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise CommandFailed(f"{words[0]} did not end within {timeout_s:.0f} s") from late
        finally:
            _end(started)
        if status != 0:
            raise CommandFailed(f"{words[0]} ended with {status}: {_begin(errors)}")
        return _begin(printed)


def _end(started: subprocess.Popen[bytes]) -> None:
    """Whatever is left of a command that did not end by itself."""
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _begin(file: IO[bytes]) -> str:
    """The beginning of what was written, in a line."""
    file.seek(0)
    return clip(" ".join(file.read(PRINTED_BYTES_MAX).decode("utf-8", "replace").split()), 300)
