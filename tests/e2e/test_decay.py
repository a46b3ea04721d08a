"""Strategy 4 into stage 4 for real: what was trained is, iteration by iteration and sample by sample, what is declared.

The curves and weights here are written from the manifest's words and not taken from the recipe. What the launcher logs
at iteration i is the rate that it has just set for the next one, so the curve's value after i iterations.
"""

from __future__ import annotations

import math

import pytest

from tests.e2e.campaign import Repository, make
from tests.e2e.walk import BATCH, Trained, leg, sampling_error

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

LR = 2e-3
BASE, CODE, REASONING = 196, 147, 98
"""Iterations of 0.4M, 0.3M and 0.2M tokens, 2048 each."""


def cosine(share: float, high: float, low: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


def cooldown(share: float, high: float, low: float) -> float:
    return high - (high - low) * math.sqrt(share)


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The campaign as it is committed, run to its end."""
    repository = make(tmp_path_factory.mktemp("decay") / "repository", scale="quickstart", campaign="decay")
    repository.run("apply", "--until-done", "--yes", timeout_s=1600)
    return repository


def legs(repository: Repository, stage: str, strategy: str, count: int) -> list[Trained]:
    return [leg(repository.workspace / "decay", stage, strategy, number) for number in range(count)]


def test_the_decay_is_taken_up_where_strategy_4_left_it(decay: Repository) -> None:
    stages = decay.status()
    assert {name: (stage["phase"], stage["strategy"]) for name, stage in stages.items()} == {
        "base": ("Done", "pretrain"),
        "code": ("Done", "decay-10"),
        "reasoning": ("Done", "continue-decay"),
    }
    first = leg(decay.workspace / "decay", "reasoning", "continue-decay", 0)
    assert first.recipe["source"]["rate"] == pytest.approx(LR / 10, rel=1e-6)


def test_the_logged_rate_follows_the_declared_curve_at_every_iteration(decay: Repository) -> None:
    (base,) = legs(decay, "base", "pretrain", 1)
    warmup = math.ceil(BASE / 10)
    rising = [LR * at / warmup for at in range(1, warmup)]
    assert base.rates() == pytest.approx(rising + [LR] * (BASE - warmup + 1), rel=1e-5)
    for stage, strategy, count, curve, high, low in (
        ("code", "decay-10", CODE, cosine, LR, LR / 10),
        ("reasoning", "continue-decay", REASONING, cooldown, LR / 10, LR / 1000),
    ):
        before, after = (each.rates() for each in legs(decay, stage, strategy, 2))
        declared = [curve(at / count, high, low) for at in range(1, count + 1)]
        assert before + after == pytest.approx(declared, rel=1e-5), stage
        # The data is switched at the first iteration at which the rate is down to a fifth of where the decay began.
        assert declared[len(before) - 1] <= high / 5 < declared[len(before) - 2]


@pytest.mark.parametrize(
    ("stage", "strategy", "number", "declared"),
    [
        ("code", "decay-10", 0, {"D0": 1.0}),
        ("code", "decay-10", 1, {"D0": 0.6, "D2": 0.4}),
        ("reasoning", "continue-decay", 1, {"D0": 0.33, "D3": 0.33, "D2": 0.34}),  # the buffer holds D2 alone
    ],
)
def test_the_drawn_samples_have_the_declared_weights(
    decay: Repository, stage: str, strategy: str, number: int, declared: dict[str, float]
) -> None:
    trained = leg(decay.workspace / "decay", stage, strategy, number)
    drawn = trained.drawn(decay.root / ".local" / "quickstart" / "data")
    draws = BATCH * len(trained.rates())
    assert set(drawn) == set(declared)
    for symbol, share in declared.items():
        assert abs(drawn[symbol] - share) <= sampling_error(share, draws) + 1 / draws, (symbol, drawn)


def test_what_stage_3_trained_on_goes_on_until_the_switch(decay: Repository) -> None:
    """`code` as a term stands for what its two legs drew, each by its tokens."""
    first, second = legs(decay, "code", "decay-10", 2)
    tokens = [len(each.rates()) for each in (first, second)]
    base = (tokens[0] + 0.6 * tokens[1]) / sum(tokens)
    taken_up = leg(decay.workspace / "decay", "reasoning", "continue-decay", 0)
    assert taken_up.declared == pytest.approx({"D0": base, "D2": 1 - base}, abs=0.01)
