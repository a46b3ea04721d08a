"""Environment and flags of every kind of job, as tables; first-job flags never reach a later job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings

from reconciler.launcher.command import Launch, TrainPaths, evaluate, train
from reconciler.model.cluster import LAUNCHER_VARIABLES
from reconciler.model.recipe import Curve, LegRecipe, Load, Recipe, Shape
from tests.domain.test_resolve import resolved
from tests.launcher.test_schedule_law import Case, cases, launch

SAFE = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")
PATHS = TrainPaths("/w/leg-0", "/w/source", "/w/list.txt", "/w/stop")
ALWAYS = ("--seed=1234", "--exit-duration-in-mins=5", "--kill-switch-file=/w/stop")
OVERRIDE = "--override-opt_param-scheduler"
FIRST_ONLY = {"--reset-iteration", "--finetune", "--universal-checkpoint"}
SCHEDULE = ("LR", "LR_DECAY_STYLE", "LR_DECAY_ITERS", "LR_WARMUP_FRAC", "TRAIN_ITERS", "OVERRIDE_CKPT_OPT_PARAM")

BASE = resolved("stage-1")


def of(load: Load, curve: Curve, position: int) -> Recipe:
    leg = LegRecipe({"D0": "1"}, {"D0": "1"}, {"D0": "d"}, 1, curve.end - position, position, curve, load)
    return replace(BASE, legs=(leg,))


RANDOM = of(Load.RANDOM, Curve(Shape.CONSTANT, 2e-3, 2e-3, 100, 1000, 1000), 0)
CONTINUE = of(Load.CONTINUE, Curve(Shape.CONSTANT, 2e-3, 2e-3, 0, 1500, 1500), 1000)
REWARM = of(Load.REWARM, Curve(Shape.COSINE, 2e-4, 0.0, 10, 10, 1000), 0)
COOLDOWN = of(Load.CONTINUE, Curve(Shape.COOLDOWN, 2e-4, 2e-5, 0, 136_000, 137_650), 136_000)
COSINE = of(Load.CONTINUE, Curve(Shape.COSINE, 2e-3, 2e-4, 0, 900, 1000), 900)
LINE = of(Load.CONTINUE, Curve(Shape.LINEAR, 2e-3, 2e-4, 0, 900, 1000), 900)
EXPONENTIAL = of(Load.CONTINUE, Curve(Shape.EXPONENTIAL, 2e-3, 2e-4, 0, 900, 1000), 900)
EXPONENT = ("--min-lr=0.0002", "--constant-lr=0.002", "--lr-constant-fraction=0.0", "--lr-cooldown-fraction=1e-15")
SWITCHED = replace(
    COOLDOWN, legs=(replace(COOLDOWN.legs[0], position=COOLDOWN.legs[0].position + 650, iterations=1000),)
)
REWARM_HOLD = of(Load.REWARM, Curve(Shape.CONSTANT, 1e-3, 1e-3, 0, 1000, 1000), 0)


def job(recipe: Recipe, *, later: bool = False, tag: int | None = None, universal: bool = False) -> Launch:
    return train(
        recipe,
        recipe.legs[0],
        PATHS,
        later=later,
        load_iteration=tag,
        universal=universal,
        save_every=100,
        exit_minutes="5",
    )


def schedule_of(environment: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(environment.get(name) for name in SCHEDULE)


FALL = ("--min-lr=2e-05", "--lr_constant_plus_cooldown", "--lr_constant_plus_cooldown_frac=0.01198692335633854")


@pytest.mark.parametrize(
    ("launched", "schedule", "arguments"),
    [
        pytest.param(
            job(RANDOM), ("0.002", "constant", "1000", "0.1", "1000", None), ALWAYS, id="from random: first job"
        ),
        pytest.param(
            job(RANDOM, later=True, tag=300),
            ("0.002", "constant", "1000", "0.1", "1000", "1"),
            (OVERRIDE, "--load-tag=global_step300", *ALWAYS),
            id="from random: later job",
        ),
        pytest.param(
            job(CONTINUE, tag=1000),
            ("0.002", "constant", "1500", "0.0", "500", "1"),
            (OVERRIDE, "--reset-iteration", "--load-tag=global_step1000", *ALWAYS),
            id="continue: first job",
        ),
        pytest.param(
            job(CONTINUE, universal=True),
            ("0.002", "constant", "1500", "0.0", "500", "1"),
            (OVERRIDE, "--reset-iteration", "--universal-checkpoint", *ALWAYS),
            id="continue from a universal checkpoint: first job",
        ),
        pytest.param(
            job(CONTINUE, later=True, tag=200, universal=True),
            ("0.002", "constant", "1500", "0.0", "500", "1"),
            (OVERRIDE, "--load-tag=global_step200", *ALWAYS),
            id="continue: later job",
        ),
        pytest.param(
            job(REWARM, universal=True),
            ("0.0002", "cosine", "1000", "0.01", "1000", None),
            ("--min-lr=0.0", "--finetune", "--universal-checkpoint", *ALWAYS),
            id="rewarm and cosine: first job",
        ),
        pytest.param(
            job(REWARM, later=True, tag=500),
            ("0.0002", "cosine", "1000", "0.01", "1000", "1"),
            ("--min-lr=0.0", OVERRIDE, "--load-tag=global_step500", *ALWAYS),
            id="rewarm and cosine: later job",
        ),
        pytest.param(
            job(REWARM_HOLD, tag=7),
            ("0.001", "constant", "1000", "0.0", "1000", None),
            ("--finetune", "--load-tag=global_step7", *ALWAYS),
            id="rewarm at once: no default warm-up",
        ),
        pytest.param(
            job(COOLDOWN, tag=9),
            ("0.0002", "constant", "137650", "0.0", "1650", "1"),
            (*FALL, OVERRIDE, "--reset-iteration", "--load-tag=global_step9", *ALWAYS),
            id="cooldown: first job",
        ),
        pytest.param(
            job(COOLDOWN, later=True, tag=100),
            ("0.0002", "constant", "137650", "0.0", "1650", "1"),
            (*FALL, OVERRIDE, "--load-tag=global_step100", *ALWAYS),
            id="cooldown: later job repeats the cooldown, which no checkpoint stores",
        ),
        pytest.param(
            job(COSINE, tag=9),
            ("0.002", "cosine", "1000", "0.9", "100", "1"),
            ("--min-lr=0.0002", OVERRIDE, "--reset-iteration", "--load-tag=global_step9", *ALWAYS),
            id="cosine from the middle: a warm-up that ends where it begins",
        ),
        pytest.param(
            job(LINE, tag=9),
            ("0.002", "linear", "1000", "0.9", "100", "1"),
            ("--min-lr=0.0002", OVERRIDE, "--reset-iteration", "--load-tag=global_step9", *ALWAYS),
            id="line from the middle: the same",
        ),
        pytest.param(
            job(EXPONENTIAL, tag=9),
            ("0.002", "infinite-cosine", "1000", "0.9", "100", "1"),
            (*EXPONENT, OVERRIDE, "--reset-iteration", "--load-tag=global_step9", *ALWAYS),
            id="exponential: the last part of an infinite style, the first two without length",
        ),
        pytest.param(
            job(EXPONENTIAL, later=True, tag=50),
            ("0.002", "infinite-cosine", "1000", "0.9", "100", "1"),
            (*EXPONENT, OVERRIDE, "--load-tag=global_step50", *ALWAYS),
            id="exponential: later job repeats what no checkpoint stores",
        ),
        pytest.param(
            job(SWITCHED, tag=650),
            ("0.0002", "constant", "137650", "0.0", "1000", "1"),
            (*FALL, OVERRIDE, "--reset-iteration", "--load-tag=global_step650", *ALWAYS),
            id="the second leg of a cooldown: the same schedule, and data from the start",
        ),
    ],
)
def test_schedule_and_flags(launched: Launch, schedule: tuple[str | None, ...], arguments: tuple[str, ...]) -> None:
    assert schedule_of(launched.environment) == schedule
    assert launched.arguments == arguments


def test_every_variable_of_a_training_job() -> None:
    environment = dict(job(CONTINUE, tag=1000).environment)
    assert {name: environment.pop(name) for name in SCHEDULE}
    assert environment == FIXED | {
        "MICRO_BATCH": "4",
        "GRAD_ACC_STEPS": "4",
        "GLOBAL_BATCH": "16",
        "CKPT_DIR": "/w/leg-0",
        "SAVE": "/w/leg-0",
        "SAVE_INTERVAL": "100",
        "LOAD": "/w/source",
        "DATA_FILE_LIST": "/w/list.txt",
        "TRAIN_SPLIT": "990",
        "VAL_SPLIT": "10",
        "TEST_SPLIT": "0",
        "EVAL_INTERVAL": "501",
        "EVAL_ITERS": "1",
    }


FIXED = {
    "MODEL_ARCH": "7B",
    "NLAYERS": "2",
    "HIDDEN": "64",
    "HEADS": "4",
    "NUM_KV_HEAD": "4",
    "FFN_HIDDEN_SIZE": "176",
    "ROPE_THETA": "10000",
    "SEQ": "128",
    "TOKENIZER_TYPE": "ByteTokenizer",
    "TOKENIZER_MODEL": "bytes",
    "TP": "1",
    "PP": "1",
    "SP": "1",
    "ZERO_STAGE": "1",
    "DTYPE": "bf16",
    "OPT": "adamw",
    "ADAM_BETA1": "0.9",
    "ADAM_BETA2": "0.95",
    "ADAM_EPS": "1e-05",
    "WEIGHT_DECAY": "0.1",
    "CLIP_GRAD": "1.0",
    "WANDB_MODE": "disabled",
}


@pytest.mark.parametrize(
    ("samples", "ranks", "batch", "iterations"),
    [(64, 1, "4", "16"), (65, 1, "4", "17"), (64, 4, "16", "4"), (1, 4, "16", "1")],
)
def test_evaluation_covers_every_sample_of_a_frozen_list(samples: int, ranks: int, batch: str, iterations: str) -> None:
    made = evaluate(
        BASE, load="/w/leg-0", iteration=7, data_list="/r/v", samples=samples, scratch="/w/s", data_parallel=ranks
    )
    assert made.environment == FIXED | {
        "MICRO_BATCH": "4",
        "GRAD_ACC_STEPS": "1",
        "GLOBAL_BATCH": batch,
        "LR": "0.002",
        "LR_DECAY_STYLE": "constant",
        "LR_WARMUP_FRAC": "0.0",
        "TRAIN_ITERS": "1",
        "CKPT_DIR": "/w/s",
        "SAVE": "/w/s",
        "LOAD": "/w/leg-0",
        "DATA_FILE_LIST": "/r/v",
        "TRAIN_SPLIT": "0",
        "VAL_SPLIT": "100",
        "TEST_SPLIT": "0",
        "EVAL_INTERVAL": "1",
        "EVAL_ITERS": iterations,
    }
    assert made.arguments == ("--skip-train", "--finetune", "--load-tag=global_step7", "--seed=1234")


def test_random_weights_load_from_where_they_save() -> None:
    launched = train(
        RANDOM,
        RANDOM.legs[0],
        replace(PATHS, load=""),
        later=False,
        load_iteration=None,
        universal=False,
        save_every=100,
        exit_minutes="5",
    )
    assert launched.environment["LOAD"] == launched.environment["SAVE"] == "/w/leg-0"


@given(cases())
def test_laws_of_every_pair_of_jobs(case: Case) -> None:
    first = launch(case, later=False, universal=case.source is not None)
    later = launch(case, later=True, universal=case.source is not None)
    assert not FIRST_ONLY & set(later.arguments)
    for one in (first, later):
        assert ("OVERRIDE_CKPT_OPT_PARAM" in one.environment) == (OVERRIDE in one.arguments)
        # A variable that nothing reads, and one that would win over TRAIN_ITERS.
        assert {"LR_WARMUP_FRACTION", "TRAIN_TOKENS", "WORLD_SIZE"}.isdisjoint(one.environment)
        assert "LR_WARMUP_FRAC" in one.environment
        assert one.environment["TRAIN_ITERS"] == str(case.leg.iterations)
        # Nothing is left to node counts and made-up names, and nothing is there that a second shell would act on.
        assert {"CKPT_DIR", "SAVE", "LOAD", "DATA_FILE_LIST", "GLOBAL_BATCH", "GRAD_ACC_STEPS", "SAVE_INTERVAL"} <= set(
            one.environment
        )
        assert all(SAFE.fullmatch(text) for text in (*one.environment.values(), *one.arguments))
        assert not any("lr-wsd" in text or "lr-scheduler" in text for text in one.arguments)
    unlike = set(first.environment.items()) ^ set(later.environment.items())
    assert {name for name, _ in unlike} <= {"OVERRIDE_CKPT_OPT_PARAM"}
    assert OVERRIDE in later.arguments


@given(case=cases())
@settings(max_examples=25)
def test_whatever_the_adapter_sets_is_reserved(case: Case) -> None:
    """A cluster's own environment must not say again, or otherwise, what the recipe says."""
    assert set(launch(case, later=False).environment) <= LAUNCHER_VARIABLES
