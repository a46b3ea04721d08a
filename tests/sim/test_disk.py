"""What the simulated file system promises: what POSIX does, and no more."""

from __future__ import annotations

from random import Random

import pytest

from tests.sim.disk import WRITEBACK_S, Disk


def after_crashes(*steps: str, later_s: float = 0.0) -> set[bytes | None]:
    """Every content that `/f` may have after a crash, `None` for absent; steps are calls in short."""
    found: set[bytes | None] = set()
    for seed in range(200):
        disk = Disk()
        for step in steps:
            match step.split():
                case ["write", path, text]:
                    disk.place(path, text.encode())
                case ["fsync", path]:
                    disk.find(path).sync()
                case ["rename", old, new]:
                    disk.rename(old, new)
                case ["unlink", path]:
                    disk.unlink(path)
                case _:
                    raise AssertionError(step)
        disk.now += later_s
        disk.crash(Random(seed))
        found.add(disk.read("/f"))
    return found


CUT = {b"", b"n", b"ne", b"new", b"\0\0\0", b"n\0\0", b"ne\0"}


@pytest.mark.parametrize(
    ("steps", "may_be"),
    [
        pytest.param(("write /f new",), CUT | {None}, id="nothing synced: anything"),
        pytest.param(("write /f new", "fsync /f"), {b"new", None}, id="the content is safe, its name is not"),
        pytest.param(("write /f new", "fsync /"), CUT, id="the name is safe, its content is not"),
        pytest.param(("write /f new", "fsync /f", "fsync /"), {b"new"}, id="both are safe"),
        pytest.param(
            ("write /f old", "fsync /f", "fsync /", "write /t new", "fsync /t", "rename /t /f"),
            {b"old", b"new"},
            id="a rename is there or not, never halfway",
        ),
        pytest.param(
            ("write /f old", "fsync /f", "fsync /", "unlink /f"), {b"old", None}, id="a removal may not have been"
        ),
    ],
)
def test_what_a_crash_may_leave(steps: tuple[str, ...], may_be: set[bytes | None]) -> None:
    found = after_crashes(*steps)
    assert found <= may_be
    assert len(found) == len(may_be) or len(may_be) > 3, "the crash is milder than POSIX allows"


def test_the_kernel_writes_back_what_has_lain_there() -> None:
    assert after_crashes("write /f new", later_s=WRITEBACK_S) == {b"new"}


@pytest.mark.parametrize(("mode", "elsewhere", "here"), [("shared", False, False), ("local", True, False)])
def test_who_sees_a_lock(mode: str, elsewhere: bool, here: bool) -> None:
    disk = Disk(mode)
    inode = disk.create("/f")
    assert disk.flock(inode, "one", "node1")
    assert disk.flock(inode, "two", "node2") is elsewhere
    assert disk.flock(inode, "three", "node1") is here


def test_a_file_system_without_flock_says_so() -> None:
    disk = Disk("none")
    with pytest.raises(OSError, match="No locks available"):
        disk.flock(disk.create("/f"), "one", "node1")
