"""Manifests at any commit, read from git's objects: nothing is checked out, and no cluster is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler import loop
from reconciler.cli.keeping import place
from reconciler.cli.onrecord import OnRecord, open_record
from reconciler.cli.opening import choose, fail, show_problems
from reconciler.cluster.render import packaged
from reconciler.convert.layout import program_text
from reconciler.domain import loading, rules
from reconciler.domain.loading import Loaded
from reconciler.model.observed import ListSeen
from reconciler.model.problems import one_of
from reconciler.model.templates import Template, Templates, Unrenderable
from reconciler.planner.desired import Desired, Site
from reconciler.planner.planner import plan
from reconciler.planner.recalled import Recalled
from reconciler.record.commits import NoSuchRevision, files_at, resolved
from reconciler.record.files import SUFFIXES, given_or_nearest
from reconciler.record.git import Git, GitFailed


def look_at(paths: tuple[Path, ...], campaign: str | None, revision: str) -> tuple[Desired, loop.Look]:
    """A campaign as its manifests at a commit want it, and the record as the look. Exits with a clear message when one
    of them is not to be had."""
    record = open_record(paths)
    desired = desired_at(record.root, paths, campaign, revision)
    recalled = _workspace(record, desired)
    site = recalled.site or next((done.origin.site for done in recalled.done if done.origin is not None), None)
    if site is not None:
        there = Site(site.workspace, site.root, site.checkout, program_text(), desired.site.templates)
        desired = Desired(desired.catalog, desired.campaign, desired.revision, False, there, findings=desired.findings)
    observed = recalled.observed(_lists(record, recalled))
    return desired, loop.Look(observed, plan(desired, observed))


def _workspace(record: OnRecord, desired: Desired) -> Recalled:
    """The campaign in the workspace that its manifests name, or in the only one that is on record."""
    known = record.campaign(desired.campaign)
    wanted = place(desired)
    found = next((each for each in known if each.place == wanted), known[0] if len(known) == 1 else None)
    if found is None:
        fail(
            f"{desired.campaign} is on record in {one_of(each.name for each in known)}, and not where its manifests say"
        )
    return found


def _lists(record: OnRecord, recalled: Recalled) -> dict[str, ListSeen]:
    """Every data list that is on record, each path as the last job found it."""
    lists: dict[str, ListSeen] = {}
    for done in reversed(recalled.done):
        if done.origin is not None and any(path not in lists for path in done.origin.lists):
            lists = record.reading.lists(done.origin) | lists
    return lists


def desired_at(root: Path, paths: Sequence[Path], campaign: str | None, revision: str) -> Desired:
    """A campaign as its manifests at a commit want it."""
    git = Git(root)
    real = os.path.realpath(root)
    folders = [os.path.relpath(os.path.realpath(path), real) for path in given_or_nearest(paths)]
    try:
        commit = resolved(git, revision)
        contents = files_at(git, commit, folders, SUFFIXES)
    except (NoSuchRevision, GitFailed) as missing:
        fail(str(missing), "git fetch --unshallow      (if the clone is a shallow one)")
    if not contents:
        fail(f"there are no manifests in {one_of(folders)} at {revision}")
    loaded = loading.load(contents)
    if not loaded.ok:
        show_problems(loaded)
        fail(f"the manifests at {revision} have problems by this version's reading")
    name = choose(loaded.catalog, campaign)
    return _desired(git, loaded, name, commit, root)


def _desired(git: Git, loaded: Loaded, campaign: str, commit: str, root: Path) -> Desired:
    cluster = loaded.catalog.cluster_of(campaign).spec
    folder = cluster.launcher.templates
    try:
        own = dict(files_at(git, commit, [folder], (".pbs", ".sh"))) if folder is not None else {}
        site = loop.site_of(cluster, root, _templates(folder, own))
    except (GitFailed, Unrenderable) as broken:
        fail(f"the templates at {commit[:9]} cannot be read: {broken}")
    return Desired(loaded.catalog, campaign, commit, False, site, findings=rules.findings(loaded.catalog, campaign))


def _templates(folder: str | None, own: dict[str, bytes]) -> Templates:
    files = {
        os.path.relpath(path, folder): Template(text.decode("utf-8", "replace"), path) for path, text in own.items()
    }
    return Templates({**packaged().files, **files}, folder or "")
