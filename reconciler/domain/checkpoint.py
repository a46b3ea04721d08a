"""Which point of a finished attempt a stage continues from, and whether it must be converted first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from reconciler.domain.schedule import SAME, NamedRates, at_peak, ended, rate_at
from reconciler.model.quantities import approximate_tokens, format_tokens
from reconciler.model.recipe import Load, Recipe, SourceRecipe
from reconciler.model.strategy import Adopted, AtIteration, AtLegIteration, AtRate, AtTokens, Property, StageSource

NEAR_MAX: Final = 4
"""Candidates that are told where none fits."""


def told(sought: Property | AtIteration | AtTokens | AtRate) -> str:
    """What is sought, in words that follow "a checkpoint"; a recipe keeps them."""
    match sought:
        case AtLegIteration(leg=int(leg)):
            return f"at iteration {sought.iteration} of leg {leg}"
        case AtIteration():
            return f"at iteration {sought.iteration}"
        case AtTokens():
            return f"at {format_tokens(sought.tokens_at_least)} tokens or more"
        case AtRate():
            return f"at {sought.rate_at_most} or below"
        case _:
            return str(sought)


def named(sought: Property | AtIteration | AtTokens | AtRate) -> str:
    """The same with its noun."""
    return f"the {sought} checkpoint" if isinstance(sought, str) else f"the checkpoint {told(sought)}"


def saved_at(recipe: Recipe, leg: int, iteration: int, wish: str = "") -> SourceRecipe:
    """The checkpoint of one leg at one iteration, in iterations of the recipe's own batch.

    A job that goes on within the leg loads the same: schedule position and rate follow from the recipe wherever it is.
    """
    done = recipe.legs[leg]
    position = done.position + iteration
    return SourceRecipe(
        attempt=recipe.maker(leg),
        leg=leg,
        iteration=iteration,
        position=position,
        data_parallel=recipe.data_parallel,
        stage=recipe.stage,
        rate=rate_at(done.curve, position),
        wish=wish,
        remainder=0 if _rewarmed(recipe, leg) else recipe.source.remainder,
    )


def end_of_leg(recipe: Recipe, leg: int) -> SourceRecipe:
    """The checkpoint at the end of one leg."""
    return saved_at(recipe, leg, recipe.legs[leg].iterations)


def pre_cooldown(recipe: Recipe, leg: int, lr_max: float) -> bool:
    """Whether the end of a leg is at LR max: on the plateau, and not on a lower one after a decay.

    A schedule that was rewarmed has a peak of its own.
    """
    done = recipe.legs[leg]
    top = lr_max * recipe.rate_scale * (1 - SAME)
    return at_peak(done.curve, done.position + done.iterations) and (_rewarmed(recipe, leg) or done.curve.high >= top)


def chosen(
    recipe: Recipe, wanted: StageSource, rates: NamedRates, saved: Mapping[int, Sequence[int]]
) -> SourceRecipe | str:
    """The checkpoint with the wanted property, or why there is none, with the candidates there are.

    `pre-cooldown`: the last end of a leg where the rate is still at its peak (cookbook: "use a checkpoint at
    LR = LR_max, before cooling down"). `converged`: where the decay has ended. `final`: where the last leg ends.
    The others may be saved on the way; `saved` has the iterations of such saves that are complete, by leg.
    """
    sought = wanted.checkpoint
    if isinstance(sought, str):
        return _end_with(recipe, wanted.stage, sought, float(rates.max))
    points = [(leg, at) for leg, done in enumerate(recipe.legs) for at in _iterations(done.iterations, saved.get(leg))]
    found = next((point for point in points if _fits(recipe, point, sought, rates)), None)
    if found is not None:
        return saved_at(recipe, *found, wish=told(sought))
    near = sorted(points, key=lambda point: _distance(recipe, point, sought))[:NEAR_MAX]
    there = ", ".join(_described(recipe, *point) for point in sorted(near))
    return f"{wanted.stage} has no checkpoint {told(sought)}; there is {there}"


def foreseen(recipe: Recipe, wanted: StageSource, every: int) -> dict[int, tuple[int, ...]]:
    """Iterations of the saves on the way, by leg, as they may be: every so many, and a job's end may be where a
    manifest says that one is."""
    asked = (wanted.checkpoint.iteration,) if isinstance(wanted.checkpoint, AtLegIteration) else ()
    return {leg: (*range(every, done.iterations, every), *asked) for leg, done in enumerate(recipe.legs)}


def is_end(recipe: Recipe, point: SourceRecipe) -> bool:
    """Whether a checkpoint is the last that the recipe trains."""
    return (point.leg, point.iteration) == (len(recipe.legs) - 1, recipe.legs[-1].iterations)


def adopted_as(point: SourceRecipe, adopted: Adopted) -> SourceRecipe:
    """The same point of a schedule, as the checkpoint of an adopted stage: it is named by its folder, so an adopted
    stage and a source by path come to one recipe."""
    universal = adopted.format == "universal"
    return replace(
        point,
        attempt="",
        stage="",
        leg=0,
        external=adopted.path,
        iteration=adopted.iteration,
        data_parallel=0 if universal else adopted.data_parallel or 0,
        universal=universal,
    )


def needs_conversion(recipe: Recipe) -> bool:
    """Optimizer shards are cut by data-parallel size; another size loads only the universal form.

    `--finetune` alone (rewarm) takes the weights only and loads at any size, but loses the optimizer's moments, so a
    rewarm from another size converts too.
    """
    source = recipe.source
    if recipe.legs[0].load is Load.RANDOM or source.data_parallel == 0:
        return False
    return source.data_parallel != recipe.data_parallel


def _end_with(recipe: Recipe, stage: str, sought: str, lr_max: float) -> SourceRecipe | str:
    stands = [_stands(recipe, leg, lr_max) for leg in range(len(recipe.legs))]
    for leg in reversed(range(len(recipe.legs))):
        if sought in (stands[leg], "final"):
            return end_of_leg(recipe, leg)
    words = {"pre-cooldown": "pre-cooldown", "converged": "decayed"}
    ends = ", ".join(
        f"leg {index} at iteration {leg.iterations} ({words.get(stands[index], stands[index])})"
        for index, leg in enumerate(recipe.legs)
    )
    return f"{stage} has no {sought} checkpoint at the end of a leg; there is {ends}"


def _iterations(end: int, saved: Sequence[int] | None) -> Iterator[int]:
    """Iterations of a leg's checkpoints, its end among them."""
    yield from sorted({*(at for at in saved or () if 0 < at < end), end})


def _fits(
    recipe: Recipe, point: tuple[int, int], sought: AtLegIteration | AtTokens | AtRate, rates: NamedRates
) -> bool:
    leg, iteration = point
    match sought:
        case AtLegIteration():
            wanted = len(recipe.legs) - 1 if sought.leg is None else sought.leg
            return point == (wanted, sought.iteration)
        case AtTokens():
            return _tokens(recipe, leg, iteration) >= sought.tokens_at_least
        case AtRate():
            done = recipe.legs[leg]
            position, limit = done.position + iteration, rates.of(sought.rate_at_most) * recipe.rate_scale
            falling = position >= done.curve.warmup and not at_peak(done.curve, position)
            return falling and rate_at(done.curve, position) <= limit * (1 + SAME)


def _tokens(recipe: Recipe, leg: int, iteration: int) -> int:
    """Tokens that the stage had been trained on."""
    return (sum(done.iterations for done in recipe.legs[:leg]) + iteration) * recipe.tokens_per_iteration


def _distance(recipe: Recipe, point: tuple[int, int], sought: AtLegIteration | AtTokens | AtRate) -> float:
    leg, iteration = point
    if isinstance(sought, AtLegIteration):
        other_leg = sought.leg is not None and sought.leg != leg
        return abs(iteration - sought.iteration) + (1e12 if other_leg else 0)
    return -_tokens(recipe, leg, iteration)


def _described(recipe: Recipe, leg: int, iteration: int) -> str:
    done, tokens = recipe.legs[leg], approximate_tokens(_tokens(recipe, leg, iteration))
    return f"leg {leg} at iteration {iteration} ({rate_at(done.curve, done.position + iteration):.4g}, {tokens} tokens)"


def _stands(recipe: Recipe, leg: int, lr_max: float) -> str:
    """`pre-cooldown`, `converged`, or words for what is neither."""
    if pre_cooldown(recipe, leg, lr_max):
        return "pre-cooldown"
    done = recipe.legs[leg]
    position = done.position + done.iterations
    return "converged" if ended(done.curve, position) else f"in its decay, at {rate_at(done.curve, position):.4g}"


def _rewarmed(recipe: Recipe, leg: int) -> bool:
    return any(earlier.load is Load.REWARM for earlier in recipe.legs[: leg + 1])
