"""The record shared over a real sshd: clones that race, a remote that is down or refuses, checkouts as CI has them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.record.branch import NAME, REF, Branch
from reconciler.record.git import Git
from reconciler.record.remote import NotShared, Remote, remote_of
from tests.cluster.sshd import Sshd
from tests.record.repositories import bare, clone, git, newest, on, put, repository


@dataclass(frozen=True)
class Hub:
    """A bare remote, by its path and by the address under which clones know it."""

    path: Path
    url: str
    server: Sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def hub(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    path = bare(tmp_path / "hub.git", repository(tmp_path / "first"))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {server.config}")
    return Hub(path, f"login:{path}", server)


def share(root: Path) -> None:
    Remote(Branch(root), "origin").share(newest)


def test_what_one_clone_writes_the_other_has(hub: Hub, tmp_path: Path) -> None:
    one, two = clone(tmp_path / "one", hub.url), clone(tmp_path / "two", hub.url)
    put(one, a="1")
    share(one)
    put(two, b="2")
    share(two)  # others were first: theirs and ours are put together
    assert on(hub.path) == {"a.json": "1", "b.json": "2"}
    Branch(one).merge(Remote(Branch(one), "origin").fetch() or "", newest)
    assert on(one) == on(two) == on(hub.path)


def test_clones_that_push_at_once_lose_nothing(hub: Hub, tmp_path: Path) -> None:
    roots = [clone(tmp_path / f"clone{n}", hub.url) for n in range(2)]
    failed: list[Exception] = []

    def work(root: Path, number: int) -> None:
        try:
            for turn in range(4):
                put(root, **{f"by{number}-{turn}": "x", "shared": f"{turn}{number}"})
                share(root)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(root, number)) for number, root in enumerate(roots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    wanted = {f"by{number}-{turn}.json": "x" for number in range(2) for turn in range(4)}
    assert on(hub.path) == wanted | {"shared.json": "31"}
    # Never forced: what was ever pushed is in the history.
    git(hub.path, "fsck", "--strict")
    for root in roots:
        git(hub.path, "merge-base", "--is-ancestor", Branch(root).tip(f"refs/remotes/origin/{NAME}") or "", REF)


def test_two_worktrees_of_one_clone_write_one_branch(hub: Hub, tmp_path: Path) -> None:
    one = clone(tmp_path / "one", hub.url)
    git(one, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    put(one, a="1")
    put(tmp_path / "tree", b="2")
    share(tmp_path / "tree")
    assert on(hub.path) == {"a.json": "1", "b.json": "2"}


def test_a_shallow_detached_checkout_of_a_runner_adds_to_what_is_there(hub: Hub, tmp_path: Path) -> None:
    one = clone(tmp_path / "one", hub.url)
    git(one, "commit", "-q", "--allow-empty", "-m", "More")
    git(one, "push", "-q", "origin", "main")
    put(one, a="1")
    share(one)
    runner = clone(tmp_path / "runner", hub.url, "--depth", "1")
    git(runner, "checkout", "-q", "--detach")
    assert git(runner, "rev-list", "--count", "HEAD") == "1\n"
    put(runner, b="2")  # it has nothing of the record
    share(runner)
    assert on(hub.path) == {"a.json": "1", "b.json": "2"}


def test_a_remote_that_is_down_is_said_and_caught_up_later(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clone(tmp_path / "one", hub.url)
    put(one, a="1")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {hub.server.configure(port=1, name='down')}")
    with pytest.raises(NotShared, match=r"could not be pushed to origin: .*refused") as told:
        share(one)
    assert told.value.fix == f"git push origin {REF}"
    remote = Remote(Branch(one), "origin")
    assert remote.behind()
    put(one, b="2")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {hub.server.config}")
    remote.share(newest)
    assert not remote.behind()
    assert on(hub.path) == {"a.json": "1", "b.json": "2"}


def test_a_remote_whose_hook_refuses_is_asked_once_and_quoted_harmlessly(hub: Hub, tmp_path: Path) -> None:
    one = clone(tmp_path / "one", hub.url)
    put(one, a="1")
    hook, count = hub.path / "hooks/pre-receive", tmp_path / "count"
    hook.write_text(f"#!/bin/sh\necho x >> {count}\nprintf 'no \\033[2Jrecord here\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(NotShared, match=r"no .*record here.*pre-receive hook declined|declined.*record here") as told:
        share(one)
    assert "\x1b" not in str(told.value)
    assert count.read_text() == "x\n"
    hook.unlink()
    share(one)
    assert on(hub.path) == {"a.json": "1"}


def test_a_remote_without_the_branch_has_none(hub: Hub, tmp_path: Path) -> None:
    assert Remote(Branch(clone(tmp_path / "one", hub.url)), "origin").fetch() is None


def test_the_remote_s_branch_that_was_set_back_gets_everything_again(hub: Hub, tmp_path: Path) -> None:
    one = clone(tmp_path / "one", hub.url)
    put(one, a="1")
    share(one)
    git(hub.path, "update-ref", "-d", REF)
    put(one, b="2")
    share(one)
    assert on(hub.path) == {"a.json": "1", "b.json": "2"}


def test_pushing_runs_no_hook_of_the_clone_and_no_program_as_a_remote(tmp_path: Path) -> None:
    one = repository(tmp_path / "one")
    canary = tmp_path / "ran"
    (one / ".git/hooks/pre-push").write_text(f"#!/bin/sh\ntouch {canary}\n")
    (one / ".git/hooks/pre-push").chmod(0o755)
    git(one, "remote", "add", "origin", f"ext::sh -c 'touch {canary}'")
    git(one, "config", "protocol.ext.allow", "always")
    put(one, a="1")
    with pytest.raises(NotShared, match="not allowed"):
        share(one)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("remotes", "configured", "chosen"),
    [
        pytest.param([], {}, None, id="none"),
        pytest.param(["hub"], {}, "hub", id="the only one"),
        pytest.param(["hub", "origin"], {}, "origin", id="origin of several"),
        pytest.param(["a", "b"], {}, None, id="several and none says which"),
        pytest.param(["a", "b"], {"branch.main.remote": "b"}, "b", id="that of the branch"),
        pytest.param(["a", "origin"], {"remote.pushDefault": "a"}, "a", id="the one that is pushed to"),
        pytest.param(["a", "origin"], {"reconcile.remote": "a"}, "a", id="the one that is set"),
        pytest.param(["origin"], {"reconcile.remote": ""}, None, id="set to none"),
    ],
)
def test_which_remote(tmp_path: Path, remotes: list[str], configured: dict[str, str], chosen: str | None) -> None:
    root = repository(tmp_path / "one")
    for name in remotes:
        git(root, "remote", "add", name, "/nowhere")
    for name, value in configured.items():
        git(root, "config", name, value)
    assert remote_of(Git(root)) == chosen
    here_alone = configured.get("reconcile.remote") or None
    assert remote_of(Git(root), shared=False) == here_alone
