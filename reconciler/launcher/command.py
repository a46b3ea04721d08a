"""A leg and a checkpoint → the environment and flags that make the Megatron-DeepSpeed launcher train exactly that.

Facts from `ALCF/helpers.sh` and `megatron/arguments.py` of the fork. What the launcher would derive from node count,
folder names or defaults is always given: CKPT_DIR, SAVE, LOAD, batch, iterations and schedule lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from reconciler.model.recipe import LegRecipe, Load, Recipe, Shape

NEXT_TO_NONE: Final = 1e-15
"""Share of a schedule that is less than a sample, whatever its length."""
_STYLES: Final = {Shape.COSINE: "cosine", Shape.LINEAR: "linear", Shape.EXPONENTIAL: "infinite-cosine"}


@dataclass(frozen=True, slots=True)
class Launch:
    """One call of the launcher: what is exported, and what follows `train_alcf.sh`."""

    environment: Mapping[str, str]
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainPaths:
    """Absolute folders and files of one training job."""

    save: str
    load: str
    """Folder that holds `latest` (or `latest_universal`); equals `save` for a later job; empty from random."""
    data_list: str
    kill_switch: str


def _number(value: Any) -> str:
    """The shortest text that reads back to the same number; `1e-05` survives the launcher, `0.00001` does too."""
    return repr(float(value)) if not isinstance(value, int) else str(value)


def _fixed(recipe: Recipe) -> dict[str, str]:
    """What is the same in every job of a campaign: architecture, tokenizer, optimizer, batch."""
    model = recipe.model
    shape, optimizer, cut = model["architecture"], model["optimizer"], model["parallelism"]
    return {
        "MODEL_ARCH": shape["name"],
        "NLAYERS": str(shape["layers"]),
        "HIDDEN": str(shape["hidden"]),
        "HEADS": str(shape["heads"]),
        "NUM_KV_HEAD": str(shape["kv_heads"]),
        "FFN_HIDDEN_SIZE": str(shape["ffn_hidden"]),
        "ROPE_THETA": str(shape["rope_theta"]),
        "SEQ": str(model["sequence_length"]),
        "TOKENIZER_TYPE": model["tokenizer"]["type"],
        "TOKENIZER_MODEL": model["tokenizer"]["model"],
        "TP": str(cut["tensor"]),
        "PP": str(cut["pipeline"]),
        "SP": "1",
        "ZERO_STAGE": str(cut["zero_stage"]),
        "DTYPE": model["precision"],
        "OPT": optimizer["name"],
        "ADAM_BETA1": _number(optimizer["beta1"]),
        "ADAM_BETA2": _number(optimizer["beta2"]),
        "ADAM_EPS": _number(optimizer["eps"]),
        "WEIGHT_DECAY": _number(optimizer["weight_decay"]),
        "CLIP_GRAD": _number(optimizer["clip_grad"]),
        "WANDB_MODE": "disabled",
    }


def _batch(recipe: Recipe, data_parallel: int, accumulation: int) -> dict[str, str]:
    micro = int(recipe.model["batch"]["micro"])
    return {
        "MICRO_BATCH": str(micro),
        "GRAD_ACC_STEPS": str(accumulation),
        "GLOBAL_BATCH": str(micro * accumulation * data_parallel),
    }


def _schedule(leg: LegRecipe) -> tuple[dict[str, str], list[str]]:
    """Schedule variables and flags, the same in every job of the leg.

    Lengths count from the schedule's beginning (`num_steps` is cumulative over stages), the stop counts from the
    leg's. A cosine or line that begins in the middle is a warm-up that "ends" exactly there, since the launcher
    computes them over the whole run (contract 2.3). An exponential is the last part of an infinite style whose first
    parts have no length: a first part of exactly none would be divided by where the schedule begins with it.
    """
    curve = leg.curve
    end = curve.end
    environment = {
        "LR": _number(curve.high),
        "LR_DECAY_STYLE": _STYLES.get(curve.shape, "constant"),
        "LR_DECAY_ITERS": str(end),
        "TRAIN_ITERS": str(leg.iterations),
    }
    arguments: list[str] = []
    warmup = Fraction(curve.warmup, end)
    if curve.shape in _STYLES:
        warmup = Fraction(curve.start, end)
        arguments += [f"--min-lr={_number(curve.low)}"]
    if curve.shape is Shape.EXPONENTIAL:
        arguments += [
            f"--constant-lr={_number(curve.high)}",
            "--lr-constant-fraction=0.0",
            f"--lr-cooldown-fraction={NEXT_TO_NONE!r}",
        ]
    if curve.shape is Shape.COOLDOWN:
        share = Fraction(end - curve.start, end)
        arguments += [
            f"--min-lr={_number(curve.low)}",
            "--lr_constant_plus_cooldown",
            f"--lr_constant_plus_cooldown_frac={float(share)!r}",
        ]
    environment["LR_WARMUP_FRAC"] = _number(float(warmup))
    return environment, arguments


def train(
    recipe: Recipe,
    leg: LegRecipe,
    paths: TrainPaths,
    *,
    later: bool,
    load_iteration: int | None,
    universal: bool,
    save_every: int,
    exit_minutes: str,
) -> Launch:
    """One training job of a leg.

    `later` says that the leg has a complete checkpoint of its own: first-job flags repeated on a later job would
    restart the stage, so the two forms share nothing but the schedule. `load_iteration` names the checkpoint in
    `paths.load`, since `latest` may run ahead of its shards; None for a universal folder, which has its own pointer.
    """
    environment = _fixed(recipe) | _batch(recipe, recipe.data_parallel, recipe.accumulation)
    schedule, arguments = _schedule(leg)
    environment |= schedule
    environment |= {
        "CKPT_DIR": paths.save,
        "SAVE": paths.save,
        "SAVE_INTERVAL": str(save_every),
        "LOAD": paths.load or paths.save,
        "DATA_FILE_LIST": paths.data_list,
        "TRAIN_SPLIT": "990",
        "VAL_SPLIT": "10",
        "TEST_SPLIT": "0",
        # The launcher's own evaluation draws from the mixture in training, which is no fixed yardstick.
        "EVAL_INTERVAL": str(leg.iterations + 1),
        "EVAL_ITERS": "1",
    }
    first = not later
    keeps_schedule = not (first and leg.load in (Load.RANDOM, Load.REWARM))
    if keeps_schedule:
        # Both halves or neither: one without the other is an assertion at start-up (contract 2.2).
        environment["OVERRIDE_CKPT_OPT_PARAM"] = "1"
        arguments.append("--override-opt_param-scheduler")
    if first and leg.load is Load.CONTINUE:
        arguments.append("--reset-iteration")
    if first and leg.load is Load.REWARM:
        arguments.append("--finetune")
    if first and universal:
        arguments.append("--universal-checkpoint")
    if load_iteration is not None:
        arguments.append(f"--load-tag=global_step{load_iteration}")
    arguments += [
        f"--seed={recipe.model['seed']}",
        f"--exit-duration-in-mins={exit_minutes}",
        f"--kill-switch-file={paths.kill_switch}",
    ]
    return Launch(environment, tuple(arguments))


def evaluate(
    recipe: Recipe, *, load: str, iteration: int | None, data_list: str, samples: int, scratch: str, data_parallel: int
) -> Launch:
    """Validation loss of one checkpoint on one frozen list: no training, weights only, the draw starts at 0.

    `iteration` names the checkpoint in `load`; None for a universal folder, which has its own pointer.

    The whole list is the validation split, so the same documents are used whatever the mixture of the stage
    (the launcher's own validation changes with the mixture: contract 3.2).
    """
    batch = _batch(recipe, data_parallel, 1)
    environment = _fixed(recipe) | batch
    environment |= {
        "LR": _number(recipe.legs[-1].curve.high),
        "LR_DECAY_STYLE": "constant",
        "LR_WARMUP_FRAC": "0.0",
        "TRAIN_ITERS": "1",
        "CKPT_DIR": scratch,
        "SAVE": scratch,
        "LOAD": load,
        "DATA_FILE_LIST": data_list,
        "TRAIN_SPLIT": "0",
        "VAL_SPLIT": "100",
        "TEST_SPLIT": "0",
        "EVAL_INTERVAL": "1",
        "EVAL_ITERS": str(-(-samples // int(batch["GLOBAL_BATCH"]))),
    }
    which = "--universal-checkpoint" if iteration is None else f"--load-tag=global_step{iteration}"
    return Launch(environment, ("--skip-train", "--finetune", which, f"--seed={recipe.model['seed']}"))
