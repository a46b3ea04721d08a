"""What a report needs of git to link to: where the remote is, and which commits it has as far as this clone knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reconciler.record.ancestry import held
from reconciler.record.git import Git, GitFailed
from reconciler.record.remote import remote_of


def remote_url(root: Path) -> tuple[str, str]:
    """(name, URL) of the remote that the record is pushed to; empty without one. The URL may hold a password."""
    git = Git(root)
    try:
        name = remote_of(git)
        return (name, git.text("config", "--get", f"remote.{name}.url").strip()) if name else ("", "")
    except GitFailed:
        return "", ""


def shared(root: Path, remote: str, commits: Iterable[str]) -> frozenset[str]:
    """Those of these commits that a branch of the remote holds, as far as this clone knows; none where git cannot tell.

    What the cluster calls a commit may be any text: only a commit's name is one.
    """
    try:
        return held(Git(root), commits, remote)
    except GitFailed:
        return frozenset()
