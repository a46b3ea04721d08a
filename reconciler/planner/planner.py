"""plan(desired, observed): walk the stages in order, and say for each where it is and what comes next.

Pure and total: whatever was seen or could not be seen, there is an answer. What is unread causes waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.domain import trial as trials
from reconciler.domain.ladder import first_tried
from reconciler.domain.resolve import Unresolved
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import AttemptSeen, Observed
from reconciler.model.plan import Plan
from reconciler.model.quantities import approximate_tokens
from reconciler.model.status import Phase, Reason, StageStatus
from reconciler.planner import adopted, drift, forecast
from reconciler.planner.advice import advice, refused
from reconciler.planner.climb import climb_down, done_by
from reconciler.planner.desired import Desired
from reconciler.planner.lists import Trouble
from reconciler.planner.look import Look, whole
from reconciler.planner.rungs import ladder, pilot_recipes, recipe_for
from reconciler.planner.strays import recipe_of, stray_attempts, trained_tokens
from reconciler.planner.upkeep import upkeep_of
from reconciler.planner.walked import Walked, bare_status, outcome_of


def plan(desired: Desired, observed: Observed) -> Plan:
    """The planner's answer for one campaign at one look."""
    look = whole(desired, observed)
    changes = drift.since_applied(desired, observed)
    if isinstance(look, Trouble):
        stages = tuple(_untold(stage, look) for stage in desired.stages)
        return Plan(
            desired.campaign, desired.revision, desired.dirty, (), stages, changes=changes, findings=desired.findings
        )
    walked: list[Walked] = []
    for stage in desired.stages:
        walked.append(_walk(desired, look, stage, walked))
    trained = {w.status.stage for w in walked if w.status.tokens_done}
    if trained:
        trained.add(drift.CAMPAIGN)  # what holds for all stages has held for those
    done = {w.status.stage for w in walked if w.status.phase is Phase.DONE}
    made = forecast.forecasts(desired, look, [(w.outcome, w.pilots) for w in walked if w.outcome is not None], done)
    total = forecast.outlook(desired, look, made, done)
    upkeep = upkeep_of(desired, look, walked)
    actions = (*upkeep.first, *(action for w in walked for action in w.actions), *upkeep.last)
    findings = advice(desired, look, walked)
    return Plan(
        campaign=desired.campaign,
        revision=desired.revision,
        dirty=desired.dirty,
        actions=actions,
        stages=tuple(w.status for w in walked),
        forecasts=made,
        outlook=total,
        retained=upkeep.retained,
        changes=tuple(replace(change, started=change.stage in trained) for change in changes),
        refusals=(
            *(w.refusal for w in walked if w.refusal is not None),
            *forecast.over_allocation(look, total, actions),
            *refused(findings),
        ),
        findings=findings,
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
        return _ahead(desired, look, stage, before, blocked)
    if stage.spec.adopted is not None:
        return adopted.walk(desired, look, stage, stage.spec.adopted, previous)
    trouble = look.lists.trouble(_list_names(desired, stage))
    if trouble is not None:
        return Walked(_held_or_waiting(stage, trouble))
    rungs = ladder(desired, look, stage, previous)
    walked = climb_down(desired, look, stage, rungs, done_by(desired, before), previous)
    return replace(walked, attempts=tuple(attempt for rung in rungs for attempt in rung.attempts))


def _ahead(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    before: Sequence[Walked],
    blocked: StageStatus | None,
) -> Walked:
    """A stage whose turn has not come: waits, with the first rung assumed so that a forecast can be made."""
    message = f"waits for {blocked.stage}, which is {blocked.phase.lower()}" if blocked else "waits"
    status = bare_status(stage, Phase.WAITING, Reason.SOURCE_NOT_DONE, message)
    seen = _passed_or_running(look, stage)
    if seen is not None:
        # An earlier stage was edited or taken up again: this one is not lost, and nothing is done to it.
        was = recipe_of(stage.metadata.name, seen)
        tokens = trained_tokens(desired, seen, was)
        message = f"{message}; its {approximate_tokens(tokens)} trained tokens stay as they are"
        strategy = was.strategy if was is not None else ""
        status = replace(status, message=message, strategy=strategy, attempt=seen.attempt, tokens_done=tokens)
    previous = [w.outcome for w in before if w.outcome is not None]
    trouble = look.lists.trouble(_list_names(desired, stage))
    if trouble is not None:  # told while there is time to mend it
        return Walked(replace(status, message=f"{message}; {trouble.message}"))
    if len(previous) < len(before):
        return Walked(status)
    first = first_tried(stage, done_by(desired, before))
    if first is None:
        return Walked(replace(status, message=f"{message}; none of its strategies would be tried as things stand"))
    recipe = recipe_for(desired, look, stage, trials.assumed(first), previous)
    if isinstance(recipe, Unresolved):
        return Walked(status if seen is not None else replace(status, message=f"{message}; {recipe.message}"))
    status = replace(status, strategy=status.strategy or recipe.strategy, iterations=recipe.iterations)
    pilots = pilot_recipes(desired, look, stage, first, previous)
    return Walked(status, outcome=outcome_of(recipe), pilots=pilots)


def _passed_or_running(look: Look, stage: StageManifest) -> AttemptSeen | None:
    """An attempt of the stage with trained tokens and no failed verdict, by whatever recipe."""
    return next(iter(stray_attempts(look.attempts, stage.metadata.name, ())), None)


def _list_names(desired: Desired, stage: StageManifest) -> tuple[str, ...]:
    """Lists whose trouble stops this stage: every source it may draw from, and every validation set."""
    sets = tuple(chosen.name for chosen in desired.model.validation.sets)
    return desired.catalog.sources(desired.campaign, stage.metadata.name) + sets


def _facts(walked: Sequence[Walked]) -> dict[str, str]:
    """What the actions rest on: each stage's phase, attempt and rungs that failed; nothing that a clock moves."""
    return {
        w.status.stage: f"{w.status.phase}/{w.status.attempt}/{','.join(r.outcome for r in w.status.rungs)}"
        + _trial_fact(w.status)
        for w in walked
    }


def _trial_fact(status: StageStatus) -> str:
    """The pilots' outcomes, and the variant that was chosen by them."""
    if status.trial is None:
        return ""
    return f"/{','.join(pilot.outcome for pilot in status.trial.pilots)}/{status.trial.chosen}"


def _held_or_waiting(stage: StageManifest, trouble: Trouble) -> StageStatus:
    phase = Phase.WAITING if trouble.reason is Reason.LIST_UNREAD else Phase.HELD
    return bare_status(stage, phase, trouble.reason, trouble.message)
