"""The record kept while a campaign is applied: written after each pass that saw something new, shared when it can be.

Nothing here stops a pass. What could not be written or pushed is told, with what to do, and tried again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from reconciler.model.faults import Fault
from reconciler.model.message import Message
from reconciler.planner import facts
from reconciler.record.branch import FILE_BYTES_MAX, NAME, PATH, Branch
from reconciler.record.git import GitFailed
from reconciler.record.remote import NotShared, Remote, remote_of

AGAIN_S: Final = 30.0
"""After a remote did not take the record; doubled each time."""
AGAIN_S_MAX: Final = 900.0


class Recorder:
    """Keeps the record of one campaign in one workspace."""

    def __init__(
        self, root: Path, place: str, clock: Callable[[], float] = time.monotonic, *, shared: bool = True
    ) -> None:
        self.place = place
        self._shared = shared
        self._clock = clock
        self._branch: Branch | None = None
        self._remote: Remote | None = None
        self._quiet_until, self._pause = 0.0, AGAIN_S
        self._untold: list[Message] = []
        try:
            self._open(root)
        except GitFailed as failed:
            self._untold.append(_unwritten(failed))

    def _open(self, root: Path) -> None:
        branch = Branch(root)
        name = remote_of(branch.git, shared=self._shared)
        self._remote = Remote(branch, name) if name is not None else None
        self._branch = branch
        if branch.tip() is None and self._remote is not None:
            # A fresh clone, as a runner has it: what is on record already is not written again.
            known = branch.tip(f"refs/remotes/{name}/{NAME}")
            try:
                theirs = known or self._remote.fetch()
            except NotShared as not_shared:
                self._defer(not_shared)
                return
            if theirs is not None:
                branch.merge(theirs, facts.chosen)

    def paths(self) -> Collection[str]:
        """What is on record."""
        try:
            tip = self._branch.tip() if self._branch is not None else None
            return self._branch.tree(tip).files if self._branch is not None and tip is not None else ()
        except GitFailed:
            return ()

    def otherwise(self, files: Mapping[str, str]) -> Mapping[str, bytes]:
        """What is on record at the paths of these files, where that is another text."""
        try:
            tip = self._branch.tip() if self._branch is not None else None
            if self._branch is None or tip is None:
                return {}
            return self._branch.otherwise(self._branch.tree(tip), _encoded(files))
        except GitFailed:
            return {}

    def keep(self, files: Mapping[str, str]) -> tuple[Message, ...]:
        """Put files on record and share them; returns what a person should know, each thing once."""
        if self._branch is not None:
            try:
                self._branch.put(_encoded(files), facts.chosen, facts.told)
            except GitFailed as failed:
                self._untold.append(_unwritten(failed))
            else:
                self.share()
        told, self._untold = tuple(self._untold), []
        return told

    def share(self, *, now: bool = False) -> None:
        """Push what is not pushed yet; `now` also soon after the remote has failed."""
        if self._remote is None or (self._clock() < self._quiet_until and not now):
            return
        try:
            if self._remote.behind():
                self._remote.share(facts.chosen)
            self._pause = AGAIN_S
        except NotShared as not_shared:
            self._defer(not_shared)
        except GitFailed as failed:
            self._untold.append(_unwritten(failed))

    def close(self) -> tuple[Message, ...]:
        """Push what is left; returns what a person should know."""
        if self._quiet_until:
            self.share(now=True)
        told, self._untold = tuple(self._untold), []
        return told

    def _defer(self, not_shared: NotShared) -> None:
        self._quiet_until = self._clock() + self._pause
        self._pause = min(AGAIN_S_MAX, self._pause * 2)
        told = f"{not_shared}. It is on this machine, and is pushed with the next; by hand: {not_shared.fix}"
        self._untold.append(Message(Fault.RECORD_NOT_KEPT, told))


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    """What the record takes. One file that it does not must not keep the others from it: an odd path of a manifest, a
    list that is longer than any."""
    texts = {path: facts.encoded(text) for path, text in files.items() if PATH.fullmatch(path)}
    return {path: text for path, text in texts.items() if len(text) <= FILE_BYTES_MAX}


def _unwritten(failed: GitFailed) -> Message:
    told = f"what happened could not be put on record ({NAME}): {failed}; the next pass tries again from the evidence"
    return Message(Fault.RECORD_NOT_KEPT, told)
