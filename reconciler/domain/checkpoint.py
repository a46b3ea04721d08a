"""Which point of a finished attempt a stage continues from, and whether it must be converted first."""

from __future__ import annotations

from reconciler.domain.schedule import SAME, at_peak, ended, rate_at
from reconciler.model.recipe import Load, Recipe, SourceRecipe
from reconciler.model.strategy import StageSource


def end_of_leg(recipe: Recipe, leg: int) -> SourceRecipe:
    """The checkpoint at the end of one leg, in iterations of the recipe's own batch."""
    done = recipe.legs[leg]
    position = done.position + done.iterations
    return SourceRecipe(
        attempt=recipe.maker(leg),
        leg=leg,
        iteration=done.iterations,
        position=position,
        data_parallel=recipe.data_parallel,
        stage=recipe.stage,
        rate=rate_at(done.curve, position),
        remainder=0 if _rewarmed(recipe, leg) else recipe.source.remainder,
    )


def pre_cooldown(recipe: Recipe, leg: int, lr_max: float) -> bool:
    """Whether the end of a leg is at LR max: on the plateau, and not on a lower one after a decay.

    A schedule that was rewarmed has a peak of its own.
    """
    done = recipe.legs[leg]
    top = lr_max * recipe.rate_scale * (1 - SAME)
    return at_peak(done.curve, done.position + done.iterations) and (_rewarmed(recipe, leg) or done.curve.high >= top)


def chosen(recipe: Recipe, wanted: StageSource, lr_max: float) -> SourceRecipe | str:
    """The last end of a leg with the wanted property, or why there is none, with the candidates there are.

    `pre-cooldown`: the rate is still at its peak (cookbook: "use a checkpoint at LR = LR_max, before cooling down").
    `converged`: the decay has ended. `final`: where the last leg ends.
    """
    stands = [_stands(recipe, leg, lr_max) for leg in range(len(recipe.legs))]
    for leg in reversed(range(len(recipe.legs))):
        if wanted.checkpoint in (stands[leg], "final"):
            return end_of_leg(recipe, leg)
    told = {"pre-cooldown": "pre-cooldown", "converged": "decayed"}
    ends = ", ".join(
        f"leg {index} at iteration {leg.iterations} ({told.get(stands[index], stands[index])})"
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


def _stands(recipe: Recipe, leg: int, lr_max: float) -> str:
    """`pre-cooldown`, `converged`, or words for what is neither."""
    if pre_cooldown(recipe, leg, lr_max):
        return "pre-cooldown"
    done = recipe.legs[leg]
    position = done.position + done.iterations
    return "converged" if ended(done.curve, position) else f"in its decay, at {rate_at(done.curve, position):.4g}"


def _rewarmed(recipe: Recipe, leg: int) -> bool:
    return any(earlier.load is Load.REWARM for earlier in recipe.legs[: leg + 1])
