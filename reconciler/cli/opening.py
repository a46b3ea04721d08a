"""From the command line to something to work with: manifests read and checked, the campaign chosen, the link opened."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from reconciler import loop
from reconciler.cli.connecting import NoLocalCluster, open_link
from reconciler.cli.problems import render as render_problems
from reconciler.cli.scripts import with_scripts_checked
from reconciler.cli.telling import fail, warn
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.domain import rules
from reconciler.domain.catalog import Catalog
from reconciler.domain.loading import Loaded
from reconciler.model.faults import Fault
from reconciler.model.problems import Problem, clip, near
from reconciler.planner.desired import Desired
from reconciler.record import files
from reconciler.record.reading import NoRecord, Reading
from reconciler.record.repository import NoRepository, Revision, path_within, revision_of


@dataclass(frozen=True, slots=True)
class Opened:
    """A campaign ready to be looked at."""

    desired: Desired
    revision: Revision
    manifests: Mapping[str, str]
    """Path in the repository → text, of all that was read."""


manifests_option = click.option(
    "--manifests",
    "-f",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File or directory with manifests (repeatable).  [default: manifests]",
)
"""Where the manifests are; every command that works on a campaign has it."""


def read(paths: tuple[Path, ...]) -> Catalog:
    """Every manifest under `paths`, or all problems on standard error and exit status 1."""
    return _loaded(paths).catalog


def _loaded(paths: tuple[Path, ...]) -> Loaded:
    loaded = with_scripts_checked(files.load(paths), paths)
    # Where nothing keeps the manifests from being used, what the cookbook's rules find is told by the plan.
    told = [problem for problem in loaded.problems if problem.rule is None or not loaded.ok]
    if told:
        show_problems(loaded, told)
    if not loaded.ok:
        fail(
            Fault.MANIFESTS_FAULTY,
            "the manifests have problems; nothing was done",
            " ".join(["reconcile validate", *map(str, paths)]),
        )
    return loaded


def show_problems(loaded: Loaded, told: Sequence[Problem] | None = None) -> None:
    """Problems on standard error, each with its place; without a choice of them all that refuse."""
    chosen = told if told is not None else [problem for problem in loaded.problems if problem.refuses]
    click.echo(render_problems(chosen, loaded.texts, colour=sys.stderr.isatty()), err=True)
    click.echo(err=True)


def choose(catalog: Catalog, name: str | None) -> str:
    """The campaign that was named, or the only one."""
    if name is None and len(catalog.campaigns) == 1:
        return catalog.campaigns[0]
    if name in catalog.campaigns:
        return str(name)
    known = ", ".join(catalog.campaigns) or "none"
    if name is None:
        fail(Fault.NAME_NEEDED, f"there are several campaigns here: {known}; name one", _naming_one())
    meant = near(name, catalog.campaigns)
    fail(
        Fault.NO_SUCH_NAME,
        f"there is no campaign {name!r} here; there is {known}" + (f". Did you mean {meant}?" if meant else ""),
    )


def open_campaign(
    paths: tuple[Path, ...], name: str | None, retry: tuple[str, ...] = (), perhaps: str | None = None
) -> Opened:
    """Manifests, campaign and revision. Exits with a clear message when one of them is not to be had. `perhaps` is a
    word of the command line that may be a campaign's name, where none is given."""
    loaded = _loaded(paths)
    catalog = loaded.catalog
    if name is None and perhaps in catalog.campaigns:
        name = perhaps
    campaign = choose(catalog, name)
    cluster = catalog.cluster_of(campaign).spec
    beside = [cluster.launcher.templates] if cluster.launcher.templates else []
    try:
        revision = revision_of([path.resolve() for path in files.given_or_nearest(paths)], beside)
    except NoRepository as error:
        fail(
            Fault.NO_REPOSITORY,
            f"{error}: the plan's history is kept in git",
            "git init && git add manifests && git commit",
        )
    unknown = [stage for stage in retry if stage not in {s.metadata.name for s in catalog.stages(campaign)}]
    if unknown:
        fail(Fault.NO_SUCH_NAME, f"--retry names {unknown[0]!r}, which is no stage of {campaign}")
    site = loop.site_of(cluster, revision.root)
    findings = rules.findings(catalog, campaign)
    desired = Desired(catalog, campaign, revision.commit, bool(revision.loose), site, frozenset(retry), findings)
    manifests = {path_within(revision.root, name): text for name, text in loaded.texts.items()}
    return Opened(desired, revision, {path: text for path, text in manifests.items() if not path.startswith("..")})


def connect(opened: Opened) -> Transport:
    """The link to the campaign's cluster, or a clear message and exit status 1."""
    try:
        return open_link(opened.desired.cluster, Path(opened.desired.site.root))
    except NoLocalCluster as missing:
        fail(Fault.NO_LOCAL_CLUSTER, str(missing), f"reconcile local {opened.desired.campaign}")
    except ClusterError as error:
        warn(error.fault, str(error), error.fix)
        if _at_is_taken() and _is_on_record(opened):
            click.echo("To see what is on record, without the cluster: the same command with --at HEAD", err=True)
        raise SystemExit(1) from error


def _at_is_taken() -> bool:
    return any("--at" in param.opts for param in click.get_current_context().command.params)


def _is_on_record(opened: Opened) -> bool:
    try:
        return opened.desired.campaign in Reading(opened.revision.root).campaigns()
    except NoRecord:
        return False


def _naming_one() -> str:
    """The command as the person began it, with its arguments and the place of the campaign's name."""
    context = click.get_current_context()
    words = [_command()]
    place = "--campaign NAME"
    for param in context.command.params:
        given = context.params.get(param.name or "")
        if isinstance(param, click.Argument):
            if param.name == "campaign":
                place = "CAMPAIGN"
            elif isinstance(given, str):
                words.append(shlex.quote(clip(given, 60)))
    return " ".join([*words, place])


def _command() -> str:
    """The command as the person began it: `reconcile status`."""
    return click.get_current_context().command_path
