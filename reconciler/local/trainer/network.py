"""The model: a decoder with rotary positions, RMSNorm, SwiGLU and grouped key-value heads, under Megatron's names.

Weights are kept as fp32 tensors that hold bf16 values, and arithmetic is fp32: a CPU without bf16 units computes bf16
slowly, and what the model sees is the same as on a machine that rounds its weights to bf16 after every step.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as functional
from torch import Tensor

NORM_EPS: Final = 1e-5
PREFIX: Final = "language_model."


@dataclass(frozen=True)
class Sizes:
    """Sizes of one model; `vocabulary` is the padded one, `seq` in tokens."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    seq: int
    rope_theta: float

    @property
    def head(self) -> int:
        """Channels of one head."""
        return self.hidden // self.heads


def shapes(sizes: Sizes) -> OrderedDict[str, tuple[int, ...]]:
    """Every parameter's full dotted name and shape, in the model's order."""
    names: OrderedDict[str, tuple[int, ...]] = OrderedDict()
    names[PREFIX + "embedding.word_embeddings.weight"] = (sizes.vocabulary, sizes.hidden)
    for number in range(sizes.layers):
        layer = f"{PREFIX}encoder.layers.{number}."
        names[layer + "input_layernorm.weight"] = (sizes.hidden,)
        names[layer + "self_attention.query_key_value.weight"] = (
            (sizes.heads + 2 * sizes.kv_heads) * sizes.head,
            sizes.hidden,
        )
        names[layer + "self_attention.dense.weight"] = (sizes.hidden, sizes.hidden)
        names[layer + "post_attention_layernorm.weight"] = (sizes.hidden,)
        names[layer + "mlp.dense_h_to_4h.weight"] = (2 * sizes.ffn, sizes.hidden)
        names[layer + "mlp.dense_4h_to_h.weight"] = (sizes.hidden, sizes.ffn)
    names[PREFIX + "encoder.final_layernorm.weight"] = (sizes.hidden,)
    names[PREFIX + "output_layer.weight"] = (sizes.vocabulary, sizes.hidden)
    return names


def initial(sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """Random weights: norms 1, matrices normal with std sqrt(2 / 5h), outputs into the residual scaled by depth."""
    draw = torch.Generator().manual_seed(seed)
    std = math.sqrt(2 / (5 * sizes.hidden))
    weights = {}
    for name, shape in shapes(sizes).items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
            continue
        into_residual = name.endswith(("dense.weight", "dense_4h_to_h.weight"))
        scale = std / math.sqrt(2 * sizes.layers) if into_residual else std
        weights[name] = torch.empty(shape).normal_(0.0, scale, generator=draw)
    return weights


class Network:
    """Forward pass over named weights."""

    def __init__(self, sizes: Sizes, weights: dict[str, Tensor]) -> None:
        self.sizes = sizes
        self._weights = weights
        inverse = 1.0 / (sizes.rope_theta ** (torch.arange(0, sizes.head, 2).float() / sizes.head))
        angles = torch.outer(torch.arange(sizes.seq).float(), inverse)
        self._cos, self._sin = angles.cos(), angles.sin()

    def loss(self, rows: Tensor) -> Tensor:
        """Mean cross-entropy, in nats a token, of rows [batch, SEQ + 1]."""
        inputs, targets = rows[:, :-1], rows[:, 1:]
        hidden = functional.embedding(inputs, self._weights[PREFIX + "embedding.word_embeddings.weight"])
        for number in range(self.sizes.layers):
            hidden = self._layer(hidden, f"{PREFIX}encoder.layers.{number}.")
        hidden = self._norm(hidden, PREFIX + "encoder.final_layernorm.weight")
        logits = functional.linear(hidden, self._weights[PREFIX + "output_layer.weight"])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def _layer(self, hidden: Tensor, layer: str) -> Tensor:
        hidden = hidden + self._attention(self._norm(hidden, layer + "input_layernorm.weight"), layer)
        wide = functional.linear(
            self._norm(hidden, layer + "post_attention_layernorm.weight"),
            self._weights[layer + "mlp.dense_h_to_4h.weight"],
        )
        gate, up = wide.chunk(2, dim=-1)
        return hidden + functional.linear(functional.silu(gate) * up, self._weights[layer + "mlp.dense_4h_to_h.weight"])

    def _attention(self, hidden: Tensor, layer: str) -> Tensor:
        batch, length, _ = hidden.shape
        sizes = self.sizes
        mixed = functional.linear(hidden, self._weights[layer + "self_attention.query_key_value.weight"])
        # Megatron keeps each key-value head behind its queries: [kv heads, queries a kv head + 2, channels].
        group = sizes.heads // sizes.kv_heads
        mixed = mixed.view(batch, length, sizes.kv_heads, group + 2, sizes.head).permute(0, 2, 3, 1, 4)
        query = self._rotate(mixed[:, :, :group]).reshape(batch, sizes.heads, length, sizes.head)
        key = self._rotate(mixed[:, :, group])
        value = mixed[:, :, group + 1]
        if group > 1:
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, sizes.hidden)
        return functional.linear(mixed, self._weights[layer + "self_attention.dense.weight"])

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        return functional.rms_norm(hidden, (self.sizes.hidden,), self._weights[name], NORM_EPS)

    def _rotate(self, channels: Tensor) -> Tensor:
        length = channels.shape[-2]
        cos, sin = self._cos[:length], self._sin[:length]
        first, second = channels.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def nested(weights: dict[str, Tensor]) -> dict[str, object]:
    """Megatron's state dict: `language_model` holds dicts for embedding, encoder and output layer."""
    encoder: OrderedDict[str, Tensor] = OrderedDict()
    output: OrderedDict[str, Tensor] = OrderedDict()
    embedding: OrderedDict[str, Tensor] = OrderedDict()
    places = (
        (PREFIX + "encoder.", encoder),
        (PREFIX + "output_layer.", output),
        (PREFIX + "embedding.word_embeddings.", embedding),
    )
    for name, weight in weights.items():
        for prefix, place in places:
            if name.startswith(prefix):
                place[name.removeprefix(prefix)] = weight
    inner = {"embedding": {"word_embeddings": embedding}, "encoder": encoder, "output_layer": output}
    return {"language_model": inner, "moe_state_dict": {}}


def flattened(module: object, prefix: str = "") -> dict[str, Tensor]:
    """Inverse of `nested`: full dotted names → tensors, at whatever depth they lie."""
    found: dict[str, Tensor] = {}
    if isinstance(module, dict):
        for key, inner in module.items():
            if isinstance(inner, Tensor):
                found[f"{prefix}{key}"] = inner
            elif key != "moe_state_dict":
                found.update(flattened(inner, f"{prefix}{key}."))
    return found
