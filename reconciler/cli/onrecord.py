"""From the command line to the record: what this clone has of it, without a cluster and without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from reconciler.cli.telling import fail
from reconciler.model.faults import Fault
from reconciler.model.problems import clip, near, one_of
from reconciler.planner.recalled import Recalled
from reconciler.record.commits import Commit, commits
from reconciler.record.files import given_or_nearest
from reconciler.record.git import Git, GitFailed
from reconciler.record.reading import NoRecord, Reading
from reconciler.record.repository import working_tree_of

campaign_option = click.option("--campaign", "-c", metavar="NAME", help="Which campaign.  [default: the only one]")
"""Of commands that read the record, whose arguments are stages and attempts."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """The record of this clone."""

    root: Path
    reading: Reading

    def campaign(self, name: str | None) -> tuple[Recalled, ...]:
        """What is on record of a campaign, a workspace each; of the only one where none is named."""
        known = self.reading.campaigns()
        if name is None and len(known) == 1:
            (name,) = known
        if name is None:
            fail(Fault.NAME_NEEDED, f"several campaigns are on record: {one_of(known)}; name one", "--campaign NAME")
        if name not in known:
            meant = near(name, known)
            hint = f"Did you mean {meant}?" if meant else f"There is {one_of(known)}."
            fail(
                Fault.NOT_ON_RECORD,
                f"campaign {clip(name, 60)} is not on record. {hint}" if known else "no campaign is on record yet",
            )
        try:
            return tuple(self.reading.recalled(place) for place in known[name])
        except NoRecord as missing:
            fail(Fault.NOT_ON_RECORD, str(missing))

    def every(self) -> tuple[Recalled, ...]:
        """All campaigns in all workspaces."""
        return tuple(each for name in self.reading.campaigns() for each in self.campaign(name))

    def wrote(self, names: set[str]) -> dict[str, Commit]:
        """Who wrote commits, of those that this clone has."""
        try:
            return commits(Git(self.root), sorted(names))
        except GitFailed:
            return {}


def tree_of(paths: tuple[Path, ...]) -> Path:
    """The working tree that holds the manifests. Exits with a clear message when they are in none."""
    start = given_or_nearest(paths)[0]
    root = working_tree_of(start if start.exists() else Path.cwd())
    if root is None:
        fail(Fault.NO_REPOSITORY, f"{start} is not in a git working tree: commits and the record are kept in git")
    return root


def open_record(paths: tuple[Path, ...]) -> OnRecord:
    """The record of the repository that holds the manifests. Exits with a clear message when there is none."""
    root = tree_of(paths)
    try:
        return OnRecord(root, Reading(root))
    except NoRecord as missing:
        fail(
            Fault.NOT_ON_RECORD,
            str(missing),
            "git fetch REMOTE reconcile/record:reconcile/record      (`reconcile apply` makes it)",
        )
