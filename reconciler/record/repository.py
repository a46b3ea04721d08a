"""Where the manifests come from: the commit they were read at, and what of them is not in it.

The files may be a stranger's pull request, and the repository an archive that somebody sent, so asking git runs nothing
of either: the working tree is found by its `.git` alone (a folder can be made to look like a bare repository, with a
configuration of its own), and what a configuration could have run is switched off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.record.git import QUIET, Git, GitFailed
from reconciler.record.objects import blob_name, hash_of

FILES: Final = (".yaml", ".yml", ".pbs", ".sh")
"""What is read of a repository: manifests, and templates of job scripts."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The state of the working tree that holds the manifests."""

    root: Path
    commit: str
    """Full hexadecimal name; empty before the first commit."""
    loose: tuple[str, ...]
    """Manifest files that differ from the commit or are not in it, relative to the root."""

    @property
    def short(self) -> str:
        """The commit as people write it."""
        return self.commit[:9] if self.commit else "no commit"


class NoRepository(Exception):
    """The manifests are not in a git working tree."""


_HEARD: Final = "filter.reconcile.clean"
"""Set to nothing, to see that git heeds what is set."""


_WATCHING: Final = {"core.trustctime": "true", "core.checkStat": "default"}
"""By less than this git takes a file for unchanged that somebody has given its old size and time."""


def working_tree_of(path: Path) -> Path | None:
    """The nearest folder with a `.git`, from a path upwards as it is written: links are not followed. None for none.

    git refuses to check out any `.git`, so no pull request can bring one.
    """
    start = _absolute(path)
    return next((folder for folder in (start, *start.parents) if os.path.lexists(folder / ".git")), None)


def path_within(root: Path, path: str | Path) -> str:
    """A path as the repository has it, links followed on both sides; one that begins with `..` lies outside."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(root))


def revision_of(paths: Sequence[Path], beside: Sequence[str] = ()) -> Revision:
    """The revision of the working tree around the first path, and which files under `paths` are loose.

    `beside` names further files and folders, relative to the root of the working tree. The files of a submodule are in
    no commit of this repository, so one among the manifests is loose, whatever its state.

    Raises:
        NoRepository: no working tree there, or git cannot read it.
    """
    wanted = [*(os.path.realpath(path) for path in paths), *beside]
    root = working_tree_of(Path(wanted[0]))
    if root is None:
        raise NoRepository(f"{paths[0]} is not in a git working tree")
    quiet = QUIET | _WATCHING | dict.fromkeys(_filters(root), "")
    # One command for the commit and both kinds of looseness; `-z` because names may hold anything.
    every = ("--untracked-files=all", "--ignored=traditional", "--ignore-submodules=dirty", "--no-renames")
    told = _git(root, quiet, "status", "--porcelain=v2", "--branch", "-z", *every, "--", *wanted).split("\0")
    head = next(line.removeprefix("# branch.oid ") for line in told if line.startswith("# branch.oid "))
    loose = {*_named(told), *_unwatched(root, _git(root, quiet, "ls-files", "-v", "-s", "-z", "--", *wanted))}
    return Revision(root, "" if head == "(initial)" else head, tuple(sorted(loose)))


def came_with_git(folder: Path) -> bool:
    """Whether git has the folder or something in it, so that a pull request may have brought it: by its name or, where
    a link is on the way, by the place it leads to.

    Raises:
        NoRepository: git cannot tell.
    """
    for place in {_absolute(folder), Path(os.path.realpath(folder))}:
        root = working_tree_of(place)
        if root is None:
            continue
        inside = place.relative_to(root)
        on_the_way = {str(path) for path in (inside, *inside.parents) if path != Path()}
        listed = filter(None, _git(root, QUIET, "ls-files", "-z", "--", *on_the_way).split("\0"))
        if any(name in on_the_way or Path(name).is_relative_to(inside) for name in listed):
            return True
    return False


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # `resolve` would follow links


def _named(told: Sequence[str]) -> Iterator[str]:
    """The paths in `status --porcelain=v2 -z`: behind eight fields, ten for a conflict, one for an untracked file. Of
    what is ignored only what is read counts: people ignore what lies about."""
    fields = {"1": 8, "u": 10, "?": 1, "!": 1}
    for line in told:
        if line[:1] in fields:
            path = line.split(" ", fields[line[0]])[-1]
            if line[0] != "!" or path.endswith(FILES):
                yield path


def _unwatched(root: Path, listed: str) -> Iterator[str]:
    """The paths in `ls-files -v -s -z` whose files git does not compare: submodules, and what it was told to leave be
    (`update-index --assume-unchanged`, `--skip-worktree`) where it has another file."""
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        tag, mode, name, _ = about.split()
        if mode == "160000" or ((tag.islower() or tag == "S") and not _is(root / path, name)):
            yield path


def _is(file: Path, name: str) -> bool:
    """Whether a file has the content that git has a name for; one that is not there is not read either."""
    if not file.is_file():
        return True
    return blob_name(file.read_bytes(), hash_of(name)) == name


def _filters(root: Path) -> Iterator[str]:
    """What the repository's own configuration says of filters: programs that git would put a changed file through."""
    asked = ("--show-scope", "--name-only", "-z", "--get-regexp", r"^filter\.")
    words = _git(root, QUIET | {_HEARD: ""}, "config", *asked).split("\0")
    found = list(zip(words[::2], words[1::2], strict=False))
    if ("command", _HEARD) not in found:
        raise NoRepository(f"{root} is not read: git 2.31 or newer is needed, which can be told to run nothing of it")
    yield from (name for scope, name in found if scope in ("local", "worktree"))


def _git(root: Path, settings: Mapping[str, str], *arguments: str) -> str:
    """What a git command printed."""
    try:
        return Git(root, settings).text(*arguments)
    except GitFailed as failed:
        raise NoRepository(f"git cannot read {root}: {failed}") from failed
