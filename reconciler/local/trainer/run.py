"""The training program: load, train, evaluate, save and leave, in the launcher's order."""

from __future__ import annotations

import argparse
import math
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Final

import torch
from torch import Tensor

from reconciler.local.corpora import tokenizer
from reconciler.local.trainer import checkpoints, lines, network, samples
from reconciler.local.trainer.environment import BadSetting
from reconciler.local.trainer.partitions import Optimizer, Rates
from reconciler.local.trainer.schedule import Schedule, limits

TOKENS_PER_PASS: Final = 8192
"""Rows are computed together up to this many tokens, whatever the ranks and micro-batches: the sum is the same."""
_START: Final = time.time()


class Leave(Exception):
    """An orderly end before the target: kill switch, duration, interval or signal."""


def pretrain(args: argparse.Namespace) -> None:
    """Carry out one job. Returns at the target or on an orderly exit; raises what `main` reports."""
    try:
        Run(args).carry_out()
    except Leave as reason:
        _print_datetime(str(reason))


class Run:
    """One job's state: model, optimizer, schedule, data and counters (kept in `args`, as the launcher keeps them)."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self._terminated = False
        if args.exit_signal_handler:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def carry_out(self) -> None:
        """Load, train, save, evaluate."""
        args = self.args
        _announce(args)
        if self._kill_switch():
            raise Leave(f"Detected kill switch at {args.kill_switch_file}. Exiting")
        self._build_model()
        self._load()
        _print_datetime("after model, optimizer, and learning rate scheduler are built")
        self._build_data()
        _print_datetime("after dataloaders are built")
        _log(lines.PRETRAIN, "done with setup ...")
        iteration = args.iteration
        if args.skip_train:
            _log(lines.PRETRAIN, "skipping training (--skip-train is on) ...")
        else:
            _log(lines.PRETRAIN, "training ...")
            iteration = self._train(self._training) if self._training else 0
            _print_datetime("after training is done")
            if iteration:
                self._save()
        draw = f"iteration {iteration} on {args.eval_iters * args.global_batch_size}-sample draw from"
        if self._validation:
            self._evaluate(self._validation, f"{draw} validation set", verbose=True)
        if self._test:
            args.consumed_valid_samples = 0
            self._evaluate(self._test, f"{draw} test set", verbose=True)

    def _build_model(self) -> None:
        args = self.args
        padded = -(-tokenizer.VOCABULARY // args.make_vocab_size_divisible_by) * args.make_vocab_size_divisible_by
        args.padded_vocab_size = padded
        self.sizes = network.Sizes(
            layers=args.num_layers,
            hidden=args.hidden_size,
            heads=args.num_attention_heads,
            kv_heads=args.num_key_value_heads,
            ffn=args.ffn_hidden_size,
            vocabulary=padded,
            seq=args.seq_length,
            rope_theta=args.rotary_position_embeddings_theta,
        )
        self.schedule = Schedule(
            limits(
                lr=args.lr,
                min_lr=args.min_lr,
                style=args.lr_decay_style,
                train_iters=args.train_iters,
                global_batch=args.global_batch_size,
                warmup_fraction=args.lr_warmup_fraction or 0.0,
                decay_iters=args.lr_decay_iters,
                cooldown=args.lr_constant_plus_cooldown,
                cooldown_fraction=args.lr_constant_plus_cooldown_frac,
                constant_lr=args.constant_lr,
                constant_fraction=args.lr_constant_fraction,
                first_decay_fraction=args.lr_cooldown_fraction,
                weight_decay=args.weight_decay,
            ),
            use_checkpoint=args.use_checkpoint_opt_param_scheduler,
            override=args.override_opt_param_scheduler,
            report=lambda number: print(number, flush=True),
        )
        rates = Rates(self.schedule.rate(), args.adam_beta1, args.adam_beta2, args.adam_eps, args.weight_decay)
        # DeepSpeed clips by its own configuration, fixed at 1.0: --clip-grad changes nothing.
        self.optimizer = Optimizer(network.initial(self.sizes, args.seed), args.data_parallel_size, rates, clip=1.0)
        self.network = network.Network(self.sizes, self.optimizer.weights)
        _log(lines.UTILS, f"> learning rate decay style: {self.schedule.style}")

    def _load(self) -> None:
        args = self.args
        found = checkpoints.load(args, self.optimizer, self.schedule, lambda text: _log(lines.UTILS, text))
        if found is None:
            _log(lines.UTILS, f"WARNING: could not find the metadata file {args.load} ")
            _log(lines.UTILS, "    will not load any checkpoints and will start from random")
            return
        args.iteration, args.consumed_train_tokens = found.iteration, found.tokens
        if found.args is not None:
            args.consumed_train_samples = int(found.args.consumed_train_samples)
            args.consumed_valid_samples = int(found.args.consumed_valid_samples)
        elif not args.reset_iteration:
            _log(lines.UTILS, "could not find arguments in the checkpoint ...")
        _log(lines.UTILS, " checkpoint version 3.0")
        _log(lines.UTILS, f"  successfully loaded checkpoint from {args.load} at iteration {args.iteration}")

    def _build_data(self) -> None:
        args = self.args
        if args.iteration > 0 and args.consumed_valid_samples == 0:
            done = args.iteration // args.eval_interval
            args.consumed_valid_samples = done * args.eval_iters * args.global_batch_size
        _log(lines.PRETRAIN, f"Reading datasets from {args.data_file_list}")
        try:
            text = Path(args.data_file_list).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise BadSetting(f"the data list {args.data_file_list} cannot be read: {problem}") from None
        draws = (args.train_iters // args.eval_interval + 1) * args.eval_iters
        counts = {"train": args.train_iters, "valid": draws, "test": args.eval_iters}
        if args.skip_train:
            counts["train"] = 0
        if args.eval_iters < 1:
            counts["valid"] = counts["test"] = 0
        self._training, self._validation, self._test = (
            samples.open_part(text, part, args.split, count * args.global_batch_size, args.seq_length, args.seed)
            if count
            else None
            for part, count in counts.items()
        )
        left = args.train_iters - args.iteration
        if self._training and left > 0 and args.consumed_train_samples >= len(self._training):
            raise AssertionError(f"no samples left to consume: {args.consumed_train_samples}, {len(self._training)}")

    def _train(self, data: samples.Blend) -> int:
        args = self.args
        _print_datetime("before the start of training step")
        since, loss_sum, counted = time.perf_counter(), 0.0, 0
        while args.iteration < args.train_iters:
            loss, norm = self._train_step(data)
            loss_sum, counted = loss_sum + loss, counted + 1
            if args.iteration % args.log_interval == 0:
                now = time.perf_counter()
                self._log_interval(now - since, counted, loss_sum, norm)
                since, loss_sum, counted = now, 0.0, 0
            if args.iteration % args.eval_interval == 0 and self._validation:
                self._evaluate(self._validation, f"iteration {args.iteration}", verbose=False)
            self._leave_if_asked()
        return int(args.iteration)

    def _train_step(self, data: samples.Blend) -> tuple[float, float]:
        """One iteration over the global batch: mean loss in nats, and the gradient norm before clipping."""
        args = self.args
        rows = torch.from_numpy(data.batch(args.consumed_train_samples, args.global_batch_size))
        self.optimizer.clear()
        mean = 0.0
        for part in self._passes(rows):
            share = len(part) / len(rows)
            loss = self.network.loss(part) * share
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
            mean += float(loss.detach())
        norm = self.optimizer.step()
        rate = self.schedule.step(args.global_batch_size, args.consumed_train_tokens)
        self.optimizer.set_rates(rate, self.schedule.weight_decay)
        args.iteration += 1
        args.consumed_train_samples += args.global_batch_size
        args.consumed_train_tokens += args.global_batch_size * args.seq_length
        groups = self.optimizer.groups
        betas = [(group.rates.beta1, group.rates.beta2) for group in groups]
        print(lines.deepspeed_step_line(_now(), args.iteration, [group.rates.lr for group in groups], betas))
        return mean, norm

    def _passes(self, rows: Tensor) -> Iterator[Tensor]:
        """Rows of one batch in pieces that are computed together."""
        size = max(1, TOKENS_PER_PASS // int(self.args.seq_length))
        for first in range(0, len(rows), size):
            yield rows[first : first + size]

    def _log_interval(self, seconds: float, iterations: int, loss_sum: float, norm: float) -> None:
        args, sizes = self.args, self.sizes
        kv_share = sizes.kv_heads / sizes.heads
        work = lines.flops(
            args.global_batch_size, sizes.seq, sizes.layers, sizes.hidden, sizes.ffn, kv_share, sizes.vocabulary
        )
        seen = lines.Interval(
            iteration=args.iteration,
            train_iters=args.train_iters,
            consumed_samples=args.consumed_train_samples,
            consumed_tokens=args.consumed_train_tokens,
            seconds=seconds,
            iterations=iterations,
            learning_rate=self.optimizer.lr,
            global_batch=args.global_batch_size,
            loss_sum=loss_sum,
            grad_norm=norm,
            seq=args.seq_length,
            world_size=args.world_size,
            flops_per_iteration=work,
        )
        _log(lines.TRAINING_LOG, lines.iteration_line(seen))

    def _evaluate(self, data: samples.Blend, prefix: str, *, verbose: bool) -> None:
        args = self.args
        total = 0.0
        with torch.no_grad():
            for number in range(1, args.eval_iters + 1):
                if verbose and number % args.log_interval == 0:
                    _log(lines.PRETRAIN, f"Evaluating iter {number}/{args.eval_iters}")
                rows = torch.from_numpy(data.batch(args.consumed_valid_samples, args.global_batch_size))
                args.consumed_valid_samples += args.global_batch_size
                for part in self._passes(rows):
                    total += float(self.network.loss(part)) * len(part) / len(rows)
        line = lines.validation_line(prefix, total / args.eval_iters)
        for text in ("-" * (len(line) + 1), line, "-" * (len(line) + 1)):
            _log(lines.TRAINING, text)

    def _leave_if_asked(self) -> None:
        """After an iteration's evaluation: save when due, then every reason to stop, in the launcher's order."""
        args = self.args
        if self._terminated:
            self._save_and_time()
            raise Leave("exiting program after receiving SIGTERM.")
        saved = args.iteration % args.save_interval == 0
        if saved:
            self._save_and_time()
        minutes = (time.time() - _START) / 60.0
        if args.exit_duration_in_mins and minutes > args.exit_duration_in_mins:
            reason = f"exiting program after {minutes} minutes"
        elif args.exit_interval and args.iteration % args.exit_interval == 0:
            reason = f"exiting program at iteration {args.iteration}"
        elif self._kill_switch():
            reason = f"Detected kill switch at {args.kill_switch_file}, iteration={args.iteration}. Exiting"
        else:
            return
        if not saved:
            self._save_and_time()
        raise Leave(reason)

    def _save_and_time(self) -> None:
        start = time.perf_counter()
        self._save()
        seconds = time.perf_counter() - start
        # 14 bytes a parameter: bf16 weights, fp32 masters and two moments.
        size = sum(math.prod(shape) for shape in network.shapes(self.sizes).values()) * 14 / 1e9
        _log(
            lines.UTILS,
            f"Checkpoint Save GB: {round(size, 3)}, GB/Sec: {round(size / seconds, 2)}, "
            f"Latency(second): {round(seconds, 3)}",
        )

    def _save(self) -> None:
        args = self.args
        folder = Path(args.save)
        _log(lines.CHECKPOINTING, f"Saving lr_state_dict to {folder / 'lr_state_dict.yaml'}")
        checkpoints.write_lr_state(folder, args.iteration, args.lr)
        _log(lines.UTILS, f"saving checkpoint at iteration {args.iteration:7d} to {args.save}")
        _log(lines.UTILS, f"[Torch] Checkpoint global_step{args.iteration} is about to be saved!")
        checkpoints.save(folder, args, self.sizes, self.optimizer, self.schedule, tokenizer.VOCABULARY)
        _log(lines.UTILS, f"  successfully saved checkpoint at iteration {args.iteration:7d} to {args.save}")
        checkpoints.write_tracker(folder, args.iteration)

    def _kill_switch(self) -> bool:
        return bool(self.args.kill_switch_file) and Path(self.args.kill_switch_file).exists()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True


def _announce(args: argparse.Namespace) -> None:
    print(
        f"using world size: {args.world_size}, data-parallel-size: {args.data_parallel_size}, "
        "sequence-parallel size: 1, tensor-model-parallel size: 1, pipeline-model-parallel size: 1 "
    )
    print("------------------------ arguments ------------------------")
    for name, value in sorted(vars(args).items()):
        print(f"  {name} {'.' * (48 - len(name))} {value}")
    print("-------------------- end of arguments ---------------------", flush=True)


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005  # the launcher logs local time without a zone


def _print_datetime(event: str) -> None:
    _log(lines.TRAINING, lines.dated(_now(), event))


def _log(where: str, message: str) -> None:
    print(lines.stamped(_now(), where, message), flush=True)
