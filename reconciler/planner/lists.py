"""Data lists as the cluster has them → content digests, and the mixed list of each leg."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from reconciler.domain import buffer
from reconciler.domain.mixture import Mixed, MixRefused, Source, mix
from reconciler.domain.selection import Selected, SelectionRefused, select
from reconciler.model.datalist import DataList, content_digest
from reconciler.model.listreader import BadList, parse_list
from reconciler.model.manifests import Selection
from reconciler.model.observed import ListAbsent, ListSeen, Observed, Unread
from reconciler.model.recipe import LegRecipe
from reconciler.model.scorefile import BadScores, Scores, parse_scores
from reconciler.model.status import Reason
from reconciler.planner.desired import Desired


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a list cannot be used: unread is a wait, all else is a hold."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Lists:
    """The campaign's lists by source (a dataset's symbol, or the buffer's selection of one): read, or why not."""

    read: Mapping[str, DataList]
    digests: Mapping[str, str]
    troubles: Mapping[str, Trouble]
    """By source or validation set."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """The buffer's selections that could be made → tokens they hold."""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """Dataset symbol → its score file, where the buffer takes its files by score."""
    validation: Mapping[str, str] = field(default_factory=dict)
    """Validation set → name of the result that is a loss on exactly it: a set that was exchanged under its name has no
    result yet, and is not compared with what it was before."""

    def trouble(self, names: tuple[str, ...]) -> Trouble | None:
        """The first trouble among these lists."""
        return next((self.troubles[name] for name in names if name in self.troubles), None)

    def mixed(self, desired: Desired, leg: LegRecipe) -> Mixed | Trouble:
        """The leg's mixture as rows, corpora labelled by source, with tokens and epochs per source."""
        sources = [
            Source(label, Fraction(share), self.read[label], self.size(desired, label))
            for label, share in leg.mixture.items()
        ]
        result = mix(sources, token_budget=leg.tokens)
        if isinstance(result, MixRefused):
            return Trouble(Reason.LIST_BAD, "; ".join(problem.message for problem in result.problems))
        return result

    def size(self, desired: Desired, label: str) -> int | None:
        """Tokens that a source holds; None for one that is in no manifest any more."""
        dataset = desired.catalog.datasets(desired.campaign).get(label)
        return dataset.spec.tokens if dataset is not None else self.parts.get(label)


def read_lists(desired: Desired, observed: Observed) -> Lists:
    """Parse and digest every list the campaign names; pinned ones must have their pinned bytes."""
    read: dict[str, DataList] = {}
    digests: dict[str, str] = {}
    troubles: dict[str, Trouble] = {}
    validation: dict[str, str] = {}
    name = desired.spec.cluster
    paths = desired.validation_paths()
    for chosen in desired.model.validation.sets:
        label, path = chosen.name, paths[chosen.name]
        found = _one(label, path, observed.lists.get(path, Unread("not asked for")), chosen.lists[name].sha256)
        if isinstance(found, Trouble):
            troubles[label] = found
        else:
            validation[label] = result_name(label, content_digest(found), chosen.samples, desired.model.sequence_length)
    # Apart from the above: a validation set may have a symbol's name, and must never be trained on.
    for symbol, path in desired.list_paths().items():
        pin = desired.catalog.dataset_by_symbol(desired.campaign, symbol).spec.lists[name].sha256
        found = _one(symbol, path, observed.lists.get(path, Unread("not asked for")), pin)
        if isinstance(found, Trouble):
            troubles[symbol] = found
        else:
            read[symbol], digests[symbol] = found, content_digest(found)
    scores: dict[str, Scores] = {}
    parts: dict[str, int] = {}
    for symbol, wanted in desired.spec.buffer.select.items():
        label = buffer.part(symbol)
        selected = (
            troubles[symbol] if symbol in troubles else _selected(desired, observed, symbol, wanted, read, scores)
        )
        if isinstance(selected, Trouble):
            troubles[label] = selected
        else:
            read[label], parts[label] = selected.list, selected.tokens
            digests[label] = content_digest(selected.list)
    return Lists(read, digests, troubles, parts, scores, validation)


def _selected(
    desired: Desired,
    observed: Observed,
    symbol: str,
    wanted: Selection,
    read: Mapping[str, DataList],
    scores: dict[str, Scores],
) -> Selected | Trouble:
    """The buffer's part of a dataset; its score file, where there is one, is added to `scores`."""
    if wanted.scores is not None:
        path, pin = desired.score_paths()[symbol], wanted.scores[desired.spec.cluster].sha256
        seen = observed.lists.get(path, Unread("not asked for"))
        found = _scores(symbol, path, seen, pin)
        if isinstance(found, Trouble):
            return found
        scores[symbol] = found
    tokens = desired.catalog.dataset_by_symbol(desired.campaign, symbol).spec.tokens
    taken = select(read[symbol], tokens, wanted, scores.get(symbol))
    if isinstance(taken, SelectionRefused):
        return Trouble(Reason.LIST_BAD, f"the buffer's selection of {symbol}: {taken.message}")
    return taken


def _scores(symbol: str, path: str, seen: ListSeen | ListAbsent | Unread, pin: str | None) -> Scores | Trouble:
    text = _text(f"the score file of {symbol}", path, seen, pin)
    if isinstance(text, Trouble):
        return text
    parsed = parse_scores(text)
    if isinstance(parsed, BadScores):
        place = f"{path}:{parsed.line}" if parsed.line else path
        return Trouble(Reason.LIST_BAD, f"{place}: {parsed.message}")
    return parsed


def result_name(label: str, digest: str, samples: int, sequence_length: int) -> str:
    """What a loss on a validation set is kept under: the set's name, and a digest of what it consists of."""
    identity = f"{digest}/{samples}/{sequence_length}"
    return f"{label}.{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _one(label: str, path: str, seen: ListSeen | ListAbsent | Unread, pin: str | None) -> DataList | Trouble:
    text = _text(f"the data list of {label}", path, seen, pin)
    if isinstance(text, Trouble):
        return text
    parsed = parse_list(text, default_corpus=label)
    if isinstance(parsed, BadList):
        first = parsed.problems[0]
        more = f" and {len(parsed.problems) - 1} more problems" if len(parsed.problems) > 1 else ""
        return Trouble(Reason.LIST_BAD, f"{path}:{first.line}:{first.column}: {first.message}{more}")
    return parsed.data


def _text(what: str, path: str, seen: ListSeen | ListAbsent | Unread, pin: str | None) -> str | Trouble:
    """The text of a file that the cluster was asked for; pinned, it must have its pinned bytes."""
    match seen:
        case Unread(why=why):
            return Trouble(Reason.LIST_UNREAD, f"{what} could not be read: {why}")
        case ListAbsent():
            return Trouble(Reason.LIST_MISSING, f"the cluster has no {what.removeprefix('the ')} at {path}")
        case ListSeen(text=text, sha256=sha256):
            if pin is not None and pin != sha256:
                message = f"{what} at {path} has SHA-256 {sha256}, the manifest pins {pin}"
                return Trouble(Reason.LIST_CHANGED, message)
            return text
