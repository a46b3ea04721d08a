"""The record's branch: files put on it by plumbing, with neither the index nor the working tree of anybody touched.

A tree is made in an index of its own, and the branch is moved only from where it was found, so that of two that write
at once both get their files on. Files are added, or replaced by what says more; two branches that grew apart are put
together file by file, and nothing is left for a person to resolve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.record import written
from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import FILE, blob_name, contents, listed

NAME: Final = "reconcile/record"
REF: Final = f"refs/heads/{NAME}"
FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one file, on writing and on reading: as long as the longest data list."""
ENTRIES_MAX: Final = 1_000_000
TOTAL_BYTES_MAX: Final = 512 * 1024 * 1024
RACES_MAX: Final = 40
"""Somebody else moved the branch first, so often in a row."""
PATH: Final = re.compile(r"(?!\.)[A-Za-z0-9._@+%-]{1,200}(/(?!\.)[A-Za-z0-9._@+%-]{1,200}){0,11}")
"""What a path on the branch looks like; others are of no use to anybody and are not read."""
TREES_KEPT: Final = 4

Chosen = Callable[[str, bytes, bytes], bytes]
"""(path, one text, another) → the one that stays; the same whichever comes first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file at one commit of the branch."""

    blob: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Every file at one commit. What is no plain file of ours is kept where it is, and not read."""

    commit: str
    files: Mapping[str, Entry] = field(default_factory=dict)
    odd: int = 0
    """Entries that are not read: links, paths that lead elsewhere, files that are too large."""


class Branch:
    """The record's branch in one repository."""

    def __init__(self, root: Path) -> None:
        self.git = Git(root)
        self._trees: dict[str, Tree] = {}
        self._hash = self.git.text("rev-parse", "--show-object-format").strip()

    # --- reading

    def tip(self, ref: str = REF) -> str | None:
        """The commit that a ref names; None where there is none."""
        try:
            return self.git.text("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
        except GitFailed as failed:
            if failed.status == 1:
                return None
            raise

    def refs(self) -> dict[str, str]:
        """Every branch of this name, here and as the remotes had it when they were last asked: ref → commit."""
        listed = self.git.text("for-each-ref", "--format=%(refname) %(objectname)", REF, "refs/remotes")
        found = dict(line.split(" ", 1) for line in listed.splitlines())
        return {ref: commit for ref, commit in found.items() if ref == REF or ref.endswith(f"/{NAME}")}

    def tree(self, commit: str) -> Tree:
        """Every file at a commit."""
        if commit not in self._trees:
            if len(self._trees) >= TREES_KEPT:
                self._trees.clear()
            self._trees[commit] = self._listed(commit)
        return self._trees[commit]

    def _listed(self, commit: str) -> Tree:
        files: dict[str, Entry] = {}
        odd = 0
        for found in listed(self.git, commit):
            plain = found.mode == FILE and PATH.fullmatch(found.path) is not None
            if plain and found.size_bytes <= FILE_BYTES_MAX and len(files) < ENTRIES_MAX:
                files[found.path] = Entry(found.name, found.size_bytes)
            else:
                odd += 1
        return Tree(commit, files, odd)

    def texts(self, entries: Mapping[str, Entry]) -> dict[str, bytes]:
        """Path → content, in one process for all of them.

        Raises:
            GitFailed: they are more than anybody has written, or one is not there.
        """
        if sum(entry.size_bytes for entry in entries.values()) > TOTAL_BYTES_MAX:
            raise GitFailed(f"the record holds more than {TOTAL_BYTES_MAX // 2**20} MiB")
        blobs = list(dict.fromkeys(entry.blob for entry in entries.values()))
        content: dict[str, bytes] = {}
        for blob, found in zip(blobs, contents(self.git, blobs), strict=True):
            if found is None:
                raise GitFailed(f"{blob}, a file of the record, is not in this clone")
            content[blob] = found[1]
        return {path: content[entry.blob] for path, entry in entries.items()}

    def contains(self, commit: str, other: str) -> bool:
        """Whether `other` is in the history of `commit`."""
        try:
            self.git.run("merge-base", "--is-ancestor", other, commit)
        except GitFailed as failed:
            if failed.status == 1:
                return False
            raise
        return True

    # --- writing

    def put(self, files: Mapping[str, bytes], chosen: Chosen, told: Callable[[Collection[str]], str]) -> str | None:
        """Put these files on the branch in one commit; None if all of it is there already.

        `chosen` says which of two texts of one path stays: (path, the branch's, the new one). `told` makes the commit's
        message from the paths that are new.

        Raises:
            GitFailed: git cannot write here, such as on a full disk. The branch is as it was.
        """
        for _ in range(RACES_MAX):
            before = self.tip()
            old = self.tree(before) if before is not None else Tree("")
            new = self._news(old, files, chosen)
            if not new:
                return None
            commit = written.commit(self.git, self._written(before, new), [before] if before else [], told(new))
            if self._moved(commit, before):
                return commit
        raise GitFailed(f"{NAME} was moved by others {RACES_MAX} times in a row")

    def merge(self, theirs: str, chosen: Chosen) -> str:
        """Put the branch and another commit of it together; returns where the branch is then.

        What only the one or only the other has is in it, whatever their histories; where all of ours is in theirs the
        branch just moves there.
        """
        for _ in range(RACES_MAX):
            ours = self.tip()
            if ours == theirs or (ours is not None and self.contains(ours, theirs)):
                return ours or theirs
            commit = theirs
            if ours is not None and not self.contains(theirs, ours):
                added = self._union(self.tree(ours), self.tree(theirs), chosen)
                if added:
                    commit = written.commit(
                        self.git,
                        self._tree_of(theirs, added),
                        [ours, theirs],
                        "Put together with what others wrote",
                    )
            if self._moved(commit, ours):
                return commit
        raise GitFailed(f"{NAME} was moved by others {RACES_MAX} times in a row")

    def _news(self, old: Tree, files: Mapping[str, bytes], chosen: Chosen) -> dict[str, bytes]:
        """What of these files the branch does not have, each as it is to be there."""
        there = self.otherwise(old, files)
        new = {path: text for path, text in files.items() if path not in old.files}
        for path, text in there.items():
            kept = chosen(path, text, files[path])
            if kept != text:
                new[path] = kept
        for path, text in new.items():
            if not PATH.fullmatch(path) or len(text) > FILE_BYTES_MAX:
                raise GitFailed(f"{path!r} is no file of the record")
        return new

    def otherwise(self, tree: Tree, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """What a tree has at the paths of these files, where that is another text."""
        known = {path: text for path, text in files.items() if path in tree.files}
        other = [path for path, text in known.items() if blob_name(text, self._hash) != tree.files[path].blob]
        return self.texts({path: tree.files[path] for path in other}) if other else {}

    def _union(self, ours: Tree, theirs: Tree, chosen: Chosen) -> dict[str, str]:
        """Path → blob, of what theirs lack or have in a form that says less."""
        added = {path: entry.blob for path, entry in ours.files.items() if path not in theirs.files}
        both = {p: e for p, e in ours.files.items() if p in theirs.files and theirs.files[p].blob != e.blob}
        if both:
            mine, other = self.texts(both), self.texts({path: theirs.files[path] for path in both})
            added |= {p: e.blob for p, e in both.items() if _agreed(p, mine[p], other[p], chosen) == mine[p]}
        return added

    def _written(self, before: str | None, new: Mapping[str, bytes]) -> str:
        """The tree with these files; their contents are written first."""
        return self._tree_of(before, dict(zip(new, written.blobs(self.git, list(new.values())), strict=True)))

    def _tree_of(self, before: str | None, blobs: Mapping[str, str]) -> str:
        return written.tree(self.git, before, {path: (FILE, blob) for path, blob in blobs.items()})

    def _moved(self, commit: str, before: str | None) -> bool:
        """Move the branch, if it is still where it was found."""
        try:
            self.git.run("update-ref", "-m", "reconcile", REF, commit, before or "0" * len(commit))
        except GitFailed:
            if self.tip() == before:
                raise
            return False
        return True


def _agreed(path: str, one: bytes, other: bytes, chosen: Chosen) -> bytes:
    """The one that stays, whichever of the two is asked about first."""
    first, second = sorted((one, other))
    return chosen(path, first, second)
