"""Writes and reads ZeRO-1 checkpoint folders with the launcher's names, contents and order.

Written: lr_state_dict.yaml, then `global_step<n>/` with the model file and the shards straight to their final names;
rank 0 rewrites `latest` when its own shard is done, before the others finish; the tracker comes last. So a kill in
between leaves what it leaves on a cluster: `latest` naming a folder that is not whole.
"""

from __future__ import annotations

import argparse
import random
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from reconciler.local.trainer import network, pickles
from reconciler.local.trainer.environment import BadSetting
from reconciler.local.trainer.partitions import Group, Optimizer
from reconciler.local.trainer.schedule import Schedule

DS_VERSION: Final = "0.17.5"
"""The release whose file format this is."""
MODEL_FILE: Final = "mp_rank_00_model_states.pt"
_LAYERS: Final = "language_model.encoder.layers."


def shard_file(rank: int) -> str:
    """Name of one data-parallel rank's shard."""
    return f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


@dataclass
class Loaded:
    """What a load brought besides weights and optimizer state; None counts where flags reset them."""

    tag: str
    iteration: int
    tokens: int
    args: argparse.Namespace | None


def save(
    folder: Path,
    args: argparse.Namespace,
    sizes: network.Sizes,
    optimizer: Optimizer,
    schedule: Schedule,
    vocabulary: int,
) -> None:
    """Write `folder/global_step<args.iteration>` and the files beside it, in the launcher's order."""
    step = args.iteration
    inner = folder / f"global_step{step}"
    inner.mkdir(parents=True, exist_ok=True)
    pickles.save(_model_state(args, sizes, optimizer, schedule, vocabulary), inner / MODEL_FILE)
    for rank in range(optimizer.ranks):
        pickles.save(_shard_state(optimizer, rank, args), inner / shard_file(rank))
        if rank == 0:
            (folder / "latest").write_text(f"global_step{step}", encoding="utf-8")


def write_lr_state(folder: Path, iteration: int, lr: float) -> None:
    """The peak rate, not the current one; nothing ever reads it back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lr_state_dict.yaml").write_text(f"iteration: {iteration}\nlr: {lr}\n", encoding="utf-8")


def write_tracker(folder: Path, iteration: int) -> None:
    """Megatron's own pointer; written last, read by nothing on a load."""
    (folder / "latest_checkpointed_iteration.txt").write_text(str(iteration), encoding="utf-8")


def _model_state(
    args: argparse.Namespace, sizes: network.Sizes, optimizer: Optimizer, schedule: Schedule, vocabulary: int
) -> dict[str, Any]:
    order = network.shapes(sizes)
    weights = {name: optimizer.weights[name].detach().to(torch.bfloat16) for name in order}
    shapes = [
        OrderedDict((name, torch.Size(shape)) for name, shape in group.layout.shapes.items())
        for group in optimizer.groups
    ]
    return {
        "module": network.nested(weights),
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": shapes,
        "frozen_param_shapes": None,
        "shared_params": {},
        "frozen_param_fragments": None,
        "lr_scheduler": schedule.state(),
        "data_sampler": None,
        "random_ltd": None,
        "sparse_tensor_module_names": [],
        "skipped_steps": 0,
        "global_steps": args.iteration,
        "global_samples": args.iteration * args.global_batch_size,
        "dp_world_size": optimizer.ranks,
        "mp_world_size": 1,
        "ds_config": _ds_config(args),
        "ds_version": DS_VERSION,
        "args": argparse.Namespace(**vars(args)),
        "checkpoint_version": 3.0,
        "iteration": args.iteration,
        "tokens": args.consumed_train_tokens,
        "universal_checkpoint_info": _universal_info(vocabulary, sizes.vocabulary),
        "rng_state": [_rng_state()],
    }


def _universal_info(vocabulary: int, padded: int) -> dict[str, Any]:
    return {
        "universal_checkpoint_version": 0.2,
        "original_vocab_size": vocabulary,
        "padded_vocab_size": padded,
        "vocabulary_parameter_patterns": [
            "language_model.embedding.word_embeddings.weight",
            "language_model.output_layer.weight",
        ],
        "parameter_with_2_sub_params_cat_dim_0": [_LAYERS + r"\d+.mlp.dense_h_to_4h.weight"],
    }


def _ds_config(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "train_batch_size": args.global_batch_size,
        "train_micro_batch_size_per_gpu": args.micro_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 1},
        "bf16": {"enabled": True},
    }


def _rng_state() -> dict[str, Any]:
    return {
        "random_rng_state": random.getstate(),
        "np_rng_state": np.random.get_state(),
        "torch_rng_state": torch.get_rng_state(),
        "cuda_rng_state": torch.get_rng_state(),
        "rng_tracker_states": {},
    }


def _shard_state(optimizer: Optimizer, rank: int, args: argparse.Namespace) -> dict[str, Any]:
    groups = optimizer.groups
    last = rank == optimizer.ranks - 1
    return {
        "optimizer_state_dict": {
            "clip_grad": 1.0,
            "base_optimizer_state": {
                "state": {
                    number: {
                        "step": torch.tensor(float(group.shards[rank].step)),
                        "exp_avg": group.shards[rank].exp_avg,
                        "exp_avg_sq": group.shards[rank].exp_avg_sq,
                    }
                    for number, group in enumerate(groups)
                },
                "param_groups": optimizer.param_groups(),
            },
            "single_partition_of_fp32_groups": [group.shards[rank].master for group in groups],
            # The whole padding is booked on the last rank, even when it is longer than that rank's shard.
            "group_paddings": [group.layout.padding if last else 0 for group in groups],
            "partition_count": [optimizer.ranks for _ in groups],
            "ds_version": DS_VERSION,
            "param_slice_mappings": [OrderedDict(group.layout.fragments(rank)) for group in groups],
        },
        "ds_config": _ds_config(args),
        "ds_version": DS_VERSION,
    }


def load(args: argparse.Namespace, optimizer: Optimizer, schedule: Schedule, log: Any) -> Loaded | None:
    """Load from `args.load` as the flags say; None when nothing is there and training starts from random weights.

    | | none | finetune | finetune, universal | reset-iteration |
    |---|---|---|---|---|
    | weights | fp32 masters | bf16, upcast | fp32 masters | fp32 masters |
    | moments, step, group rates | kept | dropped | kept | kept |
    | scheduler, rng | loaded | not | not | loaded |
    | iteration, samples, tokens | kept | 0 | 0 | 0 |

    Raises:
        ValueError: universal, and `latest_universal` is missing. AssertionError: no such tag, or another architecture.
        BadSetting: the shards are of another data-parallel size. FileNotFoundError: a shard is missing.
        UnreadableCheckpoint: a file is cut off or damaged.
    """
    folder = Path(args.load)
    tag = args.load_tag or _latest(folder, args.universal_checkpoint, log)
    if tag is None:
        return None
    inner = folder / tag
    if not (inner / MODEL_FILE).is_file():
        raise AssertionError(f"no checkpoint files found: {inner} has no {MODEL_FILE}")
    state = pickles.load(inner / MODEL_FILE)
    _load_module(optimizer, network.flattened(state["module"]))
    if not args.finetune:
        schedule.load(state["lr_scheduler"], log)
    if args.universal_checkpoint:
        _load_universal(inner / "zero", optimizer)
    elif not args.finetune:
        _load_shards(inner, optimizer, int(state["dp_world_size"]))
    if not args.finetune:
        _restore_rng(state["rng_state"][0])
    afresh = args.finetune or args.reset_iteration
    if not args.finetune and not args.reset_iteration:
        _check_architecture(args, state["args"])
    return Loaded(
        tag=tag,
        iteration=0 if afresh else int(state["iteration"]),
        tokens=0 if afresh else int(state["tokens"]),
        args=None if afresh else state["args"],
    )


def _latest(folder: Path, universal: bool, log: Any) -> str | None:
    pointer = folder / ("latest_universal" if universal else "latest")
    if pointer.is_file():
        return pointer.read_text(encoding="utf-8").strip()
    if universal:
        raise ValueError(f"Invalid for universal checkpoint: {pointer} does not exist")
    log(
        f"Unable to find latest file at {pointer}, if trying to load latest checkpoint please ensure this file "
        "exists or pass an explicit checkpoint tag when loading a checkpoint."
    )
    return None


def _load_module(optimizer: Optimizer, stored: dict[str, Tensor]) -> None:
    """bf16 weights, and masters upcast from them; a load with optimizer state then replaces the masters."""
    problems = []
    for group in optimizer.groups:
        for name, shape in group.layout.shapes.items():
            found = stored.get(name)
            if found is None:
                problems.append(f"Missing key(s) in state_dict: {name!r}.")
            elif tuple(found.shape) != shape:
                problems.append(
                    f"size mismatch for {name}: copying a param with shape {found.shape} from checkpoint, the shape in "
                    f"current model is {torch.Size(shape)}."
                )
    if problems:
        raise BadSetting("Error(s) in loading state_dict for GPTModel: " + " ".join(problems))
    for group in optimizer.groups:
        group.fill("master", stored)
        group.gather()


def _load_shards(inner: Path, optimizer: Optimizer, stored_ranks: int) -> None:
    if stored_ranks != optimizer.ranks:
        raise BadSetting(
            f"The checkpoint being loaded used a DP world size of {stored_ranks} but the current world size is "
            f"{optimizer.ranks}. Automatic adjustment of ZeRO's optimizer state partitioning with a new world size is "
            "not currently supported."
        )
    missing = [
        str(inner / shard_file(rank)) for rank in range(stored_ranks) if not (inner / shard_file(rank)).is_file()
    ]
    if missing:
        raise FileNotFoundError(f"The following zero checkpoints paths are missing: {missing}")
    for rank in range(stored_ranks):
        state = pickles.load(inner / shard_file(rank))["optimizer_state_dict"]
        base = state["base_optimizer_state"]
        for number, group in enumerate(optimizer.groups):
            shard, moments = group.shards[rank], base["state"][number]
            shard.master.copy_(state["single_partition_of_fp32_groups"][number])
            shard.exp_avg.copy_(moments["exp_avg"])
            shard.exp_avg_sq.copy_(moments["exp_avg_sq"])
            shard.step = int(moments["step"])
        optimizer.load_param_groups(base["param_groups"])
    for group in optimizer.groups:
        group.gather()


def _load_universal(zero: Path, optimizer: Optimizer) -> None:
    for group in optimizer.groups:
        for kind, file in (("master", "fp32"), ("exp_avg", "exp_avg"), ("exp_avg_sq", "exp_avg_sq")):
            group.fill(
                kind, {name: _universal_tensor(zero / name / f"{file}.pt", shape) for name, shape in _shapes(group)}
            )
        steps = {
            int(pickles.load(zero / name / "step.pt"))
            for name, _ in _shapes(group)
            if (zero / name / "step.pt").is_file()
        }
        if len(steps) > 1:
            raise AssertionError(f"{group.layout.name}: parameters of one group have different steps {sorted(steps)}")
        for shard in group.shards:
            shard.step = next(iter(steps), 0)
        group.gather()
    stored = pickles.load(zero / "optimizer_state.pt")
    optimizer.load_param_groups(stored["param_groups"])


def _shapes(group: Group) -> list[tuple[str, tuple[int, ...]]]:
    return list(group.layout.shapes.items())


def _universal_tensor(path: Path, shape: tuple[int, ...]) -> Tensor:
    stored = pickles.load(path)
    tensor: Tensor = stored["param"]
    if stored.get("vocab_tensor") and tensor.shape[0] < shape[0]:
        # Padding rows are cut off by the conversion and come back as zeros.
        tensor = torch.cat([tensor, torch.zeros(shape[0] - tensor.shape[0], *shape[1:])])
    if tuple(tensor.shape) != shape:
        raise BadSetting(
            f"size mismatch for {path.parent.name}: {tuple(tensor.shape)} in {path}, {shape} in the model."
        )
    return tensor


def _check_architecture(args: argparse.Namespace, stored: argparse.Namespace) -> None:
    names = ["num_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "add_position_embedding"]
    if not args.universal_checkpoint:
        names += ["tensor_model_parallel_size", "pipeline_model_parallel_size"]
    for name in names:
        old, new = getattr(stored, name), getattr(args, name)
        if old != new:
            raise AssertionError(
                f"{name} value from checkpoint ({old}) is not equal to the input argument value ({new})."
            )


def _restore_rng(state: dict[str, Any]) -> None:
    random.setstate(state["random_rng_state"])
    np.random.set_state(state["np_rng_state"])
    torch.set_rng_state(state["torch_rng_state"])
