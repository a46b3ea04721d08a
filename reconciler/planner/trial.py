"""A rung that is tried in several variants: which pilots are due, and which variant gets the stage's budget. Pure.

Nothing of it is kept: the pilots' verdicts and losses lie on the cluster, and the choice is made from them each time,
until the chosen variant is in work. From then on it is that one, whatever becomes of the pilots' files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.plan import ActionKind
from reconciler.model.quantities import counted, format_tokens
from reconciler.model.status import PilotStatus, Reason, TrialStatus
from reconciler.model.strategy import Strategy, Trial
from reconciler.planner.attempt import Act, Attempt, Step, Wait
from reconciler.planner.jobs import SOURCE_EVALUATION
from reconciler.planner.judging import final_losses
from reconciler.planner.steps import next_step


@dataclass(frozen=True, slots=True)
class Pilot:
    """One variant of a trial, as two attempts from one source."""

    variant: str
    attempt: Attempt
    """With the pilot budget."""
    whole: Attempt
    """With the stage's budget: what it comes to if it is chosen."""

    @property
    def mean(self) -> float | None:
        """Mean loss over the compared sets; None until all of them have one."""
        losses = self.losses
        return sum(losses.values()) / len(losses) if losses else None

    @property
    def losses(self) -> Mapping[str, float]:
        """Losses at the pilot's end of the sets that are compared; none until all sets have one."""
        found = final_losses(self.attempt)
        return {name: found[name] for name in self.compare} if found else {}

    compare: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant that gets the stage's budget."""

    pilot: Pilot
    by: str
    """As in `TrialStatus`."""
    message: str


@dataclass(frozen=True, slots=True)
class NonePassed:
    """A gate has failed every pilot, and so the rung."""

    message: str


@dataclass(frozen=True, slots=True)
class Open:
    """Pilots are left to be trained or judged: the next step of each whose turn it is."""

    steps: tuple[tuple[Pilot, Step], ...]
    message: str


@dataclass(frozen=True, slots=True)
class AwaitsChoice:
    """All pilots are judged, and a person has the choice."""

    message: str


Decision = Chosen | NonePassed | Open | AwaitsChoice


def decide(strategy: Strategy, trial: Trial, pilots: Sequence[Pilot]) -> Decision:
    """Where a trial is. What the manifest has chosen counts first, then what is in work, then the comparison."""
    named = next((pilot for pilot in pilots if pilot.variant == trial.chosen), None)
    if named is not None:
        return Chosen(named, "manifest", "chosen in the manifest")
    begun = _begun(pilots)
    if begun is not None:
        return Chosen(begun, "begun", "it was chosen when the pilots were compared")
    judged = sum(_judged(pilot) for pilot in pilots)
    if judged < len(pilots):
        done = f"trial: {judged} of {counted(len(pilots), 'pilot')} judged"
        return Open(_steps(tuple(_due(trial, pilots))), done)
    passed = [pilot for pilot in pilots if _passed(pilot)]
    if not passed:
        told = "; ".join(f"{pilot.variant}: {_verdict_message(pilot)}" for pilot in pilots)
        return NonePassed(f"no pilot passed its gates: {told}")
    return _compared(strategy, trial, passed)


def failed_gates(decision: Decision, pilots: Sequence[Pilot]) -> frozenset[str]:
    """Gates that failed the rung: those of the chosen variant, or of all pilots where none passed."""
    match decision:
        case Chosen(pilot=pilot):
            return pilot.whole.evidence.failed_gates()
        case NonePassed():
            return frozenset().union(*(pilot.attempt.evidence.failed_gates() for pilot in pilots))
        case _:
            return frozenset()


def status(strategy: Strategy, trial: Trial, pilots: Sequence[Pilot], decision: Decision) -> TrialStatus:
    """The trial for people: every pilot with its losses, and the choice."""
    chosen = decision if isinstance(decision, Chosen) else None
    return TrialStatus(
        strategy=strategy.name,
        tokens=trial.tokens,
        compare=trial.compare,
        pilots=tuple(_told(pilot) for pilot in pilots),
        chosen=chosen.pilot.variant if chosen else "",
        by=chosen.by if chosen else "",
        message=decision.message,
    )


def _compared(strategy: Strategy, trial: Trial, passed: Sequence[Pilot]) -> Chosen | AwaitsChoice:
    """Of the pilots that passed, the one with the lowest mean loss, unless a person is to say."""
    sets, write = ", ".join(trial.compare), f"write `chosen: NAME` in the trial of {strategy.name}"
    gone = [pilot.variant for pilot in passed if pilot.mean is None]
    if gone:
        why = f"losses of {', '.join(gone)} on the validation sets as they are now are not there"
        return AwaitsChoice(f"the pilots cannot be compared: {why}; {write}")
    ranked = sorted(passed, key=lambda pilot: _rank(pilot.mean))  # stable: of equal ones the first
    table = ", ".join(f"{pilot.variant} {pilot.mean:.4f}" for pilot in ranked)
    ends = f"mean loss of {sets} at the pilots' ends, each after {format_tokens(trial.tokens)} tokens of the same curve"
    if trial.choose == "person":
        return AwaitsChoice(f"{ends}: {table}; {write}")
    return Chosen(ranked[0], "lowest-loss", f"lowest {ends}: {table}")


def _rank(mean: float | None) -> float:
    return math.inf if mean is None or math.isnan(mean) else mean


def _begun(pilots: Sequence[Pilot]) -> Pilot | None:
    """The variant that has the stage's budget already: one in work or done, else one that failed with it."""
    wholes = [(pilot, pilot.whole.evidence) for pilot in pilots]
    for pilot, evidence in wholes:
        if evidence.begun_not_failed() or (evidence.verdict() is None and evidence.trained_iterations()):
            return pilot
    return next((pilot for pilot, evidence in wholes if evidence.verdict() is not None), None)


def _steps(due: Sequence[Pilot]) -> tuple[tuple[Pilot, Step], ...]:
    """The next step of each; the losses of the source, which they share, are measured by one of them."""
    steps: list[tuple[Pilot, Step]] = []
    measuring = any(_measures_source(pilot) for pilot in due)
    for pilot in due:
        step = next_step(pilot.attempt)
        wanted = isinstance(step, Act) and step.action.reason == Reason.BASELINE_NEEDED
        if wanted and measuring:
            step = Wait(Reason.BASELINE_NEEDED, "waits for the losses of the source, which another pilot measures")
        measuring = measuring or wanted
        steps.append((pilot, step))
    return tuple(steps)


def _measures_source(pilot: Pilot) -> bool:
    leg, iteration = SOURCE_EVALUATION
    keys = (key for key, _ in pilot.attempt.evidence.live())
    return any(key.kind is ActionKind.EVALUATE and key.detail == f"leg-{leg}-{iteration}" for key in keys)


def _due(trial: Trial, pilots: Sequence[Pilot]) -> Iterator[Pilot]:
    """Pilots whose next step is asked for: every one that has a live job, and others up to `atOnce`, begun ones first.

    One that holds keeps its place: a person is to look at it before more is spent.
    """
    left = [pilot for pilot in pilots if not _judged(pilot)]
    left.sort(key=lambda pilot: (not pilot.attempt.evidence.live(), not pilot.attempt.evidence.receipts))
    for place, pilot in enumerate(left):
        if place < trial.at_once or pilot.attempt.evidence.live():
            yield pilot


def _judged(pilot: Pilot) -> bool:
    """Whether it has its verdict, and could be read whole: nothing is chosen by half of what there is."""
    evidence = pilot.attempt.evidence
    return evidence.verdict() is not None and not (evidence.seen is not None and evidence.seen.unread)


def _passed(pilot: Pilot) -> bool:
    verdict = pilot.attempt.evidence.verdict()
    return verdict is not None and verdict.passed


def _verdict_message(pilot: Pilot) -> str:
    verdict = pilot.attempt.evidence.verdict()
    return verdict.message if verdict is not None else ""


def _told(pilot: Pilot) -> PilotStatus:
    evidence, recipe = pilot.attempt.evidence, pilot.attempt.workshop.recipe
    verdict = evidence.verdict()
    outcome = "running" if evidence.receipts else "untried"
    done = pilot.attempt.iterations
    if verdict is not None:
        outcome, done = "passed" if verdict.passed else "failed", max(done, min(verdict.iteration, recipe.iterations))
    return PilotStatus(
        variant=pilot.variant,
        attempt=recipe.attempt,
        outcome=outcome,
        tokens=recipe.tokens * done // recipe.iterations,
        losses=dict(pilot.losses),
        mean=pilot.mean,
        message=_verdict_message(pilot),
    )
