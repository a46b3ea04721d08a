"""Legacy runs as real files: the launcher's folders, checkpoints, logs, scripts and PBS history, from a few words.

What is written is what the launcher writes (contract: sections 1.3, 3 and 5); the tensors are of one element.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from reconciler.launcher.scheduler import Schedule

SEQ, BATCH, LAYERS, HIDDEN = 128, 16, 2, 64
STEP = SEQ * BATCH
STYLES = ("constant", "constant", "cosine", "cosine", "linear", "cooldown", "inverse-square-root")


@dataclass(frozen=True)
class Legacy:
    """One run that somebody made by hand."""

    name: str
    trained: int
    """Iteration of its newest complete checkpoint."""
    begins: int = 0
    """Where its iteration counter began."""
    position: int = 0
    """Where its schedule began."""
    style: str = "constant"
    rate: float = 2e-3
    decay: int = 400
    """Where its schedule ends, in iterations."""
    warmup_fraction: float = 0.1
    ranks: int = 2
    scheme: str = "free"
    """Of the folder's name: `new` (hyphens), `old` (underscores) or `free`."""
    forms: tuple[str, ...] = ("zero",)
    arguments: bool = True
    """The checkpoint keeps the launcher's arguments."""
    tracker: bool = True
    torn: bool = False
    """A later save was cut short: `latest` names it, the tracker does not."""
    log: bool = True
    dumped: bool = True
    """The log begins with the arguments."""
    script: bool = False
    environment: bool = False
    job: str = ""
    """PBS's letter for the job, if it knows one."""
    data: str = "d0"
    loaded: tuple[str, int] = ("", 0)
    """Folder's name of the run that it continued from, and the iteration."""
    finetune: bool = False

    @property
    def folder(self) -> str:
        """The folder's name, as the launcher makes it."""
        sizes = {"nl": LAYERS, "hs": HIDDEN, "mb": 1, "seq": SEQ, "gb": BATCH, "sp": 1, "pp": 1, "tp": 1}
        if self.scheme == "old":
            parts = "_".join(f"{key}{value}" for key, value in sizes.items())
            return f"ws{self.ranks}_ds_stage1_{parts}_bf16_optadamw_lr_lwf_flash"
        if self.scheme == "new":
            parts = "-".join(f"{key}{value}" for key, value in sizes.items())
            named = f"lr{self.rate:g}-lwf{self.warmup_fraction:g}_ntok0B_flash"
            return f"AuroraGPT-7B-ws{self.ranks}-ds-stage1-{parts}-bf16-optadamw-{named}"
        return self.name

    @property
    def schedule(self) -> Schedule:
        """In iterations."""
        cooldown = self.decay * 0.25 if self.style == "cooldown" else None
        style = "constant" if self.style == "cooldown" else self.style
        return Schedule(self.rate, 0.0, style, self.warmup_fraction * self.decay, self.decay, self.decay, cooldown)

    @property
    def ends(self) -> int:
        """Position of the schedule at the newest complete checkpoint."""
        return self.position + self.trained - self.begins


@dataclass(frozen=True)
class Site:
    """A cluster's folder: checkpoints/, logs/, scripts beside them, data lists, and a small PBS's spool."""

    root: Path
    runs: tuple[Legacy, ...] = field(default=())

    @property
    def checkpoints(self) -> Path:
        return self.root / "launcher" / "checkpoints"

    def of(self, run: Legacy) -> Path:
        """The run's SAVE folder."""
        return self.checkpoints / run.folder

    def write(self, run: Legacy) -> None:
        """Everything that the run left behind."""
        folder = self.of(run)
        folder.mkdir(parents=True)
        saves = sorted({max(run.begins + 1, run.trained // 2), run.trained})
        for iteration in saves:
            if "zero" in run.forms:
                _zero(folder, run, self._arguments(run), iteration)
        if "universal" in run.forms:
            _universal(folder, run, self._arguments(run))
        if run.torn:
            _zero(folder, run, self._arguments(run), run.trained + 7)
            (folder / f"global_step{run.trained + 7}" / _shard(run.ranks - 1)).unlink()
            (folder / "latest").write_text(f"global_step{run.trained + 7}")
        if run.tracker and "zero" in run.forms:
            (folder / "latest_checkpointed_iteration.txt").write_text(str(run.trained))
        if run.log:
            self._log(run)
        if run.script:
            (self.root / "launcher" / f"go-{run.name}.sh").write_text(self._script(run))
        if run.environment:
            told = f'LR="{run.rate}"\nSEQ="{SEQ}"\nGLOBAL_BATCH={BATCH}\nWANDB_API_KEY="not-to-be-told"\n'
            (folder / ".env").write_text(told)
        if run.job:
            self._job(run)
        listed = self.root / "launcher" / "lists"
        listed.mkdir(exist_ok=True)
        (listed / f"{run.data}.txt").write_text(f"0.75 /data/{run.data}-a text\n0.25 /data/{run.data}-b more\n")

    def _arguments(self, run: Legacy) -> dict[str, object]:
        loaded = run.loaded[0]
        return {
            "num_layers": LAYERS,
            "hidden_size": HIDDEN,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "ffn_hidden_size": 176,
            "seq_length": SEQ,
            "global_batch_size": BATCH,
            "micro_batch_size": 1,
            "rotary_position_embeddings_theta": 50000,
            "tokenizer_type": "HFTokenizer",
            "tokenizer_model": "google/gemma-7B",
            "optimizer": "adamw",
            "adam_beta1": 0.9,
            "adam_beta2": 0.95,
            "adam_eps": 1e-5,
            "weight_decay": 0.1,
            "clip_grad": 1.0,
            "tensor_model_parallel_size": 1,
            "pipeline_model_parallel_size": 1,
            "bf16": True,
            "fp16": False,
            "seed": 1234,
            "save_interval": 50,
            "padded_vocab_size": 256000,
            "lr": run.rate,
            "min_lr": 0.0,
            "lr_decay_style": run.schedule.style,
            "lr_warmup_fraction": run.warmup_fraction,
            "lr_decay_iters": run.decay,
            "train_iters": run.trained,
            "lr_constant_plus_cooldown": run.style == "cooldown",
            "lr_constant_plus_cooldown_frac": 0.25,
            "finetune": run.finetune,
            "data_file_list": str(self.root / "launcher" / "lists" / f"{run.data}.txt"),
            "load": str(self.checkpoints / loaded) if loaded else str(self.of(run)),
            "save": str(self.of(run)),
        }

    def _log(self, run: Legacy) -> None:
        start = self.root / "launcher" / "logs" / run.folder / "20251110-094336_2_x4705"
        start.mkdir(parents=True)
        stamp = "[2025-11-10 09:43:36,161992][I][megatron/"
        lines = []
        if run.dumped:
            lines.append("------------------------ arguments ------------------------")
            lines += [f"  {name} {'.' * (48 - len(name))} {value}" for name, value in self._arguments(run).items()]
            lines.append("-------------------- end of arguments ---------------------")
        if run.loaded[0]:
            source = f"{self.checkpoints / run.loaded[0]} at iteration {0 if run.finetune else run.loaded[1]}"
            lines.append(f"{stamp}utils:371:print_rank_0]   successfully loaded checkpoint from {source}")
        else:
            lines.append(f"{stamp}utils:371:print_rank_0]     will not load any checkpoints and will start from random")
        for iteration in range(run.begins + 1, run.trained + 1):
            rate = run.schedule.rate(run.position + iteration - run.begins)
            lines.append(
                f"{stamp}training_log:402:training_log]  iteration={iteration:8d}/{run.trained:8d} |"
                f" consumed_samples={iteration * BATCH:12d} | consumed_tokens={iteration * STEP:12d} |"
                f" elapsed_time_per_iteration_ms=12.5 | learning_rate={rate:.6g} | global_batch_size={BATCH:5d} |"
                " lm loss=2.400000 | loss_scale=1.0 | grad_norm=0.412 | actual_seqlen=  128 |"
                " number_of_skipped_iterations=  0 | number_of_nan_iterations=  0 | samples_per_second=1.0 |"
                " tokens_per_gpu_per_second_tgs=1.0 | TFLOPs=0.01 |"
            )
        lines.append(f"{stamp}training:104:print_datetime] [after training is done] datetime=2025-11-10 10:43:36 ")
        (start / "output.log").write_text("\n".join(lines) + "\n")

    def _script(self, run: Legacy) -> str:
        load = f"export LOAD={self.checkpoints / run.loaded[0]}\n" if run.loaded[0] else ""
        arguments = (
            " --lr_constant_plus_cooldown --lr_constant_plus_cooldown_frac=0.25" if run.style == "cooldown" else ""
        )
        return (
            "#!/bin/bash\n#PBS -l select=2,walltime=00:30:00\n"
            f"export SAVE={self.of(run)}\n{load}"
            f"export SEQ={SEQ} GLOBAL_BATCH={BATCH} MICRO_BATCH=1\n"
            f"export NLAYERS={LAYERS} HIDDEN={HIDDEN} HEADS=4 NUM_KV_HEAD=2\n"
            f"export LR={run.rate} LR_DECAY_STYLE={run.schedule.style} LR_WARMUP_FRAC={run.warmup_fraction}\n"
            f"export LR_DECAY_ITERS={run.decay} TRAIN_ITERS={run.trained} DATA_FILE_LIST=./lists/{run.data}.txt\n"
            f"bash train_alcf.sh{arguments}{' --finetune' if run.finetune else ''}\n"
        )

    def _job(self, run: Legacy) -> None:
        spool = self.root / "spool"
        number = len(list(spool.glob("*.job"))) + 1
        job = {
            "Job_Name": "go",
            "job_state": run.job,
            "queue": "prod",
            "substate": 92 if run.job == "F" else 42,
            "Output_Path": f"login:{self.of(run)}.o1",
            "Resource_List": {"nodect": 2, "walltime": "00:30:00"},
            "Variable_List": {"PBS_O_WORKDIR": str(self.root / "launcher")},
        }
        (spool / f"{number}.job").write_text(json.dumps(job))


def _zero(folder: Path, run: Legacy, arguments: dict[str, object], iteration: int) -> None:
    inner = folder / f"global_step{iteration}"
    inner.mkdir(exist_ok=True)
    torch.save(_model(run, arguments, iteration), inner / "mp_rank_00_model_states.pt")
    position = run.position + iteration - run.begins
    for rank in range(run.ranks):
        group = {"lr": run.schedule.rate(position), "params": [0]}
        base = {"state": {0: {"exp_avg": torch.zeros(1)}}, "param_groups": [group]}
        torch.save(
            {"optimizer_state_dict": {"base_optimizer_state": base}, "ds_version": "0.17.5"}, inner / _shard(rank)
        )
    (folder / "latest").write_text(f"global_step{iteration}")


def _universal(folder: Path, run: Legacy, arguments: dict[str, object]) -> None:
    inner = folder / f"global_step{run.trained}_universal"
    zero = inner / "zero" / "a.weight"
    zero.mkdir(parents=True)
    torch.save(_model(run, arguments, run.trained), inner / "mp_rank_00_model_states.pt")
    for state in ("fp32", "exp_avg", "exp_avg_sq"):
        torch.save({"param": torch.zeros(1)}, zero / f"{state}.pt")
    rates = {"param_groups": [{"lr": run.schedule.rate(run.ends), "params": [0]}]}
    torch.save(rates, inner / "zero" / "optimizer_state.pt")
    (folder / "latest_universal").write_text(f"global_step{run.trained}_universal")


def _model(run: Legacy, arguments: dict[str, object], iteration: int) -> dict[str, object]:
    position = run.position + iteration - run.begins
    state: dict[str, object] = {
        "module": {"a": torch.zeros(1)},
        "param_shapes": [OrderedDict([("a.weight", torch.Size([1]))])],
        "dp_world_size": run.ranks,
        "mp_world_size": 1,
        "iteration": iteration,
        "global_steps": iteration,
    }
    if run.arguments:
        schedule = run.schedule
        state |= {
            "args": argparse.Namespace(**arguments),
            "tokens": iteration * STEP,
            "universal_checkpoint_info": {"original_vocab_size": 255999},
            "lr_scheduler": {
                "max_lr": schedule.max_lr,
                "min_lr": schedule.min_lr,
                "lr_decay_style": schedule.style,
                "lr_warmup_steps": schedule.warmup * BATCH,
                "lr_decay_steps": schedule.decay * BATCH,
                "num_steps": position * BATCH,
            },
        }
    return state


def _shard(rank: int) -> str:
    return f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def chosen(seed: int) -> tuple[Legacy, ...]:
    """A chain of one to three runs, the same for a seed; each tells of itself in at least one way."""
    pick = random.Random(seed)
    runs = [_one(pick, "base")]
    following = pick.choice((0, 0, 0, 1, 2))
    if following:  # one folder holds them all, so their names must differ
        runs = [replace(runs[0], scheme="free", arguments=True, log=True)]
    for number in range(following):
        runs.append(_next(pick, runs[-1], f"more-{number + 1}"))
    return tuple(runs)


def _one(pick: random.Random, name: str) -> Legacy:
    style = pick.choice(STYLES)
    decay = pick.randint(60, 400)
    ends = pick.choice((1.0, 1.0, pick.uniform(0.3, 0.99)))
    run = Legacy(
        name=name,
        trained=max(2, round(decay * ends)),
        style=style,
        rate=pick.choice((2e-3, 2e-4, 3.44e-4)),
        decay=decay,
        warmup_fraction=pick.choice((0.0, 0.01, 0.05, 0.1)),
        ranks=pick.choice((1, 2, 4)),
        scheme=pick.choice(("new", "old", "free")),
        forms=pick.choice((("zero",), ("zero",), ("universal",), ("zero", "universal"))),
        arguments=pick.random() < 0.7,
        tracker=pick.random() < 0.8,
        log=pick.random() < 0.6,
        dumped=pick.random() < 0.7,
        script=pick.random() < 0.4,
        environment=pick.random() < 0.3,
        job=pick.choice(("", "F")),
    )
    tells = run.arguments or run.scheme != "free" or (run.log and run.dumped) or run.script
    run = run if tells else replace(run, arguments=True)
    return replace(run, torn=pick.random() < 0.3 and run.tracker and "zero" in run.forms)


def _next(pick: random.Random, before: Legacy, name: str) -> Legacy:
    """A run that continues from another: with a schedule of its own, or with the counters and the schedule there."""
    more = pick.randint(10, 120)
    run = replace(
        before,
        name=name,
        data=pick.choice((before.data, f"d{name[-1]}")),
        loaded=(before.folder, before.trained),
        torn=False,
        job=pick.choice(("", "F")),
        script=pick.random() < 0.4,
    )
    if pick.random() < 0.4:
        style = pick.choice(("cosine", "constant", "linear"))
        return replace(run, begins=0, position=0, trained=more, style=style, decay=more, finetune=True)
    longer = max(before.decay, before.ends + more) if before.style == "constant" else before.decay
    ends = before.trained + more
    return replace(run, begins=before.trained, position=before.ends, trained=ends, decay=longer, finetune=False)
