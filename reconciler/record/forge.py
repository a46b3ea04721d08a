"""The forge: whom it says it runs for, and the command that opens a pull request: of the person's choice, run as words
and never by a shell."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reconciler.model.problems import clip

TIMEOUT_S: Final = 120.0
_FIELD: Final = re.compile(r"\{(branch|title|body)\}")


_PERSON: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(\[bot\])?")


def claimed(environment: Mapping[str, str]) -> str:
    """Whom a forge's pipeline says that it runs for, as ` (for ada by GitHub)`; empty elsewhere. Those are words of the
    environment: whoever may set it may claim to be anybody."""
    for forge, running, names in (
        ("GitHub", "GITHUB_ACTIONS", ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR")),
        ("GitLab", "GITLAB_CI", ("GITLAB_USER_LOGIN",)),
    ):
        person = next((environment[name] for name in names if environment.get(name)), "")
        if environment.get(running) == "true" and _PERSON.fullmatch(person):
            return f" (for {person} by {forge})"
    return ""


class NotOpened(Exception):
    """The command did not open a pull request."""


def words_of(command: str) -> tuple[str, ...]:
    """A command line as words, quotes as a shell has them.

    Raises:
        ValueError: a quote is not closed, or there is no word.
    """
    words = tuple(shlex.split(command))
    if not words:
        raise ValueError("no command")
    return words


def filled(words: Sequence[str], branch: str, title: str, body: str) -> list[str]:
    """The words with `{branch}`, `{title}` and `{body}`, the path of a file, in place; each stays within its word."""
    fields = {"branch": branch, "title": title, "body": body}
    return [_FIELD.sub(lambda found: fields[found[1]], word) for word in words]


def open_with(words: Sequence[str], root: Path, branch: str, title: str, text: str) -> str:
    """Run the command in the repository's folder; what it printed.

    Raises:
        NotOpened: it ended with another status than 0, too late, or there is no such command.
    """
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.md"
        body.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(  # the operator's own command
                filled(words, branch, title, str(body)),
                cwd=root,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise NotOpened(f"{words[0]} did not end within {TIMEOUT_S:.0f} s") from late
        except OSError as error:
            raise NotOpened(f"{words[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        said = clip(" ".join(done.stderr.decode("utf-8", "replace").split()), 300)
        raise NotOpened(f"{words[0]} ended with {done.returncode}: {said}")
    return clip(" ".join(done.stdout.decode("utf-8", "replace").split()), 300)
