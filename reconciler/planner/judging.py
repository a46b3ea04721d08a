"""An attempt's evidence → what each of its gates says, at its end and on the way to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from reconciler.domain import gates
from reconciler.domain.gates import OnTheWay, Phases
from reconciler.domain.schedule import rate_at
from reconciler.model.external import NoNumber, metric
from reconciler.model.gates import ForgettingGate, Limits
from reconciler.model.manifests import StageManifest
from reconciler.model.recipe import LegRecipe, Recipe
from reconciler.model.status import Reason
from reconciler.model.verdict import GateResult, Verdict
from reconciler.planner.attempt import Attempt, Hold, Wait
from reconciler.planner.jobs import SOURCE_EVALUATION
from reconciler.planner.loads import all_loads


def baseline_of(attempt: Attempt) -> Mapping[str, float] | None:
    """Losses at the stage's source checkpoint, from its own stage or evaluated by this attempt; None if not yet."""
    return attempt.baseline if attempt.baseline is not None else _complete(attempt, *SOURCE_EVALUATION)


def final_losses(attempt: Attempt) -> Mapping[str, float] | None:
    """Losses at the end of the last leg; None until every validation set has one."""
    leg = len(attempt.workshop.recipe.legs) - 1
    return _complete(attempt, leg, attempt.workshop.recipe.legs[leg].iterations)


def converted_losses(attempt: Attempt) -> Mapping[str, float] | None:
    """Losses of the converted source, where the campaign wants them compared with its stage's own."""
    return _complete(attempt, *SOURCE_EVALUATION)


def _complete(attempt: Attempt, leg: int, iteration: int) -> Mapping[str, float] | None:
    seen = attempt.evidence.evaluation(leg, iteration)
    return seen.losses if seen and set(attempt.validation_sets) <= set(seen.losses) else None


def verdict_of(attempt: Attempt, results: tuple[GateResult, ...]) -> Verdict:
    """The verdict that these answers make."""
    recipe = attempt.workshop.recipe
    return Verdict(
        stage=attempt.workshop.stage.metadata.name,
        attempt=recipe.attempt,
        strategy=recipe.strategy,
        iteration=attempt.iterations,
        gates=results,
    )


def results(attempt: Attempt) -> tuple[GateResult, ...]:
    """What the gates say of an attempt that has trained its tokens; without what is asked of a harness."""
    recipe, asked = attempt.workshop.recipe, attempt.gates
    found: list[GateResult] = []
    before, after = baseline_of(attempt), final_losses(attempt)
    if before is not None and after is not None and (limits := _limits(attempt)) is not None:
        last = len(recipe.legs) - 1
        compared = phases(recipe, last, recipe.legs[last].iterations)
        found.append(gates.forgetting(before, after, attempt.old_sets, limits, compared))
    if asked.target:
        found.append(gates.target(after or {}, {name: float(bound) for name, bound in asked.target.items()}))
    if asked.recovery is not None:
        leg = len(recipe.legs) - 1
        grace = Fraction(asked.recovery.grace)
        found.append(gates.recovery(attempt.evidence.leg(leg).logs, recipe.legs[leg].iterations, grace))
    if asked.spike is not None:
        logs = [log for index in range(len(recipe.legs)) for log in attempt.evidence.leg(index).logs]
        found.append(gates.spike(logs, asked.spike))
    loads = all_loads(attempt)
    return (*found, loads) if loads is not None else tuple(found)


def external(attempt: Attempt) -> tuple[GateResult, ...] | Wait | Hold:
    """What harnesses found at the attempt's last checkpoint; a wait until they have written it."""
    found: list[GateResult] = []
    texts = attempt.evidence.seen.external if attempt.evidence.seen else {}
    for gate in attempt.gates.external:
        file = attempt.workshop.desired.site.in_workspace(f"{attempt.workshop.folder}/external/{gate.name}.json")
        if gate.name not in texts:
            last = f"leg-{len(attempt.workshop.recipe.legs) - 1}"
            message = f"trained and evaluated; waits for {file}, what a harness finds at the last checkpoint of {last}"
            return Wait(Reason.EXTERNAL_AWAITED, message)
        value = metric(texts[gate.name], gate.metric)
        if isinstance(value, NoNumber):
            message = f"{file}: {value.why}. Write it anew, or change gates.external in the manifest"
            return Hold(Reason.EXTERNAL_UNREADABLE, message)
        found.append(gates.external(value, gate))
    return tuple(found)


# --- on the way ------------------------------------------------------------------------------------------------------


def due(attempt: Attempt) -> tuple[int, int] | None:
    """(leg, iteration) of the newest complete checkpoint, if it is to be evaluated before training goes on."""
    gate, recipe = attempt.gates.forgetting, attempt.workshop.recipe
    if gate is None or gate.every is None or not attempt.old_sets or baseline_of(attempt) is None:
        return None
    newest = _newest(attempt)
    if newest is None or (newest[0] == len(recipe.legs) - 1 and newest[1] >= recipe.legs[-1].iterations):
        return None
    tokens = _tokens(recipe.legs, *newest)
    last = max((seen.tokens for seen in on_the_way(attempt)), default=0)
    return newest if tokens > last and tokens - last >= Fraction(gate.every) * recipe.tokens else None


def ends_early(attempt: Attempt) -> Verdict | None:
    """The verdict on an attempt that has forgotten so much that the rest of its tokens would be wasted."""
    gate, before, limits = attempt.gates.forgetting, baseline_of(attempt), _limits(attempt)
    if gate is None or limits is None or gate.every is None or before is None or final_losses(attempt) is not None:
        return None
    tokens = attempt.workshop.recipe.tokens
    result = gates.forgetting_on_the_way(before, on_the_way(attempt), attempt.old_sets, gate, limits, tokens)
    return verdict_of(attempt, (result,)) if result is not None else None


def on_the_way(attempt: Attempt) -> tuple[OnTheWay, ...]:
    """Every checkpoint before the last one that has a loss on all old sets, in order."""
    legs = attempt.workshop.recipe.legs
    end = len(legs) - 1, legs[-1].iterations
    seen = attempt.evidence.seen.evaluations if attempt.evidence.seen else ()
    found = {
        (e.leg, e.iteration): e.losses
        for e in seen
        if e.leg < len(legs) and (0, 0) < (e.leg, e.iteration) < end and set(attempt.old_sets) <= set(e.losses)
    }
    return tuple(OnTheWay(_tokens(legs, *at), found[at], phases(attempt.workshop.recipe, *at)) for at in sorted(found))


def newest_on_the_way(attempt: Attempt) -> GateResult | None:
    """What the newest evaluation before the end says, for people."""
    before, limits, seen = baseline_of(attempt), _limits(attempt), on_the_way(attempt)
    if before is None or limits is None or not seen or not attempt.old_sets:
        return None
    result = gates.forgetting(before, seen[-1].losses, attempt.old_sets, limits, seen[-1].compared)
    share = 100 * seen[-1].tokens / attempt.workshop.recipe.tokens
    return GateResult(result.gate, result.level, f"{result.message}, at {share:.3g} % of the tokens", result.numbers)


def _newest(attempt: Attempt) -> tuple[int, int] | None:
    """The furthest complete checkpoint of the attempt."""
    for index in reversed(range(len(attempt.workshop.recipe.legs))):
        checkpoint = attempt.evidence.leg(index).newest_complete()
        if checkpoint is not None:
            return index, checkpoint.iteration
    return None


def _tokens(legs: tuple[LegRecipe, ...], leg: int, iteration: int) -> int:
    """Of the stage, trained at an iteration of a leg."""
    done = sum(earlier.tokens for earlier in legs[:leg])
    return done + legs[leg].tokens * min(iteration, legs[leg].iterations) // legs[leg].iterations


def _limits(attempt: Attempt) -> Limits | None:
    gate = attempt.gates.forgetting
    return limits_of(gate, attempt.workshop.stage) if gate is not None else None


def limits_of(gate: ForgettingGate, stage: StageManifest) -> Limits:
    """The bounds that a stage's shift asks for."""
    return gate.strong if stage.spec.shift == "strong" else gate.weak


def phases(recipe: Recipe, leg: int, iteration: int) -> Phases:
    """How a checkpoint of an attempt compares with its source; one that does not tell its rate stands at the peak."""
    reached, source = recipe.legs[leg], recipe.source.rate
    peak = max(each.curve.high for each in recipe.legs[: leg + 1])
    end = rate_at(reached.curve, reached.position + iteration)
    return gates.phases(peak if source is None else source, end, peak)
