"""Exactly-once: whatever is killed, slow, refused or unreadable, a key's job is queued once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cluster.agent_flights import ROUTING_GRACE_S
from reconciler.cluster.batch import Outcome, OutcomeKind
from reconciler.cluster.ports import Locked, Overtaken
from reconciler.model.observed import Unread
from reconciler.model.plan import Action, ActionKind
from reconciler.planner.ended import ROUTING_GRACE_S as PLANNERS_GRACE_S
from tests.cluster.world import ATTEMPT, FOLDER, SCRIPT, World, train, until, write

VERDICT = f"{FOLDER}/verdicts/final.json"
GRACE_S = ROUTING_GRACE_S + 1.0
"""A little longer than a job may stay unlisted after its qsub."""

SLOW_S = 3.0
"""Of a qsub that must still run when an agent that is started beside it looks, on a busy machine too."""

AT_EFFECT = """
import os, signal, subprocess, errno
_seen = [0]
def _count(module, name, seen=_seen):
    real = getattr(module, name)
    def counted(*args, **named):
        seen[0] += 1
        at = int(os.environ["AT"])
        if os.environ["HOW"] == "kill" and seen[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ["HOW"] == "full once" and seen[0] == at or os.environ["HOW"] == "full" and seen[0] >= at:
            raise OSError(errno.ENOSPC, "full", args[0] if args and isinstance(args[0], str) else None)
        return real(*args, **named)
    setattr(module, name, counted)
for _name in ("rename", "link", "unlink", "fsync", "mkdir", "_exit", "pread"):
    _count(os, _name)
class _Popen(subprocess.Popen):
    pass
_count(_Popen, "__init__")
_count(_Popen, "wait")
subprocess.Popen = _Popen
import atexit
atexit.register(lambda: open(os.environ["COUNT"], "w").write(str(_seen[0])))
"""
"""In front of the agent: every effect on the disk and every process it starts or waits for is counted."""


def settled(world: World) -> tuple[OutcomeKind, ...]:
    """Apply until the train job has an id, as the loop does."""
    outcomes: tuple[Outcome, ...] = ()
    for _ in range(50):
        try:
            outcomes = world.execute(train(), write(VERDICT, "{}"))
        except Locked:
            time.sleep(0.1)
            continue
        if outcomes[0].job_id is not None:
            return tuple(outcome.kind for outcome in outcomes)
        time.sleep(0.05)
        world.later(GRACE_S)
    raise AssertionError(f"never settled: {outcomes}")


def assert_once(world: World) -> None:
    assert world.jobs() == {"1.small": f"{FOLDER}/l0/n0/train"}
    assert (world.workspace / VERDICT).read_text() == "{}"
    assert not list((world.workspace / ".journal").glob("*.flight"))
    assert not (world.workspace / ".lock").exists()


def test_a_fresh_action_is_done_and_a_repeated_one_returns_the_journalled_result(world: World) -> None:
    first = world.execute(train(), write(VERDICT, "{}"))
    again = world.execute(train(), write(VERDICT, "{}"))
    assert [(o.kind, o.job_id) for o in first] == [("done", "1.small"), ("done", None)]
    assert [(o.kind, o.job_id) for o in again] == [("repeated", "1.small"), ("repeated", None)]
    assert world.calls("qsub") == 1
    assert_once(world)


def test_the_script_its_files_and_its_folders_are_there_before_the_job(world: World) -> None:
    (world.attempt).mkdir(parents=True)
    (world.attempt / "stop").write_text("please")
    world.execute(train())
    assert (world.attempt / "jobs/l0-n0-train.pbs").read_text() == SCRIPT
    assert (world.attempt / "lists/a.txt").read_text() == "1 a\n"
    assert (world.attempt / "leg-0").is_dir()
    assert not (world.attempt / "stop").exists()


def test_what_was_found_of_a_lost_checkpoint_is_kept_beside(world: World) -> None:
    found = world.attempt / "evaluations/leg-0-60"
    found.mkdir(parents=True)
    (found / "d0.log").write_text("of the one that is gone")
    relative = str(found.relative_to(world.workspace))
    world.execute(replace(train(), aside=(relative, relative + "0")))
    assert not found.exists()
    assert (world.attempt / "evaluations/leg-0-60.aside-1/d0.log").read_text() == "of the one that is gone"


@pytest.mark.parametrize("aside", ["leg-0/global_step60", "../other", "evaluations/../leg-0"])
def test_no_checkpoint_and_nothing_elsewhere_is_set_aside(world: World, aside: str) -> None:
    (world.attempt / "leg-0/global_step60").mkdir(parents=True)
    (outcome,) = world.execute(replace(train(), aside=(f"{world.attempt.relative_to(world.workspace)}/{aside}",)))
    assert (outcome.kind, world.calls("qsub")) == ("refused", 0)
    assert (world.attempt / "leg-0/global_step60").is_dir()


def effects_of(world: World, *actions: Action) -> int:
    """How many effects a batch has when nothing goes wrong."""
    count = world.top / "count"
    here = World(world.top / "clean")
    here.top.mkdir()
    here.build()
    running = here.started(here.batch(*actions), AT_EFFECT, AT="0", HOW="nothing", COUNT=str(count))
    assert running.finish()[0] == 0
    return int(count.read_text())


@pytest.mark.parametrize("how", ["kill", "full once", "full"])
def test_each_effect_in_turn_goes_wrong(world: World, how: str) -> None:
    """N = 1, 2, …: the agent is killed at its Nth effect, or the disk is full once, or from then on.

    Whatever came of it, nothing is queued twice, and the next applies end with exactly one job.
    """
    actions = (train(), write(VERDICT, "{}")) if how == "kill" else (train(),)
    effects = effects_of(world, *actions)
    assert effects > 30, "the counting does not reach the effects"
    for at in range(1, effects + 1):
        here = World(world.top / str(at))
        here.top.mkdir()
        here.build()
        here.started(here.batch(*actions), AT_EFFECT, AT=str(at), HOW=how, COUNT="/dev/null").finish()
        settled(here)
        assert_once(here)


def test_killed_at_random_moments(world: World) -> None:
    chance = random.Random(7)
    for _ in range(25):
        running = world.started(world.batch(train(), write(VERDICT, "{}")))
        time.sleep(chance.uniform(0.0, 0.35))
        running.kill()
    settled(world)
    assert_once(world)
    assert world.calls("qsub") == 1


def test_killed_after_qsub_queued_the_job_and_before_the_journal_knew(world: World) -> None:
    world.control(qsub_after_s=SLOW_S)
    running = world.started(world.batch(train()))
    until(lambda: bool(world.jobs()))
    running.kill()
    (at_once,) = world.execute(train())
    assert (at_once.kind, at_once.job_id) == ("unknown", None), "its qsub is still running"
    until(lambda: world.execute(train())[0].kind != "unknown")
    (then,) = world.execute(train())
    assert (then.kind, then.job_id) == ("repeated", "1.small")
    assert list(world.jobs()) == ["1.small"]
    assert world.calls("qsub") == 1


def test_killed_while_a_slow_qsub_has_queued_nothing_yet(world: World) -> None:
    """The table shows no such job, which proves nothing while that qsub runs."""
    world.control(qsub_before_s=SLOW_S)
    running = world.started(world.batch(train()))
    until(lambda: world.calls("qsub") == 1)
    running.kill()
    assert world.execute(train())[0].kind == "unknown"
    assert not world.jobs()
    until(lambda: bool(world.jobs()))
    until(lambda: world.execute(train())[0].kind in ("adopted", "repeated"))
    assert (list(world.jobs()), world.calls("qsub")) == (["1.small"], 1)


def test_while_a_qsub_may_queue_a_job_its_attempt_gets_no_other(world: World) -> None:
    """Another kind of job, or another count of ended ones: a lost qsub must not meet it later."""
    world.control(qsub_before_s=1.0)
    running = world.started(world.batch(train()))
    until(lambda: world.calls("qsub") == 1)
    running.kill()
    other = train(kind=ActionKind.EVALUATE)
    assert world.execute(other)[0].kind == "forbidden"
    assert world.execute(train(attempt="ba9876543210"), qsub_timeout_s=0.1)[0].kind == "unknown", "it is only begun"
    until(lambda: f"{FOLDER}/l0/n0/train" in world.jobs().values())
    assert world.execute(other)[0].kind == "forbidden"
    assert f"{FOLDER}/l0/n0/evaluate" not in world.jobs().values()


def test_a_lost_answer_and_another_job_of_the_attempt_in_one_batch(world: World) -> None:
    world.control(qsub_output="no id\n")
    outcomes = world.execute(train(), train(ended=1))
    assert [outcome.kind for outcome in outcomes] == ["unknown", "forbidden"]
    assert len(world.jobs()) == 1


def test_a_qsub_that_answers_too_late_is_left_to_finish(world: World) -> None:
    world.control(qsub_before_s=0.8)
    (outcome,) = world.execute(train(), qsub_timeout_s=0.2)
    assert (outcome.kind, outcome.job_id) == ("unknown", None)
    until(lambda: bool(world.jobs()))
    until(lambda: world.execute(train())[0].job_id == "1.small")
    assert world.calls("qsub") == 1


def test_killed_before_qsub_was_started_is_tried_again(world: World) -> None:
    world.execute(train(), qsub_timeout_s=10)
    entry = next((world.workspace / ".journal").glob("*train.json"))
    (world.spool / "1.job").unlink()
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"state": "intent", "job_id": None}))
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.job_id) == ("done", "1.small")


def test_an_id_that_qsub_printed_is_kept_even_if_pbs_lists_the_job_no_more(world: World) -> None:
    """A routing queue may lose a job, and history ends: no sign of it in the table is no proof of anything."""
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"state": "intent", "job_id": None}))
    entry.with_suffix(".out").write_text("Welcome to the site\n1.small\n")
    (world.spool / "1.job").unlink()
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.job_id) == ("adopted", "1.small")
    assert world.calls("qsub") == 1


@pytest.mark.parametrize(
    ("log", "kind", "job_id"),
    [
        pytest.param(
            "reconcile: 2026-11-23T23:43:05Z job 7.small begins on node1\n", "adopted", "7.small", id="it ran"
        ),
        pytest.param("Welcome to node1\nreconcile: job of\n", "done", "1.small", id="somebody else's words"),
        pytest.param("", "done", "1.small", id="nothing was said"),
    ],
)
def test_a_job_that_no_server_remembers_is_known_by_its_log(world: World, log: str, kind: str, job_id: str) -> None:
    """qsub's answer was lost, and the job had ended before anybody looked, on a server without history."""
    world.control(history=False)
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"state": "intent", "job_id": None}))
    (world.spool / "1.job").unlink()
    (world.attempt / "jobs/l0-n0-train.log").write_text(log)
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.job_id) == (kind, job_id)


@pytest.mark.parametrize(
    ("begun_ago", "kind"),
    [
        pytest.param(60, "unknown", id="may still run"),
        pytest.param(1000, "unknown", id="over, and its job may be hidden"),
        pytest.param(3600, "done", id="too long ago"),
        pytest.param(-7200, "unknown", id="by a clock that is ahead"),
    ],
)
def test_a_qsub_begun_on_another_login_node_is_given_time(world: World, begun_ago: float, kind: str) -> None:
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    begun = world.observe().now_s - begun_ago
    elsewhere = {"state": "intent", "job_id": None, "machine": "login2/boot", "begun": begun}
    entry.write_text(json.dumps(json.loads(entry.read_text()) | elsewhere))
    os.utime(entry, (begun, begun))
    (world.spool / "1.job").unlink()
    assert world.execute(train())[0].kind == kind


@pytest.mark.parametrize(
    ("told_ago", "written_ago", "kind"),
    [
        pytest.param(400_000, 60, "unknown", id="this clock is ahead, or the other was behind"),
        pytest.param(60, 400_000, "unknown", id="and the other way round"),
        pytest.param(-400_000, 60, "unknown", id="the other clock was ahead"),
        pytest.param(-400_000, 3600, "done", id="the other clock was ahead, and does not keep it waiting for days"),
    ],
)
def test_the_age_of_a_qsub_is_no_matter_of_one_clock(
    world: World, told_ago: float, written_ago: float, kind: str
) -> None:
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    now = world.observe().now_s
    elsewhere = {"state": "intent", "job_id": None, "machine": "login2/boot", "begun": now - told_ago}
    entry.write_text(json.dumps(json.loads(entry.read_text()) | elsewhere))
    os.utime(entry, (now - written_ago, now - written_ago))
    (world.spool / "1.job").unlink()
    assert world.execute(train())[0].kind == kind


def lost_in_sight(world: World) -> Path:
    """A qsub that queued a job and died without its answer, the job hidden in a routing queue; its journal entry."""
    world.control(qsub_output="", hides=True)
    assert world.execute(train())[0].kind == "unknown"
    return next((world.workspace / ".journal").glob("*train.json"))


def test_agent_and_planner_give_a_routing_queue_the_same_time() -> None:
    assert ROUTING_GRACE_S == PLANNERS_GRACE_S


def test_a_job_that_a_routing_queue_hides_is_not_submitted_again(world: World) -> None:
    lost_in_sight(world)
    world.later(250.0)
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.job_id) == ("unknown", None)
    assert "a routing queue may hide its job for another" in outcome.message
    assert world.execute(train(kind=ActionKind.EVALUATE))[0].kind == "forbidden", "nor is another of its attempt"
    world.control()
    assert world.execute(train())[0].kind == "adopted"
    assert (list(world.jobs()), world.calls("qsub")) == (["1.small"], 1)


def test_what_no_routing_queue_hides_so_long_never_reached_the_server(world: World) -> None:
    lost_in_sight(world)
    world.later(GRACE_S)
    (outcome,) = world.execute(train())
    assert (outcome.kind, world.calls("qsub")) == ("unknown", 2), "submitted again, and its answer lost again"
    assert world.execute(train())[0].kind == "unknown"
    assert world.calls("qsub") == 2, "each qsub has a time of its own"


def test_an_agent_that_died_with_its_qsub_leaves_the_next_to_begin_counting(world: World) -> None:
    entry = lost_in_sight(world)
    entry.write_text(
        json.dumps({name: value for name, value in json.loads(entry.read_text()).items() if name != "over"})
    )
    assert world.execute(train())[0].kind == "unknown"
    world.later(250.0)
    assert world.execute(train())[0].kind == "unknown"
    world.later(GRACE_S - 250.0)
    world.execute(train())
    assert world.calls("qsub") == 2


@pytest.mark.parametrize(
    "over",
    [None, "1.5", True, 1e300, -1e300, float("nan"), pytest.param(time.monotonic() + 1e6, id="days ahead")],
)
def test_a_moment_that_this_boot_has_not_seen_is_no_moment(world: World, over: object) -> None:
    """A damaged entry, or one of an earlier boot on a machine that tells no boots apart: counted from now on."""
    entry = lost_in_sight(world)
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"over": over}))
    before = time.monotonic()
    assert world.execute(train())[0].kind == "unknown"
    assert before <= json.loads(entry.read_text())["over"] <= time.monotonic()
    assert world.calls("qsub") == 1


@pytest.mark.parametrize("begun_ago", [-1e6, 0.0, 1e6])
def test_the_time_of_a_hidden_job_is_no_matter_of_the_wall_clock(world: World, begun_ago: float) -> None:
    """It may be set while a job is on its way."""
    entry = lost_in_sight(world)
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"begun": world.observe().now_s - begun_ago}))
    assert world.execute(train())[0].kind == "unknown"
    assert world.calls("qsub") == 1
    world.later(GRACE_S)
    world.execute(train())
    assert world.calls("qsub") == 2


def test_a_qsub_whose_lock_cannot_be_tried_is_judged_by_its_age(world: World) -> None:
    """Not as one that is over: it may be another's file, or the file system may be ill."""
    entry = lost_in_sight(world)
    entry.with_suffix(".flight").unlink()
    entry.with_suffix(".flight").mkdir()
    world.later(GRACE_S)
    (outcome,) = world.execute(train())
    assert (outcome.kind, world.calls("qsub")) == ("unknown", 1)
    assert "cannot be seen" in outcome.message


@pytest.mark.parametrize("ended", [False, True])
def test_a_server_that_lists_nothing_and_knows_a_job_is_not_believed(world: World, ended: bool) -> None:
    """It recovers: with status 0 it lists no job, and the one whose qsub gave no answer seems never to have been."""
    world.execute(train(attempt="f" * 12))
    if ended:
        world.alter("1.small", job_state="F", mtime="Mon Jan 12 04:11:02 2026")
        world.observe()
    world.control(qsub_output="")
    assert world.execute(train())[0].kind == "unknown"
    world.control(qselect_output="")
    world.later(GRACE_S)
    (outcome,) = world.execute(train())
    assert (outcome.kind, world.calls("qsub")) == ("unknown", 2)
    assert "its list is not whole" in outcome.message
    world.control()
    assert world.execute(train())[0].kind == "adopted"


def test_a_receipt_is_as_old_as_its_result(world: World) -> None:
    """A qsub may hang for long before it queues: only then can a routing queue begin to hide the job."""
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    told = json.loads(entry.read_text()) | {"begun": 5.0, "ended": 700.0}
    for state, written_s in (("done", 700.0), ("failed", 700.0), ("intent", 5.0)):
        entry.write_text(
            json.dumps({k: v for k, v in told.items() if state != "intent" or k != "ended"} | {"state": state})
        )
        assert [receipt.written_s for receipt in world.observe().receipts] == [written_s]  # type: ignore[union-attr]


def test_an_ended_job_is_told_once_also_while_ended_jobs_are_listed(world: World) -> None:
    """It was counted twice: remembered, and listed again for as long as a submission was in doubt."""
    world.execute(train(attempt="f" * 12))
    world.alter("1.small", job_state="F", mtime="Mon Jan 12 04:11:02 2026")
    world.observe()
    world.control(qsub_output="")
    assert world.execute(train())[0].kind == "unknown"
    world.control()
    jobs = world.observe().jobs
    assert not isinstance(jobs, Unread)
    assert sorted(job.job_id for job in jobs) == ["1.small", "2.small"]


def test_a_damaged_journal_entry_is_healed_from_the_job_table(world: World) -> None:
    world.execute(train())
    next((world.workspace / ".journal").glob("*train.json")).write_bytes(b"\0\0\0")
    assert [receipt.done for receipt in world.observe().receipts] == [False]  # type: ignore[union-attr]
    assert world.execute(train())[0].kind == "adopted"
    assert world.calls("qsub") == 1


def test_a_lost_journal_is_healed_from_the_job_table(world: World) -> None:
    world.execute(train())
    for path in (world.workspace / ".journal").iterdir():
        path.unlink()
    assert world.execute(train())[0].kind == "adopted"
    assert world.calls("qsub") == 1


def test_a_lost_journal_is_healed_though_the_script_and_the_log_are_lost_too(world: World) -> None:
    """The job has ended, so only a list of what has ended has it; the folder of its attempt makes the agent ask."""
    world.execute(train())
    world.alter("1.small", job_state="F", mtime="Mon Jan 12 04:11:02 2026")
    shutil.rmtree(world.attempt / "jobs")
    shutil.rmtree(world.workspace / ".journal")
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.job_id, world.calls("qsub")) == ("adopted", "1.small", 1)


def test_a_lost_journal_of_a_job_that_a_routing_queue_hides_is_told_by_its_script(world: World) -> None:
    lost_in_sight(world)
    shutil.rmtree(world.workspace / ".journal")
    (outcome,) = world.execute(train())
    assert (outcome.kind, world.calls("qsub")) == ("unknown", 1)
    assert "its script lies there and the journal has nothing of it" in outcome.message
    script = world.attempt / "jobs/l0-n0-train.pbs"
    os.utime(script, (script.stat().st_mtime - GRACE_S,) * 2)
    assert world.execute(train())[0].kind == "unknown", "submitted again, and its answer lost again"
    assert world.calls("qsub") == 2


def test_an_entry_of_a_newer_version_is_not_touched(world: World) -> None:
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"version": 2}))
    (outcome,) = world.execute(train())
    assert outcome.kind == "refused"
    assert "newer version" in outcome.message


def test_two_at_once_queue_one_job(world: World) -> None:
    for ended in range(6):
        batch = world.batch(train(ended=ended))
        both = [world.started(batch), world.started(batch)]
        assert [running.finish()[0] for running in both] == [0, 0]
        keys = list(world.jobs().values())
        assert keys.count(f"{FOLDER}/l0/n{ended}/train") == 1
        world.alter(f"{ended + 1}.small", job_state="F")


@pytest.mark.parametrize("state", ["Q", "R", "H", "E", "W", "S", "T", "M", "Z", ""])
def test_a_live_job_of_the_attempt_forbids_another(world: World, state: str) -> None:
    """Whatever its letter, known or not: only F is over."""
    world.execute(train(ended=0))
    world.alter("1.small", job_state=state)
    (outcome,) = world.execute(train(ended=1))
    assert (outcome.kind, outcome.job_id) == ("forbidden", None)
    assert world.calls("qsub") == 1


def test_two_jobs_of_one_attempt_in_one_batch_are_one(world: World) -> None:
    outcomes = world.execute(train(ended=0), train(ended=1))
    assert [outcome.kind for outcome in outcomes] == ["done", "forbidden"]


def test_a_finished_job_and_another_attempt_forbid_nothing(world: World) -> None:
    world.execute(train(ended=0))
    world.alter("1.small", job_state="F")
    other = train(attempt="ba9876543210")
    assert [o.kind for o in world.execute(train(ended=1), other)] == ["done", "done"]


def test_a_live_job_whose_variables_were_mangled_is_known_by_its_id(world: World) -> None:
    world.execute(train(ended=0))
    world.alter("1.small", Variable_List={"PBS_O_PATH": "x"})
    assert world.execute(train(ended=1))[0].kind == "forbidden"


def test_a_job_of_another_workspace_with_the_same_campaign_is_not_ours(world: World) -> None:
    other = World(world.top / "other")
    other.top.mkdir()
    (other.top / "bin").symlink_to(world.top / "bin")
    other.execute(train())
    assert world.execute(train())[0].kind == "done"
    assert sorted(world.jobs()) == ["1.small", "2.small"]


@pytest.mark.parametrize(
    "control",
    [
        pytest.param({"qselect_status": 162, "qselect_errors": "qselect: cannot connect to server small"}, id="down"),
        pytest.param({"qselect_status": 1, "qselect_output": "1.small\n"}, id="a status that says nothing"),
        pytest.param({"qselect_output": "7.small\n", "qstat_errors": "qstat: no luck\n"}, id="a job nobody knows of"),
    ],
)
def test_an_unread_table_stops_every_submission(world: World, control: dict[str, object]) -> None:
    if "7.small" in str(control.get("qselect_output")):
        control = control | {"qstat_output": "", "qstat_text": "", "qstat_status": 0}
    world.control(**control)
    (job, verdict) = world.execute(train(), write(VERDICT, "{}"))
    assert (job.kind, world.calls("qsub")) == ("unknown", 0)
    assert "nothing was submitted" in job.message
    assert verdict.kind == "done", "a file needs no table"


def test_a_table_that_takes_too_long_stops_every_submission(world: World) -> None:
    world.execute(train())
    world.control(qstat_s=5)
    (job,) = world.execute(train(attempt="ba9876543210"), pbs_timeout_s=1)
    assert (job.kind, world.calls("qsub")) == ("unknown", 1)
    assert "qstat did not answer in time" in job.message


def test_without_job_history_the_live_jobs_are_the_table(world: World) -> None:
    world.control(history=False)
    assert world.execute(train())[0].kind == "done"
    assert world.execute(train(ended=1))[0].kind == "forbidden", "it is alive"
    world.alter("1.small", job_state="F")
    assert world.observe().jobs == ()
    assert world.execute(train(ended=1))[0].kind == "done"


@pytest.mark.parametrize("status", [1, 2, 32, 166, 170, 188])
def test_a_refusal_for_good_is_journalled_and_not_tried_again(world: World, status: int) -> None:
    world.control(qsub_status=status, qsub_errors="qsub: Unknown queue\n")
    first, again = world.execute(train())[0], world.execute(train())[0]
    assert (first.kind, again.kind, world.calls("qsub")) == ("refused", "refused", 1)
    assert "Unknown queue" in again.message
    seen = world.observe().receipts
    assert isinstance(seen, tuple)
    assert [(receipt.done, receipt.failed) for receipt in seen] == [(True, "qsub: Unknown queue")]


def test_a_retry_sets_the_refusal_and_its_script_aside(world: World) -> None:
    world.control(qsub_status=170)
    world.execute(train())
    world.control()
    (outcome,) = world.execute(train(), script=SCRIPT + "# mended\n", retry=True)
    assert (outcome.kind, outcome.job_id) == ("done", "1.small")
    assert (world.attempt / "jobs/l0-n0-train.pbs").read_text().endswith("# mended\n")
    assert (world.attempt / "jobs/l0-n0-train.pbs.aside-1").read_text() == SCRIPT
    assert len(list((world.workspace / ".journal").glob("*.aside-1"))) == 1


@pytest.mark.parametrize(
    "control",
    [
        pytest.param({"qsub_status": 38, "qsub_errors": "would exceed queue's per-user limit"}, id="user limit"),
        pytest.param({"qsub_status": 39}, id="user limit on resources"),
        pytest.param({"qsub_status": 198}, id="queue full"),
        pytest.param({"qsub_status": 162, "qsub_errors": "qsub: cannot connect to server pbs"}, id="server down"),
    ],
)
def test_a_refusal_that_passes_leaves_no_trace(world: World, control: dict[str, object]) -> None:
    world.control(**control)
    assert world.execute(train())[0].kind == "deferred"
    assert world.observe().receipts == ()
    assert not list((world.attempt / "jobs").iterdir())
    world.control()
    assert world.execute(train(), script=SCRIPT + "# of the next commit\n")[0].kind == "done"


@pytest.mark.parametrize(
    "control",
    [
        pytest.param({"qsub_status": 255, "qsub_errors": "Failed to recv data"}, id="a status that says nothing"),
        pytest.param({"qsub_output": "submitted, have a nice day\n"}, id="no id"),
        pytest.param({"qsub_output": ""}, id="no output"),
    ],
)
def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(world: World, control: dict[str, object]) -> None:
    world.control(**control)
    assert world.execute(train())[0].kind == "unknown"
    queued = len(world.jobs())
    world.control()
    world.later(GRACE_S)
    (outcome,) = world.execute(train())
    assert outcome.kind == ("adopted" if queued else "done")
    assert len(world.jobs()) == 1


def test_no_qsub_on_the_path_is_told_and_leaves_no_trace(world: World) -> None:
    (world.top / "bin/qsub").unlink()
    (outcome,) = world.execute(train())
    assert (outcome.kind, outcome.message) == ("deferred", "qsub: there is no such file or program")
    assert world.observe().receipts == ()


def test_a_file_with_other_content_is_never_overwritten(world: World) -> None:
    world.attempt.mkdir(parents=True)
    (world.attempt / "recipe.json").write_text("mine")
    (outcome,) = world.execute(train())
    assert (outcome.kind, world.calls("qsub")) == ("refused", 0)
    assert (world.attempt / "recipe.json").read_text() == "mine"
    assert world.observe().receipts == ()


def test_the_applied_text_is_replaced(world: World) -> None:
    world.execute(applied="one")
    world.execute(applied="two and longer")
    assert world.observe().applied == "two and longer"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("there", "seen", "done"),
    [
        (None, None, True),  # nobody asks
        ("theirs", None, True),
        (None, "", True),  # as it was seen
        ("theirs", digest("theirs"), True),
        ("ours", "", True),  # somebody else was first, and wants the same
        ("ours", digest("theirs"), True),
        ("theirs", "", False),  # somebody else was first, by another rule
        ("theirs", digest("before"), False),
        (None, digest("before"), False),
    ],
)
def test_what_was_planned_by_another_state_of_what_is_applied_is_not_done(
    world: World, there: str | None, seen: str | None, done: bool
) -> None:
    if there is not None:
        world.execute(applied=there)
    if done:
        assert world.execute(train(), applied="ours", applied_seen=seen)[0].kind == "done"
        assert world.observe().applied == "ours"
        return
    with pytest.raises(Overtaken):
        world.execute(train(), applied="ours", applied_seen=seen)
    assert (world.observe().applied, world.observe().receipts, world.calls("qsub")) == (there, (), 0)
    assert world.observe().lock is None


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "demo/../../outside",
        "/etc/outside",
        "demo//x",
        "./x",
        "",
        ".journal/x.json",
        ".lock",
        "demo/out/x",
        "demo/file-link",
        "demo/a\nb",
        "demo/a\0b",
        "x/" * 2100,
    ],
)
def test_a_path_that_could_leave_the_workspace_is_refused(world: World, path: str) -> None:
    outside = world.top / "outside"
    outside.mkdir()
    (outside / "file").write_text("theirs")
    (world.workspace / "demo").mkdir(parents=True)
    (world.workspace / "demo/out").symlink_to(outside)
    (world.workspace / "demo/file-link").symlink_to(outside / "file")
    (outcome,) = world.execute(write(path, "ours"))
    assert outcome.kind == "refused"
    assert [p.name for p in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "theirs"


def test_a_part_of_a_checkpoint_is_never_removed(world: World) -> None:
    from dataclasses import replace

    shard = world.attempt / "leg-0/global_step5/x.pt"
    shard.parent.mkdir(parents=True)
    shard.write_text("tokens")
    action = replace(train(), remove=(f"{FOLDER}/leg-0/global_step5/x.pt",))
    assert world.execute(action)[0].kind == "refused"
    assert shard.exists()
    assert world.calls("qsub") == 0


def test_a_key_of_another_campaign_is_refused(world: World) -> None:
    from dataclasses import replace

    action = write(VERDICT, "{}")
    action = replace(action, key=replace(action.key, campaign="other"))
    assert world.execute(action)[0].kind == "refused"


def test_a_workspace_on_a_file_system_that_is_not_there_is_unread(tmp_path: Path) -> None:
    gone = World(tmp_path / "gone")
    seen = gone.observe()
    assert "mounted" in str(seen.attempts)
    assert "mounted" in str(seen.receipts)
    assert ATTEMPT not in str(seen)
