"""What is left to do if nothing fails: mixture, tokens, epochs and rates of each stage, and what that costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from reconciler.domain import budget, cost, schedule
from reconciler.domain.checkpoint import needs_conversion
from reconciler.domain.cost import Training
from reconciler.domain.resolve import StageOutcome
from reconciler.domain.windows import opens
from reconciler.model.faults import Fault
from reconciler.model.manifests import StageManifest
from reconciler.model.message import Message
from reconciler.model.observed import AttemptSeen
from reconciler.model.plan import (
    Action,
    ActionKey,
    ActionKind,
    CampaignForecast,
    LegForecast,
    Span,
    StageForecast,
    TrialForecast,
)
from reconciler.model.recipe import LegRecipe, Load, Recipe
from reconciler.planner import measured
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.lists import Lists
from reconciler.planner.look import Look
from reconciler.planner.spending import node_hours

FORWARD_SHARE = Fraction(1, 3)
"""Of a training step's time: the backward pass takes twice the forward one."""
JOBS_FOLLOWED_MAX = 200
"""So many jobs are followed through queue and submit windows; of more, the rest is taken to go on like them."""
CALENDAR_ENDS_S = 7_258_118_400.0
"""The year 2200: what is forecast to end after it is not followed through the hours of a week."""
NOTHING = Span(0.0, 0.0)


def forecasts(
    desired: Desired, look: Look, assumed: Sequence[tuple[StageOutcome, Sequence[Recipe]]], done: Collection[str]
) -> tuple[StageForecast, ...]:
    """Every stage that can be resolved, in order, each with the pilots that come before it; nothing is left of those
    that are `done`."""
    made: list[StageForecast] = []
    begins = Span(look.now_s, look.now_s)
    evaluated = {
        (outcome.recipe.attempt, len(outcome.recipe.legs) - 1, outcome.recipe.legs[-1].iterations)
        for outcome, _ in assumed
    }
    for outcome, pilots in assumed:
        stage, over = desired.catalog.stage(desired.campaign, outcome.stage), outcome.stage in done
        part = _stage(_rung(desired, look, stage, outcome.recipe, evaluated, over), begins)
        if pilots and not over:
            tried = [_rung(desired, look, stage, recipe, evaluated, False) for recipe in pilots]
            part = replace(part, trial=_trial(tried, begins))
        if part.hours is not None:
            begins += Span(part.hours.low * 3600, part.hours.high * 3600)
        made.append(part)
    return tuple(made)


def outlook(desired: Desired, look: Look, made: Sequence[StageForecast], done: Collection[str]) -> CampaignForecast:
    """All stages together, beside what is spent."""
    total = hours = storage = NOTHING
    for forecast in made:
        total += forecast.node_hours or NOTHING
        hours += forecast.hours or NOTHING
        storage += forecast.storage_bytes
        if forecast.trial is not None:
            total += forecast.trial.node_hours or NOTHING
    known = {forecast.stage for forecast in made if forecast.node_hours is not None}
    return CampaignForecast(
        spent=node_hours(desired, look.jobs, look.now_s),
        bound=float(min(desired.spec.bounds.node_hours, desired.cluster.allocation.node_hours)),
        node_hours=total,
        hours=hours,
        storage_bytes=storage,
        unknown=tuple(s.metadata.name for s in desired.stages if s.metadata.name not in {*known, *done}),
    )


def over_allocation(look: Look, total: CampaignForecast, actions: Sequence[Action]) -> tuple[Message, ...]:
    """Why a stage is not begun: the campaign cannot be finished with what it may spend. One that runs goes on."""
    begun = {key.stage for receipt in look.receipts if (key := ActionKey.parse(receipt.key)) is not None}
    new = [action.key.stage for action in actions if action.job is not None and action.key.stage not in begun]
    if not total.over or not new:
        return ()
    least = total.spent + total.node_hours.low
    told = (
        f"{new[0]} is not begun: {total.spent:.3g} node-hours are spent and at least {total.node_hours.low:.3g} are to "
        f"come, {least - total.bound:.3g} more than the {total.bound:.6g} of the campaign's bounds.nodeHours and the "
        "cluster's allocation.nodeHours. Raise the lower of the two, or cut tokens, nodes or stages of what is to come"
    )
    return (Message(Fault.OVER_ALLOCATION, told),)


@dataclass(frozen=True, slots=True)
class _Rung:
    """A recipe that will be trained, with what is trained of it already."""

    desired: Desired
    look: Look
    stage: StageManifest
    recipe: Recipe
    evaluated: Collection[tuple[str, int, int]]
    """(attempt, leg, iteration) at which stages end and are evaluated."""
    done: bool
    seen: AttemptSeen | None
    """What is on the cluster of it."""

    @property
    def trained(self) -> tuple[int, ...]:
        """Iterations of each leg that are trained."""
        legs = self.recipe.legs
        whole = len(legs) if self.done else len(self.recipe.taken)
        own = Evidence(self.seen, (), ()).trained(legs)
        return (*(leg.iterations for leg in legs[:whole]), *own[whole:])

    @property
    def left(self) -> tuple[int, ...]:
        """Iterations of each leg that are still to be trained."""
        return tuple(leg.iterations - trained for leg, trained in zip(self.recipe.legs, self.trained, strict=True))

    @property
    def saves(self) -> int:
        """Checkpoints still to be written."""
        model, own = self.desired.model, self.recipe.global_batch
        every = budget.save_interval(model.checkpoint_every, model.batch.global_, own)
        legs = zip(self.recipe.legs, self.trained, strict=True)
        return sum(cost.saves(trained, leg.iterations, every) for leg, trained in legs)

    @property
    def converts(self) -> bool:
        """Whether the source has still to be converted."""
        legs = self.seen.legs if self.seen is not None else ()
        there = any(leg.converted is not None for leg in legs if leg.index == 0) or self.trained[0] > 0
        return not self.done and needs_conversion(self.recipe) and not there

    def training(self, tokens_per_second: Fraction) -> Training:
        """What is left of every leg; each begins with a job of its own."""
        walltime, startup = self.stage.spec.resources.walltime, self.desired.cluster.launcher.startup
        jobs, seconds = 0, Fraction(0)
        for leg, iterations in zip(self.recipe.legs, self.left, strict=True):
            tokens = Fraction(leg.tokens * iterations, max(1, leg.iterations))
            part = cost.training(tokens, tokens_per_second, walltime, startup)
            jobs, seconds = jobs + part.jobs, seconds + part.seconds
        return Training(jobs, seconds)

    def evaluations(self, segments: int) -> int:
        """Still to be made: of the source where its stage did not, on the way, and at the end."""
        if self.done:
            return 0
        recipe, seen = self.recipe, self.seen
        made = {(found.leg, found.iteration) for found in (seen.evaluations if seen is not None else ())}
        source, last = recipe.source, len(recipe.legs) - 1
        known = (source.attempt, source.leg, source.iteration) in self.evaluated or (0, 0) in made
        first = recipe.legs[0].load is not Load.RANDOM and not known and not self.trained[0]
        gate = (self.stage.spec.gates or self.desired.spec.gates).forgetting
        every = gate.every if gate is not None else None
        on_the_way = 0 if every is None else segments - 1 if every == 0 else min(segments - 1, int(1 / every))
        return first + max(0, on_the_way) + ((last, recipe.legs[last].iterations) not in made)

    def beside(self, speed: measured.Speed, segments: int) -> tuple[int, Span]:
        """Jobs of one node around the training, and their seconds together: as long as such jobs took, else by
        start-ups and tokens; of a conversion only its walltime is sure."""
        evaluations, seconds = self.evaluations(segments), NOTHING
        if evaluations:
            took = measured.durations(self.desired, self.look.jobs, ActionKind.EVALUATE) or self._evaluating(speed)
            seconds += Span(evaluations * took.low, evaluations * took.high)
        if self.converts:
            limits = Span(float(self.desired.cluster.launcher.startup), float(self.stage.spec.resources.walltime))
            seconds += measured.durations(self.desired, self.look.jobs, ActionKind.CONVERT) or limits
        return evaluations + self.converts, seconds

    def _evaluating(self, speed: measured.Speed) -> Span:
        sets, startup = self.desired.model.validation.sets, float(self.desired.cluster.launcher.startup)
        tokens = sum(chosen.samples for chosen in sets) * self.desired.model.sequence_length
        scale = self.stage.spec.resources.nodes if self.desired.cluster.node.ranks > 1 else 1
        starts = len(sets) * startup
        return Span(
            starts + float(tokens * FORWARD_SHARE * scale / speed.fast), 2 * starts + float(tokens * scale / speed.slow)
        )


def _rung(
    desired: Desired,
    look: Look,
    stage: StageManifest,
    recipe: Recipe,
    evaluated: Collection[tuple[str, int, int]],
    done: bool,
) -> _Rung:
    mine = (stage.metadata.name, recipe.attempt)
    seen = next((a for a in look.attempts if (a.stage, a.attempt) == mine), None)
    return _Rung(desired, look, stage, recipe, evaluated, done, seen)


def _trial(rungs: Sequence[_Rung], begins: Span) -> TrialForecast:
    """The pilots one after the other."""
    parts = [_stage(rung, begins) for rung in rungs]
    spent = [part.node_hours for part in parts if part.node_hours is not None]
    jobs = [part.jobs for part in parts if part.jobs is not None]
    return TrialForecast(
        variants=tuple(rung.recipe.strategy for rung in rungs),
        tokens=sum(rung.recipe.tokens for rung in rungs),
        node_hours=sum(spent, NOTHING) if len(spent) == len(parts) else None,
        jobs=sum(jobs, NOTHING) if len(jobs) == len(parts) else None,
    )


def _stage(rung: _Rung, begins: Span) -> StageForecast:
    desired, look, recipe, name = rung.desired, rung.look, rung.recipe, rung.stage.metadata.name
    nodes = rung.stage.spec.resources.nodes
    size, told_size = measured.checkpoint_bytes(desired, look.attempts)
    waits, speed = measured.waits(desired, look.jobs), measured.speed(desired, look.attempts, name, nodes)
    rests_on = {"waits": measured.told_waits(waits), "checkpoints": told_size}
    spent = jobs = hours = None
    if speed is not None:
        rests_on["speed"] = speed.rests_on
        fast, slow = rung.training(speed.fast), rung.training(speed.slow)
        beside, seconds = rung.beside(speed, fast.jobs)
        jobs = Span(fast.jobs, slow.jobs)
        trained, around = Span(float(fast.seconds), float(slow.seconds)), seconds
        spent = Span(
            (trained.low * nodes + around.low) / 3600,
            (trained.high * nodes + around.high) / 3600,
        )
        wait, all_s = waits or NOTHING, trained + around
        low = _ends(desired, begins.low, fast.jobs + beside, all_s.low, wait.low)
        high = _ends(desired, begins.high, slow.jobs + beside, all_s.high, wait.high)
        hours = Span((low - begins.low) / 3600, (high - begins.high) / 3600)
    written = rung.saves + rung.converts
    cut = jobs.high if jobs is not None else 0
    return StageForecast(
        stage=name,
        strategy=recipe.strategy,
        legs=tuple(
            _leg(desired, look.lists, recipe, leg, boundary)
            for leg, boundary in zip(recipe.legs, schedule.boundaries(recipe), strict=True)
        ),
        iterations=sum(rung.left),
        node_hours=spent,
        jobs=jobs,
        hours=hours,
        saves=rung.saves,
        storage_bytes=Span(written * size.low, (written + cut) * size.high),
        rests_on=rests_on,
    )


def _ends(desired: Desired, begins_s: float, jobs: int, seconds: float, wait_s: float) -> float:
    """When so many jobs are over that take `seconds` together, each submitted when the one before it has ended."""
    scheduler, now_s = desired.cluster.scheduler, begins_s
    followed = min(jobs, JOBS_FOLLOWED_MAX)
    for _ in range(followed):
        opening = opens(scheduler.submit_windows, scheduler.time_zone, now_s) if now_s < CALENDAR_ENDS_S else None
        now_s = (opening.timestamp() if opening is not None else now_s) + wait_s + seconds / jobs
    return begins_s + (now_s - begins_s) * jobs / followed if followed else begins_s


def _leg(desired: Desired, lists: Lists, recipe: Recipe, leg: LegRecipe, boundary: str) -> LegForecast:
    sizes = {label: lists.size(desired, label) for label in leg.mixture}
    curve = schedule.sample(leg.curve, leg.position, leg.iterations)
    return LegForecast(
        mixture=leg.mixture,
        terms=leg.terms,
        tokens=leg.tokens,
        iterations=leg.iterations,
        lr=schedule.describe(leg.curve, leg.position, leg.iterations),
        lr_curve=tuple((step * recipe.tokens_per_iteration, rate) for step, rate in curve),
        epochs={
            label: float(Fraction(share) * leg.tokens / size)
            for label, share in leg.mixture.items()
            if (size := sizes[label]) is not None
        },
        boundary=boundary,
    )
