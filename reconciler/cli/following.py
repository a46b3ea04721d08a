"""What follows each pass of `apply`: the record, then proposals, then notices. None of them stops a pass."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler import loop
from reconciler.cli.keeping import Keeper
from reconciler.cli.notifying import Notifying
from reconciler.cli.opening import Opened
from reconciler.cli.proposing import Proposing


class Following:
    """Follows the passes of one command."""

    def __init__(self, opened: Opened, proposing: Proposing, notifying: Notifying) -> None:
        self._keeper = Keeper(opened)
        self._proposing, self._notifying = proposing, notifying

    def wanted(self) -> Iterable[str]:
        """Paths on the cluster of files that a look is to bring along."""
        return self._keeper.wanted()

    def follow(self, done: loop.Pass) -> None:
        """Take account of a pass."""
        apart = self._keeper.keep(done)
        self._proposing.follow(done.look)
        self._notifying.follow(done.look, apart)

    def stopped(self, seen: loop.Look) -> None:
        """Something else is wanted than was applied, and only that may go on."""
        self._notifying.follow(seen)

    def close(self, *, share: bool = True) -> None:
        """Share what is not shared yet; not where somebody waits for the program to end."""
        self._keeper.close(share=share)
