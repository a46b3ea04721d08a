"""What the planner is given besides the look at the cluster: manifests at a revision, and where things lie there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.domain import outside
from reconciler.domain.catalog import Catalog, source_places
from reconciler.domain.schedule import NamedRates
from reconciler.model.cluster import ClusterSpec
from reconciler.model.manifests import CampaignSpec, ModelSpec, StageManifest
from reconciler.model.observed import Wish
from reconciler.model.problems import Problem
from reconciler.model.strategy import ExternalSource
from reconciler.model.templates import Templates


@dataclass(frozen=True, slots=True)
class Site:
    """Absolute folders on the cluster."""

    workspace: str
    root: str
    """What relative list paths count from."""
    checkout: str
    """The launcher's checkout."""
    converter: str
    """Source text of the one-file converter that conversion jobs run."""
    templates: Templates = field(default_factory=Templates)
    """What job scripts are made from."""

    def path(self, path: str) -> str:
        """A manifest's path as the cluster sees it."""
        return path if path.startswith("/") else f"{self.root}/{path}"

    def in_workspace(self, path: str) -> str:
        """The absolute form of a path relative to the workspace."""
        return f"{self.workspace}/{path}"


@dataclass(frozen=True, slots=True)
class Desired:
    """The manifests of one campaign at one revision."""

    catalog: Catalog
    campaign: str
    revision: str
    dirty: bool
    site: Site
    retry: frozenset[str] = field(default_factory=frozenset)
    """Stages whose operational holds a person has looked at and lifts for this pass."""
    findings: tuple[Problem, ...] = ()
    """What the cookbook's rules find in the campaign's manifests, waived or not."""

    @property
    def spec(self) -> CampaignSpec:
        return self.catalog.campaign(self.campaign).spec

    @property
    def cluster(self) -> ClusterSpec:
        return self.catalog.cluster_of(self.campaign).spec

    @property
    def model(self) -> ModelSpec:
        return self.catalog.model_of(self.campaign).spec

    @property
    def stages(self) -> tuple[StageManifest, ...]:
        return self.catalog.stages(self.campaign)

    def list_paths(self) -> dict[str, str]:
        """Dataset symbol → absolute path of its list on this cluster."""
        name = self.spec.cluster
        datasets: Mapping[str, object] = self.catalog.datasets(self.campaign)
        return {
            symbol: self.site.path(self.catalog.dataset_by_symbol(self.campaign, symbol).spec.lists[name].path)
            for symbol in datasets
        }

    def score_paths(self) -> dict[str, str]:
        """Dataset symbol → absolute path of the score file by which the buffer takes some of its files."""
        paths = {}
        for symbol, selection in self.spec.buffer.select.items():
            if selection.scores is not None:
                paths[symbol] = self.site.path(selection.scores[self.spec.cluster].path)
        return paths

    def asked_lists(self) -> tuple[str, ...]:
        """Absolute paths of all that is read whole in one look: data lists and score files."""
        paths = (self.list_paths(), self.validation_paths(), self.score_paths())
        return tuple(sorted({path for some in paths for path in some.values()}))

    def rates(self) -> NamedRates:
        """What `lrMax` and `lrFinal` stand for."""
        return NamedRates(max=self.spec.learning_rate.max, final=self.spec.learning_rate.final)

    def asked_folders(self) -> dict[str, tuple[Wish, ...]]:
        """Absolute path of every folder of checkpoints that no attempt made → what is wanted of it."""
        wishes: dict[str, dict[Wish, None]] = {}
        for stage in self.stages:
            for source in sources_of(stage):
                if isinstance(source, ExternalSource):
                    wishes.setdefault(self.site.path(source.path), {})[outside.wish(source, self.rates())] = None
        return {path: tuple(wanted) for path, wanted in wishes.items()}

    def asked_logs(self) -> tuple[str, ...]:
        """Absolute paths of the logs of sources made elsewhere."""
        sources = (source for stage in self.stages for source in sources_of(stage))
        found = (source.log for source in sources if isinstance(source, ExternalSource))
        return tuple(sorted({self.site.path(log) for log in found if log is not None}))

    def validation_paths(self) -> dict[str, str]:
        """Validation set → absolute path of its list on this cluster."""
        return {s.name: self.site.path(s.lists[self.spec.cluster].path) for s in self.model.validation.sets}


def sources_of(stage: StageManifest) -> tuple[object, ...]:
    """What a stage and its strategies declare to start from; of one that was trained elsewhere, what it is."""
    if stage.spec.adopted is not None:
        return (stage.spec.adopted.source,)
    return tuple(source for _, source in source_places(stage))
