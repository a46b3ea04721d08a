"""Notices told for real: a command, a server on this machine, a bare remote, and clones that race for who tells."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler import loop
from reconciler.cli import apply as apply_command
from reconciler.cli.notifying import URL_VARIABLE, Notifying
from reconciler.planner.telling import CLAIM_S
from reconciler.record import command, webhook
from tests.planner.world import World, after
from tests.record.campaign import planned_by_several
from tests.record.repositories import bare, clone, git, state
from tests.record.test_proposing import Place, opened
from tests.record.webhooks import Hook

SUSPENDED = ("  dataset: docs\n", "  dataset: docs\n  suspend: true\n")
WRITE = """import json, os, pathlib, sys
told = {k.lower(): v for k, v in os.environ.items() if k.startswith("RECONCILE_")}
(pathlib.Path(sys.argv[1]) / str(os.getpid())).write_text(json.dumps([sys.argv[2:], told, json.load(sys.stdin)]))"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A repository whose second stage is suspended, and a cluster on which the first is done."""
    root = planned_by_several(tmp_path_factory.mktemp("story") / "repository")
    stages = root / "manifests/stages.yaml"
    assert stages.read_text().count(SUSPENDED[0]) == 1
    stages.write_text(stages.read_text().replace(*SUSPENDED))
    git(root, "commit", "-q", "-a", "-m", "Not yet")
    return root, after(1, opened(root).desired)


@pytest.fixture
def place(story: tuple[Path, World], tmp_path: Path) -> Place:
    hub = bare(tmp_path / "hub.git", story[0])
    return Place(hub, clone(tmp_path / "clone", str(hub)), story[1])


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as running:
        yield running


def notify(place: Place, notify_with: str | None = None, url: str | None = None, root: Path | None = None) -> None:
    """What one apply that has nothing else to do does with notices."""
    root = root or place.root
    Notifying(opened(root), notify_with, url).follow(place.look(root))


def writing(folder: Path, *words: str) -> str:
    folder.mkdir(exist_ok=True)
    return shlex.join([sys.executable, "-c", WRITE, str(folder), *words])


def resumed(place: Place, root: Path | None = None) -> None:
    """A person takes the line out."""
    stages = (root or place.root) / "manifests/stages.yaml"
    stages.write_text(stages.read_text().replace(*SUSPENDED[::-1]))
    git(root or place.root, "commit", "-q", "-a", "-m", "Now")


# --- a command


def test_a_command_is_told_in_words_in_its_environment_and_as_json(place: Place, tmp_path: Path) -> None:
    before = state(place.root)
    words = ("repos/{owner}/statuses/{commit}", "state={state}", "--context={context}", "{description}")
    notify(place, writing(tmp_path / "told", *words))
    (written,) = (tmp_path / "told").iterdir()
    argv, environment, told = json.loads(written.read_text())
    commit = git(place.root, "rev-parse", "HEAD").strip()
    assert argv[:3] == [f"repos/{{owner}}/statuses/{commit}", "state=pending", "--context=reconcile/quickstart/stage-2"]
    assert argv[3].startswith("stage-2 is held: ")
    assert environment["reconcile_notice_kind"] == told["kind"] == "hold"
    assert environment["reconcile_notice_id"] == told["id"] != ""
    assert told["manifest"].startswith("manifests/stages.yaml:")
    assert told["wayOn"].startswith("A commit that takes `suspend` out")
    assert state(place.root) == before


def test_nothing_that_is_told_gets_to_a_shell_or_out_of_its_word(tmp_path: Path) -> None:
    odd = "a b; touch x $(touch y) `touch z` \"' {commit}"
    words = command.filled(command.words_of("printf '%s|' {text} pre{text}post"), {"text": odd, "commit": "c"})
    assert command.run(words, tmp_path, 20.0) == f"{odd}|pre{odd}post|"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("false", "false ended with 1"),
        ("/nowhere/mail -s x", "/nowhere/mail cannot be run: No such file"),
        (f'{sys.executable} -c \'import sys; sys.exit("no \\x1b[2J" + "x" * 10**6)\'', "ended with 1: no \\x1b[2Jxxx"),
    ],
    ids=["refuses", "is not there", "says much"],
)
def test_a_command_that_does_not_take_a_notice_is_said_once_and_told_again(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, why: str
) -> None:
    clock = [0.0]
    at = Notifying(opened(place.root), line, None, now_s=lambda: clock[0])
    for _ in range(3):
        at.follow(place.look())
        clock[0] += 3600.0
    said = capsys.readouterr().err
    assert said.count("did not take a notice") == 1
    assert why in said
    assert max(map(len, said.splitlines())) < 500
    notify(place, writing(tmp_path / "told"))
    assert len(list((tmp_path / "told").iterdir())) == 1


def test_a_command_that_hangs_is_ended_with_all_that_it_began(tmp_path: Path) -> None:
    late = f"sleep 2; touch {tmp_path}/late"
    with pytest.raises(command.CommandFailed, match="did not end within"):
        command.run(["sh", "-c", f"({late}) & {late}"], tmp_path, 0.2)
    command.run(["sh", "-c", "sleep 5 &"], tmp_path, 20.0)  # what it leaves behind is not waited for
    time.sleep(2.2)
    assert not (tmp_path / "late").exists()


def test_nothing_in_the_repository_says_who_is_told(place: Place, tmp_path: Path) -> None:
    for name in ("reconcile.notifyWith", "reconcile.notify-with", "reconcile.notifyUrl"):
        git(place.root, "config", name, f"touch {tmp_path}/ran")
    (place.root / ".env").write_text(f"RECONCILE_NOTIFY_WITH=touch {tmp_path}/ran\n")
    for name in ("pre-push", "reference-transaction", "post-commit"):
        git_hook = place.root / ".git/hooks" / name
        git_hook.parent.mkdir(exist_ok=True)
        git_hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        git_hook.chmod(0o755)
    notify(place)
    notify(place, writing(tmp_path / "told"))
    assert not (tmp_path / "ran").exists()


# --- a webhook


def test_a_webhook_is_told_in_a_form_that_a_chat_shows(place: Place, hook: Hook) -> None:
    notify(place, url=hook.url)
    (told,) = hook.posted
    assert told["text"].startswith("… quickstart: stage-2 is held: ")
    assert "To go on: A commit that takes `suspend` out" in told["text"]
    assert hook.names == [told["id"]]
    notify(place, url=hook.url)
    assert len(hook.posted) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 500}, "it answered 500"),
        ({"status": 307}, "it leads elsewhere (307), and is not followed"),
        ({"drips": True}, "no answer within"),
    ],
    ids=["500", "redirect", "drips"],
)
def test_a_webhook_that_does_not_take_a_notice_says_why(hook: Hook, answer: dict[str, int], why: str) -> None:
    for name, value in answer.items():
        setattr(hook, name, value)
    began = time.monotonic()
    with pytest.raises(webhook.NotPosted) as failed:
        webhook.post(hook.url, b"{}", "name", 0.5)
    assert why in str(failed.value)
    assert "s3cret" not in str(failed.value)
    assert time.monotonic() - began < 5
    assert hook.asked == ["/services/T000/s3cret"]


def test_an_answer_without_end_is_not_read(hook: Hook) -> None:
    hook.huge = True
    webhook.post(hook.url, b"{}", "name", 20.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/s3cret",
        "ftp://127.0.0.1/s3cret",
        "file:///etc/s3cret",
        "https://me:s3cret@hooks.example.org/",
        "https:///s3cret",
        "https://hooks.example.org:s3cret/",
        "https://hooks.example.org/s3cret\r\nHost: else",
        "https://[s3cret/",
    ],
)
def test_an_address_that_is_not_taken_is_not_shown(place: Place, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Notifying(opened(place.root), None, url)
    said = capsys.readouterr().err
    assert f"{URL_VARIABLE}) cannot be used: " in said
    assert "s3cret" not in said


def test_the_address_is_nowhere_but_in_this_program(
    place: Place, hook: Hook, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, hook.url)
    hook.status = 404
    notify(place, writing(tmp_path / "told"), hook.url)
    (written,) = (tmp_path / "told").iterdir()
    marks = git(place.hub, "log", "-p", "--all", "--glob=refs/reconcile")
    assert "it answered 404" in (said := capsys.readouterr().err)
    assert all("s3cret" not in text for text in (said, written.read_text(), marks))


@pytest.mark.parametrize(("state", "shown"), [("success", "success"), ("pending", "pending"), ("error", "failed")])
def test_the_script_of_the_docs_sets_the_status_of_a_commit_on_gitlab(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, shown: str
) -> None:
    (text,) = re.findall(r"(?s)```sh\n(.*?)```", (Path(__file__).parents[2] / "docs/ci.md").read_text())
    script = tmp_path / "gitlab-status"
    script.write_text(text)
    script.chmod(0o755)
    subprocess.run(["shellcheck", str(script)], check=True)
    for name, value in {"API_V4_URL": hook.url, "PROJECT_ID": "7"}.items():
        monkeypatch.setenv(f"CI_{name}", value)
    monkeypatch.setenv("STATUS_TOKEN", "a-token")
    odd = "a; touch x $(touch y) &state=success \"'\n@z"
    told = {"STATE": state, "CONTEXT": "reconcile/c/s", "DESCRIPTION": odd, "COMMIT": "c" * 40}
    environment = {f"RECONCILE_NOTICE_{name}": value for name, value in told.items()}
    command.run([str(script)], tmp_path, 20.0, stdin=b"{}", environment=environment)
    assert hook.asked == [f"/services/T000/s3cret/projects/7/statuses/{'c' * 40}"]
    assert hook.posted == [{"state": shown, "name": "reconcile/c/s", "description": odd}]
    assert hook.tokens == ["a-token"]
    assert list(tmp_path.iterdir()) == [script]


# --- once


def test_it_is_told_once_from_whatever_clone_and_by_each_channel(place: Place, tmp_path: Path, hook: Hook) -> None:
    line = writing(tmp_path / "told")
    fresh = clone(tmp_path / "runner", f"file://{place.hub}", "--depth", "1", "--branch", "main")
    git(fresh, "checkout", "-q", "--detach")
    notify(place, line)
    notify(place, line, root=fresh)
    notify(place, line, hook.url, root=clone(tmp_path / "other", str(place.hub)))
    notify(place, line, hook.url)
    assert len(list((tmp_path / "told").iterdir())) == 1
    assert len(hook.posted) == 1


def test_that_it_is_over_is_told_once_too_and_a_hold_again_when_it_comes_again(place: Place, hook: Hook) -> None:
    notify(place, url=hook.url)
    resumed(place)
    notify(place, url=hook.url)
    notify(place, url=hook.url)
    git(place.root, "revert", "--no-edit", "HEAD")
    notify(place, url=hook.url)
    assert [(told["kind"], told["resolved"]) for told in hook.posted] == [
        ("hold", False),
        ("hold", True),
        ("hold", False),
    ]
    assert len(set(hook.names)) == 3


def test_of_clones_that_see_the_same_at_once_one_tells(place: Place, tmp_path: Path, hook: Hook) -> None:
    roots = [clone(tmp_path / f"clone{number}", str(place.hub)) for number in range(3)]
    looks = [(Notifying(opened(root), None, hook.url), place.look(root)) for root in roots]
    together = threading.Barrier(len(roots), timeout=60)

    def follow(notifying: Notifying, look: loop.Look) -> None:
        together.wait()
        notifying.follow(look)

    threads = [threading.Thread(target=follow, args=each) for each in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for notifying, look in looks:
        notifying.follow(look)
    assert len(hook.posted) == 1


def test_a_look_that_is_older_than_what_others_told_tells_nothing_of_it(
    place: Place, tmp_path: Path, hook: Hook
) -> None:
    other = clone(tmp_path / "other", str(place.hub))
    slow, before = Notifying(opened(place.root), None, hook.url), place.look()
    notify(place, url=hook.url, root=other)
    resumed(place, other)
    notify(place, url=hook.url, root=other)
    slow.follow(before)
    assert [told["resolved"] for told in hook.posted] == [False, True]
    git(place.root, "pull", "-q", str(other), "main")
    notify(place, url=hook.url)
    assert len(hook.posted) == 2


KILLED = """import pathlib, sys
from reconciler.cli.notifying import Notifying
from tests.record.test_notices import Place, after, opened
hub, root, line = sys.argv[1:]
Notifying(opened(pathlib.Path(root)), line, None).follow(Place(hub, pathlib.Path(root), after(1)).look())"""


def test_who_is_killed_while_telling_has_it_told_by_the_next_under_the_same_name(place: Place, tmp_path: Path) -> None:
    line = writing(tmp_path / "told")
    kill = f"sh -c '{line.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}; kill -9 $PPID'"
    words = [sys.executable, "-c", KILLED, str(place.hub), str(place.root), kill]
    assert subprocess.run(words, check=False).returncode == -9
    notify(place, line)
    assert len(list((tmp_path / "told").iterdir())) == 1  # it may be being told right now
    later = Notifying(opened(place.root), line, None, now_s=lambda: time.time() + CLAIM_S + 60)
    later.follow(place.look())
    first, second = (json.loads(written.read_text())[2] for written in (tmp_path / "told").iterdir())
    assert first == second
    later.follow(place.look())
    assert len(list((tmp_path / "told").iterdir())) == 2


# --- remotes that do not help


def test_with_a_remote_that_is_down_it_is_told_and_others_may_too(
    place: Place, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    git(place.root, "remote", "set-url", "origin", "/nowhere")
    notify(place, url=hook.url)
    notify(place, url=hook.url)
    assert len(hook.posted) == 1
    said = capsys.readouterr().err
    assert "Others may tell the same again" in said
    git(place.root, "remote", "set-url", "origin", str(place.hub))
    resumed(place)
    notify(place, url=hook.url)
    assert [told["resolved"] for told in hook.posted] == [False, True]


def test_two_that_told_while_the_remote_was_down_are_put_together(place: Place, hook: Hook, tmp_path: Path) -> None:
    other = clone(tmp_path / "other", str(place.hub))
    git(other, "remote", "set-url", "origin", "/nowhere")
    notify(place, url=hook.url, root=other)
    notify(place, url=hook.url)
    assert len(hook.posted) == 2
    git(other, "remote", "set-url", "origin", str(place.hub))
    resumed(place, other)
    notify(place, url=hook.url, root=other)
    notify(place, url=hook.url, root=other)
    assert [told["resolved"] for told in hook.posted] == [False, False, True]


def test_a_remote_that_takes_no_such_refs_leaves_each_clone_to_remember(place: Place, hook: Hook) -> None:
    refuse = place.hub / "hooks/pre-receive"
    refuse.write_text("#!/bin/sh\necho 'only branches' >&2\nexit 1\n")
    refuse.chmod(0o755)
    notify(place, url=hook.url)
    notify(place, url=hook.url)
    assert len(hook.posted) == 1


def test_without_a_remote_it_is_told_once_from_here(place: Place, hook: Hook) -> None:
    git(place.root, "remote", "remove", "origin")
    notify(place, url=hook.url)
    notify(place, url=hook.url)
    assert len(hook.posted) == 1


def test_a_mark_that_somebody_broke_makes_nobody_fall(place: Place, hook: Hook) -> None:
    notify(place, url=hook.url)
    blob = git(place.hub, "hash-object", "-w", "--stdin", stdin='{"told": {}, "claims": []}').strip()
    tree = git(place.hub, "mktree", stdin=f"100644 blob {blob}\ttold.json\n").strip()
    (ref,) = git(place.hub, "for-each-ref", "--format=%(refname)", "refs/reconcile/told").split()
    git(place.hub, "update-ref", ref, git(place.hub, "commit-tree", tree, "-m", "x", "-p", ref).strip())
    notify(place, url=hook.url)
    notify(place, url=hook.url)
    assert len(hook.posted) == 2  # once more than once, and no more


# --- the command


def test_apply_tells_and_a_schedule_that_stops_tells_what_was_merged(
    place: Place, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as it is, at the look of a cluster that was carried out by hand."""
    monkeypatch.setattr(loop, "look", lambda *_, **__: place.look())
    monkeypatch.setattr(apply_command, "connect", lambda _: None)
    monkeypatch.setenv(URL_VARIABLE, hook.url)
    arguments = ["quickstart", "-f", str(place.root / "manifests"), "--yes"]
    done = CliRunner().invoke(apply_command.apply, arguments, standalone_mode=False)
    assert "told by the webhook: stage-2 is held" in done.output
    monkeypatch.setenv(URL_VARIABLE, hook.url)
    done = CliRunner().invoke(apply_command.apply, [*arguments, "--unchanged"], standalone_mode=False)
    assert "quickstart is not as it was last applied" in done.output
    assert [told["kind"] for told in hook.posted] == ["hold", "drift"]
