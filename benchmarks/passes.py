"""What a pass over SSH costs, beside the bare cost of one exec on the same link.

Two finished campaigns are looked at through a real sshd on loopback, with and without 50 ms added to the round trip by
a proxy: the quickstart's four stages, and twenty stages with 1,000 checkpoint files each and 64 KiB of new log in every
stage at every look. Then one log is made 1 GB long. Everything is the median of several rounds, the works taking turns,
on one machine: compare the ratios, not the milliseconds.

    python -m benchmarks.passes [--rounds 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reconciler import loop
from reconciler.cli.opening import open_campaign
from reconciler.cluster.ssh import Asked, SshTransport, Way
from reconciler.planner.desired import Desired
from tests.cluster.sshd import Sshd
from tests.cluster.sshproxy import Proxy
from tests.e2e.campaign import TOKENS_PER_ITERATION, Repository, make

ROUND_TRIPS_MS: Final = (0, 50)
STAGES: Final = 20
CHECKPOINT_FILES: Final = 1000
NEW_LOG_BYTES: Final = 64 * 1024
LONG_LOG_BYTES: Final = 10**9
LINE: Final = (
    " iteration={:8d}/  140352 | consumed_samples=   572313600 | consumed_tokens=4688393011200 | "
    "elapsed_time_per_iteration_ms=3412.7 | learning_rate=0.002 | global_batch_size= 6144 | lm loss=2.418306 | "
    "loss_scale=1.0 | grad_norm=0.412 | actual_seqlen= 8192 | number_of_skipped_iterations=  0 | "
    "number_of_nan_iterations=  0 | samples_per_second=1800.334 | tokens_per_gpu_per_second_tgs=4800.891 | "
    "TFLOPs=53.70 |\n"
)
"""As the launcher writes it, one for each iteration."""


@dataclass(frozen=True)
class Finished:
    """A campaign that is done, on a cluster that is reached as `login`."""

    name: str
    desired: Desired
    repository: Repository

    def attempts(self) -> list[Path]:
        """Folders of its attempts."""
        return sorted(folder.parent for folder in self.repository.workspace.glob("*/*/*/recipe.json"))

    def logs(self) -> list[Path]:
        """The last training log of each attempt."""
        return [sorted(folder.glob("jobs/*-train.log"))[-1] for folder in self.attempts()]


def finished(root: Path, name: str, prepare: Callable[[Path], None] = lambda manifests: None) -> Finished:
    """The quickstart campaign as `prepare` has changed its manifests, run to done on the embedded PBS."""
    repository = make(root)
    prepare(repository.root / "manifests")
    repository.git("commit", "-q", "-a", "--allow-empty", "-m", "For measuring")
    repository.run("apply", "--until-done", "--yes", timeout_s=1800)
    cluster = repository.root / ".local" / "quickstart"
    repository.edit(
        "cluster.yaml",
        "{kind: local, root: .local/quickstart}",
        f"{{kind: ssh, host: login, root: {cluster}, path: [{cluster}/bin]}}",
    )
    repository.git("commit", "-q", "-a", "-m", "The cluster is far away")
    return Finished(name, open_campaign((repository.root / "manifests",), "quickstart").desired, repository)


def many_stages(manifests: Path) -> None:
    """Twenty stages of a few iterations, each on a dataset of its own, judged by one validation set."""
    campaign, datasets, model, stages = (
        manifests / f"{name}.yaml" for name in ("campaign", "datasets", "model", "stages")
    )
    names = [f"stage-{number}" for number in range(1, STAGES + 1)]
    text = re.sub(r"stages: \[.*?\]", f"stages: [{', '.join(names)}]", campaign.read_text())
    text = text.replace("weak: {warn: 0.05, fail: 0.10}", "weak: {warn: 8, fail: 9}")
    # Three iterations leave a model that is no better than guessing, which that gate takes for a bad load.
    campaign.write_text(text.replace("    recovery:", "    continuity: null\n    recovery:"))
    model.write_text(re.sub(r"(?m)^.*name: val-D[123].*\n", "", model.read_text()))
    one = datasets.read_text().split("\n---\n")[1]
    more = [
        one.replace("name: docs", f"name: docs-{number}").replace("symbol: D1", f"symbol: D{number}")
        for number in range(4, STAGES)
    ]
    datasets.write_text("\n---\n".join([datasets.read_text(), *more]))
    base, weak = (re.sub(r"\n  tokens: \S+", f"\n  tokens: {3 * TOKENS_PER_ITERATION}", d, count=1)
                  for d in stages.read_text().split("\n---\n")[:2])  # fmt: skip
    weak = re.sub(r"resources: .*", "resources: {nodes: 1, walltime: 1m}", weak)
    sources = ["prose", "docs", "code", "reasoning", *(f"docs-{number}" for number in range(4, STAGES))]
    later = [
        weak.replace("name: stage-2", f"name: stage-{number}")
        .replace("dataset: docs", f"dataset: {sources[number - 1]}")
        .replace("stage: stage-1", f"stage: stage-{number - 1}")
        .replace("D1:", f"D{number - 1}:")
        for number in range(2, STAGES + 1)
    ]
    stages.write_text("\n---\n".join([base, *later]))


def fill(folder: Path, files: int) -> None:
    """Older checkpoints beside the newest until there are so many files, as a run that saves often leaves them."""
    leg = folder / "leg-0"
    newest = max(leg.glob("global_step*"), key=lambda path: int(path.name.removeprefix("global_step")))
    count = sum(1 for _ in leg.rglob("*.pt"))
    step = 10_000_000  # beyond every real one would be the newest: these are made incomplete on purpose
    while count < files:
        step += 1
        (leg / f"global_step{step}").mkdir()
        for source in newest.iterdir():
            (leg / f"global_step{step}" / source.name).hardlink_to(source)
            count += 1


def lines(size: int) -> str:
    """About `size` bytes of iteration lines."""
    return LINE.format(1) * (size // len(LINE.format(1)))


def grow(campaign: Finished, size: int) -> None:
    """New lines at the end of each stage's log."""
    for log in campaign.logs():
        with log.open("a") as file:
            file.write(lines(size))


def measure(campaign: Finished, sshd: Sshd, round_trip_ms: int, rounds: int, new_log: int) -> dict[str, Any]:
    """Medians in ms, and what one pass, connection included, puts on the link."""
    desired = campaign.desired
    with Proxy(sshd.port, delay_s=round_trip_ms / 2000) as proxy:
        sshd.know(proxy.port)
        config = sshd.configure(port=proxy.port, name=f"at-{round_trip_ms}")
        way = Way((Asked("login"),), desired.cluster.transport.path, config)  # type: ignore[union-attr]

        def cold(work: Callable[[SshTransport], object]) -> Callable[[], object]:
            def connected() -> None:
                with SshTransport(way) as link:
                    work(link)

            return connected

        def bare(link: SshTransport) -> object:
            return link.exec(["true"], b"", 60)

        def whole(link: SshTransport) -> object:
            done = loop.act(desired, link, loop.look(desired, link, by=None))
            assert done.look.plan.done and not done.outcomes, "there should be nothing to do"
            return done

        def fresh() -> None:
            grow(campaign, new_log)

        fresh()
        with SshTransport(way) as kept:
            kept.open()
            took = medians(
                {
                    "bare exec, `ssh login true`": lambda: system_ssh(config),
                    "bare exec, connection included": cold(bare),
                    "pass with nothing to do, connection included": cold(whole),
                    "bare exec, connection kept": lambda: bare(kept),
                    "pass with nothing to do, connection kept": lambda: whole(kept),
                },
                rounds,
                fresh,
            )
        fresh()
        before = proxy.connections, proxy.up, proxy.down, sshd.logged("Starting session: command")
        cold(whole)()
        after = proxy.connections, proxy.up, proxy.down, sshd.logged("Starting session: command")
    connections, up, down, execs = (b - a for a, b in zip(before, after, strict=True))
    return {
        "campaign": campaign.name,
        "round_trip_ms": round_trip_ms,
        "ms": took,
        "one_pass": {"connections": connections, "execs": execs, "bytes_up": up, "bytes_down": down},
    }


def medians(works: dict[str, Callable[[], object]], rounds: int, before: Callable[[], None]) -> dict[str, float]:
    """Each work in turn, `rounds` times, so that a busy moment of the machine falls on all alike."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            if "pass" in name:
                before()
            began = time.perf_counter()
            work()
            took[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(times) for name, times in took.items()}


def system_ssh(config: Path) -> None:
    """The person's own ssh program, on a connection of its own."""
    command = ["ssh", "-F", str(config), "-o", "ControlPath=none", "login", "true"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


WEIGHED: Final = """\
#!{python} -IS
import resource, subprocess, sys
status = subprocess.call([{python!r}, *sys.argv[1:]])
with open({peak!r}, "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""
"""A `python3` that also writes down how much memory its command took at most, in KiB."""


def long_log(campaign: Finished, sshd: Sshd, folder: Path) -> Iterator[dict[str, Any]]:
    """The agent's memory, its time and the bytes it answers, as one log grows to 1 GB and then by 64 KiB."""
    peak = folder / "peak"
    (folder / "python3").write_text(WEIGHED.format(python=sys.executable, peak=str(peak)))
    (folder / "python3").chmod(0o755)
    log = campaign.logs()[-1]
    with Proxy(sshd.port) as proxy:
        sshd.know(proxy.port)
        config = sshd.configure(port=proxy.port, name="long")
        path = (str(folder), *campaign.desired.cluster.transport.path)  # type: ignore[union-attr]
        with SshTransport(Way((Asked("login"),), path, config)) as link:
            link.open()
            for what, size in (("as it is", 0), ("1 GB more", LONG_LOG_BYTES), ("nothing more", 0),
                               ("64 KiB more", NEW_LOG_BYTES)):  # fmt: skip
                with log.open("a") as file:
                    for _ in range(size // 10**7):
                        file.write(lines(10**7))
                    file.write(lines(size % 10**7))
                began, down = time.perf_counter(), proxy.down
                seen = loop.look(campaign.desired, link, by=None)
                assert seen.plan.done, "the log does not change what is done"
                yield {
                    "log": what,
                    "log_bytes": log.stat().st_size,
                    "seconds": time.perf_counter() - began,
                    "bytes_down": proxy.down - down,
                    "agent_peak_mib": int(peak.read_text()) / 1024,
                }


def show(found: dict[str, Any]) -> None:
    """One table: milliseconds, and how many times the bare exec of the same kind."""
    one = found["one_pass"]
    print(f"\n{found['campaign']}, round trip +{found['round_trip_ms']} ms")
    for name, milliseconds in found["ms"].items():
        of = "bare exec, connection " + ("kept" if "kept" in name else "included")
        print(f"  {name:46} {milliseconds:8.1f} ms   {milliseconds / found['ms'][of]:5.2f} x bare")
    print(
        f"  one pass: {one['connections']} connection, {one['execs']} exec, "
        f"{one['bytes_up']:,} bytes up, {one['bytes_down']:,} down"
    )


def show_log(row: dict[str, Any]) -> None:
    """One look at a long log."""
    print(
        f"  {row['log']:14} {row['log_bytes']:13,} bytes of log: {row['seconds']:6.2f} s, "
        f"{row['bytes_down']:8,} bytes answered, agent's peak {row['agent_peak_mib']:.0f} MiB"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a pass over SSH costs.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        four = finished(folder / "four", "4 stages")
        twenty = finished(
            folder / "twenty", f"{STAGES} stages, {CHECKPOINT_FILES:,} checkpoint files each", many_stages
        )
        for attempt in twenty.attempts():
            fill(attempt, CHECKPOINT_FILES)
        with Sshd(folder / "sshd") as sshd:
            found = [
                measure(campaign, sshd, delay, options.rounds, new_log)
                for campaign, new_log in ((four, 0), (twenty, NEW_LOG_BYTES))
                for delay in ROUND_TRIPS_MS
            ]
            (folder / "bin").mkdir()
            logs = list(long_log(four, sshd, folder / "bin"))
    if options.json:
        print(json.dumps({"passes": found, "long_log": logs}, indent=2))
        return
    for each in found:
        show(each)
    print("\nOne look while the log of one stage is")
    for row in logs:
        show_log(row)


if __name__ == "__main__":
    main()
