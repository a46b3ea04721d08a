"""Write ZeRO-1 checkpoints as DeepSpeed does, from a state given as whole parameters.

The layout is that of a bf16 run of Megatron-DeepSpeed: two optimizer groups (matrices, then one-dimensional weights),
each a flat fp32 buffer padded to a multiple of twice the ranks and cut in equal shards.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

STATES = ("fp32", "exp_avg", "exp_avg_sq")
BF16 = "BF16_Optimizer"
ZERO = "DeepSpeedZeroOptimizer"

FRAGMENTS = "deepspeed.utils.tensor_fragment"
ZERO_CONFIG = "deepspeed.runtime.zero.config"
LOSS_SCALER = "deepspeed.runtime.fp16.loss_scaler"


@dataclass
class fragment_address:  # noqa: N801 - DeepSpeed's own name, and pickled by it
    numel: int
    start: int


class ZeroStageEnum(enum.IntEnum):
    optimizer_states = 1


class LossScaler:
    def __init__(self, scale: float) -> None:
        self.cur_scale = scale
        self.dtype = torch.bfloat16


@contextlib.contextmanager
def deepspeed_named() -> Iterator[None]:
    """Let the three classes above pickle under DeepSpeed's names, which must be importable only while writing."""
    homes: dict[type, str] = {fragment_address: FRAGMENTS, ZeroStageEnum: ZERO_CONFIG, LossScaler: LOSS_SCALER}
    added: list[str] = []
    own = {cls: cls.__module__ for cls in homes}
    for cls, home in homes.items():
        parts = home.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            if name not in sys.modules:
                sys.modules[name] = types.ModuleType(name)
                added.append(name)
        setattr(sys.modules[home], cls.__name__, cls)
        cls.__module__ = home
    try:
        yield
    finally:
        for cls, module in own.items():
            cls.__module__ = module
        for name in added:
            del sys.modules[name]


@dataclass
class State:
    """Whole parameters by group: name -> state name -> tensor of the parameter's shape."""

    groups: list[OrderedDict[str, dict[str, torch.Tensor]]]
    step: int = 120

    def parameters(self) -> dict[str, dict[str, torch.Tensor]]:
        return {name: tensors for group in self.groups for name, tensors in group.items()}


def state_of(shapes: list[dict[str, tuple[int, ...]]], seed: int = 0) -> State:
    """A state with values that are all different, so that no misplaced element can hide."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for group in shapes:
        entries: OrderedDict[str, dict[str, torch.Tensor]] = OrderedDict()
        for name, shape in group.items():
            entries[name] = {state: torch.randn(shape, generator=generator) for state in STATES}
            entries[name]["exp_avg_sq"].square_()
        groups.append(entries)
    return State(groups)


@dataclass
class Saved:
    """How a state is saved: the wrapper class that does it, the ranks, and what the model file says."""

    data_parallel: int = 2
    wrapper: str = BF16
    info: dict[str, Any] = field(default_factory=dict)
    iteration: int = 120
    nested: bool = False
    old_paddings: bool = False
    step_in_groups: bool = False
    names: dict[str, str] = field(default_factory=dict)
    """Other names that the optimizer has for its moments; "" for a moment that it has not."""
    model: dict[str, Any] = field(default_factory=dict)
    """What the model file says beside the usual."""
    layers: bool = False
    """As a pipeline saves: the weights of layer N, whose parameters are named `N.…`, in a file of their own."""


def write_checkpoint(root: Path, state: State, how: Saved) -> Path:
    """Write `root`/global_stepN with its pointers; returns the global_stepN folder."""
    return write_model_parallel(root, [state], how)


def write_model_parallel(root: Path, states: list[State], how: Saved) -> Path:
    """The same of several model-parallel ranks, each with the state that it holds."""
    folder = root / f"global_step{how.iteration}"
    folder.mkdir(parents=True)
    for part, state in enumerate(states):
        torch.save(model_states(state, how, len(states)), folder / f"mp_rank_{part:02d}_model_states.pt")
        cuts = [cut(group, how) for group in state.groups]
        for rank in range(how.data_parallel):
            with deepspeed_named():
                optimizer = shard_of(state, how, rank, cuts)
                content = {"optimizer_state_dict": optimizer, "ds_config": {}, "ds_version": "0.17.5"}
                torch.save(content, folder / f"bf16_zero_pp_rank_{rank}_mp_rank_{part:02d}_optim_states.pt")
    (root / "latest").write_text(folder.name)
    (root / "latest_checkpointed_iteration.txt").write_text(str(how.iteration))
    return folder


def write_layers(folder: Path, state: State, tensor: int) -> None:
    """The layer files of one tensor-parallel rank of a stage."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensors in state.parameters().items():
        layer, _, rest = name.partition(".")
        layers.setdefault(layer, {})[rest] = tensors["fp32"].to(torch.bfloat16)
    for layer, weights in layers.items():
        if layer.isdecimal():
            torch.save(weights, folder / f"layer_{int(layer):02d}-model_{tensor:02d}-model_states.pt")


def model_states(state: State, how: Saved, parts: int = 1) -> dict[str, Any]:
    weights = {name: tensors["fp32"].to(torch.bfloat16) for name, tensors in state.parameters().items()}
    return {
        "module": None if how.layers else {"language_model": {"encoder": weights}} if how.nested else weights,
        "param_shapes": [
            OrderedDict((named(name, how), tensors["fp32"].shape) for name, tensors in group.items())
            for group in state.groups
        ],
        "lr_scheduler": {"num_steps": 7680, "max_lr": 2e-4},
        "global_steps": how.iteration,
        "dp_world_size": how.data_parallel,
        "mp_world_size": parts,
        "ds_version": "0.17.5",
        "optimizer": None,
        "args": argparse.Namespace(num_layers=2, params_dtype=torch.bfloat16, consumed_train_samples=7680),
        "checkpoint_version": 3.0,
        "iteration": how.iteration,
        "rng_state": [{"random_rng_state": (3, (1, 2)), "torch_rng_state": torch.get_rng_state(), "raw": b"\x00\xff"}],
        "universal_checkpoint_info": how.info,
        **how.model,
    }


def named(name: str, how: Saved) -> str:
    return f"language_model.encoder.{name}" if how.nested else name


Cut = tuple[dict[str, torch.Tensor], int, int]


def shard_of(state: State, how: Saved, rank: int, cuts: list[Cut]) -> dict[str, Any]:
    low = [rank * shard for _, shard, _ in cuts]
    flats = [
        {name: flat[low[g] : low[g] + shard].clone() for name, flat in buffers.items()}
        for g, (buffers, shard, _) in enumerate(cuts)
    ]
    paddings = [paddings_of(how, rank, shard, padding) for _, shard, padding in cuts]
    inner: dict[int, dict[str, Any]] = {}
    for g, flat in enumerate(flats):
        moments = {how.names.get(name, name): flat[name] for name in STATES[1:]}
        inner[g] = {name: moment for name, moment in moments.items() if name}
        if not how.step_in_groups:
            inner[g]["step"] = torch.tensor(float(state.step))
    step = {"step": state.step} if how.step_in_groups else {}
    content: dict[str, Any] = {
        "clip_grad": 1.0,
        "base_optimizer_state": {
            "state": inner,
            "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.95), "params": [g], **step} for g in range(len(flats))],
        },
        "single_partition_of_fp32_groups": [flat["fp32"] for flat in flats],
        "group_paddings": paddings,
        "partition_count": [how.data_parallel] * len(flats),
        "ds_version": "0.17.5",
        "param_slice_mappings": [mapping(g, how, low[i], cuts[i][1]) for i, g in enumerate(state.groups)],
    }
    if how.wrapper == ZERO:
        content["single_partition_of_fp32_groups"] = [
            flat["fp32"][: flat["fp32"].numel() - padding] for flat, padding in zip(flats, paddings, strict=True)
        ]
        content |= {"zero_stage": ZeroStageEnum.optimizer_states, "loss_scaler": LossScaler(1.0), "overflow": False}
    return content


def cut(group: dict[str, dict[str, torch.Tensor]], how: Saved) -> Cut:
    """The padded flat buffer of each state, the shard's size, and the padding."""
    numel = sum(tensors["fp32"].numel() for tensors in group.values())
    shard = 2 * -(-numel // (2 * how.data_parallel))
    padding = shard * how.data_parallel - numel
    # Padding is zero in a real buffer; a value that must never appear anywhere shows a leak.
    tail = torch.full((padding,), 1e30)
    buffers = {
        state: torch.cat([tensors[state].reshape(-1) for tensors in group.values()] + [tail]) for state in STATES
    }
    return buffers, shard, padding


def paddings_of(how: Saved, rank: int, shard: int, padding: int) -> int:
    """What this rank books as padding: newer ZeroOptimizers per rank, everything else all of it on the last rank."""
    if how.wrapper == ZERO and not how.old_paddings:
        return max(0, min(shard, padding - (how.data_parallel - 1 - rank) * shard))
    return padding if rank == how.data_parallel - 1 else 0


def mapping(group: dict[str, Any], how: Saved, low: int, shard: int) -> OrderedDict[str, fragment_address]:
    found: OrderedDict[str, fragment_address] = OrderedDict()
    at = 0
    for name, tensors in group.items():
        start, end = max(at, low), min(at + tensors["fp32"].numel(), low + shard)
        if start < end:
            found[named(name, how)] = fragment_address(numel=end - start, start=start - low)
        at += tensors["fp32"].numel()
    return found
