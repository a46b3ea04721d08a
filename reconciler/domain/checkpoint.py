"""Which point of a finished attempt a stage continues from, and whether it must be converted first."""

from __future__ import annotations

from reconciler.domain.schedule import at_peak
from reconciler.model.manifests import StageSource
from reconciler.model.recipe import Load, Recipe, SourceRecipe


def end_of_leg(recipe: Recipe, leg: int) -> SourceRecipe:
    """The checkpoint at the end of one leg."""
    done = recipe.legs[leg]
    return SourceRecipe(
        attempt=recipe.attempt,
        leg=leg,
        iteration=done.iterations,
        position=done.position + done.iterations,
        data_parallel=recipe.data_parallel,
    )


def pre_cooldown(recipe: Recipe, leg: int, lr_max: float) -> bool:
    """Whether the end of a leg is at LR max: on the plateau, and not on a lower one after a decay.

    A schedule that was rewarmed has a peak of its own.
    """
    curve = recipe.legs[leg].curve
    rewarmed = any(earlier.load is Load.REWARM for earlier in recipe.legs[: leg + 1])
    return at_peak(curve, curve.end) and (rewarmed or curve.high >= lr_max)


def chosen(recipe: Recipe, wanted: StageSource, lr_max: float) -> SourceRecipe | str:
    """The last end of a leg with the wanted property, or why there is none, with the candidates there are.

    `pre-cooldown`: the rate is still at its peak (cookbook: "use a checkpoint at LR = LR_max, before cooling down").
    `converged`: the decay has ended.
    """
    peaks = [pre_cooldown(recipe, leg, lr_max) for leg in range(len(recipe.legs))]
    for leg in reversed(range(len(recipe.legs))):
        if peaks[leg] == (wanted.checkpoint == "pre-cooldown"):
            return end_of_leg(recipe, leg)
    ends = ", ".join(
        f"leg {index} at iteration {leg.iterations} ({'pre-cooldown' if peaks[index] else 'decayed'})"
        for index, leg in enumerate(recipe.legs)
    )
    return f"{wanted.stage} has no {wanted.checkpoint} checkpoint at the end of a leg; there is {ends}"


def needs_conversion(recipe: Recipe) -> bool:
    """Optimizer shards are cut by data-parallel size; another size loads only the universal form.

    `--finetune` alone (rewarm) takes the weights only and loads at any size, but loses the optimizer's moments, so a
    rewarm from another size converts too.
    """
    source = recipe.source
    if recipe.legs[0].load is Load.RANDOM or source.data_parallel == 0:
        return False
    return source.data_parallel != recipe.data_parallel
