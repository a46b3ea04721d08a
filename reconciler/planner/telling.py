"""Who has been told what, so that each thing is told once however many look. Pure; `record/marks` keeps it.

Whoever is about to tell claims it first, and says afterwards that it was told. A claim that nobody has settled is
free again after a while: then the one who made it was killed, and the notice is told under the same name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.model.notice import Notice
from reconciler.planner.notices import Seen, absorbed, happened, lasts, over

CLAIM_S: Final = 900.0
KEYS_MAX: Final = 50_000
KEY_CHARS_MAX: Final = 1000
_OVER: Final = "over "
"""Begins a claim to tell that something is over."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody is about to tell something."""

    name: str
    """Of the notice."""
    by: str
    until_s: float
    """0 once it was tried in vain: anybody may try again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What has been told of one campaign in one workspace by one channel."""

    told: frozenset[str] = frozenset()
    """Keys. What has happened once stays; what lasts is here until it was told that it is over."""
    claims: Mapping[str, Claim] = field(default_factory=dict)

    def to_file(self) -> str:
        """The text of the mark, made to be read in a diff."""
        claims = {key: [c.name, c.by, c.until_s] for key, c in sorted(self.claims.items())}
        return json.dumps({"told": sorted(self.told), "claims": claims}, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Due:
    """A notice to be told now."""

    notice: Notice
    name: str
    """Equal when it is told again, so that a receiver can drop it."""
    adds: frozenset[str] = frozenset()
    """Keys that are told with it."""
    removes: frozenset[str] = frozenset()

    @property
    def claimed_as(self) -> str:
        return f"{_OVER}{self.notice.key}" if self.notice.resolved else self.notice.key


def read_mark(text: str) -> Mark | None:
    """Read a mark back; None for what is none, and of one that has no end, the beginning."""
    try:
        body = json.loads(text)
        told = [key for key in body["told"] if isinstance(key, str) and len(key) <= KEY_CHARS_MAX]
        claims = {str(key): Claim(str(n), str(by), float(until)) for key, (n, by, until) in body["claims"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    return Mark(frozenset(told[:KEYS_MAX]), dict(list(claims.items())[:KEYS_MAX]))


def both(one: Mark, other: Mark) -> Mark:
    """Two that grew apart while they could not be put together: what either has told is told."""
    return Mark(one.told | other.told, {**one.claims, **other.claims})


def started(seen: Seen, found: Sequence[Notice], mark: Mark | None, *, newest: bool) -> Mark:
    """The mark to go on from. In the first one, what was over before anybody asked to be told counts as told. Later on,
    what lasted is let go where something that says more is told in place of its end."""
    if mark is None:
        return Mark(happened(seen))
    still = {notice.key for notice in found}
    if not newest:
        return mark
    ended = {key for key in mark.told - still if lasts(key) and isinstance(over(seen, key), str)}
    # What was over before anybody could be told is another thing when it comes again, under another name.
    vain = {key for key, claim in mark.claims.items() if lasts(key) and key not in still and not claim.until_s}
    return Mark(mark.told - ended, {key: claim for key, claim in mark.claims.items() if key not in vain})


def due(
    seen: Seen, found: Sequence[Notice], mark: Mark, *, before: str, by: str, now_s: float, newest: bool = True
) -> tuple[Due, ...]:
    """What is to be told now that nobody has told, nor is about to.

    `before` names the state of the mark, and so the occasion; `newest` says that nobody has told anything since before
    the look: else a look may be the older one, and nothing is concluded from it about what lasts.
    """
    found = [notice for notice in found if newest or not lasts(notice.key)]
    new = [notice for notice in found if notice.key not in mark.told]
    with_hold = absorbed(new)
    told_with = {key for keys in with_hold.values() for key in keys}
    dues = [
        Due(notice, "", adds=frozenset({notice.key, *with_hold.get(notice.key, ())}))
        for notice in new
        if notice.key not in told_with
    ]
    if newest:
        dues += _ended(seen, found, mark)
    named = (_named(each, mark, before, by, now_s) for each in dues)
    return tuple(each for each in named if each is not None)


def _ended(seen: Seen, found: Sequence[Notice], mark: Mark) -> list[Due]:
    still = {notice.key for notice in found}
    ended = []
    for key in sorted(key for key in mark.told - still if lasts(key)):
        came_to = over(seen, key)
        if isinstance(came_to, Notice):
            ended.append(Due(came_to, "", removes=frozenset({key})))
    return ended


def _named(each: Due, mark: Mark, before: str, by: str, now_s: float) -> Due | None:
    claim = mark.claims.get(each.claimed_as)
    if claim is None:
        occasion = json.dumps([before, each.notice.campaign, each.claimed_as])
        return replace(each, name=hashlib.sha256(occasion.encode()).hexdigest()[:16])
    # One that is further off than a claim lasts, whatever the clocks of two machines, is nobody's.
    free = claim.by == by or not now_s < claim.until_s <= now_s + 2 * CLAIM_S
    return replace(each, name=claim.name) if free else None


def claimed(mark: Mark, dues: Sequence[Due], by: str, now_s: float) -> Mark:
    """The mark with a claim to each of these."""
    return replace(
        mark, claims={**mark.claims, **{d.claimed_as: Claim(d.name, by, round(now_s + CLAIM_S)) for d in dues}}
    )


def settled(mark: Mark, sent: Sequence[Due], unsent: Sequence[Due]) -> Mark:
    """The mark once some were told and the others were not."""
    told = (mark.told | frozenset().union(*(d.adds for d in sent))) - frozenset().union(*(d.removes for d in sent))
    claims = {key: c for key, c in mark.claims.items() if key not in {d.claimed_as for d in sent}}
    freed = {d.claimed_as: Claim(d.name, "", 0) for d in unsent}
    return Mark(told, {**claims, **freed})
