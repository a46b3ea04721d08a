"""What manifests only show against the launcher and the templates: what jobs would be told, and their scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.domain.catalog import Catalog
from reconciler.domain.loading import Loaded
from reconciler.launcher.flags import READ_BY_NOTHING
from reconciler.launcher.settings import ARCHITECTURES
from reconciler.model.cluster import MACHINES
from reconciler.model.manifests import ClusterManifest, ModelManifest
from reconciler.model.problems import Problem, clip, near, one_of, ordered
from reconciler.model.templates import Unrenderable
from reconciler.record import files


def with_scripts_checked(loaded: Loaded, paths: Sequence[Path]) -> Loaded:
    """What was loaded from `paths`, and what is wrong with it for the launcher and for making job scripts.

    Where nothing else is wrong, the jobs of every campaign with templates of its own are rendered, and thrown away:
    a value that a template asks for and no job has shows only then.
    """
    catalog = loaded.catalog
    problems: list[Problem] = []
    odd: list[ClusterManifest] = []
    for item in catalog.objects:
        match item.manifest:
            case ModelManifest():
                problems += _architecture(catalog, item.manifest)
            case ClusterManifest():
                problems += _variables(catalog, item.manifest)
                launcher = item.manifest.spec.launcher
                if (launcher.templates or launcher.machine not in MACHINES) and not _unsure(catalog, item.manifest):
                    odd.append(item.manifest)
            case _:
                pass
    repository = _repository(files.given_or_nearest(paths)) if odd else None
    problems += [problem for c in odd if (problem := _templates(loaded, c, repository)) is not None]
    return replace(loaded, problems=ordered([*loaded.problems, *problems])) if problems else loaded


# --- what the launcher knows -----------------------------------------------------------------------------------------


def _architecture(catalog: Catalog, model: ModelManifest) -> Iterator[Problem]:
    """The launcher takes a name it does not know for 7B, and for some names sizes of its own whatever it is told."""
    shape, at = model.spec.architecture, ("spec", "architecture")
    if catalog.doubts(model, *at, "name"):
        return
    fixed = next((known for known in ARCHITECTURES if shape.name in known.spellings), None)
    if fixed is None:
        names = [known.spellings[0] for known in ARCHITECTURES]
        meant = near(shape.name, [name for known in ARCHITECTURES for name in known.spellings])
        fix = f"Did you mean {meant}?" if meant else "For sizes of your own, write name: 7B."
        detail = f"{shape.name} is not known to the launcher, which would train a 7B without a word"
        yield Problem("M063", catalog.where(model, *at, "name"), detail, shape.name, one_of(names), fix)
        return
    for path, said, taken in (
        (("spec", "sequenceLength"), model.spec.sequence_length, fixed.seq),
        ((*at, "layers"), shape.layers, fixed.layers),
        ((*at, "hidden"), shape.hidden, fixed.hidden),
    ):
        if taken not in (None, said) and not catalog.doubts(model, *path):
            detail = f"{path[-1]} of {shape.name}"
            expected = f"{taken}, which the launcher takes whatever it is told"
            there = (catalog.where(model, *at, "name"), "the architecture")
            fix = f"Write {path[-1]}: {taken}, or name: 7B, whose sizes are all told."
            yield Problem("M063", catalog.where(model, *path), detail, str(said), expected, fix, (there,))


def _variables(catalog: Catalog, cluster: ClusterManifest) -> Iterator[Problem]:
    for name in cluster.spec.launcher.environment:
        if name in READ_BY_NOTHING:
            instead = READ_BY_NOTHING[name]
            where = catalog.where(cluster, "spec", "launcher", "environment", name, key=True)
            fix = f"The launcher reads {instead}, which the reconciler sets from the stage or model; leave {name} out."
            yield Problem("M064", where, name, fix=fix)


# --- templates -------------------------------------------------------------------------------------------------------


def _unsure(catalog: Catalog, cluster: ClusterManifest) -> bool:
    return any(catalog.doubts(cluster, "spec", "launcher", name) for name in ("templates", "machine"))


def _templates(loaded: Loaded, cluster: ClusterManifest, repository: Path | None) -> Problem | None:
    from reconciler.cluster.render import require_machine, templates_of  # most campaigns need no Jinja to be validated

    folder, machine = cluster.spec.launcher.templates, cluster.spec.launcher.machine
    at = "templates"
    try:
        if folder is not None and repository is None:
            raise Unrenderable(f"{folder} is looked for in a git repository, and these manifests are in none")
        templates = templates_of(repository or Path(), folder)
        at = "machine"
        require_machine(templates, machine)
        at = "templates"
        if loaded.ok:
            _render_all(loaded.catalog, cluster, repository or Path())
    except Unrenderable as error:
        # A stranger's file names and texts are in it.
        told = clip(str(error), 1000)
        return Problem("M060", loaded.catalog.where(cluster, "spec", "launcher", at), told, fix=clip(error.fix) or None)
    return None


def _render_all(catalog: Catalog, cluster: ClusterManifest, repository: Path) -> None:
    """The script of each sort of job of each stage on a cluster.

    Raises:
        Unrenderable: one of them cannot be made.
    """
    from reconciler import loop
    from reconciler.planner.desired import Desired
    from reconciler.planner.sketch import every_sort

    site = loop.site_of(cluster.spec, repository)
    for campaign in catalog.campaigns:
        if catalog.campaign(campaign).spec.cluster == cluster.metadata.name:
            desired = Desired(catalog, campaign, "", False, site)
            for stage in desired.stages:
                loop.scripts(desired, every_sort(desired, stage))


def _repository(paths: Sequence[Path]) -> Path | None:
    """The working tree around the first path. Asking git itself costs more than all the rest of validating."""
    start = paths[0].resolve()
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)
