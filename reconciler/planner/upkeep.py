"""What is due at the folders of attempts beside training: `latest` repaired, needless ones set aside and deleted. Pure.

None of it keeps a stage from its next step: it is done where it can be, beside that step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.model.observed import AttemptSeen, LegSeen
from reconciler.model.plan import Action, ActionKey, ActionKind
from reconciler.model.quantities import counted, format_bytes
from reconciler.model.status import Reason
from reconciler.model.upkeep import Delete, Folder, Prune, Repair, Retained
from reconciler.planner.attempt import Act, Attempt, Judged
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.look import Look
from reconciler.planner.retention import Needs, needless, needs_of, spared_folders, unsettled
from reconciler.planner.rungs import gathered
from reconciler.planner.steps import next_step
from reconciler.planner.walked import Walked

AT_ONCE_MAX = 50
"""Folders in one action: a batch must be over before its answer is given up on."""
HEALTHY = (ActionKind.TRAIN, ActionKind.EVALUATE, ActionKind.JUDGE, ActionKind.CONVERT)
"""Next steps of an attempt in which nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Upkept:
    """What is due."""

    first: tuple[Action, ...]
    """Before any job is submitted, since none may be live."""
    last: tuple[Action, ...]
    """Takes long, and can wait."""
    retained: Retained


@dataclass(frozen=True, slots=True)
class _Kept:
    """One attempt whose folders are looked after: described by the manifests, or its first legs were taken from it."""

    attempt: Attempt
    seen: AttemptSeen
    evidence: Evidence
    own: bool
    waits: str
    """Why nothing of it may be touched now; empty if it may."""


def upkeep_of(desired: Desired, look: Look, walked: Sequence[Walked]) -> Upkept:
    """Over all stages. What no manifest describes any more is left as it is."""
    needs, prune = needs_of(desired, look), desired.spec.retention.prune
    first: list[Action] = []
    last: list[Action] = []
    prunable: list[Folder] = []
    aside: list[Folder] = []
    notes = [needs.untold] if needs.untold else []
    for kept in _kept(desired, look, walked):
        found = needless(desired, look.now_s, kept.attempt, kept.seen, needs)
        lying = _aside(desired, kept.seen)
        prunable += found
        aside += lying
        if prune and found and kept.waits:
            size = format_bytes(sum(folder.size_bytes for folder in found))
            notes.append(f"{kept.seen.stage}/{kept.seen.attempt}: {size} {kept.waits}")
        due = [] if kept.waits else [*_repairs(desired, kept)]
        if prune:
            due += [*([] if kept.waits else _prunes(desired, kept, found, needs)), *_deletions(desired, kept, lying)]
        for action in due:
            refused = _refused(desired, kept, action)
            notes += [refused] if refused else []
            if not refused:
                (last if action.key.kind is ActionKind.DELETE else first).append(action)
    return Upkept(tuple(first), tuple(last), Retained(prune, tuple(prunable), tuple(aside), tuple(notes)))


def _kept(desired: Desired, look: Look, walked: Sequence[Walked]) -> Iterator[_Kept]:
    there = {(seen.stage, seen.attempt): seen for seen in look.attempts}
    for stage, found in zip(desired.stages, walked, strict=True):
        name, told = stage.metadata.name, set[str]()
        for attempt in found.attempts:
            recipe, waits = attempt.workshop.recipe, None
            for whose in dict.fromkeys((recipe.attempt, *recipe.taken)):
                seen = there.get((name, whose))
                if seen is None or whose in told:
                    continue
                told.add(whose)
                if waits is None:
                    waits = _waits(attempt, suspended=stage.spec.suspend)
                evidence = gathered(desired, look, name, whose)
                own = whose == recipe.attempt
                yield _Kept(attempt, seen, evidence, own, waits or unsettled(evidence))


def _waits(attempt: Attempt, *, suspended: bool) -> str:
    """Why nothing of an attempt may be touched, by where it is: a person may be at work in it."""
    busy = unsettled(attempt.evidence)
    if busy:
        return busy
    if suspended:
        return "when the stage is not suspended any more"
    step = next_step(replace(attempt, retry=False))
    well = isinstance(step, Judged) or (isinstance(step, Act) and step.action.key.kind in HEALTHY)
    return "" if well else "when the attempt goes on or is judged"


def _repairs(desired: Desired, kept: _Kept) -> Iterator[Action]:
    """Every leg whose `latest` names something else than its newest complete checkpoint."""
    for leg in kept.seen.legs if kept.own else ():
        newest = leg.newest_complete()
        if newest is None or leg.latest == newest.iteration:
            continue
        folder = f"{_folder(desired, kept.seen)}/leg-{leg.index}"
        ended = kept.evidence.following(ActionKind.TRAIN, leg.index)
        yield Action(
            key=_key(desired, kept.seen, leg.index, ActionKind.REPAIR, ended=ended),
            reason=Reason.LATEST_ASTRAY,
            summary=f"repair `latest` of leg {leg.index}: it {_astray(leg)}; the newest complete checkpoint is "
            f"global_step{newest.iteration}",
            upkeep=Repair(folder, leg.latest, newest.iteration),
        )


def _astray(leg: LegSeen) -> str:
    if leg.latest is None:
        return "is not there"
    if leg.latest == 0:
        return "names no iteration"
    named = next((c for c in leg.checkpoints if c.iteration == leg.latest), None)
    if named is None:
        return f"names global_step{leg.latest}, which is not there"
    state = "is complete too" if named.complete else f"is incomplete ({named.why_not})"
    return f"names global_step{leg.latest}, which {state}"


def _prunes(desired: Desired, kept: _Kept, found: Sequence[Folder], needs: Needs) -> Iterator[Action]:
    """One action a leg."""
    settle_s = float(desired.spec.retention.settle)
    for leg in sorted({_leg_of(folder) for folder in found}):
        some = tuple(folder for folder in found if _leg_of(folder) == leg)[:AT_ONCE_MAX]
        yield Action(
            key=_key(desired, kept.seen, leg, ActionKind.PRUNE, folders=some),
            reason=Reason.NOT_NEEDED,
            summary=f"prune {_told(some)} of leg {leg}",
            upkeep=Prune(some, spared_folders(desired, needs), settle_s),
        )


def _deletions(desired: Desired, kept: _Kept, lying: Sequence[Folder]) -> Iterator[Action]:
    some = tuple(lying[:AT_ONCE_MAX])
    if not some:
        return
    yield Action(
        key=_key(desired, kept.seen, 0, ActionKind.DELETE, folders=some),
        reason=Reason.SET_ASIDE,
        summary=f"delete {_told(some)} set aside before",
        upkeep=Delete(some),
    )


def _refused(desired: Desired, kept: _Kept, action: Action) -> str:
    """Why the cluster will not do it; empty if it was not tried, or a person says that it may be tried again."""
    receipt = kept.evidence.receipt(action.key)
    if receipt is None or receipt.failed is None or kept.seen.stage in desired.retry:
        return ""
    return f"{kept.seen.stage}/{kept.seen.attempt}: {receipt.failed}"


def _aside(desired: Desired, seen: AttemptSeen) -> list[Folder]:
    return [
        Folder(f"{_folder(desired, seen)}/{pruned.path}", pruned.size_bytes, "set aside")
        for leg in seen.legs
        for pruned in leg.pruned
    ]


def _leg_of(folder: Folder) -> int:
    return int(folder.path.split("/")[3].split("-")[1])


def _folder(desired: Desired, seen: AttemptSeen) -> str:
    return f"{desired.campaign}/{seen.stage}/{seen.attempt}"


def _key(
    desired: Desired, seen: AttemptSeen, leg: int, kind: ActionKind, *, ended: int = 0, folders: Sequence[Folder] = ()
) -> ActionKey:
    """Equal for equal folders, told by what they are: another one of the same name makes another key."""
    told = "\n".join(f"{folder.path} {folder.identity}" for folder in folders)
    detail = hashlib.sha256(told.encode()).hexdigest()[:12] if folders else ""
    return ActionKey(desired.campaign, seen.stage, seen.attempt, leg, ended, kind, detail)


def _told(folders: Sequence[Folder]) -> str:
    return f"{counted(len(folders), 'folder')}, {format_bytes(sum(folder.size_bytes for folder in folders))},"
