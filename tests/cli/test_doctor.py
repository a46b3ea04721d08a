"""`reconcile doctor` as a person meets it: a line a check, what to do under those that are not well, exit status."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from reconciler.cli.connecting import CONFIG_VARIABLE
from reconciler.cli.human.doctor import lines
from reconciler.cluster.doctor_report import failed, ok, unread, warning
from tests.cluster.sshd import free_port
from tests.e2e.campaign import MANIFESTS, Repository, make


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make(tmp_path_factory.mktemp("doctor") / "repository")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


def test_what_is_shown() -> None:
    checks = [
        ok("login", "login lets us in"),
        warning("lock", "ada has been applying for 2h", "If it is certainly gone:\n    reconcile unlock n-1"),
        failed("data D0", "/lus/D0.txt is empty", "Write the list."),
        unread("token types", "data D0"),
    ]
    assert "\n".join(line.plain for line in lines("aurora", checks)).splitlines() == [
        "ok             login        login lets us in",
        "warning        lock         ada has been applying for 2h",
        "    If it is certainly gone:",
        "        reconcile unlock n-1",
        "failed         data D0      /lus/D0.txt is empty",
        "    Write the list.",
        "not looked at  token types  because of: data D0",
        "",
        "aurora: 1 of 4 checks well, 1 with a warning, 1 failed, 1 not looked at. An apply would not work.",
    ]


def test_a_cluster_that_has_all_passes_with_status_0_and_plain_text(repository: Repository) -> None:
    told = repository.run("doctor", "local")
    assert told.splitlines()[-1] == "local: 20 of 20 checks well. An apply has what it relies on."
    assert {line.split()[0] for line in told.splitlines()[:-2]} == {"ok"}
    assert "\x1b" not in told
    assert repository.git("status", "--porcelain") == ""


def test_the_only_cluster_need_not_be_named_and_json_says_the_same(repository: Repository) -> None:
    body = json.loads(repository.run("doctor", "--json"))
    assert (body["format_version"], body["cluster"], body["failed"]) == ("1.0", "local", False)
    assert {check["status"] for check in body["checks"]} == {"ok"}
    assert {"name": "lock", "status": "ok", "message": "nobody is applying", "fix": ""} in body["checks"]


def test_one_failure_is_status_1_and_says_what_to_do_under_its_line(repository: Repository) -> None:
    repository.edit("cluster.yaml", "queue: workq", "queue: gone")
    try:
        told = repository.run("doctor", status=1).splitlines()
    finally:
        repository.git("checkout", "-q", "manifests")
    (at,) = [number for number, line in enumerate(told) if line.startswith("failed ")]
    assert told[at].split(maxsplit=3)[1:] == ["queue", "gone", "there is no such queue; there is workq"]
    assert told[at + 1] == "    Correct `queue` in the manifests."
    assert told[-1].endswith("1 failed. An apply would not work.")


def test_a_local_cluster_that_was_not_made_yet_says_how_to_make_it(repository: Repository) -> None:
    repository.edit("cluster.yaml", "root: .local/quickstart", "root: .local/none")
    try:
        told = repository.run("doctor", status=1).splitlines()
    finally:
        repository.git("checkout", "-q", "manifests")
    assert told[0].startswith("failed         reachable ")
    assert told[1:3] == ["    Make it:", "        reconcile local quickstart"]
    assert {line[:13] for line in told[3:-2]} == {"not looked at"}


def test_a_host_that_is_down_is_status_1_and_the_look_is_paced_like_any_other(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(f"Host far\n  HostName 127.0.0.1\n  Port {free_port()}\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    repository.edit("cluster.yaml", "{kind: local, root: .local/quickstart}", "{kind: ssh, host: far, root: /nowhere}")
    try:
        told = repository.run("doctor", status=1).splitlines()
    finally:
        repository.git("checkout", "-q", "manifests")
    assert told[0].startswith("failed         reachable ")
    assert told[2] == "        ssh -- far true"
    assert list((tmp_path / ".local" / "state" / "reconcile" / "looks").glob("*far*")), "the look was not recorded"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no cluster 'nowhere' here; there is aurora, local"),
        ([], "name a cluster; there is aurora, local"),
    ],
)
def test_a_cluster_that_is_not_there_or_not_named_among_several(
    repository: Repository, arguments: list[str], message: str
) -> None:
    both = [option for name in ("quickstart", "auroragpt-v1") for option in ("-f", str(MANIFESTS / name))]
    assert message in repository.run("doctor", *arguments, *both, status=1)


def test_on_a_terminal_it_shows_that_it_is_looking_and_uses_colour(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        repository.command("doctor"), cwd=repository.root, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert child.wait() == 0
    assert b"Looking at local" in shown
    assert b"\x1b[32mok" in shown
