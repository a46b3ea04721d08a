"""What lies on a simulated cluster before anything is run: data lists, score files, checkpoints made elsewhere."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Final

from reconciler.domain.schedule import NamedRates
from reconciler.model.observed import CheckpointSeen, FolderSeen, Inside, ListSeen
from reconciler.model.strategy import AtIteration, AtRate, AtTokens, ExternalSource
from reconciler.planner.desired import Desired, sources_of

ITERATION: Final = 1000
"""Of a checkpoint made elsewhere of which nobody says which one it is."""


def lists(desired: Desired) -> dict[str, ListSeen]:
    """Every data list and score file that the campaign names, by absolute path. A pinned one has its pinned digest."""
    found: dict[str, ListSeen] = {}
    for label, path in (*desired.list_paths().items(), *desired.validation_paths().items()):
        found[path] = _seen("".join(f"1 {prefix} {label}\n" for prefix in _files(desired, label)), None)
    for symbol, path in desired.list_paths().items():
        pin = desired.catalog.dataset_by_symbol(desired.campaign, symbol).spec.lists[desired.spec.cluster].sha256
        found[path] = _seen(found[path].text, pin)
    for chosen in desired.model.validation.sets:
        path = desired.validation_paths()[chosen.name]
        found[path] = _seen(found[path].text, chosen.lists[desired.spec.cluster].sha256)
    for symbol, path in desired.score_paths().items():
        scores = desired.spec.buffer.select[symbol].scores
        pin = scores[desired.spec.cluster].sha256 if scores is not None else None
        files, tokens = _files(desired, symbol), desired.catalog.dataset_by_symbol(desired.campaign, symbol).spec.tokens
        each = max(1, tokens // len(files))
        found[path] = _seen("".join(f"{row} {each} {prefix}\n" for row, prefix in enumerate(files)), pin)
    return found


def _files(desired: Desired, label: str) -> list[str]:
    """Two files of a dataset, and those that the buffer names."""
    select = desired.spec.buffer.select.get(label)
    named = select.shards if select is not None else ()
    return [f"/simulated/{label}/{name}" for name in ("part-0", "part-1", *named)]


def _seen(text: str, pin: str | None) -> ListSeen:
    return ListSeen(text, pin or hashlib.sha256(text.encode()).hexdigest())


def folders(desired: Desired) -> dict[str, FolderSeen]:
    """Every folder of checkpoints that a stage starts from or is adopted by, holding what is wanted of it."""
    found: dict[str, dict[tuple[int, bool], CheckpointSeen]] = {}
    for stage in desired.stages:
        batch = stage.spec.strategies[0].batch if stage.spec.adopted is not None else None
        own = int(desired.model.batch.global_ * batch.times) if batch is not None else None
        for source in sources_of(stage):
            if isinstance(source, ExternalSource):
                seen = _checkpoint(desired, source, own)
                found.setdefault(desired.site.path(source.path), {})[seen.iteration, seen.universal] = seen
    return {path: _folder(tuple(seen for _, seen in sorted(there.items()))) for path, there in found.items()}


def _folder(checkpoints: tuple[CheckpointSeen, ...]) -> FolderSeen:
    newest = {universal: max((c.iteration for c in checkpoints if c.universal is universal), default=None)
              for universal in (False, True)}  # fmt: skip
    return FolderSeen(checkpoints, newest[False], newest[False], newest[True])


def _checkpoint(desired: Desired, source: ExternalSource, batch: int | None) -> CheckpointSeen:
    """A complete checkpoint with the property that is asked for; `batch` is the global batch that it was trained by."""
    iteration, inside = _inside(desired, source, desired.rates())
    universal = source.format == "universal"
    ranks = 0 if universal else source.data_parallel or 0
    inside = replace(inside, global_batch=batch)
    return CheckpointSeen(iteration, True, data_parallel=ranks, universal=universal, inside=inside)


def _inside(desired: Desired, source: ExternalSource, rates: NamedRates) -> tuple[int, Inside]:
    """(iteration, what it says of itself)."""
    sought, high = source.checkpoint, float(rates.max) * rates.scale
    match sought:
        case AtIteration():
            return sought.iteration, Inside()
        case AtTokens():
            tokens = sought.tokens_at_least
            return math.ceil(tokens / desired.model.tokens_per_iteration), Inside(tokens=tokens)
        case AtRate():
            return ITERATION, Inside(rate=rates.of(sought.rate_at_most), rate_max=high)
        case "pre-cooldown":
            return ITERATION, Inside(rate=high, rate_max=high)
        case "converged":
            return ITERATION, Inside(rate=0.0, rate_max=high, rate_min=0.0)
        case _:
            return ITERATION, Inside()
