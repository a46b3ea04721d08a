"""The launcher's learning rate, written again from what is known of its scheduler and of nothing in this project.

Lengths are samples: a step adds the global batch. The decay ends at LR_DECAY_ITERS (or TRAIN_ITERS), warm-up is a share
of that. What a checkpoint stores wins unless the command line is told to override; `--finetune` stores nothing over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.launcher.command import Launch


@dataclass(frozen=True, slots=True)
class Stored:
    """What a checkpoint keeps of the schedule; the cooldown is not in it."""

    max_lr: float
    min_lr: float
    warmup_steps: float
    decay_steps: float
    style: str
    num_steps: int


def flag(arguments: Sequence[str], name: str, default: str) -> str:
    """The value of `--name=value`; the last one counts."""
    found = [text.partition("=")[2] for text in arguments if text.startswith(f"{name}=")]
    return found[-1] if found else default


def job(launch: Launch, loaded: Stored | None, iterations_done: int) -> Iterator[tuple[int, float, Stored]]:
    """(iteration, rate of its step, what a checkpoint after it would keep) up to the job's target.

    `loaded` is the schedule in the checkpoint at LOAD, `iterations_done` its iteration.
    """
    environment, arguments = launch.environment, launch.arguments
    batch, target = int(environment["GLOBAL_BATCH"]), int(environment["TRAIN_ITERS"])
    decay = int(environment.get("LR_DECAY_ITERS", target)) * batch
    stated = Stored(
        float(environment["LR"]),
        float(flag(arguments, "--min-lr", "0")),
        float(environment.get("LR_WARMUP_FRAC", "0.05")) * decay,
        decay,
        environment.get("LR_DECAY_STYLE", "cosine"),
        0,
    )
    use_stored = not environment.get("OVERRIDE_CKPT_OPT_PARAM")
    override = "--override-opt_param-scheduler" in arguments
    assert not (use_stored and override), "both override and use-checkpoint are set."
    assert stated.warmup_steps < decay, "warm-up must end before the decay"
    kept = None if "--finetune" in arguments else loaded
    if kept is not None:
        assert use_stored or override or replace(kept, num_steps=0) == stated, "class input value does not match"
        stated = kept if use_stored else replace(stated, num_steps=kept.num_steps)
    starts_over = "--finetune" in arguments or "--reset-iteration" in arguments or loaded is None
    for iteration in range(0 if starts_over else iterations_done, target):
        now = rate(stated, arguments)
        stated = replace(stated, num_steps=stated.num_steps + batch)
        yield iteration + 1, now, stated


def rate(of: Stored, arguments: Sequence[str]) -> float:
    """The rate of the step after `num_steps` samples."""
    steps = of.num_steps
    if of.warmup_steps > 0 and steps <= of.warmup_steps:
        return of.max_lr * steps / of.warmup_steps
    if of.style == "constant":
        if "--lr_constant_plus_cooldown" not in arguments:
            return of.max_lr
        share = float(flag(arguments, "--lr_constant_plus_cooldown_frac", "0.05"))
        begins = (1 - share) * of.decay_steps
        done = (steps - begins) / (of.decay_steps - begins)
        return of.max_lr - (of.max_lr - of.min_lr) * math.sqrt(min(1.0, max(0.0, done)))
    if steps > of.decay_steps:
        return of.min_lr
    if of.style == "infinite-cosine":
        return infinite(of, arguments)
    done = (steps - of.warmup_steps) / (of.decay_steps - of.warmup_steps)
    if of.style == "linear":
        return of.min_lr + (1.0 - done) * (of.max_lr - of.min_lr)
    assert of.style == "cosine"
    return of.min_lr + 0.5 * (math.cos(math.pi * done) + 1.0) * (of.max_lr - of.min_lr)


def infinite(of: Stored, arguments: Sequence[str]) -> float:
    """A cosine to the constant rate, a plateau there, and an exponential; lengths are shares of the decay's."""
    plateau = float(flag(arguments, "--constant-lr", "0.00011"))
    assert of.min_lr < plateau <= of.max_lr
    first = float(flag(arguments, "--lr-cooldown-fraction", "0.65")) * of.decay_steps
    holds = float(flag(arguments, "--lr-constant-fraction", "0.001")) * of.decay_steps
    done = of.num_steps - of.warmup_steps
    if done <= first:
        return plateau + (of.max_lr - plateau) * 0.5 * (math.cos(math.pi * (done / first)) + 1.0)
    if done - first <= holds:
        return plateau
    rest = of.decay_steps - of.warmup_steps - first - holds
    steep = -math.log(of.min_lr / plateau) / rest
    return max(of.min_lr, plateau * math.exp(-steep * (done - first - holds)))
