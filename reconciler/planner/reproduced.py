"""What manifests come to once more, beside what is on record: the recipe of an attempt, and the jobs of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

from reconciler.domain.resolve import StageOutcome
from reconciler.model.observed import Observed
from reconciler.model.plan import Action, ActionKey, ActionKind, FileWrite
from reconciler.model.recipe import Recipe
from reconciler.planner.attempt import Attempt
from reconciler.planner.desired import Desired
from reconciler.planner.drift import recipe_changes
from reconciler.planner.jobs import SOURCE_EVALUATION, Point, Workshop
from reconciler.planner.lists import Trouble
from reconciler.planner.look import whole
from reconciler.planner.rungs import Rung, ladder

SETS_MAX: Final = 6
"""Validation sets of which every part is tried, for an evaluation that went on from one that was cut off."""


def reproduced(desired: Desired, observed: Observed, was: Recipe, recipes: Mapping[str, Recipe]) -> Workshop | str:
    """What the manifests come to, if that is the recipe `was`; else why not. `recipes` are those on record."""
    look = whole(desired, observed)
    stage = next((each for each in desired.stages if each.metadata.name == was.stage), None)
    if isinstance(look, Trouble):
        return look.message
    if stage is None:
        return f"the manifests have no stage {was.stage}"
    if look.lists.troubles:
        return next(iter(look.lists.troubles.values())).message
    previous = _previous(desired, was, recipes)
    if isinstance(previous, str):
        return previous
    try:
        found = [attempt for rung in ladder(desired, look, stage, previous) for attempt in _attempts(rung)]
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return "a recipe on record that it rests on makes no sense"
    same = next((attempt for attempt in found if attempt.workshop.recipe.attempt == was.attempt), None)
    if same is not None:
        return same.workshop
    nearest = next((a.workshop.recipe for a in found if a.workshop.recipe.strategy == was.strategy), None)
    if nearest is None:
        return f"the manifests have no strategy {was.strategy} in stage {was.stage}"
    changes = "; ".join(f"{path} {before} → {after}" for path, before, after in recipe_changes(was, nearest)[:3])
    return f"they come to another recipe, {nearest.attempt}: {changes or 'its source or its data lists'}"


def _attempts(rung: Rung) -> Iterator[Attempt]:
    yield from rung.attempts
    for pilot in rung.tried.pilots if rung.tried is not None else ():
        yield pilot.whole


def _previous(desired: Desired, was: Recipe, recipes: Mapping[str, Recipe]) -> tuple[StageOutcome, ...] | str:
    """How the stages before it were done: as what it descends from; one that it does not, by any attempt on record."""
    line: dict[str, Recipe] = {}
    at: Recipe | None = was
    while at is not None and at.source.attempt and at.source.attempt in recipes and len(line) < len(recipes):
        at = recipes[at.source.attempt]
        line.setdefault(at.stage, at)
    outcomes: list[StageOutcome] = []
    for stage in desired.stages:
        name = stage.metadata.name
        if name == was.stage:
            return tuple(outcomes)
        recipe = line.get(name) or next((each for each in recipes.values() if each.stage == name), None)
        if recipe is None:
            return f"nothing of stage {name}, which comes before it, is on record"
        outcomes.append(StageOutcome(name, recipe))
    return tuple(outcomes)


def candidates(workshop: Workshop, key: ActionKey, saved: Sequence[int]) -> Iterator[tuple[str, Action]]:
    """(from where, action): every job that could have been submitted under a key, by what there was to go on from.
    `saved` are the iterations of its leg that checkpoints were made at."""
    match key.kind:
        case ActionKind.TRAIN:
            data_list = workshop.data_list(key.leg)
            if isinstance(data_list, FileWrite):
                for newest in (None, *saved):
                    told = "its source" if newest is None else f"iteration {newest}"
                    yield told, workshop.train(key.leg, key.ended, data_list, newest=newest, latest_agrees=True)
        case ActionKind.CONVERT:
            yield "its source", workshop.convert(key.ended)
        case ActionKind.EVALUATE:
            yield from _evaluations(workshop, key)
        case _:
            return


def _evaluations(workshop: Workshop, key: ActionKey) -> Iterator[tuple[str, Action]]:
    _, leg, iteration = (f"{key.detail}--".split("-"))[:3]
    if not (leg.isdecimal() and iteration.isdecimal()):
        return
    at = int(leg), int(iteration)
    points = (Point.SOURCE, Point.CONVERTED) if at == SOURCE_EVALUATION else (Point.LEG,)
    sets = [chosen.name for chosen in workshop.desired.model.validation.sets][:SETS_MAX]
    for point in points:
        told = f"leg {leg} at iteration {iteration}" if point is Point.LEG else "its source"
        for count in range(len(sets)):
            for done in combinations(sets, count):
                yield told, workshop.evaluate(*at, key.ended, done=done, point=point)
