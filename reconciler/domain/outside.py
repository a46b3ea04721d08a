"""A checkpoint made elsewhere: which one of its folder a manifest means, and whether it is what the manifests say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.domain.checkpoint import told
from reconciler.domain.schedule import SAME, NamedRates
from reconciler.model.manifests import ModelSpec
from reconciler.model.observed import CheckpointSeen, FolderSeen, Inside, Wish
from reconciler.model.quantities import approximate_tokens
from reconciler.model.recipe import SourceRecipe
from reconciler.model.strategy import AtIteration, AtRate, AtTokens, ExternalSource

NEAR_MAX: Final = 4
"""Candidates that are told where none fits."""
RATE_TOLERANCE: Final = 0.01
"""Of LR max: a manifest has the rate that was logged last, a checkpoint that of the next step."""
CONVERGED: Final = 0.01
"""Share of a decay that may be left at a checkpoint which counts as converged."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a stage starts from."""

    source: SourceRecipe
    """Its position in iterations of `batch`."""
    batch: int
    """Global batch that it was trained with."""


def wish(wanted: ExternalSource, rates: NamedRates) -> Wish:
    """What the agent is asked to look into."""
    universal, sought = wanted.format == "universal", wanted.checkpoint
    match sought:
        case AtIteration():
            return Wish("iteration", sought.iteration, universal)
        case AtTokens():
            return Wish("tokens", sought.tokens_at_least, universal)
        case AtRate():
            return Wish("rate", rates.of(sought.rate_at_most), universal)
        case "pre-cooldown":
            return Wish("pre-cooldown", 0, universal)
        case _:
            return Wish("newest", 0, universal)


def declared(wanted: ExternalSource, model: ModelSpec) -> Outside | str:
    """The source by its manifest alone, or why only a look can tell."""
    if not isinstance(wanted.checkpoint, AtIteration):
        which = f"which checkpoint of {wanted.path} is {told(wanted.checkpoint)}, only a look at the cluster tells"
        return f"{which}. `reconcile plan` looks there; `checkpoint: {{iteration: N}}` names one"
    iteration, universal = wanted.checkpoint.iteration, wanted.format == "universal"
    source = SourceRecipe(
        external=wanted.path,
        iteration=iteration,
        position=iteration,
        data_parallel=0 if universal else wanted.data_parallel or 0,
        universal=universal,
        rate=None if wanted.rate is None else float(wanted.rate),
        wish=told(wanted.checkpoint),
    )
    return Outside(source, model.batch.global_)


def found(
    wanted: ExternalSource, folder: FolderSeen, model: ModelSpec, rates: NamedRates, *, waived: bool = False
) -> Outside | str:
    """The source as it lies there, or why there is none that can be used; `waived`: the Model may be another."""
    seen = chosen(wanted, folder, rates)
    if isinstance(seen, str):
        return seen
    inside = seen.inside or Inside()
    differ = list(_differences(wanted, seen, inside, model, rates, waived=waived))
    if differ:
        name = f"global_step{seen.iteration}{'_universal' if seen.universal else ''}"
        return f"{wanted.path}/{name} is not what the manifests say: {'; '.join(differ)}"
    batch = inside.global_batch or model.batch.global_
    position, remainder = seen.iteration, 0
    if inside.position is not None and inside.global_batch:
        # The schedule counts samples, and goes on counting where an iteration counter was set back to 0.
        position, remainder = divmod(int(inside.position), batch)
    source = SourceRecipe(
        external=wanted.path,
        iteration=seen.iteration,
        position=position,
        data_parallel=0 if seen.universal else seen.data_parallel,
        universal=seen.universal,
        rate=inside.rate if wanted.rate is None else float(wanted.rate),
        wish=told(wanted.checkpoint),
        remainder=remainder,
    )
    return Outside(source, batch)


def chosen(wanted: ExternalSource, folder: FolderSeen, rates: NamedRates) -> CheckpointSeen | str:
    """The complete checkpoint with the wanted property, or why there is none, with the near ones."""
    universal, sought = wanted.format == "universal", wanted.checkpoint
    there = [seen for seen in folder.checkpoints if seen.universal is universal]
    whole = [seen for seen in there if seen.complete]
    fits = [seen for seen in whole if seen.inside is not None and _fits(wanted, seen, seen.inside, rates)]
    if not fits:
        form, point = "universal " if universal else "", told(sought)
        what = f"{point} {form}checkpoint" if isinstance(sought, str) else f"{form}checkpoint {point}"
        return f"{wanted.path} has no complete {what}; {_near(wanted, there, rates)}"
    found = fits[0] if isinstance(sought, AtTokens | AtRate) else fits[-1]
    if universal and folder.latest_universal != found.iteration:
        # The launcher is given no tag for it.
        names = f"iteration {folder.latest_universal}" if folder.latest_universal is not None else "no checkpoint"
        return f"{wanted.path}: its iteration {found.iteration} cannot be loaded: latest_universal names {names}"
    return found


def _fits(wanted: ExternalSource, seen: CheckpointSeen, inside: Inside, rates: NamedRates) -> bool:
    sought = wanted.checkpoint
    match sought:
        case AtIteration():
            return seen.iteration == sought.iteration
        case AtTokens():
            return (inside.trained_tokens or 0) >= sought.tokens_at_least
        case AtRate():
            rate = inside.rate
            return rate is not None and decayed(inside) and rate <= rates.of(sought.rate_at_most) * (1 + SAME)
        case "pre-cooldown":
            return inside.rate is not None and inside.rate >= float(rates.max) * rates.scale * (1 - SAME)
        case "converged":
            return converged(inside)
        case _:
            return True


def decayed(inside: Inside) -> bool:
    """Whether the rate has left its peak for good: it is lower, and past the warm-up."""
    if inside.rate is None or inside.rate_max is None:
        return False
    warmed = inside.position is None or inside.position >= (inside.warmup or 0.0)
    return inside.rate < inside.rate_max * (1 - SAME) and warmed


def converged(inside: Inside) -> bool:
    """Whether nothing is left of its decay that matters."""
    if not decayed(inside) or inside.rate is None or inside.rate_max is None:
        return False
    low = inside.rate_min or 0.0
    return inside.rate <= low + CONVERGED * (inside.rate_max - low)


def stands(inside: Inside) -> str:
    """Where on its schedule a checkpoint stands, in a word; empty where it does not say."""
    if inside.rate is None or inside.rate_max is None:
        return ""
    if not decayed(inside):
        return "at its peak" if inside.rate >= inside.rate_max * (1 - SAME) else "warming up"
    return "converged" if converged(inside) else "decaying"


def _near(wanted: ExternalSource, there: Sequence[CheckpointSeen], rates: NamedRates) -> str:
    """What there is instead, the nearest first."""
    if not there:
        other = "universal" if wanted.format == "zero" else "ordinary"
        return f"there is none of that form; is it of the other, {other}?"
    told_of = sorted((seen for seen in there), key=lambda seen: _distance(wanted, seen, rates))[:NEAR_MAX]
    return "there is " + ", ".join(map(described, sorted(told_of, key=lambda seen: seen.iteration)))


def _distance(wanted: ExternalSource, seen: CheckpointSeen, rates: NamedRates) -> float:
    """How far a checkpoint is from what is sought; those that were not looked into come last, newest first."""
    sought, inside = wanted.checkpoint, seen.inside
    if isinstance(sought, AtIteration):
        return abs(seen.iteration - sought.iteration)
    if inside is not None and isinstance(sought, AtTokens):
        return abs((inside.trained_tokens or 0) - sought.tokens_at_least)
    if inside is not None and inside.rate is not None and sought in ("pre-cooldown", "converged"):
        aim = float(rates.max) * rates.scale if sought == "pre-cooldown" else inside.rate_min or 0.0
        return abs(inside.rate - aim)
    return 1e18 - seen.iteration


def described(seen: CheckpointSeen) -> str:
    """One checkpoint, with what it says of itself or why it is incomplete."""
    if not seen.complete:
        return f"iteration {seen.iteration} (incomplete: {seen.why_not})"
    inside = seen.inside or Inside()
    facts = [f"{inside.rate:.4g}"] if inside.rate is not None else []
    facts += [f"{approximate_tokens(inside.trained_tokens)} tokens"] if inside.trained_tokens else []
    return f"iteration {seen.iteration}" + (f" ({', '.join(facts)})" if facts else "")


def _differences(
    wanted: ExternalSource, seen: CheckpointSeen, inside: Inside, model: ModelSpec, rates: NamedRates, *, waived: bool
) -> Iterator[str]:
    """Where what is inside and what is declared differ."""
    shape, cut = model.architecture, model.parallelism
    pairs: list[tuple[str, object, object]] = [
        ("layers", inside.layers, shape.layers),
        ("hidden", inside.hidden, shape.hidden),
        ("heads", inside.heads, shape.heads),
        ("kvHeads", inside.kv_heads, shape.kv_heads),
    ]
    if not seen.universal:
        pairs += [
            ("tensor-parallel size", inside.tensor, cut.tensor),
            ("pipeline stages", inside.pipeline, cut.pipeline),
        ]
        pairs.append(("dataParallel", seen.data_parallel, wanted.data_parallel or seen.data_parallel))
    if not waived:
        pairs += [
            ("ffnHidden", inside.ffn_hidden, shape.ffn_hidden),
            ("ropeTheta", inside.rope_theta, shape.rope_theta),
            ("sequenceLength", inside.sequence_length, model.sequence_length),
            ("precision", inside.precision, model.precision),
            ("optimizer", inside.optimizer, model.optimizer.name),
            ("tokenizer", inside.tokenizer, model.tokenizer.type),
        ]
    for what, was, now in pairs:
        if was is not None and was != now:
            yield f"{what} is {was} inside, {now} is declared"
    if seen.universal and inside.tensor == 1 and cut.tensor > 1:
        # Megatron lists which parameters are split by columns only where some are.
        yield (
            f"tensor-parallel size is 1 inside, {cut.tensor} is declared: it does not say how its parameters are split "
            "and would load wrong without an error"
        )
    if wanted.rate is not None and inside.rate is not None:
        far = abs(inside.rate - float(wanted.rate)) > RATE_TOLERANCE * float(max(rates.max, wanted.rate))
        if far:
            yield f"its rate is {inside.rate:.4g} inside, {float(wanted.rate):.4g} is declared"
