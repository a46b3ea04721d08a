"""What a person sees of a trial: every pilot on one scale, which was chosen and why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from rich.console import Console

from reconciler.cli import machine
from reconciler.cli.drawing import dot
from reconciler.cli.human.trial import comparison
from reconciler.cli.human.watch import event_line
from reconciler.model.plan import Plan
from reconciler.model.status import Phase, PilotStatus, Reason, StageStatus, TrialStatus
from reconciler.planner.events import turns

PILOTS = (
    PilotStatus("mixes.a", "a" * 12, "passed", 200_000, {"val-D0": 2.0, "val-D2": 2.4}, 2.2, "val-D0 +0.000 nats"),
    PilotStatus("mixes.b", "b" * 12, "failed", 200_000, {"val-D0": 2.4, "val-D2": 1.8}, 2.1, "val-D0 +0.400 nats"),
    PilotStatus("mixes.c", "c" * 12, "passed", 200_000, {"val-D0": 2.2, "val-D2": 2.4}, 2.3, "val-D0 +0.200 nats"),
    PilotStatus("mixes.d", "d" * 12, "running", 100_000),
)
TRIAL = TrialStatus("mixes", 200_000, ("val-D0", "val-D2"), PILOTS, message="trial: 3 of 4 pilots judged")


def shown(trial: TrialStatus, width: int = 130) -> list[str]:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        for part in comparison(trial):
            console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_pilots_are_shown_on_one_scale_with_what_is_not_there_yet_left_open() -> None:
    assert shown(TRIAL) == [
        "trial of mixes  4 pilots of 200k tokens, compared at their ends",
        "      VARIANT  TOKENS  val-D0  val-D2    MEAN  2.1000            2.3000",
        "  ✓   mixes.a    200k  2.0000  2.4000  2.2000  ────────────●───────────",
        "  ✗   mixes.b    200k  2.4000  1.8000  2.1000  ●───────────────────────",
        "  ✓   mixes.c    200k  2.2000  2.4000  2.3000  ───────────────────────●",
        "  ▸   mixes.d    100k",
        "  ✓ mixes.a: val-D0 +0.000 nats",
        "  ✗ mixes.b: val-D0 +0.400 nats",
        "  ✓ mixes.c: val-D0 +0.200 nats",
    ]


def test_the_table_fits_80_columns() -> None:
    assert shown(TRIAL, 80) == shown(TRIAL)


def test_the_chosen_one_is_marked_and_the_reason_stands_under_the_table() -> None:
    lines = shown(replace(TRIAL, chosen="mixes.a", by="manifest", message="chosen in the manifest"))
    assert lines[2].startswith("  ✓★  mixes.a")
    assert lines[-1] == "  mixes.a: chosen in the manifest"


def test_before_a_pilot_has_ended_there_is_no_scale() -> None:
    lines = shown(replace(TRIAL, pilots=PILOTS[3:]))
    assert lines[1].split() == ["VARIANT", "TOKENS", "val-D0", "val-D2", "MEAN"]


@pytest.mark.parametrize(
    ("value", "picture"),
    [
        (1.0, "●────"),
        (2.0, "────●"),
        (1.5, "──●──"),
        (0.0, "●────"),
        (9.0, "────●"),
        (None, "     "),
        (float("nan"), "     "),
        (float("inf"), "     "),
    ],
)
def test_a_dot_stands_where_its_value_does(value: float | None, picture: str) -> None:
    assert dot(value, 1.0, 2.0, 5) == picture


def test_equal_values_stand_together() -> None:
    assert dot(1.0, 1.0, 1.0, 5) == "●────"


def test_a_judged_pilot_is_told_in_one_line() -> None:
    status = StageStatus("s", Phase.TRAINING, Reason.JOB_LIVE, "", trial=TRIAL)
    told = [event_line(event).plain for event in turns(None, Plan("c", "r", False, (), (status,)))]
    assert told[1] == "✗ s: pilot mixes.b failed, mean loss 2.1000: val-D0 +0.400 nats"
    assert not any("mixes.d" in line for line in told), "what has only begun was told when it began"


def test_the_numbers_are_in_json() -> None:
    status = StageStatus("s", Phase.TRAINING, Reason.JOB_LIVE, "", trial=TRIAL)
    body = json.loads(machine.status_json(Plan("c", "r", False, (), (status,))))
    pilot = body["stages"][0]["trial"]["pilots"][0]
    assert (pilot["variant"], pilot["losses"], pilot["mean"]) == ("mixes.a", {"val-D0": 2.0, "val-D2": 2.4}, 2.2)
