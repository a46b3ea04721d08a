"""plan(desired, observed): walk the stages in order, and say for each where it is and what comes next.

Pure and total: whatever was seen or could not be seen, there is an answer. What is unread causes waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.domain.resolve import StageOutcome, Unresolved, resolve
from reconciler.model.manifests import StageManifest, StageSource
from reconciler.model.observed import AttemptSeen, Observed
from reconciler.model.plan import Action, ActionKind, Plan
from reconciler.model.quantities import approximate_tokens
from reconciler.model.recipe import Recipe
from reconciler.model.status import Phase, Reason, RungStatus, StageStatus
from reconciler.planner import drift
from reconciler.planner.attempt import Act, Attempt, Hold, Judged, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence, gather
from reconciler.planner.forecast import forecast
from reconciler.planner.jobs import Workshop
from reconciler.planner.lists import Trouble
from reconciler.planner.look import Look, whole
from reconciler.planner.permission import withheld
from reconciler.planner.report import describe
from reconciler.planner.steps import next_step
from reconciler.planner.strays import recipe_of, stray_attempts, trained, unsettled


@dataclass(frozen=True, slots=True)
class Walked:
    """One stage's answer, and what later stages build on."""

    status: StageStatus
    actions: tuple[Action, ...] = ()
    outcome: StageOutcome | None = None
    """The recipe it was trained by if done, else the one a forecast assumes."""
    refusal: str = ""


def plan(desired: Desired, observed: Observed) -> Plan:
    """The planner's answer for one campaign at one look."""
    look = whole(desired, observed)
    changes = drift.since_applied(desired, observed)
    if isinstance(look, Trouble):
        stages = tuple(_untold(stage, look) for stage in desired.stages)
        return Plan(desired.campaign, desired.revision, desired.dirty, (), stages, changes=changes)
    walked: list[Walked] = []
    for stage in desired.stages:
        walked.append(_walk(desired, look, stage, walked))
    outcomes = [w.outcome for w in walked if w.outcome is not None]
    trained = {w.status.stage for w in walked if w.status.tokens_done}
    if trained:
        trained.add(drift.CAMPAIGN)  # what holds for all stages has held for those
    return Plan(
        campaign=desired.campaign,
        revision=desired.revision,
        dirty=desired.dirty,
        actions=tuple(action for w in walked for action in w.actions),
        stages=tuple(w.status for w in walked),
        forecasts=tuple(forecast(desired, look.attempts, outcome) for outcome in outcomes),
        changes=tuple(replace(change, started=change.stage in trained) for change in changes),
        refusals=tuple(w.refusal for w in walked if w.refusal),
        facts=_facts(walked) | {f"{name} as wanted": digest for name, digest in drift.wanted(desired).items()},
    )


def _untold(stage: StageManifest, trouble: Trouble) -> StageStatus:
    return StageStatus(
        stage.metadata.name, Phase.WAITING, trouble.reason, trouble.message, tokens_budget=stage.spec.tokens
    )


def _walk(desired: Desired, look: Look, stage: StageManifest, before: Sequence[Walked]) -> Walked:
    """One stage: down its ladder to the rung that runs, passed or is next."""
    previous = [w.outcome for w in before if w.outcome is not None]
    blocked = next((w.status for w in before if w.status.phase is not Phase.DONE), None)
    if len(previous) < len(before) or blocked is not None:
        return _ahead(desired, look, stage, previous, blocked, whole=len(previous) == len(before))
    trouble = look.lists.trouble(_list_names(desired, stage))
    if trouble is not None:
        return Walked(_held_or_waiting(stage, trouble))
    ladder = _ladder(desired, look, stage, previous)
    if isinstance(ladder, Unresolved):
        return Walked(_status(stage, Phase.HELD, Reason.SOURCE_UNUSABLE, ladder.message))
    return _climb_down(desired, look, stage, ladder)


def _ladder(
    desired: Desired, look: Look, stage: StageManifest, previous: Sequence[StageOutcome]
) -> tuple[Attempt, ...] | Unresolved:
    """Every rung as an attempt, with what was seen of it."""
    attempts: list[Attempt] = []
    for strategy in stage.spec.strategies:
        recipe = resolve(desired.catalog, desired.campaign, stage, strategy, previous, look.lists.digests)
        if isinstance(recipe, Unresolved):
            return recipe
        attempts.append(_attempt(desired, look, stage, recipe))
    return tuple(attempts)


def _climb_down(desired: Desired, look: Look, stage: StageManifest, ladder: Sequence[Attempt]) -> Walked:
    """Past the rungs that failed to the one that runs, passed or is next."""
    # A rung that was put above one that runs or passed does not restart the stage; above a failed one it is tried.
    begun = max((i for i, attempt in enumerate(ladder) if attempt.evidence.begun_not_failed()), default=0)
    rungs: list[RungStatus] = []
    for index, attempt in enumerate(ladder):
        recipe = attempt.workshop.recipe
        verdict = attempt.evidence.verdict()
        if index < begun and verdict is None:
            rungs.append(RungStatus(recipe.strategy, recipe.attempt, "skipped", "a later rung has begun"))
            continue
        step = next_step(attempt)
        if isinstance(step, Judged) and not step.verdict.passed:
            rungs.append(RungStatus(recipe.strategy, recipe.attempt, "failed", step.verdict.message))
            held = _after_failure(desired, stage, rungs)
            if held is not None:
                status = _described(attempt, held.reason, Phase.HELD, held.message, rungs, look)
                return Walked(status, outcome=_outcome(recipe))
            continue
        came_of = step.verdict.message if isinstance(step, Judged) else ""
        rungs.append(RungStatus(recipe.strategy, recipe.attempt, _outcome_word(step, attempt.evidence), came_of))
        refused = _immutable(desired, look, stage, ladder, attempt.evidence)
        return refused or _stepped(desired, look, stage, attempt, step, tuple(rungs))
    message = f"no strategy of the ladder held ({len(rungs)} tried); add one to it"
    status = _described(ladder[-1], Reason.LADDER_EXHAUSTED, Phase.HELD, message, rungs, look)
    return Walked(status, outcome=_outcome(ladder[-1].workshop.recipe))


def _stepped(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    attempt: Attempt,
    step: Act | Wait | Hold | Judged,
    rungs: tuple[RungStatus, ...],
) -> Walked:
    """The next step as a status and, unless the stage is suspended or over its bounds, an action."""
    action = step.action if isinstance(step, Act) else None
    held = withheld(desired, look, stage, action) if action is not None else None
    phase, reason, message = _answer(attempt, held or step, rungs[-1].strategy)
    if stage.spec.suspend and isinstance(step, Wait):
        message += "; the stage is suspended, so no other job follows"
    status = _described(attempt, reason, phase, message, rungs, look)
    if isinstance(step, Wait) and step.job:
        status = replace(status, job=step.job)
    actions = (action,) if action is not None and held is None else ()
    return Walked(status, actions, _outcome(attempt.workshop.recipe))


def _answer(attempt: Attempt, step: Act | Wait | Hold | Judged, strategy: str) -> tuple[Phase, Reason, str]:
    match step:
        case Judged(verdict=verdict):
            return Phase.DONE, Reason.ALL_EVIDENCE, f"{strategy}: {verdict.message}"
        case Wait(reason=reason, message=message):
            return _phase_of_job(attempt.evidence), reason, message
        case Hold(reason=reason, message=message):
            return Phase.HELD, reason, message
        case Act(action=action):
            return _phase_of(action.key.kind), Reason(action.reason), action.summary


def _described(
    attempt: Attempt, reason: Reason, phase: Phase, message: str, rungs: Sequence[RungStatus], look: Look
) -> StageStatus:
    return describe(attempt, reason, phase, message, tuple(rungs), look.jobs, look.now_s)


def _ahead(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    previous: Sequence[StageOutcome],
    blocked: StageStatus | None,
    *,
    whole: bool,
) -> Walked:
    """A stage whose turn has not come: waits, with the first rung assumed so that a forecast can be made."""
    message = f"waits for {blocked.stage}, which is {blocked.phase.lower()}" if blocked else "waits"
    status = _status(stage, Phase.WAITING, Reason.SOURCE_NOT_DONE, message)
    seen = _passed_or_running(look, stage)
    if seen is not None:
        # An earlier stage was edited or taken up again: this one is not lost, and nothing is done to it.
        tokens = trained(seen) * desired.model.tokens_per_iteration
        message = f"{message}; its {approximate_tokens(tokens)} trained tokens stay as they are"
        was = recipe_of(stage.metadata.name, seen)
        strategy = was.strategy if was is not None else ""
        status = replace(status, message=message, strategy=strategy, attempt=seen.attempt, tokens_done=tokens)
    if not whole or look.lists.trouble(_list_names(desired, stage)) is not None:
        return Walked(status)
    recipe = resolve(desired.catalog, desired.campaign, stage, stage.spec.strategies[0], previous, look.lists.digests)
    if isinstance(recipe, Unresolved):
        return Walked(status if seen is not None else replace(status, message=f"{message}; {recipe.message}"))
    status = replace(status, strategy=status.strategy or recipe.strategy, iterations=recipe.iterations)
    return Walked(status, outcome=_outcome(recipe))


def _attempt(desired: Desired, look: Look, stage: StageManifest, recipe: Recipe) -> Attempt:
    name = stage.metadata.name
    introduced = desired.catalog.introduced(desired.campaign, name)
    own = desired.catalog.dataset_of(stage).spec.symbol
    sets = desired.model.validation.sets
    return Attempt(
        workshop=Workshop(desired, stage, recipe, look.lists),
        evidence=_gathered(desired, look, name, recipe.attempt),
        gates=stage.spec.gates or desired.spec.gates,
        old_sets=tuple(chosen.name for chosen in sets if chosen.of in introduced and chosen.of != own),
        baseline=_baseline(desired, look, stage, recipe),
        source_gone=_source_gone(desired, look, stage, recipe),
        now_s=look.now_s,
        retry=name in desired.retry,
    )


def _gathered(desired: Desired, look: Look, stage: str, attempt: str) -> Evidence:
    tables = look.attempts, look.receipts, look.jobs
    return gather(desired.campaign, stage, attempt, *tables, look.lists.validation)


def _baseline(desired: Desired, look: Look, stage: StageManifest, recipe: Recipe) -> Mapping[str, float] | None:
    """Losses at the source checkpoint, if the stage that made it evaluated exactly that one."""
    wanted = stage.spec.source
    if not isinstance(wanted, StageSource):
        return None
    source = recipe.source
    evidence = _gathered(desired, look, wanted.stage, source.attempt)
    seen = evidence.evaluation(source.leg, source.iteration)
    sets = {chosen.name for chosen in desired.model.validation.sets}
    return seen.losses if seen is not None and sets <= set(seen.losses) else None


def _source_gone(desired: Desired, look: Look, stage: StageManifest, recipe: Recipe) -> str:
    """Whether the checkpoint that the stage starts from lies there whole; the launcher would go on without it."""
    wanted, source = stage.spec.source, recipe.source
    if not isinstance(wanted, StageSource):
        return ""
    evidence = _gathered(desired, look, wanted.stage, source.attempt)
    found = next((c for c in evidence.leg(source.leg).checkpoints if c.iteration == source.iteration), None)
    if found is not None and found.complete:
        return ""
    why = f"is incomplete: {found.why_not}" if found is not None else "is not there any more"
    where = f"{desired.campaign}/{wanted.stage}/{source.attempt}/leg-{source.leg}/global_step{source.iteration}"
    return f"the checkpoint that {stage.metadata.name} starts from, {where}, {why}"


def _after_failure(desired: Desired, stage: StageManifest, rungs: Sequence[RungStatus]) -> Hold | None:
    """What a failed gate does: go on down the ladder (None), or hold."""
    name, failed = stage.metadata.name, rungs[-1]
    spec = desired.spec
    if len(rungs) == len(stage.spec.strategies):
        return None  # the caller says that the ladder is exhausted
    nxt = stage.spec.strategies[len(rungs)].name
    if spec.on_failed_gate != "advance":
        return Hold(
            Reason.GATE_HOLDS,
            f"{failed.strategy} failed: {failed.message}. The campaign says {spec.on_failed_gate}: to go on, move "
            f"{nxt} to the top of the ladder of {name} in a commit",
        )
    failures = sum(rung.outcome == "failed" for rung in rungs)
    if failures >= spec.bounds.attempts_per_stage:
        return Hold(Reason.LADDER_EXHAUSTED, f"{failures} attempts failed, which is the campaign's bound")
    return None


def _immutable(
    desired: Desired, look: Look, stage: StageManifest, ladder: Sequence[Attempt], evidence: Evidence
) -> Walked | None:
    """Refuse to start over a stage that was trained by a recipe the manifests no longer hold."""
    if evidence.trained_iterations():
        return None
    name = stage.metadata.name
    recipes = [attempt.workshop.recipe for attempt in ladder]
    known = {recipe.attempt for recipe in recipes}
    stray = stray_attempts(look.attempts, name, known)
    if not stray:
        wait = unsettled(look.attempts, look.jobs, look.receipts, campaign=desired.campaign, stage=name, known=known)
        return Walked(_waiting(stage, wait)) if wait is not None else None
    was = recipe_of(name, stray[0])
    tokens = trained(stray[0]) * desired.model.tokens_per_iteration
    refused = drift.refusal(name, was, recipes, tokens)
    status = _status(
        stage,
        Phase.HELD,
        Reason.TRAINED_IMMUTABLE,
        refused.message,
        attempt=stray[0].attempt,
        strategy=was.strategy if was else "",
        tokens_done=tokens,
    )
    # Later stages cannot be forecast by data that the manifests no longer hold.
    data = set(desired.catalog.introduced(desired.campaign, name))
    whole = was is not None and all(set(leg.mixture) <= data for leg in was.legs)
    return Walked(status, outcome=_outcome(was) if was and whole else None, refusal=_told(stage, refused))


def _waiting(stage: StageManifest, wait: Wait | Hold) -> StageStatus:
    if isinstance(wait, Hold):
        return _status(stage, Phase.HELD, wait.reason, wait.message)
    return replace(_status(stage, Phase.WAITING, wait.reason, wait.message), job=wait.job)


def _told(stage: StageManifest, refused: drift.Refusal) -> str:
    ways = "".join(f"\n  - {way}" for way in refused.ways_on)
    return f"{stage.metadata.name}: {refused.message}\nWhat is trained stays as it is. To go on:{ways}"


def _passed_or_running(look: Look, stage: StageManifest) -> AttemptSeen | None:
    """An attempt of the stage with trained tokens and no failed verdict, by whatever recipe."""
    return next(iter(stray_attempts(look.attempts, stage.metadata.name, ())), None)


def _list_names(desired: Desired, stage: StageManifest) -> tuple[str, ...]:
    """Lists whose trouble stops this stage: every dataset it may draw from, and every validation set."""
    sets = tuple(chosen.name for chosen in desired.model.validation.sets)
    return desired.catalog.introduced(desired.campaign, stage.metadata.name) + sets


def _facts(walked: Sequence[Walked]) -> dict[str, str]:
    """What the actions rest on: each stage's phase, attempt and rungs that failed; nothing that a clock moves."""
    return {
        w.status.stage: f"{w.status.phase}/{w.status.attempt}/{','.join(r.outcome for r in w.status.rungs)}"
        for w in walked
    }


def _outcome(recipe: Recipe) -> StageOutcome:
    return StageOutcome(recipe.stage, recipe)


def _outcome_word(step: Act | Wait | Hold | Judged, evidence: Evidence) -> str:
    if isinstance(step, Judged):
        return "passed"
    return "running" if evidence.receipts else "untried"


def _phase_of(kind: ActionKind) -> Phase:
    match kind:
        case ActionKind.CONVERT | ActionKind.RESTORE:
            return Phase.PREPARING
        case ActionKind.TRAIN | ActionKind.STOP:
            return Phase.TRAINING
        case ActionKind.EVALUATE | ActionKind.JUDGE:
            return Phase.EVALUATING


def _phase_of_job(evidence: Evidence) -> Phase:
    live = evidence.live()
    return _phase_of(live[0][0].kind) if live else Phase.WAITING


def _held_or_waiting(stage: StageManifest, trouble: Trouble) -> StageStatus:
    phase = Phase.WAITING if trouble.reason is Reason.LIST_UNREAD else Phase.HELD
    return _status(stage, phase, trouble.reason, trouble.message)


def _status(
    stage: StageManifest,
    phase: Phase,
    reason: Reason,
    message: str,
    *,
    rungs: tuple[RungStatus, ...] = (),
    attempt: str = "",
    strategy: str = "",
    tokens_done: int = 0,
) -> StageStatus:
    return StageStatus(
        stage.metadata.name,
        phase,
        reason,
        message,
        tokens_budget=stage.spec.tokens,
        rungs=rungs,
        attempt=attempt,
        strategy=strategy,
        tokens_done=tokens_done,
    )
