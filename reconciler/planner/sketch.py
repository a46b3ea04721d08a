"""The first or a later job of a leg as it would be, from manifests alone: no cluster is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.domain import trial as trials
from reconciler.domain.ladder import first_tried
from reconciler.domain.resolve import StageOutcome, Unresolved, resolve
from reconciler.model.manifests import StageManifest
from reconciler.model.plan import Action, FileWrite
from reconciler.model.recipe import Recipe
from reconciler.model.strategy import Strategy, UsedStrategy
from reconciler.planner.desired import Desired
from reconciler.planner.jobs import Workshop
from reconciler.planner.lists import Lists

UNREAD_LIST = "0" * 12
"""Stands in a data list's name for the digest of a content that was not read."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """An action that nobody will carry out."""

    action: Action
    attempt: str


def sketch(desired: Desired, stage: StageManifest, strategy: Strategy, leg: int, *, later: bool) -> Sketch | Unresolved:
    """One job of a leg, with every earlier stage taken to have held on its first rung, or on that of the rung's `if`.

    The attempt's name is provisional: it depends on the content of data lists, which only the cluster has.
    """
    workshop = _workshop(desired, stage, strategy)
    if isinstance(workshop, Unresolved):
        return workshop
    return Sketch(_train(workshop, leg, later=later), workshop.recipe.attempt)


def every_sort(desired: Desired, stage: StageManifest) -> tuple[Action, ...]:
    """One job of each sort that a stage may come to on its first rung; none where the stage cannot be resolved."""
    workshop = _workshop(desired, stage, None)
    if isinstance(workshop, Unresolved) or stage.spec.adopted is not None:
        return ()
    trains = [_train(workshop, 0, later=later) for later in (False, True)]
    return (*trains, workshop.evaluate(0, workshop.recipe.legs[0].iterations, 0), workshop.convert(0))


def _workshop(desired: Desired, stage: StageManifest, wanted: Strategy | None) -> Workshop | Unresolved:
    """Of this rung, or of the first that is tried if nothing fails; of a trial, of one of its variants."""
    before: list[StageOutcome] = []
    used: dict[str, str] = {}
    for earlier in desired.stages:
        if earlier.metadata.name == stage.metadata.name:
            break
        first = _supposed(earlier, wanted) or first_tried(earlier, used)
        assumed = _recipe(desired, earlier, first, before)
        if isinstance(assumed, Unresolved):
            return assumed
        before.append(StageOutcome(earlier.metadata.name, assumed))
        used[earlier.metadata.name] = first.name if first is not None else ""
    recipe = _recipe(desired, stage, wanted or first_tried(stage, used), before)
    return recipe if isinstance(recipe, Unresolved) else Workshop(desired, stage, recipe, Lists({}, {}, {}))


def _supposed(earlier: StageManifest, wanted: Strategy | None) -> Strategy | None:
    """The rung by which an earlier stage must have been done for the wanted one to be tried; None if any will do."""
    condition = wanted.if_ if wanted is not None else None
    if not isinstance(condition, UsedStrategy) or condition.stage != earlier.metadata.name:
        return None
    return trials.rung_of(earlier, condition.used[0])


def _recipe(
    desired: Desired, stage: StageManifest, strategy: Strategy | None, before: Sequence[StageOutcome]
) -> Recipe | Unresolved:
    if strategy is None:
        return Unresolved(f"no strategy of {stage.metadata.name} would be tried as things stand")
    return resolve(desired.catalog, desired.campaign, stage, trials.assumed(strategy), before, {})


def _train(workshop: Workshop, leg: int, *, later: bool) -> Action:
    data_list = FileWrite(f"{workshop.folder}/lists/leg-{leg}-{UNREAD_LIST}.txt", "")
    # A later job resumes from whatever its predecessor saved; the first save stands for it, short of the leg's end.
    last = max(1, workshop.recipe.legs[leg].iterations - 1)
    newest = min(workshop.save_every, last) if later else None
    return workshop.train(leg, 1 if later else 0, data_list, newest=newest, latest_agrees=True)
