"""What `plan` shows of what is to come: one table, its total, what it rests on, and how it stands to the bound."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from reconciler.cli import machine
from reconciler.cli.human.plan import render
from tests.planner.test_forecast import DECLARED
from tests.planner.world import World, after, quickstart, swapped


def told(world: World, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    console.print(render(world.plan()))
    return console.export_text()


def lines(text: str) -> dict[str, list[str]]:
    """First word → words, of the table of what is to come."""
    table = text[text.index("To come, if nothing fails") :].splitlines()
    return {line.split()[0]: line.split() for line in table if line.startswith("  ")}


def test_every_stage_and_the_total_with_their_ranges() -> None:
    text = told(World(quickstart(swapped(DECLARED))))
    rows = lines(text)
    assert " ".join(rows["stage-1"]) == "stage-1 1,954 8 0.139–0.145 8m 21s–8m 43s 20 37.4–52.4 MB"
    assert " ".join(rows["total"]) == "total 0.303–0.358 13m 30s–16m 45s 80.4–105 MB"
    assert "speed of stage-2: 20k tokens a second, declared by the cluster" in text
    assert "queue waits: not known yet, and not counted" in text
    assert "checkpoints: 1.87 MB each, 14 bytes a parameter" in text
    assert "0 of 5 node-hours are spent\n" in text


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (80, "stage iterations jobs node-hours time saves checkpoints"),
        (76, "stage iterations jobs node-hours time checkpoints"),
        (66, "stage jobs node-hours time checkpoints"),
    ],
)
def test_on_a_narrow_terminal_columns_are_left_out_and_no_number_is_cut_off(width: int, columns: str) -> None:
    text = told(World(quickstart(swapped(DECLARED))), width)
    assert " ".join(lines(text)["stage"]) == columns
    assert "…" not in text[text.index("To come") :]
    assert "80.4–105 MB" in text


def test_without_a_speed_only_storage_is_known() -> None:
    text = told(World(quickstart()))
    assert lines(text)["stage-2"][:6] == ["stage-2", "977", "unknown", "unknown", "unknown", "10"]
    assert lines(text)["total"][:3] == ["total", "unknown", "unknown"]
    assert "Unknown and not in the total: stage-1, stage-2, stage-3, stage-4 (the first job measures the speed" in text


@pytest.mark.parametrize(
    ("bound", "words"),
    [("0.25", "even the least that is to come exceeds what is left"), ("0.33", "what is to come may exceed")],
)
def test_a_bound_that_is_too_low_is_told(bound: str, words: str) -> None:
    text = told(World(quickstart(swapped(DECLARED, ("    nodeHours: 5\n", f"    nodeHours: {bound}\n")))))
    assert f"0 of {bound} node-hours are spent; {words}" in text
    assert ("Refused" in text) is (bound == "0.25")


def test_stages_that_are_done_are_not_to_come() -> None:
    assert "stage-1" not in lines(told(after(1, quickstart(swapped(DECLARED)))))
    assert "To come" not in told(after(4))


def test_the_same_for_programs() -> None:
    world = World(quickstart(swapped(DECLARED)))
    body = json.loads(machine.plan_json(world.plan(), {}))
    assert body["outlook"]["node_hours"]["low"] == pytest.approx(0.303, abs=0.001)
    assert body["forecasts"][1]["jobs"] == {"low": 2, "high": 2}
