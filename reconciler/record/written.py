"""Trees and commits made by plumbing: neither the index nor the working tree of anybody is touched."""

from __future__ import annotations

import getpass
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.record.git import Git, GitFailed


def blobs(git: Git, texts: Sequence[bytes]) -> list[str]:
    """The names of these contents, which are kept as they are."""
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, text in enumerate(texts):
            place = Path(folder) / str(number)
            place.write_bytes(text)
            names.append(f"{place}\n")
        # Without filters: an attribute of the repository must not change what is kept.
        return git.text("hash-object", "-w", "--no-filters", "--stdin-paths", stdin="".join(names).encode()).split()


def tree(git: Git, before: str | None, files: Mapping[str, tuple[str, str]]) -> str:
    """The tree of a commit with these files in it: path → (mode, blob)."""
    with tempfile.TemporaryDirectory() as folder:
        private = git.having(GIT_INDEX_FILE=f"{folder}/index")
        if before is not None:
            private.run("read-tree", before)
        listed = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in files.items())
        private.run("update-index", "-z", "--add", "--replace", "--index-info", stdin=listed.encode())
        return private.text("write-tree").strip()


def commit(git: Git, tree: str, parents: Sequence[str], message: str) -> str:
    """A commit that no ref names yet."""
    told = [word for parent in parents for word in ("-p", parent)]
    return _identified(git).text("commit-tree", tree, *told, stdin=f"{message}\n".encode()).strip()


def _identified(git: Git) -> Git:
    """As git knows the person; where it does not, as in many a runner, as the account on this machine."""
    try:
        git.run("var", "GIT_COMMITTER_IDENT")
        git.run("var", "GIT_AUTHOR_IDENT")
    except GitFailed:
        name, mail = getpass.getuser(), f"{getpass.getuser()}@{socket.gethostname()}"
        who = {"GIT_AUTHOR_NAME": name, "GIT_COMMITTER_NAME": name}
        return git.having(**who, GIT_AUTHOR_EMAIL=mail, GIT_COMMITTER_EMAIL=mail)
    return git
