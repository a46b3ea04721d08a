"""Manifest files of the working tree: which there are, and their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reconciler.model.problems import Problem, Where
from reconciler.model.source import FILE_BYTES_MAX, too_large
from reconciler.record.repository import working_tree_of

if TYPE_CHECKING:
    from reconciler.domain.loading import Loaded

DEFAULT: Final = "manifests"
SUFFIXES: Final = (".yaml", ".yml")
FILES_MAX: Final = 20_000
TOTAL_BYTES_MAX: Final = 200_000_000


def given_or_nearest(paths: Sequence[Path]) -> list[Path]:
    """`paths`, or without any the folder `manifests` here or in the nearest folder above it, up to the repository's."""
    if paths:
        return list(paths)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DEFAULT).is_dir():
            return [Path(os.path.relpath(folder / DEFAULT))]
        if (folder / ".git").exists():
            break
    return [Path(DEFAULT)]


def load(paths: Sequence[Path]) -> Loaded:
    """Everything that the given files and directories hold, checked; see `given_or_nearest` for none."""
    from reconciler.domain import loading  # which kinds there are is nothing that a completion wants to wait for

    contents, problems = read(given_or_nearest(paths))
    return loading.load(contents, problems)


def read(paths: Sequence[Path]) -> tuple[list[tuple[str, bytes]], list[Problem]]:
    """(name, content) of each manifest file in order, once each, and what could not be read.

    Directories are walked for *.yaml and *.yml in sorted order, hidden ones left out. A link met on the way is
    followed only to a file that lies inside the directory named; a path given by name is followed within its git
    working tree, since a pull request may have made a link of it, and anywhere where there is none.
    """
    contents: list[tuple[str, bytes]] = []
    problems: list[Problem] = []
    seen: set[Path] = set()
    total_bytes = 0
    for path in paths:
        for found in _files(path):
            if isinstance(found, Problem):
                problems.append(found)
                continue
            real = Path(os.path.realpath(found))
            if real in seen:
                continue
            seen.add(real)
            content = _content(found)
            if isinstance(content, Problem):
                problems.append(content)
                continue
            total_bytes += len(content)
            if len(seen) > FILES_MAX or total_bytes > TOTAL_BYTES_MAX:
                limit = f"{FILES_MAX} files or {TOTAL_BYTES_MAX // 10**6} MB of manifests"
                return contents, [*problems, Problem("M002", Where(str(path)), f"more than {limit} here")]
            contents.append((str(found), content))
    return contents, problems


def _files(path: Path) -> Iterator[Path | Problem]:
    """The manifest files that a path stands for, or why there is none."""
    tree = working_tree_of(path)
    if tree is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(tree)):
        detail = "a link that leads out of the repository"
        yield Problem("M001", Where(str(path)), detail, fix="Name the place that it leads to if that is meant.")
        return
    if not path.is_dir():
        yield path
        return
    root = Path(os.path.realpath(path))
    problems: list[Problem] = []

    def unreadable(error: OSError) -> None:
        problems.append(_unreadable(Path(str(error.filename)), error))

    found = False
    for folder, folders, names in os.walk(path, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            if not name.endswith(SUFFIXES) or name.startswith("."):
                continue
            if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
                detail = "a link that leads out of the directory"
                problems.append(Problem("M001", Where(str(file)), detail, fix="Name the file itself if it is meant."))
                continue
            found = True
            yield file
    yield from problems
    if not found and not problems:
        yield Problem("M003", Where(str(path)), "no *.yaml or *.yml file", fix="Name another file or directory.")


def _content(file: Path) -> bytes | Problem:
    try:
        size_bytes = file.stat().st_size
        if size_bytes > FILE_BYTES_MAX:
            return too_large(str(file), size_bytes)
        if not file.is_file():
            return Problem("M001", Where(str(file)), "neither a file nor a directory")
        with file.open("rb") as stream:
            # One byte more than allowed: a file that grows meanwhile is refused, not cut.
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return _unreadable(file, error)
    return content if len(content) <= FILE_BYTES_MAX else too_large(str(file), len(content))


def _unreadable(file: Path, error: OSError) -> Problem:
    reason = (error.strerror or str(error)).lower()
    fix = None
    if isinstance(error, FileNotFoundError):
        fix = "Name the file or folder that holds the manifests; `reconcile init` writes those of a new campaign."
    return Problem("M001", Where(str(file)), reason, fix=fix)
