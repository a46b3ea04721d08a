"""`reconcile watch`: frames at three widths, what is sent to a terminal, and the command in a real one.

Golden text is rewritten by `SNAP_UPDATE=1`.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reconciler import loop
from reconciler.cli import watch as command
from reconciler.cli.human.watch import Trouble, Watched, lines
from reconciler.cli.watch import Lines, Painter, _changes, following
from reconciler.cluster.ports import LinkLost
from reconciler.model.observed import LogPoint
from reconciler.model.plan import ActionKind
from reconciler.planner.events import Event, Seen
from tests.interrupts import heard
from tests.planner.world import MANIFESTS, SAME, World, after, log_of, quickstart, swapped
from tests.record.repositories import git

GOLDEN = Path(__file__).parents[1] / "golden" / "watch"
AT_S = 1_764_284_400.0


def running() -> World:
    """Stage 2's job is at work, and has logged something."""
    world = after(1)
    world.carry_out({})
    action = world.the_action()
    world.submit(action)
    point = LogPoint(150, 2.05, 2e-3)
    world.leg(action, logs=(replace(log_of(action, 150, 2.0), last=(point,), saved=()),))
    return world


def forgetting() -> World:
    """Stage 2 has been evaluated on the way, has forgotten something, and trains on."""
    world = after(
        1, quickstart(swapped(("    forgetting:                   #", "    forgetting:\n      every: 10%  #")))
    )
    world.trained(world.until(ActionKind.TRAIN), 100)
    world.evaluated(world.the_action(), SAME | {"val-D0": 2.08})
    world.submit(world.the_action())
    return world


def watched(*worlds: World) -> Watched:
    state: Watched | None = None
    for number, world in enumerate(worlds):
        state, _ = following(state, Seen(world.look(), world.plan()), AT_S + 60 * number, 60.0)
    assert state is not None
    return state


STATES = {
    "first": lambda: watched(after(0)),
    "running": lambda: watched(after(1), running()),
    "gates-closing-in": lambda: watched(after(1), forgetting()),
    "link-lost": lambda: replace(
        watched(after(1), running()), trouble=Trouble(AT_S + 90, "the link to aurora was lost", 240.0)
    ),
    "done": lambda: watched(after(3), after(4)),
}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("state", STATES)
def test_a_frame(state: str, width: int) -> None:
    frame = lines(STATES[state](), Console(width=width), 40, UTC)
    text, path = "\n".join(frame) + "\n", GOLDEN / f"{state}-{width}.txt"
    if os.environ.get("SNAP_UPDATE") == "1":
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else "(there is no such golden text; run with SNAP_UPDATE=1)\n")
    assert max(map(len, frame)) <= width


@pytest.mark.parametrize("height", [3, 8, 14, 24, 100])
def test_a_frame_is_never_taller_than_the_terminal_and_keeps_its_last_line(height: int) -> None:
    frame = lines(STATES["link-lost"](), Console(width=80), height, UTC)
    assert len(frame) <= height
    assert "Tried again within 4m" in " ".join(frame[-2:])


# --- what is sent to a terminal


class Terminal:
    """As much of one as a painter uses."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.row = 0
        self.sent = 0

    def feed(self, text: str) -> None:
        self.sent += len(text)
        for part in re.findall(r"\x1b\[\d*[A-Z]|[\n\r]|[^\x1b\n\r]+", text):
            if part == "\n":
                self.row += 1
            elif part.endswith("A") and part.startswith("\x1b"):
                self.row -= int(part[2:-1])
                assert self.row >= 0
            elif part in ("\x1b[J", "\x1b[2J"):
                self.rows = {at: row for at, row in self.rows.items() if at < self.row and part == "\x1b[J"}
            elif part == "\x1b[H":
                self.row = 0
            elif part not in ("\r", "\x1b[K"):
                self.rows[self.row] = part

    def shown(self) -> list[str]:
        return [self.rows.get(at, "") for at in range(self.row)]


LINES = st.lists(st.text("abc", min_size=1, max_size=3), max_size=6)


@given(st.lists(LINES, max_size=6))
def test_whatever_changes_the_terminal_shows_the_last_frame(frames: list[list[str]]) -> None:
    terminal, drawn = Terminal(), list[str]()
    for frame in frames:
        terminal.feed(_changes(drawn, frame))
        drawn = frame
        assert terminal.shown() == frame


def test_what_stays_the_same_is_not_sent_again() -> None:
    assert _changes(["a", "b"], ["a", "b"]) == ""
    out = io.StringIO()
    painter = Painter(lambda: Console(width=80, height=40), out, UTC)
    state = STATES["running"]()
    painter.show(state, ())
    first = out.tell()
    painter.show(replace(state, looked_s=state.looked_s + 60), ())
    assert 0 < out.tell() - first < 160, "the last line, and the way to it"
    before = out.tell()
    painter.show(replace(state, looked_s=state.looked_s + 60), ())
    assert out.tell() == before


def test_without_a_terminal_each_event_is_one_line_and_a_lost_link_is_told_once() -> None:
    out = io.StringIO()
    view = Lines(Console(file=out, width=40), UTC)
    state, long = STATES["first"](), Event("stage-1", "a\nb " + "long " * 20)
    lost = replace(state, trouble=Trouble(AT_S, "the link was lost", 60.0))
    for each, new in ((state, [long]), (lost, []), (lost, []), (state, [])):
        view.show(each, new)
    told = out.getvalue().splitlines()
    assert [line[:40].strip() for line in told] == [
        "2025-11-27 23:00:00  · stage-1: a b long",
        "No look since 23:00:00: the link was los",
        "Looked again.",
    ]


# --- the loop


class Over(Exception):
    """Enough has been seen."""


def test_a_lost_link_is_shown_since_when_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = running()
    answers: Iterator[Any] = iter([world, LinkLost("no answer", sent=False), LinkLost("no answer", sent=False), world])
    paces: list[int] = []

    def look(*_: object, **__: object) -> loop.Look:
        answer = next(answers, None)
        if answer is None:
            raise Over
        if isinstance(answer, Exception):
            raise answer
        return loop.Look(answer.look(), answer.plan())

    class Pace:
        def next(self, poll_s: float, misses: int) -> None:
            paces.append(misses)

    class Opened:
        desired = world.desired
        revision = type("Revision", (), {"root": Path()})

    shown: list[Watched] = []

    class Shown:
        def show(self, watched: Watched, new: object) -> None:
            shown.append(watched)

    monkeypatch.setattr(loop, "look", look)
    monkeypatch.setattr(command, "open_campaign", lambda *_: Opened)
    monkeypatch.setattr(command, "Provenance", lambda *_: None)
    monkeypatch.setattr(command, "pace_for", lambda _: Pace())
    with pytest.raises(Over):
        command._follow(Opened, None, (), Shown())  # type: ignore[arg-type]
    troubles = [state.trouble for state in shown]
    assert [trouble is None for trouble in troubles] == [True, False, False, True]
    first, second = troubles[1], troubles[2]
    assert first is not None and second is not None
    assert (first.since_s, first.said) == (second.since_s, "no answer")
    assert second.again_within_s == 2 * first.again_within_s
    assert paces == [0, 1, 2, 0]


# --- in a real terminal


def sized(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(fd: int, wanted: str, seconds: float = 90) -> str:
    """What the program wrote up to and with this text."""
    text, ends = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < ends, f"{wanted!r} did not come: {text!r}"
        if select.select([fd], [], [], 1)[0]:
            with suppress(OSError):  # how a pseudo-terminal says that nobody is at its other side
                text += os.read(fd, 65536).decode()
    return text


def in_a_terminal() -> None:
    """For `preexec_fn`: what it starts with is its terminal, whose Ctrl-C it hears."""
    heard()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The quickstart on a login node, which is this machine: the agent looks for real."""
    root = tmp_path / "repository"
    (root / "manifests").mkdir(parents=True)
    for path in MANIFESTS.glob("*.yaml"):
        text = re.sub(r"transport: \{[^}]*\}[^\n]*", "transport: {kind: login-node}", path.read_text())
        text = re.sub(r"(workspace|checkout): (\w+)", rf"\1: {tmp_path}/\2", text)
        text = re.sub(r"path: data/", f"path: {tmp_path}/data/", text)
        (root / "manifests" / path.name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "The plan")
    return root


def test_in_a_terminal_it_follows_its_size_and_ctrl_c_leaves_the_last_frame(repository: Path) -> None:
    here, there = pty.openpty()
    sized(there, 80, 30)
    environment = os.environ | {"TERM": "xterm", "XDG_STATE_HOME": str(repository.parent / "state")}
    environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    arguments = [sys.executable, "-m", "reconciler.cli.main", "watch"]
    with subprocess.Popen(arguments, cwd=repository, stdin=there, stdout=there, stderr=there, env=environment,
                          start_new_session=True, preexec_fn=in_a_terminal):  # fmt: skip
        text = read_until(here, "the cluster goes on.")
        assert "stage-4" in text and "\x1b[?1049h" not in text
        sized(there, 60, 20)  # the kernel sends SIGWINCH
        text = read_until(here, "goes on.")
        assert "\x1b[2J\x1b[H" in text
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text[text.rindex("\x1b[2J") :])
        assert max(map(len, plain.splitlines())) <= 60
        os.write(here, b"\x03")
        text = read_until(here, "Jobs on the cluster go on.")
        assert "Traceback" not in text
    os.close(here)
    os.close(there)


def test_what_stops_every_command_stops_it_at_the_first_look(repository: Path) -> None:
    (repository.parent / "config").write_text("[reconcile]\n\tsigned = perhaps\n")
    environment = os.environ | {"GIT_CONFIG_GLOBAL": str(repository.parent / "config")}
    command = [sys.executable, "-m", "reconciler.cli.main", "watch"]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("[RuleUnreadable]") == 1


def test_into_a_pipe_it_prints_one_line_for_each_stage_and_ends_on_an_interrupt(repository: Path) -> None:
    environment = os.environ | {"XDG_STATE_HOME": str(repository.parent / "state")}
    arguments = [sys.executable, "-m", "reconciler.cli.main", "watch"]
    with subprocess.Popen(
        arguments,
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=heard,
    ) as program:
        assert program.stdout is not None and program.stderr is not None
        told = [program.stdout.readline() for _ in range(4)]
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
        assert "Traceback" not in program.stderr.read()
    assert [re.search(r"stage-\d", line)[0] for line in told] == ["stage-1", "stage-2", "stage-3", "stage-4"]  # type: ignore[index]
    assert all("\x1b" not in line for line in told)
