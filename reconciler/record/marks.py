"""Marks: small texts on refs of their own that all who apply agree on, each moved only from where it was found.

A mark is a file in a commit whose parent is the mark before it. It is pushed without force, so the remote takes it only
from who has seen the newest one; that is what makes a claim to a notice one's own. No clone fetches these by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.record import written
from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import FILE, contents, listed
from reconciler.record.remote import PUSH, QUIET_FETCH, REMOTE_TIMEOUT_S, remote_of, said, speaking, was_first

TOLD: Final = "refs/reconcile/told/"
THERE: Final = "refs/reconcile/told-there/"
"""As the remote had them when it was last asked."""
TEXT: Final = "told.json"
BYTES_MAX: Final = 8 * 1024 * 1024


class NotShared(Exception):
    """A mark is on this machine and not on the remote."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a mark is."""

    commit: str = ""
    """The newest; empty for none."""
    texts: tuple[str, ...] = ()
    """Its text; two where this clone and the remote grew apart."""


class Marks:
    """The marks of one campaign in one workspace."""

    def __init__(self, root: Path, name: str, *, shared: bool = True) -> None:
        self._git = Git(root)
        self._name = name
        self.remote = remote_of(self._git, shared=shared)

    def ask(self) -> None:
        """Learn where the remote has them.

        Raises:
            NotShared: it does not say.
        """
        if self.remote is None:
            return
        wanted = f"+{TOLD}{self._name}/*:{THERE}{self._name}/*"
        try:
            speaking(self._git).run(
                *QUIET_FETCH, "--no-auto-maintenance", "--prune", "--", self.remote, wanted, timeout_s=REMOTE_TIMEOUT_S
            )
        except GitFailed as failed:
            raise NotShared(f"{self.remote} cannot be asked what was told: {said(failed)}") from failed

    def read(self, channel: str) -> At:
        """The newest mark that is known here."""
        here, there = self._tip(TOLD, channel), self._tip(THERE, channel)
        if not there or here == there or (here and self._contains(here, there)):
            return At(here, self._texts(here))
        if not here or self._contains(there, here):
            return At(there, self._texts(there))
        return At(there, (*self._texts(there), *self._texts(here)))

    def move(self, channel: str, before: At, text: str, message: str) -> At | None:
        """Put a mark in the place of another, here and on the remote; None if somebody else has moved it.

        Raises:
            NotShared: it was moved here, and the remote did not take it.
            GitFailed: git cannot write here.
        """
        here = self._tip(TOLD, channel)
        (blob,) = written.blobs(self._git, [text.encode()])
        tree = written.tree(self._git, None, {TEXT: (FILE, blob)})
        commit = written.commit(self._git, tree, [before.commit] if before.commit else [], message)
        if self.remote is None:
            return At(commit, (text,)) if self._moved(TOLD, channel, commit, here) else None
        try:
            ref = f"{commit}:{TOLD}{self._name}/{channel}"
            speaking(self._git).run(*PUSH, "--", self.remote, ref, timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            if was_first(failed) or not self._moved(TOLD, channel, commit, here):
                return None
            raise NotShared(f"{self.remote} does not take what was told: {said(failed)}") from failed
        self._moved(THERE, channel, commit, self._tip(THERE, channel))
        self._moved(TOLD, channel, commit, here)
        return At(commit, (text,))

    def _tip(self, where: str, channel: str) -> str:
        ref = f"{where}{self._name}/{channel}"
        return self._git.text("for-each-ref", "--format=%(objectname)", ref).strip()

    def _moved(self, where: str, channel: str, commit: str, before: str) -> bool:
        """Move a ref here, if it is where it was found."""
        ref = f"{where}{self._name}/{channel}"
        try:
            self._git.run("update-ref", ref, commit, before or "0" * len(commit))
        except GitFailed:
            return self._tip(where, channel) == commit
        return True

    def _contains(self, commit: str, other: str) -> bool:
        try:
            self._git.run("merge-base", "--is-ancestor", other, commit)
        except GitFailed:
            return False
        return True

    def _texts(self, commit: str) -> tuple[str, ...]:
        """The text of a mark; none for what is none."""
        if not commit:
            return ()
        try:
            found = next(listed(self._git, commit, [TEXT]), None)
            if found is None or found.mode != FILE or found.size_bytes > BYTES_MAX:
                return ()
            (content,) = contents(self._git, [found.name])
        except GitFailed:
            return ()  # a mark that a person has moved to something else
        return (content[1].decode("utf-8", "replace"),) if content is not None else ()
