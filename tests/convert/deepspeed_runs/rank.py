"""One rank of a training: the model under DeepSpeed's engine set up as Megatron-DeepSpeed does it."""

from __future__ import annotations

import argparse
import datetime
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.pipe import LayerSpec, PipelineModule
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

from tests.convert.deepspeed_runs import model as tiny
from tests.convert.deepspeed_runs.compare import digest
from tests.convert.deepspeed_runs.run import BF16, GLOBAL_BATCH, SAVED_AT, STEPS, Outcome, Run

TIMEOUT_S = 120


def on_rank(run: Run, rank: int, meeting: Path, out: Path) -> None:
    """Join the other ranks at the file `meeting`, train, and as the first of them write the outcome to `out`."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(run.ranks), LOCAL_SIZE=str(run.ranks))
    torch.set_num_threads(1)
    torch.manual_seed(1)
    deepspeed.init_distributed(
        dist_backend="gloo",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=datetime.timedelta(seconds=TIMEOUT_S),
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=run.ranks,
    )
    outcome = train(run, rank)
    if rank == 0:
        out.write_text(json.dumps(asdict(outcome)))


def asked_of_deepspeed(run: Run) -> dict[str, Any]:
    """The DeepSpeed configuration, as `generateDSconfig` of Megatron-DeepSpeed writes it."""
    config: dict[str, Any] = {
        "train_batch_size": GLOBAL_BATCH,
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // run.data,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "checkpoint": {"load_universal": bool(run.load)},
    }
    if run.wrapper == BF16:
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


class Places:
    """Which ranks share what, in the order of DeepSpeed's own topology: stages, then replicas, then splits of a layer.

    It is the `mpu` that Megatron hands to DeepSpeed when there are no pipeline stages.
    """

    def __init__(self, run: Run, rank: int) -> None:
        self.run, self.rank = run, rank
        per_stage = run.data * run.tensor
        starts = [stage * per_stage for stage in range(run.pipeline)]
        splits = [[s + d * run.tensor + t for t in range(run.tensor)] for s in starts for d in range(run.data)]
        copies = [[s + d * run.tensor + t for d in range(run.data)] for s in starts for t in range(run.tensor)]
        self.tensor, self.data = group_with(rank, splits), group_with(rank, copies)

    def get_model_parallel_rank(self) -> int:
        return self.rank % self.run.tensor

    def get_model_parallel_world_size(self) -> int:
        return self.run.tensor

    def get_model_parallel_group(self) -> Any:
        return self.tensor

    def get_data_parallel_rank(self) -> int:
        return self.rank // self.run.tensor % self.run.data

    def get_data_parallel_world_size(self) -> int:
        return self.run.data

    def get_data_parallel_group(self) -> Any:
        return self.data

    get_tensor_model_parallel_rank = get_model_parallel_rank
    get_tensor_model_parallel_world_size = get_model_parallel_world_size
    get_tensor_model_parallel_group = get_model_parallel_group


def group_with(rank: int, groups: list[list[int]]) -> Any:
    """Make all of `groups`, which every rank must, and return the one that has `rank`."""
    return next(made for ranks, made in [(ranks, dist.new_group(ranks)) for ranks in groups] if rank in ranks)


class Sophia(torch.optim.Optimizer):
    """Names its states as Sophia does; only the names matter here."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 2e-2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                state = self.state[weight]
                if not state:
                    state |= {name: torch.zeros_like(weight) for name in ("exp_avg", "hessian")}
                    state["step"] = torch.tensor(0.0)
                state["step"] += 1
                state["exp_avg"].lerp_(weight.grad, 0.1)
                state["hessian"].lerp_(weight.grad.square(), 0.05)
                weight -= group["lr"] * state["exp_avg"] / (state["hessian"].sqrt() + 1e-3)


def engine_of(run: Run, places: Places) -> Any:
    """DeepSpeed's engine on the model, with the two optimizer groups of Megatron: matrices, and weights of one axis."""
    split = tiny.Split(places.get_model_parallel_rank(), run.tensor, places.tensor)
    mpu = None
    if run.in_stages:
        model = PipelineModule(
            [
                LayerSpec(tiny.Embedding, run.vocabulary, split),
                *(LayerSpec(tiny.Layer, number, split) for number in range(run.layers)),
                LayerSpec(tiny.Head, run.vocabulary, split),
            ],
            topology=PipeModelDataParallelTopology(run.pipeline, run.tensor, run.data),
            loss_fn=tiny.loss_of,
            partition_method="uniform",
        )
    else:
        model = tiny.LanguageModel(run.vocabulary, run.layers, split, nested=run.nested)
        mpu = places if run.tensor > 1 else None
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = Sophia(groups) if run.hessian else torch.optim.AdamW(groups, lr=2e-2, betas=(0.9, 0.95))
    return deepspeed.initialize(model=model, optimizer=optimizer, mpu=mpu, config=asked_of_deepspeed(run))[0]


def rows_of(run: Run, iteration: int, replica: int) -> tuple[Any, Any]:
    """Tokens and labels for one replica. Two batches take turns, whatever the sizes, so that there is much to learn."""
    draw = torch.Generator().manual_seed(iteration % 2)
    rows = torch.randint(0, run.words, (GLOBAL_BATCH, tiny.SEQ + 1), generator=draw)
    mine = rows.chunk(run.data)[replica]
    return mine[:, :-1].contiguous(), mine[:, 1:].contiguous()


def step(engine: Any, run: Run, places: Places, iteration: int) -> float:
    """One iteration; its loss over the whole batch."""
    tokens, labels = rows_of(run, iteration, places.get_data_parallel_rank())
    if run.in_stages:
        return float(engine.train_batch(iter([(tokens, labels)])))
    loss = engine(tokens, labels)
    engine.backward(loss)
    engine.step()
    total = loss.detach().clone()
    dist.all_reduce(total, group=places.data)
    return float(total / run.data)


def client_state(run: Run, iteration: int) -> dict[str, Any]:
    """What Megatron-DeepSpeed adds to the model file."""
    info: dict[str, Any] = {
        "universal_checkpoint_version": 0.2,
        "original_vocab_size": run.words,
        "padded_vocab_size": run.vocabulary,
        "vocabulary_parameter_patterns": tiny.VOCABULARY_PATTERNS,
        "parameter_with_2_sub_params_cat_dim_0": tiny.HALVES_PATTERNS,
    }
    if run.tensor > 1:
        info["tp_replicated_parameter_patterns"] = tiny.REPLICATED_PATTERNS
        info["parameter_with_row_parallelism_patterns"] = tiny.ROW_PARALLEL_PATTERNS
    return {
        "iteration": iteration,
        "args": argparse.Namespace(num_layers=run.layers, consumed_train_samples=GLOBAL_BATCH * iteration),
        "checkpoint_version": 3.0,
        "tokens": GLOBAL_BATCH * tiny.SEQ * iteration,
        "rng_state": [{"torch_rng_state": torch.get_rng_state()}],
        "universal_checkpoint_info": info,
    }


def train(run: Run, rank: int) -> Outcome:
    places = Places(run, rank)
    engine = engine_of(run, places)
    outcome, begin = Outcome(wrapper=type(engine.optimizer).__name__), 1
    if run.load:
        path, state = engine.load_checkpoint(run.load)
        if path is None:
            raise RuntimeError(f"nothing was loaded from {run.load}")
        begin = state["iteration"] + 1
        outcome.loaded = loaded_tensors(run, engine) if run.tensor * run.pipeline == 1 else {}
    torch.manual_seed(1)
    for iteration in range(begin, STEPS + 1):
        outcome.losses.append(step(engine, run, places, iteration))
        if run.save and iteration == SAVED_AT:
            engine.save_checkpoint(run.save, tag=f"global_step{iteration}", client_state=client_state(run, iteration))
            (Path(run.save) / "latest_checkpointed_iteration.txt").write_text(str(iteration))
    return outcome


def loaded_tensors(run: Run, engine: Any) -> dict[str, dict[str, str]]:
    """SHA-256 of each whole parameter and its moments, as the engine holds them over its ranks."""
    found = {}
    for name, parameter in engine.module.named_parameters():
        whole = {"fp32": safe_get_full_fp32_param(parameter)}
        whole |= {key: safe_get_full_optimizer_state(parameter, key) for key in run.moments}
        found[name] = {key: digest(tensor) for key, tensor in whole.items()}
    return found
