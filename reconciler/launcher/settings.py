"""One call → the trainer's settings, as `ALCF/helpers.sh` and `megatron/arguments.py` of the fork work them out.

Environment first, with the launcher's defaults; then the flags in the launcher's order, where the last one counts.
What cannot be known is None, and why is in `notes`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.arithmetic import NotArithmetic, evaluate
from reconciler.launcher.callwords import Call
from reconciler.launcher.expansion import Unknown, Value
from reconciler.launcher.flags import BEFORE_EXTRA, SWITCHES
from reconciler.launcher.scriptreader import Script

DEFAULT_TRAIN_TOKENS: Final = 4_673_780_159_710
RANKS: Final = {"aurora": 12, "sunspot": 12, "polaris": 4}
RATE_FLAGS: Final = frozenset(
    {"min-lr", "lr_constant_plus_cooldown_frac", "lr-decay-iters", "constant-lr", "lr-constant-fraction",
     "lr-cooldown-fraction"}
)  # fmt: skip
"""Flags with a number in them that every rate may hang on, besides those of the maximum and the warm-up."""
STYLES: Final = ("constant", "linear", "cosine", "inverse-square-root", "infinite-cosine", "infinite-inv-square-root")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What MODEL_ARCH stands for; None is read from the environment, as for 7B."""

    name: str
    spellings: tuple[str, ...]
    seq: int | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    ffn_hidden: int | None = None


ARCHITECTURES: Final = (
    Architecture("AuroraGPT-70B", ("70B",), 8192, 80, 8192),
    Architecture("AuroraGPT-33B", ("33B", "llama-3.2-33B", "llama-3.2-33b"), 4096, 78, 8268),
    Architecture("smollm3-nLayers{}", ("smollm3-3B", "smollm3_3B"), 8192, None, 2048),
    Architecture("phi4-mini-nLayers{}", ("phi4-mini", "phi4_mini"), 8192, None, 3072),
    Architecture("llama3-3B-nLayers{}", ("llama3-3B", "llama-3B"), 8192, None, 3072),
    Architecture(
        "AuroraGPT-2B",
        ("2B", "AuroraGPT-2B", "AuroraGPT_2B", "Aurora-GPT-2B", "AuroraGPT2B", "Aurora_GPT_2B", "aurora-gpt-2b",
         "aurora_gpt_2b"), 8192, 12, 2048, 16, 4, 11008,
    ),
    Architecture(
        "AuroraGPT-7B",
        ("7B", "AuroraGPT-7B", "aurora-gpt-7b", "llama-3.1-7B", "llama-3.1-7b", "llama-3.2-7B", "llama-3.2-7b"),
    ),
)  # fmt: skip
_SEVEN: Final = ARCHITECTURES[-1]


@dataclass(frozen=True, slots=True)
class Settings:
    """What one call of the launcher amounts to. Lengths of the schedule are iterations; None is not known."""

    machine: str
    machine_is_assumed: bool
    nodes: int | None
    ranks_per_node: int
    world_size: int | None
    data_parallel: int | None
    micro_batch: int | None
    accumulation: int | None
    global_batch: int | None
    architecture: str
    seq: int | None
    train_iters: int | None
    lr: float | None
    min_lr: float
    style: str
    warmup_fraction: float | None
    decay_iters: int | None
    """None when the schedule is as long as the run."""
    load: str
    save: str
    load_tag: str
    data_file_list: str
    save_interval: int | None
    environment: Mapping[str, str]
    flags: Mapping[str, str]
    """Name → value of a person's flags, the last one of each; empty for a switch."""
    notes: tuple[tuple[str, str], ...] = field(default=())
    """(variable or flag, what is wrong with it): each would end the job with an error."""
    unknown: tuple[str, ...] = field(default=())
    """Names of settings whose value is not known."""
    open_arguments: tuple[str, ...] = field(default=())
    """Arguments as written that are not known, and may be any flags."""

    def has(self, flag: str) -> bool:
        """Whether a person gave `--flag`."""
        return flag in self.flags

    def given(self, name: str) -> str:
        """A variable's text; empty when it is unset, as the launcher does not tell the two apart."""
        return self.environment.get(name, "")

    def hides(self, name: str) -> bool:
        """Whether the folder of LOAD or SAVE is named by a variable whose value is not known."""
        return name in self.unknown or (not self.given(name) and "CKPT_DIR" in self.unknown)


def settings_of(script: Script, call: Call, *, nodes: int | None = None, ranks_per_node: int | None = None) -> Settings:
    """The settings of `call`. `nodes` and `ranks_per_node` win over what the script says."""
    return _Resolver(script, call, nodes, ranks_per_node).settings()


@dataclass(frozen=True, slots=True)
class Flags:
    """The arguments of a call, taken apart."""

    values: Mapping[str, str]
    """Name → last value, as written if it is not known; empty for a switch."""
    loose: tuple[str, ...]
    """Words that belong to no flag."""
    hidden: frozenset[str]
    """Flags whose value is not known."""
    open: tuple[str, ...]
    """Words as written that are not known, and may be any flags."""


def flags_of(words: Sequence[Value]) -> Flags:
    """The flags among `words`, which are split again at blanks first, as the launcher's second shell does."""
    found: dict[str, str] = {}
    loose: list[str] = []
    unsure: list[str] = []
    hidden: set[str] = set()
    name = ""
    for word in (part for whole in words for part in (whole.split() if isinstance(whole, str) else [whole])):
        text = word.raw if isinstance(word, Unknown) else word
        if text.startswith("--") and not (isinstance(word, Unknown) and "=" not in text):
            name, equals, value = text[2:].partition("=")
            found[name] = value
            of, name = name, "" if equals or name in SWITCHES else name
        elif name:
            found[name] = text
            of, name = name, ""
        elif isinstance(word, str):
            loose.append(text)
            continue
        else:
            unsure.append(text)
            continue
        if isinstance(word, Unknown):
            hidden.add(of)
        else:
            hidden.discard(of)
    return Flags(found, tuple(loose), frozenset(hidden), tuple(unsure))


class _Resolver:
    def __init__(self, script: Script, call: Call, nodes: int | None, ranks_per_node: int | None) -> None:
        self.script = script
        self.env = dict(call.environment)
        self.hidden = call.unknown
        given = flags_of(call.words)
        self.flags, self.hidden_flags, self.open = given.values, given.hidden, given.open
        self.notes: list[tuple[str, str]] = []
        self.unknown = [*sorted(self.hidden), *(f"--{flag}" for flag in sorted(self.hidden_flags))]
        self.machine, self.assumed = _machine(script, call)
        self.nodes = nodes if nodes is not None else script.nodes
        per_host = self.integer("NGPU_PER_HOST", None)
        self.ranks = ranks_per_node or per_host or RANKS[self.machine]

    def settings(self) -> Settings:
        arch = self._architecture()
        world, parallel, batch, micro, accumulation = self._batch()
        seq = arch.seq if arch.seq is not None else self.integer("SEQ", 4096)
        iterations = self._train_iters(seq, batch)
        folder = self.text("CKPT_DIR")
        if folder == "":
            folder = self._derived(arch, world, batch, micro, seq)
        style = self._learning("lr-decay-style", "LR_DECAY_STYLE", "cosine") or ""
        if style and style not in STYLES:
            self.notes.append(("LR_DECAY_STYLE", f"{style!r} is no style; there is {', '.join(STYLES)}"))
        return Settings(
            machine=self.machine,
            machine_is_assumed=self.assumed,
            nodes=self.nodes,
            ranks_per_node=self.ranks,
            world_size=world,
            data_parallel=parallel,
            micro_batch=micro,
            accumulation=accumulation,
            global_batch=batch,
            architecture=self._name(arch),
            seq=seq,
            train_iters=iterations,
            lr=self._peak(),
            min_lr=self._rate("min-lr", self.flags.get("min-lr", "0.0")) or 0.0,
            style=style,
            warmup_fraction=self._rate(
                "lr-warmup-fraction", self._learning("lr-warmup-fraction", "LR_WARMUP_FRAC", "0.05")
            ),
            decay_iters=self._whole("lr-decay-iters", self._learning("lr-decay-iters", "LR_DECAY_ITERS", "")),
            load=self.text("LOAD") or folder,
            save=self.text("SAVE") or folder,
            load_tag=self.flags.get("load-tag", ""),
            data_file_list=self.text("DATA_FILE_LIST") or f"ALCF/data-lists/{self.machine}/dolma.txt",
            save_interval=self.integer("SAVE_INTERVAL", 50),
            environment=self.env,
            flags=self.flags,
            notes=tuple(dict.fromkeys(self.notes)),
            unknown=tuple(self.unknown),
            open_arguments=self.open,
        )

    def text(self, name: str) -> str:
        """A path or word as given; as written in the script if its value is not known."""
        if name in self.hidden:
            return self.hidden[name].raw
        return self.env.get(name, "")

    def integer(self, name: str, default: int | None) -> int | None:
        """A whole number as bash's arithmetic reads it; None if not known."""
        if name in self.hidden:
            return None
        text = self.env.get(name, "")
        if not text:
            return default
        try:
            return evaluate(text, lambda other: self.env.get(other, ""))
        except NotArithmetic as problem:
            self.notes.append((name, f"{name}={text[:60]} is no whole number for bash: {problem}"))
            return None

    def _architecture(self) -> Architecture:
        wanted = self.text("MODEL_ARCH") or "7B"
        arch = next((a for a in ARCHITECTURES if wanted in a.spellings), _SEVEN)
        if arch.name == "AuroraGPT-33B":
            self.env |= {"TP": "6", "ZERO_STAGE": "2", "GRAD_ACC_STEPS": "1", "MICRO_BATCH": "1"}
        return arch

    def _name(self, arch: Architecture) -> str:
        default = {"llama3-3B-nLayers{}": 28}.get(arch.name, 24)
        return arch.name.format(self.integer("NLAYERS", default)) if "{}" in arch.name else arch.name

    def _batch(self) -> tuple[int | None, int | None, int | None, int | None, int | None]:
        """(ranks, data-parallel size, global batch, micro batch, accumulation steps)."""
        nodes, polaris = self.nodes, self.machine == "polaris"
        cuts = [self.integer(name, 1) for name in ("TP", "PP", "SP")]
        world = self.integer("WORLD_SIZE", nodes * self.ranks if nodes is not None else None)
        micro = self.integer("MICRO_BATCH", _polaris_micro(nodes) if polaris else 1)
        accumulation = self.integer("GRAD_ACC_STEPS", 8 if polaris else _aurora_accumulation(nodes))
        known = [cut for cut in cuts if cut is not None and cut > 0]
        parallel = world // math.prod(known) if world is not None and len(known) == len(cuts) else None
        largest: int | None = None
        if world is not None and micro is not None and accumulation is not None and len(known) == len(cuts):
            largest = world * micro * accumulation
            for cut in known:  # one division after the other, each cut to a whole number, as in the launcher
                largest //= cut
        return world, parallel, self.integer("GLOBAL_BATCH", largest), micro, accumulation

    def _train_iters(self, seq: int | None, batch: int | None) -> int | None:
        tokens = self.integer("TRAIN_TOKENS", None)
        stated = "TRAIN_ITERS" if self.env.get("TRAIN_ITERS") or "TRAIN_ITERS" in self.hidden else "TRAIN_ITER"
        if not self.env.get("TRAIN_TOKENS") and "TRAIN_TOKENS" not in self.hidden:
            if self.env.get(stated) or stated in self.hidden:
                return self._whole("train-iters", self.env.get(stated, "")) if stated not in self.hidden else None
            tokens = DEFAULT_TRAIN_TOKENS
        if tokens is None or not seq or not batch:
            return None
        return tokens // seq // batch

    def _learning(self, flag: str, variable: str, default: str) -> str | None:
        """A setting of the learning rate: a person's flag counts over the variable, since it comes later."""
        assert flag in BEFORE_EXTRA  # noqa: S101
        if flag in self.hidden_flags:
            return None
        if self.flags.get(flag):
            return self.flags[flag]
        if variable in self.hidden:
            return None
        return self.env.get(variable) or default

    def _peak(self) -> float | None:
        """The maximum; None too when another number that every rate hangs on is not known."""
        peak = self._rate("lr", self._learning("lr", "LR", "0.0002"))
        hidden = self.hidden_flags & RATE_FLAGS or "LR_DECAY_ITERS" in self.hidden
        return None if hidden else peak

    def _rate(self, flag: str, text: str | None) -> float | None:
        if text is None or flag in self.hidden_flags:
            return None
        try:
            value = float(text)
        except ValueError:
            self.notes.append((flag, f"--{flag} {text[:60]!r} is no number"))
            return None
        if not math.isfinite(value):
            self.notes.append((flag, f"--{flag} {text[:60]!r} is no finite number"))
            return None
        return value

    def _whole(self, flag: str, text: str | None) -> int | None:
        """A whole number as the trainer's parser reads it, which does no arithmetic."""
        if not text:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            self.notes.append((flag, f"--{flag} {text[:60]!r} is no whole number"))
            return None
        return int(text)

    def _derived(
        self, arch: Architecture, world: int | None, batch: int | None, micro: int | None, seq: int | None
    ) -> str:
        """The folder that the launcher makes up when CKPT_DIR is unset; `?` for what is not known."""

        def shown(value: object) -> str:
            return "?" if value is None else str(value)

        def of(name: str, default: str) -> str:
            return "?" if name in self.hidden else self.env.get(name) or default

        layers = arch.layers if arch.layers is not None else self.integer("NLAYERS", self.integer("NUM_LAYERS", 32))
        hidden = arch.hidden if arch.hidden is not None else self.integer("HIDDEN", 4096)
        dtype = of("DTYPE", "fp16" if self.machine == "polaris" else "bf16")
        optimizer = of("OPT", of("OPTIMIZER", of("OPTIM", "adamw")))
        stated = self.env.get("TRAIN_ITERS") or self.env.get("TRAIN_ITER")
        tokens = self.integer("TRAIN_TOKENS", 0 if stated else DEFAULT_TRAIN_TOKENS)
        name = (
            f"{self._name(arch)}-ws{shown(world)}-ds-stage{of('ZERO_STAGE', '1')}-nl{shown(layers)}-hs{shown(hidden)}"
            f"-mb{shown(micro)}-seq{shown(seq)}-gb{shown(batch)}-sp{of('SP', '1')}-pp{of('PP', '1')}-tp{of('TP', '1')}"
            f"-{dtype}-opt{optimizer}-lr{of('LR', '0.0002')}-lwf{of('LR_WARMUP_FRAC', '0.05')}"
            f"_ntok{shown(tokens // 10**9 if tokens is not None else None)}B"
        )
        if self.env.get("TOKENIZER_TYPE"):
            name += f"_tok{self.env['TOKENIZER_TYPE'].replace('Tokenizer', '')}"
        if self.env.get("TOKENIZER_MODEL"):
            name += f"_tm{self.env['TOKENIZER_MODEL'].replace('/', '_')}"
        if self.env.get("LR_DECAY_ITERS"):
            name += f"_ldi{self.env['LR_DECAY_ITERS']}"
        return f"checkpoints/{name}" + ("" if self.env.get("NO_FLASH_ATTN") else "_flash")


def _machine(script: Script, call: Call) -> tuple[str, bool]:
    """(machine, whether it is only assumed): from the file systems asked for, else from paths."""
    paths = " ".join([script.filesystems, *call.environment.values(), *(u.raw for u in call.unknown.values())])
    marks = {
        "polaris": r"\beagle:|^eagle$|/eagle/|data-lists/polaris/",
        "sunspot": r"\b(?:tegu|gila):|/(?:tegu|gila)/|data-lists/sunspot/",
        "aurora": r"\bflare:|^flare$|/flare/|data-lists/aurora/",
    }
    for text in (script.filesystems + ":", paths):
        for machine, mark in marks.items():
            if re.search(mark, text):
                return machine, False
    return "aurora", True


def _aurora_accumulation(nodes: int | None) -> int | None:
    if nodes is None:
        return None
    steps = {256: 1, 128: 2, 33: 4, 16: 8}
    return next((value for least, value in steps.items() if nodes >= least), 16)


def _polaris_micro(nodes: int | None) -> int | None:
    if nodes is None:
        return None
    return 1 if nodes <= 2 else 2 if nodes <= 7 else 4
