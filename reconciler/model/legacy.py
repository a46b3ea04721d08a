"""A run that was made by hand, as one look at a cluster finds it. Values as they were met; nothing is inferred here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.observed import CheckpointSeen, ListAbsent, ListSeen, Unread

Said = str | int | float | bool | None
"""A value as a checkpoint, log or environment has it; None for what is no plain value."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """Beginning and end of one log of a run."""

    path: str
    arguments: Mapping[str, Said] = field(default_factory=dict)
    loaded_from: str = ""
    loaded_iteration: int | None = None
    random: bool = False
    """It says that training starts from random weights."""
    first: int | None = None
    """Its first iteration line."""
    last: int | None = None
    last_rate: float | None = None
    target: int | None = None
    """Iterations that it was to reach."""
    batch: int | None = None
    changed_s: float = 0.0
    """When it was last written to, by the cluster's clock."""


@dataclass(frozen=True, slots=True)
class Run:
    """One folder that the launcher saved into."""

    folder: str
    saves: tuple[CheckpointSeen, ...]
    """Universal ones after the others; those looked into that can be where the run ends."""
    latest_universal: int | None = None
    """Iteration that `latest_universal` names: the only universal one that can be loaded."""
    inside_file: str = ""
    """Which file of which checkpoint the arguments are from."""
    arguments: Mapping[str, Said] = field(default_factory=dict)
    """What the launcher was given, as a checkpoint keeps it."""
    logs: tuple[RunLog, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """From `.env`, which the launcher writes beside its checkpoints."""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchScript:
    """A script that names one of the runs."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job that named one of the runs; `named_by` is the attribute, variable or script that did."""

    job_id: str
    run: str
    named_by: str
    name: str
    letter: str
    queue: str = ""
    nodes: int | None = None
    walltime: str = ""
    started_s: float | None = None

    @property
    def live(self) -> bool:
        """Anything but finished may still write there."""
        return self.letter != "F"


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at a folder found."""

    path: str
    """With links resolved, as the cluster has it."""
    host: str
    now_s: float
    runs: tuple[Run, ...]
    scripts: tuple[LaunchScript, ...] = ()
    jobs: tuple[RunJob, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be looked at: a script, PBS's history."""


@dataclass(frozen=True, slots=True)
class DataFound:
    """A data list as it lies on the cluster, and the tokens that its files hold where all of them could be read."""

    seen: ListSeen | ListAbsent | Unread
    tokens: int | None = None
