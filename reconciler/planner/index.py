"""Every checkpoint that one look found, of attempts and of folders made elsewhere: what each is, and what names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from reconciler.domain import foldername, outside
from reconciler.domain.catalog import source_places
from reconciler.domain.schedule import at_peak, ended, rate_at
from reconciler.model.observed import AttemptSeen, CheckpointSeen, FolderAbsent, FolderSeen, Inside, LegSeen, Unread
from reconciler.model.recipe import Recipe
from reconciler.model.strategy import ExternalSource
from reconciler.planner.desired import Desired
from reconciler.planner.strays import recipe_of

SAME_RATE: Final = 1e-3
"""Of the highest: rates that differ by less are one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint."""

    iteration: int
    universal: bool
    tokens: int | None
    """Trained on: by its stage, or by the run elsewhere."""
    rate: float | None
    """Of the next step."""
    stands: str
    """Where on its schedule: `at its peak`, `warming up`, `decaying`, `converged`; empty where that is not known."""
    parallel: tuple[int | None, int | None, int | None]
    """Data, tensor and pipeline parts."""
    precision: str
    optimizer: str
    complete: bool
    why_not: str
    size_bytes: int
    named_by: tuple[str, ...] = ()
    """What refers to it."""


@dataclass(frozen=True, slots=True)
class Group:
    """The checkpoints of one folder."""

    folder: str
    """Relative to the workspace for a leg, else absolute."""
    told: str = ""
    """What the folder is: the stage and strategy, or what its name tells."""
    entries: tuple[Entry, ...] = ()
    warnings: tuple[str, ...] = ()
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """All that there is."""

    campaign: str
    groups: tuple[Group, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of all folders."""
        return tuple(entry for group in self.groups for entry in group.entries)


def index(
    desired: Desired,
    attempts: Sequence[AttemptSeen],
    folders: Mapping[str, FolderSeen | FolderAbsent | Unread],
    stage: str | None = None,
) -> Index:
    """Checkpoints of the campaign's attempts, or of those of one stage, and of the folders that were looked into."""
    recipes = [(seen, recipe_of(seen.stage, seen)) for seen in attempts]
    names = _names(desired, [recipe for _, recipe in recipes if recipe is not None], folders)
    order = {each.metadata.name: number for number, each in enumerate(desired.stages)}
    mine = [pair for pair in recipes if stage in (None, pair[0].stage)]
    mine.sort(key=lambda pair: (order.get(pair[0].stage, len(order)), pair[0].attempt))
    groups = [group for seen, recipe in mine for group in _attempt(desired, seen, recipe, names)]
    return Index(desired.campaign, (*groups, *(_folder(path, seen, names) for path, seen in folders.items())))


Names = Mapping[tuple[str, int, bool], tuple[str, ...]]
"""(folder, iteration, universal) → what refers to that checkpoint."""


def _names(
    desired: Desired, recipes: Sequence[Recipe], folders: Mapping[str, FolderSeen | FolderAbsent | Unread]
) -> Names:
    """What attempts were begun from, and what manifests choose of folders made elsewhere."""
    found: dict[tuple[str, int, bool], dict[str, None]] = {}
    for recipe in recipes:
        source = recipe.source
        folder = desired.site.path(source.external) if source.external else _leg_folder(recipe)
        if folder:
            found.setdefault((folder, source.iteration, source.universal), {})[f"source of {recipe.stage}"] = None
    for stage in desired.stages:
        for _, wanted in source_places(stage):
            seen = folders.get(desired.site.path(wanted.path)) if isinstance(wanted, ExternalSource) else None
            if isinstance(wanted, ExternalSource) and isinstance(seen, FolderSeen):
                chosen = outside.chosen(wanted, seen, desired.rates())
                if isinstance(chosen, CheckpointSeen):
                    key = (desired.site.path(wanted.path), chosen.iteration, chosen.universal)
                    found.setdefault(key, {})[f"source of {stage.metadata.name}"] = None
    return {key: tuple(told) for key, told in found.items()}


def _leg_folder(recipe: Recipe) -> str:
    source = recipe.source
    return f"{recipe.campaign}/{source.stage}/{source.attempt}/leg-{source.leg}" if source.attempt else ""


def _attempt(desired: Desired, seen: AttemptSeen, recipe: Recipe | None, names: Names) -> Iterator[Group]:
    where = f"{desired.campaign}/{seen.stage}/{seen.attempt}"
    told = f"{seen.stage}, {recipe.strategy}" if recipe is not None else f"{seen.stage}, by no recipe that can be read"
    if seen.unread:
        yield Group(where, told, unread=seen.unread)
    for leg in seen.legs:
        folder = f"{where}/leg-{leg.index}"
        copy = (f"its source has a universal copy, of iteration {leg.converted}",) if leg.converted is not None else ()
        entries = tuple(_of_leg(recipe, leg, checkpoint, folder, names) for checkpoint in leg.checkpoints)
        if entries or copy:
            warnings = (*_pointer_warnings(leg.latest, leg.checkpoints), *_rate_warnings(recipe, leg))
            yield Group(folder, "; ".join((told, *copy)), entries, warnings)


def _of_leg(recipe: Recipe | None, leg: LegSeen, seen: CheckpointSeen, folder: str, names: Names) -> Entry:
    entry = _entry(seen, seen.inside or Inside())
    named = _pointed(seen.iteration, {"latest": leg.latest}) + names.get((folder, seen.iteration, False), ())
    entry = replace(entry, named_by=named)
    if recipe is None or leg.index >= len(recipe.legs):
        return entry
    done = recipe.legs[leg.index]
    position = done.position + seen.iteration
    before = sum(each.iterations for each in recipe.legs[: leg.index])
    cut = recipe.model.get("parallelism", {})
    return replace(
        entry,
        tokens=(before + seen.iteration) * recipe.tokens_per_iteration,
        rate=rate_at(done.curve, position) if entry.rate is None else entry.rate,
        stands=_word(recipe, leg.index, position),
        parallel=(recipe.data_parallel, cut.get("tensor"), cut.get("pipeline")),
        precision=entry.precision or str(recipe.model.get("precision", "")),
        optimizer=entry.optimizer or str(recipe.model.get("optimizer", {}).get("name", "")),
        named_by=(*named, f"end of leg {leg.index}") if seen.iteration == done.iterations else named,
    )


def _rate_warnings(recipe: Recipe | None, leg: LegSeen) -> Iterator[str]:
    """Where a checkpoint says another rate than its recipe: the launcher has kept another schedule than it was told."""
    if recipe is None or leg.index >= len(recipe.legs):
        return
    done = recipe.legs[leg.index]
    for seen in leg.checkpoints:
        rate = seen.inside.rate if seen.inside is not None else None
        # The one between two steps may be that of the step before or after it.
        around = [rate_at(done.curve, max(0, done.position + seen.iteration + off)) for off in (-1, 0, 1)]
        low, high = min(around) - SAME_RATE * done.curve.high, max(around) + SAME_RATE * done.curve.high
        if rate is not None and not low <= rate <= high:
            yield f"iteration {seen.iteration}: its rate is {rate:.4g} inside, {around[1]:.4g} by its recipe"


def _word(recipe: Recipe, leg: int, position: int) -> str:
    curve = recipe.legs[leg].curve
    if position < curve.warmup:
        return "warming up"
    if at_peak(curve, position):
        return "at its peak"
    return "converged" if ended(curve, position) else "decaying"


def _entry(seen: CheckpointSeen, inside: Inside) -> Entry:
    return Entry(
        iteration=seen.iteration,
        universal=seen.universal,
        tokens=inside.trained_tokens,
        rate=inside.rate,
        stands=outside.stands(inside),
        parallel=(None if seen.universal else seen.data_parallel or None, inside.tensor, inside.pipeline),
        precision=inside.precision or "",
        optimizer=inside.optimizer or "",
        complete=seen.complete,
        why_not=seen.why_not,
        size_bytes=seen.size_bytes,
    )


def _folder(path: str, seen: FolderSeen | FolderAbsent | Unread, names: Names) -> Group:
    name = foldername.of_path(path)
    told = f"told by the name: {name.told()}" if name is not None else "made elsewhere"
    if isinstance(seen, Unread):
        return Group(path, told, unread=seen.why)
    if isinstance(seen, FolderAbsent):
        return Group(path, told, unread="there is no such folder")
    entries = []
    warnings = list(_pointer_warnings(seen.latest, seen.checkpoints))
    for checkpoint in seen.checkpoints:
        pointers = {"latest_universal": seen.latest_universal} if checkpoint.universal else {"latest": seen.latest}
        named = names.get((path, checkpoint.iteration, checkpoint.universal), ())
        entry = _entry(checkpoint, checkpoint.inside or Inside())
        entries.append(replace(entry, named_by=_pointed(checkpoint.iteration, pointers) + named))
        if name is not None and checkpoint.inside is not None:
            differ = foldername.contradicted(name, checkpoint.inside)
            warnings += [f"iteration {checkpoint.iteration}: {', '.join(differ)}"] if differ else []
    return Group(path, told, tuple(entries), tuple(warnings))


def _pointed(iteration: int, pointers: Mapping[str, int | None]) -> tuple[str, ...]:
    return tuple(name for name, at in pointers.items() if at == iteration)


def _pointer_warnings(latest: int | None, checkpoints: Sequence[CheckpointSeen]) -> tuple[str, ...]:
    """What is wrong with `latest`: a load by it would end, or begin anew."""
    if latest is None:
        return ()
    if latest == 0:
        return ("latest names no checkpoint",)
    named = next((seen for seen in checkpoints if seen.iteration == latest and not seen.universal), None)
    if named is None:
        return (f"latest names iteration {latest}, which is not there",)
    return () if named.complete else (f"latest names iteration {latest}, which is incomplete: {named.why_not}",)
