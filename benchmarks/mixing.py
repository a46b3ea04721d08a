"""Mixing two lists: exactly, and as a plain float program does it (`w/Σw · W`, printed with six places).

    python benchmarks/mixing.py [--rows 10000,100000,1000000] [--repeats 3]

Each run is a process of its own that reads two list files and writes the mixed one, so that peak memory is its own;
the two programs take turns, so that a busy machine slows both. The files are made here (log-normal weights, spelled
as a float's `repr`, prefixes as long as real ones; two thirds of the rows get 95 % of the tokens), the last rows of
the table are the real lists in `tests/data-lists`. "Lost" are rows printed as 0.000000, which the trainer drops, and
the share of all tokens that they should have had. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from reconciler.cli.listfiles import read_list
from reconciler.domain.mixture import Mixed, Source, mix
from reconciler.model.datalist import render_blocks
from reconciler.model.listreader import ParsedList

LISTS = Path(__file__).parents[1] / "tests/data-lists/aurora"


@dataclass(frozen=True)
class Run:
    """What one process measured of itself."""

    seconds: float
    peak_mib: float


def exact(inputs: Sequence[tuple[str, Path]], output: Path) -> None:
    sources = []
    for number, (weight, path) in enumerate(inputs):
        parsed = read_list(path, f"S{number}")
        assert isinstance(parsed, ParsedList), parsed
        sources.append(Source(f"S{number}", Fraction(weight), parsed.data))
    mixed = mix(sources)
    assert isinstance(mixed, Mixed), mixed
    with output.open("w") as file:
        file.writelines(render_blocks(mixed.list))


def plain(inputs: Sequence[tuple[str, Path]], output: Path) -> None:
    """Binary floats, one list after the other, six decimals; a missing corpus is filled in so that all lists run."""
    total = sum(float(weight) for weight, _ in inputs)
    with output.open("w") as file:
        for weight, path in inputs:
            share = float(weight) / total
            rows, whole = [], 0.0
            with path.open() as lines:
                for line in lines:
                    line = line.strip()
                    if not line or line.startswith("#"):
                        continue
                    fields = line.split()
                    rows.append((fields[1], float(fields[0]), fields[2] if len(fields) > 2 else "none"))
                    whole += float(fields[0])
            for prefix, row_weight, corpus in rows:
                print(f"{row_weight / whole * share:.6f} {prefix} {corpus}", file=file)


def child(program: str, output: str, pairs: Sequence[str]) -> None:
    """Run one program once; print its seconds and how far the process's peak memory rose above its start."""
    inputs = [(weight, Path(path)) for weight, path in zip(pairs[::2], pairs[1::2], strict=True)]
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    (exact if program == "exact" else plain)(inputs, Path(output))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, (peak - before) / 1024)


def measure(program: str, inputs: Sequence[tuple[str, Path]], output: Path) -> Run:
    words = [word for weight, path in inputs for word in (weight, str(path))]
    command = [sys.executable, __file__, "--child", program, str(output), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()
    return Run(float(seconds), float(peak))


def make_list(path: Path, rows: int, rng: random.Random) -> None:
    weights = [rng.lognormvariate(0, 1) for _ in range(rows)]
    whole = sum(weights)
    with path.open("w") as file:
        for row, weight in enumerate(weights):
            prefix = (
                f"/flare/project/datasets/{path.stem}/tokenised/part-{row // 1000:04d}/shard-{row:07d}_text_document"
            )
            file.write(f"{weight / whole!r} {prefix} corpus-{row % 14}\n")


def lost(output: Path, exact_output: Path) -> tuple[int, Fraction]:
    """Rows that six places print as nothing, and the share that the exact program gives the same rows."""
    rows, share = 0, Fraction(0)
    with output.open() as floats, exact_output.open() as exacts:
        for rounded, kept in zip(floats, exacts, strict=True):
            assert rounded.split()[1] == kept.split()[1]
            if float(rounded.split()[0]) == 0:
                rows += 1
                share += Fraction(kept.split()[0])
    return rows, share


def column_sum(path: Path) -> Fraction:
    """The printed shares' sum, exactly, in integers of the last digit's place."""
    with path.open() as file:
        words = [line.split(" ", 1)[0] for line in file]
    places = len(words[0]) - 2
    return Fraction(sum(int(word.replace(".", "")) for word in words), 10**places)


def compare(name: str, inputs: Sequence[tuple[str, Path]], directory: Path, repeats: int) -> str:
    outputs = {program: directory / f"{program}.txt" for program in ("plain", "exact")}
    runs: dict[str, list[Run]] = {program: [] for program in outputs}
    for _ in range(repeats):
        for program, output in outputs.items():
            runs[program].append(measure(program, inputs, output))
    seconds = {program: statistics.median(run.seconds for run in done) for program, done in runs.items()}
    peak = {program: statistics.median(run.peak_mib for run in done) for program, done in runs.items()}
    assert column_sum(outputs["exact"]) == 1
    rows, share = lost(outputs["plain"], outputs["exact"])
    off = column_sum(outputs["plain"]) - 1
    memory = f"{peak['exact'] / peak['plain']:.2f}" if peak["plain"] >= 1 else "–"
    return (
        f"| {name} | {seconds['plain']:.3f} | {seconds['exact']:.3f} | {seconds['exact'] / seconds['plain']:.2f} "
        f"| {peak['plain']:.0f} | {peak['exact']:.0f} | {memory} | {rows:,} | {float(share):.2e} | {float(off):+.1e} |"
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| rows | float s | exact s | ratio | float MiB | exact MiB | ratio | rows lost | their share | Σ − 1 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        for rows in map(int, options.rows.split(",")):
            rng = random.Random(rows)
            old, new = directory / "old.txt", directory / "new.txt"
            make_list(old, rows // 3, rng)
            make_list(new, rows - rows // 3, rng)
            print(compare(f"{rows:,}", [("0.05", old), ("0.95", new)], directory, options.repeats), flush=True)
        dolma, dolmino = LISTS / "dolma_v1_7_file_list.txt", LISTS / "dolmino-mix-1124-fused-file-list.txt"
        for part, rest in (("0.01", "0.99"), ("0.05", "0.95"), ("0.10", "0.90")):
            name = f"dolma {float(part):.0%} + dolmino"
            print(compare(name, [(part, dolma), (rest, dolmino)], directory, options.repeats), flush=True)


if __name__ == "__main__":
    main()
