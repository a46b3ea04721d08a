"""Two revisions of a campaign, compared by what they mean: weights, learning rates, budgets and cost of every strategy.

Nothing is asked of a cluster: everything counts as if nothing had been trained yet, and a cost is known where the
manifests declare a speed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.domain.resolve import Unresolved
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import ListSeen, Observed
from reconciler.model.plan import Action, Change, Span
from reconciler.model.strategy import Strategy
from reconciler.planner import drift
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from reconciler.planner.shown import LegShown, leg_shown
from reconciler.planner.sketch import sketch


@dataclass(frozen=True, slots=True)
class Side:
    """A strategy at one of the revisions."""

    legs: tuple[LegShown, ...]
    jobs: tuple[Action, ...]
    """The first job of each leg."""
    unresolved: str = ""
    """Why there are none."""

    @property
    def tokens(self) -> int:
        """Of all legs."""
        return sum(leg.tokens for leg in self.legs)


@dataclass(frozen=True, slots=True)
class RungDifference:
    """A strategy that means something else, or is in one of the revisions only."""

    strategy: str
    before: Side | None
    after: Side | None


@dataclass(frozen=True, slots=True)
class StageDifference:
    """What is different in one stage."""

    stage: str
    changes: tuple[Change, ...]
    """Every field that a person wrote, in the manifests' words."""
    rungs: tuple[RungDifference, ...]
    before: Span | None
    after: Span | None
    """Node-hours if its first strategy holds; None where no speed is declared, or the stage is not there."""


def difference(before: Desired | None, after: Desired) -> tuple[StageDifference, ...]:
    """Stages that differ, in the order of the later revision; what holds for all of them comes first, as
    `(campaign)`. Without an earlier one all of it is new."""
    changes: dict[str, list[Change]] = {}
    for change in drift.between(before, after):
        changes.setdefault(change.stage, []).append(change)
    cost_before, old = (_costs(before), _stages(before)) if before is not None else ({}, {})
    cost_after, new = _costs(after), _stages(after)
    found = []
    for name in [drift.CAMPAIGN, *new, *(stage for stage in old if stage not in new)]:
        rungs = tuple(_rungs(before, after, old.get(name), new.get(name)))
        if name in changes or rungs or cost_before.get(name) != cost_after.get(name):
            told = tuple(changes.get(name, ()))
            found.append(StageDifference(name, told, rungs, cost_before.get(name), cost_after.get(name)))
    return tuple(found)


def _stages(desired: Desired) -> dict[str, StageManifest]:
    return {stage.metadata.name: stage for stage in desired.stages}


def _rungs(
    before: Desired | None, after: Desired, old: StageManifest | None, new: StageManifest | None
) -> Iterator[RungDifference]:
    was, now = _sides(before, old), _sides(after, new)
    for name in [*now, *(name for name in was if name not in now)]:
        one, other = was.get(name), now.get(name)
        if one is None or other is None or (one.legs, one.unresolved) != (other.legs, other.unresolved):
            yield RungDifference(name, one, other)


def _sides(desired: Desired | None, stage: StageManifest | None) -> Mapping[str, Side]:
    if desired is None or stage is None:
        return {}
    return {strategy.name: _side(desired, stage, strategy) for strategy in stage.spec.strategies}


def _side(desired: Desired, stage: StageManifest, strategy: Strategy) -> Side:
    actions = []
    for leg in range(len(strategy.legs)):
        drawn = sketch(desired, stage, strategy, leg, later=False)
        if isinstance(drawn, Unresolved):
            return Side((), (), drawn.message)
        actions.append(drawn.action)
    trains = [action.trains for action in actions if action.trains is not None]
    return Side(tuple(leg_shown(each.recipe, each.leg) for each in trains), tuple(actions))


def _costs(desired: Desired) -> dict[str, Span]:
    """Stage → node-hours, if nothing had been done yet and its first strategy held."""
    planned = plan(desired, Observed(0.0, "nowhere", (), (), (), _lists(desired)))
    return {each.stage: each.node_hours for each in planned.forecasts if each.node_hours is not None}


def _lists(desired: Desired) -> dict[str, ListSeen]:
    """A list for every path that is named, with the digest that is pinned for it: what is in it costs nothing."""
    text = "1 /unread text\n"
    name = desired.spec.cluster
    pins = {
        desired.site.path(data.spec.lists[name].path): data.spec.lists[name].sha256
        for data in desired.catalog.datasets(desired.campaign).values()
    }
    pins |= {desired.site.path(s.lists[name].path): s.lists[name].sha256 for s in desired.model.validation.sets}
    own = hashlib.sha256(text.encode()).hexdigest()
    return {path: ListSeen(text, pins.get(path) or own) for path in desired.asked_lists()}
