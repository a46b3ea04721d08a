"""What keeps a job that is due from being submitted: a suspended stage, spent bounds, the wrong hour. Pure."""

from __future__ import annotations

from collections.abc import Collection

from reconciler.domain.windows import opens
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import AttemptSeen
from reconciler.model.plan import Action, ActionKey
from reconciler.model.quantities import approximate_tokens, format_tokens
from reconciler.model.recipe import Recipe
from reconciler.model.status import Reason
from reconciler.planner.attempt import Attempt, Hold, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.look import Look
from reconciler.planner.spending import node_hours
from reconciler.planner.strays import live_elsewhere, own_iterations, recipe_of


def withheld(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    attempt: Attempt,
    action: Action,
    beside: Collection[Attempt] = (),
) -> Hold | Wait | None:
    """Why the action may not be carried out now; None if it may. What starts no job, such as a verdict, always may.

    `beside` holds attempts whose jobs the same plan submits.
    """
    if action.job is None:
        return None
    if stage.spec.suspend:
        return Hold(Reason.SUSPENDED, f"suspended by its manifest; next would be: {action.summary}")
    other = _other_rung(desired, look, stage, attempt.workshop.recipe)
    if other is not None:
        return other
    spent = node_hours(desired, look.jobs, look.now_s)
    bound = min(desired.spec.bounds.node_hours, desired.cluster.allocation.node_hours)
    if spent >= float(bound):
        return Hold(Reason.NODE_HOURS_EXHAUSTED, f"{spent:.1f} of {bound} node-hours are spent")
    over = _over_tokens(desired, look, attempt, beside)
    if over is not None:
        return over
    scheduler = desired.cluster.scheduler
    opening = opens(scheduler.submit_windows, scheduler.time_zone, look.now_s)
    if opening is None:
        return None
    when = f"{opening:%a %Y-%m-%d %H:%M} {scheduler.time_zone}"
    return Wait(Reason.SUBMIT_WINDOW_CLOSED, f"jobs may be submitted again from {when}; next: {action.summary}")


def _other_rung(desired: Desired, look: Look, stage: StageManifest, own: Recipe) -> Hold | Wait | None:
    """A stage trains one rung at a time, also where two people apply commits whose ladders differ."""
    if own.pilot:
        return None
    known = {own.attempt, *own.taken}
    return live_elsewhere(look, desired.campaign, stage.metadata.name, known, told="another rung of the stage")


def _over_tokens(desired: Desired, look: Look, attempt: Attempt, beside: Collection[Attempt]) -> Hold | Wait | None:
    """Whether what the attempt has left to train would exceed the campaign's tokens.

    All that is left of it counts, so that none is begun that cannot be finished; of other attempts what is trained,
    and what is left where a job of theirs is on its way.
    """
    bound, own = desired.spec.bounds.tokens, attempt.workshop.recipe
    left = own.tokens - _tokens_trained(own, attempt.iterations)
    if bound is None or left <= 0:
        return None
    unread = next((seen for seen in look.attempts if seen.unread), None)
    if unread is not None:
        message = f"attempt {unread.attempt} of {unread.stage} could not be read, so what it has trained is not known"
        return Wait(Reason.WORKSPACE_UNREAD, f"{message}: {unread.unread}")
    trained, promised = 0, 0
    live = _live(desired, look) | {other.workshop.recipe.attempt for other in beside}
    recipes = {other.workshop.recipe.attempt: other.workshop.recipe for other in beside}
    for seen in look.attempts:
        recipe, done = recipe_of(seen.stage, seen), _iterations(seen)
        tokens = _tokens_trained(recipe, done) if recipe else done * desired.model.tokens_per_iteration
        trained += tokens
        if recipe is not None:
            recipes[seen.attempt] = recipe
        if seen.attempt in live and seen.attempt != own.attempt and recipe is not None:
            promised += recipe.tokens - tokens
    known = {seen.attempt for seen in look.attempts}
    promised += sum(recipe.tokens for name, recipe in recipes.items() if name in live - known - {own.attempt})
    if trained + promised + left <= bound:
        return None
    beside_it = f", {approximate_tokens(promised)} more are on their way" if promised else ""
    return Hold(
        Reason.TOKENS_EXHAUSTED,
        f"{approximate_tokens(trained)} tokens are trained in the campaign, discarded attempts and pilots "
        f"included{beside_it}; {own.strategy} has {approximate_tokens(left)} to go, which exceeds the campaign's "
        f"bounds.tokens of {format_tokens(bound)}",
    )


def _live(desired: Desired, look: Look) -> set[str]:
    """Attempts of the campaign with a job that may still write."""
    keys = (ActionKey.parse(job.key) for job in look.jobs if job.key and job.live)
    return {key.attempt for key in keys if key is not None and key.campaign == desired.campaign}


def _iterations(seen: AttemptSeen) -> int:
    """What was trained, also where its checkpoints have been deleted after the verdict."""
    evidence = Evidence(seen, (), ())
    verdict, was = evidence.verdict(), recipe_of(seen.stage, seen)
    # A verdict counts the legs that were taken too, which are those of the attempt that trained them.
    taken = sum(leg.iterations for leg in was.legs[: len(was.taken)]) if was is not None else 0
    return max(own_iterations(seen), verdict.iteration - taken if verdict is not None else 0)


def _tokens_trained(recipe: Recipe, iterations: int) -> int:
    """Tokens of so many of a recipe's iterations; all of them are its budget, which ends within one step."""
    return recipe.tokens * min(iterations, recipe.iterations) // max(1, recipe.iterations)
