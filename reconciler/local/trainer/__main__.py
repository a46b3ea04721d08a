"""`python -m reconciler.local.trainer [flags]`: one training or evaluation job, settings from the environment.

Exit status 0 after the target or an orderly exit, 1 with one line naming the error, 2 for unknown flags.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from reconciler.local.trainer import arguments, environment

SPINS: Final = "3000"
"""How long OpenMP threads spin at a barrier before they sleep. The default (milliseconds) makes training tens of times
slower as soon as anything else wants one of the cores; this costs nothing measurable on an idle machine."""


def main(extra: list[str]) -> int:
    """Read the settings before importing torch: a wrong flag should not take seconds to be told."""
    try:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        args = arguments.parse(environment.command_line(os.environ, extra))
        import torch

        from reconciler.local.indexed import NotIndexed
        from reconciler.local.trainer import run
        from reconciler.local.trainer.pickles import UnreadableCheckpoint

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads())))
    except (environment.BadSetting, AssertionError, ValueError) as problem:
        return _failed(problem)
    try:
        run.pretrain(args)
    except (environment.BadSetting, AssertionError, ValueError, NotIndexed, UnreadableCheckpoint, OSError) as problem:
        return _failed(problem)
    return 0


def _failed(problem: Exception) -> int:
    sys.stdout.flush()
    kind = "RuntimeError" if isinstance(problem, environment.BadSetting) else type(problem).__name__
    print(f"[rank0]: {kind}: {problem}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
