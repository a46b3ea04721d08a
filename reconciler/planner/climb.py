"""One stage: down its ladder to the rung that runs, passed or is next. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.domain import trial as trials
from reconciler.domain.ladder import hangs_on_failure, not_tried
from reconciler.domain.resolve import StageOutcome, Unresolved
from reconciler.model.manifests import StageManifest
from reconciler.model.message import Message
from reconciler.model.plan import Action, ActionKind
from reconciler.model.recipe import Recipe
from reconciler.model.status import Phase, Reason, RungStatus, StageStatus
from reconciler.planner import drift
from reconciler.planner.attempt import Act, Attempt, Hold, Judged, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.look import Look
from reconciler.planner.permission import withheld
from reconciler.planner.report import describe
from reconciler.planner.rungs import Rung, Tried, pilot_recipes, recipe_for
from reconciler.planner.steps import next_step
from reconciler.planner.strays import recipe_of, stray_attempts, trained_tokens, unsettled
from reconciler.planner.trial import NonePassed, Open
from reconciler.planner.trial import status as trial_status
from reconciler.planner.walked import Walked, bare_status, outcome_of


def done_by(desired: Desired, before: Sequence[Walked]) -> dict[str, str]:
    """Stage → the rung that it was done by, or is taken to be done by for a forecast."""
    by: dict[str, str] = {}
    for walked in before:
        if walked.outcome is not None:
            stage = desired.catalog.stage(desired.campaign, walked.outcome.stage)
            rung = trials.rung_of(stage, walked.outcome.recipe.strategy)
            by[walked.outcome.stage] = rung.name if rung is not None else walked.outcome.recipe.strategy
    return by


def climb_down(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    rungs: Sequence[Rung],
    used: Mapping[str, str],
    previous: Sequence[StageOutcome],
) -> Walked:
    """Past the rungs that failed or are not to be tried, to the one that runs, passed or is next."""
    # A rung that was put above one that runs or passed does not restart the stage; above a failed one it is tried.
    begun = max((i for i, rung in enumerate(rungs) if rung.begun), default=-1)
    told: list[RungStatus] = []
    failed: list[Rung] = []
    for index, rung in enumerate(rungs):
        skipped = _skipped(rung, failed, used, later_begun=index < begun)
        if skipped:
            told.append(RungStatus(rung.strategy.name, _attempt_of(rung), "skipped", skipped))
            continue
        if isinstance(rung.attempt, Unresolved):
            told.append(RungStatus(rung.strategy.name, "", "untried"))
            unread = rung.attempt.unread
            phase, reason = (Phase.WAITING, Reason.SOURCE_UNREAD) if unread else (Phase.HELD, Reason.SOURCE_UNUSABLE)
            return Walked(bare_status(stage, phase, reason, rung.attempt.message, rungs=told))
        step = next_step(rung.attempt) if rung.attempt is not None else None
        if (step is None and rung.failed) or (isinstance(step, Judged) and not step.verdict.passed):
            failed.append(rung)
            told.append(RungStatus(rung.strategy.name, _attempt_of(rung), "failed", _why_failed(rung)))
            following = _next_tried(rungs[index + 1 :], failed, used)
            held = _after_failure(desired, stage, told, following)
            if held is not None:
                walked = _left_off(stage, look, rung, held, told)
                next_rung = following.strategy.name if following is not None and _asks(held) else ""
                return replace(walked, status=replace(walked.status, next_rung=next_rung))
            continue
        refused = _immutable(desired, look, stage, rungs, rung)
        if refused is not None:
            return refused
        if step is None or rung.attempt is None:
            return _piloted(desired, look, stage, rung, told, previous)
        came_of = step.verdict.message if isinstance(step, Judged) else ""
        word = _outcome_word(step, rung.attempt.evidence)
        told.append(RungStatus(rung.strategy.name, _attempt_of(rung), word, came_of))
        return _stepped(desired, look, stage, rung, rung.attempt, step, told)
    if failed:
        message = f"no strategy of the ladder held ({len(failed)} tried); add one to it"
        return _left_off(stage, look, failed[-1], Hold(Reason.LADDER_EXHAUSTED, message), told)
    reasons = "; ".join(f"{rung.strategy}: {rung.message}" for rung in told)
    message = f"no strategy of the ladder is to be tried: {reasons}. Add one whose condition holds"
    return Walked(bare_status(stage, Phase.HELD, Reason.LADDER_EXHAUSTED, message, rungs=told))


def _skipped(rung: Rung, failed: Sequence[Rung], used: Mapping[str, str], *, later_begun: bool) -> str:
    """Why a rung is passed over; empty if it is its turn. What was tried is judged by what came of it."""
    if rung.judged:
        return ""
    if later_begun:
        return "a later rung has begun"
    return "" if rung.begun else not_tried(rung.strategy, _gates(failed), used)


def _gates(failed: Sequence[Rung]) -> frozenset[str]:
    return frozenset().union(*(rung.failed_gates for rung in failed))


def _next_tried(below: Sequence[Rung], failed: Sequence[Rung], used: Mapping[str, str]) -> Rung | None:
    """The rung that an advance down the ladder comes to."""
    return next((rung for rung in below if not _skipped(rung, failed, used, later_begun=False)), None)


def _attempt_of(rung: Rung) -> str:
    return rung.shown.workshop.recipe.attempt if rung.shown is not None else ""


def _why_failed(rung: Rung) -> str:
    if rung.tried is not None and isinstance(rung.tried.decision, NonePassed):
        return rung.tried.decision.message
    verdict = rung.evidence.verdict() if rung.evidence is not None else None
    return verdict.message if verdict is not None else ""


def _left_off(stage: StageManifest, look: Look, rung: Rung, held: Hold, told: Sequence[RungStatus]) -> Walked:
    """A stage that holds with this rung as the last that was tried."""
    if rung.shown is None:
        return Walked(bare_status(stage, Phase.HELD, held.reason, held.message, rungs=told))
    status = _described(rung, rung.shown, held.reason, Phase.HELD, held.message, told, look)
    return Walked(status, outcome=outcome_of(rung.shown.workshop.recipe))


def _piloted(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    rung: Rung,
    before: Sequence[RungStatus],
    previous: Sequence[StageOutcome],
) -> Walked:
    """A trial that is not decided: the pilots' next steps, or the wait for a person's choice."""
    tried = rung.tried
    assert tried is not None  # noqa: S101  # only a trial has no attempt of its own yet
    decision = tried.decision
    word = "running" if rung.begun else "untried"
    told = [*before, RungStatus(rung.strategy.name, _attempt_of(rung), word, decision.message)]
    assumed = recipe_for(desired, look, stage, trials.assumed(rung.strategy), previous)
    outcome = outcome_of(assumed) if isinstance(assumed, Recipe) else None
    if not isinstance(decision, Open):
        held = Hold(Reason.TRIAL_AWAITS_CHOICE, decision.message)
        return replace(_left_off(stage, look, rung, held, told), outcome=outcome)
    return replace(
        _pilots_stepped(desired, look, stage, rung, decision, told),
        outcome=outcome,
        pilots=pilot_recipes(desired, look, stage, rung.strategy, previous),
    )


def _pilots_stepped(
    desired: Desired, look: Look, stage: StageManifest, rung: Rung, decision: Open, told: Sequence[RungStatus]
) -> Walked:
    """Every pilot's next step that may be taken now; the stage is told by one that acts, else waits, else holds."""
    actions: list[Action] = []
    beside: list[Attempt] = []
    answers: list[tuple[int, Attempt, Phase, Reason, str, str]] = []
    for pilot, step in decision.steps:
        action = step.action if isinstance(step, Act) else None
        held = withheld(desired, look, stage, pilot.attempt, action, beside) if action is not None else None
        if action is not None and held is None:
            actions.append(action)
            beside.append(pilot.attempt)
        phase, reason, message = _answer(pilot.attempt, held or step, pilot.variant)
        rank = 0 if action is not None and held is None else 1 if phase is not Phase.HELD else 2
        job = step.job if isinstance(step, Wait) else ""
        answers.append((rank, pilot.attempt, phase, reason, f"{pilot.variant}: {message}", job))
    answers.sort(key=lambda answer: answer[0])
    _, attempt, phase, reason, _, _ = answers[0]
    message = "; ".join([decision.message, *(answer[4] for answer in answers)])
    status = _described(rung, attempt, reason, phase, message, told, look)
    job = next((answer[5] for answer in answers if answer[5]), status.job)
    return Walked(replace(status, job=job), tuple(actions))


def _stepped(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    rung: Rung,
    attempt: Attempt,
    step: Act | Wait | Hold | Judged,
    rungs: Sequence[RungStatus],
) -> Walked:
    """The next step as a status and, unless the stage is suspended or over its bounds, an action."""
    action = step.action if isinstance(step, Act) else None
    held = withheld(desired, look, stage, attempt, action) if action is not None else None
    phase, reason, message = _answer(attempt, held or step, attempt.workshop.recipe.strategy)
    if stage.spec.suspend and isinstance(step, Wait):
        message += "; the stage is suspended, so no other job follows"
    status = _described(rung, attempt, reason, phase, message, rungs, look)
    if isinstance(step, Wait) and step.job:
        status = replace(status, job=step.job)
    actions = (action,) if action is not None and held is None else ()
    saved = attempt.evidence.saved() if isinstance(step, Judged) else None
    return Walked(status, actions, outcome_of(attempt.workshop.recipe, saved))


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
    rung: Rung, attempt: Attempt, reason: Reason, phase: Phase, message: str, rungs: Sequence[RungStatus], look: Look
) -> StageStatus:
    status = describe(attempt, reason, phase, message, tuple(rungs), look.jobs, look.now_s)
    tried = rung.tried
    if tried is None:
        return status
    told = trial_status(rung.strategy, tried.trial, tried.pilots, tried.decision)
    if not attempt.workshop.recipe.pilot:
        return replace(status, trial=told)
    # What pilots train is compared and set aside: none of it counts towards the stage's budget.
    workshop = attempt.workshop
    stage = workshop.desired.catalog.stage(workshop.desired.campaign, status.stage)
    status = replace(status, trial=told, tokens_done=0, tokens_budget=stage.spec.tokens)
    return status if status.job else replace(status, iteration=0, iterations=0, loss=None, learning_rate=None)


def _after_failure(
    desired: Desired, stage: StageManifest, rungs: Sequence[RungStatus], following: Rung | None
) -> Hold | None:
    """What a failed gate does: go on down the ladder (None), or hold. No rung is asked for that has failed too."""
    name, failed = stage.metadata.name, rungs[-1]
    spec = desired.spec
    if following is None or following.failed:
        return None  # the caller says that the ladder is exhausted, or what came of the next rung
    if spec.on_failed_gate != "advance":
        without = " without its `if`" if hangs_on_failure(following.strategy) else ""
        return Hold(
            Reason.GATE_HOLDS,
            f"{failed.strategy} failed: {failed.message}. The campaign says {spec.on_failed_gate}: to go on, move "
            f"{following.strategy.name} to the top of the ladder of {name}{without} in a commit",
        )
    failures = sum(rung.outcome == "failed" for rung in rungs)
    if failures >= spec.bounds.attempts_per_stage:
        return Hold(Reason.LADDER_EXHAUSTED, f"{failures} attempts failed, which is the campaign's bound")
    return None


def _asks(held: Hold) -> bool:
    """Whether a commit that moves the next rung up is what goes on from here."""
    return held.reason is Reason.GATE_HOLDS


def _immutable(desired: Desired, look: Look, stage: StageManifest, rungs: Sequence[Rung], rung: Rung) -> Walked | None:
    """Refuse to start over a stage that was trained by a recipe the manifests no longer hold."""
    if rung.evidence is not None and rung.evidence.trained_iterations():
        return None
    name = stage.metadata.name
    recipes = [attempt.workshop.recipe for each in rungs for attempt in each.attempts]
    known = {recipe.attempt for recipe in recipes}
    stray = stray_attempts(look.attempts, name, known)
    if not stray:
        wait = unsettled(look, desired.campaign, name, known)
        return Walked(_waiting(stage, wait)) if wait is not None else None
    was = recipe_of(name, stray[0])
    tokens = trained_tokens(desired, stray[0], was)
    refused = _refused(name, was, recipes, rung.tried, tokens)
    status = bare_status(
        stage,
        Phase.HELD,
        Reason.TRAINED_IMMUTABLE,
        refused.message,
        attempt=stray[0].attempt,
        strategy=was.strategy if was else "",
        tokens_done=tokens,
    )
    # Later stages cannot be forecast by data that the manifests no longer hold.
    data = set(desired.catalog.sources(desired.campaign, name))
    whole = was is not None and all(set(leg.mixture) <= data for leg in was.legs)
    return Walked(status, outcome=outcome_of(was) if was and whole else None, refusal=_told(stage, refused))


def _refused(
    stage: str, was: Recipe | None, recipes: Sequence[Recipe], tried: Tried | None, tokens: int
) -> drift.Refusal:
    variants = tried.pilots if tried is not None else ()
    if was is not None and any(pilot.whole.workshop.recipe.attempt == was.attempt for pilot in variants):
        chosen = tried.trial.chosen if tried is not None else None
        return drift.refused_choice(stage, was.strategy, chosen or "", tokens)
    return drift.refusal(stage, was, [recipe for recipe in recipes if not recipe.pilot] or recipes, tokens)


def _waiting(stage: StageManifest, wait: Wait | Hold) -> StageStatus:
    if isinstance(wait, Hold):
        return bare_status(stage, Phase.HELD, wait.reason, wait.message)
    return replace(bare_status(stage, Phase.WAITING, wait.reason, wait.message), job=wait.job)


def _told(stage: StageManifest, refused: drift.Refusal) -> Message:
    ways = "".join(f"\n  - {way}" for way in refused.ways_on)
    told = f"{stage.metadata.name}: {refused.message}\nWhat is trained stays as it is. To go on:{ways}"
    return Message(Reason.TRAINED_IMMUTABLE, told)


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
        case ActionKind.REPAIR | ActionKind.PRUNE | ActionKind.DELETE:  # beside a stage's own next step
            return Phase.WAITING


def _phase_of_job(evidence: Evidence) -> Phase:
    live = evidence.live()
    return _phase_of(live[0][0].kind) if live else Phase.WAITING
