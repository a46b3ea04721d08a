"""How often a person's processes look at one cluster: together, not each for itself."""

from __future__ import annotations

import itertools
import stat
import threading
from pathlib import Path

import pytest

from reconciler.cluster import pace
from reconciler.cluster.pace import SharedPace
from reconciler.cluster.process import SystemClock

POLL_S = 60.0


class Clock:
    """Sleeping is what makes time go by."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now = now_s
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reconcile" / "looks" / "aurora.json"


def test_two_loops_together_look_as_often_as_one(file: Path) -> None:
    clock = Clock()
    first, second = SharedPace(file, clock), SharedPace(file, clock)
    looks = []
    for each in (first, second, first, second):
        each.next(POLL_S, 0)
        looks.append(clock.now)
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert all(POLL_S <= gap < POLL_S + pace.APART_MIN_S for gap in gaps), gaps


def test_a_command_that_a_person_types_waits_moments_and_not_a_whole_poll(file: Path) -> None:
    clock = Clock()
    SharedPace(file, clock).next(POLL_S, 0)
    clock.slept.clear()
    SharedPace(file, clock).now(POLL_S)
    assert 0 < sum(clock.slept) <= pace.APART_MIN_S * 1.1


def test_commands_that_a_person_types_do_not_put_a_loop_off_for_ever(file: Path) -> None:
    clock = Clock()
    loop, person = SharedPace(file, clock), SharedPace(file, clock)
    loop.next(POLL_S, 0)
    began = clock.now
    for _ in range(9):
        clock.now += 6.0
        person.now(POLL_S)
    loop.next(POLL_S, 0)
    assert clock.now - began < POLL_S + 2 * pace.APART_MIN_S


def test_a_short_poll_is_kept_short(file: Path) -> None:
    clock = Clock()
    for _ in range(3):
        SharedPace(file, clock).now(0.5)
    assert sum(clock.slept) <= 2 * 0.55


def test_looks_that_fail_become_seldom_and_at_moments_nobody_can_foresee(file: Path) -> None:
    waits = []
    for misses in (0, 1, 2, 3, 9, 9, 9):
        clock = Clock()
        SharedPace(None, clock).next(POLL_S, misses)
        waits.append(sum(clock.slept))
    assert POLL_S <= waits[0] < 1.1 * POLL_S
    assert 4 * POLL_S * 0.99 <= waits[3] <= 8.1 * POLL_S
    assert max(waits) <= 8.1 * POLL_S
    assert len(set(waits[4:])) == 3


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"any": "x", "loop": 1}', "\x00\xff"])
def test_a_damaged_file_holds_nobody_up(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    clock = Clock()
    SharedPace(file, clock).now(POLL_S)
    assert clock.slept == []


def test_a_clock_that_was_set_back_holds_nobody_up(file: Path) -> None:
    SharedPace(file, Clock(2_000_000.0)).next(POLL_S, 0)
    clock = Clock(1_000_000.0)
    SharedPace(file, clock).now(POLL_S)
    assert clock.slept == []


def test_where_nothing_can_be_kept_looks_go_on_apart_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "reconcile").write_text("a file in the way")
    clock, warnings = Clock(), list[str]()
    one = SharedPace(tmp_path / "reconcile" / "looks" / "aurora.json", clock, warnings.append)
    for _ in range(3):
        one.next(POLL_S, 0)
    assert sum(clock.slept) >= 2 * POLL_S
    assert len(warnings) == 1 and "aurora.json" in warnings[0]


def test_the_file_is_the_persons_own_and_never_one_that_a_link_leads_to(file: Path, tmp_path: Path) -> None:
    SharedPace(file, Clock()).next(POLL_S, 0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700
    (tmp_path / "elsewhere").write_text("precious")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    SharedPace(file, Clock()).next(POLL_S, 0)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_one_file_for_each_host_user_and_port_whatever_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    asked = [("a", None, None), ("a", "u", None), ("a", None, 2222), ("../a/b", None, None)]
    files = {pace.file_for(*each) for each in asked}
    assert len(files) == 4
    assert {file.parent for file in files} == {Path("/state/reconcile/looks")}
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert pace.state_folder() == Path.home() / ".local" / "state" / "reconcile"


def test_real_processes_that_come_at_once_are_let_through_one_after_the_other(file: Path) -> None:
    clock, looks = SystemClock(), list[float]()

    def look() -> None:
        SharedPace(file, clock).now(0.2)
        looks.append(clock.now_s())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    looks.sort()
    assert all(b - a > 0.15 for a, b in itertools.pairwise(looks)), looks
