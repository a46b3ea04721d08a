"""What a report needs of git to link to: where the remote is, and which commits it has as far as this clone knows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reconciler.record.git import Git, GitFailed
from reconciler.record.remote import remote_of

COMMITS_MAX: Final = 64
"""Commits that are looked for; a page names few."""
_NAME: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def remote_url(root: Path) -> tuple[str, str]:
    """(name, URL) of the remote that the record is pushed to; empty without one. The URL may hold a password."""
    git = Git(root)
    try:
        name = remote_of(git)
        return (name, git.text("config", "--get", f"remote.{name}.url").strip()) if name else ("", "")
    except GitFailed:
        return "", ""


def shared(root: Path, remote: str, commits: Iterable[str]) -> frozenset[str]:
    """Those of these commits that a branch of the remote holds, as it was last fetched or pushed.

    What the cluster calls a commit may be any text: only a commit's name is one.
    """
    git, found = Git(root), set()
    for commit in [name for name in dict.fromkeys(commits) if _NAME.fullmatch(name)][:COMMITS_MAX]:
        try:
            if git.text(
                "for-each-ref", "--count=1", "--contains", commit, "--format=%(refname)", f"refs/remotes/{remote}/"
            ):
                found.add(commit)
        except GitFailed:
            continue  # a commit that this clone does not have
    return frozenset(found)
