"""Conditions on which the launcher ends with an error, and the schedule it builds when it does not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from reconciler.launcher.forecast import Finding, Mode, State, stop
from reconciler.launcher.scheduler import Schedule, WouldStop
from reconciler.launcher.settings import STYLES, Settings


def mode_of(settings: Settings) -> Mode:
    """Which of the two halves are there. Any non-empty OVERRIDE_CKPT_OPT_PARAM counts, `0` too."""
    override = settings.has("override-opt_param-scheduler")
    use_checkpoint = not settings.given("OVERRIDE_CKPT_OPT_PARAM") or settings.has("use-checkpoint-opt_param-scheduler")
    if "OVERRIDE_CKPT_OPT_PARAM" in settings.unknown:
        use_checkpoint = not override  # whichever does not stop the job
    if override:
        return Mode.CLASH if use_checkpoint else Mode.OVERRIDE
    return Mode.CHECKPOINT if use_checkpoint else Mode.EQUAL


def schedule_of(settings: Settings, stored: State | None, mode: Mode) -> Schedule | None:
    """The schedule in effect. Raises WouldStop where building it asserts."""
    batch, iterations = settings.global_batch, settings.train_iters
    if batch is None or iterations is None or settings.lr is None or settings.warmup_fraction is None:
        return None
    decay = (settings.decay_iters if settings.decay_iters is not None else iterations) * batch
    fraction, share = (_share(settings, name, default) for name, default in (
        ("lr_constant_plus_cooldown_frac", 0.05), ("lr-cooldown-fraction", 0.65)))  # fmt: skip
    own = Schedule(
        max_lr=settings.lr,
        min_lr=settings.min_lr,
        style=settings.style,
        warmup=settings.warmup_fraction * decay,
        decay=decay,
        end=decay,
        cooldown=fraction * decay if settings.has("lr_constant_plus_cooldown") else None,
        constant_lr=_share(settings, "constant-lr", 0.00011),
        constant=_share(settings, "lr-constant-fraction", 0.001) * decay,
        first_decay=share * decay,
    )
    if own.style not in STYLES:
        return None
    _must(own.min_lr >= 0, f"--min-lr {own.min_lr:g} is below 0", "give --min-lr 0 or more")
    _must(
        own.min_lr <= own.max_lr,
        f"AssertionError: --min-lr {own.min_lr:g} is above the rate {own.max_lr:g}",
        "give a --min-lr of at most LR, or raise LR",
    )
    _must(own.decay > 0, "AssertionError: the schedule has no length", "give LR_DECAY_ITERS of 1 or more")
    _must(
        own.warmup < own.decay,
        "AssertionError: lr_warmup_steps < lr_decay_steps; the warm-up is "
        f"{settings.warmup_fraction:g} of the schedule",
        "LR_WARMUP_FRAC is a share of LR_DECAY_ITERS (or TRAIN_ITERS), below 1",
    )
    _must(
        own.constant < own.decay,
        "AssertionError: lr_constant_steps < lr_decay_steps",
        "give a --lr-constant-fraction below 1",
    )
    if stored is None or mode is Mode.OVERRIDE:
        return own
    return Schedule(
        max_lr=stored.max_lr,
        min_lr=stored.min_lr,
        style=stored.style,
        warmup=stored.warmup,
        decay=stored.decay,
        end=own.end,
        cooldown=own.cooldown,
        constant_lr=own.constant_lr,
        constant=own.constant,
        first_decay=own.first_decay,
    )


def _share(settings: Settings, flag: str, default: float) -> float:
    text = settings.flags.get(flag, "")
    try:
        value = float(text) if text else default
    except ValueError:
        raise WouldStop(f"--{flag} {text[:60]!r} is no number", f"give --{flag} a number") from None
    _must(math.isfinite(value), f"--{flag} {text[:60]!r} is no finite number", f"give --{flag} a number")
    return value


def _must(condition: bool, message: str, fix: str) -> None:
    if not condition:
        raise WouldStop(message, fix)


def always(settings: Settings) -> Iterator[Finding]:
    """What ends every job with these settings, whatever it loads."""
    for name, why in settings.notes:
        yield stop("ORA011", f"{name}: {why}", f"give {name} a value that it takes")
    if mode_of(settings) is Mode.CLASH:
        yield stop(
            "ORA012",
            "AssertionError: both override and use-checkpoint are set. --override-opt_param-scheduler is given, and "
            "the launcher adds --use-checkpoint-opt_param-scheduler as long as OVERRIDE_CKPT_OPT_PARAM is unset",
            "set OVERRIDE_CKPT_OPT_PARAM=1 beside --override-opt_param-scheduler, or leave both out",
        )
    if settings.has("lr-warmup-iters") and settings.flags["lr-warmup-iters"] != "0":
        yield stop(
            "ORA013",
            "AssertionError: can only specify one of lr-warmup-fraction and lr-warmup-iters; the launcher always gives "
            "the fraction",
            "leave --lr-warmup-iters out and set LR_WARMUP_FRAC to warm-up iterations / LR_DECAY_ITERS",
        )
    sampled = [name for name in settings.flags if name in ("train-samples", "lr-decay-samples", "lr-warmup-samples")]
    if sampled:
        flags = ", ".join(f"--{name}" for name in sampled)
        yield stop("ORA013", f"AssertionError: {flags} cannot be used with --train-iters", f"leave {flags} out")
    if settings.train_iters is not None and settings.train_iters <= 0:
        yield stop(
            "ORA014",
            f"--train-iters is {settings.train_iters}: either train-iters or train-samples should be provided",
            "TRAIN_TOKENS must be at least one step (SEQ × global batch), TRAIN_ITERS at least 1",
        )
    yield from _batch_stopping(settings)


def _batch_stopping(settings: Settings) -> Iterator[Finding]:
    batch, parallel = settings.global_batch, settings.data_parallel
    micro, accumulation = settings.micro_batch, settings.accumulation
    numbers = (batch, micro, accumulation)
    if any(number is not None and number <= 0 for number in numbers) or parallel == 0:
        yield stop(
            "ORA015",
            f"batch sizes must be above 0: GLOBAL_BATCH {batch}, MICRO_BATCH {micro}, GRAD_ACC_STEPS {accumulation}, "
            f"data-parallel size {parallel}",
            "check TP, PP, SP and the number of nodes",
        )
        return
    if batch is None or parallel is None or micro is None or accumulation is None:
        return
    if batch % (micro * parallel):
        yield stop(
            "ORA015",
            f"AssertionError: global batch size ({batch}) is not divisible by micro batch size ({micro}) times data "
            f"parallel size ({parallel})",
            f"use a multiple of {micro * parallel}, such as {max(1, batch // (micro * parallel)) * micro * parallel}, "
            "or another number of nodes",
        )
    elif batch != micro * accumulation * parallel:
        yield stop(
            "ORA015",
            f"DeepSpeed's batch check: {batch} != {micro} * {accumulation} * {parallel} (MICRO_BATCH * GRAD_ACC_STEPS "
            "* data-parallel size)",
            f"set GRAD_ACC_STEPS={batch // micro // parallel}",
        )


def at_load(settings: Settings, loaded: State | None, kept: Collection[str], mode: Mode) -> Iterator[Finding]:
    """What ends a job that finds this checkpoint."""
    if loaded is None:
        return
    universal, finetune = settings.has("universal-checkpoint"), settings.has("finetune")
    now, then = settings.data_parallel, loaded.data_parallel
    if now is not None and then is not None and now != then and not universal and not finetune:
        yield stop(
            "ORA016",
            f"the checkpoint being loaded used a DP world size of {then} but the current world size is {now}; "
            "its optimizer shards cannot be cut again",
            f"run on {then} ranks, or convert the checkpoint and add --universal-checkpoint on the first job",
        )
    if mode is not Mode.EQUAL or "scheduler" not in kept:
        return
    own = schedule_of(settings, None, mode)
    if own is None:
        return
    pairs = {
        "learning rate": (own.max_lr, loaded.max_lr),
        "minimum learning rate": (own.min_lr, loaded.min_lr),
        "warmup iterations": (own.warmup, loaded.warmup),
        "total number of iterations": (own.decay, loaded.decay),
        "learning rate decay style": (own.style, loaded.style),
    }
    for name, (mine, theirs) in pairs.items():
        if mine != theirs:
            yield stop(
                "ORA017",
                f"AssertionError: OptimizerParamScheduler: class input value {mine} and checkpointvalue {theirs} for "
                f"{name} do not match. OVERRIDE_CKPT_OPT_PARAM is set without --override-opt_param-scheduler",
                "add --override-opt_param-scheduler to use the command line's schedule, or unset "
                "OVERRIDE_CKPT_OPT_PARAM to use the checkpoint's",
            )
            return
