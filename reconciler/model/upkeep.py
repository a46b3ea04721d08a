"""Upkeep: what is done to the folders of an attempt beside training. Plain values.

A folder that nothing needs any more is set aside by one rename (`Prune`), and what was set aside is deleted by a later
action (`Delete`): until then a person can rename it back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Folder:
    """One that is set aside or deleted."""

    path: str
    """Relative to the workspace."""
    size_bytes: int
    why: str
    """Why nothing needs it any more, or what it was."""
    identity: str = ""
    """As it was seen: another folder of the same name, or this one written again, is left alone."""


@dataclass(frozen=True, slots=True)
class Prune:
    """Set these aside."""

    folders: tuple[Folder, ...]
    spared: tuple[str, ...] = ()
    """Absolute folders that a manifest starts from: wherever links lead, nothing of them is touched."""
    settle_s: float = 0.0
    """How long ago the newer checkpoint must have been saved that makes these needless."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete these, which were set aside."""

    folders: tuple[Folder, ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """Have a leg's `latest` name its newest complete checkpoint."""

    leg: str
    """The leg's folder, relative to the workspace."""
    was: int | None
    """What `latest` names now: 0 if nothing that is an iteration, None if it is not there."""
    newest: int


Upkeep = Prune | Delete | Repair


def semantic(upkeep: Upkeep) -> object:
    """What a reviewer agreed to: which folders, and nothing that is only told."""
    match upkeep:
        case Prune(folders=folders, spared=spared):
            return {"prune": {folder.path: folder.identity for folder in folders}, "spared": sorted(spared)}
        case Delete(folders=folders):
            return {"delete": sorted(folder.path for folder in folders)}
        case Repair(leg=leg, was=was, newest=newest):
            return {"repair": leg, "was": was, "newest": newest}


@dataclass(frozen=True, slots=True)
class Retained:
    """What could be deleted of a campaign, whether or not its manifest says so."""

    prune: bool = False
    """The campaign's `retention.prune`."""
    prunable: tuple[Folder, ...] = ()
    """Nothing needs them any more; some may have to wait for the end of a job."""
    aside: tuple[Folder, ...] = ()
    """Set aside, to be deleted."""
    notes: tuple[str, ...] = ()
    """Why nothing, or not more, may go at this look."""

    @property
    def size_bytes(self) -> int:
        """What would be freed."""
        return sum(folder.size_bytes for folder in (*self.prunable, *self.aside))
