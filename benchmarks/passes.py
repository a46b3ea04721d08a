"""What a pass over SSH costs, beside the bare cost of one exec on the same link.

Runs the quickstart campaign to done (tiny data), then looks at it through a real sshd on loopback, with and without
50 ms added to the round trip by a proxy. Everything is the median of several rounds, alternating, on one machine:
compare the ratios, not the milliseconds.

    python -m benchmarks.passes [--rounds 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler import loop
from reconciler.cli.opening import open_campaign
from reconciler.cluster.ssh import Asked, SshTransport, Way
from reconciler.planner.desired import Desired
from tests.cluster.sshd import Sshd
from tests.cluster.sshproxy import Proxy
from tests.e2e.campaign import make

ROUND_TRIPS_MS = (0, 50)


def finished(root: Path) -> Desired:
    """The quickstart campaign, done, with its cluster said to be reached as `login`."""
    repository = make(root)
    repository.run("apply", "--until-done", "--yes", timeout_s=900)
    cluster = repository.root / ".local" / "quickstart"
    repository.edit(
        "cluster.yaml",
        "{kind: local, root: .local/quickstart}",
        f"{{kind: ssh, host: login, root: {cluster}, path: [{cluster}/bin]}}",
    )
    repository.git("commit", "-q", "-a", "-m", "The cluster is far away")
    return open_campaign((repository.root / "manifests",), "quickstart").desired


def measure(desired: Desired, sshd: Sshd, round_trip_ms: int, rounds: int) -> dict[str, Any]:
    """Medians in ms, and what one pass, connection included, puts on the link."""
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

        def look(link: SshTransport) -> object:
            return loop.look(desired, link)

        def whole(link: SshTransport) -> object:
            done = loop.act(desired, link, loop.look(desired, link))
            assert done.look.plan.done and not done.outcomes, "there should be nothing to do"
            return done

        with SshTransport(way) as kept:
            kept.open()
            took = medians(
                {
                    "bare exec, `ssh login true`": lambda: system_ssh(config),
                    "bare exec, connection included": cold(bare),
                    "look, connection included": cold(look),
                    "pass with nothing to do, connection included": cold(whole),
                    "bare exec, connection kept": lambda: bare(kept),
                    "look, connection kept": lambda: look(kept),
                    "pass with nothing to do, connection kept": lambda: whole(kept),
                },
                rounds,
            )
        before = proxy.connections, proxy.up, proxy.down, sshd.logged("Starting session: command")
        cold(whole)()
        after = proxy.connections, proxy.up, proxy.down, sshd.logged("Starting session: command")
    connections, up, down, execs = (b - a for a, b in zip(before, after, strict=True))
    return {
        "round_trip_ms": round_trip_ms,
        "ms": took,
        "one_pass": {"connections": connections, "execs": execs, "bytes_up": up, "bytes_down": down},
    }


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Each work in turn, `rounds` times, so that a busy moment of the machine falls on all alike."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            took[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(times) for name, times in took.items()}


def system_ssh(config: Path) -> None:
    """The person's own ssh program, on a connection of its own."""
    command = ["ssh", "-F", str(config), "-o", "ControlPath=none", "login", "true"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def show(found: dict[str, Any]) -> None:
    """One table: milliseconds, and how many times the bare exec of the same kind."""
    one = found["one_pass"]
    print(f"\nRound trip +{found['round_trip_ms']} ms")
    for name, milliseconds in found["ms"].items():
        of = "bare exec, connection " + ("kept" if "kept" in name else "included")
        print(f"  {name:46} {milliseconds:8.1f} ms   {milliseconds / found['ms'][of]:5.2f} x bare")
    print(
        f"  one pass: {one['connections']} connection, {one['execs']} exec, "
        f"{one['bytes_up']:,} bytes up, {one['bytes_down']:,} down"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a pass over SSH costs.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        desired = finished(Path(folder) / "repository")
        with Sshd(Path(folder) / "sshd") as sshd:
            found = [measure(desired, sshd, delay, options.rounds) for delay in ROUND_TRIPS_MS]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for each in found:
            show(each)


if __name__ == "__main__":
    main()
