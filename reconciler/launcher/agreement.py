"""A rendered script against its recipe: where the oracle, which reads the script alone, differs from what is declared.

Pure and quick (about 200 rates), so that every plan can be held to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reconciler.domain.schedule import rate_at
from reconciler.launcher.forecast import ITEMS, Forecast, State
from reconciler.launcher.oracle import same_folder
from reconciler.launcher.scheduler import WouldStop
from reconciler.launcher.scriptreader import NoCall, Script, Unreadable, read_script
from reconciler.launcher.traps import judge
from reconciler.model.plan import Training
from reconciler.model.problems import Severity
from reconciler.model.recipe import LegRecipe, Load, Shape

POINTS: Final = 200
RATE_TOLERANCE: Final = 1e-6
"""Relative to the rate."""
SHORT_JOB_S: Final = 120
"""A shorter job cannot be told to end before its walltime, since the launcher counts in whole minutes."""
FOREIGN: Final = 0.37
"""The schedule that a source is pretended to store differs from the declared one by this factor, so that a script which
leans on what the source stores is found out."""
NEVER_OURS: Final = frozenset(
    {"ORA001", "ORA002", "ORA003", "ORA004", "ORA005", "ORA006", "ORA008", "ORA026", "ORA029", "ORA030", "ORA050",
     "ORA051", "ORA053", "ORA054", "ORA055", "ORA061"}
)  # fmt: skip
"""Warnings that a script of a person's may have its reasons for, and a rendered one never."""
_STORED: Final = {Shape.COSINE: "cosine", Shape.LINEAR: "linear", Shape.EXPONENTIAL: "infinite-cosine"}
"""Style that a checkpoint of a leg stores; every other shape is a `constant` one."""
_TAKEN: Final = {
    Load.RANDOM: frozenset[str](),
    Load.CONTINUE: frozenset({"weights", "optimizer", "scheduler", "rng"}),
    Load.REWARM: frozenset({"weights"}),
}


def agrees(declared: Training, text: str) -> tuple[str, ...]:
    """Every difference between what is declared and what the script `text` makes the launcher do, in words."""
    try:
        script = read_script(text)
    except (NoCall, Unreadable) as problem:
        return (f"it cannot be read: {problem}",)
    return tuple(_differences(declared, script, judge(script, state_of(declared))))


def state_of(declared: Training) -> State | None:
    """The checkpoint that a script should find at LOAD, as far as the recipe tells; None from random weights.

    A job's own checkpoint stores its leg's schedule. A source's may store anything, and is made up to fit nothing.
    """
    recipe, leg = declared.recipe, declared.leg
    this, batch = recipe.legs[leg], int(recipe.model["batch"]["global_"])
    if declared.newest is not None:
        return _own(this, batch, declared)
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
        path=declared.load,
        num_steps=position * batch + (_beyond(declared) if this.load is Load.CONTINUE else 0),
    )


def _beyond(declared: Training) -> int:
    """Samples that the schedule has counted beyond whole iterations, after a source of another batch."""
    recipe = declared.recipe
    rewarmed = any(leg.load is Load.REWARM for leg in recipe.legs[: declared.leg + 1])
    return 0 if rewarmed else recipe.source.remainder


def _own(leg: LegRecipe, batch: int, declared: Training) -> State:
    curve, newest = leg.curve, declared.newest or 0
    style = _STORED.get(curve.shape, "constant")
    warmup = curve.warmup if style == "constant" else curve.start
    return State(
        iteration=newest,
        global_batch=batch,
        max_lr=curve.high,
        min_lr=curve.low if curve.shape is not Shape.CONSTANT else 0.0,
        style=style,
        warmup=warmup * batch,
        decay=curve.end * batch,
        data_parallel=declared.recipe.data_parallel,
        path=declared.load,
        num_steps=(leg.position + newest) * batch + _beyond(declared),
    )


def _differences(declared: Training, script: Script, forecast: Forecast) -> Iterator[str]:
    recipe, settings = declared.recipe, forecast.settings
    leg = recipe.legs[declared.leg]
    for finding in forecast.findings:
        wrong = finding.severity is Severity.ERROR or finding.code in NEVER_OURS
        if wrong or _avoidable(finding.code, script, forecast):
            yield f"{finding.code} {finding.message}"
    wanted: dict[str, tuple[object, object]] = {
        "starts at iteration": (declared.newest or 0, forecast.start_iteration),
        "trains to iteration": (leg.iterations, forecast.train_iters),
        "global batch": (int(recipe.model["batch"]["global_"]), forecast.global_batch_size),
        "data-parallel size": (recipe.data_parallel, settings.data_parallel),
        "sequence length": (int(recipe.model["sequence_length"]), settings.seq),
        "precision": (recipe.model["precision"], settings.given("DTYPE")),
        "data list": (declared.data_list, forecast.data_file_list),
        "loads from": (declared.load or forecast.save, forecast.load),
        "checkpoint named": (_tag(declared), settings.load_tag),
        "universal": (declared.universal, settings.has("universal-checkpoint")),
        "only evaluates": (False, settings.has("skip-train")),
    }
    for what, (said, found) in wanted.items():
        if said != found:
            yield f"{what}: {said} is declared, the script gives {found}"
    yield from _loading(declared, forecast)
    yield from _rates(leg, forecast, declared.newest or 0)


def _avoidable(code: str, script: Script, forecast: Forecast) -> bool:
    """Whether a warning that some jobs cannot do without is one that this job can."""
    return (code == "ORA056" and (forecast.settings.save_interval or 0) > 1) or (
        code == "ORA062" and (script.walltime_s or 0) >= SHORT_JOB_S
    )


def _tag(declared: Training) -> str:
    """What `--load-tag` must name: `latest` may run ahead of its shards. A universal folder has its own pointer."""
    if declared.newest is not None:
        return f"global_step{declared.newest}"
    if declared.universal or not declared.load:
        return ""
    before = declared.recipe.legs[declared.leg - 1].iterations if declared.leg else declared.recipe.source.iteration
    return f"global_step{before}"


def _loading(declared: Training, forecast: Forecast) -> Iterator[str]:
    settings, leg = forecast.settings, declared.recipe.legs[declared.leg]
    wanted = frozenset(ITEMS) if declared.newest is not None else _TAKEN[leg.load]
    if declared.newest is None and leg.load is Load.REWARM and declared.universal:
        wanted |= {"optimizer"}
    taken = frozenset(forecast.kept)
    if taken != wanted:
        yield (
            f"taken from the checkpoint: {', '.join(sorted(wanted)) or 'nothing'} is declared, the script takes "
            f"{', '.join(sorted(taken)) or 'nothing'}"
        )
    together = same_folder(forecast.load, forecast.save)
    if together != (declared.newest is not None or leg.load is Load.RANDOM):
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
