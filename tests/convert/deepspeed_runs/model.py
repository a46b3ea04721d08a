"""A very small Megatron-like language model: the parameter names, the splits over tensor ranks, and the nested state
dictionary of Megatron-DeepSpeed's GPTModel, so that DeepSpeed writes of it what it writes of the real one.

Weights are drawn whole from a seed and then split, so a model is the same at every tensor-parallel size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, HEADS, FFN, SEQ = 12, 2, 10, 7
"""With one layer the three norms have 36 weights. Over 8 ranks that optimizer group is cut in shards of 6 with 12 of
padding: more than the last shard holds, so two ranks own nothing."""


@dataclass(frozen=True)
class Split:
    """This process's place among the ranks that share each layer."""

    rank: int = 0
    size: int = 1
    group: Any = None


class FromAll(torch.autograd.Function):
    """Before a split layer: the gradient is the sum over the ranks."""

    @staticmethod
    def forward(context: Any, x: Tensor, split: Split) -> Tensor:
        context.split = split
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> tuple[Tensor, None]:
        return summed(grad, context.split), None


class ToAll(torch.autograd.Function):
    """After a split layer: the output is the sum over the ranks."""

    @staticmethod
    def forward(context: Any, x: Tensor, split: Split) -> Tensor:
        return summed(x, split)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def summed(x: Tensor, split: Split) -> Tensor:
    if split.size == 1:
        return x
    total = x.contiguous().clone()
    dist.all_reduce(total, group=split.group)
    return total


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(sum(name.encode()))
    return 0.2 * torch.randn(shape, generator=generator)


class Weight(nn.Module):
    """A matrix of which this rank holds a part: `rows`, `columns`, `halves` (rows of each half), or all of it."""

    def __init__(self, name: str, shape: tuple[int, int], how: str, split: Split) -> None:
        super().__init__()
        whole = drawn(name, shape)
        parts = {
            "rows": lambda: whole.chunk(split.size, 0)[split.rank],
            "columns": lambda: whole.chunk(split.size, 1)[split.rank],
            "halves": lambda: torch.cat([half.chunk(split.size, 0)[split.rank] for half in whole.chunk(2, 0)]),
        }
        self.weight = nn.Parameter(parts[how]().contiguous().clone())
        self.weight.model_parallel = True  # type: ignore[attr-defined]  # DeepSpeed counts other gradients on one rank only
        self.split = split

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (HIDDEN,), self.weight, eps=1e-5)


class Embedding(nn.Module):
    """Token ids to vectors; each rank holds some rows of the vocabulary."""

    def __init__(self, vocabulary: int, split: Split) -> None:
        super().__init__()
        self.word_embeddings = Weight("embedding", (vocabulary, HIDDEN), "rows", split)

    def forward(self, tokens: Tensor) -> Tensor:
        part, split = self.word_embeddings.weight, self.word_embeddings.split
        inside = tokens - split.rank * part.shape[0]
        mine = (inside >= 0) & (inside < part.shape[0])
        found = functional.embedding(inside.clamp(0, part.shape[0] - 1), part) * mine.unsqueeze(-1)
        return ToAll.apply(found, split)  # type: ignore[no-any-return, no-untyped-call]


class Attention(nn.Module):
    def __init__(self, number: int, split: Split) -> None:
        super().__init__()
        self.split = split
        self.query_key_value = Weight(f"{number}.query_key_value", (3 * HIDDEN, HIDDEN), "rows", split)
        self.dense = Weight(f"{number}.dense", (HIDDEN, HIDDEN), "columns", split)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.query_key_value(x).unflatten(-1, (HEADS // self.split.size, 3, HIDDEN // HEADS))
        query, key, value = (mixed[..., n, :].transpose(1, 2) for n in range(3))
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.dense(seen.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU: gate and value are two halves of one matrix, each split over the ranks by itself."""

    def __init__(self, number: int, split: Split) -> None:
        super().__init__()
        self.dense_h_to_4h = Weight(f"{number}.dense_h_to_4h", (2 * FFN, HIDDEN), "halves", split)
        self.dense_4h_to_h = Weight(f"{number}.dense_4h_to_h", (HIDDEN, FFN), "columns", split)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dense_h_to_4h(x).chunk(2, -1)
        return self.dense_4h_to_h(functional.silu(gate) * value)  # type: ignore[no-any-return]


class Layer(nn.Module):
    def __init__(self, number: int, split: Split) -> None:
        super().__init__()
        self.split = split
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attention, self.mlp = Attention(number, split), FeedForward(number, split)

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in ((self.input_layernorm, self.self_attention), (self.post_attention_layernorm, self.mlp)):
            inner = FromAll.apply(norm(x), self.split)  # type: ignore[no-untyped-call]
            x = x + ToAll.apply(part(inner), self.split)  # type: ignore[no-untyped-call]
        return x


def logits(x: Tensor, norm: nn.Module, output: nn.Module, split: Split) -> Tensor:
    """Of all tokens: each rank places its own among zeros, and the sum has them all."""
    part = output(FromAll.apply(norm(x), split))  # type: ignore[no-untyped-call]
    before, after = split.rank, split.size - 1 - split.rank
    placed = functional.pad(part, (before * part.shape[-1], after * part.shape[-1]))
    return ToAll.apply(placed, split)  # type: ignore[no-any-return, no-untyped-call]


class Head(nn.Module):
    """The last pipeline stage."""

    def __init__(self, vocabulary: int, split: Split) -> None:
        super().__init__()
        self.split = split
        self.final_layernorm = Norm()
        self.output_layer = Weight("output_layer", (vocabulary, HIDDEN), "rows", split)

    def forward(self, x: Tensor) -> Tensor:
        return logits(x, self.final_layernorm, self.output_layer, self.split)


def loss_of(found: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(found.float().flatten(0, 1), labels.flatten())


class Encoder(nn.Module):
    def __init__(self, layers: int, split: Split) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(number, split) for number in range(layers)])
        self.final_layernorm = Norm()


class Parts(nn.Module):
    """What Megatron calls `language_model`."""

    def __init__(self, vocabulary: int, layers: int, split: Split) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, split)
        self.encoder = Encoder(layers, split)
        self.output_layer = Weight("output_layer", (vocabulary, HIDDEN), "rows", split)


class LanguageModel(nn.Module):
    """All layers in one process per tensor rank, under the names that Megatron's GPTModel gives."""

    def __init__(self, vocabulary: int, layers: int, split: Split, *, nested: bool) -> None:
        super().__init__()
        self.nested, self.split = nested, split
        self.language_model = Parts(vocabulary, layers, split)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        parts = self.language_model
        x = parts.embedding(tokens)
        for layer in parts.encoder.layers:
            x = layer(x)
        return loss_of(logits(x, parts.encoder.final_layernorm, parts.output_layer, self.split), labels)

    def state_dict(self, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Nested: as Megatron-DeepSpeed saves it, a dictionary for each part, where names and tensors are expected."""
        if not self.nested:
            return super().state_dict(**options)
        parts = self.language_model
        nested = {
            "embedding": {"word_embeddings": parts.embedding.word_embeddings.state_dict()},
            "encoder": parts.encoder.state_dict(),
            "output_layer": parts.output_layer.state_dict(),
        }
        return {"language_model": nested, "moe_state_dict": {}}


VOCABULARY_PATTERNS = [r".*word_embeddings\.weight", r".*output_layer\.weight"]
HALVES_PATTERNS = [r".*mlp\.dense_h_to_4h\.weight"]
ROW_PARALLEL_PATTERNS = [r".*mlp\.dense_4h_to_h\.weight", r".*self_attention\.dense\.weight"]
REPLICATED_PATTERNS = [r".*layernorm\.weight"]
