"""Manifests at any commit, read from git's objects: nothing is checked out, and no cluster is asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reconciler import loop
from reconciler.cli.keeping import place
from reconciler.cli.onrecord import OnRecord, open_record, tree_of
from reconciler.cli.opening import choose, show_problems
from reconciler.cli.provenance import Provenance
from reconciler.cli.telling import fail
from reconciler.cluster.render import packaged
from reconciler.convert.layout import program_text
from reconciler.domain import loading, rules
from reconciler.domain.loading import Loaded
from reconciler.model.faults import Fault
from reconciler.model.observed import ListSeen
from reconciler.model.problems import one_of
from reconciler.model.templates import Template, Templates, Unrenderable
from reconciler.planner.desired import Desired, Site
from reconciler.planner.recalled import Recalled
from reconciler.record.commits import NoSuchRevision, files_at, resolved
from reconciler.record.files import SUFFIXES, given_or_nearest
from reconciler.record.git import Git, GitFailed
from reconciler.record.reading import NoRecord, Reading
from reconciler.record.repository import path_within


def look_at(paths: tuple[Path, ...], campaign: str | None, revision: str) -> tuple[Desired, loop.Look]:
    """A campaign as its manifests at a commit want it, and the record as the look. Exits with a clear message when one
    of them is not to be had."""
    record = open_record(paths)
    return _looked(record, desired_at(record.root, paths, campaign, revision), paths)


def look_if_on_record(paths: tuple[Path, ...], campaign: str | None, revision: str) -> tuple[Desired, loop.Look | None]:
    """The same; no look where nothing of the campaign is on record yet, as before its first apply."""
    root = tree_of(paths)
    desired = desired_at(root, paths, campaign, revision)
    try:
        reading = Reading(root)
    except NoRecord:
        return desired, None
    if desired.campaign not in reading.campaigns():
        return desired, None
    return _looked(OnRecord(root, reading), desired, paths)


def _looked(record: OnRecord, desired: Desired, paths: Sequence[Path]) -> tuple[Desired, loop.Look]:
    recalled = _workspace(record, desired)
    site = recalled.site or next((done.origin.site for done in recalled.done if done.origin is not None), None)
    if site is not None:
        there = Site(site.workspace, site.root, site.checkout, program_text(), desired.site.templates)
        desired = replace(desired, site=there)
    by = Provenance(record.root, paths)
    return desired, loop.planned(desired, recalled.observed(_lists(record, recalled)), by=by)


def _workspace(record: OnRecord, desired: Desired) -> Recalled:
    """The campaign in the workspace that its manifests name, or in the only one that is on record."""
    known = record.campaign(desired.campaign)
    wanted = place(desired)
    found = next((each for each in known if each.place == wanted), known[0] if len(known) == 1 else None)
    if found is None:
        fail(
            Fault.NOT_ON_RECORD,
            f"{desired.campaign} is on record in {one_of(each.name for each in known)}, not where its manifests say",
        )
    return found


def _lists(record: OnRecord, recalled: Recalled) -> dict[str, ListSeen]:
    """Every data list that is on record, each path as the last job found it."""
    lists: dict[str, ListSeen] = {}
    for done in reversed(recalled.done):
        if done.origin is not None and any(path not in lists for path in done.origin.lists):
            lists = record.reading.lists(done.origin) | lists
    return lists


class NotReadable(Exception):
    """A campaign at a commit is not to be had; says why."""


class NotThere(NotReadable):
    """There is no such campaign at that commit."""


def desired_at(root: Path, paths: Sequence[Path], campaign: str | None, revision: str) -> Desired:
    """A campaign as its manifests at a commit want it. Exits with a clear message when it is not to be had."""
    contents, commit = _manifests_at(root, paths, revision)
    if not contents:
        fail(Fault.NO_SUCH_REVISION, f"there are no manifests at {revision} where they are looked for")
    loaded = loading.load(contents)
    if not loaded.ok:
        show_problems(loaded)
        fail(Fault.NO_SUCH_REVISION, f"the manifests at {revision} have problems by this version's reading")
    return _desired(root, loaded, choose(loaded.catalog, campaign), commit)


def base_at(root: Path, paths: Sequence[Path], campaign: str, revision: str) -> Desired:
    """What a change is compared with.

    Raises:
        NotReadable: the campaign is not there at that commit, or cannot be read.
    """
    contents, commit = _manifests_at(root, paths, revision)
    loaded = loading.load(contents)
    if contents and not loaded.ok:
        raise NotReadable(f"the manifests at {commit[:9]} have problems by this version's reading")
    if campaign not in loaded.catalog.campaigns:
        raise NotThere(f"there is no campaign {campaign} at {commit[:9]}: all of it is new")
    return _desired(root, loaded, campaign, commit)


def _manifests_at(root: Path, paths: Sequence[Path], revision: str) -> tuple[Sequence[tuple[str, bytes]], str]:
    """The manifests at a commit, unread, and the commit. Exits with a clear message when there is no such commit."""
    git = Git(root)
    folders = [path_within(root, path) for path in given_or_nearest(paths)]
    try:
        commit = resolved(git, revision)
        return list(files_at(git, commit, folders, SUFFIXES)), commit
    except (NoSuchRevision, GitFailed) as missing:
        fail(Fault.NO_SUCH_REVISION, str(missing), "git fetch --unshallow      (if the clone is a shallow one)")


def _desired(root: Path, loaded: Loaded, campaign: str, commit: str) -> Desired:
    git = Git(root)
    cluster = loaded.catalog.cluster_of(campaign).spec
    folder = cluster.launcher.templates
    try:
        own = dict(files_at(git, commit, [folder], (".pbs", ".sh"))) if folder is not None else {}
        site = loop.site_of(cluster, root, _templates(folder, own))
    except (GitFailed, Unrenderable) as broken:
        fail(Fault.NO_SUCH_REVISION, f"the templates at {commit[:9]} cannot be read: {broken}")
    return Desired(loaded.catalog, campaign, commit, False, site, findings=rules.findings(loaded.catalog, campaign))


def _templates(folder: str | None, own: dict[str, bytes]) -> Templates:
    files = {
        os.path.relpath(path, folder): Template(text.decode("utf-8", "replace"), path) for path, text in own.items()
    }
    return Templates({**packaged().files, **files}, folder or "")
