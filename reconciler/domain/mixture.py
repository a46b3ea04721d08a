"""Mixtures: weights × data lists → one list and its ledger; terms such as `buffer` → dataset symbols. All exact.

A mixture's weights sum to exactly 1 or it is refused: rescaling them unasked would train on something nobody wrote.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from reconciler.model.datalist import DataList, apportion

LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Source labels have neither `.` nor `+`, so that a corpus label up to its first `.` names its sources."""


class MixCode(StrEnum):
    """Why a mixture was refused; from MIX100 what was noticed about one that was not."""

    EMPTY = "MIX001"
    LABEL = "MIX002"
    NEGATIVE = "MIX003"
    SUM = "MIX004"
    LEFT_OUT = "MIX100"
    SHARED = "MIX101"


MEANINGS: Final = {
    "MIX001": "A mixture has at least one source, with a weight above 0.",
    "MIX002": "A label becomes the first part of corpus names, so it is short, without `.` and `+`, and occurs once.",
    "MIX003": "Weights are 0 to 1.",
    "MIX004": "Weights sum to exactly 1. They are never rescaled unasked: that would train on what nobody wrote.",
    "MIX005": "A weight that is no plain decimal such as 0.05.",
    "MIX006": "The output is there already with other content, or cannot be written; nothing is overwritten.",
    "MIX100": "A source of weight 0 is left out of the list.",
    "MIX101": "Two sources hold the same file: its weights are added, so that it is read once.",
    "MIX102": "The weights were rescaled to sum to 1, as was asked for.",
    "MIX103": "How often a source is seen is not known, since its tokens are not.",
    "MIX104": "The output holds exactly this list already and was left as it is.",
}
"""What every code of a mixture means, those of `reconcile mix` too."""


@dataclass(frozen=True, slots=True)
class MixFinding:
    """One reason for refusing a mixture, or one notice."""

    code: MixCode
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One weighted list of a mixture."""

    label: str
    """Unique in the mixture; becomes the first part of its corpus labels (`D0.wiki`)."""
    weight: Fraction
    """Share of all tokens drawn from this source, 0 to 1."""
    list: DataList
    tokens: int | None = None
    """Tokens the source holds, when known."""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What a mixture takes from one source."""

    label: str
    weight: Fraction
    rows: int
    """Rows of the source that are in the mixed list; those shared with another source count for both."""
    tokens_drawn: int | None
    """Of the token budget; None without one. All sources' add up to exactly the budget."""
    epochs: Fraction | None
    """Passes over the source; None without a budget or when its size is not known."""


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that several sources list: one row in the mixed list, with the share that each source has in it."""

    prefix: str
    corpus: str
    parts: tuple[tuple[str, Fraction], ...]
    """(source label, share of all tokens drawn); they sum to the row's share."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mixture's list, whose corpora say which source they came from, and its ledger."""

    list: DataList
    ledger: tuple[SourceShare, ...]
    """One entry a source, in the order given; the weights sum to exactly 1."""
    shared: tuple[SharedFile, ...] = ()
    notices: tuple[MixFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class MixRefused:
    """Why there is no mixture; at least one problem."""

    problems: tuple[MixFinding, ...]


def mix(sources: Sequence[Source], *, token_budget: int | None = None) -> Mixed | MixRefused:
    """Mix lists: a row's share is its source's weight times its share in that source's list.

    A file that several sources list becomes one row at its first place, with the shares added. Weights sum to exactly
    1, each 0 or more; a source of weight 0 is left out of the list and noticed. With `token_budget` (tokens) the ledger
    has the tokens drawn from each source and, where sizes are known, the epochs.
    """
    problems = _problems(sources)
    if problems:
        return MixRefused(tuple(problems))
    used = [source for source in sources if source.weight > 0]
    mixed, shared = _merged(used, *_concatenated(used))
    notices = [
        MixFinding(MixCode.LEFT_OUT, f"{source.label} has weight 0 and is left out ({len(source.list):,} rows)")
        for source in sources
        if source.weight == 0
    ]
    if shared:
        found = f"{len(shared):,} file(s) are listed by more than one source; their shares were added, first "
        notices.append(MixFinding(MixCode.SHARED, found + shared[0].prefix))
    return Mixed(mixed, _ledger(sources, token_budget), shared, tuple(notices))


def weight_problems(weights: Mapping[str, Fraction]) -> list[MixFinding]:
    """What is wrong with the weights of a mixture: below 0, or a sum that is not exactly 1."""
    found = [
        MixFinding(MixCode.NEGATIVE, f"weight {decimal(weight)} of {name} is negative", "Weights are 0 to 1.")
        for name, weight in weights.items()
        if weight < 0
    ]
    total = sum(weights.values(), Fraction(0))
    if total != 1:
        off = f"{decimal(abs(total - 1))} too {'much' if total > 1 else 'little'}"
        message = f"weights sum to {decimal(total)}, which is {off}; they must sum to exactly 1"
        found.append(MixFinding(MixCode.SUM, message, "Change one of them; weights are never rescaled unasked."))
    return found


def rescaled(weights: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Weights in the same ratios that sum to exactly 1, for when somebody asks. Raises ValueError when all are 0."""
    total = sum(weights, Fraction(0))
    if total <= 0 or min(weights) < 0:
        raise ValueError("only weights of 0 and more, not all 0, can be rescaled")
    return tuple(weight / total for weight in weights)


def decimal(value: Fraction) -> str:
    """An exact decimal where twelve places hold one, else the fraction: 1/3 → `1/3`."""
    scaled = value * 10**12
    if scaled.denominator != 1:
        return str(value)
    whole, part = divmod(abs(scaled.numerator), 10**12)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{part:012d}".rstrip("0").rstrip(".")


def _problems(sources: Sequence[Source]) -> list[MixFinding]:
    if not sources:
        return [MixFinding(MixCode.EMPTY, "no source; a mixture has at least one", "Give a weight and a list.")]
    found = []
    seen: set[str] = set()
    for source in sources:
        if LABEL.fullmatch(source.label) is None:
            message = f"source label {source.label!r}; expected letters, digits, - and _ (63 at most)"
            found.append(MixFinding(MixCode.LABEL, message, "Labels become part of corpus names."))
        if source.label in seen:
            fix = "Labels tell the ledger's sources apart: rename one, or add the weights."
            found.append(MixFinding(MixCode.LABEL, f"source label {source.label!r} occurs twice", fix))
        seen.add(source.label)
    if len(seen) == len(sources):
        found += weight_problems({source.label: source.weight for source in sources})
    return found


def _concatenated(sources: Sequence[Source]) -> tuple[list[int], int]:
    """Every source's rows one after the other: shares as whole units of 1/scale, and that scale."""
    # Reduced first: the fewer digits a source's total has, the fewer every row of the mixture has.
    divisors = [math.gcd(*source.list.units) for source in sources]
    totals = [sum(source.list.units) // divisor for source, divisor in zip(sources, divisors, strict=True)]
    factors = [source.weight / total for source, total in zip(sources, totals, strict=True)]
    scale = math.lcm(*(factor.denominator for factor in factors))
    units: list[int] = []
    for source, divisor, factor in zip(sources, divisors, factors, strict=True):
        rows = source.list.units if divisor == 1 else [unit // divisor for unit in source.list.units]
        whole = factor.numerator * (scale // factor.denominator)
        units += map(whole.__mul__, rows)
    return units, scale


def _merged(sources: Sequence[Source], units: list[int], scale: int) -> tuple[DataList, tuple[SharedFile, ...]]:
    """One row a file: `units` are the concatenated rows' shares."""
    prefixes = [prefix for source in sources for prefix in source.list.prefixes]
    corpora: list[str] = []
    for source in sources:
        labels = {corpus: _corpus([source.label], [corpus]) for corpus in set(source.list.corpora)}
        corpora += map(labels.__getitem__, source.list.corpora)
    shared: list[SharedFile] = []
    if _overlap([source.list.prefixes for source in sources]):
        owners = [source.label for source in sources for _ in source.list.prefixes]
        originals = [corpus for source in sources for corpus in source.list.corpora]
        gone: set[int] = set()
        for rows in _repeated(prefixes):
            first = rows[0]
            corpora[first] = _corpus([owners[row] for row in rows], [originals[row] for row in rows])
            parts = tuple((owners[row], Fraction(units[row], scale)) for row in rows)
            shared.append(SharedFile(prefixes[first], corpora[first], parts))
            units[first] = sum(units[row] for row in rows)
            gone.update(rows[1:])
        keep = [row for row in range(len(units)) if row not in gone]
        units = [units[row] for row in keep]
        prefixes = [prefixes[row] for row in keep]
        corpora = [corpora[row] for row in keep]
    return DataList(tuple(units), scale, tuple(prefixes), tuple(corpora)), tuple(shared)


def _overlap(columns: Sequence[Sequence[str]]) -> bool:
    """Whether a prefix is in two columns; the longest one, most of the memory, is only looked through."""
    seen: set[str] = set()
    *shorter, longest = sorted(columns, key=len)
    for column in shorter:
        if not seen.isdisjoint(column):
            return True
        seen.update(column)
    return not seen.isdisjoint(longest)


def _repeated(prefixes: Sequence[str]) -> list[list[int]]:
    """Rows of each prefix that occurs more than once, in order of first appearance."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, prefix in enumerate(prefixes):
        rows[prefix].append(row)
    return [found for found in rows.values() if len(found) > 1]


def _corpus(labels: Sequence[str], corpora: Sequence[str]) -> str:
    """`D0.wiki`; of a file in two sources `D0+D1.wiki`. A corpus named like its only source is the source itself."""
    sources = "+".join(dict.fromkeys(labels))
    names = "+".join(dict.fromkeys(corpora))
    return sources if names == sources else f"{sources}.{names}"


def _ledger(sources: Sequence[Source], token_budget: int | None) -> tuple[SourceShare, ...]:
    drawn: list[int | None] = [None] * len(sources)
    if token_budget is not None:
        scale = math.lcm(*(source.weight.denominator for source in sources))
        drawn = list(apportion(token_budget, [int(source.weight * scale) for source in sources]))
    return tuple(
        SourceShare(
            source.label,
            source.weight,
            len(source.list) if source.weight else 0,
            tokens,
            None if tokens is None or not source.tokens else Fraction(tokens, source.tokens),
        )
        for source, tokens in zip(sources, drawn, strict=True)
    )


class ExpansionRefused(ValueError):
    """A mixture over terms cannot be flattened; the message says where and why."""


def expand(
    terms: Mapping[str, Decimal | Fraction], definitions: Mapping[str, Mapping[str, Fraction]]
) -> dict[str, Fraction]:
    """Flatten a mixture over terms to dataset symbols; shares are exact and sum to 1, symbols of share 0 are gone.

    A term that `definitions` has (the buffer, an earlier stage's mixture) stands for that mixture, which may use
    further ones; any other term is a dataset symbol. Symbols come in the order in which they are first met. Raises
    ExpansionRefused for weights that are negative or do not sum to 1, and for a definition that leads back to itself.
    """
    flat: dict[str, dict[str, Fraction]] = {}
    # Depth first on a stack of our own: a chain of definitions may be longer than the interpreter's.
    outer = _positive("the mixture", terms)
    open_terms: dict[str, None] = {}
    pending = list(reversed(outer))
    while pending:
        term = pending[-1]
        if term not in definitions or term in flat:
            pending.pop()
            continue
        inner = _positive(term, definitions[term])
        waiting = [name for name in inner if name in definitions and name not in flat]
        if not waiting:
            flat[term] = _combined(inner, flat)
            open_terms.pop(term, None)
            continue
        open_terms[term] = None
        for name in waiting:
            if name in open_terms:
                ring = list(open_terms)
                ring = [*ring[ring.index(name) :], name]
                raise ExpansionRefused(f"{name} is defined by itself: {' → '.join(ring)}")
        pending += reversed(waiting)
    return _combined(outer, flat)


def _positive(name: str, terms: Mapping[str, Decimal | Fraction]) -> dict[str, Fraction]:
    """The terms above 0, checked as a whole mixture."""
    weights: dict[str, Fraction] = {}
    for term, weight in terms.items():
        if isinstance(weight, Decimal) and not weight.is_finite():
            raise ExpansionRefused(f"{name}: weight {weight} of {term} is not a number")
        weights[term] = Fraction(weight)
    problems = weight_problems(weights) if weights else [MixFinding(MixCode.EMPTY, "there is nothing in it")]
    if problems:
        raise ExpansionRefused(f"{name}: " + "; ".join(problem.message for problem in problems))
    return {term: weight for term, weight in weights.items() if weight}


def _combined(terms: Mapping[str, Fraction], flat: Mapping[str, Mapping[str, Fraction]]) -> dict[str, Fraction]:
    total: dict[str, Fraction] = {}
    for term, weight in terms.items():
        for symbol, share in flat.get(term, {term: Fraction(1)}).items():
            total[symbol] = total.get(symbol, Fraction(0)) + weight * share
    return total
