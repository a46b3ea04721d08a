"""`python -m tests.sim --seeds N [--from S] [--workers W]` runs many; `--seed S` replays one with its trace.

Exit status: 0 clean, 1 an invariant broke, 2 a campaign did not come to its end, 3 the program crashed, 4 something
was never exercised.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.sim.coverage import missing, rows
from tests.sim.run import Result, simulate
from tests.sim.shrink import shrunk

STATUS = {"": 0, "correctness": 1, "liveness": 2, "crash": 3}
ENOUGH_SEEDS = 1000
"""From so many on, what was never exercised is a failure."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--without", action="append", default=[], help="leave this fault out of a replay; repeatable")
    arguments = parser.parse_args()
    console = Console()
    if arguments.seed is not None:
        return replay(console, arguments.seed, arguments.without)
    return many(console, arguments.first, arguments.seeds, arguments.workers)


def replay(console: Console, seed: int, without: list[str]) -> int:
    result = simulate(seed, without)
    tell(console, result)
    return STATUS[result.kind]


def tell(console: Console, result: Result) -> None:
    for line in result.trace:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"seed {result.seed}: rates {result.rates}", markup=False, highlight=False)
    ended = f"{result.kind}: {result.failure}" if result.kind else f"ended: {result.ended}"
    console.print(ended, markup=False, highlight=False, soft_wrap=True)


def many(console: Console, first: int, seeds: int, workers: int) -> int:
    begun, counts, failed, slowest = time.monotonic(), Counter[str](), list[Result](), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, multiprocessing.Pool(workers) as pool:
        task = progress.add_task("seeds", total=seeds)
        for result in pool.imap_unordered(simulate, range(first, first + seeds), chunksize=4):
            counts.update(result.counts)
            slowest = max(slowest, result.passes)
            if result.kind:
                failed.append(result)
                console.print(f"seed {result.seed}: {result.kind}: {result.failure[-300:]}", markup=False)
            progress.advance(task)
    table = Table("exercised", "times", title=f"{seeds} seeds from {first}")
    for name, times in rows(counts):
        table.add_row(name, f"{times:,}")
    console.print(table)
    took_s = time.monotonic() - begun
    console.print(f"{seeds} seeds, {len(failed)} failed, {1000 * took_s / seeds:.0f} ms each; "
                  f"at most {slowest} passes to the end once the faults had stopped")  # fmt: skip
    unseen = missing(counts)
    if unseen:
        console.print(f"never exercised: {', '.join(unseen)}", markup=False)
    if failed:
        first_failed = min(failed, key=lambda each: each.seed)
        short, without = shrunk(first_failed)
        tell(console, short)
        options = "".join(f" --without '{name}'" for name in without)
        console.print(f"replay: python -m tests.sim --seed {short.seed}{options}", markup=False, soft_wrap=True)
        return STATUS[first_failed.kind]
    return 4 if unseen and seeds >= ENOUGH_SEEDS else 0


if __name__ == "__main__":
    sys.exit(main())
