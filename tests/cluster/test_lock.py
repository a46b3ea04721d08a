"""The batch lock: one at a time, proven stale or left alone, released by exactly its nonce."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from reconciler.cluster import agent_lock
from reconciler.cluster.execute import unlock
from reconciler.cluster.ports import Locked
from tests.cluster.world import FOLDER, World, train, until, write

VERDICT = f"{FOLDER}/verdicts/final.json"


def put_lock(world: World, **changes: object) -> dict[str, object]:
    world.workspace.mkdir(exist_ok=True)
    lock = (
        agent_lock.identity() | {"nonce": "abc123", "holder": "grace@elsewhere:9", "begun": time.time() - 90} | changes
    )
    (world.workspace / ".lock").write_text(json.dumps(lock))
    return lock


def dead_process() -> dict[str, object]:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    start = agent_lock.process_start(child.pid)
    child.communicate()
    return {"pid": child.pid, "start": start}


def test_a_live_holder_is_named_with_age_and_the_way_to_release_it(world: World) -> None:
    put_lock(world)  # this very process: it lives
    with pytest.raises(Locked) as locked:
        world.execute(train())
    assert "grace@elsewhere:9 has been applying" in locked.value.message
    assert "reconcile unlock abc123" in locked.value.fix
    assert locked.value.lock.nonce == "abc123"
    assert 89 < locked.value.lock.age_s < 150
    assert not world.jobs()
    assert not (world.workspace / ".journal").exists()
    seen = world.observe().lock
    assert seen is not None
    assert (seen.nonce, seen.holder) == ("abc123", "grace@elsewhere:9")


def test_a_lock_by_a_clock_that_was_days_ahead_is_not_new_for_as_long(world: World) -> None:
    """Its age decides whether the way to release it is shown."""
    put_lock(world, begun=time.time() + 400_000)
    with pytest.raises(Locked) as locked:
        world.execute(train())
    assert locked.value.lock.age_s > 399_000


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        pytest.param({}, True, id="dead on this machine"),
        pytest.param({"host": "login2"}, False, id="dead here, but it ran on another host"),
        pytest.param({"boot": "before"}, False, id="another boot of a machine of this name"),
        pytest.param({"pids": "pid:[1]"}, False, id="another container"),
        pytest.param({"boot": ""}, False, id="no boot id"),
        pytest.param({"pid": 0}, False, id="no process id"),
    ],
)
def test_only_a_holder_that_is_provably_gone_is_replaced(world: World, changes: dict[str, object], stale: bool) -> None:
    put_lock(world, **(dead_process() | changes))
    if stale:
        assert world.execute(write(VERDICT, "{}"))[0].kind == "done"
        assert not (world.workspace / ".lock").exists()
    else:
        with pytest.raises(Locked):
            world.execute(write(VERDICT, "{}"))


def test_a_process_number_that_was_given_again_is_not_the_holder(world: World) -> None:
    put_lock(world, pid=os.getpid(), start="1")
    assert world.execute(write(VERDICT, "{}"))[0].kind == "done"


def test_a_zombie_holds_nothing(world: World) -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    put_lock(world, pid=child.pid, start=agent_lock.process_start(child.pid))
    with pytest.raises(Locked):
        world.execute(write(VERDICT, "{}"))
    child.kill()
    until(lambda: agent_lock.process_start(child.pid) == "")
    assert world.execute(write(VERDICT, "{}"))[0].kind == "done"
    child.communicate()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nonce": 1}', "\0" * 10])
def test_a_damaged_lock_is_nobodys_and_is_released_by_the_name_it_is_given(world: World, content: str) -> None:
    world.workspace.mkdir()
    (world.workspace / ".lock").write_text(content)
    with pytest.raises(Locked) as locked:
        world.execute(write(VERDICT, "{}"))
    assert "damaged" in locked.value.lock.holder
    assert "released" in unlock(world.link, str(world.workspace), locked.value.lock.nonce)
    assert world.execute(write(VERDICT, "{}"))[0].kind == "done"


def test_unlock_releases_exactly_one_lock(world: World) -> None:
    put_lock(world)
    with pytest.raises(Locked):
        unlock(world.link, str(world.workspace), "another")
    assert unlock(world.link, str(world.workspace), "abc123") == "released the lock of grace@elsewhere:9"
    assert unlock(world.link, str(world.workspace), "abc123") == "there is no lock"


def test_a_batch_that_lost_its_lock_submits_nothing_more_and_leaves_the_new_holders(world: World) -> None:
    """A person released it by mistake while the batch ran."""
    world.control(qsub_after_s=1.0)
    running = world.started(world.batch(train(), train(attempt="ba9876543210")))
    until(lambda: bool(world.jobs()))
    put_lock(world)
    _, output = running.finish()
    assert output.count(b'"forbidden"') == 1
    assert len(world.jobs()) == 1
    assert json.loads((world.workspace / ".lock").read_text())["nonce"] == "abc123"


def test_many_that_meet_a_stale_lock_take_turns(world: World) -> None:
    put_lock(world, **dead_process())
    several = [world.started(world.batch(write(VERDICT, "{}"))) for _ in range(6)]
    outputs = [running.finish()[1] for running in several]
    assert sum(b'"done"' in output for output in outputs) == 1
    assert all(b'"locked"' in output or b'"outcomes"' in output for output in outputs)
    assert not (world.workspace / ".lock").exists()


@pytest.mark.parametrize("without", ["link", "flock"])
def test_file_systems_without_links_or_flock(world: World, without: str) -> None:
    prologue = "import os, fcntl, errno\ndef _none(*a, **k): raise OSError(errno.ENOTSUP, 'not here')\n"
    prologue += "os.link = _none\n" if without == "link" else "fcntl.flock = _none\n"
    batch = world.batch(train())
    for kind in (b'"done"', b'"repeated"'):
        _, output = world.started(batch, prologue).finish()
        assert kind in output
    assert not (world.workspace / ".lock").exists()
    assert world.calls("qsub") == 1


def test_without_flock_an_orphaned_qsub_is_given_time(world: World) -> None:
    prologue = (
        "import fcntl, errno\ndef _none(*a, **k): raise OSError(errno.ENOTSUP, 'not here')\nfcntl.flock = _none\n"
    )
    world.control(qsub_before_s=0.7)
    running = world.started(world.batch(train()), prologue)
    until(lambda: world.calls("qsub") == 1)
    running.kill()
    (world.workspace / ".lock").unlink()  # it cannot be proven stale safely without flock: a person did this
    _, output = world.started(world.batch(train()), prologue).finish()
    assert b'"unknown"' in output
    until(lambda: bool(world.jobs()))
    _, output = world.started(world.batch(train()), prologue).finish()
    assert b'"adopted"' in output
    assert world.calls("qsub") == 1
