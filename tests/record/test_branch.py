"""The record's branch: written by plumbing, in whatever kind of checkout, and nothing of the person's is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.record.branch import REF, Branch, Entry, Tree
from reconciler.record.git import GitFailed
from tests.record.repositories import clone, git, newest, on, put, repository, state


def plain(top: Path) -> Path:
    return repository(top / "plain")


def detached(top: Path) -> Path:
    root = repository(top / "detached")
    git(root, "checkout", "-q", "--detach")
    return root


def worktree(top: Path) -> Path:
    git(repository(top / "main"), "worktree", "add", "-q", "--detach", str(top / "tree"))
    return top / "tree"


def shallow(top: Path) -> Path:
    root = repository(top / "long")
    git(root, "commit", "-q", "--allow-empty", "-m", "More")
    return clone(top / "shallow", f"file://{root}", "--depth", "1", "--no-single-branch")


def submodule(top: Path) -> Path:
    inner, outer = repository(top / "inner"), repository(top / "outer")
    git(outer, "submodule", "add", "-q", str(inner), "plans")
    return outer / "plans"


def unborn(top: Path) -> Path:
    (top / "new").mkdir()
    git(top / "new", "init", "-q", "-b", "main")
    (top / "new/.gitattributes").write_text("* text eol=crlf\n")
    git(top / "new", "add", ".")
    return top / "new"


def bare_with_a_worktree(top: Path) -> Path:
    """As some runners, and people with many worktrees, have it."""
    project = top / "project"
    project.mkdir()
    git(project, "clone", "-q", "--bare", str(repository(top / "from")), ".bare")
    (project / ".git").write_text("gitdir: ./.bare\n")
    git(project, "worktree", "add", "-q", "main")
    return project / "main"


CHECKOUTS = [plain, bare_with_a_worktree, detached, worktree, shallow, submodule]


@pytest.mark.parametrize("make", CHECKOUTS)
def test_it_is_written_in_every_kind_of_checkout_and_nothing_else_changes(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    root = make(tmp_path)
    (root / "manifests/campaign.yaml").write_text("kind: Campaign  # being edited\n")
    (root / "staged.txt").write_text("staged")
    git(root, "add", "staged.txt")
    before = state(root)
    put(root, one="1")
    put(root, two="2")
    assert on(root) == {"one.json": "1", "two.json": "2"}
    assert state(root) == before
    assert git(root, "rev-list", "--count", REF) == "2\n"
    git(root, "fsck", "--strict")


def test_it_is_written_before_the_first_commit(tmp_path: Path) -> None:
    root = unborn(tmp_path)
    put(root, one="1\n")
    assert on(root) == {"one.json": "1\n"}  # no attribute of the repository changes it


def test_a_pass_that_has_nothing_new_writes_nothing(tmp_path: Path) -> None:
    root = plain(tmp_path)
    put(root, one="1", two="2")
    tip = Branch(root).tip()
    assert put(root, one="1") is None
    assert put(root, one="0") is None  # what is there says more
    assert Branch(root).tip() == tip


def test_what_says_more_takes_the_place_of_what_said_less(tmp_path: Path) -> None:
    root = plain(tmp_path)
    put(root, one="1", two="2")
    put(root, one="3")
    assert on(root) == {"one.json": "3", "two.json": "2"}
    assert git(root, "show", f"{REF}~1:one.json") == "1"


def test_many_that_write_at_once_all_get_their_files_on(tmp_path: Path) -> None:
    root = plain(tmp_path)
    threads = [threading.Thread(target=put, args=(root,), kwargs={f"by{n}": str(n)}) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on(root) == {f"by{n}.json": str(n) for n in range(6)}


def test_who_wrote_is_who_git_says_and_else_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plain(tmp_path)
    git(root, "config", "user.name", "Ada Lovelace")
    git(root, "config", "user.email", "ada@example.org")
    put(root, one="1")
    assert git(root, "log", "-1", "--format=%an <%ae>", REF) == "Ada Lovelace <ada@example.org>\n"
    git(root, "config", "--unset", "user.name")
    git(root, "config", "--unset", "user.email")
    git(root, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    put(root, two="2")
    assert "@" in git(root, "log", "-1", "--format=%ae", REF)


def test_started_by_a_hook_it_writes_to_the_repository_of_the_manifests(tmp_path: Path) -> None:
    """git tells its hooks where its own repository and index are."""
    root, other = plain(tmp_path), repository(tmp_path / "other")
    code = f"from pathlib import Path; from tests.record.repositories import put; put(Path({str(root)!r}), one='1')"
    hook = other / ".git/hooks/pre-commit"
    hook.write_text(f'#!/bin/sh\ncd {Path(__file__).parents[2]} && exec {sys.executable} -c "{code}"\n')
    hook.chmod(0o755)
    git(other, "commit", "-q", "--allow-empty", "-m", "starts a hook")
    assert on(root) == {"one.json": "1"}
    assert Branch(other).tip() is None


def test_no_hook_and_no_program_of_the_repository_runs(tmp_path: Path) -> None:
    root = plain(tmp_path)
    canary = tmp_path / "ran"
    for name in ("reference-transaction", "post-commit", "pre-push", "post-index-change"):
        hook = root / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {canary}\n")
        hook.chmod(0o755)
    with (root / ".git/config").open("a") as config:
        config.write(
            f'[core]\nfsmonitor = "touch {canary}; false"\n[gpg]\nprogram = "{canary}"\n[commit]\ngpgSign = true\n'
        )
        config.write(f'[filter "x"]\nclean = "touch {canary}"\nrequired\n')
    (root / ".gitattributes").write_text("* filter=x\n")
    put(root, one="1")
    assert on(root) == {"one.json": "1"}
    assert not canary.exists()


def test_a_disk_that_takes_nothing_leaves_the_branch_as_it_was(tmp_path: Path) -> None:
    root = plain(tmp_path)
    put(root, one="1")
    tip = Branch(root).tip()
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from pathlib import Path; "
        f"from tests.record.repositories import put; put(Path({str(root)!r}), big='x' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert Branch(root).tip() == tip
    put(root, big="y")
    assert on(root) == {"one.json": "1", "big.json": "y"}


@pytest.mark.parametrize("path", ["../x", "a/../b", ".git/config", "a//b", "a\nb", "/etc/x", "a/.hidden", "x" * 300])
def test_no_path_leads_elsewhere(tmp_path: Path, path: str) -> None:
    with pytest.raises(GitFailed, match="no file of the record"):
        Branch(plain(tmp_path)).put({path: b"1"}, newest, str)


# --- two histories


def test_two_that_grew_apart_are_put_together_with_nothing_lost(tmp_path: Path) -> None:
    one, two = plain(tmp_path), repository(tmp_path / "two")
    put(one, shared="1", ours="a")
    put(two, shared="2", theirs="b")  # histories with nothing in common, as of two fresh checkouts
    git(one, "fetch", "-q", str(two), f"{REF}:refs/heads/theirs")
    branch = Branch(one)
    theirs = branch.tip("refs/heads/theirs")
    assert theirs is not None
    merged = branch.merge(theirs, newest)
    assert on(one) == {"shared.json": "2", "ours.json": "a", "theirs.json": "b"}
    assert len(git(one, "log", "-1", "--format=%P", merged).split()) == 2
    assert branch.merge(theirs, newest) == merged  # and once is enough


def test_where_all_of_ours_is_in_theirs_the_branch_just_moves(tmp_path: Path) -> None:
    one, two = plain(tmp_path), repository(tmp_path / "two")
    put(two, a="1", b="2")
    put(one, a="1")
    git(one, "fetch", "-q", str(two), f"{REF}:refs/heads/theirs")
    branch = Branch(one)
    theirs = branch.tip("refs/heads/theirs")
    assert theirs is not None
    assert branch.merge(theirs, newest) == theirs == branch.tip()


FILES = st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=3), max_size=4)


@given(FILES, FILES)
@settings(max_examples=60)
def test_whoever_merges_comes_to_the_same(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    """As a law of the union: it has every path, and does not hang on whose turn it is."""

    class Known(Branch):
        def __init__(self) -> None:
            pass

        def texts(self, entries: object) -> dict[str, bytes]:
            return {path: bytes.fromhex(entry.blob) for path, entry in entries.items()}  # type: ignore[attr-defined]

    def tree(files: dict[str, bytes]) -> Tree:
        return Tree("", {path: Entry(text.hex(), len(text)) for path, text in files.items()})

    def merged(ours: dict[str, bytes], theirs: dict[str, bytes]) -> dict[str, bytes]:
        union = Known()._union(tree(ours), tree(theirs), lambda path, there, new: new)
        return theirs | {path: bytes.fromhex(blob) for path, blob in union.items()}

    assert merged(one, two) == merged(two, one)
    assert merged(one, two).keys() == one.keys() | two.keys()


def test_what_a_stranger_put_on_the_branch_is_kept_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plain(tmp_path)
    put(root, one="1")
    blob = git(root, "hash-object", "-w", "--stdin", stdin="/etc/passwd").strip()
    places = ("120000 link.json", "100755 a.json", "100644 b/.git2", "100644 x\x1b[2J.json")
    odd = "".join(f"{place.split()[0]} {blob}\t{place.split()[1]}\0" for place in places)
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    git(root, "read-tree", REF)
    git(root, "update-index", "-z", "--add", "--index-info", stdin=odd)
    tree = git(root, "write-tree").strip()
    monkeypatch.delenv("GIT_INDEX_FILE")
    git(root, "update-ref", REF, git(root, "commit-tree", tree, "-p", REF, "-m", "odd").strip())
    found = Branch(root).tree(Branch(root).tip() or "")
    assert (list(found.files), found.odd) == (["one.json"], 4)
    put(root, two="2")
    assert len(git(root, "ls-tree", "-r", "-z", REF).split("\0")) == 7
