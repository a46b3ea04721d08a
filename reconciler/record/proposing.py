"""Branches that each hold one proposed edit: made once for one state of the verdicts, pushed, let go when overtaken.

Beside the branch a mark is kept, a ref that no clone checks out and no forge shows. It says that this was proposed,
also after somebody has closed it, and which commit was made for it: a branch that is anywhere else is a person's by
now, and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from reconciler.record import written
from reconciler.record.git import Git, GitFailed
from reconciler.record.objects import FILE, PROGRAM, contents, listed
from reconciler.record.remote import PUSH, QUIET_FETCH, REMOTE_TIMEOUT_S, remote_of, said, speaking

HEADS: Final = "refs/heads/"
MARKS: Final = "refs/reconcile/proposed/"
TRAILER: Final = "Reconcile-Stage: "


class Came(StrEnum):
    """What came of a proposal."""

    MADE = "made"
    """Just now, and pushed where there is a remote: who reviews is to be told."""
    WAITS = "waits"
    """It was made before."""
    CLOSED = "closed"
    """It was made before, and somebody has taken the branch away: it is not made again."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One file of a commit, edited."""

    branch: str
    commit: str
    path: str
    """In the repository."""
    edited: Callable[[bytes], bytes]
    message: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A proposal's branch and its mark, here and on the remote; the commits that they name."""

    here: str = ""
    marked: str = ""
    there: str = ""
    marked_there: str = ""


class NotPushed(Exception):
    """A proposal is on this machine and not on the remote."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Branches:
    """The proposals of one repository, below one prefix of branches."""

    def __init__(self, root: Path, prefix: str, *, shared: bool = True) -> None:
        self._git = Git(root)
        self._prefix = prefix
        self.remote = remote_of(self._git, shared=shared)

    def waiting(self) -> frozenset[str]:
        """Branches of proposals that are here, or were on a remote when it was last asked. Asks nobody."""
        told = self._git.text("for-each-ref", "--format=%(refname)", HEADS + self._prefix, "refs/remotes").splitlines()
        found = (self._prefix + ref.partition(f"/{self._prefix}")[2] for ref in told if f"/{self._prefix}" in ref)
        return frozenset(found)

    def ask(self) -> dict[str, Kept]:
        """Every proposal that is or was, here and on the remote.

        Raises:
            NotPushed: the remote cannot be asked; `known` has what is here.
        """
        found = self.known()
        if self.remote is None:
            return found
        wanted = (f"{HEADS}{self._prefix}*", f"{MARKS}{self._prefix}*")
        try:
            told = speaking(self._git).run("ls-remote", "--", self.remote, *wanted, timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            raise NotPushed(f"{self.remote} cannot be asked what is proposed: {said(failed)}", "") from failed
        lines = (line.partition("\t") for line in told.decode("utf-8", "replace").splitlines())
        there = {ref: commit for commit, _, ref in lines}
        names = {*found, *(_branch(ref) for ref in there)}
        return {
            name: Kept(
                found.get(name, Kept()).here,
                found.get(name, Kept()).marked,
                there.get(HEADS + name, ""),
                there.get(MARKS + name, ""),
            )
            for name in names
        }

    def known(self) -> dict[str, Kept]:
        """Every proposal that is or was in this clone."""
        refs = (f"{HEADS}{self._prefix}", f"{MARKS}{self._prefix}")
        told = self._git.text("for-each-ref", "--format=%(refname) %(objectname)", *refs)
        here = dict(line.split(" ", 1) for line in told.splitlines())
        names = {_branch(ref) for ref in here}
        return {name: Kept(here.get(HEADS + name, ""), here.get(MARKS + name, "")) for name in names}

    def propose(self, edit: Edit, kept: Kept) -> Came:
        """Make the branch with the edit as its one commit and push it, unless that was done before.

        Raises:
            NotPushed: it is made, and not on the remote.
            GitFailed: git cannot write here, or does not have the file.
        """
        if kept.there:
            return Came.WAITS
        if kept.marked_there or (kept.marked and not kept.here):
            return Came.CLOSED
        if kept.here and (self.remote is None or kept.here != kept.marked):
            return Came.WAITS
        commit = kept.here or self._made(edit)
        return Came.MADE if self.remote is None else self._pushed(self.remote, edit.branch, commit)

    def _made(self, edit: Edit) -> str:
        found = next((e for e in listed(self._git, edit.commit, [edit.path]) if e.path == edit.path), None)
        if found is None or found.mode not in (FILE, PROGRAM):
            raise GitFailed(f"{edit.path} is no file of the commit {edit.commit[:9]}")
        (content,) = contents(self._git, [found.name])
        if content is None:
            raise GitFailed(f"this clone does not have {edit.path} of {edit.commit[:9]}")
        (blob,) = written.blobs(self._git, [edit.edited(content[1])])
        tree = written.tree(self._git, edit.commit, {edit.path: (found.mode, blob)})
        commit = written.commit(self._git, tree, [edit.commit], edit.message)
        made = f"create {HEADS}{edit.branch} {commit}\ncreate {MARKS}{edit.branch} {commit}\n"
        self._git.run("update-ref", "-m", "reconcile", "--stdin", stdin=f"start\n{made}commit\n".encode())
        return commit

    def _pushed(self, remote: str, branch: str, commit: str) -> Came:
        git = speaking(self._git)
        try:
            git.run(*PUSH, "--", remote, f"{commit}:{HEADS}{branch}", timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            if b"[rejected]" in failed.printed:  # somebody who saw the same was first
                self._let_go(branch, commit)
                return Came.WAITS
            message = f"{branch} could not be pushed to {remote}: {said(failed)}"
            raise NotPushed(message, f"git push {remote} {HEADS}{branch}") from failed
        try:
            git.run(*PUSH, "--", remote, f"{commit}:{MARKS}{branch}", timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed:
            return Came.MADE  # a forge that takes no such refs: this clone remembers by itself
        return Came.MADE

    # --- overtaken

    def stage_of(self, branch: str, kept: Kept, applied: str) -> str | None:
        """`campaign/stage` that a proposal is of, if it was made of a commit from which what is applied has moved on.

        None also where that cannot be told, as in a clone that does not go back so far.
        """
        commit = kept.marked or kept.marked_there
        if not commit or commit not in (kept.here, kept.there):
            return None
        (found,) = contents(self._git, [commit])
        if found is None and kept.there == commit and self.remote is not None:
            tracking = f"+{HEADS}{branch}:refs/remotes/{self.remote}/{branch}"
            speaking(self._git).run(*QUIET_FETCH, "--", self.remote, tracking, timeout_s=REMOTE_TIMEOUT_S)
            (found,) = contents(self._git, [commit])
        head, _, message = found[1].decode("utf-8", "replace").partition("\n\n") if found is not None else ("", "", "")
        parents = [line[7:] for line in head.splitlines() if line.startswith("parent ")]
        stage = next((line.removeprefix(TRAILER) for line in message.splitlines() if line.startswith(TRAILER)), None)
        if len(parents) != 1 or parents[0] == applied:
            return None
        try:
            self._git.run("merge-base", "--is-ancestor", parents[0], applied)
        except GitFailed:
            return None
        return stage

    def withdraw(self, branch: str, kept: Kept) -> bool:
        """Take a proposal's branch away, here and there, where it still is the commit that was made for it; the mark
        stays. Whether there was anything to take away.

        Raises:
            NotPushed: it is still on the remote.
        """
        commit = kept.marked or kept.marked_there
        gone = kept.here == commit and not self._checked_out(branch)
        if gone:
            self._git.run("update-ref", "-d", HEADS + branch, commit)
        if kept.there != commit or self.remote is None:
            return gone
        only_if = f"--force-with-lease={HEADS}{branch}:{commit}"
        try:
            words = (*PUSH, only_if, "--", self.remote, f":{HEADS}{branch}")
            speaking(self._git).run(*words, timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            if b"[rejected]" in failed.printed:
                return gone  # it has moved meanwhile
            message = f"{branch} is overtaken and could not be taken away: {said(failed)}"
            raise NotPushed(message, f"git push {self.remote} --delete {branch}") from failed
        return True

    def _let_go(self, branch: str, commit: str) -> None:
        """Forget what was made here for a branch that somebody else has made too."""
        for ref in (HEADS + branch, MARKS + branch):
            self._git.run("update-ref", "-d", ref, commit)

    def _checked_out(self, branch: str) -> bool:
        return f"branch {HEADS}{branch}" in self._git.text("worktree", "list", "--porcelain").splitlines()

    @property
    def url(self) -> str:
        """Where the remote is; empty for none."""
        try:
            name = f"remote.{self.remote}.url"
            return self._git.text("config", "--get", name).strip() if self.remote is not None else ""
        except GitFailed:
            return ""


def _branch(ref: str) -> str:
    return ref.removeprefix(HEADS).removeprefix(MARKS)
