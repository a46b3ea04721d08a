"""The legs of a strategy → how long each is, where its schedule stands, and which curve it follows. Pure.

A decay and every `continue` after it share one curve (cookbook, Strategy 4: the data is switched in the middle of a
decay). Such a decay is as long as its legs together, or as `over` says; a leg that ends by its rate (`until`) has its
tokens from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from reconciler.domain import schedule
from reconciler.domain.budget import iterations_for, legs_tokens, off_interval
from reconciler.domain.schedule import NamedRates
from reconciler.model.quantities import approximate_tokens
from reconciler.model.recipe import Curve, Shape
from reconciler.model.strategy import Leg

SLACK: Final = 2
"""Iterations by which budgets, each rounded to whole steps off the save interval, may miss the end of a decay."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What turns tokens into iterations."""

    tokens: int
    """Of one iteration: global batch × sequence length."""
    save_every: int
    """Iterations between saves; no leg ends on one."""

    def whole(self, tokens: int) -> int:
        """Iterations that train `tokens`, without regard to saves."""
        return max(1, -(-tokens // self.tokens))

    def of(self, tokens: int) -> int:
        """Iterations of a leg."""
        return iterations_for(tokens, self.tokens, self.save_every)

    def off(self, iterations: int) -> int:
        """The nearest number of iterations from here on that ends on no save."""
        return off_interval(iterations, self.save_every)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One leg with nothing left open."""

    tokens: int
    iterations: int
    position: int
    """Schedule position at its start."""
    curve: Curve


class DoesNotFit(Exception):
    """Why legs cannot be laid out; the message is for the person who wrote them."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Legs that share one curve; one leg, where nothing is continued."""

    first: int
    """Number of the first of them in the strategy."""
    legs: tuple[Leg, ...]

    @property
    def numbers(self) -> range:
        """Numbers of its legs in the strategy."""
        return range(self.first, self.first + len(self.legs))

    @property
    def by_rate(self) -> int:
        """How many of the legs come before the last one that ends by its rate, that one included."""
        return max((number + 1 for number, leg in enumerate(self.legs) if leg.lr.until is not None), default=0)

    @property
    def inherited(self) -> bool:
        """Whether it is the source's."""
        return self.legs[0].lr.shape == "continue"

    @property
    def stated(self) -> bool:
        """Whether its length does not follow from its legs."""
        return self.inherited or self.legs[0].lr.over is not None


def decays(legs: Sequence[Leg]) -> tuple[Decay, ...]:
    """The legs of a strategy by the curve that they share."""
    firsts = [number for number, leg in enumerate(legs) if number == 0 or leg.lr.shape != "continue"]
    ends = [*firsts[1:], len(legs)]
    return tuple(Decay(first, tuple(legs[first:end])) for first, end in zip(firsts, ends, strict=True))


@dataclass(frozen=True, slots=True)
class Strip:
    """What the legs are laid out on."""

    rates: NamedRates
    steps: Steps
    position: int
    """Where the schedule stands before the first leg."""
    curve: Curve | None = None
    """The source's, for a first leg that continues it."""

    def stretches(self, legs: Sequence[Leg], budget: int) -> tuple[Stretch, ...]:
        """Every leg of a strategy of `budget` tokens.

        Raises:
            DoesNotFit: the policies contradict each other or the budget.
        """
        groups, position = decays(legs), self.position
        tokens = self._tokens(groups, budget)
        found: list[Stretch] = []
        for group in groups:
            own = [tokens[number] for number in group.numbers]
            position = 0 if group.legs[0].lr.rewarm else position
            curve, counts = self._laid(group, own, position)
            for share, count in zip(own, counts, strict=True):
                found.append(Stretch(share, count, position, curve))
                position += count
        return tuple(found)

    def _tokens(self, groups: Sequence[Decay], budget: int) -> tuple[int, ...]:
        """The budget over the legs: as declared, as a decay comes to by its rates, and one leg takes the rest."""
        shares = [leg.tokens for group in groups for leg in group.legs]
        # Decays of a stated length first: what their legs come to hangs on no other leg.
        for group in sorted((group for group in groups if group.by_rate), key=lambda group: not group.stated):
            position = 0 if group.legs[0].lr.rewarm else self.position
            if group.stated:
                counts = self._by_rate(group, self._stated(group, group.legs[0].tokens, position), position)
            else:
                outside = sum(share or 0 for number, share in enumerate(shares) if number not in group.numbers)
                counts = self._shared(group, budget - outside, position)[1]
            for number, leg, count in zip(group.numbers, group.legs, counts, strict=False):
                shares[number] = count * self.steps.tokens if leg.lr.until is not None else shares[number]
        try:
            return legs_tokens(budget, tuple(shares))
        except ValueError:
            come_to = approximate_tokens(sum(share or 0 for share in shares))
            left = "; nothing is left for the one that takes the rest" if None in shares else ""
            raise DoesNotFit(f"its legs take {come_to} of {approximate_tokens(budget)} tokens{left}") from None

    def _laid(self, group: Decay, tokens: Sequence[int], position: int) -> tuple[Curve, list[int]]:
        """The curve that the legs share, and the iterations of each."""
        if group.stated:
            curve = self._stated(group, tokens[0], position)
            return curve, self._along(group, curve, tokens, position)
        if group.by_rate:
            return self._shared(group, sum(tokens), position)
        counts = [self.steps.of(share) for share in tokens]
        curve = self._declared(group, position, counts[0])
        if curve.shape is not Shape.CONSTANT:
            return replace(curve, end=position + sum(counts)), counts
        if len(counts) > 1:
            raise DoesNotFit(f"leg {group.first + 1} continues a decay, but leg {group.first} holds its rate")
        return curve, counts

    def _declared(self, group: Decay, position: int, iterations: int) -> Curve:
        """The curve that the first leg declares, with rates that can be."""
        policy, leg = group.legs[0].lr, f"leg {group.first}"
        made = schedule.curve_of(policy, self.rates, position=position, iterations=iterations)
        if made.high <= 0 and policy.at.of == "lrSource":
            raise DoesNotFit(f"{leg} begins at {policy.at}, but its source stands at 0; write `at` as a part of lrMax")
        if made.low > made.high:
            raise DoesNotFit(f"{leg} falls from {policy.at}, {made.high:.4g}, to {policy.to}, which is {made.low:.4g}")
        if made.shape is Shape.EXPONENTIAL and not 0 < made.low < made.high:
            raise DoesNotFit(f"{leg}: an exponential from {made.high:.4g} never comes to {policy.to}, {made.low:.4g}")
        return made

    def _stated(self, group: Decay, share: int | None, position: int) -> Curve:
        """The source's curve, or one that takes `over`; `share` is the first leg's tokens, where they are known."""
        if group.inherited:
            if self.curve is None or group.first or schedule.ended(self.curve, position):
                raise DoesNotFit(f"leg {group.first} continues a decay, but its source is in none")
            return self.curve
        first = group.legs[0].lr
        length = self.steps.whole(first.over or 0)
        # Warm-up is a share of the leg; of the decay, where the leg's own length follows from that.
        warms_over = length if share is None or first.until is not None else self.steps.of(share)
        made = self._declared(group, position, warms_over)
        return replace(made, end=made.start + length)

    def _by_rate(self, group: Decay, curve: Curve, position: int) -> list[int]:
        """Iterations of the legs up to the last that ends by its rate: each ends where the rate has come down to it."""
        counts: list[int] = []
        for number, leg in zip(group.numbers, group.legs[: group.by_rate], strict=False):
            if leg.lr.until is not None:
                begins, rate = schedule.rate_at(curve, max(position, curve.warmup)), self.rates.of(leg.lr.until)
                if not curve.low < rate < begins:
                    between = f"its first rate, {begins:.4g}, and the decay's last, {curve.low:.4g}"
                    raise DoesNotFit(f"leg {number} falls until {leg.lr.until}, {rate:.4g}, not between {between}")
                count = self.steps.off(schedule.reached(curve, rate) - position)
            elif leg.tokens is not None:
                count = self.steps.of(leg.tokens)
            else:
                raise DoesNotFit(f"leg {number} needs its tokens, since a leg after it ends by its rate")
            counts.append(count)
            position += count
        return counts

    def _along(self, group: Decay, curve: Curve, tokens: Sequence[int], position: int) -> list[int]:
        """Iterations of every leg along a decay of a stated length; a leg that about ends it ends it."""
        counts = self._by_rate(group, curve, position)
        position += sum(counts)
        for number, share in list(zip(group.numbers, tokens, strict=True))[group.by_rate :]:
            count, left = self.steps.of(share), curve.end - position
            if count > left + SLACK:
                spare = approximate_tokens(max(0, left) * self.steps.tokens)
                long = f"leg {number} has {approximate_tokens(share)} tokens"
                raise DoesNotFit(f"{long}, but its decay is over after {spare} of them")
            count = self.steps.off(left) if 0 < left <= count + SLACK else count
            counts.append(count)
            position += count
        return counts

    def _shared(self, group: Decay, budget: int, position: int) -> tuple[Curve, list[int]]:
        """A decay of `budget` tokens, as long as its legs, some of which end by their rates."""
        tail = group.legs[group.by_rate :]
        if [leg.tokens for leg in tail].count(None) != 1:
            raise DoesNotFit(f"after leg {group.first + group.by_rate - 1} one leg of its decay must leave tokens out")
        about, counts = self.steps.whole(budget), list[int]()
        # No leg may end on a save: the whole is moved by a step or two until none does.
        for total in sorted(range(max(1, about - 3), about + 4), key=lambda total: abs(total - about)):
            warms_over = total if group.legs[0].tokens is None else self.steps.of(group.legs[0].tokens)
            curve = replace(self._declared(group, position, warms_over), end=position + total)
            counts = self._by_rate(group, curve, position)
            lengths = [None if leg.tokens is None else self.steps.of(leg.tokens) for leg in tail]
            rest = total - sum(counts) - sum(length or 0 for length in lengths)
            if rest >= 1 and self.steps.off(rest) == rest:
                return curve, counts + [rest if length is None else length for length in lengths]
        spent = approximate_tokens(sum(counts) * self.steps.tokens)
        raise DoesNotFit(f"leg {group.first} and those that go on with it take {spent} of {approximate_tokens(budget)}")
