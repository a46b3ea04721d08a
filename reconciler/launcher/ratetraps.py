"""Traps of the learning rate: what a schedule does that the one who wrote it most likely did not mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from reconciler.launcher.forecast import Finding, Forecast, Mode, State, stop
from reconciler.launcher.oracle import same_folder
from reconciler.launcher.scheduler import Schedule, WouldStop

JUMP: Final = 0.05
"""A rate that changes by more than this share at a load is a jump."""
_TOKEN_FLAGS: Final = ("lr-decay-tokens", "lr-warmup-tokens", "lr-constant-tokens", "lr-cooldown-tokens")


def _resumed(forecast: Forecast) -> tuple[float, float] | None:
    """(rate that the checkpoint was at, rate that the schedule gives there); None when either is not known."""
    schedule, loaded = forecast.schedule, forecast.loaded
    if schedule is None or loaded is None or loaded.lr is None or "scheduler" not in forecast.kept:
        return None
    try:
        return loaded.lr, schedule.rate(forecast.samples)
    except WouldStop:
        return None


def _jumps(forecast: Forecast) -> bool:
    rates = _resumed(forecast)
    return rates is not None and not math.isclose(rates[0], rates[1], rel_tol=JUMP, abs_tol=1e-12)


def _halves(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    if forecast.mode is Mode.EQUAL and forecast.loaded is None and not forecast.settings.has("finetune"):
        yield Finding(
            "ORA049",
            "OVERRIDE_CKPT_OPT_PARAM is set without --override-opt_param-scheduler: the launcher will stop as soon as "
            "anything differs from the checkpoint's schedule, the target included",
            "add --override-opt_param-scheduler, or unset OVERRIDE_CKPT_OPT_PARAM",
        )


def _ignored(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    """The checkpoint's schedule wins over what the script says, silently."""
    settings, loaded = forecast.settings, forecast.loaded
    if forecast.mode is not Mode.CHECKPOINT or "scheduler" not in forecast.kept:
        return
    fix = "set OVERRIDE_CKPT_OPT_PARAM=1 and add --override-opt_param-scheduler (both)"
    cooldown = settings.has("lr_constant_plus_cooldown")
    if cooldown and settings.has("min-lr") and (loaded is None or loaded.min_lr != settings.min_lr):
        stored = f"{loaded.min_lr:g}" if loaded is not None else "0.0 unless it was given then"
        yield Finding(
            "ORA033",
            f"--min-lr={settings.flags['min-lr']} is ignored: the cooldown goes to the checkpoint's minimum, {stored}",
            fix,
        )
    if loaded is None:
        return
    batch = settings.global_batch or loaded.global_batch
    said = {
        "LR": (settings.given("LR") or settings.flags.get("lr", ""), settings.lr, loaded.max_lr),
        "LR_DECAY_STYLE": (settings.given("LR_DECAY_STYLE"), settings.style, loaded.style),
        "LR_DECAY_ITERS": (settings.given("LR_DECAY_ITERS"), settings.decay_iters, loaded.decay / batch),
        "--min-lr": ("" if cooldown else settings.flags.get("min-lr", ""), settings.min_lr, loaded.min_lr),
    }
    for name, (text, mine, theirs) in said.items():
        if text and mine is not None and mine != theirs:
            kept = theirs if isinstance(theirs, str) else f"{theirs:g}"
            yield Finding("ORA031", f"{name}={text} is ignored: the checkpoint's {kept} is used", fix)
    frac = settings.given("LR_WARMUP_FRAC")
    if frac and settings.warmup_fraction is not None and loaded.warmup <= loaded.samples:
        length = (settings.decay_iters or settings.train_iters or 0) * batch
        if not math.isclose(settings.warmup_fraction * length, loaded.warmup, rel_tol=1e-6, abs_tol=batch):
            yield Finding(
                "ORA031",
                f"LR_WARMUP_FRAC={frac} is ignored: the checkpoint's warm-up of {loaded.warmup / batch:g} iterations "
                "is used, and it is over",
                f"to warm up again, start the schedule again with --finetune; {fix} changes lengths only",
            )


def _cooldown_without_constant(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    style = forecast.schedule.style if forecast.schedule else forecast.settings.style
    if forecast.settings.has("lr_constant_plus_cooldown") and style != "constant":
        theirs = style != forecast.settings.style
        whose = "the checkpoint's style is" if theirs else "LR_DECAY_STYLE is"
        yield Finding(
            "ORA032",
            f"--lr_constant_plus_cooldown does nothing: {whose} {style}, and only `constant` cools down",
            "set LR_DECAY_STYLE=constant"
            + (", OVERRIDE_CKPT_OPT_PARAM=1 and --override-opt_param-scheduler" if theirs else ""),
        )


def _cooling(forecast: Forecast) -> bool:
    """Whether the checkpoint stands in a cooldown: it stores a constant schedule, and its rate is between the two."""
    loaded = forecast.loaded
    if loaded is None or loaded.lr is None or loaded.style != "constant" or loaded.samples <= loaded.warmup:
        return False
    return loaded.min_lr * (1 + JUMP) < loaded.lr < loaded.max_lr * (1 - JUMP)


def _share_from_here(forecast: Forecast, high: float, low: float, ends: float) -> str:
    """The fraction, as text, of a cooldown from `high` to `low` at iteration `ends` that is at the checkpoint's rate
    where it is loaded; empty when there is none."""
    here = forecast.samples / (forecast.global_batch_size or 1)
    rate = forecast.loaded.lr if forecast.loaded is not None and _cooling(forecast) else None
    fallen = 0.0 if rate is None or high <= low else min(1.0, max(0.0, (high - rate) / (high - low)))
    # The rate has fallen by the root of the part that is over, and the rest of the cooldown is what is left to `ends`.
    left, over = 1 - here / ends, fallen**2
    return f"{left / (1 - over):.12g}" if 0 < left < 1 - over else ""


def _last(forecast: Forecast) -> int | None:
    """Samples that the schedule will have counted at the target."""
    batch, start, target = forecast.global_batch_size, forecast.start_iteration, forecast.train_iters
    if not batch or start is None or target is None:
        return None
    return forecast.samples + (target - start) * batch


def _too_short(forecast: Forecast) -> bool:
    """Whether the decay ends while training goes on."""
    schedule, last = forecast.schedule, _last(forecast)
    if schedule is None or last is None:
        return False
    return forecast.samples < schedule.ends() < last - (forecast.global_batch_size or 0)


def _right_share(forecast: Forecast, schedule: Schedule) -> str:
    """What to give instead of an inverted fraction; with the length that the run has, if the schedule is too short."""
    batch, here = forecast.global_batch_size or 1, forecast.samples / (forecast.global_batch_size or 1)
    ends, length, rate = schedule.end / batch, "", ""
    if _too_short(forecast):
        ends = float(math.ceil((_last(forecast) or 0) / batch))
        length = f"LR_DECAY_ITERS={ends:.0f} "
    loaded = forecast.loaded
    if loaded is not None and loaded.lr is not None and not _cooling(forecast):
        rate = "" if math.isclose(loaded.lr, schedule.max_lr, rel_tol=JUMP) else f"LR={loaded.lr:g} "
    share = _share_from_here(forecast, schedule.max_lr, schedule.min_lr, ends)
    if not share:
        return "give the flags of the cooldown, and its length, as the job that began it"
    does = "goes on with the cooldown that the checkpoint is in, from" if _cooling(forecast) else "cools down from"
    return f"{rate}{length}--lr_constant_plus_cooldown_frac={share} {does} {here:,.0f} to {ends:,.0f}"


def _inverted(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    """The fraction names the cooldown's share; people give the constant part's."""
    schedule, batch = forecast.schedule, forecast.global_batch_size
    if schedule is None or not batch or schedule.cooldown is None or schedule.style != "constant":
        return
    share = schedule.cooldown / schedule.end
    begins, ends = schedule.begins_to_fall() / batch, schedule.end / batch
    text = forecast.settings.flags.get("lr_constant_plus_cooldown_frac") or "0.05"
    here = forecast.samples / batch
    says = (
        f"--lr_constant_plus_cooldown_frac={text} looks inverted: it is the cooldown's share of the schedule, not the "
        f"constant part's; the cooldown covers the last {share:.1%} and begins at iteration {begins:,.0f} of "
        f"{ends:,.0f}"
    )
    rates = _resumed(forecast)
    if forecast.samples and rates is not None and _jumps(forecast) and forecast.samples < schedule.end:
        # Not for a rate that is lower because LR is, with a cooldown that has hardly begun: that is another trap.
        if here > begins and rates[1] < min(rates[0], schedule.max_lr * (1 - JUMP)):
            yield Finding(
                "ORA040",
                f"{says}; at iteration {here:,.0f}, where it is resumed, the rate drops at once from {rates[0]:g} to "
                f"{rates[1]:.4g}",
                _right_share(forecast, schedule),
            )
    elif rates is None and forecast.samples and begins < here < ends and not same_folder(forecast.load, forecast.save):
        yield Finding(
            "ORA040",
            f"{says}, so a checkpoint at iteration {here:,.0f} is resumed at {schedule.rate(forecast.samples):.4g}",
            _right_share(forecast, schedule),
        )
    elif rates is None and share >= 0.5:
        yield Finding(
            "ORA040", says, f"--lr_constant_plus_cooldown_frac={1 - share:.12g}, if the constant part was meant"
        )


def _over_already(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    """num_steps goes on counting through `--reset-iteration`; the schedule's length does not."""
    schedule, batch, target = forecast.schedule, forecast.global_batch_size, forecast.train_iters
    if schedule is None or not batch or target is None or "scheduler" not in forecast.kept:
        return
    if forecast.samples and forecast.samples >= schedule.ends():
        here, ends = forecast.samples / batch, schedule.ends() / batch
        whole = math.ceil(here) + target - (forecast.start_iteration or 0)
        share = f" --lr_constant_plus_cooldown_frac={1 - here / whole:.12g}" if schedule.cooldown is not None else ""
        reset = ", which --reset-iteration does not reset" if forecast.settings.has("reset-iteration") else ""
        yield Finding(
            "ORA046",
            f"the schedule is over before training starts: it ends at iteration {ends:,.0f} and the checkpoint's "
            f"schedule stands at {here:,.0f}{reset}; the rate is "
            f"{schedule.rate(forecast.samples + batch):g} all the time",
            f"set LR_DECAY_ITERS={whole}{share}; LR_DECAY_ITERS counts from the schedule's beginning"
            + ("" if forecast.mode is Mode.OVERRIDE else ", and needs OVERRIDE_CKPT_OPT_PARAM=1 with "
               "--override-opt_param-scheduler"),
        )  # fmt: skip


def _jump(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    schedule, batch = forecast.schedule, forecast.global_batch_size
    rates = _resumed(forecast)
    if schedule is None or not batch or rates is None or not _jumps(forecast):
        return
    before, after = rates
    here, ends = forecast.samples / batch, schedule.decay / batch
    jumps = f"the rate jumps at the load from {before:g} to {after:.4g}"
    if forecast.samples < schedule.warmup:
        yield Finding(
            "ORA043",
            f"the rate ramps again: the warm-up of {schedule.warmup / batch:,.1f} iterations is a share of the new "
            f"length and is not over at {here:,.0f}; the rate goes from {before:g} to {after:.4g} and up to "
            f"{schedule.max_lr:g}",
            "set LR_WARMUP_FRAC=0",
        )
    elif any(_inverted(forecast, state)) or any(_over_already(forecast, state)):
        return  # those rules told it
    elif _cooling(forecast) and schedule.style == "constant" and schedule.cooldown is None:
        yield _forgotten(forecast, schedule, jumps)
    elif same_folder(forecast.load, forecast.save):
        yield Finding(
            "ORA041",
            f"{jumps}, in the middle of a stage: LOAD is SAVE",
            "give every job of a stage the variables and flags of the schedule that its first job had",
        )
    elif schedule.style == "cosine" and forecast.mode is Mode.OVERRIDE:
        yield Finding(
            "ORA041",
            f"{jumps}: a cosine is computed over the whole schedule of {ends:,.0f} iterations, and {here:,.0f} of them "
            "are over",
            _cosine_from_here(forecast, schedule),
        )
    else:
        yield Finding("ORA041", jumps, f"set LR={before:g}, or declare the change")


def _cosine_from_here(forecast: Forecast, schedule: Schedule) -> str:
    """A warm-up that "ends" where the checkpoint stands; with the run's length, if the schedule is too short for it."""
    batch = forecast.global_batch_size or 1
    ends = math.ceil(((_last(forecast) or 0) if _too_short(forecast) else schedule.decay) / batch)
    share = forecast.samples / batch / ends
    return f"LR_DECAY_ITERS={ends} LR_WARMUP_FRAC={share:.12g} lets it begin at {schedule.max_lr:g} there"


def _forgotten(forecast: Forecast, schedule: Schedule, jumps: str) -> Finding:
    """A checkpoint in a cooldown, loaded without the cooldown's flags."""
    loaded, batch = forecast.loaded, forecast.global_batch_size or 1
    assert loaded is not None  # noqa: S101
    low = f"--min-lr={loaded.min_lr:g} " if forecast.mode is Mode.OVERRIDE else ""
    share = _share_from_here(forecast, loaded.max_lr, loaded.min_lr, schedule.end / batch)
    worked_out = (
        f" (with the end at iteration {schedule.end / batch:,.0f}, as here, --lr_constant_plus_cooldown_frac={share} "
        f"goes on from {loaded.lr:g})"
    )
    elsewhere = "" if same_folder(forecast.load, forecast.save) else f"; for a new stage, set LR={loaded.lr:g}"
    return Finding(
        "ORA041",
        f"{jumps}: the checkpoint is in a cooldown from {loaded.max_lr:g}, whose flags are not stored in it and not "
        "given here, so the cooldown ends",
        f"repeat on every job {low}--lr_constant_plus_cooldown --lr_constant_plus_cooldown_frac and the length as the "
        f"first job has them{worked_out if share else ''}{elsewhere}",
    )


def _rewarm(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    settings, schedule, batch = forecast.settings, forecast.schedule, forecast.global_batch_size
    if schedule is None or not batch or not settings.has("finetune") or schedule.warmup <= 0:
        return
    warm = f"the rate starts again at 0 and takes {schedule.warmup / batch:,.1f} iterations to {schedule.max_lr:g}"
    loaded, fix = forecast.loaded, "set LR_WARMUP_FRAC=0, or use --reset-iteration, which keeps schedule and moments"
    if loaded is not None and loaded.lr is not None:
        if loaded.lr >= 0.5 * loaded.max_lr:
            yield Finding("ORA042", f"--finetune rewarms: {warm}, and the checkpoint is at {loaded.lr:g}", fix)
    elif not settings.given("LR_WARMUP_FRAC"):
        share = f"LR_WARMUP_FRAC is not set: {settings.warmup_fraction:g} of the schedule" if (
            settings.warmup_fraction is not None) else "LR_WARMUP_FRAC is not set"  # fmt: skip
        yield Finding("ORA042", f"--finetune rewarms: {warm} ({share})", f"{fix}; to rewarm on purpose, set it")


def _lengths(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    schedule, batch, last = forecast.schedule, forecast.global_batch_size, _last(forecast)
    if schedule is None or not batch or last is None or last <= forecast.samples:
        return
    if schedule.warmup > last:
        yield Finding(
            "ORA044",
            f"the warm-up is longer than the run: it ends at iteration {schedule.warmup / batch:,.1f} of the schedule "
            f"and training at {last / batch:,.0f}; the rate never reaches {schedule.max_lr:g}",
            "set a smaller LR_WARMUP_FRAC (a share of LR_DECAY_ITERS, or of TRAIN_ITERS)",
        )
    if _too_short(forecast):
        over, whole = (last - schedule.ends()) / batch, math.ceil(last / batch)
        yield Finding(
            "ORA045",
            f"the decay ends before the target: the rate stays at {schedule.min_lr:g} for the last {over:,.0f} of "
            f"{(last - forecast.samples) / batch:,.0f} iterations",
            _longer(forecast, schedule, whole, inverted=any(_inverted(forecast, state))),
        )


def _longer(forecast: Forecast, schedule: Schedule, whole: int, *, inverted: bool) -> str:
    """How to stretch a decay to iteration `whole` of the schedule. A cooldown keeps its beginning."""
    if inverted:
        return _right_share(forecast, schedule)
    if schedule.cooldown is not None and schedule.style == "constant":
        begins = schedule.begins_to_fall() / (forecast.global_batch_size or 1)
        share = _share_from_here(forecast, schedule.max_lr, schedule.min_lr, whole) if _cooling(forecast) else ""
        share = share or f"{1 - begins / whole:.12g}"
        return f"set LR_DECAY_ITERS={whole} and --lr_constant_plus_cooldown_frac={share}, which is a share of it"
    if schedule.style == "cosine" and forecast.mode is Mode.OVERRIDE and _jumps(forecast):
        return _cosine_from_here(forecast, schedule)
    own = forecast.mode is Mode.OVERRIDE or "scheduler" not in forecast.kept
    more = "" if own else " with OVERRIDE_CKPT_OPT_PARAM=1 and --override-opt_param-scheduler"
    return f"set LR_DECAY_ITERS={whole}{more}"


def _kinds(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    settings = forecast.settings
    # With no first part and no plateau it is an exponential from its maximum, which nothing else gives.
    schedule = forecast.schedule
    falls_at_once = schedule is not None and schedule.constant_lr == schedule.max_lr and schedule.constant == 0
    if settings.style.startswith("infinite-") and not falls_at_once:
        yield Finding(
            "ORA047",
            f"LR_DECAY_STYLE={settings.style} is not warm-up, hold at the maximum and cooldown: it decays first, to "
            f"--constant-lr {settings.flags.get('constant-lr') or '0.00011'}, and holds there",
            "use LR_DECAY_STYLE=constant, and --lr_constant_plus_cooldown for the end",
        )
    tokens = [name for name in _TOKEN_FLAGS if settings.has(name)]
    if tokens:
        flags = ", ".join(f"--{name}" for name in tokens)
        yield stop(
            "ORA019",
            f"{flags}: the token-based schedules read attributes that do not exist, or need a warm-up in tokens; the "
            "error is counted as a skipped step, every step",
            f"leave {flags} out, and give lengths in iterations",
        )


def _on_the_way(forecast: Forecast, state: State | None) -> Iterator[Finding]:
    """Errors of the infinite styles come in the middle of a run."""
    schedule, last = forecast.schedule, _last(forecast)
    if schedule is None or last is None:
        return
    for samples in (forecast.samples, int(schedule.warmup) + 1, last):
        try:
            schedule.rate(max(forecast.samples, samples) if samples <= last else last)
        except WouldStop as error:
            yield stop("ORA019", str(error), error.fix)
            return


RATE_RULES: Final[tuple[Callable[[Forecast, State | None], Iterator[Finding]], ...]] = (
    _halves,
    _ignored,
    _cooldown_without_constant,
    _inverted,
    _over_already,
    _jump,
    _rewarm,
    _lengths,
    _kinds,
    _on_the_way,
)
