"""Every manifest that was read, by name: what the planner looks things up in.

Look-ups of what is not there raise KeyError. That never happens on a catalog whose `Loaded.ok` holds, since
`reconciler.domain.references` checks every reference first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from reconciler.domain import buffer
from reconciler.model.manifests import (
    CampaignManifest,
    ClusterManifest,
    DatasetManifest,
    Manifest,
    ModelManifest,
    StageManifest,
)
from reconciler.model.problems import Path, Where
from reconciler.model.source import Document
from reconciler.model.strategy import ExternalSource

BASE_SYMBOL = "D0"
"""The pretraining data; the buffer never holds it (cookbook, data centric strategy)."""


@dataclass(frozen=True, slots=True)
class Object:
    """One manifest and the document it was read from."""

    manifest: Manifest
    document: Document
    doubtful: frozenset[Path] = field(default=frozenset())
    """Where the value is not the writer's, in what is left of a faulty document; empty for a sound one."""

    @property
    def file(self) -> str:
        """The file's name, as shown to people."""
        return self.document.file


def source_places(stage: StageManifest) -> Iterator[tuple[Path, object]]:
    """(place, source checkpoint) of a stage, and of the strategies that have one of their own."""
    yield ("spec", "source"), stage.spec.source
    for rung, strategy in enumerate(stage.spec.strategies):
        if strategy.source is not None:
            yield ("spec", "strategies", rung, "source"), strategy.source


class Catalog:
    """Frozen index over objects. Of several objects of one name (a problem), the first counts.

    What is left of a faulty document is in it too, so that the rest of it and references to it can be checked; one
    whose name could not be read is found by no name. On a catalog that is acted on (`Loaded.ok`) there is none.
    """

    def __init__(self, objects: Iterable[Object]) -> None:
        self.objects: tuple[Object, ...] = tuple(objects)
        self._campaigns: dict[str, CampaignManifest] = {}
        self._clusters: dict[str, ClusterManifest] = {}
        self._datasets: dict[str, DatasetManifest] = {}
        self._models: dict[str, ModelManifest] = {}
        self._stages: dict[str, dict[str, StageManifest]] = {}
        self._symbols: dict[str, Mapping[str, DatasetManifest]] = {}
        self._items = {id(item.manifest): item for item in self.objects}
        for item in self.objects:
            if self.is_named(item.manifest):
                self._add(item.manifest)

    def _add(self, manifest: Manifest) -> None:
        name = manifest.metadata.name
        match manifest:
            case CampaignManifest():
                self._campaigns.setdefault(name, manifest)
            case ClusterManifest():
                self._clusters.setdefault(name, manifest)
            case DatasetManifest():
                self._datasets.setdefault(name, manifest)
            case ModelManifest():
                self._models.setdefault(name, manifest)
            case StageManifest():
                self._stages.setdefault(manifest.spec.campaign, {}).setdefault(name, manifest)

    # --- by name

    @property
    def campaigns(self) -> tuple[str, ...]:
        """Names of all campaigns, sorted."""
        return tuple(sorted(self._campaigns))

    @property
    def clusters(self) -> Collection[str]:
        """Names of all clusters."""
        return self._clusters.keys()

    @property
    def models(self) -> Collection[str]:
        """Names of all models."""
        return self._models.keys()

    @property
    def dataset_names(self) -> Collection[str]:
        """Names of all datasets."""
        return self._datasets.keys()

    def campaign(self, name: str) -> CampaignManifest:
        """The campaign of this name."""
        return self._campaigns[name]

    def cluster(self, name: str) -> ClusterManifest:
        """The cluster of this name."""
        return self._clusters[name]

    def dataset(self, name: str) -> DatasetManifest:
        """The dataset of this name."""
        return self._datasets[name]

    def stage(self, campaign: str, stage: str) -> StageManifest:
        """A stage of a campaign."""
        return self._stages[campaign][stage]

    def stage_names(self, campaign: str) -> Collection[str]:
        """Names of all stages that name this campaign, listed by it or not."""
        return self._stages.get(campaign, {}).keys()

    # --- by relation

    def stages(self, campaign: str) -> tuple[StageManifest, ...]:
        """The campaign's stages in its order."""
        return tuple(self._stages[campaign][name] for name in self._campaigns[campaign].spec.stages)

    def index(self, campaign: str, stage: str) -> int:
        """Place of a stage in the campaign's order, from 0. Raises KeyError for a stage that is not listed."""
        try:
            return self._campaigns[campaign].spec.stages.index(stage)
        except ValueError:
            raise KeyError(stage) from None

    def model_of(self, campaign: str) -> ModelManifest:
        """The model that a campaign trains."""
        return self._models[self._campaigns[campaign].spec.model]

    def cluster_of(self, campaign: str) -> ClusterManifest:
        """The cluster that a campaign runs on."""
        return self._clusters[self._campaigns[campaign].spec.cluster]

    def dataset_of(self, stage: StageManifest) -> DatasetManifest:
        """The dataset that is new in a stage."""
        return self._datasets[stage.spec.dataset]

    def datasets(self, campaign: str) -> Mapping[str, DatasetManifest]:
        """Symbol → dataset, in the order in which the campaign's stages introduce them."""
        if campaign not in self._symbols:  # asked for again and again, and it never changes
            found: dict[str, DatasetManifest] = {}
            for stage in self.stages(campaign):
                for dataset in self.brought_by(stage):
                    found.setdefault(dataset.spec.symbol, dataset)
            self._symbols[campaign] = MappingProxyType(found)
        return self._symbols[campaign]

    def brought_by(self, stage: StageManifest) -> tuple[DatasetManifest, ...]:
        """Datasets that a stage introduces: what external sources of it were trained on, then its own."""
        before = (
            name
            for _, source in source_places(stage)
            if isinstance(source, ExternalSource)
            for name in source.trained_on
        )
        return tuple(self._datasets[name] for name in dict.fromkeys((*before, stage.spec.dataset)))

    def dataset_by_symbol(self, campaign: str, symbol: str) -> DatasetManifest:
        """The dataset that a symbol stands for in a campaign."""
        return self.datasets(campaign)[symbol]

    def introduced(self, campaign: str, stage: str) -> tuple[str, ...]:
        """Symbols that a mixture of this stage may name: those of its own and earlier stages, in order."""
        upto = self.stages(campaign)[: self.index(campaign, stage) + 1]
        return tuple(dict.fromkeys(dataset.spec.symbol for each in upto for dataset in self.brought_by(each)))

    def buffer_at(self, campaign: str, stage: str) -> tuple[str, ...]:
        """Symbols of the datasets that earlier stages leave in the buffer by this stage, in order; never D0."""
        earlier = self.stages(campaign)[: self.index(campaign, stage)]
        symbols = (self.dataset_of(each).spec.symbol for each in earlier)
        return tuple(dict.fromkeys(symbol for symbol in symbols if symbol != BASE_SYMBOL))

    def sources(self, campaign: str, stage: str) -> tuple[str, ...]:
        """Labels of all that a mixture of this stage may draw from: datasets, and the buffer's selections of some."""
        select = self._campaigns[campaign].spec.buffer.select
        parts = tuple(buffer.part(symbol) for symbol in self.buffer_at(campaign, stage) if symbol in select)
        return self.introduced(campaign, stage) + parts

    def of_campaign(self, name: str) -> tuple[Object, ...]:
        """Everything that a campaign is made of; all its references must hold."""
        stages = self.stages(name)
        datasets = (dataset for stage in stages for dataset in self.brought_by(stage))
        manifests = (self._campaigns[name], self.model_of(name), self.cluster_of(name), *stages, *datasets)
        return tuple(self._items[key] for key in dict.fromkeys(id(manifest) for manifest in manifests))

    # --- by place

    def where(self, manifest: Manifest, *path: str | int, key: bool = False) -> Where:
        """The place of a value (or of its key) in the file of a manifest of this catalog.

        `path` holds keys as written in YAML and list indexes; the nearest known parent's place is given where it
        leads to nothing.
        """
        return self._items[id(manifest)].document.where(path, key=key)

    def doubts(self, manifest: Manifest, *path: str | int) -> bool:
        """Whether a value, something in it or something around it is not what the writer meant."""
        doubtful = self._items[id(manifest)].doubtful
        return any(path[: len(other)] == other or other[: len(path)] == path for other in doubtful)

    def is_named(self, manifest: Manifest) -> bool:
        """Whether its name could be read, and a stage's campaign, within which the name counts."""
        of_stage = isinstance(manifest, StageManifest) and self.doubts(manifest, "spec", "campaign")
        return not of_stage and not self.doubts(manifest, "metadata", "name")


def every_source(catalog: Catalog) -> tuple[tuple[str, object], ...]:
    """(campaign, source) of every stage and strategy that the manifests hold, whichever campaign is looked at."""
    stages = [(campaign, stage) for campaign in catalog.campaigns for stage in catalog.stages(campaign)]
    return tuple((campaign, source) for campaign, stage in stages for _, source in source_places(stage))
