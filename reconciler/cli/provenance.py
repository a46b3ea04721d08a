"""Where a plan's commit comes from: what approval it has, and whether what was applied before is in its history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.cli.telling import fail
from reconciler.domain import loading
from reconciler.model.authority import Authority, Demand, Strayed, Vouched
from reconciler.model.faults import Fault
from reconciler.planner.authority import APPLIED
from reconciler.planner.facts import MANIFESTS
from reconciler.planner.recalled import Recalled
from reconciler.record.ancestry import strayed
from reconciler.record.files import given_or_nearest
from reconciler.record.git import Git, GitFailed
from reconciler.record.reading import NoRecord, Reading
from reconciler.record.repository import path_within
from reconciler.record.vouching import BadRule, Vouching


class Provenance:
    """Asks git and the record of one repository."""

    def __init__(self, root: Path, paths: Sequence[Path], *, fetching: bool = False) -> None:
        """`fetching`: the remote may be asked."""
        self._root = root
        self._folders = [path_within(root, path) for path in given_or_nearest(paths)]
        self._vouching = Vouching(root, fetching=fetching)
        self._reading: Reading | None = None
        self._record: list[Recalled] | None = None
        self._strayed: tuple[tuple[str, frozenset[str]], Mapping[str, Strayed]] | None = None

    def rules(self, campaign: str, *, first: bool) -> list[tuple[str, Authority]]:
        """(who, in words; what they ask of every commit), of those that no commit can change: whoever applies and,
        where the cluster knows of no apply before, what the record says was applied elsewhere. Exits with a clear
        message when one is nonsense."""
        try:
            return [*self._vouching.rules(), *(self._recorded(campaign) if first else ())]
        except BadRule as bad:
            fail(Fault.RULE_UNREADABLE, str(bad), bad.fix)
        except GitFailed as failed:
            fail(Fault.RULE_UNREADABLE, f"git does not tell its configuration: {failed}")

    def vouched(self, commit: str, asked: Demand) -> Vouched:
        """What git says of a commit."""
        return self._vouching.vouched(commit, asked)

    def strayed(self, head: str, commits: Iterable[str]) -> Mapping[str, Strayed]:
        """Those of some commits that are not in the history of `head`; none where git cannot tell."""
        asked = (head, frozenset(commits))
        if self._strayed is None or self._strayed[0] != asked:
            try:
                found: Mapping[str, Strayed] = strayed(Git(self._root), head, asked[1], self._folders, self._manifests)
            except GitFailed:
                found = {}  # a notice, on which nothing rests
            self._strayed = (asked, found)
        return self._strayed[1]

    def _recorded(self, campaign: str) -> Iterator[tuple[str, Authority]]:
        """The rule of what was last applied of a campaign, in each workspace that is on record."""
        for recalled in self._recalled():
            origins = (done.origin for done in reversed(recalled.done) if done.origin is not None)
            last = next(origins, None) if recalled.campaign == campaign else None
            if last is not None:
                catalog = loading.load(list(self._folder(last.manifests).items())).catalog
                rule = catalog.campaign(campaign).spec.authority if campaign in catalog.campaigns else None
                if rule is not None:
                    yield f"the record of {APPLIED}", rule

    def _manifests(self, commit: str) -> Mapping[str, bytes]:
        """What was applied at a commit, as the record has it."""
        origins = (done.origin for recalled in self._recalled() for done in recalled.done if done.origin is not None)
        found = next((each for each in origins if each.commit == commit and not each.dirty), None)
        return self._folder(found.manifests) if found is not None else {}

    def _folder(self, digest: str) -> Mapping[str, bytes]:
        try:
            return self._reading.folder(MANIFESTS, digest) if self._reading is not None else {}
        except NoRecord:
            return {}

    def _recalled(self) -> Sequence[Recalled]:
        """All that is on record; nothing where that cannot be read."""
        if self._record is None:
            try:
                self._reading = Reading(self._root)
                places = [place for several in self._reading.campaigns().values() for place in several]
                self._record = [self._reading.recalled(place) for place in places]
            except NoRecord:
                self._record = []
        return self._record
