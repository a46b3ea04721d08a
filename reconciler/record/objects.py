"""git's objects: what lies in the tree of a commit, and the contents of many objects by one process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.record.git import Git

FILE: Final = "100644"
PROGRAM: Final = "100755"


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry below a tree, whatever folder it is in."""

    mode: str
    name: str
    """Of the object."""
    size_bytes: int
    path: str


def listed(git: Git, commit: str, paths: Sequence[str] = ()) -> Iterator[Listed]:
    """Everything in the tree of a commit, or what lies below some paths; links and submodules too.

    Raises:
        GitFailed: the commit is not here, or the clone is a partial one that lacks what lies there.
    """
    told = git.text("ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", *paths)
    for line in filter(None, told.split("\0")):
        about, _, path = line.partition("\t")
        mode, _, name, size = about.split()
        yield Listed(mode, name, int(size) if size.isdecimal() else 0, path)


def blob_name(text: bytes, hashed: str) -> str:
    """The name that git gives a file with this content, in a repository of `sha1` or `sha256`."""
    return hashlib.new(hashed, b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()


def hash_of(name: str) -> str:
    """By what an object was named: `sha1` or `sha256`."""
    return "sha1" if len(name) == 40 else "sha256"


def contents(git: Git, names: Iterable[str]) -> Iterator[tuple[str, bytes] | None]:
    """(kind, content) of each object in turn; None for one that is not here."""
    asked = list(names)
    answer = git.run("cat-file", "--batch", "--buffer", stdin="".join(f"{name}\n" for name in asked).encode())
    at = 0
    for _ in asked:
        end = answer.index(b"\n", at)
        words = answer[at:end].split()
        at = end + 1
        if len(words) != 3:
            yield None
            continue
        size = int(words[2])
        yield words[1].decode("ascii"), answer[at : at + size]
        at += size + 1
