"""A failing seed → the shortest trace that still fails: faults are left out one by one, as long as time allows."""

from __future__ import annotations

import time

from tests.sim.chance import RATES_MAX
from tests.sim.run import Result, simulate

TIME_S = 60.0


def shrunk(failed: Result, time_s: float = TIME_S) -> tuple[Result, list[str]]:
    """The same seed with as few faults as can be, and the faults that were left out."""
    until = time.monotonic() + time_s
    best, dropped = failed, [name for name in RATES_MAX if not failed.counts[name]]
    candidates = sorted((name for name in RATES_MAX if failed.counts[name]), key=lambda name: -failed.counts[name])
    for name in candidates:
        if time.monotonic() > until:
            break
        tried = simulate(failed.seed, [*dropped, name])
        if tried.kind == failed.kind:
            best, dropped = tried, [*dropped, name]
    return best, [name for name in dropped if name in candidates]
