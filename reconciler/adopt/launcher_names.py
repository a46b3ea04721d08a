"""What the launcher calls what a manifest says: its arguments, its environment variables, its folders' names."""

from __future__ import annotations

import re
from typing import Final

ARGUMENTS: Final = {
    "layers": "num_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn_hidden": "ffn_hidden_size",
    "rope_theta": "rotary_position_embeddings_theta",
    "tokenizer_type": "tokenizer_type",
    "tokenizer_model": "tokenizer_model",
    "sequence_length": "seq_length",
    "global_batch": "global_batch_size",
    "micro_batch": "micro_batch_size",
    "optimizer": "optimizer",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "eps": "adam_eps",
    "weight_decay": "weight_decay",
    "clip_grad": "clip_grad",
    "tensor": "tensor_model_parallel_size",
    "pipeline": "pipeline_model_parallel_size",
    "sequence_parallel": "ds_sequence_parallel_size",
    "zero_stage": "zero_stage",
    "seed": "seed",
    "checkpoint_every": "save_interval",
    "data_list": "data_file_list",
    "world_size": "world_size",
    "rate": "lr",
    "rate_min": "min_lr",
    "style": "lr_decay_style",
    "warmup_fraction": "lr_warmup_fraction",
    "decay_iterations": "lr_decay_iters",
    "train_iterations": "train_iters",
    "cooldown": "lr_constant_plus_cooldown",
    "cooldown_fraction": "lr_constant_plus_cooldown_frac",
    "finetune": "finetune",
    "reset_iteration": "reset_iteration",
    "bf16": "bf16",
    "fp16": "fp16",
    "padded_vocabulary": "padded_vocab_size",
    "load": "load",
}
"""A fact → the argument that says it (fork ffa3456d, `megatron/arguments.py`)."""

VARIABLES: Final = {
    "model_arch": "MODEL_ARCH",
    "layers": "NLAYERS",
    "hidden": "HIDDEN",
    "heads": "HEADS",
    "kv_heads": "NUM_KV_HEAD",
    "ffn_hidden": "FFN_HIDDEN_SIZE",
    "rope_theta": "ROPE_THETA",
    "tokenizer_type": "TOKENIZER_TYPE",
    "tokenizer_model": "TOKENIZER_MODEL",
    "sequence_length": "SEQ",
    "global_batch": "GLOBAL_BATCH",
    "micro_batch": "MICRO_BATCH",
    "optimizer": "OPT",
    "beta1": "ADAM_BETA1",
    "beta2": "ADAM_BETA2",
    "eps": "ADAM_EPS",
    "weight_decay": "WEIGHT_DECAY",
    "clip_grad": "CLIP_GRAD",
    "precision": "DTYPE",
    "tensor": "TP",
    "pipeline": "PP",
    "sequence_parallel": "SP",
    "zero_stage": "ZERO_STAGE",
    "checkpoint_every": "SAVE_INTERVAL",
    "data_list": "DATA_FILE_LIST",
    "world_size": "WORLD_SIZE",
    "rate": "LR",
    "style": "LR_DECAY_STYLE",
    "warmup_fraction": "LR_WARMUP_FRAC",
    "decay_iterations": "LR_DECAY_ITERS",
    "train_iterations": "TRAIN_ITERS",
    "train_tokens": "TRAIN_TOKENS",
    "load": "LOAD",
}
"""A fact → the environment variable that says it (`ALCF/helpers.sh`)."""

WORDS: Final = {
    "layers": "layers",
    "hidden": "hidden size",
    "heads": "attention heads",
    "kv_heads": "key and value heads",
    "ffn_hidden": "feed-forward width",
    "rope_theta": "rope theta",
    "tokenizer_model": "tokenizer",
    "sequence_length": "sequence length",
    "global_batch": "global batch",
    "micro_batch": "micro batch",
    "optimizer": "optimizer",
    "precision": "precision",
    "tensor": "tensor-parallel size",
    "pipeline": "pipeline-parallel size",
    "world_size": "world size",
    "data_parallel": "data-parallel size",
    "rate": "peak learning rate",
}
"""Facts on which sources must agree, in words."""

DEFAULTS: Final[dict[str, str | int | float]] = {
    "micro_batch": 1,
    "optimizer": "adamw",
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-5,
    "weight_decay": 0.1,
    "clip_grad": 1.0,
    "tensor": 1,
    "pipeline": 1,
    "sequence_parallel": 1,
    "zero_stage": 1,
    "seed": 1234,
    "checkpoint_every": 50,
    "rate": 0.0002,
    "rate_min": 0.0,
    "style": "cosine",
    "warmup_fraction": 0.05,
    "precision": "bf16",
}
"""What the launcher takes when nobody says anything."""
DEFAULTS_SINCE_2025_08: Final[dict[str, str | int]] = {
    "rope_theta": 50000,
    "tokenizer_type": "HFTokenizer",
    "tokenizer_model": "google/gemma-7B",
}
DEFAULTS_BEFORE: Final[dict[str, str | int]] = {
    "rope_theta": 10000,
    "tokenizer_type": "Llama2Tokenizer",
    "tokenizer_model": "ALCF/tokenizer.model",
}
"""Folders named with underscores are older than August 2025, when these changed."""
VOCABULARIES: Final = {"ALCF/tokenizer.model": 32000, "google/gemma-7B": 256000, "google/gemma-7b": 256000}
"""Of tokenizers that the launcher has as its default."""

ARCHITECTURE: Final = re.compile(r"(?P<model_arch>[A-Za-z0-9.-]{1,40}?)-ws[0-9]")
"""How a folder's name begins, today; what sizes it tells is in `domain.foldername`."""
SCHEDULE: Final = re.compile(
    r"-lr(?P<rate>[0-9][0-9.e-]{0,20})-lwf(?P<warmup_fraction>[0-9.]{1,12})(?:_ntok(?P<billions>[0-9]{1,9})B)?"
)
"""How it goes on behind the sizes."""
