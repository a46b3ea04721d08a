"""`reconcile adopt`: manifests for a run that was made by hand, so that the next stage can be one in git."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from reconciler import loop
from reconciler.adopt import launcher_names
from reconciler.adopt.course import NotSaid
from reconciler.adopt.runs import Adopted, NotAdopted, adopted
from reconciler.adopt.writing import FILES, Place, list_paths, manifests
from reconciler.cli.connecting import NoLocalCluster, open_link
from reconciler.cli.newfiles import must_be_free, write_new
from reconciler.cli.problems import render as render_problems
from reconciler.cli.telling import fail, fail_at
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.cluster.survey import NotSurveyed, data_of, survey
from reconciler.domain import loading
from reconciler.domain.loading import Loaded
from reconciler.domain.resolve import Unresolved
from reconciler.model.cluster import LocalTransport
from reconciler.model.faults import Fault
from reconciler.model.fieldtypes import NAME_PATTERN, PATH_PATTERN
from reconciler.model.legacy import DataFound, Survey
from reconciler.model.manifests import ClusterManifest
from reconciler.model.problems import Problem, harmless, near, one_of
from reconciler.model.quantities import approximate_tokens, counted
from reconciler.planner.adopted import adopted_stages
from reconciler.planner.desired import Site
from reconciler.record import files
from reconciler.record.repository import NoRepository, revision_of

ELSEWHERE: Final = "Name another folder: -o DIR"


@click.command(short_help="Write manifests for a run that was made by hand.")
@click.argument("path", metavar="PATH")
@click.option("--cluster", required=True, metavar="NAME|FILE", help="Cluster manifest by its name, or its file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the manifests go; its name is the campaign's.  [default: manifests/MODEL-adopted]",
)
@click.option(
    "--iteration", type=click.IntRange(1), help="Adopt the run as it stood there, not at its newest checkpoint."
)
@click.option("--log", "logs", multiple=True, metavar="PATH", help="A log of the run on the cluster (repeatable).")
@click.option("--script", "scripts", multiple=True, metavar="PATH", help="Its launch script there (repeatable).")
@click.option("--dry-run", is_flag=True, help="Print the manifests; write nothing.")
@click.option("--manifests", "-f", "paths", multiple=True, type=click.Path(path_type=Path), help="Other manifests.")
def adopt(
    path: str,
    cluster: str,
    output: Path | None,
    iteration: int | None,
    logs: tuple[str, ...],
    scripts: tuple[str, ...],
    dry_run: bool,
    paths: tuple[Path, ...],
) -> int:
    """Write manifests for a run that was trained without them, so that the next stage can be planned from it.

    PATH is a folder on the cluster: a run's SAVE folder, or one that holds several runs, each going on from another.
    What the run was is read from its checkpoints, its logs, the script that launched it, PBS's history and the folder's
    name. It is only read; nothing on the cluster is changed, now or by any later plan.

    Every value says in a comment where it is from; a TODO was told by nothing. Each run becomes a stage that is done.
    The first plan has nothing to do; add a stage behind them, and it goes on from there.

    \b
    Exit status:
        0    written, or printed; there may be warnings
        1    something is wrong or not to be had; nothing was written
    """
    there = _manifests(paths)
    of, copied = _cluster(there, cluster)
    site = _site(of, paths)
    link = _connect(of, site)
    try:
        found, runs = _looked(link, of, site, Asked(path, iteration, logs, scripts))
        folder = output or _default_folder(paths, runs)
        if not dry_run:
            must_be_free(folder, FILES, ELSEWHERE)
        place = _place(there, of, site, folder)
        data = _data(link, site, runs, place)
        origin = f"{' '.join(harmless(path).split())} --cluster {of.metadata.name}"
        texts = manifests(runs, place, data, origin) | ({"cluster.yaml": copied} if copied else {})
    except (NotSurveyed, NotSaid) as problem:
        fail(Fault.NOT_ADOPTED, str(problem))
    except NotAdopted as problem:
        fail(Fault.NOT_ADOPTED, str(problem), problem.fix)
    except ClusterError as error:
        fail_at(error)
    _must_validate(there, folder, texts)
    if dry_run:
        _print(folder, texts)
    else:
        write_new(folder, texts, ELSEWHERE)
    click.echo(_summary(found, runs, folder, texts, dry_run=dry_run), err=dry_run)
    return 0


# --- the look


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the cluster is meant."""

    path: str
    iteration: int | None
    logs: tuple[str, ...]
    scripts: tuple[str, ...]


def _looked(link: Transport, of: ClusterManifest, site: Site, asked: Asked) -> tuple[Survey, Adopted]:
    """What lies there, and the runs that it comes to."""
    found = survey(
        link,
        site.path(asked.path),
        arguments=tuple(launcher_names.ARGUMENTS.values()),
        variables=tuple(launcher_names.VARIABLES.values()),
        iteration=asked.iteration,
        logs=[site.path(log) for log in asked.logs],
        scripts=[site.path(script) for script in asked.scripts],
    )
    _must_be_foreign(found, site)
    if asked.logs and len(found.runs) > 1:
        fail(Fault.NOT_ADOPTED, f"--log is of one run, and {found.path} holds {len(found.runs)}", "Name one of them.")
    return found, adopted(found, of.spec.node.ranks, asked.iteration)


def _data(link: Transport, site: Site, runs: Adopted, place: Place) -> dict[str, DataFound]:
    """The data lists that the runs name."""
    lists = sorted({listed for listed in list_paths(runs, place).values() if listed})
    return data_of(link, site.checkout, lists) if lists else {}


# --- what is there already


def _manifests(paths: tuple[Path, ...]) -> Loaded:
    """Manifests beside which the new ones will stand; none is fine."""
    given = [path for path in files.given_or_nearest(paths) if path.exists()]
    if not given:
        return loading.load([])
    contents, problems = files.read(given)
    empty = [problem for problem in problems if problem.code != "M003"]
    return loading.load(contents, empty)


def _cluster(there: Loaded, wanted: str) -> tuple[ClusterManifest, str]:
    """The Cluster, and the text of its file if that is not among the manifests that a plan will read."""
    if wanted in there.catalog.clusters:
        return there.catalog.cluster(wanted), ""
    file = Path(wanted)
    if not file.is_file():
        known = sorted(there.catalog.clusters)
        meant = near(wanted, known)
        hint = f" Did you mean {meant}?" if meant else f" There is {one_of(known)}." if known else ""
        fail(Fault.NO_SUCH_NAME, f"{harmless(wanted)} is neither a Cluster here nor a file with one.{hint}")
    loaded = files.load([file])
    names = sorted(loaded.catalog.clusters)
    if len(names) != 1:
        told = "no Cluster" if not names else f"several Clusters: {', '.join(names)}"
        if loaded.problems:
            click.echo(render_problems(loaded.problems, loaded.texts, colour=sys.stderr.isatty()) + "\n", err=True)
        fail(Fault.NO_SUCH_NAME, f"{file} holds {told}", "reconcile schema cluster")
    if names[0] in there.catalog.clusters:
        return there.catalog.cluster(names[0]), ""
    return loaded.catalog.cluster(names[0]), loaded.texts.get(str(file), "")


def _site(of: ClusterManifest, paths: tuple[Path, ...]) -> Site:
    """Absolute folders on the cluster; of the embedded one they count from the repository."""
    root = Path()
    if isinstance(of.spec.transport, LocalTransport) or of.spec.launcher.templates is not None:
        try:
            root = revision_of([path.resolve() for path in files.given_or_nearest(paths)]).root
        except NoRepository as error:
            fail(Fault.NO_REPOSITORY, f"{error}: paths of the Cluster are relative to one", "git init")
    return loop.site_of(of.spec, root)


def _connect(of: ClusterManifest, site: Site) -> Transport:
    try:
        return open_link(of.spec, Path(site.root))
    except NoLocalCluster as missing:
        fail(Fault.NO_LOCAL_CLUSTER, str(missing), "reconcile local")
    except ClusterError as error:
        fail_at(error)


def _must_be_foreign(found: Survey, site: Site) -> None:
    """What an attempt of ours has made is in manifests already."""
    workspace = os.path.normpath(site.workspace)
    if found.path == workspace or found.path.startswith(workspace + "/"):
        fail(
            Fault.NOT_ADOPTED,
            f"{found.path} lies in the cluster's workspace: what is there was made by campaigns, not by hand",
        )
    strange = [run.folder for run in found.runs if re.fullmatch(PATH_PATTERN, run.folder) is None]
    if strange:
        fail(
            Fault.NOT_ADOPTED,
            f"{strange[0]!r} has characters that the launcher cannot take in a path",
            "Rename the folder, or move it.",
        )


# --- what is written


def _default_folder(paths: tuple[Path, ...], runs: Adopted) -> Path:
    """manifests/ and what the model is called, as far as that can be a name."""
    last = runs.runs[-1].known
    name = re.sub(r"[^a-z0-9.]+", "-", last.text("model_arch").lower()).strip("-.")
    return files.given_or_nearest(paths)[0] / (f"{name}-adopted" if name else "adopted")


def _place(there: Loaded, of: ClusterManifest, site: Site, folder: Path) -> Place:
    campaign = folder.name
    if re.fullmatch(NAME_PATTERN, campaign) is None:
        fail(
            Fault.NOT_ADOPTED,
            f"{campaign!r} cannot be a campaign's name",
            "Name the folder with small letters, digits, - and dots: -o DIR",
        )
    if campaign in there.catalog.campaigns:
        fail(Fault.NOT_WRITTEN, f"there is a campaign {campaign} already", f"Write to another folder: -o {folder}-2")
    taken = frozenset({*there.catalog.models, *there.catalog.dataset_names})
    return Place(of, site.checkout, site.workspace, campaign, taken)


def _must_validate(there: Loaded, folder: Path, texts: Mapping[str, str]) -> None:
    """Nothing is written that `reconcile validate` would refuse."""
    new = [(str(folder / name), text.encode()) for name, text in texts.items() if name.endswith(".yaml")]
    old = [(name, text.encode()) for name, text in there.texts.items()]
    loaded = loading.load([*old, *new])
    ours = {name for name, _ in new}
    wrong: list[Problem] = [problem for problem in loaded.problems if problem.refuses and problem.where.file in ours]
    if wrong:
        click.echo(render_problems(wrong, loaded.texts, colour=sys.stderr.isatty()) + "\n", err=True)
        fail(Fault.NOT_ADOPTED, "the run cannot be said by manifests as it was found; nothing was written")
    for stage, recipe in adopted_stages(loaded.catalog, folder.name, {}):
        if isinstance(recipe, Unresolved):
            fail(
                Fault.NOT_ADOPTED,
                f"{stage.metadata.name} cannot be said by a manifest; nothing was written: {recipe.message}",
            )


def _print(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if name.endswith(".yaml"):
            click.echo(f"# --- {folder / name}\n{text}")


def _summary(found: Survey, runs: Adopted, folder: Path, texts: Mapping[str, str], *, dry_run: bool) -> str:
    lines = []
    for number, run in enumerate(runs.runs, 1):
        form = "universal" if run.save.universal else counted(run.save.data_parallel, "data-parallel rank")
        lines.append(
            f"stage-{number}  {run.run.folder}\n"
            f"         iteration {run.save.iteration}, {approximate_tokens(run.tokens)} tokens, {form}"
        )
    lines += [f"warning: {harmless(warning)}" for warning in runs.warnings]
    todos = sum(
        text.count("TODO") - 1 for name, text in texts.items() if name.endswith(".yaml") and name != "cluster.yaml"
    )
    if todos:
        lines.append(f"{counted(todos, 'value')} that nothing told {'is' if todos == 1 else 'are'} marked TODO.")
    if dry_run:
        return "\n".join([*lines, "Nothing was written (--dry-run)."])
    quoted = shlex.quote(str(folder))
    lines += [
        f"{counted(len(texts), 'file')} in {folder}; nothing on {found.host} was changed. Read them, then:",
        "",
        f"    reconcile validate && git add {quoted} && git commit -m 'Adopt {folder.name}'",
        f"    reconcile plan {folder.name}",
        "",
    ]
    return "\n".join(lines)
