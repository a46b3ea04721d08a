"""What a person says of a campaign that is to be written: their model, data and cluster. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.scaffold.known import KnownCluster, KnownModel


@dataclass(frozen=True, slots=True)
class Data:
    """One dataset, by the list that the trainer reads."""

    name: str
    path: str
    """Of its data list on the cluster."""
    tokens: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was trained before there was a campaign."""

    path: str
    form: Literal["zero", "universal"]


@dataclass(frozen=True, slots=True)
class Answers:
    """All that `reconcile init` asks. Texts have the forms of `model.fieldtypes`."""

    campaign: str
    model: KnownModel
    cluster: KnownCluster
    cluster_name: str
    data: tuple[Data, ...]
    """In the order in which the model sees them; the first is what it was pretrained on, or will be."""
    checkpoint: Checkpoint | None
    """None: training begins with random weights."""
    host: str
    """In the ssh configuration; empty where this machine is a login node, or the cluster itself."""
    account: str
    queue: str
    filesystems: tuple[str, ...]
    workspace: str
    checkout: str
    validation: str
    """Folder of the validation sets' lists."""
    ranks: int
    nodes: int
    rate: float
    node_hours: int
    templates: str
    """Folder of the repository with a machine template for this cluster; empty where the package has one."""
    taken: frozenset[str] = frozenset()
    """Names of objects that other manifests have."""

    def free(self, name: str) -> str:
        """A name that no other manifest has."""
        return f"{self.campaign[:40]}-{name}"[:63].rstrip("-.") if name in self.taken else name

    @property
    def model_name(self) -> str:
        """Of the Model."""
        return self.free(self.model.name)

    @property
    def held_out(self) -> tuple[str, ...]:
        """The list of the validation set of each dataset."""
        return tuple(f"{self.validation}/val-{symbol}.txt" for symbol in self.symbols)

    @property
    def symbols(self) -> tuple[str, ...]:
        """D0, D1, … of the datasets."""
        return tuple(f"D{number}" for number in range(len(self.data)))
