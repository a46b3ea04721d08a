"""A strategy that was lengthened while it trained or after: legs that are trained already are taken, not trained again.

An attempt is named for its whole recipe, so new legs make another one. Where an attempt of the stage was trained by
exactly the legs that the new recipe begins with, those legs are the new attempt's too: its own first leg starts from
the last of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from reconciler.domain.resolve import Unresolved
from reconciler.model.observed import AttemptSeen, CheckpointSeen, LegSeen
from reconciler.model.recipe import ATTEMPT_PATTERN, Recipe
from reconciler.planner.evidence import Evidence, amiss
from reconciler.planner.look import Look
from reconciler.planner.strays import recipe_of, stray_attempts


def amended(look: Look, recipe: Recipe) -> Recipe:
    """The recipe with the legs that it takes from an attempt which was trained before it was lengthened.

    Until that attempt is trained to its end, it is the one to go on with, and its recipe is returned. No rung
    of the same ladder is taken from: all of them train the stage's tokens, so none lengthens another.
    """
    name = recipe.stage
    own = next((seen for seen in look.attempts if (seen.stage, seen.attempt) == (name, recipe.attempt)), None)
    was = recipe_of(name, own) if own is not None else None
    if was is not None and was.taken and _makes_sense(was):
        return replace(recipe, taken=was.taken)
    if own is not None and (own.unread or Evidence(own, (), ()).leg(0).newest_complete() is not None):
        return recipe
    former = [(seen, recipe_of(name, seen)) for seen in stray_attempts(look.attempts, name, {recipe.attempt})]
    begun = [(seen, of) for seen, of in former if of is not None and recipe.lengthens(of) and not seen.unread]
    if not begun:
        return recipe
    seen, of = max(begun, key=lambda pair: (len(pair[1].legs), pair[0].attempt))
    if not _trained(seen, of):
        return replace(of, strategy=recipe.strategy)
    return replace(recipe, taken=tuple(of.maker(leg) for leg in range(len(of.legs))))


def _makes_sense(recipe: Recipe) -> bool:
    """Whether a recipe file says of its first legs who trained them: what it says becomes part of a path."""
    names = all(re.fullmatch(ATTEMPT_PATTERN, maker) for maker in recipe.taken)
    return names and len(recipe.taken) < len(recipe.legs) and recipe.attempt not in recipe.taken


def _trained(seen: AttemptSeen, recipe: Recipe) -> bool:
    """Whether every leg of its own has its last checkpoint, or had it when it was judged."""
    evidence = Evidence(seen, (), ())
    verdict = evidence.verdict()
    if verdict is not None and verdict.passed:
        return True
    own = tuple(zip(evidence.trained(recipe.legs), recipe.legs, strict=True))[len(recipe.taken) :]
    return all(trained >= leg.iterations for trained, leg in own)


def with_taken(evidence: Evidence, recipe: Recipe, evidence_of: Callable[[str], Evidence]) -> Evidence:
    """The evidence of an attempt together with that of the legs it took."""
    if not recipe.taken:
        return evidence
    own = evidence.seen or AttemptSeen(recipe.stage, recipe.attempt, None)
    makers = {maker: evidence_of(maker) for maker in dict.fromkeys(recipe.taken)}
    legs, evaluations, unread = [], list(own.evaluations), own.unread
    for index, maker in enumerate(recipe.taken):
        legs.append(_whole(makers[maker].leg(index), recipe.legs[index].iterations))
    for found in makers.values():
        if found.seen is not None:
            evaluations += [e for e in found.seen.evaluations if e.leg < len(recipe.taken)]
            unread = unread or found.seen.unread
    legs += [leg for leg in own.legs if leg.index >= len(recipe.taken)]
    return replace(evidence, seen=replace(own, legs=tuple(legs), evaluations=tuple(evaluations), unread=unread))


def _whole(leg: LegSeen, iterations: int) -> LegSeen:
    """A leg that was taken has been trained, whether or not its checkpoints still lie there."""
    newest = leg.newest_complete()
    if newest is not None and newest.iteration >= iterations:
        return leg
    return replace(leg, checkpoints=(*leg.checkpoints, CheckpointSeen(iterations, True)))


def base_gone(evidence: Evidence, recipe: Recipe, evidence_of: Callable[[str], Evidence]) -> Unresolved | None:
    """Why the first own leg cannot start: the checkpoint that it goes on from does not lie there any more."""
    taken = len(recipe.taken)
    if not taken or any(
        leg.newest_complete() for leg in (evidence.seen.legs if evidence.seen else ()) if leg.index >= taken
    ):
        return None
    maker, iterations = evidence_of(recipe.taken[-1]), recipe.legs[taken - 1].iterations
    if maker.seen is not None and maker.seen.unread:
        return None  # the next look tells
    why = amiss(maker.leg(taken - 1).checkpoints, iterations)
    if not why:
        return None
    where = f"{recipe.campaign}/{recipe.stage}/{recipe.taken[-1]}/leg-{taken - 1}/global_step{iterations}"
    return Unresolved(f"the checkpoint that leg {taken} of {recipe.strategy} goes on from, {where}, {why}")
