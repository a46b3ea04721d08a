"""Which files of a dataset the buffer takes: named shards, then by score until a cap in tokens is reached.

"Representative or difficult samples" (cookbook, Strategy 3): difficult ones have extreme scores, representative ones
lie around the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reconciler.model.datalist import DataList
from reconciler.model.listfields import shorten
from reconciler.model.manifests import Selection
from reconciler.model.scorefile import Scores


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection takes of a dataset."""

    list: DataList
    """Its files in the order of the dataset's list, weighted to each other as there."""
    tokens: int
    """What they hold: by the score file, otherwise the dataset's size times their share of its list."""


@dataclass(frozen=True, slots=True)
class SelectionRefused:
    """Why there is none; a person must change the manifest, the list or the score file."""

    message: str


def select(whole: DataList, tokens: int, wanted: Selection, scores: Scores | None) -> Selected | SelectionRefused:
    """Take the files; `tokens` is the dataset's size, `scores` must be for exactly the files of its list."""
    rows = _shards(whole, wanted.shards)
    if isinstance(rows, SelectionRefused):
        return rows
    if scores is None:
        share = Fraction(sum(whole.units[row] for row in rows), sum(whole.units))
        return Selected(_of(whole, rows), max(1, int(tokens * share)))
    found = _scored(whole, scores)
    if isinstance(found, SelectionRefused):
        return found
    if wanted.cap is not None:
        rows = _capped(rows, found, scores, wanted)
    return Selected(_of(whole, rows), sum(scores.tokens[found[row]] for row in rows))


def ends_with(prefix: str, end: str) -> bool:
    """Whether a file is the one that the end of its path names: whole parts, so that `a/1` is not `aa/1`."""
    return prefix == end or prefix.endswith(f"/{end}")


def _shards(whole: DataList, shards: Sequence[str]) -> list[int] | SelectionRefused:
    """Rows whose prefix ends with one of `shards`; all rows where none is named."""
    if not shards:
        return list(range(len(whole)))
    wanted = set(shards)
    met: set[str] = set()
    rows: list[int] = []
    depths = {shard.count("/") for shard in wanted}
    for row, prefix in enumerate(whole.prefixes):
        parts = prefix.split("/")
        ends = {"/".join(parts[-depth - 1 :]) for depth in depths} & wanted
        if ends:
            met |= ends
            rows.append(row)
    missing = [shard for shard in shards if shard not in met]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return SelectionRefused(f"its list has no file that ends with {shorten(missing[0])}{more}")
    return rows


def _scored(whole: DataList, scores: Scores) -> list[int] | SelectionRefused:
    """Row of the list → row of the score file."""
    at = {prefix: row for row, prefix in enumerate(scores.prefixes)}
    found = [at.get(prefix, -1) for prefix in whole.prefixes]
    without = [row for row, place in enumerate(found) if place < 0]
    beyond = len(at) - (len(found) - len(without))
    if not without and not beyond:
        return found
    told = []
    if without:
        first = shorten(whole.prefixes[without[0]])
        told.append(f"{len(without):,} of its {len(found):,} files have none, first {first}")
    if beyond:
        known = set(whole.prefixes)
        first = next(prefix for prefix in scores.prefixes if prefix not in known)
        told.append(f"{beyond:,} are for files that are not in its list, first {shorten(first)}")
    return SelectionRefused("the scores are not for the files of its list: " + "; ".join(told))


def _capped(rows: list[int], found: list[int], scores: Scores, wanted: Selection) -> list[int]:
    """In the order wanted, up to and with the file that reaches the cap; returned in the order of the list.

    Files of equal rank come as the list has them.
    """
    ranks = [Fraction(scores.scores[found[row]]) for row in rows]
    if wanted.order == "middle":
        ordered = sorted(ranks)
        half = len(ordered) // 2
        median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
        ranks = [abs(rank - median) for rank in ranks]
    places = sorted(range(len(rows)), key=ranks.__getitem__, reverse=wanted.order == "highest")
    held, taken = 0, []
    for place in places:
        if wanted.cap is None or held >= wanted.cap:
            break
        held += scores.tokens[found[rows[place]]]
        taken.append(rows[place])
    return sorted(taken)


def _of(whole: DataList, rows: Sequence[int]) -> DataList:
    return DataList(
        tuple(whole.units[row] for row in rows),
        whole.scale,
        tuple(whole.prefixes[row] for row in rows),
        tuple(whole.corpora[row] for row in rows),
    )
