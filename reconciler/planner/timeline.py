"""The record as a story: what was planned, by which commit and whom, what ran, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.observed import AttemptSeen
from reconciler.model.plan import ActionKind
from reconciler.model.quantities import format_duration
from reconciler.model.recipe import Recipe
from reconciler.planner.evidence import Evidence
from reconciler.planner.recalled import Done, Recalled
from reconciler.planner.strays import recipe_of, trained
from reconciler.planner.why import legs_of, logged, what_of

Wrote = Mapping[str, tuple[str, str]]
"""Commit → (author, subject), of those that this clone has."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at_s: float
    what: str
    job: str
    came: str
    """What came of it; empty while that is not on record."""
    commit: str
    by: str
    """Who applied it, from where: `user@host:pid`."""


@dataclass(frozen=True, slots=True)
class Story:
    """One attempt from its plan to its verdict."""

    stage: str
    strategy: str
    attempt: str
    outcome: str
    """`passed`, `failed`, `pilot`, or `not judged`."""
    verdict: str
    """What its gates said."""
    commit: str
    dirty: bool
    author: str
    subject: str
    vouched: tuple[str, ...]
    """What approval the commit had, as whoever applied it found; empty where nobody asked."""
    recipe: tuple[str, ...]
    tokens: int
    """Trained, by its complete checkpoints or its verdict."""
    events: tuple[Event, ...]

    @property
    def began_s(self) -> float:
        return self.events[0].at_s if self.events else 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Attempts of a campaign in one workspace, in the order in which they began."""

    campaign: str
    name: str
    stories: tuple[Story, ...]
    unreadable: int


def timeline(recalled: Recalled, wrote: Wrote, stage: str | None = None) -> Timeline:
    """All attempts, or those of one stage."""
    by_attempt: dict[tuple[str, str], list[Done]] = {}
    for each in recalled.done:
        by_attempt.setdefault((each.key.stage, each.key.attempt), []).append(each)
    seen = {(each.stage, each.attempt): each for each in recalled.attempts}
    stories = [
        story(seen.get(who, AttemptSeen(*who, None)), by_attempt.get(who, ()), wrote)
        for who in {**by_attempt, **seen}
        if stage in (None, who[0])
    ]
    ordered = sorted(stories, key=lambda each: (each.began_s, each.stage, each.attempt))
    return Timeline(recalled.campaign, recalled.name, tuple(ordered), len(recalled.unreadable))


def story(seen: AttemptSeen, done: Sequence[Done], wrote: Wrote) -> Story:
    """One attempt."""
    recipe, told = _told(recipe_of(seen.stage, seen))
    verdict = Evidence(seen, (), ()).verdict()
    outcome = "not judged" if verdict is None else "passed" if verdict.passed else "failed"
    first = done[0] if done else None
    author, subject = wrote.get(first.receipt.commit, ("", "")) if first is not None else ("", "")
    if first is not None and first.origin is not None and not author:
        author, subject = first.origin.author, first.origin.subject
    return Story(
        stage=seen.stage,
        strategy=recipe.strategy if recipe is not None else "",
        attempt=seen.attempt,
        outcome="pilot" if recipe is not None and recipe.pilot else outcome,
        verdict=verdict.message if verdict is not None else "",
        commit=first.receipt.commit if first is not None else "",
        dirty=first.receipt.dirty if first is not None else False,
        author=author,
        subject=subject,
        vouched=first.origin.vouched if first is not None and first.origin is not None else (),
        recipe=told,
        tokens=trained(seen) * recipe.tokens_per_iteration if recipe is not None else 0,
        events=tuple(_events(done)),
    )


def _told(recipe: Recipe | None) -> tuple[Recipe | None, tuple[str, ...]]:
    """A recipe with what it comes to. Its digest proves that it is whole, not that it makes sense."""
    try:
        if recipe is not None and recipe.tokens_per_iteration > 0:
            return recipe, tuple(legs_of(recipe))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None, ("its recipe makes no sense",)
    return None, ("its recipe is not on record",)


def _events(done: Sequence[Done]) -> Iterator[Event]:
    for each in done:
        if each.key.kind is ActionKind.JUDGE:
            continue  # the verdict tells
        receipt = each.receipt
        what = what_of(each.key) if each.key.kind.submits else str(each.key.kind)
        yield Event(each.at_s, what, receipt.job_id or "", _came(each), receipt.commit, receipt.applied_by)


def _came(each: Done) -> str:
    """How a job ended, and what it logged."""
    receipt, job = each.receipt, each.ended
    if receipt.failed is not None:
        return f"refused: {receipt.failed}"
    parts = []
    if job is not None:
        parts.append("ended" if job.exit_status is None else f"exit status {job.exit_status}")
        if job.started_s is not None and job.ended_s is not None:
            parts[-1] += f" after {format_duration(max(0.0, job.ended_s - job.started_s))}"
        if job.comment and job.exit_status != 0:
            parts.append(job.comment)
    if each.log is not None:
        parts.append(logged(each.log))
    return "; ".join(parts)
