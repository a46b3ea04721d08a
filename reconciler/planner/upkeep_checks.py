"""What no plan may do to the folders of an attempt. Part of `checks`: shares nothing with the code that planned.

Recipes are read here as plain JSON, and what a folder is from its path alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from reconciler.model.observed import AttemptSeen, LegSeen, Observed, Unread
from reconciler.model.plan import Action, ActionKey, Plan
from reconciler.model.upkeep import Delete, Folder, Prune, Repair

CHECKPOINT: Final = re.compile(r"leg-(\d+)/global_step(\d+)")
COPY: Final = re.compile(r"leg-(\d+)-source/global_step(\d+)_universal")
ASIDE: Final = re.compile(r"leg-\d+(-source)?/\.pruned-[0-9a-f]{16}-global_step\d+(_universal)?")
AT_ENDS: Final = ("pre-cooldown", "converged", "final")
Sources = Collection[tuple[str, object]]
"""(campaign, source) of every stage and strategy of all manifests."""


def broken(plan: Plan, observed: Observed, sources: Sources) -> Iterator[str]:
    """Every broken rule, in words."""
    submitted: set[tuple[str, str]] = set()
    for action in plan.actions:
        whose = (action.key.stage, action.key.attempt)
        if action.job is not None:
            submitted.add(whose)
        if action.upkeep is None or isinstance(observed.attempts, Unread):
            continue
        if action.job is not None or action.files or action.remove or action.directories:
            yield f"{action.key} does more than upkeep"
        if not isinstance(action.upkeep, Repair) and not plan.retained.prune:
            yield f"{action.key} takes folders away, which the campaign does not ask for"
        if not isinstance(action.upkeep, Delete):
            yield from _busy(action, observed)
            if whose in submitted:
                yield f"{action.key} comes after a job of the attempt is submitted"
        yield from _Judged(plan, action, observed.attempts, sources).broken()


def _busy(action: Action, observed: Observed) -> Iterator[str]:
    """A job of the attempt that may write or read: live, unread, or begun and not known of."""
    whose = (action.key.campaign, action.key.stage, action.key.attempt)
    jobs = () if isinstance(observed.jobs, Unread) else observed.jobs
    receipts = () if isinstance(observed.receipts, Unread) else observed.receipts
    of_job = {receipt.job_id: receipt.key for receipt in receipts if receipt.job_id}
    for job in jobs:
        key = ActionKey.parse(job.key or "") or ActionKey.parse(of_job.get(job.job_id, ""))
        if job.letter != "F" and key is not None and (key.campaign, key.stage, key.attempt) == whose:
            yield f"{action.key} while job {job.job_id} of the attempt is in state {job.letter}"
    for receipt in receipts:
        key = ActionKey.parse(receipt.key)
        if key is None or receipt.done or (key.campaign, key.stage, key.attempt) != whose:
            continue
        if key.kind in ("train", "convert", "evaluate"):
            yield f"{action.key} while it is not known what came of {receipt.key}"


def _source(seen: AttemptSeen) -> dict[str, Any] | None:
    """Where an attempt begins, by its recipe; None if that cannot be read."""
    try:
        source = json.loads(seen.recipe or "")["source"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return source if isinstance(source, dict) else None


def _ends(seen: AttemptSeen) -> list[int]:
    """The last iteration of each leg, by the recipe."""
    try:
        return [int(leg["iterations"]) for leg in json.loads(seen.recipe or "")["legs"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


@dataclass(frozen=True, slots=True)
class _Judged:
    """One action, held against what was seen and what manifests say."""

    plan: Plan
    action: Action
    attempts: Collection[AttemptSeen]
    sources: Sources

    def broken(self) -> Iterator[str]:
        match self.action.upkeep:
            case Prune() as prune:
                for seen in self.attempts:
                    if seen.unread or (seen.legs and _source(seen) is None):
                        yield f"{self.key} although {seen.stage}/{seen.attempt}, which may need it, is unread"
                yield from self._by_path(prune)
                for folder in prune.folders:
                    yield from self._needed(folder)
            case Delete(folders=folders):
                for folder in folders:
                    if ASIDE.fullmatch(self._inside(folder.path)) is None:
                        yield f"{self.key} deletes {folder.path}, which was not set aside"
            case Repair() as repair:
                yield from self._misdirected(repair)
            case None:
                return

    @property
    def key(self) -> ActionKey:
        return self.action.key

    def _inside(self, path: str) -> str:
        """The path within the action's attempt; "" if it does not lie there."""
        own = f"{self.plan.campaign}/{self.key.stage}/{self.key.attempt}/"
        return path.removeprefix(own) if path.startswith(own) else ""

    def _leg(self, index: int) -> tuple[LegSeen, list[int]]:
        """A leg of the attempt as it was seen, and its complete iterations."""
        own = [seen for seen in self.attempts if (seen.stage, seen.attempt) == (self.key.stage, self.key.attempt)]
        leg = next((leg for seen in own for leg in seen.legs if leg.index == index), LegSeen(index))
        return leg, [checkpoint.iteration for checkpoint in leg.checkpoints if checkpoint.complete]

    def _by_path(self, prune: Prune) -> Iterator[str]:
        """A path, in whichever manifest or recipe, that leads into the attempt, or may by a link."""
        outside = [str(getattr(source, "path", "")) for _, source in self.sources]
        outside += [str((_source(seen) or {}).get("external", "")) for seen in self.attempts]
        for path in filter(None, outside):
            if self.key.attempt in path:
                yield f"{self.key} prunes in an attempt that something starts from by its path, {path}"
            if not any(spared.endswith(path) for spared in prune.spared):
                yield f"{self.key} does not say that {path} is to be spared"
        for campaign, chosen in self.sources:
            stage, which = getattr(chosen, "stage", None), getattr(chosen, "checkpoint", None)
            if (campaign, stage) == (self.key.campaign, self.key.stage) and which not in AT_ENDS:
                yield f"{self.key} prunes in a stage of which a manifest may choose any checkpoint"

    def _needed(self, folder: Folder) -> Iterator[str]:
        """Why a folder must stay."""
        inside = self._inside(folder.path)
        step, copy = CHECKPOINT.fullmatch(inside), COPY.fullmatch(inside)
        if not folder.identity or (step is None and copy is None):
            yield f"{self.key} prunes {folder.path}, which is no checkpoint of its attempt that was seen"
        if copy is not None and not self._leg(int(copy[1]))[1]:
            yield f"{self.key} prunes {folder.path}, and its leg has no complete checkpoint"
        if step is not None:
            yield from (f"{self.key} prunes {folder.path}, {why}" for why in self._kept(int(step[1]), int(step[2])))

    def _kept(self, index: int, iteration: int) -> Iterator[str]:
        leg, complete = self._leg(index)
        if not complete or iteration >= max(complete):
            yield "and no newer checkpoint of its leg is complete"
        if iteration in (leg.latest, leg.tracker):
            yield "which the launcher's own pointer names"
        for seen in self.attempts:
            source, ends = _source(seen) or {}, _ends(seen)
            own = (seen.stage, seen.attempt) == (self.key.stage, self.key.attempt)
            if own and (index >= len(ends) or iteration >= ends[index]):
                yield "the end of a leg"
            named = (source.get("attempt"), source.get("leg"), source.get("iteration"))
            if named == (self.key.attempt, index, iteration):
                yield f"which {seen.stage}/{seen.attempt} starts from"

    def _misdirected(self, repair: Repair) -> Iterator[str]:
        """`latest` names the newest complete checkpoint of its own leg, or is left as it is."""
        found = re.fullmatch(r"leg-(\d+)", self._inside(repair.leg))
        complete = self._leg(int(found[1]))[1] if found is not None else []
        if not complete or repair.newest != max(complete):
            yield f"{self.key} has `latest` of {repair.leg} name {repair.newest}, not its newest complete checkpoint"
