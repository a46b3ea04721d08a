"""`reconcile why`: the chain as a person reads it, kept as golden text; `SNAP_UPDATE=1` rewrites it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli import machine
from reconciler.cli.human.why import render
from reconciler.cli.screen import Screen
from reconciler.model.observed import LogPoint, Unread
from reconciler.model.plan import ActionKind
from reconciler.model.reasons import WAYS_ON
from reconciler.model.status import Reason
from reconciler.planner.planner import plan
from reconciler.planner.why import JOBS_TOLD, Why, why
from tests.planner.test_trial import trial, tried
from tests.planner.world import FORGOT_D0, SAME, World, after, log_of, quickstart, swapped

GOLDEN = Path(__file__).parents[1] / "golden" / "why"
TRAIN = ActionKind.TRAIN


def chain(world: World, stage: str) -> Why:
    look = world.look()
    manifest = next(each for each in world.desired.stages if each.metadata.name == stage)
    return why(world.desired, look, plan(world.desired, look), manifest)


def text_of(found: Why) -> str:
    screen = Screen(file=io.StringIO(), width=110, highlight=False, color_system=None)
    screen.print(render(found))
    assert isinstance(screen.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in screen.file.getvalue().splitlines())


def done() -> World:
    return after(2)


def second_rung_runs() -> World:
    world = after(2)
    world.finish_stage(FORGOT_D0)
    action = world.until(TRAIN)
    world.trained(action, 300)
    again = world.the_action()
    world.submit(again)
    world.leg(again, logs=(log_of(action, 300, 2.0), log_of(again, 400, 1.9, saved=())))
    return world


def exhausted() -> World:
    world = after(1)
    world.finish_stage(FORGOT_D0)
    world.finish_stage(FORGOT_D0)
    return world


def bad_load() -> World:
    world = after(1)
    world.trained(world.until(TRAIN), 500)
    action = world.the_action()
    world.submit(action)
    points = tuple(LogPoint(501 + i, 2.9, 1e-3) for i in range(20))
    world.leg(
        action, logs=(*world.seen(action).legs[0].logs, log_of(action, 0, 2.9, first=points, last=points, saved=()))
    )
    world.end(world.jobs[-1].job_id)
    return world


def awaited() -> World:
    edit = ("    recovery:                     # ",
            "    external: [{name: mmlu, metric: [results, mmlu], atLeast: 0.3}]\n    recovery:  # ")  # fmt: skip
    world = World(quickstart(swapped(edit)))
    world.carry_out(SAME)
    world.carry_out(SAME)
    return world


CASES: dict[str, tuple[Callable[[], World], str]] = {
    "done": (done, "stage-2"),
    "first-job-due": (lambda: World(quickstart()), "stage-1"),
    "second-rung-runs": (second_rung_runs, "stage-3"),
    "ladder-exhausted": (exhausted, "stage-2"),
    "waits-for-another-stage": (exhausted, "stage-4"),
    "bad-load": (bad_load, "stage-2"),
    "waits-for-a-harness": (awaited, "stage-1"),
    "trial-awaits-choice": (lambda: tried(trial(choose="person")), "stage-3"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_chain_as_a_person_reads_it(case: str) -> None:
    make, stage = CASES[case]
    text, path = text_of(chain(make(), stage)), GOLDEN / f"{case}.txt"
    if os.environ.get("SNAP_UPDATE") == "1":
        path.write_text(text)
    assert text == (path.read_text() if path.exists() else "(there is no such golden text; run with SNAP_UPDATE=1)\n")


def test_the_chain_as_a_program_reads_it() -> None:
    body = json.loads(machine.why_json(chain(exhausted(), "stage-2")))
    assert (body["format_version"], body["stage"], body["phase"], body["reason"]) == (
        "1.0",
        "stage-2",
        "Held",
        "LadderExhausted",
    )
    naive = body["rungs"][0]
    assert [job["what"] for job in naive["jobs"]] == [
        "convert, job 1", "train leg 0, job 1", "evaluate leg 0 at iteration 977, job 1",
    ]  # fmt: skip
    forgetting = next(gate for gate in naive["gates"] if gate["gate"] == "forgetting")
    assert forgetting["level"] == "fail"
    assert forgetting["numbers"]["val-D0.rise"] == 0.31


def test_every_reason_says_what_would_change_it() -> None:
    assert set(WAYS_ON) == set(Reason)


@pytest.mark.parametrize("table", ["jobs", "attempts", "receipts"])
def test_a_look_that_was_not_whole_has_a_chain_too(table: str) -> None:
    world = second_rung_runs()
    look = replace(world.look(), **{table: Unread("timed out")})  # type: ignore[arg-type]
    stage = world.desired.stages[2]
    found = why(world.desired, look, plan(world.desired, look), stage)
    assert (found.rungs, found.following) == ((), ())
    assert "timed out" in text_of(found)


def test_a_trial_stands_under_its_own_rung() -> None:
    names = [f"    - name: {name}\n" for name in ("replay-30", "mix-a")]
    below = [(name, f"{name}      if: no-recovery\n") for name in names]
    mixes, *skipped = chain(tried(trial(), *below, lean=FORGOT_D0, even=FORGOT_D0), "stage-3").rungs
    assert [line.split()[0] for line in mixes.pilots] == ["a", "pilot", "pilot"]
    assert [(rung.outcome, rung.pilots) for rung in skipped] == [("skipped", ()), ("skipped", ())]


def test_of_many_jobs_the_last_are_told() -> None:
    world = World(quickstart())
    for iteration in range(100, 1100, 100):
        world.trained(world.the_action(), iteration)
    (rung,) = chain(world, "stage-1").rungs
    assert (len(rung.jobs), rung.jobs_before) == (JOBS_TOLD, 2)
    assert rung.jobs[-1].what == "train leg 0, job 10"


def test_what_a_cluster_says_is_shown_and_not_obeyed() -> None:
    world = second_rung_runs()
    world.jobs[-1] = replace(world.jobs[-1], comment="\x1b[2Jgone")
    assert "\x1b" not in text_of(chain(world, "stage-3"))
