"""The launcher's learning-rate scheduler as a function of the samples counted (`OptimizerParamScheduler.get_lr`)."""

from __future__ import annotations

import math
from dataclasses import dataclass


class WouldStop(Exception):
    """A condition on which the launcher ends with an error; the message is about it, `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything the scheduler computes a rate from. Lengths are samples.

    The first five are what a checkpoint stores; the rest is the command line's in every job.
    """

    max_lr: float
    min_lr: float
    style: str
    warmup: float
    decay: float
    end: float
    cooldown: float | None = None
    """Length of the cooldown of a constant schedule; None without `--lr_constant_plus_cooldown`."""
    constant_lr: float = 0.00011
    constant: float = 0.0
    first_decay: float = 0.0
    """What the flags of the infinite styles call cooldown."""

    def rate(self, samples: int) -> float:
        """The rate after `samples` were counted: what the log shows then, and what the next step is taken with.

        Raises:
            WouldStop: the infinite styles assert on their rates once the warm-up is over.
        """
        if self.warmup > 0 and samples <= self.warmup:
            return self.max_lr * float(samples) / float(self.warmup)
        if self.style == "constant":
            return self.max_lr if self.cooldown is None else self._cooling(samples, int(self.cooldown))
        if samples > self.decay:
            return self.min_lr
        if self.style == "inverse-square-root":
            rate = self.max_lr * math.sqrt(max(self.warmup, 1)) / math.sqrt(max(samples, 1))
            return max(self.min_lr, rate)
        if self.style.startswith("infinite-"):
            return max(self.min_lr, self._infinite(samples - self.warmup))
        done = float(samples - self.warmup) / float(self.decay - self.warmup)
        share = 1.0 - done if self.style == "linear" else 0.5 * (math.cos(math.pi * done) + 1.0)
        return self.min_lr + share * (self.max_lr - self.min_lr)

    def begins_to_fall(self) -> float:
        """Samples after which the rate leaves its maximum; infinite for one that never does."""
        if self.style == "constant":
            return math.inf if self.cooldown is None else max(self.warmup, self.end - int(self.cooldown))
        return self.warmup

    def ends(self) -> float:
        """Samples after which the rate stays where it is."""
        if self.style == "constant":
            return math.inf if self.cooldown is None else self.end
        return self.decay

    def _cooling(self, samples: int, length: int) -> float:
        done, total = samples - self.warmup, self.end - self.warmup
        if done >= total:
            return self.min_lr
        if done < total - length:
            return self.max_lr
        share = min(1.0, max(0.0, (done - (total - length)) / float(length)))
        return self.min_lr + (self.max_lr - self.min_lr) * (1.0 - math.sqrt(share))

    def _infinite(self, done: float) -> float:
        if not self.min_lr < self.constant_lr <= self.max_lr:
            raise WouldStop(
                f"AssertionError at the first step past the warm-up: --constant-lr {self.constant_lr:g} must be above "
                f"--min-lr {self.min_lr:g} and at most the maximum {self.max_lr:g}",
                "give --constant-lr (its default is 0.00011) between the two, or use LR_DECAY_STYLE=constant with "
                "--lr_constant_plus_cooldown",
            )
        spread = self.max_lr - self.constant_lr
        if done <= self.first_decay:
            if self.first_decay == 0:
                raise WouldStop(
                    "ZeroDivisionError where the schedule begins without a warm-up: --lr-cooldown-fraction is 0",
                    "give a tiny --lr-cooldown-fraction, such as 1e-15",
                )
            share = done / self.first_decay
            if self.style == "infinite-cosine":
                return self.constant_lr + spread * 0.5 * (math.cos(math.pi * share) + 1.0)
            return self.max_lr - spread * (1 / math.sqrt(1 + 10.0 * share) - 1) / (1 / math.sqrt(11.0) - 1)
        if done - self.first_decay <= self.constant:
            return self.constant_lr
        if self.min_lr <= 0:
            raise WouldStop(
                "ValueError when the last decay begins: the logarithm of --min-lr 0 does not exist",
                "give a --min-lr above 0",
            )
        length = self.end - self.warmup - self.first_decay - self.constant
        steepness = -math.log(self.min_lr / self.constant_lr) / length
        return self.constant_lr * math.exp(-steepness * (done - self.first_decay - self.constant))
