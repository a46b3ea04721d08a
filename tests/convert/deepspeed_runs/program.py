"""A program that trains with real DeepSpeed in several processes, and converts as DeepSpeed does, when asked to.

    DS_ACCELERATOR=cpu python -m tests.convert.deepspeed_runs.program

Each line of standard input asks for one thing, as JSON, and gets one line of JSON as the answer. DeepSpeed is imported
once and every rank of every run is a fork, so a run costs no start of the interpreter: a few tenths of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what DeepSpeed prints, from its import on, is not an answer

import deepspeed  # noqa: E402
from deepspeed.checkpoint import ds_to_universal  # noqa: E402

from tests.convert.deepspeed_runs import compare, rank  # noqa: E402
from tests.convert.deepspeed_runs.run import Outcome, Run  # noqa: E402

IMPORTED_LATE = ("torch._dynamo", "deepspeed.runtime.bf16_optimizer", "deepspeed.runtime.zero.muon.muon_optimizer")
"""By every rank, at its start: most of what a rank would cost."""


def forked(work: Callable[[], None], errors: Path) -> int:
    """A fork that does `work`, writes the error if there is one, and leaves at once: gloo's own end may abort."""
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(BaseException):
        try:
            work()
            status = 0
        except BaseException:
            errors.write_text(traceback.format_exc())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def carry_out(run: Run) -> Outcome:
    """Start the ranks of a run and wait for them; when one fails, the others wait for it in vain and are ended."""
    with tempfile.TemporaryDirectory() as scratch:
        meeting, result = Path(scratch) / "meeting", Path(scratch) / "outcome.json"
        errors = [Path(scratch) / f"error-{number}" for number in range(run.ranks)]
        living = {
            forked(functools.partial(rank.on_rank, run, number, meeting, result), errors[number]): number
            for number in range(run.ranks)
        }
        while living:
            child, status = os.wait()
            living.pop(child, None)
            if status != 0:
                for other in living:
                    os.kill(other, signal.SIGKILL)
        failed = [path.read_text() for path in errors if path.exists()]
        if failed or not result.exists():
            return Outcome(error="\n".join(failed) or "a rank died without a word")
        return Outcome(**json.loads(result.read_text()))


def stock_conversion(source: Path, target: Path) -> str:
    """Convert with DeepSpeed's own program and its defaults, but one worker; the error that stopped it, or ""."""
    target.mkdir(parents=True, exist_ok=True)
    folders = {"input_folder": str(source), "output_folder": str(target / f"{source.name}_universal")}
    workers = {"num_extract_workers": 1, "num_merge_workers": 1}
    flags = {"keep_temp_folder": False, "strict": True, "inject_missing_state": False}
    with tempfile.TemporaryDirectory() as scratch:
        error = Path(scratch) / "error"
        forked(lambda: ds_to_universal.main(argparse.Namespace(**folders, **workers, **flags)), error)
        os.wait()
        return error.read_text() if error.exists() else ""


def main() -> None:
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    # DeepSpeed collects garbage at every step of its start; all these modules need no look.
    gc.freeze()
    # Of use to inference only, and compiled at the first use: 40 s, and a compiler is needed.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for line in sys.stdin:
        asked, what = json.loads(line)
        if asked == "run":
            answer: Any = asdict(carry_out(Run(**what)))
        elif asked == "stock":
            answer = stock_conversion(Path(what["source"]), Path(what["target"]))
        else:
            answer = compare.differences(Path(what["one"]), Path(what["other"]))
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
