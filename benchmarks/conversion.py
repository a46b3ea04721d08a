"""Conversion to the universal layout beside DeepSpeed's own converter, and beside `cp -r` of the same bytes.

    python benchmarks/conversion.py [--cases "100 MB, DP 4;1 GB, DP 4;100 MB, DP 768"] [--repeats 3] [--folder FOLDER]

Every run is whole processes, and the tools take turns, so that a busy machine slows all. Cold: the source's pages are
dropped (`posix_fadvise`) before each run; programs and libraries stay cached. The medians are shown:

- wall: until the program ends; "on disk": until what it left is flushed as well, which ours does itself;
- private: the largest sum of anonymous memory over the processes, shared pages counted once (sampled);
- read and written: what was asked of the system, and what a mapped file brought in from the disk;
- files: how many were made in the target, temporary ones included (in a run of its own that is not timed).

The checkpoints are those of a bf16 run: two optimizer groups, matrices and norms. At 768 ranks most own no norm weight.
DeepSpeed's converter cannot read that as its BF16_Optimizer writes it (padding longer than the last shard), which is
shown; so there the shards are as its DeepSpeedZeroOptimizer writes them, which it can.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.convert import layout
from tests.convert.zero_writer import BF16, ZERO, Saved, state_of, write_checkpoint

RESULT = "global_step120_universal"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
    "DS_ACCELERATOR": "cpu"
}


@dataclass(frozen=True)
class Case:
    """A model's sizes, and how it was saved."""

    hidden: int
    ffn: int
    vocabulary: int
    data_parallel: int
    wrapper: str

    def write(self, root: Path) -> Path:
        matrices: dict[str, tuple[int, ...]] = {"embedding.weight": (self.vocabulary, self.hidden)}
        norms: dict[str, tuple[int, ...]] = {}
        for layer in range(4):
            matrices[f"layers.{layer}.query_key_value.weight"] = (3 * self.hidden, self.hidden)
            matrices[f"layers.{layer}.dense.weight"] = (self.hidden, self.hidden)
            matrices[f"layers.{layer}.dense_h_to_4h.weight"] = (2 * self.ffn, self.hidden)
            matrices[f"layers.{layer}.dense_4h_to_h.weight"] = (self.hidden, self.ffn)
            norms |= {f"layers.{layer}.{which}_norm.weight": (self.hidden,) for which in ("input", "post_attention")}
        matrices["output_layer.weight"] = (self.vocabulary, self.hidden)
        norms["final_norm.weight"] = (self.hidden,)
        return write_checkpoint(root, state_of([matrices, norms]), Saved(self.data_parallel, self.wrapper))


CASES = {
    "100 MB, DP 4": Case(256, 688, 12288, 4, BF16),
    "1 GB, DP 4": Case(768, 2048, 33792, 4, BF16),
    "100 MB, DP 768": Case(256, 688, 12288, 768, ZERO),
}


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds, MiB, MB."""

    wall: float
    on_disk: float
    cpu: float
    private: float
    read: float
    written: float


class Memory(threading.Thread):
    """The largest anonymous memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.peak = max(self.peak, sum(map(anonymous_kib, tree_of(self.pid))))


def tree_of(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree_of(int(child))


def anonymous_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1])
    return 0


def measure(command: list[str], target: Path) -> Cost:
    begun = time.perf_counter()
    child = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    memory = Memory(child.pid)
    memory.start()
    assert child.stderr is not None
    told = child.stderr.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - begun
    memory.over.set()
    # Of a process that has ended and not been waited for, with all that it waited for itself.
    io = {key: int(value) for key, value in map(str.split, Path(f"/proc/{child.pid}/io").read_text().splitlines())}
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    memory.join()
    assert child.returncode == 0, told.decode()[-2000:]
    for path in target.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return Cost(
        wall,
        time.perf_counter() - begun,
        used.ru_utime + used.ru_stime,
        memory.peak / 1024,
        max(io["rchar:"], io["read_bytes:"]) / 1e6,
        io["wchar:"] / 1e6,
    )


def stock(source: Path, target: Path, *options: str) -> list[str]:
    folders = ["--input_folder", str(source), "--output_folder", str(target / RESULT)]
    return [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *folders, *options]


def tools(program: Path, source: Path, target: Path) -> dict[str, list[str]]:
    ours = [sys.executable, "-I", str(program), str(source), str(target)]
    one = ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    return {
        "DeepSpeed, 4 and 2 workers": stock(source, target),
        "DeepSpeed, 1 worker": stock(source, target, *one),
        "ours": ours,
        "ours, 1 worker": [*ours, "--workers", "1"],
        "cp -r": ["cp", "-r", str(source), str(target / RESULT)],
    }


def cached(folder: Path, wanted: bool) -> None:
    """Read all files into the cache; or drop their pages, which must be on the disk for that."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        if wanted:
            while os.read(descriptor, 1 << 24):
                pass
        else:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def files_made(command: list[str], target: Path) -> int:
    """Files that were ever in the target, which is looked at all the time."""
    keep = ["--keep_temp_folder"] if "deepspeed.checkpoint.ds_to_universal" in command else []
    seen: set[Path] = set()
    with subprocess.Popen(
        [*command, *keep], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            seen |= files_in(target)
            time.sleep(0.01)
    return len(seen | files_in(target))


def files_in(target: Path) -> set[Path]:
    """Relative names; one folder that is renamed as a whole is taken for the same."""
    found = {Path(folder, name).relative_to(target) for folder, _, names in os.walk(target) for name in names}
    return {Path(*path.parts[1:]) if len(path.parts) > 1 else path for path in found}


@contextlib.contextmanager
def emptied(target: Path) -> Iterator[Path]:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    yield target
    shutil.rmtree(target)


def compare(name: str, folder: Path, program: Path, repeats: int) -> None:
    case, target = CASES[name], folder / "target"
    source = case.write(folder / "source")
    costs: dict[tuple[str, bool], list[Cost]] = {}
    commands = tools(program, source, target)
    for _ in range(repeats):
        for cold in (False, True):
            for tool, command in commands.items():
                cached(source, not cold)
                with emptied(target):
                    costs.setdefault((tool, cold), []).append(measure(command, target))
                print(f"{name}, {tool}: {costs[tool, cold][-1].wall:.1f} s", file=sys.stderr, flush=True)
    made = {}
    for tool, command in commands.items():
        with emptied(target):
            made[tool] = files_made(command, target)
    medians = {key: median(runs) for key, runs in costs.items()}
    for tool, cold in medians:
        show(name, tool, cold, medians[tool, cold], made[tool])
    print(f"\n{name}, as ratios:\n")
    for cold in (False, True):
        ours, stock, copy = (medians[tool, cold] for tool in ("ours", "DeepSpeed, 4 and 2 workers", "cp -r"))
        print(
            f"- {'cold' if cold else 'warm'}: wall {ours.wall / stock.wall:.2f}, processor {ours.cpu / stock.cpu:.2f}, "
            f"private memory {ours.private / stock.private:.2f} of DeepSpeed's; "
            f"on disk {ours.on_disk / copy.on_disk:.1f}, wall {ours.wall / copy.wall:.1f} times cp's"
        )
    print(flush=True)
    if case.wrapper == ZERO:
        fails(case, folder)


def median(runs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*map(dataclasses.astuple, runs), strict=True)))


def show(name: str, tool: str, cold: bool, cost: Cost, made: int) -> None:
    print(
        f"| {name} | {tool} | {'cold' if cold else 'warm'} | {cost.wall:.2f} | {cost.on_disk:.2f} | {cost.cpu:.2f} "
        f"| {cost.private:.0f} | {cost.read:,.0f} | {cost.written:,.0f} | {made:,} |",
        flush=True,
    )


def fails(case: Case, folder: Path) -> None:
    """What DeepSpeed's converter says of the same checkpoint as its other class writes it."""
    source = dataclasses.replace(case, wrapper=BF16).write(folder / "other")
    with emptied(folder / "target") as target:
        done = subprocess.run(stock(source, target), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1:] or ["it works"]
    print(f"Saved by {BF16}: DeepSpeed's converter ends with {done.returncode}: {last[0]}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", default=";".join(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write, 4 GB (default: the system's for temporary files)")
    options = parser.parse_args()
    for modules in ("deepspeed.checkpoint.ds_to_universal", "hashlib, json, zipfile, concurrent.futures.process"):
        # So that nobody pays for compiling what is not compiled yet.
        subprocess.run([sys.executable, "-c", f"import {modules}"], env=ENVIRONMENT, check=True, capture_output=True)
    print("| checkpoint | by | cache | wall s | on disk s | CPU s | private MiB | read MB | written MB | files |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.cases.split(";"):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            program = Path(folder) / "universal.py"
            program.write_text(layout.program_text(), encoding="utf-8")
            compare(name, Path(folder), program, options.repeats)


if __name__ == "__main__":
    main()
