"""Traps of single variables: a value that the launcher reads otherwise than it looks, or does not read at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from reconciler.launcher.forecast import Finding, stop
from reconciler.launcher.settings import ARCHITECTURES, Settings

_OFF: Final = frozenset({"0", "false", "no", "off", "none", "n", "f"})
"""What people write for "off", in lower case."""
_SWITCHES: Final = ("OVERRIDE_CKPT_OPT_PARAM", "NO_FLASH_ATTN", "NO_LLAMA", "NO_TENSORBOARD", "CPU_OPTIMIZER", "DEBUG")
"""Variables that are on with any text."""
_NO_ADAM: Final = ("sophia", "muon")
"""Beginnings of optimizers that store no `exp_avg_sq`, which the conversion to a universal checkpoint needs."""


def _switches(settings: Settings) -> Iterator[Finding]:
    for name in _SWITCHES:
        if settings.given(name).lower() in _OFF:
            yield Finding(
                "ORA030",
                f"{name}={settings.given(name)} is on: any text that is not empty counts, `0` too",
                f"to switch it off, leave {name} unset",
            )


def _fixed_shape(settings: Settings) -> Iterator[Finding]:
    """Only 7B reads its shape from the environment."""
    arch = next((a for a in ARCHITECTURES if settings.given("MODEL_ARCH") in a.spellings), None)
    if arch is None:
        return
    fixed = {
        "SEQ": arch.seq,
        "NLAYERS": arch.layers,
        "NUM_LAYERS": arch.layers,
        "HIDDEN": arch.hidden,
        "HEADS": arch.heads,
        "NHEADS": arch.heads,
        "NUM_KV_HEAD": arch.kv_heads,
        "FFN_HIDDEN_SIZE": arch.ffn_hidden,
    }
    for name, value in fixed.items():
        given = settings.given(name)
        if given and value is not None and given != str(value):
            yield Finding(
                "ORA007",
                f"{name}={given[:40]} does nothing: MODEL_ARCH={settings.given('MODEL_ARCH')} fixes it at {value}",
                f"leave {name} out, or choose another MODEL_ARCH; 7B reads its shape from the environment",
            )


def _without_effect(settings: Settings) -> Iterator[Finding]:
    clip, checkpointing = settings.given("CLIP_GRAD"), settings.given("USE_ACTIVATION_CHECKPOINTING")
    if clip not in ("", "1", "1.0"):
        yield Finding(
            "ORA007",
            f"CLIP_GRAD={clip} does nothing: DeepSpeed clips by its own configuration, at 1.0",
            "leave CLIP_GRAD out",
        )
    if checkpointing not in ("", "1", "true") and checkpointing.lower() not in _OFF:
        yield Finding(
            "ORA007",
            f"USE_ACTIVATION_CHECKPOINTING={checkpointing[:40]} does nothing: only `1` and `true` count",
            "set USE_ACTIVATION_CHECKPOINTING=1",
        )
    if "DATA_CACHE_PATH" in settings.environment or "DATA_CACHE_PATH" in settings.unknown:
        yield Finding(
            "ORA007",
            "DATA_CACHE_PATH does nothing: the launcher overwrites it; the index cache is made in CKPT_DIR, under "
            ".cache and the name of the data list",
            "leave DATA_CACHE_PATH out; to move the cache, set CKPT_DIR",
        )


def _optimizer(settings: Settings) -> Iterator[Finding]:
    name = next((n for n in ("OPT", "OPTIMIZER", "OPTIM") if settings.given(n)), "OPT")
    optimizer = settings.given(name)
    if optimizer == "ds.adamw":
        yield stop(
            "ORA011",
            f"{name}={optimizer}: the DeepSpeed configuration that the launcher writes for it is no valid JSON",
            f"set {name}=adamw",
        )
    if optimizer.startswith(_NO_ADAM) and settings.has("universal-checkpoint"):
        yield Finding(
            "ORA034",
            f"--universal-checkpoint with {name}={optimizer[:40]}: the launcher's ds_to_universal.py cannot convert "
            "its checkpoints (a KeyError: they hold no exp_avg_sq)",
            "convert with `reconcile convert`; or keep the data-parallel size and leave --universal-checkpoint out, or "
            "use --finetune alone, which loads weights only",
        )


def _model(settings: Settings) -> Iterator[Finding]:
    arch = settings.given("MODEL_ARCH")
    if arch and not any(arch in known.spellings for known in ARCHITECTURES):
        names = sorted(known.spellings[0] for known in ARCHITECTURES)
        yield Finding(
            "ORA055",
            f"MODEL_ARCH={arch[:40]} is not known to the launcher, which trains a 7B without a word",
            f"use one of {', '.join(names)}",
        )
    if settings.machine == "polaris" and not settings.given("DTYPE"):
        yield Finding("ORA057", "DTYPE is not set, and on Polaris that is fp16", "set DTYPE=bf16")
    if not settings.given("DATA_FILE_LIST") and "DATA_FILE_LIST" not in settings.unknown:
        yield Finding(
            "ORA059", f"DATA_FILE_LIST is not set: the data is {settings.data_file_list}", "set DATA_FILE_LIST"
        )
    unset = [name for name in ("ROPE_THETA", "TOKENIZER_TYPE", "TOKENIZER_MODEL") if not settings.given(name)]
    if settings.architecture == "AuroraGPT-7B" and "_ds_stage" in settings.load and unset:
        yield Finding(
            "ORA058",
            f"LOAD looks like a checkpoint of the legacy agpt-7B, and {', '.join(unset)} "
            f"{'is' if len(unset) == 1 else 'are'} not set: today's defaults are rope theta 50000 and the gemma "
            "tokenizer; the loss would start near that of random weights",
            "set ROPE_THETA=10000 TOKENIZER_TYPE=Llama2Tokenizer TOKENIZER_MODEL=ALCF/tokenizer.model",
        )


VALUE_RULES: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    _switches,
    _fixed_shape,
    _without_effect,
    _optimizer,
    _model,
)
