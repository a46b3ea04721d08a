"""Whether the templates that a cluster's manifest names are there and can be read: `launcher.machine`, `.templates`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.domain.loading import Loaded
from reconciler.model.manifests import MACHINES, ClusterManifest
from reconciler.model.problems import Problem, clip, ordered
from reconciler.model.templates import Unrenderable
from reconciler.record import files


def with_templates_checked(loaded: Loaded, paths: Sequence[Path]) -> Loaded:
    """What was loaded from `paths`, and one problem more for each cluster without templates that jobs can be made of.

    Templates are read and parsed; nothing is rendered.
    """
    clusters = [item.manifest for item in loaded.catalog.objects if isinstance(item.manifest, ClusterManifest)]
    odd = [c for c in clusters if c.spec.launcher.templates or c.spec.launcher.machine not in MACHINES]
    repository = _repository(files.given_or_nearest(paths)) if odd else None
    problems = [problem for c in odd if (problem := _problem(loaded, c, repository)) is not None]
    return replace(loaded, problems=ordered([*loaded.problems, *problems])) if problems else loaded


def _problem(loaded: Loaded, cluster: ClusterManifest, repository: Path | None) -> Problem | None:
    from reconciler.cluster.render import require_machine, templates_of  # most campaigns need no Jinja to be validated

    folder, machine = cluster.spec.launcher.templates, cluster.spec.launcher.machine
    at = "templates"
    try:
        if folder is not None and repository is None:
            raise Unrenderable(f"{folder} is looked for in a git repository, and these manifests are in none")
        templates = templates_of(repository or Path(), folder)
        at = "machine"
        require_machine(templates, machine)
    except Unrenderable as error:
        # A stranger's file names and texts are in it.
        told = clip(str(error), 1000)
        return Problem("M060", loaded.catalog.where(cluster, "spec", "launcher", at), told, fix=clip(error.fix) or None)
    return None


def _repository(paths: Sequence[Path]) -> Path | None:
    """The working tree around the first path. Asking git itself costs more than all the rest of validating."""
    start = paths[0].resolve()
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)
