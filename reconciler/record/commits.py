"""Who wrote a commit, and the files that lie in one: read from git's objects, with nothing checked out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from reconciler.record.git import Git, GitFailed

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
    answer = git.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in asked).encode())
    return dict(_commits(answer, asked))


def _commits(answer: bytes, asked: list[str]) -> Iterator[tuple[str, Commit]]:
    at = 0
    for name in asked:
        end = answer.index(b"\n", at)
        words = answer[at:end].split()
        at = end + 1
        if len(words) != 3:
            continue  # missing
        size = int(words[2])
        if words[1] == b"commit" and size <= COMMIT_BYTES_MAX:
            yield name, _read(answer[at : at + size].decode("utf-8", "replace"))
        at += size + 1


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
    listed = git.text("ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", *asked)
    found: list[tuple[str, str]] = []
    total = 0
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        mode, _, blob, size = about.split()
        hidden = any(part.startswith(".") for part in PurePosixPath(path).parts)
        if mode in ("100644", "100755") and path.endswith(suffixes) and not hidden:
            total += int(size)
            found.append((path, blob))
    if len(found) > FILES_MAX or total > TOTAL_BYTES_MAX:
        raise GitFailed(
            f"there are more than {FILES_MAX} files or {TOTAL_BYTES_MAX // 10**6} MB below {', '.join(asked)}"
        )
    answer = git.run("cat-file", "--batch", stdin="".join(f"{blob}\n" for _, blob in found).encode())
    return list(zip((path for path, _ in found), _blobs(answer, len(found)), strict=True))


def _blobs(answer: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        end = answer.index(b"\n", at)
        words = answer[at:end].split()
        if len(words) != 3:
            raise GitFailed("this clone does not have all files of that commit")
        yield answer[end + 1 : end + 1 + int(words[2])]
        at = end + int(words[2]) + 2
