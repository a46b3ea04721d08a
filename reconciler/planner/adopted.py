"""A stage that was trained before there were manifests: done if its checkpoint lies there and is what they say. Pure.

Nothing is ever trained, judged or written for it. What cannot be read is waited for; what is not there, not whole or of
another model holds the stage, and with it all that would build on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.domain import outside
from reconciler.domain.catalog import Catalog
from reconciler.domain.resolve import StageOutcome, Unresolved, resolve
from reconciler.domain.schedule import rate_at
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import FolderAbsent, Unread
from reconciler.model.recipe import Recipe
from reconciler.model.status import Phase, Reason, RungStatus
from reconciler.model.strategy import Adopted, StageSource
from reconciler.planner.attempt import Hold, Wait
from reconciler.planner.desired import Desired
from reconciler.planner.look import Look
from reconciler.planner.sources import folder_of
from reconciler.planner.strays import live_elsewhere, stray_attempts
from reconciler.planner.walked import Walked, bare_status, outcome_of


def walk(
    desired: Desired, look: Look, stage: StageManifest, adopted: Adopted, previous: Sequence[StageOutcome]
) -> Walked:
    """The stage as done, or why it does not stand."""
    strategy = stage.spec.strategies[0]
    # What it started from itself needs not be there any more: of that, its manifest says what is needed.
    tables = previous, look.lists.digests, look.lists.parts
    recipe = resolve(desired.catalog, desired.campaign, stage, strategy, *tables)
    if isinstance(recipe, Unresolved):
        return Walked(bare_status(stage, Phase.HELD, Reason.ADOPTED_UNUSABLE, recipe.message))
    wrong = _own_attempts(desired, look, stage) or _not_as_said(desired, look, stage, adopted, recipe)
    if wrong is not None:
        phase = Phase.WAITING if isinstance(wrong, Wait) else Phase.HELD
        status = bare_status(stage, phase, wrong.reason, wrong.message, strategy=strategy.name)
        return Walked(status, outcome=outcome_of(recipe, {}))
    where = f"{adopted.path} at iteration {adopted.iteration}"
    last = recipe.legs[-1]
    status = bare_status(
        stage,
        Phase.DONE,
        Reason.ADOPTED,
        f"adopted: {where}",
        attempt=recipe.attempt,
        strategy=strategy.name,
        tokens_done=recipe.tokens,
        rungs=[RungStatus(strategy.name, recipe.attempt, "passed", f"adopted from {where}")],
    )
    return Walked(
        replace(
            status,
            iteration=recipe.iterations,
            iterations=recipe.iterations,
            learning_rate=rate_at(last.curve, last.position + last.iterations),
            path=adopted.path,
        ),
        outcome=outcome_of(recipe, {}),
    )


def recipes(desired: Desired, lists: Mapping[str, str]) -> dict[tuple[str, int], Recipe]:
    """(folder, iteration) → the recipe of each adopted stage, for what counts tokens; `lists` are content digests."""
    resolved = adopted_stages(desired.catalog, desired.campaign, lists)
    return {
        (stage.spec.adopted.path, stage.spec.adopted.iteration): recipe
        for stage, recipe in resolved
        if isinstance(recipe, Recipe) and stage.spec.adopted is not None
    }


def adopted_stages(
    catalog: Catalog, campaign: str, lists: Mapping[str, str]
) -> list[tuple[StageManifest, Recipe | Unresolved]]:
    """Every adopted stage with its recipe; one that continues from a stage that was trained here is left out, since
    what that came to only a look can tell."""
    outcomes: list[StageOutcome] = []
    found: list[tuple[StageManifest, Recipe | Unresolved]] = []
    for stage in catalog.stages(campaign):
        source = stage.spec.source
        known = not isinstance(source, StageSource) or source.stage in {outcome.stage for outcome in outcomes}
        if stage.spec.adopted is not None and known:
            recipe = resolve(catalog, campaign, stage, stage.spec.strategies[0], outcomes, lists)
            outcomes += [outcome_of(recipe, {})] if isinstance(recipe, Recipe) else []
            found.append((stage, recipe))
    return found


def _own_attempts(desired: Desired, look: Look, stage: StageManifest) -> Wait | Hold | None:
    """A stage that was trained here cannot have been trained elsewhere."""
    name = stage.metadata.name
    stray = stray_attempts(look.attempts, name, ())
    if stray:
        return Hold(
            Reason.TRAINED_IMMUTABLE,
            f"the manifest says that it was trained elsewhere, but attempt {stray[0].attempt} of it has trained here; "
            "take `adopted` out, or give the adopted stage another name",
        )
    return live_elsewhere(
        look, desired.campaign, name, frozenset(), told="which the manifest says was trained elsewhere"
    )


def _not_as_said(
    desired: Desired, look: Look, stage: StageManifest, adopted: Adopted, recipe: Recipe
) -> Wait | Hold | None:
    """What keeps its checkpoint from being the one that the manifest describes."""
    path = desired.site.path(adopted.path)
    seen = folder_of(desired, look, adopted.path)
    if isinstance(seen, Unread):
        return Wait(Reason.SOURCE_UNREAD, f"the adopted folder {path} could not be read: {seen.why}")
    if isinstance(seen, FolderAbsent):
        return Hold(Reason.ADOPTED_UNUSABLE, f"the adopted folder {path} is not there")
    found = outside.found(adopted.source, seen, desired.model, desired.rates())
    if isinstance(found, str):
        return Hold(Reason.ADOPTED_UNUSABLE, found)
    if found.batch != recipe.global_batch:
        message = f"{path} was trained with a global batch of {found.batch}, not {recipe.global_batch}"
        return Hold(Reason.ADOPTED_UNUSABLE, message)
    return None
