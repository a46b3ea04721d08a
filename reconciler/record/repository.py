"""Where the manifests come from: the commit they were read at, and what of them is not in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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


def revision_of(paths: Sequence[Path], beside: Sequence[str] = ()) -> Revision:
    """The revision of the working tree around the first path, and which files under `paths` are loose.

    `beside` names further files and folders, relative to the root of the working tree.

    Raises:
        NoRepository: no working tree there, or git cannot read it.
    """
    import git  # here, not above: it costs a quarter of a status command's time

    start = paths[0] if paths[0].is_dir() else paths[0].parent
    try:
        repository = git.Repo(start, search_parent_directories=True)
        root = Path(repository.working_dir)
        commit = repository.head.commit.hexsha if repository.head.is_valid() else ""
        # One command for both kinds of looseness; `-z` because names may hold anything.
        told = repository.git.status("--porcelain=v1", "-z", "--untracked-files=all", "--", *map(str, paths), *beside)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise NoRepository(f"{start} is not in a git working tree") from error
    except git.GitCommandError as error:
        raise NoRepository(f"git cannot read {start}: {error.stderr.strip()}") from error
    loose = tuple(sorted(entry[3:] for entry in told.split("\0") if len(entry) > 3))
    return Revision(root, commit, loose)
