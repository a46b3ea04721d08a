"""The local trainer's learning rate is the launcher's, at every step and after every kind of resume."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.local.trainer.schedule import Limits, Schedule, limits

GBS = 6144


def at(iteration: int, *, global_batch: int = GBS, **settings: Any) -> float:
    """Rate after `iteration` steps of a fresh run."""
    base: dict[str, Any] = {
        "lr": 2e-4,
        "min_lr": 2e-5,
        "style": "constant",
        "train_iters": 136_100,
        "warmup_fraction": 0.0,
    }
    schedule = Schedule(limits(global_batch=global_batch, **(base | settings)))
    return schedule.step(iteration * global_batch, 0)


COOLDOWN: dict[str, Any] = {"cooldown": True}
INFINITE: dict[str, Any] = {"style": "infinite-cosine", "train_iters": 1000}
EXPONENTIAL: dict[str, Any] = INFINITE | {
    "constant_lr": 2e-4, "constant_fraction": 0.0, "first_decay_fraction": 1e-15,
}  # fmt: skip


@pytest.mark.parametrize(
    ("iteration", "settings", "rate"),
    [
        pytest.param(
            136_005,
            COOLDOWN | {"cooldown_fraction": 0.5},
            2.012568679065123e-05,
            id="the value in the launcher's own log",
        ),
        pytest.param(136_100, COOLDOWN | {"cooldown_fraction": 0.5}, 2e-5, id="min at the end"),
        pytest.param(140_000, COOLDOWN | {"cooldown_fraction": 0.5}, 2e-5, id="min after the end"),
        pytest.param(68_049, COOLDOWN | {"cooldown_fraction": 0.5}, 2e-4, id="max until the cooldown begins"),
        pytest.param(0, {"warmup_fraction": 0.0}, 2e-4, id="no warm-up starts at the top"),
        pytest.param(0, {"warmup_fraction": 0.1}, 0.0, id="warm-up starts at nothing"),
        pytest.param(5, {"warmup_fraction": 0.1, "train_iters": 100}, 1e-4, id="warm-up is linear"),
        pytest.param(99, {"warmup_fraction": 0.1, "train_iters": 100}, 2e-4, id="constant holds"),
        pytest.param(50, {"style": "linear", "train_iters": 100, "min_lr": 0.0}, 1e-4, id="linear half way"),
        pytest.param(50, {"style": "cosine", "train_iters": 100, "min_lr": 0.0}, 1e-4, id="cosine half way"),
        pytest.param(101, {"style": "cosine", "train_iters": 100}, 2e-5, id="cosine stays at min past the end"),
        pytest.param(
            40,
            {"style": "inverse-square-root", "train_iters": 100, "warmup_fraction": 0.1},
            1e-4,
            id="one over square root",
        ),
        pytest.param(
            10, {"style": "linear", "train_iters": 20, "decay_iters": 40, "min_lr": 0.0}, 1.5e-4, id="decay-iters"
        ),
        pytest.param(650, INFINITE, 1.1e-4, id="infinite: the first decay ends at the constant rate"),
        pytest.param(325, INFINITE, 1.55e-4, id="infinite cosine: half of the first decay is the mean"),
        pytest.param(
            65,
            INFINITE | {"style": "infinite-inv-square-root"},
            2e-4 - 0.9e-4 * (1 - 2**-0.5) / (1 - 11**-0.5),
            id="infinite inverse square root",
        ),
        pytest.param(651, INFINITE, 1.1e-4, id="infinite: holds"),
        pytest.param(1000, INFINITE, 2e-5, id="infinite: ends at min"),
        pytest.param(500, EXPONENTIAL, (2e-4 * 2e-5) ** 0.5, id="an exponential alone: half way"),
        pytest.param(0, EXPONENTIAL, 2e-4, id="an exponential alone: begins at the top"),
    ],
)
def test_rate(iteration: int, settings: dict[str, Any], rate: float) -> None:
    assert at(iteration, **settings) == pytest.approx(rate, rel=1e-14, abs=0)


@pytest.mark.parametrize(
    ("fraction", "rate"),
    [
        pytest.param(136_000 / 137_650, 2.11e-05, id="constant share, as the cooldown generator has it"),
        pytest.param(0.9, 2.12e-05, id="0.9, as the note has it"),
        pytest.param(0.1, 3.11e-05, id="0.1"),
        pytest.param(1_650 / 137_650, 2e-04, id="cooldown share: the right one resumes at the top"),
    ],
)
def test_rate_on_resuming_at_136000_of_137650(fraction: float, rate: float) -> None:
    got = at(136_000, train_iters=137_650, cooldown=True, cooldown_fraction=fraction)
    assert got == pytest.approx(rate, rel=0.003)


def saved(**settings: Any) -> dict[str, Any]:
    """State of a run of 100 iterations of 10 samples, stopped after 60."""
    base: dict[str, Any] = {"lr": 1e-3, "min_lr": 0.0, "style": "cosine", "train_iters": 100, "warmup_fraction": 0.05}
    schedule = Schedule(limits(global_batch=10, **(base | settings)))
    schedule.step(600, 0)
    return schedule.state()


def resumed(
    state: dict[str, Any], *, use_checkpoint: bool = False, override: bool = False, **settings: Any
) -> Schedule:
    base: dict[str, Any] = {"lr": 5e-4, "min_lr": 1e-5, "style": "constant", "train_iters": 200, "warmup_fraction": 0.0}
    schedule = Schedule(limits(global_batch=10, **(base | settings)), use_checkpoint=use_checkpoint, override=override)
    schedule.load(state, lambda line: None)
    return schedule


def test_use_checkpoint_keeps_stored_values_silently() -> None:
    schedule = resumed(saved(), use_checkpoint=True)
    assert (schedule.lr_max, schedule.lr_min, schedule.style, schedule.decay) == (1e-3, 0.0, "cosine", 1000)
    assert schedule.num_steps == 600


def test_override_takes_the_command_line_but_never_its_num_steps() -> None:
    schedule = resumed(saved(), override=True)
    assert (schedule.lr_max, schedule.lr_min, schedule.style, schedule.decay) == (5e-4, 1e-5, "constant", 2000)
    assert schedule.num_steps == 600
    assert schedule.rate() == 5e-4


def test_override_cannot_rewarm_because_num_steps_is_past_the_warm_up() -> None:
    assert resumed(saved(), override=True, warmup_fraction=0.2).rate() == 5e-4


def test_cooldown_flags_act_under_use_checkpoint_towards_the_stored_minimum() -> None:
    schedule = resumed(
        saved(style="constant"), use_checkpoint=True, min_lr=1e-5, train_iters=80, cooldown=True, cooldown_fraction=0.5
    )
    # Cooldown from 40 to 80 iterations, at 60; stored max 1e-3, stored min 0.
    assert schedule.rate() == pytest.approx(1e-3 * (1 - 0.5**0.5), rel=0.02)


def test_neither_mode_asserts_as_soon_as_anything_differs() -> None:
    with pytest.raises(AssertionError, match="OptimizerParamScheduler: class input value"):
        resumed(saved())


def test_neither_mode_accepts_equal_values() -> None:
    same: dict[str, Any] = {"lr": 1e-3, "min_lr": 0.0, "style": "cosine", "train_iters": 100, "warmup_fraction": 0.05}
    assert resumed(saved(), **same).num_steps == 600


def test_both_modes_are_an_assertion() -> None:
    with pytest.raises(AssertionError, match="both override and use-checkpoint are set"):
        resumed(saved(), use_checkpoint=True, override=True)


def test_reports_two_bare_numbers_an_evaluation_during_a_cooldown() -> None:
    seen: list[str] = []
    settings = limits(
        lr=1.0,
        min_lr=0.0,
        style="constant",
        train_iters=10,
        global_batch=1,
        warmup_fraction=0,
        cooldown=True,
        cooldown_fraction=0.5,
    )
    Schedule(settings, report=seen.append).step(6, 0)
    assert seen == ["10", "5"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        pytest.param({"constant_lr": 3e-4}, AssertionError, id="a constant rate above the maximum"),
        pytest.param({"constant_lr": 2e-5}, AssertionError, id="a constant rate that is the minimum"),
        pytest.param({"first_decay_fraction": 0.0}, ZeroDivisionError, id="no first decay at all"),
        pytest.param({"min_lr": 0.0, "first_decay_fraction": -1.0, "constant_fraction": 0.0}, ValueError, id="to zero"),
    ],
)
def test_where_an_infinite_style_ends_with_an_error(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        at(0, **(INFINITE | settings))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"lr_min": -1.0}, id="negative minimum"),
        pytest.param({"lr_max": 1e-6}, id="maximum below minimum"),
        pytest.param({"warmup_samples": 1000}, id="warm-up as long as the schedule"),
        pytest.param({"decay_samples": 0}, id="no schedule"),
        pytest.param({"constant_samples": 1000}, id="a plateau as long as the schedule"),
    ],
)
def test_impossible_limits_are_assertions(broken: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "lr_max": 1e-3, "lr_min": 1e-5, "warmup_samples": 10, "decay_samples": 1000, "style": "constant",
    }  # fmt: skip
    Schedule(Limits(**good))
    with pytest.raises(AssertionError):
        Schedule(Limits(**(good | broken)))
