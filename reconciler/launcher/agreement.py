"""A rendered script against its recipe: where the oracle, which reads the script alone, differs from what is declared.

Pure and quick (about 200 rates), so that every plan can be held to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reconciler.domain.schedule import rate_at
from reconciler.launcher.forecast import ITEMS, Forecast, State
from reconciler.launcher.oracle import same_folder, tagged_iteration
from reconciler.launcher.scheduler import WouldStop
from reconciler.launcher.scriptreader import NoCall, Script, Unreadable, read_script
from reconciler.launcher.settings import settings_of
from reconciler.launcher.traps import judge
from reconciler.model.problems import Severity
from reconciler.model.recipe import LegRecipe, Load, Recipe, Shape

POINTS: Final = 200
RATE_TOLERANCE: Final = 1e-6
"""Relative to the rate."""
FOREIGN: Final = 0.37
"""The schedule that a source is pretended to store differs from the declared one by this factor, so that a script which
leans on what the source stores is found out."""
_TAKEN: Final = {
    Load.RANDOM: frozenset[str](),
    Load.CONTINUE: frozenset({"weights", "optimizer", "scheduler", "rng"}),
    Load.REWARM: frozenset({"weights"}),
}


def agrees(recipe: Recipe, leg: int, text: str, *, newest: int | None, data_list: str = "") -> tuple[str, ...]:
    """Every difference between the script `text` and leg `leg` of `recipe`, in words; empty if there is none.

    `newest` is the iteration of the leg's own checkpoint that the job must go on from; None for a first job.
    `data_list` is the absolute path of the list it must train on; empty to leave that out.
    """
    try:
        script = read_script(text)
    except (NoCall, Unreadable) as problem:
        return (f"it cannot be read: {problem}",)
    state = state_of(recipe, leg, script, newest)
    return tuple(_differences(recipe, leg, script, judge(script, state), newest, data_list))


def state_of(recipe: Recipe, leg: int, script: Script, newest: int | None) -> State | None:
    """The checkpoint that the script should find at LOAD, as far as the recipe tells; None from random weights.

    A job's own checkpoint stores its leg's schedule. A source's may store anything, and is made up to fit nothing.
    """
    this, batch = recipe.legs[leg], recipe.data_parallel * recipe.accumulation * int(recipe.model["batch"]["micro"])
    load = settings_of(script, script.calls[0]).load
    if newest is not None:
        position = this.position + newest
        return _own(this, batch, newest, position, recipe.data_parallel, load)
    if this.load is Load.RANDOM:
        return None
    iteration = recipe.legs[leg - 1].iterations if leg else recipe.source.iteration
    before = sum(earlier.iterations for earlier in recipe.legs[:leg])
    position = this.position if this.load is Load.CONTINUE else recipe.source.position + before
    made_by = recipe.data_parallel if leg else recipe.source.data_parallel or None
    return State(
        iteration=iteration,
        global_batch=batch,
        max_lr=this.curve.high * FOREIGN,
        min_lr=this.curve.low * FOREIGN,
        style="linear",
        warmup=position * batch * FOREIGN,
        decay=position * batch + 7.0,
        data_parallel=made_by,
        path=load,
        num_steps=position * batch,
    )


def _own(leg: LegRecipe, batch: int, iteration: int, position: int, data_parallel: int, load: str) -> State:
    curve = leg.curve
    warmup = curve.start if curve.shape is Shape.COSINE else curve.warmup
    return State(
        iteration=iteration,
        global_batch=batch,
        max_lr=curve.high,
        min_lr=curve.low if curve.shape is not Shape.CONSTANT else 0.0,
        style="cosine" if curve.shape is Shape.COSINE else "constant",
        warmup=warmup * batch,
        decay=curve.end * batch,
        data_parallel=data_parallel,
        path=load,
        num_steps=position * batch,
    )


def _differences(
    recipe: Recipe, leg: int, script: Script, forecast: Forecast, newest: int | None, data_list: str
) -> Iterator[str]:
    this, settings = recipe.legs[leg], forecast.settings
    if len(script.calls) != 1:
        yield f"it calls the launcher {len(script.calls)} times"
    for finding in forecast.findings:
        if finding.severity is Severity.ERROR or finding.code in ("ORA001", "ORA003", "ORA008"):
            yield f"{finding.code} {finding.message}"
    wanted: dict[str, tuple[object, object]] = {
        "starts at iteration": (newest or 0, forecast.start_iteration),
        "trains to iteration": (this.iterations, forecast.train_iters),
        "global batch": (int(recipe.model["batch"]["global_"]), forecast.global_batch_size),
        "data-parallel size": (recipe.data_parallel, settings.data_parallel),
        "sequence length": (int(recipe.model["sequence_length"]), settings.seq),
        "precision": (recipe.model["precision"], settings.given("DTYPE")),
    }
    if data_list:
        wanted["data list"] = (data_list, forecast.data_file_list)
    if newest is not None:
        wanted["checkpoint loaded"] = (newest, tagged_iteration(settings))
    for what, (declared, found) in wanted.items():
        if declared != found:
            yield f"{what}: {declared} is declared, the script gives {found}"
    yield from _loading(this, forecast, newest)
    yield from _rates(this, forecast, newest or 0)


def _loading(leg: LegRecipe, forecast: Forecast, newest: int | None) -> Iterator[str]:
    settings = forecast.settings
    wanted = frozenset(ITEMS) if newest is not None else _TAKEN[leg.load]
    if newest is None and leg.load is Load.REWARM and settings.has("universal-checkpoint"):
        wanted |= {"optimizer"}
    taken = frozenset(forecast.kept)
    if taken != wanted:
        yield (
            f"taken from the checkpoint: {', '.join(sorted(wanted)) or 'nothing'} is declared, the script takes "
            f"{', '.join(sorted(taken)) or 'nothing'}"
        )
    together = same_folder(forecast.load, forecast.save)
    if together != (newest is not None or leg.load is Load.RANDOM):
        yield (
            f"it loads from {forecast.load} and saves to {forecast.save}: the two differ for a first job that has a "
            "source, and are one folder otherwise"
        )
    if settings.given("CKPT_DIR") != forecast.save:
        yield f"CKPT_DIR is {settings.given('CKPT_DIR')!r} and SAVE {forecast.save!r}: the index cache goes elsewhere"


def _rates(leg: LegRecipe, forecast: Forecast, start: int) -> Iterator[str]:
    """The declared curve at about `POINTS` iterations and around every corner of it; the first difference is told.

    The first step after a load is taken with the checkpoint's rate whatever the schedule says, so the schedule itself
    is compared there. The launcher cuts the cooldown's length to whole samples, so it may begin one sample late; a root
    is steep there, and one sample either way is allowed for.
    """
    if forecast.schedule is None:
        yield "no rate can be worked out for it"
        return
    curve, batch = leg.curve, forecast.global_batch_size or 0
    corners = [corner - leg.position + off for corner in (curve.warmup, curve.start, curve.end) for off in (-1, 0, 1)]
    spread = [start + round(i * (leg.iterations - start) / POINTS) for i in range(POINTS + 1)]
    for iteration in sorted({*corners, *spread}):
        if not start <= iteration <= leg.iterations:
            continue
        declared = rate_at(curve, leg.position + iteration)
        samples = forecast.samples + (iteration - start) * batch
        try:
            around = [forecast.schedule.rate(max(0, samples + off)) for off in (-1, 0, 1)]
        except WouldStop:
            return  # told as an error already
        slack = RATE_TOLERANCE * declared + curve.high * 1e-9
        if not min(around) - slack <= declared <= max(around) + slack:
            yield f"rate after iteration {iteration}: {declared:.9g} is declared, the script gives {around[1]:.9g}"
            return
