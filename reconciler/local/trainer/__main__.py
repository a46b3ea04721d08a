"""`python -m reconciler.local.trainer [flags]`: one training or evaluation job, settings from the environment.

Exit status 0 after the target or an orderly exit, 1 with one line naming the error, 2 for unknown flags.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final, NoReturn

from reconciler.local.trainer import arguments, environment

SPINS: Final = "3000"
"""How long OpenMP threads spin at a barrier before they sleep. The default (milliseconds) makes training tens of times
slower as soon as anything else wants one of the cores; this costs nothing measurable on an idle machine."""


def main(extra: list[str]) -> int:
    """Read the settings before importing torch: a wrong flag should not take seconds to be told."""
    try:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        args = arguments.parse(environment.command_line(os.environ, extra))
        gc.disable()  # else torch's own million objects are searched for cycles again and again while it is imported
        import torch

        from reconciler.local.indexed import NotIndexed
        from reconciler.local.trainer import run
        from reconciler.local.trainer.pickles import UnreadableCheckpoint

        gc.freeze()
        gc.enable()
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads())))
    except (environment.BadSetting, AssertionError, ValueError) as problem:
        return _failed(problem)
    known = (environment.BadSetting, AssertionError, ValueError, NotIndexed, UnreadableCheckpoint, OSError)

    def carried_out(args: argparse.Namespace) -> int:
        try:
            run.pretrain(args)
        except known as problem:
            return _failed(problem)
        return 0

    return _each_set(args, carried_out) if args.set else carried_out(args)


def _each_set(args: argparse.Namespace, carried_out: Callable[[argparse.Namespace], int]) -> int:
    """Every set as by a job of its own, with a log of its own that gets its name when it is whole.

    Starting torch takes longer than an evaluation here.
    """
    worst = 0
    for data_list, iterations, log in args.set:
        own = argparse.Namespace(**vars(args) | {"data_file_list": data_list, "eval_iters": int(iterations)})
        partial = Path(f"{log}.part")
        with partial.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            worst = max(worst, carried_out(own))
        partial.replace(log)
    return worst


def _failed(problem: Exception) -> int:
    sys.stdout.flush()
    kind = "RuntimeError" if isinstance(problem, environment.BadSetting) else type(problem).__name__
    print(f"[rank0]: {kind}: {problem}", file=sys.stderr, flush=True)
    return 1


def _leave(status: int) -> NoReturn:
    """End without taking torch apart, which takes a third of a second and frees what the system frees anyway."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
