"""The record shared: pushed to the repository's remote, and put together with what others pushed. Never forced.

This speaks to the remote as the person's own `git push` does, with their ssh, keys and credentials, and is for `apply`
alone; what only looks takes the record as it was last fetched.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from reconciler.model.problems import clip
from reconciler.record.branch import NAME, REF, Branch, Chosen
from reconciler.record.git import Git, GitFailed

SETTING: Final = "reconcile.remote"
"""In git's configuration: the remote that the record is pushed to; empty for none."""
REMOTE_TIMEOUT_S: Final = 60.0
TRIES_MAX: Final = 12
"""Others pushed first, so often in a row."""
PAUSE_S: Final = 0.1
"""After the first of these; each later one is longer by half, and drawn from that at random."""
PUSH: Final = ("push", "--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
"""Never forced, and no program of the repository runs."""
QUIET_FETCH: Final = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
_MOVED: Final = ("[rejected]", "cannot lock ref", "failed to update ref", "incorrect old value")
"""What a push says when somebody else was first."""
_PROTOCOLS: Final = "file:git:http:https:ssh"
_SSH: Final = "ssh -o BatchMode=yes -o ConnectTimeout=15"


class NotShared(Exception):
    """The record is on this machine and not on the remote."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def remote_of(git: Git, *, shared: bool = True) -> str | None:
    """The remote that the record is pushed to: the one that is set, else the one that is pushed to, else that of the
    current branch, else `origin`, else the only one. What is not `shared`, as a try on this machine alone, goes nowhere
    unless one is set."""
    chosen = _setting(git, SETTING)
    if chosen is not None or not shared:
        return chosen or None
    known = git.text("remote").split()
    try:
        current = git.text("symbolic-ref", "--quiet", "--short", "HEAD").strip()
    except GitFailed:
        current = ""  # a detached HEAD, as runners have it
    asked = [_setting(git, "remote.pushDefault"), _setting(git, f"branch.{current}.remote"), "origin"]
    found = next((name for name in asked if name in known), None)
    return found or (known[0] if len(known) == 1 else None)


def pulled_from(git: Git, branch: str) -> str | None:
    """The remote whose branch of this name counts: the one that it is pulled from, else `origin`, else the only one.
    Never the one that is merely pushed to, which may be a person's own copy."""
    known = git.text("remote").split()
    found = next((name for name in (_setting(git, f"branch.{branch}.remote"), "origin") if name in known), None)
    return found or (known[0] if len(known) == 1 else None)


def _setting(git: Git, name: str) -> str | None:
    try:
        return git.text("config", "--get", name).removesuffix("\n")
    except GitFailed as failed:
        if failed.status == 1:
            return None
        raise


class Remote:
    """One remote's copy of the branch."""

    def __init__(self, branch: Branch, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._branch, self._sleep = branch, sleep
        self._tracking = f"refs/remotes/{name}/{NAME}"
        self._git = speaking(branch.git)

    def fetch(self) -> str | None:
        """Where the remote has the branch; None if it has none.

        Raises:
            NotShared: the remote cannot be reached.
        """
        words = (*QUIET_FETCH, "--no-auto-maintenance", "--", self.name, f"+{REF}:{self._tracking}")
        try:
            # Ours is only where the remote's was last seen, so it may go back with it.
            self._git.run(*words, timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            if "couldn't find remote ref" in str(failed):
                return None
            raise self._not_shared("fetch", failed) from failed
        return self._branch.tip(self._tracking)

    def behind(self) -> bool:
        """Whether the branch here has what the remote, as far as is known, does not."""
        return self._branch.tip() not in (None, self._branch.tip(self._tracking))

    def share(self, chosen: Chosen) -> None:
        """Push the branch; where others were first, put theirs and ours together and push that.

        Raises:
            NotShared: it could not be pushed. Nothing is lost, it is on this machine.
        """
        for turn in range(TRIES_MAX):
            failed = self._push()
            if failed is None:
                return
            if not was_first(failed):
                raise self._not_shared("push", failed)
            theirs = self.fetch()
            if theirs is not None:
                self._branch.merge(theirs, chosen)
            self._sleep(random.uniform(0, PAUSE_S * 1.5**turn))  # noqa: S311
        raise self._not_shared("push", f"others pushed first {TRIES_MAX} times in a row")

    def _push(self) -> GitFailed | None:
        """Push once; what git has against it, or None."""
        try:
            self._git.run(*PUSH, "--", self.name, f"{REF}:{REF}", timeout_s=REMOTE_TIMEOUT_S)
        except GitFailed as failed:
            return failed
        return None

    def _not_shared(self, what: str, failed: GitFailed | str) -> NotShared:
        fix = f"git {what} {self.name} {REF}" if what == "push" else f"git fetch {self.name}"
        reason = failed if isinstance(failed, str) else said(failed)
        return NotShared(
            f"the record could not be {what}ed {'to' if what == 'push' else 'from'} {self.name}: {reason}", fix
        )


def _against(failed: GitFailed) -> str:
    lines = failed.printed.decode("utf-8", "replace").splitlines()
    return " ".join([*(line for line in lines if line.startswith("!")), str(failed)])


def was_first(failed: GitFailed) -> bool:
    """Whether a push was refused because somebody else has moved what was pushed to."""
    return any(word in _against(failed) for word in _MOVED)


def said(failed: GitFailed) -> str:
    """What git and the remote said of a push or fetch, in a line."""
    return clip(" ".join(_against(failed).replace("remote: ", "").split()), 300).rstrip(".")


def speaking(git: Git) -> Git:
    """git that may reach a remote, and asks nobody anything."""
    variables = {"GIT_ALLOW_PROTOCOL": _PROTOCOLS}
    if (
        not any(name in os.environ for name in ("GIT_SSH_COMMAND", "GIT_SSH"))
        and _setting(git, "core.sshCommand") is None
    ):
        variables["GIT_SSH_COMMAND"] = _SSH
    return replace(git, environment={**git.environment, **variables})
