"""ZeRO-1 with AdamW: fp32 masters and moments cut into one shard a data-parallel rank.

The ranks live in one process here, and gradients are averaged over the global batch by computing it in one go; but each
rank's masters and moments are tensors of their own, stepped, saved and loaded apart, exactly as shards on a cluster.

The flat buffer of a group is its parameters in order, zero-padded to a multiple of 2 · ranks, cut in equal shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

ALIGNMENT: Final = 2


@dataclass(frozen=True)
class Fragment:
    """Where a part of a parameter lies: `numel` elements from `start`."""

    numel: int
    start: int


@dataclass(frozen=True)
class Layout:
    """Names and shapes of one optimizer group and how its flat buffer is cut."""

    name: str
    decayed: bool
    shapes: dict[str, tuple[int, ...]]
    ranks: int

    @property
    def numel(self) -> int:
        """Elements without padding."""
        return sum(_numel(shape) for shape in self.shapes.values())

    @property
    def shard(self) -> int:
        """Elements of each rank's shard, padding included."""
        return ALIGNMENT * -(-self.numel // (ALIGNMENT * self.ranks))

    @property
    def padding(self) -> int:
        """Elements of zero padding at the end of the flat buffer."""
        return self.shard * self.ranks - self.numel

    def places(self) -> dict[str, Fragment]:
        """Where each parameter lies in the flat buffer."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = Fragment(_numel(shape), start)
            start += _numel(shape)
        return found

    def fragments(self, rank: int) -> dict[str, Fragment]:
        """Parameters with elements in this rank's shard; `start` is inside the shard."""
        low, high = rank * self.shard, (rank + 1) * self.shard
        found = {}
        for name, place in self.places().items():
            first, last = max(place.start, low), min(place.start + place.numel, high)
            if first < last:
                found[name] = Fragment(last - first, first - low)
        return found


def _numel(shape: tuple[int, ...]) -> int:
    numel = 1
    for side in shape:
        numel *= side
    return numel


@dataclass
class Shard:
    """What one rank holds of one group: masters and moments, fp32, `Layout.shard` elements each."""

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: int = 0


@dataclass
class Rates:
    """The hyperparameters an optimizer group carries; a checkpoint stores them with the group."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


class Group:
    """One optimizer group: its flat bf16-valued weights and gradients, and every rank's shard."""

    def __init__(self, layout: Layout, weights: dict[str, Tensor], rates: Rates) -> None:
        self.layout, self.rates = layout, rates
        total = layout.shard * layout.ranks
        self.flat, self.gradient = torch.zeros(total), torch.zeros(total)
        self.weights: dict[str, Tensor] = {}
        masters = torch.zeros(total)
        for name, place in layout.places().items():
            masters[place.start : place.start + place.numel] = weights[name].flatten()
            weight = self.flat[place.start : place.start + place.numel].view(layout.shapes[name])
            weight.requires_grad_(True)
            # Views of one buffer: backward adds into it, so clipping and stepping see a single tensor.
            weight.grad = self.gradient[place.start : place.start + place.numel].view(layout.shapes[name])
            self.weights[name] = weight
        self.shards = [
            Shard(masters[self._span(rank)].clone(), torch.zeros(layout.shard), torch.zeros(layout.shard))
            for rank in range(layout.ranks)
        ]
        self.gather()

    def _span(self, rank: int) -> slice:
        return slice(rank * self.layout.shard, (rank + 1) * self.layout.shard)

    def gather(self) -> None:
        """Every rank contributes its shard, rounded to bf16: the weights that the next forward pass sees."""
        with torch.no_grad():
            for rank, shard in enumerate(self.shards):
                self.flat[self._span(rank)].copy_(shard.master.to(torch.bfloat16))

    def step(self) -> None:
        """One AdamW step of every rank's shard, in the order of operations of torch's own."""
        rates = self.rates
        for rank, shard in enumerate(self.shards):
            gradient = self.gradient[self._span(rank)]
            shard.step += 1
            if rates.weight_decay:
                shard.master.mul_(1 - rates.lr * rates.weight_decay)
            shard.exp_avg.lerp_(gradient, 1 - rates.beta1)
            shard.exp_avg_sq.mul_(rates.beta2).addcmul_(gradient, gradient, value=1 - rates.beta2)
            first = 1 - rates.beta1**shard.step
            second = (1 - rates.beta2**shard.step) ** 0.5
            denominator = (shard.exp_avg_sq.sqrt() / second).add_(rates.eps)
            shard.master.addcdiv_(shard.exp_avg, denominator, value=-rates.lr / first)
        self.gather()

    def whole(self, kind: str) -> dict[str, Tensor]:
        """Full tensors of `master`, `exp_avg` or `exp_avg_sq`, by name."""
        flat = torch.cat([getattr(shard, kind) for shard in self.shards])
        return {
            name: flat[place.start : place.start + place.numel].view(self.layout.shapes[name])
            for name, place in self.layout.places().items()
        }

    def fill(self, kind: str, tensors: dict[str, Tensor]) -> None:
        """Inverse of `whole`: cut full tensors into the ranks' shards; padding becomes 0."""
        flat = torch.zeros(self.layout.shard * self.layout.ranks)
        for name, place in self.layout.places().items():
            flat[place.start : place.start + place.numel] = tensors[name].flatten().float()
        for rank, shard in enumerate(self.shards):
            getattr(shard, kind).copy_(flat[self._span(rank)])


class Optimizer:
    """Both groups: matrices with weight decay, norms without, as Megatron groups them."""

    def __init__(self, weights: dict[str, Tensor], ranks: int, rates: Rates, clip: float) -> None:
        self.ranks, self.clip = ranks, clip
        self.groups = []
        for name, decayed in (("wd_no_scale_lr", True), ("no_wd_no_scale_lr", False)):
            shapes = {key: tuple(weight.shape) for key, weight in weights.items() if (weight.dim() > 1) == decayed}
            decay = rates.weight_decay if decayed else 0.0
            group_rates = Rates(rates.lr, rates.beta1, rates.beta2, rates.eps, decay)
            self.groups.append(Group(Layout(name, decayed, shapes, ranks), weights, group_rates))

    @property
    def weights(self) -> dict[str, Tensor]:
        """All weights by name, the tensors that forward and backward use."""
        return {name: weight for group in self.groups for name, weight in group.weights.items()}

    @property
    def lr(self) -> float:
        """Rate that the next step uses."""
        return self.groups[0].rates.lr

    def set_rates(self, lr: float, weight_decay: float) -> None:
        """What the scheduler writes into the groups after each step."""
        for group in self.groups:
            group.rates.lr = lr
            group.rates.weight_decay = weight_decay if group.layout.decayed else 0.0

    def clear(self) -> None:
        """Forget the gradients."""
        for group in self.groups:
            group.gradient.zero_()

    def step(self) -> float:
        """Clip by the global norm, step every shard; returns the norm before clipping."""
        norm = float(torch.stack([group.gradient.norm() for group in self.groups]).norm())
        if self.clip > 0 and not norm <= self.clip:
            # Written so that a NaN norm reaches the weights, as it does on the cluster.
            for group in self.groups:
                group.gradient.mul_(self.clip / (norm + 1e-6))
        for group in self.groups:
            group.step()
        return norm

    def param_groups(self) -> list[dict[str, Any]]:
        """The groups' hyperparameters under torch's and Megatron's names."""
        return [
            {
                "name": group.layout.name,
                "wd_mult": 1.0 if group.layout.decayed else 0.0,
                "lr_mult": 1.0,
                "lr": group.rates.lr,
                "betas": (group.rates.beta1, group.rates.beta2),
                "eps": group.rates.eps,
                "weight_decay": group.rates.weight_decay,
                "params": [number],
            }
            for number, group in enumerate(self.groups)
        ]

    def load_param_groups(self, stored: list[dict[str, Any]]) -> None:
        """Take over a checkpoint's hyperparameters, its learning rate included."""
        for group, values in zip(self.groups, stored, strict=True):
            beta1, beta2 = values["betas"]
            group.rates = Rates(
                float(values["lr"]), float(beta1), float(beta2), float(values["eps"]), float(values["weight_decay"])
            )
