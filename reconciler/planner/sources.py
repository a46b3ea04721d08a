"""What a stage starts from, where that hangs on what lies on the cluster: folders made elsewhere, earlier choices."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.domain import batch, outside
from reconciler.domain.checkpoint import told
from reconciler.domain.outside import Outside
from reconciler.domain.resolve import Unresolved
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import FolderAbsent, FolderSeen, Unread
from reconciler.model.recipe import Recipe, SourceRecipe
from reconciler.model.strategy import AtIteration, ExternalSource, StageSource, Strategy
from reconciler.planner.attempt import Parent
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import amiss
from reconciler.planner.look import Look
from reconciler.planner.strays import recipe_of

OTHER_MODEL = "CPT006"
"""The rule whose waiver lets a source be of another Model, as far as the launcher does not compare it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the cluster says of a strategy's source."""

    outside: Outside | None = None
    """Of one made elsewhere."""
    kept: SourceRecipe | None = None
    """The choice that an attempt of the stage was begun with: it stays, whatever else is saved or pruned since."""


def found(desired: Desired, look: Look, stage: StageManifest, strategy: Strategy) -> Found | Unresolved:
    """The source of a strategy, as far as its manifest does not say it all."""
    wanted = stage.spec.source_of(strategy)
    if wanted == "random" or (isinstance(wanted, StageSource) and isinstance(wanted.checkpoint, str)):
        return Found()
    kept = _kept(desired, look, stage, strategy, wanted)
    if kept is not None or isinstance(wanted, StageSource):
        return Found(kept=kept)
    seen = folder_of(desired, look, wanted.path)
    path = desired.site.path(wanted.path)
    if isinstance(seen, Unread):
        return Unresolved(f"its source {path} could not be read: {seen.why}", unread=True)
    if isinstance(seen, FolderAbsent):
        return Unresolved(f"its source {path} is not there")
    waived = any(w.rule == OTHER_MODEL for w in (*desired.spec.waive, *stage.spec.waive, *strategy.waive))
    made = outside.found(wanted, seen, desired.model, desired.rates(), waived=waived)
    return Unresolved(f"its source: {made}") if isinstance(made, str) else Found(made)


def folder_of(desired: Desired, look: Look, path: str) -> FolderSeen | FolderAbsent | Unread:
    """What was seen of a folder that a manifest names."""
    return look.folders.get(desired.site.path(path), Unread("it was not asked for"))


def external_gone(desired: Desired, look: Look, recipe: Recipe) -> str | Unread:
    """Why a source made elsewhere cannot be loaded any more; empty if it is there, complete."""
    source = recipe.source
    seen = folder_of(desired, look, source.external)
    path = desired.site.path(source.external)
    if isinstance(seen, Unread):
        return Unread(f"{path} could not be read: {seen.why}")
    there = seen.checkpoints if isinstance(seen, FolderSeen) else ()
    why = amiss(there, source.iteration, universal=source.universal)
    name = f"global_step{source.iteration}{'_universal' if source.universal else ''}"
    return f"the checkpoint that {recipe.stage} starts from, {path}/{name}, {why}" if why else ""


def external_parent(
    desired: Desired, look: Look, stage: StageManifest, strategy: Strategy, recipe: Recipe
) -> Parent | None:
    """What the log of a source made elsewhere has up to it; None without one."""
    wanted = stage.spec.source_of(strategy)
    path = wanted.log if isinstance(wanted, ExternalSource) else None
    log = look.logs.get(desired.site.path(path)) if path is not None else None
    return Parent(None, recipe.source.iteration, (log,)) if log is not None else None


def _kept(
    desired: Desired, look: Look, stage: StageManifest, strategy: Strategy, wanted: StageSource | ExternalSource
) -> SourceRecipe | None:
    name, own = stage.metadata.name, batch.of(desired.model, strategy)
    made = (recipe_of(name, seen) for seen in look.attempts if seen.stage == name)
    sources = [r.source for r in made if r is not None and r.global_batch == own and _is_meant(r.source, wanted)]
    return max(sources, key=lambda source: (source.leg, source.iteration), default=None)


def _is_meant(source: SourceRecipe, wanted: StageSource | ExternalSource) -> bool:
    """Whether an attempt was begun with this choice."""
    sought = wanted.checkpoint
    if isinstance(wanted, StageSource):
        return (source.stage, source.wish) == (wanted.stage, told(sought))
    if source.external != wanted.path or source.universal is not (wanted.format == "universal"):
        return False
    # Recipes of an older version do not say how their source was chosen: all of them by its iteration.
    by_number = isinstance(sought, AtIteration) and source.iteration == sought.iteration
    return source.wish == told(sought) or (not source.wish and by_number)
