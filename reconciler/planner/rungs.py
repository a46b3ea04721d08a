"""A stage's ladder as attempts: every rung resolved, with what was seen of it. Pure.

A rung that cannot be resolved matters only when it is reached: which source there is may follow from how an earlier
stage was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.domain import trial as trials
from reconciler.domain.resolve import StageOutcome, Unresolved, resolve
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import Unread
from reconciler.model.recipe import Recipe
from reconciler.model.strategy import Strategy, Trial
from reconciler.planner import sources
from reconciler.planner.amended import amended, base_gone, with_taken
from reconciler.planner.attempt import Attempt, Parent
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence, amiss, gather
from reconciler.planner.jobs import Workshop
from reconciler.planner.judging import baseline_of
from reconciler.planner.look import Look
from reconciler.planner.trial import Chosen, Decision, NonePassed, Pilot, decide, failed_gates


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial as it stands."""

    trial: Trial
    pilots: tuple[Pilot, ...]
    decision: Decision


@dataclass(frozen=True, slots=True)
class Rung:
    """One strategy of the ladder."""

    strategy: Strategy
    attempt: Attempt | Unresolved | None
    """With the stage's budget; None while a trial has chosen no variant."""
    tried: Tried | None = None

    @property
    def evidence(self) -> Evidence | None:
        """What was seen of the attempt with the stage's budget."""
        return self.attempt.evidence if isinstance(self.attempt, Attempt) else None

    @property
    def begun(self) -> bool:
        """Whether anything was done for this rung and no verdict has failed it."""
        if self.failed:
            return False
        pilots = self.tried.pilots if self.tried is not None else ()
        of_pilots = any(pilot.attempt.evidence.receipts for pilot in pilots)
        taken = isinstance(self.attempt, Attempt) and bool(self.attempt.workshop.recipe.taken)
        return of_pilots or taken or (self.evidence is not None and self.evidence.begun_not_failed())

    @property
    def judged(self) -> bool:
        """Whether the rung has an answer: a verdict on all of its budget, or no pilot that passed."""
        none_passed = self.tried is not None and isinstance(self.tried.decision, NonePassed)
        return none_passed or (self.evidence is not None and self.evidence.verdict() is not None)

    @property
    def failed(self) -> bool:
        """Whether that answer is no."""
        verdict = self.evidence.verdict() if self.evidence is not None else None
        return self.judged and (verdict is None or not verdict.passed)

    @property
    def failed_gates(self) -> frozenset[str]:
        """The gates that said so; none if it did not fail."""
        if self.tried is not None:
            return failed_gates(self.tried.decision, self.tried.pilots)
        return self.evidence.failed_gates() if self.evidence is not None else frozenset()

    @property
    def shown(self) -> Attempt | None:
        """The attempt by which the rung is described: with the stage's budget, else the first pilot."""
        if isinstance(self.attempt, Attempt):
            return self.attempt
        return self.tried.pilots[0].attempt if self.tried is not None and self.tried.pilots else None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All that the manifest describes now, pilots included."""
        whole = (self.attempt,) if isinstance(self.attempt, Attempt) else ()
        return whole + tuple(pilot.attempt for pilot in (self.tried.pilots if self.tried is not None else ()))


def ladder(desired: Desired, look: Look, stage: StageManifest, previous: Sequence[StageOutcome]) -> tuple[Rung, ...]:
    """Every rung with what was seen of it; `previous` holds the outcomes of the stages before, in order."""
    return tuple(_rung(desired, look, stage, strategy, previous) for strategy in stage.spec.strategies)


def recipe_for(
    desired: Desired, look: Look, stage: StageManifest, strategy: Strategy, previous: Sequence[StageOutcome]
) -> Recipe | Unresolved:
    """What a strategy comes to with the data lists as they are on the cluster."""
    lists, source = look.lists, sources.found(desired, look, stage, strategy)
    if isinstance(source, Unresolved):
        return source
    tables = previous, lists.digests, lists.parts
    return resolve(desired.catalog, desired.campaign, stage, strategy, *tables, source.outside, source.kept)


def pilot_recipes(
    desired: Desired, look: Look, stage: StageManifest, strategy: Strategy, previous: Sequence[StageOutcome]
) -> tuple[Recipe, ...]:
    """The pilots of a trial, for what they will cost; none without a trial, or where one cannot be resolved."""
    if strategy.trial is None or strategy.trial.chosen is not None:
        return ()
    found = []
    for variant in trials.variants(strategy):
        short = trials.pilot(stage, variant, strategy.trial.tokens)
        found.append(recipe_for(desired, look, short, short.spec.strategies[0], previous))
    return tuple(recipe for recipe in found if isinstance(recipe, Recipe))


def _rung(
    desired: Desired, look: Look, stage: StageManifest, strategy: Strategy, previous: Sequence[StageOutcome]
) -> Rung:
    if strategy.trial is None:
        return Rung(strategy, _attempt(desired, look, stage, strategy, previous))
    pilots: list[Pilot] = []
    for variant in trials.variants(strategy):
        pilot = _pilot(desired, look, stage, variant, strategy.trial, previous)
        if isinstance(pilot, Unresolved):
            return Rung(strategy, pilot)
        pilots.append(pilot)
    shared = _same_baseline(pilots)
    decision = decide(strategy, strategy.trial, shared)
    whole = decision.pilot.whole if isinstance(decision, Chosen) else None
    return Rung(strategy, whole, Tried(strategy.trial, shared, decision))


def _pilot(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    variant: Strategy,
    trial: Trial,
    previous: Sequence[StageOutcome],
) -> Pilot | Unresolved:
    short = trials.pilot(stage, variant, trial.tokens)
    attempt = _attempt(desired, look, short, short.spec.strategies[0], previous, pilot=True)
    whole = _attempt(desired, look, stage, variant, previous)
    for found in (attempt, whole):
        if isinstance(found, Unresolved):
            return Unresolved(f"{variant.name}: {found.message}")
    assert isinstance(attempt, Attempt) and isinstance(whole, Attempt)  # noqa: S101
    return Pilot(variant.name, attempt, whole, trial.compare)


def _same_baseline(pilots: Sequence[Pilot]) -> tuple[Pilot, ...]:
    """All variants start from one source, so one of them measures its losses for all."""
    attempts = [attempt for pilot in pilots for attempt in (pilot.attempt, pilot.whole)]
    found = next((losses for attempt in attempts if (losses := baseline_of(attempt)) is not None), None)
    if found is None:
        return tuple(pilots)
    return tuple(
        replace(pilot, attempt=replace(pilot.attempt, baseline=found), whole=replace(pilot.whole, baseline=found))
        for pilot in pilots
    )


def _attempt(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    strategy: Strategy,
    previous: Sequence[StageOutcome],
    *,
    pilot: bool = False,
) -> Attempt | Unresolved:
    recipe = recipe_for(desired, look, stage, strategy, previous)
    if isinstance(recipe, Unresolved):
        return recipe
    recipe = replace(recipe, pilot=True) if pilot else amended(look, recipe)
    name = stage.metadata.name

    def evidence_of(attempt: str) -> Evidence:
        return gathered(desired, look, name, attempt)

    evidence = with_taken(evidence_of(recipe.attempt), recipe, evidence_of)
    base = base_gone(evidence, recipe, evidence_of)
    if base is not None:
        return base
    gates = stage.spec.gates or desired.spec.gates
    if pilot:
        # What the end of the stage must reach is not asked of a pilot, which ends long before.
        gates = gates.model_copy(update={"target": {}, "external": ()})
    source = gathered(desired, look, recipe.source.stage, recipe.source.attempt) if recipe.source.stage else None
    outside = recipe.source.external
    gone = sources.external_gone(desired, look, recipe) if outside else _source_gone(desired, source, recipe)
    return Attempt(
        workshop=Workshop(desired, stage, recipe, look.lists),
        evidence=evidence,
        gates=gates,
        old_sets=old_sets(desired, stage),
        baseline=_baseline(desired, source, recipe),
        parent=sources.external_parent(desired, look, stage, strategy, recipe)
        if outside
        else _parent(source, recipe, previous),
        source_gone=gone if isinstance(gone, str) else "",
        source_unread=gone.why if isinstance(gone, Unread) else "",
        now_s=look.now_s,
        retry=name in desired.retry,
    )


def old_sets(desired: Desired, stage: StageManifest) -> tuple[str, ...]:
    """Validation sets of datasets that earlier stages trained."""
    introduced = desired.catalog.introduced(desired.campaign, stage.metadata.name)
    own = desired.catalog.dataset_of(stage).spec.symbol
    return tuple(s.name for s in desired.model.validation.sets if s.of in introduced and s.of != own)


def gathered(desired: Desired, look: Look, stage: str, attempt: str) -> Evidence:
    """The evidence of one attempt, out of the whole look."""
    tables = look.attempts, look.receipts, look.jobs
    return gather(desired.campaign, stage, attempt, *tables, look.lists.validation)


def _parent(source: Evidence | None, recipe: Recipe, previous: Sequence[StageOutcome]) -> Parent | None:
    """The leg that the source checkpoint is the end of; `source` is the evidence of the attempt that made it."""
    outcome = next((outcome for outcome in previous if outcome.stage == recipe.source.stage), None)
    if source is None or outcome is None:
        return None
    index = recipe.source.leg
    return Parent(outcome.recipe.legs[index], recipe.source.iteration, source.leg(index).logs)


def _baseline(desired: Desired, source: Evidence | None, recipe: Recipe) -> Mapping[str, float] | None:
    """Losses at the source checkpoint, if the stage that made it evaluated exactly that one."""
    seen = source.evaluation(recipe.source.leg, recipe.source.iteration) if source is not None else None
    sets = {chosen.name for chosen in desired.model.validation.sets}
    return seen.losses if seen is not None and sets <= set(seen.losses) else None


def _source_gone(desired: Desired, source: Evidence | None, recipe: Recipe) -> str:
    """Whether the checkpoint that the stage starts from lies there whole; the launcher would go on without it."""
    if source is None:
        return ""
    made = recipe.source
    why = amiss(source.leg(made.leg).checkpoints, made.iteration)
    where = f"{desired.campaign}/{made.stage}/{made.attempt}/leg-{made.leg}/global_step{made.iteration}"
    return f"the checkpoint that {recipe.stage} starts from, {where}, {why}" if why else ""
