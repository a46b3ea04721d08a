"""What must hold of the learning-rate policies of a strategy, and where its rates stand as far as manifests tell.

What hangs on the rung that an earlier stage was done by, or on a batch, is not known here; `resolve` looks at it then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from reconciler.domain.catalog import Catalog
from reconciler.domain.schedule import NamedRates
from reconciler.domain.stretches import Decay, DoesNotFit, Steps, Strip, decays
from reconciler.model.manifests import CampaignSpec, StageManifest
from reconciler.model.problems import Path, Problem, Where
from reconciler.model.quantities import Rate, format_tokens
from reconciler.model.strategy import ExternalSource, Leg, StageSource, Strategy

_UNREAD: Final = {
    "constant": ("to", "until", "over", "decay"),
    "continue": ("at", "to", "over", "decay", "warmup", "rewarm"),
    "cosine": ("decay",),
    "cooldown": (),
}
"""Fields that a shape does not look at."""
PARTS: Final = 10**6
"""Steps into which a stage is cut to see whether its legs fit: so many that rounding is no matter."""
FAR: Final = 10**7
"""Some schedule position that is past every warm-up."""


def forms(catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy) -> Iterator[Problem]:
    """Policies that contradict themselves, each other or their source, whatever the campaign's rates are."""
    source = manifest.spec.source_of(strategy)
    for number, leg in enumerate(strategy.legs):
        what = f"leg {number} of strategy {strategy.name}"
        yield from _unread(catalog, manifest, (*path, number), leg, what)
        if leg.lr.warmup > 0 and not leg.lr.rewarm and not (number == 0 and source == "random"):
            where = catalog.where(manifest, *path, number, "lr", "warmup")
            detail = f"{what} warms up, but does not start from random weights"
            yield Problem("M053", where, detail, fix="Leave warmup out, or add rewarm: true.")
        after = strategy.legs[number + 1] if number + 1 < len(strategy.legs) else None
        if leg.lr.until is not None and leg.lr.shape != "constant" and (after is None or after.lr.shape != "continue"):
            where = catalog.where(manifest, *path, number, "lr", "until")
            detail = f"{what} ends at {leg.lr.until} in the middle of its decay, and {_next(after)}"
            fix = "Add a leg with lr: {shape: continue} after it, or write the rate as `to`."
            yield Problem("M073", where, detail, fix=fix)
    yield from _nothing_to_continue(catalog, manifest, path, strategy)
    yield from _of_source(catalog, manifest, path, strategy)


def _unread(catalog: Catalog, manifest: StageManifest, path: Path, leg: Leg, what: str) -> Iterator[Problem]:
    given = {name for name in leg.lr.model_fields_set if getattr(leg.lr, name) not in (None, False)}
    for name in _UNREAD[leg.lr.shape]:
        if name in given:
            where = catalog.where(manifest, *path, "lr", name, key=True)
            detail = f"{what} is `{leg.lr.shape}`, which has no `{name}`"
            yield Problem("M072", where, detail, fix=f"Leave {name} out, or write another shape.")
    if leg.tokens is not None and leg.lr.until is not None:
        where = catalog.where(manifest, *path, "tokens")
        fix = "Leave tokens out: they follow from the rate at which the leg ends."
        yield Problem("M072", where, f"{what} has both `tokens` and `until`", fix=fix)


def _next(after: Leg | None) -> str:
    return "no leg goes on with it" if after is None else f"the next leg is `{after.lr.shape}`"


def _nothing_to_continue(
    catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy
) -> Iterator[Problem]:
    source = manifest.spec.source_of(strategy)
    for group in decays(strategy.legs):
        number, why, fix = group.first + 1, f"leg {group.first} holds its rate", "Write shape: constant, or a decay."
        if group.inherited:
            number = 0
            if isinstance(source, StageSource):
                if source.checkpoint == "final" or not isinstance(source.checkpoint, str):
                    continue
                why = f"its source is a {source.checkpoint} checkpoint, which is in no decay"
                fix = "Write checkpoint: final in its source, whose last leg has a decay that goes on `over` more."
            else:
                why, fix = "it starts from no stage of the campaign", "Write a shape with its `at` and `to`."
        elif group.legs[0].lr.shape != "constant" or len(group.legs) == 1:
            continue
        where = catalog.where(manifest, *path, number, "lr", "shape")
        yield Problem("M074", where, f"leg {number} of strategy {strategy.name}: {why}", fix=fix)


def _of_source(catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy) -> Iterator[Problem]:
    source = manifest.spec.source_of(strategy)
    if isinstance(source, StageSource) or (isinstance(source, ExternalSource) and source.rate is not None):
        return
    random = source == "random"
    for number, leg in enumerate(strategy.legs):
        for name in ("at", "to", "until"):
            rate = getattr(leg.lr, name)
            if rate is not None and rate.of == "lrSource":
                where = catalog.where(manifest, *path, number, "lr", name)
                detail = f"leg {number} of strategy {strategy.name} is of lrSource, but "
                detail += "it starts from random weights" if random else "its source says no rate"
                fix = "Write a part of lrMax." if random else "Add rate to the source, as its last log line has it."
                yield Problem("M075", where, detail, str(rate), fix=fix)


def tokens(catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy) -> Iterator[Problem]:
    """The legs' tokens against the stage's: declared ones, those that follow from a rate, and the rest."""
    legs = [(*path, number) for number in range(len(strategy.legs))]
    unsure = [("spec", "tokens"), *((*leg, "tokens") for leg in legs), *((*leg, "lr", "until") for leg in legs)]
    if any(catalog.doubts(manifest, *at) for at in unsure):
        return
    budget, name = manifest.spec.tokens, f"strategy {strategy.name}"
    declared = [leg.tokens for leg in strategy.legs if leg.tokens is not None]
    rest = [number for number, leg in enumerate(strategy.legs) if leg.tokens is None and leg.lr.until is None]
    by_rate = any(leg.lr.until is not None for leg in strategy.legs)
    where = catalog.where(manifest, *path, key=True)
    expected = f"{format_tokens(budget)}, the stage's tokens"
    if len(rest) > 1:
        which = ", ".join(str(number) for number in rest)
        detail = f"{name}: legs {which} leave their tokens out"
        yield Problem("M048", where, detail, expected="at most one leg without tokens")
    elif (rest or by_rate) and sum(declared) >= budget:
        detail = f"{name}: nothing is left for leg {rest[0]}" if rest else f"{name}: nothing is left"
        yield Problem("M048", where, detail, format_tokens(sum(declared)), f"less than {expected}")
    elif by_rate:
        told = _by_rate(decays(strategy.legs), rest)
        if told:
            yield Problem("M048", where, f"{name}: {told}", expected="one leg without tokens, after the last `until`")
    elif not rest and sum(declared) != budget:
        yield Problem("M048", where, name, f"a sum of {format_tokens(sum(declared))}", expected)


def _by_rate(groups: tuple[Decay, ...], rest: list[int]) -> str:
    """Why legs that end by their rates leave open how long they are; empty if they do not."""
    if not rest:
        return "a leg that ends by its rate has its tokens from that, and no other leg takes what is left"
    for group in (group for group in groups if group.by_rate):
        last = group.first + group.by_rate - 1
        if rest[0] in group.numbers and rest[0] < last:
            return f"leg {rest[0]} leaves its tokens out, but leg {last} of the same decay ends by its rate"
        if not group.stated and rest[0] not in group.numbers:
            return f"leg {last} ends by the rate of a decay whose length is open; leave tokens out in leg {last + 1}"
    return ""


# --- rates -----------------------------------------------------------------------------------------------------------

SOURCES_FOLLOWED_MAX: Final = 100
"""Sources of sources that are followed back; what lies further is found out when the stage is resolved."""
Known = dict[tuple[str, str], Fraction | None]
"""(stage, which checkpoint) → the rate there, as far as it was worked out."""


def value(rate: Rate, campaign: CampaignSpec, source: Fraction | None) -> Fraction | None:
    """A rate as a number; None for one of the source's where that is not known."""
    if rate.of == "lrSource" and source is None:
        return None
    return rate.resolve(campaign.learning_rate.max, campaign.learning_rate.final, source)


def rates(
    catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy, campaign: CampaignSpec, known: Known
) -> Iterator[Problem]:
    """Rates that rise where they should fall, jump, or are never reached; `known` is shared by a stage's strategies."""
    of = _Rates(catalog, manifest, path, strategy, campaign, source_rate(catalog, manifest, strategy, known))
    found = [*of.falls(), *of.jumps()]
    yield from found
    if not any(problem.code in ("M058", "M076", "M077") for problem in found):
        yield from of.lengths()


def source_rate(catalog: Catalog, manifest: StageManifest, strategy: Strategy, known: Known) -> Fraction | None:
    """Where the source checkpoint of a strategy stands; None where that hangs on how an earlier stage is done."""
    source, name = manifest.spec.source_of(strategy), manifest.spec.campaign
    if isinstance(source, ExternalSource):
        return None if source.rate is None else Fraction(source.rate)
    if not isinstance(source, StageSource):
        return None
    campaign = catalog.campaign(name).spec
    peak = Fraction(campaign.learning_rate.max) if source.checkpoint == "pre-cooldown" else None
    if source.stage not in catalog.stage_names(name) or strategy.batch is not None:
        return peak
    if not isinstance(source.checkpoint, str):
        return None
    made_by, key = catalog.stage(name, source.stage), (source.stage, source.checkpoint)
    if catalog.doubts(made_by, "spec", "strategies") or catalog.doubts(made_by, "spec", "source"):
        return peak
    if key not in known and len(known) < SOURCES_FOLLOWED_MAX:
        known[key] = None  # so that sources in a circle, which are told elsewhere, come to an end
        ends: set[Fraction | None] = set()
        for other in made_by.spec.strategies:
            before = source_rate(catalog, made_by, other, known)
            varied = other.trial is not None and bool(other.trial.matrix.divisor or other.trial.matrix.rate)
            left = set(_checkpoint_rates(other, campaign, before, source.checkpoint))
            ends |= {None} if other.batch is not None or varied else left
        known[key] = ends.pop() if len(ends) == 1 else (None if ends else peak)
    return known.get(key)


def _checkpoint_rates(
    strategy: Strategy, campaign: CampaignSpec, source: Fraction | None, wanted: str
) -> Iterator[Fraction | None]:
    """The rate at the checkpoint with the wanted property, if a strategy leaves one."""
    stands: list[tuple[str, Fraction | None]] = []
    rewarmed = False
    for group in decays(strategy.legs):
        first = group.legs[0].lr
        rewarmed = rewarmed or first.rewarm
        begins = value(first.at, campaign, source)
        if first.shape == "constant":
            high = begins is not None and begins >= Fraction(campaign.learning_rate.max)
            stands.append(("pre-cooldown" if high or rewarmed else "converged", begins))
            continue
        for number, leg in enumerate(group.legs):
            ended = leg is group.legs[-1] and not group.stated and leg.lr.until is None
            ends = None if leg.lr.until is None else value(leg.lr.until, campaign, source)
            if ended:
                ends = value(first.to, campaign, source)
            # A decay of a stated length may or may not be over where its last leg ends.
            open_end = group.stated and number == len(group.legs) - 1
            stands.append(("converged" if ended or open_end else "between", ends))
    if wanted == "final":
        yield stands[-1][1]
    else:
        yield from [rate for how, rate in reversed(stands) if how == wanted][:1]


@dataclass(frozen=True, slots=True)
class _Rates:
    """The rates of one strategy."""

    catalog: Catalog
    manifest: StageManifest
    path: Path
    strategy: Strategy
    campaign: CampaignSpec
    stands: Fraction | None
    """Where its source stands."""

    def value(self, rate: Rate) -> Fraction | None:
        return value(rate, self.campaign, self.stands)

    def values(self, *rates: Rate) -> tuple[Fraction | None, ...]:
        """Several rates that are compared: as parts of the source's where they all are, whether it is known or not."""
        if self.stands is None and all(rate.of == "lrSource" for rate in rates):
            return tuple(rate.resolve(Decimal(1), Decimal(1), Decimal(1)) for rate in rates)
        return tuple(self.value(rate) for rate in rates)

    def where(self, number: int, name: str) -> Where:
        return self.catalog.where(self.manifest, *self.path, number, "lr", name)

    def falls(self) -> Iterator[Problem]:
        """A decay falls to its `to`, and each `until` is on the way."""
        for group in decays(self.strategy.legs):
            first, number = group.legs[0].lr, group.first
            if group.inherited or first.shape == "constant":
                continue
            detail = f"leg {number} of strategy {self.strategy.name}"
            high, low = self.values(first.at, first.to)
            between = f"from {first.at} to {first.to}"
            if high is not None and low is not None and low > high:
                yield Problem("M058", self.where(number, "to"), detail, between, "a rate that falls")
                continue
            exponential = first.shape == "cooldown" and first.decay == "exponential"
            if exponential and low is not None and (low <= 0 or (high is not None and low >= high)):
                expected = "a `to` above 0 and below `at`"
                fix = "Write a `to` above 0, such as lrMax/100, or decay: 1-sqrt, which comes to 0."
                yield Problem("M077", self.where(number, "to"), detail, between, expected, fix)
            yield from self.untils(group)

    def untils(self, group: Decay) -> Iterator[Problem]:
        """Each `until` lies below the one before it and above the decay's end."""
        first, above = group.legs[0].lr, group.legs[0].lr.at
        for number, leg in zip(group.numbers, group.legs, strict=True):
            until = leg.lr.until
            if until is None:
                continue
            high, rate, low = self.values(above, until, first.to)
            over = high is not None and rate is not None and rate >= high
            under = low is not None and rate is not None and rate <= low
            if over or under:
                detail = f"leg {number} of strategy {self.strategy.name}"
                expected = f"a rate below {above} and above {first.to}"
                yield Problem("M076", self.where(number, "until"), detail, str(until), expected)
                return
            above = until

    def jumps(self) -> Iterator[Problem]:
        """A leg begins where what it continues from ended, unless it rewarms."""
        source, first = self.manifest.spec.source_of(self.strategy), self.strategy.legs[0].lr
        known, stands = self.value(first.at), self.stands
        stays = first.shape == "continue" or str(first.at) == "lrSource" or (stands is not None and known == stands)
        converged = isinstance(source, StageSource) and source.checkpoint == "converged"
        # What the leg before ended at, as a number and as a person would write it.
        peak = Fraction(self.campaign.learning_rate.max)
        ended, then = (peak, "lrMax") if source == "random" or stands == peak else (stands, "lrSource")
        if converged or stays or self.strategy.batch is not None:
            ended = known
        for group in decays(self.strategy.legs):
            leg, number = group.legs[0].lr, group.first
            begins = self.value(leg.at)
            differs = ended is not None and begins is not None and ended != begins
            # A part of an unknown rate is another rate all the same.
            part = number == 0 and stands is None and leg.at.of == "lrSource" and not (stays or converged)
            if (differs or part) and not leg.rewarm and not group.inherited:
                before = "the source" if number == 0 else f"leg {number - 1}"
                at = f"{float(ended):.4g}" if number == 0 and then == "lrSource" and ended is not None else then
                yield Problem(
                    "M056",
                    self.where(number, "at"),
                    f"leg {number} of strategy {self.strategy.name} begins at {leg.at}, but {before} ended at {at}",
                    str(leg.at),
                    then,
                    f"Write at: {then}, or add rewarm: true if the rate is meant to change.",
                )
            last = leg.at if leg.shape == "constant" else leg.to
            ended = None if group.stated and leg.shape != "constant" else self.value(last)
            then = str(last)

    def lengths(self) -> Iterator[Problem]:
        """Whether the legs fit their decays; not for rates or a decay that only the source tells."""
        legs, budget, given = self.strategy.legs, self.manifest.spec.tokens, self.campaign.learning_rate
        asks = [rate for leg in legs for rate in (leg.lr.at, leg.lr.to, leg.lr.until) if rate is not None]
        stated = any(leg.lr.until is not None or leg.lr.over is not None for leg in legs)
        unknown = self.stands is None and any(rate.of == "lrSource" for rate in asks)
        doubtful = any(self.catalog.doubts(self.manifest, *at) for at in (("spec", "tokens"), self.path))
        if not stated or unknown or doubtful or legs[0].lr.shape == "continue":
            return
        whose = (self.catalog, self.manifest, self.path, self.strategy)
        if any(forms(*whose)) or any(tokens(*whose)):
            return  # told already
        named = NamedRates(given.max, given.final, None if self.stands is None else float(self.stands))
        begins = 0 if self.manifest.spec.source_of(self.strategy) == "random" else FAR
        try:
            Strip(named, Steps(max(1, budget // PARTS), 1), begins).stretches(legs, budget)
        except DoesNotFit as problem:
            where = self.catalog.where(self.manifest, *self.path, key=True)
            fix = "Change the tokens of the stage or its legs, `over` or `until`."
            yield Problem("M078", where, f"strategy {self.strategy.name}: {problem}", fix=fix)
