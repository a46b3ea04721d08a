"""The record as this clone has it: the branch here and as the remotes had it when they were last asked, put together.

Nothing is fetched and nothing is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from reconciler.model.observed import ListSeen
from reconciler.planner import facts
from reconciler.planner.recalled import Origin, Recalled, places, recall
from reconciler.record.branch import NAME, Branch, Entry, Tree
from reconciler.record.git import GitFailed


class NoRecord(Exception):
    """There is no record here, or it cannot be read."""


class Reading:
    """One reading of the record."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            NoRecord: there is none here.
        """
        try:
            self._branch = Branch(root)
            self.tips = self._newest()
            trees = [self._branch.tree(commit) for commit in self.tips]
            self._files = self._together(trees)
        except GitFailed as failed:
            raise NoRecord(f"the record ({NAME}) cannot be read: {failed}") from failed
        if not trees:
            raise NoRecord(f"there is no record here: no branch {NAME}, here or from a remote")
        self.odd = sum(tree.odd for tree in trees)

    def _newest(self) -> list[str]:
        """Where the branch is; several commits where what was fetched is not put together with ours yet."""
        commits = sorted(set(self._branch.refs().values()))
        return [
            one for one in commits if not any(one != other and self._branch.contains(other, one) for other in commits)
        ]

    def _together(self, trees: list[Tree]) -> dict[str, Entry]:
        files: dict[str, Entry] = {}
        for tree in trees:
            both = {path for path, entry in tree.files.items() if path in files and files[path].blob != entry.blob}
            one = self._branch.texts({path: files[path] for path in both}) if both else {}
            other = self._branch.texts({path: tree.files[path] for path in both}) if both else {}
            for path, entry in tree.files.items():
                if path not in files or (
                    path in both and facts.chosen(path, *sorted((one[path], other[path]))) == other[path]
                ):
                    files[path] = entry
        return files

    @property
    def paths(self) -> Collection[str]:
        """Every file on record."""
        return self._files

    def texts(self, paths: Collection[str]) -> dict[str, bytes]:
        """Path → content, of those that are on record.

        Raises:
            NoRecord: git does not give them.
        """
        try:
            return self._branch.texts({path: self._files[path] for path in paths if path in self._files})
        except GitFailed as failed:
            raise NoRecord(f"the record ({NAME}) cannot be read: {failed}") from failed

    def campaigns(self) -> dict[str, list[str]]:
        """Campaign → its folders, one a workspace."""
        found: dict[str, list[str]] = {}
        for place in sorted(places(list(self._files))):
            found.setdefault(place.split("/")[1], []).append(place)
        return found

    def recalled(self, place: str) -> Recalled:
        """What is on record of one campaign in one workspace. Scripts are known by their paths only."""
        paths = [path for path in self._files if path.startswith(f"{place}/")]
        scripts = {path: b"" for path in paths if path.endswith("/script.pbs")}
        return recall(place, self.texts([path for path in paths if path not in scripts]) | scripts)

    def lists(self, origin: Origin) -> dict[str, ListSeen]:
        """Path on the cluster → the data list that lay there when a job was submitted, of those that are on record."""
        paths = {path: f"{facts.LISTS}/{digest}.txt" for path, digest in origin.lists.items()}
        texts = self.texts(set(paths.values()))
        return {
            path: ListSeen(texts[file].decode("utf-8", "replace"), origin.lists[path])
            for path, file in paths.items()
            if file in texts
        }

    def folder(self, kind: str, digest: str) -> Mapping[str, bytes]:
        """Path → content, of the manifests or templates that a digest names; paths as they were in the repository."""
        start = f"{kind}/{digest}/"
        texts = self.texts([path for path in self._files if path.startswith(start)])
        return {facts.unnamed(path.removeprefix(start)): text for path, text in texts.items()}
