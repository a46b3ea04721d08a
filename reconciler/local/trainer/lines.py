"""The launcher's log lines, to the blank. Prefixes are those of its logger; readers match the message alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

TRAINING_LOG: Final = "megatron/training_log:402:training_log"
TRAINING: Final = "megatron/training:104:print_datetime"
PRETRAIN: Final = "megatron/training:297:pretrain"
UTILS: Final = "megatron/utils:371:print_rank_0"
CHECKPOINTING: Final = "megatron/checkpointing:594:save_lr_state_dict"
PERPLEXITY_CAP: Final = 20


def stamped(when: datetime, where: str, message: str) -> str:
    """`[2026-01-12 04:11:02,501177][I][megatron/…] message`."""
    return f"[{when:%Y-%m-%d %H:%M:%S},{when.microsecond:06d}][I][{where}] {message}"


def dated(when: datetime, event: str) -> str:
    """`[after training is done] datetime=2026-01-12 04:11:02 `."""
    return f"[{event}] datetime={when:%Y-%m-%d %H:%M:%S} "


@dataclass(frozen=True)
class Interval:
    """What one log interval says; `loss_sum` over the interval's iterations, `seconds` since the last line.

    `grad_norm` is the last iteration's, `learning_rate` the next iteration's: the scheduler has stepped already.
    """

    iteration: int
    train_iters: int
    consumed_samples: int
    consumed_tokens: int
    seconds: float
    iterations: int
    learning_rate: float
    global_batch: int
    loss_sum: float
    grad_norm: float
    seq: int
    world_size: int
    flops_per_iteration: float


def iteration_line(seen: Interval) -> str:
    """The line of one log interval; a loss that is not a number leaves its field out."""
    each = seen.seconds / seen.iterations
    samples_per_second = seen.global_batch / each
    average = seen.loss_sum / seen.iterations
    loss = f" lm loss={average:.6f} |" if average > 0.0 else ""
    return (
        f" iteration={seen.iteration:8d}/{seen.train_iters:8d} |"
        f" consumed_samples={seen.consumed_samples:12d} |"
        f" consumed_tokens={seen.consumed_tokens:12d} |"
        f" elapsed_time_per_iteration_ms={each * 1000.0:.1f} |"
        f" learning_rate={seen.learning_rate:.6g} |"
        f" global_batch_size={seen.global_batch:5d} |"
        f"{loss} loss_scale=1.0 | grad_norm={seen.grad_norm:.3f} |"
        f" actual_seqlen={seen.seq:5d} |"
        f" number_of_skipped_iterations={0:3d} | number_of_nan_iterations={0:3d} |"
        f" samples_per_second={samples_per_second:.3f} |"
        f" tokens_per_gpu_per_second_tgs={samples_per_second * seen.seq / seen.world_size:.3f} |"
        f" TFLOPs={seen.flops_per_iteration / each / 1e12 / seen.world_size:.2f} |"
    )


def deepspeed_step_line(when: datetime, step: int, rates: list[float], betas: list[tuple[float, float]]) -> str:
    """DeepSpeed's own line after a step: the learning rate in full precision."""
    return (
        f"[{when:%Y-%m-%d %H:%M:%S},{when.microsecond // 1000:03d}] [INFO] [logging.py:107:log_dist] [Rank 0] "
        f"step={step}, skipped=0, lr={rates}, mom={betas}"
    )


def validation_line(prefix: str, loss: float) -> str:
    """` validation loss at iteration 100 | lm loss value=…lm loss PPL=…`; no separator before the second."""
    # min(20, nan) is 20 in Python, so a loss that is not a number prints the capped perplexity, as it does there.
    perplexity = math.exp(min(PERPLEXITY_CAP, loss))
    return f" validation loss at {prefix} | lm loss value={loss:.6f}lm loss PPL={perplexity:.6f}"


def flops(batch: int, seq: int, layers: int, hidden: int, ffn: int, kv_share: float, vocabulary: int) -> float:
    """Floating-point operations of one iteration with SwiGLU, by the launcher's formula."""
    inner = 1 + ffn / hidden * 1.5 + kv_share + seq / hidden + vocabulary / (2 * layers * hidden)
    return 12 * batch * seq * layers * hidden * hidden * inner
