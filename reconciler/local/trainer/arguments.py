"""The trainer's flags and the checks on them, after the fork's `arguments.py`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from reconciler.local.trainer.environment import BadSetting
from reconciler.local.trainer.schedule import STYLES


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read and check the flags; unknown ones end the program with status 2, as argparse does.

    Raises:
        BadSetting: values that do not go together; AssertionError where the launcher asserts.
    """
    parser = argparse.ArgumentParser(prog="python -m reconciler.local.trainer", description=__doc__)
    _add_person_flags(parser)
    _add_launcher_flags(parser)
    args = parser.parse_args(command_line)
    _check(args)
    args.data_parallel_size = args.world_size
    args.tensor_model_parallel_size = args.pipeline_model_parallel_size = 1
    args.add_position_embedding = True
    args.bf16, args.swiglu, args.normalization = True, True, "rmsnorm"
    args.untie_embeddings_and_output_weights, args.use_rotary_position_embeddings = True, True
    args.consumed_train_samples = args.consumed_valid_samples = args.consumed_train_tokens = 0
    args.iteration = 0
    return args


def _add_person_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that no environment variable reaches: extra arguments of the launcher."""
    add = parser.add_argument
    add("--finetune", action="store_true", help="load weights only; counters, optimizer and schedule start afresh")
    add("--universal-checkpoint", action="store_true", help="load the folder named by latest_universal")
    add("--reset-iteration", action="store_true", help="load all, but count iterations and samples from 0")
    add("--load-tag", help="load this tag instead of the one that `latest` names")
    add("--exit-duration-in-mins", type=float, help="save and leave after this many minutes; fractions are allowed")
    add("--exit-interval", type=int, help="leave when the iteration is a multiple of this")
    add("--exit-signal-handler", action="store_true", help="save and leave on SIGTERM")
    add("--kill-switch-file", help="save and leave as soon as this file exists")
    add("--skip-train", action="store_true", help="evaluate only")
    add("--set", nargs=3, action="append", metavar=("LIST", "ITERS", "LOG"), help="evaluate this list too (repeatable)")
    add("--seed", type=int, default=1234)
    add("--min-lr", type=float, default=0.0)
    add("--lr_constant_plus_cooldown", action="store_true", help="let a constant schedule fall at its end, by 1 - sqrt")
    add("--lr_constant_plus_cooldown_frac", type=float, default=0.05, help="share of the decay length that falls")
    add("--constant-lr", type=float, default=0.00011, help="where the first decay of an infinite style ends")
    add("--lr-cooldown-fraction", type=float, default=0.65, help="share of the decay length that the first decay takes")
    add("--lr-constant-fraction", type=float, default=0.001, help="share of the decay length after it that holds")
    add("--override-opt_param-scheduler", action="store_true", help="the command line's schedule wins on a resume")
    add("--make-vocab-size-divisible-by", type=int, default=128)


def _add_launcher_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that the environment sets."""
    add = parser.add_argument
    add("--use-checkpoint-opt_param-scheduler", action="store_true")
    add("--lr", type=float, required=True)
    add("--lr-decay-style", choices=STYLES, default="linear")
    add("--lr-warmup-fraction", type=float)
    add("--lr-warmup-iters", type=int, default=0)
    add("--lr-decay-iters", type=int)
    for name in ("adam-beta1", "adam-beta2", "adam-eps", "clip-grad", "weight-decay"):
        add(f"--{name}", type=float, required=True)
    add("--rotary-position-embeddings-theta", type=float, required=True)
    for name in ("num-layers", "hidden-size", "num-attention-heads", "num-key-value-heads", "ffn-hidden-size"):
        add(f"--{name}", type=int, required=True)
    for name in ("seq-length", "micro-batch-size", "global-batch-size", "gradient-accumulation-steps", "world-size"):
        add(f"--{name}", type=int, required=True)
    for name in ("train-iters", "eval-interval", "eval-iters", "save-interval", "log-interval"):
        add(f"--{name}", type=int, required=True)
    add("--split", required=True)
    add("--data-file-list")
    add("--load", required=True)
    add("--save", required=True)


def _check(args: argparse.Namespace) -> None:
    rows = args.micro_batch_size * args.world_size
    if args.global_batch_size % rows:
        raise AssertionError(
            f"global batch size ({args.global_batch_size}) is not divisible by micro batch size "
            f"({args.micro_batch_size}) times data parallel size ({args.world_size})"
        )
    if args.global_batch_size != rows * args.gradient_accumulation_steps:
        raise AssertionError(
            f"Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * "
            f"gradient_acc_step * world_size {args.global_batch_size} != {args.micro_batch_size} * "
            f"{args.gradient_accumulation_steps} * {args.world_size}"
        )
    if args.lr_warmup_fraction is not None and args.lr_warmup_iters:
        raise AssertionError("can only specify one of lr-warmup-fraction and lr-warmup-iters")
    if not args.train_iters:
        raise BadSetting("either train-iters or train-samples should be provided (TRAIN_ITERS or TRAIN_TOKENS is 0).")
    if args.set and not args.skip_train:
        raise BadSetting("--set names a validation set of a job that only evaluates: --skip-train is missing.")
    if not all(iterations.isdecimal() for _, iterations, _ in args.set or ()):
        raise BadSetting("the second value of --set is a number of iterations.")
    if args.data_file_list is None and not args.set:
        raise BadSetting("DATA_FILE_LIST is not set: name a weighted list, one `weight prefix corpus` a line.")
    if not sum(int(share) for share in args.split.split(",")):
        raise BadSetting("TRAIN_SPLIT, VAL_SPLIT and TEST_SPLIT are all 0: nothing would be read.")
    _check_values(args)


def _check_values(args: argparse.Namespace) -> None:
    if args.hidden_size % args.num_attention_heads or args.num_attention_heads % args.num_key_value_heads:
        raise BadSetting("hidden size must be a multiple of the heads, and the heads of the key-value heads.")
    if args.hidden_size // args.num_attention_heads % 2:
        raise BadSetting("rotary embeddings need an even number of channels a head.")
    for name in ("lr", "min_lr", "constant_lr", "adam_beta1", "adam_beta2", "adam_eps", "clip_grad", "weight_decay"):
        if not math.isfinite(getattr(args, name)) or getattr(args, name) < 0:
            raise BadSetting(f"--{name.replace('_', '-')} is {getattr(args, name)}: a number of 0 or more is expected.")
    for name in ("eval_interval", "save_interval", "log_interval"):
        if getattr(args, name) < 1:
            raise BadSetting(f"--{name.replace('_', '-')} is {getattr(args, name)}: at least 1 is expected.")
