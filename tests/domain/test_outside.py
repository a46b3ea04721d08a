"""Which checkpoint of a folder made elsewhere a manifest means, and where it is not what the manifest says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from reconciler.domain.outside import Outside, found, stands, wish
from reconciler.domain.schedule import NamedRates
from reconciler.model.observed import CheckpointSeen, FolderSeen, Inside, Wish
from reconciler.model.recipe import SourceRecipe
from reconciler.model.strategy import ExternalSource
from tests.planner.world import quickstart

MODEL = quickstart().model
BATCH, SEQUENCE = MODEL.batch.global_, MODEL.sequence_length
PEAK = 2e-3
RATES = NamedRates(Decimal("2e-3"), Decimal(0))
INSIDE = Inside(
    layers=MODEL.architecture.layers, hidden=MODEL.architecture.hidden, heads=MODEL.architecture.heads,
    kv_heads=MODEL.architecture.kv_heads, tensor=1, pipeline=1, global_batch=BATCH, sequence_length=SEQUENCE,
    rate_max=PEAK, rate_min=0.0, warmup=0.0,
)  # fmt: skip


def save(iteration: int, rate: float, ranks: int = 8, **inside: Any) -> CheckpointSeen:
    samples = iteration * BATCH
    told = replace(INSIDE, iteration=iteration, rate=rate, position=float(samples), samples=samples,
                   tokens=samples * SEQUENCE)  # fmt: skip
    return CheckpointSeen(iteration, True, "", ranks, model_parallel=1, inside=replace(told, **inside))


RUN = FolderSeen((save(100, PEAK), save(200, PEAK), save(300, 1e-3), save(400, 4e-4), save(500, 0.0)))


def source(checkpoint: object, **fields: object) -> ExternalSource:
    return ExternalSource.model_validate({"path": "/old/run", "format": "zero", "checkpoint": checkpoint, **fields})


@pytest.mark.parametrize(
    ("checkpoint", "iteration", "asked"),
    [
        ("pre-cooldown", 200, Wish("pre-cooldown")),
        ("converged", 500, Wish("newest")),
        ("final", 500, Wish("newest")),
        ({"iteration": 300}, 300, Wish("iteration", 300)),
        ({"tokensAtLeast": 200 * BATCH * SEQUENCE + 1}, 300, Wish("tokens", 200 * BATCH * SEQUENCE + 1)),
        ({"rateAtMost": "lrMax/5"}, 400, Wish("rate", 4e-4)),
        ({"rateAtMost": "lrMax"}, 300, Wish("rate", 2e-3)),
    ],
)
def test_a_checkpoint_is_chosen_by_what_it_says_of_itself(checkpoint: object, iteration: int, asked: Wish) -> None:
    wanted = source(checkpoint)
    made = found(wanted, RUN, MODEL, RATES)
    assert isinstance(made, Outside), made
    assert (made.source.iteration, made.source.position, made.source.data_parallel) == (iteration, iteration, 8)
    assert wish(wanted, RATES) == asked


@pytest.mark.parametrize(
    ("checkpoint", "folder", "why"),
    [
        (
            "pre-cooldown",
            FolderSeen(RUN.checkpoints[2:]),
            "/old/run has no complete pre-cooldown checkpoint; there is iteration 300 (0.001, 614k tokens), "
            "iteration 400 (0.0004, 819k tokens), iteration 500 (0, 1.02M tokens)",
        ),
        (
            "converged",
            FolderSeen(RUN.checkpoints[:4]),
            "/old/run has no complete converged checkpoint; there is iteration 100 (0.002, 205k tokens), "
            "iteration 200 (0.002, 410k tokens), iteration 300 (0.001, 614k tokens), "
            "iteration 400 (0.0004, 819k tokens)",
        ),
        (
            {"iteration": 300},
            FolderSeen((replace(RUN.checkpoints[2], complete=False, why_not="767 shards, 768 are needed"),)),
            "/old/run has no complete checkpoint at iteration 300; there is iteration 300 (incomplete: 767 shards, "
            "768 are needed)",
        ),
        (
            "final",
            FolderSeen(tuple(replace(c, universal=True) for c in RUN.checkpoints)),
            "/old/run has no complete final checkpoint; there is none of that form; is it of the other, universal?",
        ),
    ],
)
def test_where_none_fits_the_near_ones_are_told(checkpoint: object, folder: FolderSeen, why: str) -> None:
    assert found(source(checkpoint), folder, MODEL, RATES) == why


@pytest.mark.parametrize(
    ("fields", "inside", "why"),
    [
        ({}, {"layers": 12}, "layers is 12 inside, 2 is declared"),
        ({}, {"tensor": 2}, "tensor-parallel size is 2 inside, 1 is declared"),
        ({"dataParallel": 768}, {}, "dataParallel is 8 inside, 768 is declared"),
        ({"rate": 2e-3}, {}, "its rate is 0 inside, 0.002 is declared"),
        ({}, {"optimizer": "sophiag"}, "optimizer is sophiag inside, adamw is declared"),
        ({}, {"rope_theta": 7}, f"ropeTheta is 7 inside, {MODEL.architecture.rope_theta} is declared"),
        ({}, {"precision": "fp16"}, "precision is fp16 inside, bf16 is declared"),
    ],
)
def test_a_checkpoint_that_is_not_what_the_manifest_says_is_refused(
    fields: dict[str, object], inside: dict[str, Any], why: str
) -> None:
    folder = FolderSeen((save(500, 0.0, **inside),))
    assert found(source("final", **fields), folder, MODEL, RATES) == (
        f"/old/run/global_step500 is not what the manifests say: {why}"
    )


def test_what_the_launcher_does_not_compare_may_be_waived() -> None:
    folder = FolderSeen((save(500, 0.0, optimizer="sophiag"),))
    assert isinstance(found(source("final"), folder, MODEL, RATES, waived=True), Outside)
    folder = FolderSeen((save(500, 0.0, layers=12),))
    assert isinstance(found(source("final"), folder, MODEL, RATES, waived=True), str)


def test_the_schedule_stands_where_it_has_counted_to_and_not_where_the_iterations_are() -> None:
    """A run that set its iteration back to 0 goes on with its schedule (`--reset-iteration`)."""
    folder = FolderSeen((save(500, PEAK, position=1500.0 * BATCH + 3),))
    made = found(source("final"), folder, MODEL, RATES)
    assert isinstance(made, Outside)
    assert (made.source.iteration, made.source.position, made.source.remainder) == (500, 1500, 3)


def test_a_universal_checkpoint_is_loaded_by_its_pointer() -> None:
    there = tuple(replace(c, universal=True) for c in RUN.checkpoints)
    wanted = source({"iteration": 300}, format="universal")
    assert found(wanted, FolderSeen(there, latest_universal=500), MODEL, RATES) == (
        "/old/run: its iteration 300 cannot be loaded: latest_universal names iteration 500"
    )
    made = found(wanted, FolderSeen(there, latest_universal=300), MODEL, RATES)
    assert isinstance(made, Outside)
    assert made.source == SourceRecipe(
        external="/old/run", iteration=300, position=300, universal=True, rate=1e-3, wish="at iteration 300"
    )


def test_a_universal_checkpoint_of_a_run_without_tensor_parallelism_is_not_loaded_with_it() -> None:
    there = FolderSeen((replace(save(500, 0.0), universal=True),), latest_universal=500)
    parallel = MODEL.model_copy(update={"parallelism": MODEL.parallelism.model_copy(update={"tensor": 2})})
    wanted = source("final", format="universal")
    assert isinstance(found(wanted, there, MODEL, RATES), Outside)
    why = found(wanted, there, parallel, RATES)
    assert isinstance(why, str)
    assert why.endswith("does not say how its parameters are split and would load wrong without an error")


@pytest.mark.parametrize(
    ("inside", "word"),
    [
        (Inside(), ""),
        (Inside(rate=PEAK, rate_max=PEAK), "at its peak"),
        (Inside(rate=1e-3, rate_max=PEAK, position=5, warmup=10), "warming up"),
        (Inside(rate=1e-3, rate_max=PEAK, position=15, warmup=10), "decaying"),
        (Inside(rate=0.0, rate_max=PEAK, rate_min=0.0), "converged"),
    ],
)
def test_where_on_its_schedule_a_checkpoint_stands(inside: Inside, word: str) -> None:
    assert stands(inside) == word
