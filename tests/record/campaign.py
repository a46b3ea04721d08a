"""A campaign's life put on record as `apply` does it: real git, real scripts, and a cluster carried out by hand."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler import loop
from reconciler.cluster.batch import Outcome, OutcomeKind
from reconciler.cluster.render import packaged
from reconciler.convert.layout import program_text
from reconciler.domain.loading import load
from reconciler.model.observed import ListSeen
from reconciler.model.plan import ActionKind
from reconciler.planner import facts
from reconciler.planner.desired import Desired, Site
from reconciler.record.recorder import Recorder
from tests.planner.world import FORGOT_D0, MANIFESTS, SAME, World, lists_of
from tests.record.repositories import git

PLACE = facts.place_of("quickstart", "laptop", "/w")
SITE = Site("/w", "/r", "/launcher", program_text(), packaged())


def planned(root: Path) -> Path:
    """A repository with the quickstart's manifests, by Ada."""
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    shutil.copytree(MANIFESTS, root / "manifests")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "The plan of four stages")
    return root


def planned_by_several(root: Path) -> Path:
    """The same on a cluster that several apply to: what is tried on one machine alone is not pushed."""
    planned(root)
    cluster = root / "manifests/cluster.yaml"
    here = "{kind: local, root: .local/quickstart}"
    assert here in cluster.read_text()
    cluster.write_text(cluster.read_text().replace(here, "{kind: login-node, root: /shared}"))
    git(root, "commit", "-q", "-a", "-m", "On the cluster")
    return root


def wanted(root: Path) -> Desired:
    """What the manifests of a repository want, at its commit."""
    files = [(path.name, path.read_bytes()) for path in sorted((root / "manifests").glob("*.yaml"))]
    loaded = load(files)
    assert loaded.ok, loaded.problems
    return Desired(loaded.catalog, "quickstart", git(root, "rev-parse", "HEAD").strip(), False, SITE)


def applied(root: Path, desired: Desired) -> facts.Applied:
    """What `apply` says that it applies."""
    manifests = {f"manifests/{path.name}": path.read_text() for path in sorted((root / "manifests").glob("*.yaml"))}
    templates = {name: template.text for name, template in SITE.templates.files.items()}
    author = "Ada <ada@example.org>"
    return facts.Applied(desired.revision, False, author, "1 +0000", "The plan", manifests, templates, "1.0")


@dataclass
class Cluster:
    """A cluster and who applies to it."""

    world: World
    scripts: dict[str, str]
    """Path on the cluster → text, of every script that was submitted."""

    @staticmethod
    def of(root: Path) -> Cluster:
        """One on which nothing has happened yet."""
        desired = wanted(root)
        lists = {path: found for path, found in lists_of(desired).items() if isinstance(found, ListSeen)}
        sealed = {p: replace(f, sha256=hashlib.sha256(f.text.encode()).hexdigest()) for p, f in lists.items()}
        return Cluster(World(desired, lists=dict(sealed)), {})

    def look(self, also: Mapping[str, str] = {}) -> loop.Look:
        """One look, with some scripts read along."""
        seen = {path: self.scripts[path] for path in also if path in self.scripts}
        texts = {path: ListSeen(text, hashlib.sha256(text.encode()).hexdigest()) for path, text in seen.items()}
        observed = self.world.look()
        return loop.Look(replace(observed, lists={**observed.lists, **texts}), self.world.plan())

    def submit(self) -> loop.Pass:
        """The pass that carries out what is next; it knows no more than what was answered."""
        look = self.look()
        outcomes = []
        for number, action in enumerate(look.plan.actions):
            job = f"{len(self.world.jobs) + number}.here" if action.job is not None else None
            outcomes.append(Outcome(str(action.key), OutcomeKind.DONE, job))
        for path, text in loop.scripts(self.world.desired, look.plan.actions).items():
            self.scripts[f"/w/{path}"] = text
        return loop.Pass(look, tuple(outcomes))

    def sign(self) -> None:
        """Write in the journal who applied what."""
        commit = self.world.desired.revision
        self.world.receipts = [replace(r, applied_by="ada@laptop:42", commit=commit) for r in self.world.receipts]


def recording(root: Path, desired: Desired) -> loop.Recording:
    """The record as `apply` opens it."""
    return loop.Recording(Recorder(root, PLACE), applied(root, desired))


def live(
    root: Path, cluster: Cluster, stages: int = 3, *, before_each_record: Callable[[], object] = lambda: None
) -> None:
    """Stages until so many have been judged, of which the third fails on its first rung; each pass put on record."""
    kept = recording(root, cluster.world.desired)
    for number in range(stages):
        losses = FORGOT_D0 if number == 2 else SAME
        kind = None
        while kind is not ActionKind.JUDGE:
            done = cluster.submit()
            kind = cluster.world.carry_out(losses)
            cluster.sign()
            before_each_record()
            assert loop.record(cluster.world.desired, done, kept).told == ()
    loop.record(cluster.world.desired, loop.Pass(cluster.look(), ()), kept)
