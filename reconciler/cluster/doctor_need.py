"""What the manifests rely on at one cluster: everything that the doctor has to look at there. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.cluster.render import machine_setup
from reconciler.cluster.sshconfig import Asked
from reconciler.domain.catalog import Catalog
from reconciler.domain.cost import BYTES_PER_PARAMETER, parameters
from reconciler.model.cluster import ClusterSpec, LauncherSpec, LocalTransport, SshTransport
from reconciler.model.fieldtypes import ListOnCluster
from reconciler.model.strategy import AtIteration, ExternalSource
from reconciler.planner.desired import Site

FILES: Final = ("train_alcf.sh", "pretrain_gpt_alcf.py", "ALCF/helpers.sh")
"""What job scripts, and the launcher's own script, run from the checkout."""
LOCAL_FILES: Final = ("train_alcf.sh", "environment.sh")
MODULES: Final = ("torch", "deepspeed")
"""What the launcher cannot do without; conversion needs torch."""
LOCAL_MODULES: Final = ("torch", "numpy")


@dataclass(frozen=True, slots=True)
class JobNeed:
    """What one stage asks of a queue."""

    stage: str
    """`campaign/stage`."""
    queue: str
    nodes: int
    walltime_s: int


@dataclass(frozen=True, slots=True)
class ListNeed:
    """A data list that manifests name."""

    name: str
    """Dataset or validation set, for people."""
    sha256: str | None
    vocabulary: int


@dataclass(frozen=True, slots=True)
class SourceNeed:
    """A checkpoint made elsewhere."""

    path: str
    """Absolute path of the folder that holds `latest`."""
    iteration: int | None
    """None where it is chosen by what the checkpoints there say."""
    universal: bool


@dataclass(frozen=True, slots=True)
class Need:
    """All that the manifests rely on at one cluster."""

    reach: str
    """The command that runs what follows it there; empty for this machine."""
    master: bool
    """Whether it is reached through a connection that a person opened."""
    make: str
    """The command that makes the embedded cluster; empty for a real one."""
    again: str
    """The commands that make it anew; likewise."""
    queue: str
    """The cluster's, for stages that name none."""
    max_walltime_s: int
    jobs: tuple[JobNeed, ...]
    workspace: str
    """This and the following are absolute paths on the cluster."""
    checkout: str
    files: tuple[str, ...]
    """What the checkout must hold, relative to it."""
    setup: str
    """The lines of bash that a job runs before the launcher."""
    modules: tuple[str, ...]
    """What the Python of jobs must have."""
    lists: Mapping[str, ListNeed]
    """By absolute path."""
    sources: Mapping[str, SourceNeed]
    """By `campaign/stage`."""
    checkpoint_bytes: int
    """Size of the largest checkpoint, estimated; 0 if no campaign runs there."""

    def there(self, command: str) -> str:
        """`command` as a person may paste it here to run it on the cluster."""
        return f"{self.reach} {shlex.quote(command)}" if self.reach else command

    @property
    def queues(self) -> tuple[str, ...]:
        """Every queue that jobs go to, the cluster's first."""
        return tuple(dict.fromkeys((self.queue, *(job.queue for job in self.jobs))))


def need_of(catalog: Catalog, cluster: str, site: Site) -> Need:
    """What every campaign of the catalog that runs on `cluster` relies on there.

    Raises:
        Unrenderable: the templates give no lines for the launcher's `machine`.
    """
    spec = catalog.cluster(cluster).spec
    transport, launcher = spec.transport, spec.launcher
    campaigns = [name for name in catalog.campaigns if catalog.campaign(name).spec.cluster == cluster]
    local = isinstance(transport, LocalTransport)
    make = " ".join(("reconcile local", *campaigns[:1])) if local else ""
    models = [catalog.model_of(campaign).spec.architecture for campaign in campaigns]
    return Need(
        reach=_reach(spec),
        master=isinstance(transport, SshTransport) and transport.connection == "master",
        make=make,
        again=f"rm -f {shlex.quote(f'{site.root}/machine.json')}; {make}" if local else "",
        queue=spec.scheduler.queue,
        max_walltime_s=math.floor(spec.scheduler.max_walltime),
        jobs=tuple(job for campaign in campaigns for job in _jobs(catalog, campaign, spec)),
        workspace=site.workspace,
        checkout=site.checkout,
        files=LOCAL_FILES if launcher.machine == "local" else FILES,
        setup=_setup(launcher, site),
        modules=LOCAL_MODULES if launcher.machine == "local" else MODULES,
        lists={path: need for campaign in campaigns for path, need in _lists(catalog, campaign, cluster, site)},
        sources={stage: need for campaign in campaigns for stage, need in _sources(catalog, campaign, site)},
        checkpoint_bytes=max((parameters(model) * BYTES_PER_PARAMETER for model in models), default=0),
    )


def _reach(spec: ClusterSpec) -> str:
    transport = spec.transport
    if not isinstance(transport, SshTransport):
        return ""
    return Asked(transport.host, transport.user, transport.port).command()


def _setup(launcher: LauncherSpec, site: Site) -> str:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(launcher.environment.items())]
    return "\n".join((machine_setup(launcher.machine, site.checkout, site.templates), *exports))


def _jobs(catalog: Catalog, campaign: str, spec: ClusterSpec) -> Iterator[JobNeed]:
    for stage in catalog.stages(campaign):
        asked = stage.spec.resources
        name = f"{campaign}/{stage.metadata.name}"
        yield JobNeed(name, asked.queue or spec.scheduler.queue, asked.nodes, math.floor(asked.walltime))


def _lists(catalog: Catalog, campaign: str, cluster: str, site: Site) -> Iterator[tuple[str, ListNeed]]:
    model = catalog.model_of(campaign).spec
    vocabulary = model.architecture.vocabulary

    def need(name: str, listed: ListOnCluster) -> tuple[str, ListNeed]:
        return site.path(listed.path), ListNeed(name, listed.sha256, vocabulary)

    for symbol, dataset in catalog.datasets(campaign).items():
        yield need(f"{symbol} ({dataset.metadata.name})", dataset.spec.lists[cluster])
    for held_out in model.validation.sets:
        yield need(held_out.name, held_out.lists[cluster])


def _sources(catalog: Catalog, campaign: str, site: Site) -> Iterator[tuple[str, SourceNeed]]:
    for stage in catalog.stages(campaign):
        name = f"{campaign}/{stage.metadata.name}"
        own = {f"{name}/{strategy.name}": strategy.source for strategy in stage.spec.strategies}
        started = {name: stage.spec.source, **own} if stage.spec.adopted is None else {name: stage.spec.adopted.source}
        for of, source in started.items():
            if isinstance(source, ExternalSource):
                yield of, SourceNeed(site.path(source.path), _iteration(source), source.format == "universal")


def _iteration(source: ExternalSource) -> int | None:
    return source.checkpoint.iteration if isinstance(source.checkpoint, AtIteration) else None
