"""Where a manifest's line and a commit can be seen: on the forge that the remote is of, else as text. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from reconciler.model.problems import Where

_HTTP: Final = re.compile(r"https?://(?:[^/@]*@)?(?P<host>[A-Za-z0-9.-]+)(?::[0-9]+)?/(?P<path>[^?#]+)")
_SSH: Final = re.compile(
    r"(?:ssh://)?(?:[A-Za-z0-9._-]+@)?(?P<host>[A-Za-z0-9.-]+)(?::(?:[0-9]+/)?|/)(?P<path>[^?#:]+)"
)
_PART: Final = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_PATHS: Final = {
    "github": ("/commit/{commit}", "/blob/{commit}/{file}#L{line}"),
    "gitlab": ("/-/commit/{commit}", "/-/blob/{commit}/{file}#L{line}"),
    "gitea": ("/commit/{commit}", "/src/commit/{commit}/{file}#L{line}"),
    "bitbucket": ("/commits/{commit}", "/src/{commit}/{file}#lines-{line}"),
}
_KINDS: Final = {"github": "github", "gitlab": "gitlab", "codeberg": "gitea", "gitea": "gitea", "forgejo": "gitea"}
COMMIT_SHOWN: Final = 9
"""Digits of a commit's name."""


@dataclass(frozen=True, slots=True)
class Forge:
    """A repository's pages on a forge."""

    base: str
    """Without credentials, and https whatever the remote is."""
    commit_path: str
    file_path: str


def forge_of(remote: str) -> Forge | None:
    """The forge that a remote's URL is of, by its host's name; None for any other, and for what is odd."""
    found = _HTTP.fullmatch(remote.strip()) or _SSH.fullmatch(remote.strip())
    if found is None:
        return None
    host = found["host"].lower()
    kind = "bitbucket" if host == "bitbucket.org" else _KINDS.get(host.split(".")[0])
    parts = found["path"].removesuffix("/").removesuffix(".git").strip("/").split("/")
    if kind is None or "." not in host or len(parts) < 2 or not all(map(_PART.fullmatch, parts)):
        return None
    return Forge(f"https://{host}/{'/'.join(parts)}", *_PATHS[kind])


@dataclass(frozen=True, slots=True)
class Link:
    """What is shown, and where it leads; `url` is empty where that is nowhere."""

    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """How files and commits of one repository are shown."""

    commit: str
    """That the manifests were read at."""
    forge: Forge | None = None
    shared: frozenset[str] = frozenset()
    """Commits that the forge has, as far as this clone knows."""
    files: Mapping[str, str] = field(default_factory=dict)
    """A manifest's file, as it was read → its path in the repository."""
    loose: frozenset[str] = frozenset()
    """Paths of files that are not as the commit has them."""

    def of_commit(self, commit: str) -> Link:
        """A commit."""
        plain = commit.removesuffix("+")
        if not plain:
            return Link("no commit")
        url = ""
        if self.forge is not None and plain in self.shared:
            url = self.forge.base + self.forge.commit_path.format(commit=plain)
        return Link(plain[:COMMIT_SHOWN] + ("+" if commit != plain else ""), url)

    def of_line(self, where: Where) -> Link:
        """A line of a manifest."""
        file = self.files.get(where.file, where.file)
        if file in self.loose:
            return Link(f"{file}:{where.line}, not as committed")
        if self.forge is None or self.commit not in self.shared:
            return Link(f"{file}:{where.line} @ {self.commit[:COMMIT_SHOWN]}")
        path = self.forge.file_path.format(commit=self.commit, file=quote(file), line=where.line)
        return Link(f"{file}:{where.line}", self.forge.base + path)
