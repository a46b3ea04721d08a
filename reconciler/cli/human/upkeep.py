"""Upkeep as a person reads it: what is set aside, deleted or repaired, and what could be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.padding import Padding
from rich.text import Text

from reconciler.model.plan import Action
from reconciler.model.quantities import counted, format_bytes
from reconciler.model.upkeep import Delete, Folder, Prune, Repair, Retained

TOLD_MAX = 12
"""Folders of one action; all of them are in the plan as JSON."""


def due(action: Action) -> Iterator[Text | Padding]:
    """One action: taken away with a minus, mended with a tilde."""
    mark, style = ("  ~ ", "yellow") if isinstance(action.upkeep, Repair) else ("  - ", "red")
    yield Text.assemble(
        (mark, style), (f"{action.key.stage}: ", "bold"), action.summary, (f"  [{action.reason}]", "dim")
    )
    match action.upkeep:
        case Prune(folders=folders) | Delete(folders=folders):
            for folder in folders[:TOLD_MAX]:
                told = f"{folder.path}  {format_bytes(folder.size_bytes)}  {folder.why}"
                yield Padding(Text.assemble(("- ", "red"), (told, "dim")), (0, 0, 0, 6), expand=False)
            if len(folders) > TOLD_MAX:
                yield Text(f"      and {len(folders) - TOLD_MAX} more, in `reconcile plan --json`", "dim")
        case _:
            return


def retained(of: Retained, actions: Sequence[Action]) -> Iterator[Text]:
    """What could be deleted, in a line; nothing where nothing could. What this plan deals with it has told."""
    dealt = {folder.path for folder in taken(actions)}
    left = [folder for folder in (*of.prunable, *of.aside) if folder.path not in dealt]
    if left:
        size = format_bytes(sum(folder.size_bytes for folder in left))
        way = "" if of.prune else "; retention.prune: true in the campaign frees them"
        yield Text(f"Prunable: {counted(len(left), 'folder')}, {size}{way}.", "dim")
    if of.prune:
        yield from (Text(f"Not pruned now: {note}", "dim") for note in of.notes)


def taken(actions: Sequence[Action]) -> tuple[Folder, ...]:
    """All folders that actions set aside or delete."""
    of = (action.upkeep for action in actions)
    return tuple(folder for upkeep in of if isinstance(upkeep, Prune | Delete) for folder in upkeep.folders)


def todo(actions: Sequence[Action]) -> str:
    """For the closing line of a plan: `, 12 folders to set aside (1.18 TB)`; empty where there is nothing."""
    told = ""
    for kind, what in ((Prune, "set aside"), (Delete, "delete")):
        folders = taken([action for action in actions if isinstance(action.upkeep, kind)])
        if folders:
            size = format_bytes(sum(folder.size_bytes for folder in folders))
            told += f", {counted(len(folders), 'folder')} to {what} ({size})"
    repairs = sum(isinstance(action.upkeep, Repair) for action in actions)
    return told + (f", {counted(repairs, 'pointer')} to repair" if repairs else "")
