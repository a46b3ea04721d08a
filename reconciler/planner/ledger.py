"""The campaign's ledger from one look: which attempt drew what, and what a file or corpus has to do with it.

What is inside a list is answered only from the very list that was trained on: one that has changed on the cluster since
is said to be unknown, and never guessed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from reconciler.domain import buffer
from reconciler.domain.ledger import (
    Outside,
    Stretch,
    by_source,
    iterations_run,
    lineage,
    source_lineage,
    stretch,
    tokens,
    whole,
)
from reconciler.domain.selection import ends_with
from reconciler.model.datalist import DataList
from reconciler.model.observed import AttemptSeen
from reconciler.model.plan import Plan
from reconciler.model.recipe import Recipe
from reconciler.planner import adopted
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import Evidence
from reconciler.planner.lists import Lists
from reconciler.planner.strays import recipe_of

NO_LISTS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt."""

    stage: str
    attempt: str
    strategy: str
    outcome: str
    """`passed`, `failed`, `pilot`, `adopted` or `not judged`."""
    drawn: tuple[Stretch, ...]
    """Of each leg that was begun, all iterations that were trained."""
    lost: int
    """Of those iterations, how many are in no checkpoint: trained again after a kill, or not saved yet."""
    end: tuple[int, int] | None
    """(leg, iteration) of its newest complete checkpoint, or where the verdict says that it ended."""


@dataclass(frozen=True, slots=True)
class Books:
    """Every attempt that the workspace holds."""

    entries: tuple[Entry, ...]
    recipes: Mapping[str, Recipe]
    unknown: tuple[str, ...]
    """Attempts that are not counted, each with why."""
    outside: Outside = field(default_factory=dict)
    """Where adopted stages end."""

    @property
    def drawn(self) -> tuple[Stretch, ...]:
        """All that was ever drawn."""
        return tuple(part for entry in self.entries for part in entry.drawn)

    def entry(self, attempt: str) -> Entry | None:
        """The attempt of that name."""
        return next((entry for entry in self.entries if entry.attempt == attempt), None)


def books(desired: Desired, attempts: Sequence[AttemptSeen], lists: Mapping[str, str] = NO_LISTS) -> Books:
    """The ledger of all attempts and adopted stages, in the order of the campaign's stages; `lists` holds the digests
    of lists as they are now, which adopted stages are taken to have been trained on."""
    order = {stage.metadata.name: place for place, stage in enumerate(desired.stages)}
    made = adopted.recipes(desired, lists)
    outside = {where: recipe.attempt for where, recipe in made.items()}
    recipes = {recipe.attempt: recipe for recipe in made.values()}
    entries, unknown = [_adopted(recipe) for recipe in made.values()], []
    for seen in sorted(attempts, key=lambda a: (order.get(a.stage, len(order)), a.stage, a.attempt)):
        recipe = _sound(recipe_of(seen.stage, seen))
        if recipe is not None:
            recipes[seen.attempt] = recipe
        if seen.unread or recipe is None:
            why = f"could not be read: {seen.unread}" if seen.unread else "has no recipe that can be read back"
            unknown.append(f"attempt {seen.attempt} of {seen.stage} {why}")
        else:
            entries.append(_entry(seen, recipe))
    entries.sort(key=lambda entry: order.get(entry.stage, len(order)))
    return Books(tuple(entries), recipes, tuple(unknown), outside)


def _adopted(recipe: Recipe) -> Entry:
    drawn = tuple(stretch(recipe, leg, of.iterations) for leg, of in enumerate(recipe.legs))
    end = (len(recipe.legs) - 1, recipe.legs[-1].iterations)
    return Entry(recipe.stage, recipe.attempt, recipe.strategy, "adopted", drawn, 0, end)


def _sound(recipe: Recipe | None) -> Recipe | None:
    """A recipe whose numbers can be counted with: its digest proves that the file is whole, not that it makes sense."""
    if recipe is None:
        return None
    try:
        parts = [stretch(recipe, leg, of.iterations) for leg, of in enumerate(recipe.legs)]
        shares = [share for part in parts for share in part.mixture.values()]
        whole = all(sum(part.mixture.values()) == 1 and part.tokens >= 0 for part in parts)
    except (ValueError, ZeroDivisionError, KeyError, TypeError):
        return None
    makes_sense = whole and min(shares) >= 0 and recipe.source.leg >= 0 and len(recipe.taken) < len(parts)
    return recipe if parts and makes_sense else None


def _entry(seen: AttemptSeen, recipe: Recipe) -> Entry:
    evidence = Evidence(seen, (), ())
    verdict = evidence.verdict()
    judged = verdict.iteration if verdict is not None else 0
    drawn, lost, end = [], 0, None
    for index, (leg, trained) in enumerate(zip(recipe.legs, evidence.trained(recipe.legs), strict=True)):
        of = evidence.leg(index)
        # Of checkpoints that were deleted after the verdict, the verdict tells.
        kept = max(trained, min(leg.iterations, judged))
        judged = max(0, judged - leg.iterations)
        if index < len(recipe.taken):
            continue  # drawn by the attempt that trained it
        ran = max(iterations_run(of), kept)
        if ran:
            drawn.append(stretch(recipe, index, ran))
        if kept:
            end = (index, kept)
        lost += ran - kept
    outcome = "not judged" if verdict is None else "passed" if verdict.passed else "failed"
    outcome = "pilot" if recipe.pilot else outcome
    return Entry(seen.stage, seen.attempt, recipe.strategy, outcome, tuple(drawn), lost, end)


# --- inside lists

Inside = Callable[[str, DataList], Fraction]
"""(source, its list) → share of the list that is asked for."""


def of_file(end: str) -> Inside:
    """The files that `end` names, by the end of their prefix."""

    def share(label: str, data: DataList) -> Fraction:
        units = sum(unit for unit, prefix in zip(data.units, data.prefixes, strict=True) if ends_with(prefix, end))
        return Fraction(units, sum(data.units))

    return share


def of_corpus(name: str) -> Inside:
    """A dataset (`D1`), a corpus of one (`D1.wiki`), or a corpus of whatever dataset (`wiki`).

    A dataset's selection in the buffer is a part of it.
    """
    source, dot, corpus = name.partition(".")

    def share(label: str, data: DataList) -> Fraction:
        if name in (label, buffer.dataset_of(label)):
            return Fraction(1)
        ours = {name, corpus} if dot and source in (label, buffer.dataset_of(label)) else {name}
        units = sum(unit for unit, own in zip(data.units, data.corpora, strict=True) if own in ours)
        return Fraction(units, sum(data.units))

    return share


@dataclass(frozen=True, slots=True)
class Part:
    """How much of some stretches came from what is asked for."""

    tokens: Fraction
    unknown: tuple[tuple[Stretch, str], ...]
    """(stretch, source) whose list is another one now, or is not read: they may have drawn from it too."""


class Contents:
    """What is asked for, in the lists as they are now."""

    def __init__(self, desired: Desired, lists: Lists, inside: Inside) -> None:
        self._desired, self._lists = desired, lists
        self._shares = {label: inside(label, data) for label, data in lists.read.items()}

    @property
    def found(self) -> tuple[str, ...]:
        """Sources whose lists hold it."""
        return tuple(label for label, share in self._shares.items() if share)

    @property
    def size(self) -> Fraction:
        """Tokens that it holds in its datasets, by the datasets' sizes and the weights of their lists."""
        datasets = self._desired.catalog.datasets(self._desired.campaign)
        shares = ((dataset.spec.tokens, self._shares.get(symbol)) for symbol, dataset in datasets.items())
        return sum((size * share for size, share in shares if share is not None), Fraction(0))

    def part(self, stretches: Iterable[Stretch]) -> Part:
        """Tokens that were drawn from it."""
        drawn, unknown = Fraction(0), []
        for one in stretches:
            for label, share in one.mixture.items():
                if label in self._shares and self._lists.digests.get(label) == one.lists.get(label):
                    drawn += share * self._shares[label] * one.tokens
                elif one.tokens:
                    unknown.append((one, label))
        return Part(drawn, tuple(unknown))


@dataclass(frozen=True, slots=True)
class Taint:
    """What an attempt has to do with something that is to be removed."""

    entry: Entry
    own: Part
    """Drawn by its own jobs."""
    inherited: Part
    """In the weights that it started from."""

    @property
    def sure(self) -> bool:
        """Whether it drew from it, or descends from what did."""
        return bool(self.own.tokens or self.inherited.tokens)


def taints(of: Books, contents: Contents) -> tuple[Taint, ...]:
    """Attempts that drew from it or descend from those that did, and those of which that is not known."""
    found = []
    for entry in of.entries:
        inherited = source_lineage(of.recipes, entry.attempt, of.outside)
        taint = Taint(entry, contents.part(entry.drawn), contents.part(inherited))
        if taint.sure or taint.own.unknown or taint.inherited.unknown:
            found.append(taint)
    return tuple(found)


def seen_by(of: Books, attempt: str, leg: int, iteration: int) -> tuple[tuple[Stretch, ...], str]:
    """What a checkpoint was trained on, and where that begins."""
    found = lineage(of.recipes, attempt, leg, iteration, of.outside)
    return tuple(part for part in found.stretches if part.iterations), found.origin


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The one that the ledger is asked about, and what its weights were trained on."""

    stage: str
    attempt: str
    leg: int
    iteration: int
    seen: tuple[Stretch, ...]
    origin: str


def newest(of: Books, plan: Plan) -> Checkpoint | None:
    """The campaign's newest checkpoint; None before the first one."""
    for status in reversed(plan.stages):
        entry = of.entry(status.attempt)
        if entry is not None and entry.end is not None:
            return Checkpoint(entry.stage, entry.attempt, *entry.end, *seen_by(of, entry.attempt, *entry.end))
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """A corpus or a file: how much of it was drawn and seen, and what it taints."""

    name: str
    kind: str
    """`corpus` or `file`."""
    found: tuple[str, ...]
    """Sources whose lists hold it now."""
    size: Fraction
    drawn: Part
    seen: Part | None
    taints: tuple[Taint, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is shown."""

    campaign: str
    books: Books
    sizes: Mapping[str, int | None]
    """Source → tokens that it holds."""
    checkpoint: Checkpoint | None
    """None before the first one."""
    asked: Asked | None

    @property
    def seen(self) -> tuple[Stretch, ...]:
        """What the checkpoint was trained on."""
        return self.checkpoint.seen if self.checkpoint is not None else ()

    @property
    def sources(self) -> Iterator[tuple[str, int | None, int, int]]:
        """(source, size, drawn in all, seen by the checkpoint), in whole tokens that add up."""
        drawn = self.books.drawn
        by_all, by_it = whole(by_source(drawn), tokens(drawn)), whole(by_source(self.seen), tokens(self.seen))
        for label in dict.fromkeys((*by_all, *by_it)):
            yield label, self.sizes.get(label), by_all.get(label, 0), by_it.get(label, 0)
