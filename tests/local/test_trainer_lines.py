"""Log lines are the launcher's, to the blank: other code reads them from real clusters."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.local.trainer import lines

# The expression that was tested on a real line of the launcher.
ITERATION = re.compile(
    r"iteration=\s*(\d+)/\s*(\d+) \| consumed_samples=\s*(\d+) \| consumed_tokens=\s*(\d+) \| "
    r"elapsed_time_per_iteration_ms=(\S+) \| learning_rate=(\S+) \| global_batch_size=\s*(\d+) \|"
    r"(?: lm loss=(\S+) \|)?(?: loss_scale=(\S+) \|)?(?: grad_norm=(\S+) \|)?(?: [^|]*\|)*? "
    r"number_of_skipped_iterations=\s*(\d+) \| number_of_nan_iterations=\s*(\d+) \| samples_per_second=(\S+) \| "
    r"tokens_per_gpu_per_second_tgs=(\S+) \| TFLOPs=(\S+) \|"
)
SEEN = lines.Interval(
    iteration=93150, train_iters=140352, consumed_samples=572313600, consumed_tokens=4688393011200, seconds=3.4127,
    iterations=1, learning_rate=2.17e-05, global_batch=6144, loss_sum=2.418306, grad_norm=0.412, seq=8192,
    world_size=3072, flops_per_iteration=0.0,
)  # fmt: skip
GOLDEN = (
    "[2026-01-12 04:11:02,501177][I][megatron/training_log:402:training_log]  iteration=   93150/  140352 | "
    "consumed_samples=   572313600 | consumed_tokens=4688393011200 | elapsed_time_per_iteration_ms=3412.7 | "
    "learning_rate=2.17e-05 | global_batch_size= 6144 | lm loss=2.418306 | loss_scale=1.0 | grad_norm=0.412 | "
    "actual_seqlen= 8192 | number_of_skipped_iterations=  0 | number_of_nan_iterations=  0 | "
    "samples_per_second=1800.334 | tokens_per_gpu_per_second_tgs=4800.891 | TFLOPs=0.00 |"
)


def test_iteration_line() -> None:
    when = datetime(2026, 1, 12, 4, 11, 2, 501177, tzinfo=UTC)
    assert lines.stamped(when, lines.TRAINING_LOG, lines.iteration_line(SEEN)) == GOLDEN


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        pytest.param(2.5, "2.500000", id="a number"),
        pytest.param(float("nan"), None, id="nan leaves the field out"),
        pytest.param(float("inf"), "inf", id="infinity is printed"),
        pytest.param(0.0, None, id="zero leaves the field out"),
    ],
)
def test_loss_field(loss: float, shown: str | None) -> None:
    line = lines.iteration_line(replace(SEEN, loss_sum=loss, grad_norm=float("nan")))
    match = ITERATION.search(line)
    assert match is not None
    assert match[8] == shown
    assert "grad_norm=nan" in line


def test_loss_is_the_mean_over_the_log_interval() -> None:
    match = ITERATION.search(lines.iteration_line(replace(SEEN, iterations=4, loss_sum=10.0, seconds=2.0)))
    assert match is not None
    assert (match[8], match[5]) == ("2.500000", "500.0")


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        pytest.param(
            2.418306,
            " validation loss at iteration 100 | lm loss value=2.418306lm loss PPL=11.226825",
            id="no separator before the second",
        ),
        pytest.param(
            30.0, " validation loss at iteration 100 | lm loss value=30.000000lm loss PPL=485165195.409790", id="capped"
        ),
        pytest.param(
            float("nan"), " validation loss at iteration 100 | lm loss value=nanlm loss PPL=485165195.409790", id="nan"
        ),
    ],
)
def test_validation_line(loss: float, line: str) -> None:
    assert lines.validation_line("iteration 100", loss) == line


def test_deepspeed_prints_the_rate_in_full() -> None:
    line = lines.deepspeed_step_line(
        datetime(2026, 1, 1, tzinfo=UTC), 7, [2.012568679065123e-05] * 2, [(0.9, 0.95)] * 2
    )
    assert line.endswith(
        "[Rank 0] step=7, skipped=0, lr=[2.012568679065123e-05, 2.012568679065123e-05], mom=[(0.9, 0.95), (0.9, 0.95)]"
    )
