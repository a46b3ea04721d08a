"""Commits that something was applied at and that are not in a history: rewritten, never merged, or squashed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from reconciler.model.authority import Strayed
from reconciler.record.commits import is_shallow
from reconciler.record.files import SUFFIXES
from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import FILE, PROGRAM, blob_name, hash_of, listed

COMMITS_MAX: Final = 1000
"""Of a campaign's jobs; further ones are not looked at."""
STRAYED_MAX: Final = 50
"""Each costs a few commands; it is one notice a stage, however many they are."""
COMMITS_COMPARED_MAX: Final = 500
"""Of the history, the newest first: their manifests are compared with those that were applied."""
FILES_COMPARED_MAX: Final = 20_000
"""Of all of these together."""
_NAME: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

Kept = Callable[[str], Mapping[str, bytes]]
"""Commit → path → text, of the manifests that were applied at it, as the record has them; nothing if it has not."""


def strayed(git: Git, head: str, commits: Iterable[str], folders: Sequence[str], kept: Kept) -> dict[str, Strayed]:
    """Those of some commits that are not in the history of `head`; `folders` hold the manifests.

    One command where all are, as they nearly always are.

    Raises:
        GitFailed: git cannot tell.
    """
    folders = [folder for folder in folders if folder not in ("", ".")]
    asked = [name for name in sorted(set(commits))[:COMMITS_MAX] if _NAME.fullmatch(name) and name != head]
    if not asked or not head:
        return {}
    here = _here(git, asked)
    beyond = outside(git, here, head)
    out = [name for name in asked if name in beyond or name not in here][:STRAYED_MAX]
    if not out:
        return {}
    shallow = is_shallow(git)
    found = {}
    for name in out:
        again = _again(git, head, folders, _changed(git, head, name, folders)) if name in here and not shallow else ""
        texts = {} if again else kept(name)  # the record is read last: it may be long
        if texts and name not in here and not shallow:
            again = _again(git, head, folders, _named(name, texts))
        found[name] = Strayed(name in here, not shallow, again, bool(texts))
    return found


def held(git: Git, commits: Iterable[str], remote: str) -> frozenset[str]:
    """Those of some commits that a branch of the remote holds, as it was last fetched or pushed; texts that are no
    commit's name may be among them.

    Raises:
        GitFailed: git cannot tell.
    """
    asked = [name for name in dict.fromkeys(commits) if _NAME.fullmatch(name)][:COMMITS_MAX]
    here = _here(git, asked) if asked else set()
    return frozenset(here - outside(git, here, f"--remotes={remote}")) if here else frozenset()


def outside(git: Git, commits: Iterable[str], history: str) -> set[str]:
    """Those of some commits that are not in a history (a revision, or `--remotes=NAME`), by one command; what else lies
    between is among them."""
    # A commit that is reachable, and not from there, is one.
    return set(git.text("rev-list", "--stdin", "--not", history, stdin=_lines(commits)).split())


def _here(git: Git, names: Sequence[str]) -> set[str]:
    told = git.text("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=_lines(names)).splitlines()
    return {line.split()[0] for line in told if line.endswith(" commit")}


def _changed(git: Git, head: str, commit: str, folders: Sequence[str]) -> dict[str, str]:
    """Path → git's name for the content, of the manifests that were changed from where a commit left the history of
    `head`; an empty name for one that was taken away. What others changed meanwhile is another matter."""
    there = {each.path: each.name for each in listed(git, commit, folders) if each.mode in (FILE, PROGRAM)}
    try:
        base = git.text("merge-base", head, commit).strip()
        differ = git.text("diff-tree", "-r", "-z", "--no-renames", "--name-only", base, commit, "--", *folders)
    except GitFailed as failed:
        if failed.status != 1:
            raise
        differ = "\0".join(there)  # they have nothing in common
    return {path: there.get(path, "") for path in differ.split("\0") if path.endswith(SUFFIXES)}


def _named(commit: str, texts: Mapping[str, bytes]) -> dict[str, str]:
    """The same, of texts, in a repository that has commits with such names."""
    return {path: blob_name(text, hash_of(commit)) for path, text in texts.items()}


def _again(git: Git, head: str, folders: Sequence[str], held: Mapping[str, str]) -> str:
    """The newest commit of the history whose manifests are these: what a squash or a rebase made of the commit."""
    if any("\n" in path for path in held):
        return ""
    most = max(1, min(COMMITS_COMPARED_MAX, FILES_COMPARED_MAX // max(1, len(held))))
    history = git.text("rev-list", f"--max-count={most}", head, "--", *folders).split()
    asked = [f"{commit}:{path}" for commit in history for path in held]
    told = git.text("cat-file", "--batch-check=%(objectname)", stdin=_lines(asked)).splitlines()
    names = ["" if line.endswith(" missing") else line for line in told]
    wanted = list(held.values())
    for number, commit in enumerate(history):
        if names[number * len(wanted) : (number + 1) * len(wanted)] == wanted:
            return commit
    return ""


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8", "surrogateescape")
