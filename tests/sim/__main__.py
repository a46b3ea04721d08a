"""`python -m tests.sim --seeds N [--from S] [--workers W]` runs many, `--into FILE` also on another day; `--seed S`
replays one with its trace.

Exit status: 0 clean, 1 an invariant broke, 2 a campaign did not come to its end, 3 the program crashed, 4 something
was never exercised.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.sim.coverage import missing, rows
from tests.sim.run import Result, result_in, simulate
from tests.sim.shrink import shrunk

STATUS = {"": 0, "correctness": 1, "liveness": 2, "crash": 3}
ENOUGH_SEEDS = 1000
"""From so many on, what was never exercised is a failure."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--into", type=Path, help="keep results in this file, one for each commit, and run only what it has none of"
    )
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--without", action="append", default=[], help="leave this fault out of a replay; repeatable")
    arguments = parser.parse_args()
    console = Console()
    if arguments.seed is not None:
        return replay(console, arguments.seed, arguments.without)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return many(console, seeds, arguments.workers, arguments.into)


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


def many(console: Console, seeds: Sequence[int], workers: int, into: Path | None) -> int:
    begun = time.monotonic()
    results = kept(into, seeds)
    left = [seed for seed in seeds if seed not in results]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, multiprocessing.Pool(workers) as pool:
        task = progress.add_task("seeds", total=len(seeds), completed=len(results))
        for result in pool.imap_unordered(simulate, left, chunksize=4):
            results[result.seed] = result
            if into is not None:
                with into.open("a", encoding="utf-8") as file:
                    file.write(result.line())
            if result.kind:
                console.print(f"seed {result.seed}: {result.kind}: {result.failure[-300:]}", markup=False)
            progress.advance(task)
    took_s = time.monotonic() - begun
    return summed_up(
        console, list(results.values()), f"{1000 * took_s / len(left):.0f} ms each" if left else "all kept"
    )


def kept(into: Path | None, seeds: Sequence[int]) -> dict[int, Result]:
    """The results of an earlier run of these seeds, as far as it came."""
    if into is None or not into.exists():
        return {}
    with into.open(encoding="utf-8") as file:
        found = [result for line in file if (result := result_in(line)) is not None]
    return {result.seed: result for result in found if result.seed in seeds}


def summed_up(console: Console, results: Sequence[Result], took: str) -> int:
    counts = Counter[str]()
    for result in results:
        counts.update(result.counts)
    failed, slowest = [each for each in results if each.kind], max((each.passes for each in results), default=0)
    for line in rows(counts):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(results)} seeds, {len(failed)} failed, {took}; "
                  f"at most {slowest} passes to the end once the faults had stopped", soft_wrap=True)  # fmt: skip
    unseen = missing(counts)
    if unseen:
        console.print(f"never exercised: {', '.join(unseen)}", markup=False, soft_wrap=True)
    if failed:
        first_failed = min(failed, key=lambda each: each.seed)
        short, without = shrunk(simulate(first_failed.seed))  # with its trace, which is not kept
        tell(console, short)
        options = "".join(f" --without '{name}'" for name in without)
        console.print(f"replay: python -m tests.sim --seed {short.seed}{options}", markup=False, soft_wrap=True)
        return STATUS[first_failed.kind]
    return 4 if unseen and len(results) >= ENOUGH_SEEDS else 0


if __name__ == "__main__":
    sys.exit(main())
