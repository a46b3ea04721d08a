"""Which folders of an attempt nothing needs any more: no next step, no later stage, no person who has to decide. Pure.

What cannot be read may name anything: then nothing goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from reconciler.domain.catalog import source_places
from reconciler.model.manifests import Retention, StageManifest
from reconciler.model.observed import AttemptSeen, CheckpointSeen, EvaluationSeen, LegSeen
from reconciler.model.quantities import format_tokens
from reconciler.model.recipe import Recipe
from reconciler.model.strategy import ExternalSource, StageSource
from reconciler.model.upkeep import Folder
from reconciler.planner.attempt import Attempt
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.look import Look
from reconciler.planner.strays import recipe_of

ENDS_OF_LEGS: Final = ("pre-cooldown", "converged", "final")
"""Properties of a source that only the end of a leg has."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What manifests and recipes of a campaign start from."""

    points: frozenset[tuple[str, int, int]]
    """(attempt, leg, iteration) that a recipe names as its source."""
    paths: tuple[str, ...]
    """Folders outside of attempts, as they are written, of every campaign: one may lead into an attempt after all."""
    chosen_from: frozenset[str]
    """Stages of which a manifest may take any checkpoint: all of theirs are kept."""
    untold: str = ""
    """Why it is not known what is needed; then nothing goes."""

    def spares(self, attempt: str) -> bool:
        """Whether a path leads into the attempt."""
        return any(attempt in path for path in self.paths)


def needs_of(desired: Desired, look: Look) -> Needs:
    """What the manifests of all campaigns start from, and every recipe there is, by whatever commit."""
    points, untold = set(), ""
    catalog = desired.catalog
    stages = [stage for campaign in catalog.campaigns for stage in catalog.stages(campaign)]
    paths = {source.path for source in _sources(stages) if isinstance(source, ExternalSource)}
    for seen in look.attempts:
        was = recipe_of(seen.stage, seen)
        if was is None and (seen.unread or seen.legs or seen.recipe):
            what = f"could not be read: {seen.unread}" if seen.unread else "has no recipe that can be read"
            untold = untold or f"attempt {seen.attempt} of {seen.stage} {what}, so what it needs is not known"
        if was is not None:
            points.add((was.source.attempt, was.source.leg, was.source.iteration))
            paths |= {was.source.external} - {""}
    chosen = [source for source in _sources(desired.stages) if isinstance(source, StageSource)]
    chosen_from = frozenset(source.stage for source in chosen if source.checkpoint not in ENDS_OF_LEGS)
    return Needs(frozenset(points), tuple(sorted(paths)), chosen_from, untold)


def _sources(stages: Iterable[StageManifest]) -> Iterator[object]:
    """Of stages and of strategies with one of their own."""
    yield from (source for stage in stages for _, source in source_places(stage))


def spared_folders(desired: Desired, needs: Needs) -> tuple[str, ...]:
    """The paths as the cluster sees them: the agent follows their links."""
    return tuple(sorted({desired.site.path(path) for path in needs.paths}))


def needless(desired: Desired, now_s: float, attempt: Attempt, seen: AttemptSeen, needs: Needs) -> tuple[Folder, ...]:
    """Folders of one attempt that nothing needs any more; `seen` is what lies in it, which may be legs that `attempt`
    took from another."""
    was = recipe_of(seen.stage, seen)
    if was is None or seen.unread or needs.untold or seen.stage in needs.chosen_from or needs.spares(seen.attempt):
        return ()
    found: list[Folder] = []
    for leg in seen.legs:
        if leg.index < len(was.legs):
            found += _of_leg(desired, was, seen, leg, needs, now_s)
    copy = _copy(desired, attempt, seen, now_s)
    return (*found, copy) if copy is not None else tuple(found)


def _of_leg(
    desired: Desired, was: Recipe, seen: AttemptSeen, leg: LegSeen, needs: Needs, now_s: float
) -> Iterator[Folder]:
    """What may go of one leg: all but its newest checkpoints and those that something names."""
    policy = desired.spec.retention
    settled = _settled(policy, leg, now_s)
    if not settled:
        return
    kept = set(settled[: policy.newest]) | {leg.latest, leg.tracker} | _spaced(policy, was, leg)
    kept |= {iteration for attempt, of, iteration in needs.points if (attempt, of) == (seen.attempt, leg.index)}
    kept |= _evaluated(desired, seen, leg.index)
    for checkpoint in leg.checkpoints:
        over = checkpoint.iteration >= min(settled[0], was.legs[leg.index].iterations)
        if checkpoint.iteration in kept or over or not checkpoint.identity:
            continue
        path = f"{desired.campaign}/{seen.stage}/{seen.attempt}/leg-{leg.index}/global_step{checkpoint.iteration}"
        yield Folder(path, checkpoint.size_bytes, _why(policy, checkpoint, settled[0]), checkpoint.identity)


def _settled(policy: Retention, leg: LegSeen, now_s: float) -> list[int]:
    """Complete checkpoints that a crash of a file server takes no more, newest first."""
    before = now_s - float(policy.settle)
    return sorted((c.iteration for c in leg.checkpoints if c.complete and c.saved_s <= before), reverse=True)


def _spaced(policy: Retention, was: Recipe, leg: LegSeen) -> set[int]:
    """The first complete checkpoint in each stretch of `every` tokens of the stage: which one that is does not change
    when others come or go."""
    if policy.every is None:
        return set()
    before = sum(earlier.tokens for earlier in was.legs[: leg.index])
    first: dict[int, int] = {}
    for checkpoint in leg.checkpoints:
        if checkpoint.complete:
            stretch = (before + checkpoint.iteration * was.tokens_per_iteration) // policy.every
            first[stretch] = min(checkpoint.iteration, first.get(stretch, checkpoint.iteration))
    return {iteration for stretch, iteration in first.items() if stretch}


def _evaluated(desired: Desired, seen: AttemptSeen, leg: int) -> set[int]:
    """Checkpoints on the way of which an evaluation is not whole, or that came out best: a person may go back there."""
    sets = len(desired.model.validation.sets)
    found = [each for each in seen.evaluations if each.iteration > 0]
    kept = {each.iteration for each in found if each.leg == leg and len(each.losses) < sets}
    whole = [each for each in found if len(each.losses) >= sets]
    best = min(whole, key=_mean, default=None)
    return kept | ({best.iteration} if best is not None and best.leg == leg else set())


def _mean(of: EvaluationSeen) -> float:
    mean = sum(of.losses.values()) / len(of.losses)
    return math.inf if math.isnan(mean) else mean


def _why(policy: Retention, checkpoint: CheckpointSeen, newest: int) -> str:
    if not checkpoint.complete:
        return f"never finished ({checkpoint.why_not}), and iteration {newest} is"
    spaced = f" and one each {format_tokens(policy.every)} tokens" if policy.every is not None else ""
    newest_kept = f"the newest {policy.newest}" if policy.newest > 1 else "the newest"
    are = "are" if policy.newest > 1 or spaced else "is"
    return f"{newest_kept}{spaced} of its leg {are} kept, and nothing names this one"


def _copy(desired: Desired, attempt: Attempt, seen: AttemptSeen, now_s: float) -> Folder | None:
    """The universal copy of the source, once the leg has checkpoints of its own. As long as the source itself lies
    where its stage left it: of one that was made elsewhere this may be the only copy."""
    leg = next((leg for leg in seen.legs if leg.index == 0), LegSeen(0))
    made_here = attempt.workshop.recipe.source.attempt and attempt.workshop.recipe.attempt == seen.attempt
    if leg.converted is None or not leg.copy_identity or not _settled(desired.spec.retention, leg, now_s):
        return None
    if not made_here or attempt.source_gone:
        return None
    folder = f"{desired.campaign}/{seen.stage}/{seen.attempt}/leg-0-source"
    path = f"{folder}/global_step{leg.converted}_universal"
    why = "a universal copy of the source, which is still there; the leg has checkpoints of its own"
    return Folder(path, leg.copy_bytes, why, leg.copy_identity)


def unsettled(evidence: Evidence) -> str:
    """Why nothing of an attempt may go now: a job of it is live, or may be; empty if none is."""
    live = evidence.live()
    if live:
        return f"when job {live[0][1].job_id} has ended"
    doubtful = next((key for key, receipt in evidence.receipts if not receipt.done and key.kind.submits), None)
    return f"when it is known what came of {doubtful}" if doubtful is not None else ""
