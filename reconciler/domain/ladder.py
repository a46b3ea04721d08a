"""When a rung is tried, and what a manifest may say of that: conditions, and the matrix of a trial. Pure.

Variants of a trial are listed only where there are few of them: two axes of a thousand values are a problem, not work.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from reconciler.domain import trial as trials
from reconciler.domain.catalog import Catalog
from reconciler.model.manifests import StageManifest
from reconciler.model.problems import Path, Problem, near, one_of
from reconciler.model.quantities import format_tokens
from reconciler.model.strategy import Leg, Strategy, Trial, UsedStrategy

GATE_OF: Final[Mapping[str, str]] = {
    "forgetting": "forgetting",
    "no-recovery": "recovery",
    "divergence": "divergence",
}
"""What a condition's word calls the failure of a gate → the gate."""
SWITCHED: Final = ("forgetting", "recovery")
"""Gates that may be off."""
VARIANTS_MAX: Final = 12


def not_tried(strategy: Strategy, failed: Collection[str], used: Mapping[str, str]) -> str:
    """Why a rung's condition does not hold, in words; empty if it holds.

    `failed` holds the gates that failed rungs before it in this ladder; `used` maps stages before this one to the
    strategy that each was done by.
    """
    match strategy.if_:
        case None:
            return ""
        case UsedStrategy(stage=stage, used=wanted):
            was = used.get(stage, "")
            if was in wanted:
                return ""
            done = f"was done by {was}" if was else "is not done"
            return f"only if {stage} was done by {one_of(wanted)}; it {done}"
        case word:
            if GATE_OF[word] in failed:
                return ""
            return f"only after a rung before it failed the {GATE_OF[word]} gate; none did"


def hangs_on_failure(strategy: Strategy) -> bool:
    """Whether its condition asks for the failure of a rung above it, so that it cannot hold at the top."""
    return isinstance(strategy.if_, str)


def first_tried(stage: StageManifest, used: Mapping[str, str]) -> Strategy | None:
    """The rung that is tried if nothing fails; None if none is."""
    return next((strategy for strategy in stage.spec.strategies if not not_tried(strategy, (), used)), None)


def mixtures(strategy: Strategy) -> Iterator[tuple[Path, Mapping[str, Decimal]]]:
    """(path within the strategy, mixture) of every leg and of every variant of a trial."""
    for number, leg in enumerate(strategy.legs):
        yield ("legs", number, "mixture"), leg.mixture
    if strategy.trial is not None:
        for name, mixture in strategy.trial.matrix.mixture.items():
            yield ("trial", "matrix", "mixture", name), mixture


def few_variants(strategy: Strategy) -> tuple[Strategy, ...]:
    """The variants of a trial; none of one that has more than it may."""
    few = strategy.trial is not None and count(strategy.trial) <= VARIANTS_MAX
    return trials.variants(strategy) if few else ()


def stage(catalog: Catalog, manifest: StageManifest) -> Iterator[Problem]:
    """What a stage's trials lack by themselves, and names that two strategies or variants would share."""
    named: dict[str, Path] = {}
    for rung, strategy in enumerate(manifest.spec.strategies):
        path: Path = ("spec", "strategies", rung)
        named.setdefault(strategy.name, (*path, "name"))
    for rung, strategy in enumerate(manifest.spec.strategies):
        path = ("spec", "strategies", rung, "trial")
        if strategy.trial is None or catalog.doubts(manifest, *path):
            continue
        yield from _matrix(catalog, manifest, path, strategy, strategy.trial)
        variants = [variant.name for variant in few_variants(strategy)]
        yield from _names(catalog, manifest, path, variants, strategy.trial, named)


def campaign(catalog: Catalog, name: str) -> Iterator[Problem]:
    """What a ladder's conditions and trials refer to in the campaign: earlier stages, gates, validation sets."""
    stages = catalog.stages(name)
    for index, manifest in enumerate(stages):
        for rung, strategy in enumerate(manifest.spec.strategies):
            path: Path = ("spec", "strategies", rung)
            if strategy.if_ is not None and not catalog.doubts(manifest, *path, "if"):
                yield from _condition(catalog, manifest, (*path, "if"), rung, strategy, stages[:index])
            if strategy.trial is not None and not catalog.doubts(manifest, *path, "trial"):
                yield from _compared(catalog, name, manifest, (*path, "trial"), strategy.trial)
                yield from _pilot_steps(catalog, name, manifest, rung, strategy, strategy.trial)


def count(trial: Trial) -> int:
    """How many variants a trial has."""
    axes = (trial.matrix.mixture, set(trial.matrix.divisor), set(trial.matrix.rate))
    return math.prod(max(1, len(axis)) for axis in axes)


def _condition(
    catalog: Catalog,
    manifest: StageManifest,
    path: Path,
    rung: int,
    strategy: Strategy,
    earlier: tuple[StageManifest, ...],
) -> Iterator[Problem]:
    name, wanted = manifest.metadata.name, strategy.if_
    if isinstance(wanted, UsedStrategy):
        yield from _used(catalog, manifest, path, wanted, earlier)
        return
    assert wanted is not None  # noqa: S101  # the caller has looked
    gate = GATE_OF[wanted]
    gates = manifest.spec.gates or catalog.campaign(manifest.spec.campaign).spec.gates
    where, found = catalog.where(manifest, *path), f"if: {wanted}"
    if rung == 0:
        detail = f"strategy {strategy.name} is the first of stage {name}, so that none before it can have failed"
        yield Problem("M070", where, detail, found, fix="Leave `if` out, or put a rung before it.")
    elif gate in SWITCHED and getattr(gates, gate) is None:
        detail = f"the {gate} gate of stage {name} is off, so that it never fails"
        yield Problem("M070", where, detail, found, fix=f"Leave `if` out, or turn the {gate} gate on.")


def _used(
    catalog: Catalog, manifest: StageManifest, path: Path, wanted: UsedStrategy, earlier: tuple[StageManifest, ...]
) -> Iterator[Problem]:
    known = {stage.metadata.name: stage for stage in earlier}
    listed = catalog.campaign(manifest.spec.campaign).spec.stages
    if wanted.stage not in known:
        expected = f"an earlier stage: {one_of(known)}" if known else "no such condition in the first stage"
        where = catalog.where(manifest, *path, "stage")
        if wanted.stage in listed:
            what = "is this one" if wanted.stage == manifest.metadata.name else "comes later"
            yield Problem("M070", where, f"stage {wanted.stage} {what}", wanted.stage, expected)
        else:
            yield _unknown(where, f"stage {wanted.stage}", wanted.stage, known, expected)
        return
    names = [strategy.name for strategy in known[wanted.stage].spec.strategies]
    if catalog.doubts(known[wanted.stage], "spec", "strategies"):
        return
    for place, used in enumerate(wanted.used):
        if used not in names:
            where = catalog.where(manifest, *path, "used", place)
            detail = f"strategy {used} of stage {wanted.stage}"
            yield _unknown(where, detail, used, names, f"one of its strategies: {one_of(names)}")


def _unknown(where: object, detail: str, found: str, known: Iterable[str], expected: str) -> Problem:
    meant = near(found, known)
    fix = f"Did you mean {meant}?" if meant else None
    return Problem("M041", where, detail, found, expected, fix)  # type: ignore[arg-type]


def _matrix(
    catalog: Catalog, manifest: StageManifest, path: Path, strategy: Strategy, trial: Trial
) -> Iterator[Problem]:
    """Axes that vary something, few variants, and pilots that are shorter than the stage."""
    at, many = (*path, "matrix"), count(trial)
    of = f"the trial of strategy {strategy.name}"

    def problem(where: Path, detail: str, found: str | None = None, expected: str | None = None) -> Problem:
        return Problem("M071", catalog.where(manifest, *where), detail, found, expected)

    if not (trial.matrix.mixture or trial.matrix.divisor or trial.matrix.rate):
        yield problem(at, f"{of} varies nothing", expected="mixture, divisor or rate")
    for name, same in _same_mixtures(trial.matrix.mixture):
        yield problem(
            (*at, "mixture", name), f"{of} would compare {same} with itself", f"{name} has the weights of {same}"
        )
    if many > VARIANTS_MAX:
        yield problem(at, of, f"{many} variants", f"at most {VARIANTS_MAX}")
    decays, rewarms = trials.decay_leg(strategy.legs), trials.rewarmed_leg(strategy.legs)
    if trial.matrix.divisor and decays is None:
        yield problem((*at, "divisor"), f"{of} varies where a decay ends, but no leg declares one")
    if trial.matrix.rate and rewarms is None:
        yield problem((*at, "rate"), f"{of} varies the rate of a rewarm, but no leg has rewarm: true")
    if trial.tokens >= manifest.spec.tokens and not catalog.doubts(manifest, "spec", "tokens"):
        less = f"less than {format_tokens(manifest.spec.tokens)}, the stage's tokens"
        yield problem((*path, "tokens"), of, format_tokens(trial.tokens), less)


def _same_mixtures(mixtures: Mapping[str, Mapping[str, Decimal]]) -> Iterator[tuple[str, str]]:
    """(name, earlier name) of mixtures that draw the same: pilots of one would be those of the other."""
    first: dict[frozenset[tuple[str, Decimal]], str] = {}
    for name, mixture in mixtures.items():
        earlier = first.setdefault(frozenset((term, weight) for term, weight in mixture.items() if weight), name)
        if earlier != name:
            yield name, earlier


def _names(
    catalog: Catalog, manifest: StageManifest, path: Path, variants: list[str], trial: Trial, named: dict[str, Path]
) -> Iterator[Problem]:
    for variant in variants:
        first = named.setdefault(variant, path)
        if first is not path:
            where, there = catalog.where(manifest, *path, "matrix"), catalog.where(manifest, *first)
            yield Problem("M051", where, f"two strategies are called {variant}", related=((there, "the first"),))
    if variants and trial.chosen is not None and trial.chosen not in variants:
        where = catalog.where(manifest, *path, "chosen")
        yield _unknown(where, f"variant {trial.chosen}", trial.chosen, variants, f"a variant: {one_of(variants)}")


def _compared(catalog: Catalog, name: str, manifest: StageManifest, path: Path, trial: Trial) -> Iterator[Problem]:
    model = catalog.model_of(name)
    if catalog.doubts(model, "spec", "validation", "sets"):
        return
    sets = [chosen.name for chosen in model.spec.validation.sets]
    for place, label in enumerate(trial.compare):
        if label not in sets:
            where = catalog.where(manifest, *path, "compare", place)
            detail = f"validation set {label} of model {model.metadata.name}"
            yield _unknown(where, detail, label, sets, f"one of its validation sets: {one_of(sets)}")
        elif label in trial.compare[:place]:
            where = catalog.where(manifest, *path, "compare", place)
            detail = f"the trial would count {label} twice in the mean of its losses"
            yield Problem("M071", where, detail, label, fix="Name each validation set once.")


def _pilot_steps(
    catalog: Catalog, name: str, manifest: StageManifest, rung: int, strategy: Strategy, trial: Trial
) -> Iterator[Problem]:
    """A pilot, and every leg of it whose tokens are declared, is at least one optimizer step."""
    model = catalog.model_of(name)
    if any(catalog.doubts(model, "spec", *field) for field in (("batch", "global"), ("sequenceLength",))):
        return
    if catalog.doubts(manifest, "spec", "tokens") or catalog.doubts(manifest, "spec", "strategies", rung, "legs"):
        return
    step = model.spec.tokens_per_iteration
    legs: tuple[Leg, ...] = trials.pilot(manifest, strategy, trial.tokens).spec.strategies[0].legs
    least = min((leg.tokens for leg in legs if leg.tokens is not None), default=trial.tokens)
    if min(least, trial.tokens) < step:
        what = f"the shortest leg of a pilot of strategy {strategy.name}" if least < trial.tokens else "the pilot"
        batch = f"global batch {model.spec.batch.global_} × sequence length {model.spec.sequence_length}"
        yield Problem(
            "M062",
            catalog.where(manifest, "spec", "strategies", rung, "trial", "tokens"),
            f"{what}, shortened with all legs to {format_tokens(trial.tokens)} tokens in all",
            f"{least} tokens",
            f"at least {step} tokens, one step: {batch}",
            related=((catalog.where(model, "spec", "batch"), f"the batch of model {model.metadata.name}"),),
        )
