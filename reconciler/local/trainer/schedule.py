"""The launcher's learning-rate scheduler, as it is: every length in samples, num_steps carried by checkpoints.

Follows `OptimizerParamScheduler` of the Megatron-DeepSpeed fork, its surprises included: what a resume keeps, that the
cooldown's length and switch are never stored, that the fraction names the cooldown's share of the decay length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

STYLES: Final = ("constant", "linear", "cosine", "inverse-square-root", "infinite-cosine", "infinite-inv-square-root")
TIMESCALE: Final = 10.0
"""Of the infinite inverse square root: the launcher has a flag for it and passes it to nothing."""


@dataclass(frozen=True)
class Limits:
    """What the command line says about the learning rate; lengths in samples.

    Attributes:
        lr_max: rate after warm-up. lr_min: floor of every decay.
        warmup_samples: rise from 0 to `lr_max`. decay_samples: end of the schedule, counted from num_steps 0.
        cooldown: whether `constant` falls at its end, by 1 − sqrt, over `cooldown_samples`.
        constant_lr: where the first decay of an infinite style ends, after `first_decay_samples`; it holds there for
            `constant_samples`, and falls by an exponential to the end.
        weight_decay: constant over the run.
    """

    lr_max: float
    lr_min: float
    warmup_samples: float
    decay_samples: int
    style: str
    cooldown: bool = False
    cooldown_samples: float = 0.0
    constant_lr: float = 0.00011
    constant_samples: float = 0.0
    first_decay_samples: float = 0.0
    weight_decay: float = 0.1
    weight_decay_samples: int = 1


@dataclass
class Schedule:
    """The scheduler with its one moving part, `num_steps` (samples).

    Raises:
        AssertionError: on the conditions, and with the words, of the launcher.
    """

    limits: Limits
    use_checkpoint: bool = False
    override: bool = False
    report: Callable[[str], None] = field(default=lambda line: None, repr=False)
    num_steps: int = 0
    num_tokens: int = 0

    def __post_init__(self) -> None:
        limits = self.limits
        self.lr_max, self.lr_min = float(limits.lr_max), limits.lr_min
        self.warmup, self.decay, self.style = limits.warmup_samples, limits.decay_samples, limits.style
        self.weight_decay, self.weight_decay_samples = limits.weight_decay, limits.weight_decay_samples
        # Never stored in a checkpoint: these, and those of the infinite styles, are the command line's in every mode.
        self._end = limits.decay_samples
        self._cooldown, self._cooldown_samples = limits.cooldown, limits.cooldown_samples
        _must(self.lr_min >= 0.0, f"minimum learning rate {self.lr_min} is negative")
        _must(self.lr_max >= self.lr_min, f"learning rate {self.lr_max} is below the minimum {self.lr_min}")
        _must(self.decay > 0, "lr_decay_steps must be above 0")
        _must(self.warmup < self.decay, f"lr_warmup_steps {self.warmup} must be below lr_decay_steps {self.decay}")
        constant = limits.constant_samples
        _must(constant < self.decay, f"lr_constant_steps {constant} must be below lr_decay_steps {self.decay}")
        if self.override:
            _must(not self.use_checkpoint, "both override and use-checkpoint are set.")

    def rate(self) -> float:
        """Learning rate at `num_steps`."""
        if self.warmup > 0 and self.num_steps <= self.warmup:
            return self.lr_max * float(self.num_steps) / float(self.warmup)
        if self.style == "constant":
            return self._cooling() if self._cooldown else self.lr_max
        if self.num_steps > self.decay:
            return self.lr_min
        if self.style == "inverse-square-root":
            rate = self.lr_max * math.sqrt(max(self.warmup, 1)) / math.sqrt(max(self.num_steps, 1))
            return max(self.lr_min, rate)
        if self.style.startswith("infinite-"):
            return max(self.lr_min, self._infinite(self.num_steps - self.warmup))
        ratio = float(self.num_steps - self.warmup) / float(self.decay - self.warmup)
        share = 1.0 - ratio if self.style == "linear" else 0.5 * (math.cos(math.pi * ratio) + 1.0)
        return self.lr_min + share * (self.lr_max - self.lr_min)

    def _infinite(self, done: float) -> float:
        """The launcher divides by the length of the first decay, and takes the logarithm of the minimum, unchecked."""
        limits = self.limits
        top, first = limits.constant_lr, limits.first_decay_samples
        _must(top > self.lr_min, f"--constant-lr {top} must be above the minimum {self.lr_min}")
        _must(top <= self.lr_max, f"--constant-lr {top} must not be above the learning rate {self.lr_max}")
        if done <= first:
            ratio = float(done) / float(first)
            if self.style == "infinite-cosine":
                return top + (self.lr_max - top) * 0.5 * (math.cos(math.pi * ratio) + 1.0)
            fallen = (1 / math.sqrt(1 + TIMESCALE * ratio) - 1) / (1 / math.sqrt(1 + TIMESCALE) - 1)
            return self.lr_max - (self.lr_max - top) * fallen
        done -= first
        if done <= limits.constant_samples:
            return top
        length = self._end - self.warmup - first - limits.constant_samples
        steepness = -math.log(self.lr_min / top) / length
        return top * math.exp(-steepness * (done - limits.constant_samples))

    def _cooling(self) -> float:
        done, total = self.num_steps - self.warmup, self._end - self.warmup
        if done >= total:
            return self.lr_min
        length = int(self._cooldown_samples)
        if done < total - length:
            return self.lr_max
        # The launcher leaves these two debug prints in: bare numbers on lines of their own.
        self.report(str(total))
        self.report(str(length))
        ratio = min(1.0, max(0.0, (done - (total - length)) / float(length)))
        return self.lr_min + (self.lr_max - self.lr_min) * (1.0 - math.sqrt(ratio))

    def step(self, samples: int, tokens: int) -> float:
        """Count `samples` more; the rate for the next optimizer step."""
        self.num_steps += samples
        self.num_tokens = tokens
        return self.rate()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, under the launcher's names."""
        return {
            "max_lr": self.lr_max,
            "lr_warmup_steps": self.warmup,
            "lr_warmup_tokens": None,
            "num_steps": self.num_steps,
            "num_tokens": self.num_tokens,
            "lr_decay_style": self.style,
            "lr_decay_steps": self.decay,
            "lr_decay_tokens": None,
            "min_lr": self.lr_min,
            "start_wd": self.weight_decay,
            "end_wd": self.weight_decay,
            "wd_incr_style": "constant",
            "wd_incr_steps": self.weight_decay_samples,
        }

    def load(self, state: dict[str, Any], log: Callable[[str], None]) -> None:
        """Take over a checkpoint's state as the mode says; `num_steps` always comes from the checkpoint.

        Raises:
            AssertionError: neither override nor use-checkpoint, and a value differs.
        """

        def settle(own: Any, stored: Any, name: str) -> Any:
            if self.override:
                log(f" > overriding {name} value to {own}")
                return own
            if not self.use_checkpoint:
                _must(
                    own == stored,
                    f"OptimizerParamScheduler: class input value {own} and checkpoint"
                    f"value {stored} for {name} do not match",
                )
            log(f" > using checkpoint value {stored} for {name}")
            return stored

        self.lr_max = settle(self.lr_max, state["max_lr"], "learning rate")
        self.lr_min = settle(self.lr_min, state["min_lr"], "minimum learning rate")
        self.warmup = settle(self.warmup, state["lr_warmup_steps"], "warmup iterations")
        self.decay = settle(self.decay, state["lr_decay_steps"], "total number of iterations")
        self.style = settle(self.style, state["lr_decay_style"], "learning rate decay style")
        self.num_steps += int(state["num_steps"])
        self.num_tokens = int(state["num_tokens"])
        self.weight_decay = settle(self.weight_decay, state["start_wd"], "start weight decay")
        settle(self.weight_decay, state["end_wd"], "end weight decay")
        self.weight_decay_samples = settle(
            self.weight_decay_samples, state["wd_incr_steps"], "total number of weight decay iterations"
        )
        settle("constant", state["wd_incr_style"], "weight decay incr style")


def _must(condition: bool, message: str) -> None:
    """The launcher asserts; unlike an assert statement, this also holds under `python -O`."""
    if not condition:
        raise AssertionError(message)


def limits(
    *,
    lr: float,
    min_lr: float,
    style: str,
    train_iters: int,
    global_batch: int,
    warmup_fraction: float,
    decay_iters: int | None = None,
    cooldown: bool = False,
    cooldown_fraction: float = 0.05,
    constant_lr: float = 0.00011,
    constant_fraction: float = 0.001,
    first_decay_fraction: float = 0.65,
    weight_decay: float = 0.1,
) -> Limits:
    """Lengths in samples from the launcher's iterations and fractions; all fractions are of the decay length."""
    decay = (train_iters if decay_iters is None else decay_iters) * global_batch
    return Limits(
        lr_max=lr,
        lr_min=min_lr,
        warmup_samples=warmup_fraction * decay,
        decay_samples=decay,
        style=style,
        cooldown=cooldown,
        cooldown_samples=cooldown_fraction * decay if cooldown else 0.0,
        constant_lr=constant_lr,
        constant_samples=constant_fraction * decay,
        first_decay_samples=first_decay_fraction * decay,
        weight_decay=weight_decay,
        weight_decay_samples=train_iters * global_batch,
    )
