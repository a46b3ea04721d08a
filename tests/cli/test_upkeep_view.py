"""Upkeep as a person reads it: what goes with its bytes and why, what is mended, and what could go."""

from __future__ import annotations

from rich.console import Console

from reconciler.cli.human import plan as view
from reconciler.cli.human.upkeep import TOLD_MAX
from reconciler.model.plan import Action, ActionKey, ActionKind, Plan
from reconciler.model.upkeep import Delete, Folder, Prune, Repair, Retained, Upkeep

GB = 10**9
OLD = tuple(
    Folder(f"c/s/{'a' * 12}/leg-0/global_step{n}", 98 * GB, "two newer ones are kept", "1" * 16) for n in (50, 100)
)


def action(kind: ActionKind, upkeep: Upkeep, summary: str, reason: str) -> Action:
    return Action(ActionKey("c", "s", "a" * 12, 0, 0, kind), reason, summary, upkeep=upkeep)


PRUNE = action(ActionKind.PRUNE, Prune(OLD), "prune 2 folders, 196 GB, of leg 0", "NotNeeded")


def shown(retained: Retained, *actions: Action) -> str:
    console = Console(width=200, record=True)
    with console.capture() as captured:
        console.print(view.render(Plan("c", "r" * 40, False, actions, (), retained=retained)))
    return captured.get()


def test_every_folder_is_shown_with_its_bytes_and_why_it_may_go() -> None:
    text = shown(Retained(True, OLD), PRUNE)
    assert "  - s: prune 2 folders, 196 GB, of leg 0  [NotNeeded]" in text
    assert f"      - c/s/{'a' * 12}/leg-0/global_step50  98 GB  two newer ones are kept" in text
    assert "0 jobs to submit, 0 files to write, 2 folders to set aside (196 GB)" in text
    assert "Prunable" not in text, "this plan deals with all of it"


def test_of_many_folders_the_first_are_shown() -> None:
    many = tuple(Folder(f"c/s/{'a' * 12}/leg-0/.pruned-{n}", GB, "set aside") for n in range(40))
    text = shown(Retained(True, (), many), action(ActionKind.DELETE, Delete(many), "delete 40 folders", "SetAside"))
    assert text.count("set aside\n") == TOLD_MAX
    assert f"and {40 - TOLD_MAX} more, in `reconcile plan --json`" in text
    assert "40 folders to delete (40 GB)" in text


def test_without_prune_a_plan_says_in_a_line_what_could_go() -> None:
    text = shown(Retained(False, OLD))
    assert "Prunable: 2 folders, 196 GB; retention.prune: true in the campaign frees them." in text


def test_what_keeps_folders_from_going_is_told_where_they_may() -> None:
    notes = ("s/aaaaaaaaaaaa: x is what y starts from",)
    assert "Not pruned now: s/aaaaaaaaaaaa: x is what y starts from" in shown(Retained(True, OLD, (), notes))
    assert "Not pruned now" not in shown(Retained(False, OLD, (), notes))


def test_a_pointer_is_shown_as_mended() -> None:
    repair = action(ActionKind.REPAIR, Repair("c/s/a/leg-0", 8, 4), "repair `latest` of leg 0", "LatestAstray")
    text = shown(Retained(), repair)
    assert "  ~ s: repair `latest` of leg 0  [LatestAstray]" in text
    assert "1 pointer to repair" in text
