"""The record of what `apply` does: kept after each pass, with what a person should know of it told once."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from reconciler import loop
from reconciler.cli.opening import Opened
from reconciler.cli.telling import Once
from reconciler.model.cluster import LocalTransport
from reconciler.model.message import Message
from reconciler.planner.desired import Desired
from reconciler.planner.facts import Apart, Applied, place_of
from reconciler.record.commits import Commit, commits
from reconciler.record.git import Git, GitFailed
from reconciler.record.recorder import Recorder


class Keeper:
    """Keeps the record while one command runs."""

    def __init__(self, opened: Opened) -> None:
        self._desired = opened.desired
        self._recorder = Recorder(opened.revision.root, place(opened.desired), shared=shared(opened.desired))
        self._recording = loop.Recording(self._recorder, applied(opened))
        self._once = Once()
        self._closed = False

    def wanted(self) -> Iterable[str]:
        """Paths on the cluster of files that the record lacks."""
        return self._recording.wanted(self._desired)

    def keep(self, done: loop.Pass) -> tuple[Apart, ...]:
        """Put a pass on record; where record and cluster tell differently."""
        recorded = loop.record(self._desired, done, self._recording)
        self._say(recorded.told)
        return recorded.apart

    def close(self, *, share: bool = True) -> None:
        """Share what a remote did not take before; not where somebody waits for the program to end."""
        if share and not self._closed:
            self._say(self._recorder.close())
        self._closed = True

    def _say(self, told: Iterable[Message]) -> None:
        for each in told:
            self._once.say(str(each))


def shared(desired: Desired) -> bool:
    """Whether others apply to the same workspace; on this machine every machine has one of its own."""
    return not isinstance(desired.cluster.transport, LocalTransport)


def place(desired: Desired) -> str:
    """The campaign's folder on record."""
    where = desired.site.workspace if shared(desired) else f"{socket.gethostname()}:{desired.site.workspace}"
    return place_of(desired.campaign, desired.spec.cluster, where)


def applied(opened: Opened) -> Applied:
    """What is applied, and who wrote it."""
    commit, desired = opened.revision.commit, opened.desired
    try:
        wrote = commits(Git(opened.revision.root), [commit]).get(commit, Commit("", "", ""))
    except GitFailed:
        wrote = Commit("", "", "")
    return Applied(
        commit=commit,
        dirty=desired.dirty,
        author=wrote.author,
        authored=wrote.authored,
        subject=wrote.subject,
        manifests=opened.manifests,
        templates={name: template.text for name, template in desired.site.templates.files.items()},
        program=_version(),
    )


def _version() -> str:
    try:
        return version("cpt-reconciler")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return ""
