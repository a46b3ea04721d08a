"""Who wrote a commit, and the files that lie in one: read from git's objects, with nothing checked out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import FILE, PROGRAM, contents, listed

COMMIT_BYTES_MAX: Final = 1024 * 1024
FILES_MAX: Final = 20_000
TOTAL_BYTES_MAX: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Commit:
    """Who wrote it, when, and what it says it does."""

    author: str
    """`Name <mail>`."""
    authored: str
    """Seconds since the epoch and the zone, as git writes it: `1764266000 +0100`."""
    subject: str


class NoSuchRevision(Exception):
    """What was named is no commit that this clone has."""


def resolved(git: Git, revision: str) -> str:
    """The full name of a commit, from anything that git takes for one.

    Raises:
        NoSuchRevision: there is none of that name here.
    """
    try:
        if revision.startswith("-"):
            raise NoSuchRevision(f"{revision!r} is no commit")
        return git.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except GitFailed as failed:
        raise NoSuchRevision(f"{revision!r} is no commit that this clone has") from failed


def is_shallow(git: Git) -> bool:
    """Whether the clone has only the newest commits."""
    return git.text("rev-parse", "--is-shallow-repository").strip() == "true"


def commits(git: Git, names: Iterable[str]) -> dict[str, Commit]:
    """Name → commit, of those that this clone has; in one process, without what a log may be configured to run."""
    asked = [name for name in dict.fromkeys(names) if name and all(c in "0123456789abcdef" for c in name)]
    if not asked:
        return {}
    found = zip(asked, contents(git, asked), strict=True)
    return {
        name: _read(each[1].decode("utf-8", "replace"))
        for name, each in found
        if each is not None and each[0] == "commit" and len(each[1]) <= COMMIT_BYTES_MAX
    }


def _read(text: str) -> Commit:
    head, _, message = text.partition("\n\n")
    written = next((line[7:] for line in head.splitlines() if line.startswith("author ")), "")
    author, _, authored = written.rpartition("> ")
    return Commit(f"{author}>" if author else "", authored, message.strip().split("\n", 1)[0])


def files_at(git: Git, commit: str, folders: Iterable[str], suffixes: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """(path in the repository, content) of every plain file below these folders at a commit, in order; hidden ones and
    links are left out, as they are in a working tree.

    Raises:
        GitFailed: the commit is not here whole, or these are more than anybody writes.
    """
    asked = [folder for folder in folders if folder not in ("", ".")]
    found = [
        each
        for each in listed(git, commit, asked)
        if each.mode in (FILE, PROGRAM) and each.path.endswith(suffixes) and not _hidden(each.path)
    ]
    if len(found) > FILES_MAX or sum(each.size_bytes for each in found) > TOTAL_BYTES_MAX:
        most = f"{FILES_MAX} files or {TOTAL_BYTES_MAX // 10**6} MB"
        raise GitFailed(f"there are more than {most} below {', '.join(asked)}")
    texts = []
    for each, content in zip(found, contents(git, [each.name for each in found]), strict=True):
        if content is None:
            raise GitFailed(f"this clone does not have {each.path} of that commit")
        texts.append((each.path, content[1]))
    return texts


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)
