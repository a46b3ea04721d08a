"""Environment variables to command line, as the launcher's `helpers.sh` does it.

The order is the launcher's: the use-checkpoint flag, the learning-rate flags, a person's extra arguments, then
everything else. argparse keeps the last value, so extra arguments replace `--lr` and its kin but never `--save` or
`--train-iters`. What this machine has no use for (flash attention, tokenizer, Tensorboard, backends) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_TRAIN_TOKENS: Final = 4_673_780_159_710


class BadSetting(ValueError):
    """A variable or flag that the trainer refuses; the message names it."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of one model; `seq` in tokens."""

    heads: int
    layers: int
    hidden: int
    kv_heads: int
    ffn: int
    seq: int


_FIXED: Final = {"2B": Architecture(heads=16, layers=12, hidden=2048, kv_heads=4, ffn=11008, seq=8192)}
_SPELLINGS_2B: Final = [
    "2B",
    "AuroraGPT-2B",
    "AuroraGPT_2B",
    "Aurora-GPT-2B",
    "AuroraGPT2B",
    "Aurora_GPT_2B",
    "aurora-gpt-2b",
    "aurora_gpt_2b",
]


def command_line(environ: Mapping[str, str], extra: Sequence[str]) -> list[str]:
    """Arguments for the trainer proper.

    Raises:
        BadSetting: a number is not one, or a value is one that this machine cannot honour.
    """
    arch = architecture(environ)
    world, data_parallel = world_size(environ)
    micro, gas = _integer(environ, "MICRO_BATCH", 1), _integer(environ, "GRAD_ACC_STEPS", 1)
    batch = _integer(environ, "GLOBAL_BATCH", data_parallel * micro * gas)
    folder = environ.get("CKPT_DIR") or "checkpoints/local"
    flags = [] if environ.get("OVERRIDE_CKPT_OPT_PARAM") else ["--use-checkpoint-opt_param-scheduler"]
    flags += ["--lr", environ.get("LR") or "0.0002"]
    flags += ["--lr-decay-style", environ.get("LR_DECAY_STYLE") or "cosine"]
    flags += ["--lr-warmup-fraction", environ.get("LR_WARMUP_FRAC") or "0.05"]
    if environ.get("LR_DECAY_ITERS"):
        flags += ["--lr-decay-iters", environ["LR_DECAY_ITERS"]]
    flags += extra
    flags += [f"--num-key-value-heads={arch.kv_heads}", f"--ffn-hidden-size={arch.ffn}"]
    flags += [f"--world-size={world}", f"--gradient-accumulation-steps={gas}"]
    flags += [
        f"--adam-beta1={environ.get('ADAM_BETA1') or '0.9'}",
        f"--adam-beta2={environ.get('ADAM_BETA2') or '0.95'}",
    ]
    flags += [f"--adam-eps={environ.get('ADAM_EPS') or '0.00001'}", f"--clip-grad={environ.get('CLIP_GRAD') or '1.0'}"]
    if environ.get("DATA_FILE_LIST"):
        flags += [f"--data-file-list={environ['DATA_FILE_LIST']}"]
    flags += [f"--eval-interval={environ.get('EVAL_INTERVAL') or '100'}"]
    flags += [f"--eval-iters={environ.get('EVAL_ITERS') or '20'}"]
    flags += [f"--global-batch-size={batch}", f"--hidden-size={arch.hidden}"]
    flags += [f"--log-interval={environ.get('LOG_INTERVAL') or '1'}", f"--load={environ.get('LOAD') or folder}"]
    flags += [f"--micro-batch-size={micro}", f"--num-layers={arch.layers}", f"--num-attention-heads={arch.heads}"]
    flags += [f"--rotary-position-embeddings-theta={environ.get('ROPE_THETA') or '50000'}"]
    flags += [f"--save={environ.get('SAVE') or folder}", f"--seq-length={arch.seq}", f"--split={_split(environ)}"]
    flags += [f"--save-interval={environ.get('SAVE_INTERVAL') or '50'}"]
    flags += [f"--train-iters={train_iters(environ, arch.seq, batch)}"]
    flags += [f"--weight-decay={environ.get('WEIGHT_DECAY') or '0.1'}"]
    _refuse_what_is_not_here(environ)
    return flags


def architecture(environ: Mapping[str, str]) -> Architecture:
    """Sizes by MODEL_ARCH: `7B` and every unknown name read the variables, `2B` is fixed. Raises BadSetting."""
    if (environ.get("MODEL_ARCH") or "7B") in _SPELLINGS_2B:
        return _FIXED["2B"]
    return Architecture(
        heads=_integer(environ, "HEADS", _integer(environ, "NHEADS", 32)),
        layers=_integer(environ, "NLAYERS", _integer(environ, "NUM_LAYERS", 32)),
        hidden=_integer(environ, "HIDDEN", 4096),
        kv_heads=_integer(environ, "NUM_KV_HEAD", 8),
        ffn=_integer(environ, "FFN_HIDDEN_SIZE", 11008),
        seq=_integer(environ, "SEQ", 4096),
    )


def world_size(environ: Mapping[str, str]) -> tuple[int, int]:
    """World size (hosts × ranks a host; an exported WORLD_SIZE wins) and the data-parallel size. Raises BadSetting."""
    for name in ("TP", "PP", "SP"):
        if _integer(environ, name, 1) != 1:
            raise BadSetting(f"{name}={environ[name]}: the local trainer is data-parallel only; unset {name}.")
    nodes = environ.get("HOSTFILE") or environ.get("PBS_NODEFILE")
    hosts = 1
    if nodes:
        try:
            hosts = len(Path(nodes).read_text(encoding="utf-8").splitlines())
        except OSError as problem:
            raise BadSetting(f"the node file {nodes} cannot be read: {problem.strerror}.") from None
    world = _integer(environ, "WORLD_SIZE", hosts * _integer(environ, "NGPU_PER_HOST", 1))
    return world, world


def train_iters(environ: Mapping[str, str], seq: int, batch: int) -> int:
    """Absolute iteration target; TRAIN_TOKENS wins over TRAIN_ITERS. Raises BadSetting."""
    if environ.get("TRAIN_TOKENS"):
        return _integer(environ, "TRAIN_TOKENS", 0) // seq // batch
    name = "TRAIN_ITERS" if environ.get("TRAIN_ITERS") else "TRAIN_ITER"
    if environ.get(name):
        return _integer(environ, name, 0, least=0)
    return DEFAULT_TRAIN_TOKENS // seq // batch


def _split(environ: Mapping[str, str]) -> str:
    shares = (("TRAIN_SPLIT", 990), ("VAL_SPLIT", 10), ("TEST_SPLIT", 0))
    return ",".join(str(_integer(environ, name, default, least=0)) for name, default in shares)


def _integer(environ: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise BadSetting(f"{name}={text}: a whole number is expected.") from None
    if value < least:
        raise BadSetting(f"{name}={text}: the least allowed is {least}.")
    return value


def _refuse_what_is_not_here(environ: Mapping[str, str]) -> None:
    known = {"DTYPE": ("bf16",), "OPT": ("adamw",), "TOKENIZER_TYPE": ("ByteTokenizer",), "ZERO_STAGE": ("0", "1")}
    for name, values in known.items():
        value = environ.get(name)
        if value and value not in values:
            raise BadSetting(f"{name}={value}: the local trainer only knows {' or '.join(values)}.")
