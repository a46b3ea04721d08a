"""Real repositories for the record: a bare remote, behind a real sshd or in a folder, and clones of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from reconciler.record.branch import Branch

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Plain git, as a person runs it."""
    command = ["git", *IDENTITY, *arguments]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
    return done.stdout


def head(root: Path) -> str:
    """The commit that is checked out."""
    return git(root, "rev-parse", "HEAD").strip()


def repository(folder: Path) -> Path:
    """A repository with one commit of manifests."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "manifests").mkdir()
    (folder / "manifests/campaign.yaml").write_text("kind: Campaign\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Plan")
    return folder


def bare(folder: Path, of: Path) -> Path:
    """A bare remote that has what a repository has."""
    git(of, "clone", "-q", "--bare", str(of), str(folder))
    return folder


def clone(folder: Path, url: str, *arguments: str) -> Path:
    """A clone, as a colleague or a runner makes it."""
    git(folder.parent, "clone", "-q", *arguments, url, str(folder))
    return folder


def newest(path: str, there: bytes, new: bytes) -> bytes:
    """A rule for tests: the greater text stays."""
    return max(there, new)


def on(root: Path, ref: str = "refs/heads/reconcile/record") -> dict[str, str]:
    """Every file that the record of a repository has, by plain git."""
    names = git(root, "ls-tree", "-r", "-z", "--name-only", ref).split("\0")
    return {name: git(root, "show", f"{ref}:{name}") for name in names if name}


def state(root: Path) -> tuple[str, str, bytes]:
    """What must not change: HEAD, the working tree's status, the index."""
    index = Path(git(root, "rev-parse", "--path-format=absolute", "--git-path", "index").strip())
    return git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain"), index.read_bytes()


def put(root: Path, **files: str) -> str | None:
    """Put `name=text` on the record as `name.json`."""
    texts = {f"{name}.json": text.encode() for name, text in files.items()}
    return Branch(root).put(texts, newest, lambda paths: f"{len(paths)} new")
