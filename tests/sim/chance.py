"""Everything that is left to chance, from one seed: which faults there are in a run, how often, and each decision.

Each fault has a stream of its own, so that leaving one out of a run changes nothing but what follows from it: this is
what makes a failing run shrink.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from random import Random

RATES_MAX: dict[str, float] = {
    # the link, by exec
    "link: lost before sending": 0.10,
    "link: cut while sending": 0.08,
    "link: answer lost": 0.10,
    "link: answer truncated": 0.10,
    "link: answer damaged": 0.06,
    "link: answer doubled behind a banner": 0.15,
    "link: last answer given again": 0.06,
    # the agent, by exec
    "agent: killed": 0.15,
    "agent: a call fails once": 0.15,
    "agent: calls fail for good": 0.10,
    "agent: another pass runs in the middle": 0.15,
    "agent: stopped for minutes in the middle": 0.05,
    # people, by pass
    "person: acts on an old look": 0.20,
    "person: gives --retry": 0.05,
    "person: deletes a job": 0.04,
    "person: holds a job": 0.04,
    "person: takes another commit": 0.03,
    # people at the files, by the ten minutes
    "person: deletes a part of the workspace": 0.12,
    "person: leaves a file of another version": 0.20,
    "person: edits a data list": 0.08,
    # PBS, by command
    "qsub: hangs, then queues": 0.10,
    "qsub: queues, then hangs": 0.10,
    "qsub: answer lost": 0.10,
    "qsub: dies before it queues": 0.08,
    "qsub: dies after it queued": 0.08,
    "qsub: not now": 0.15,
    "qsub: refused for good": 0.05,
    "qsub: a status nobody knows": 0.08,
    "qstat: hangs": 0.04,
    "qstat: cut": 0.10,
    "qstat: empty": 0.06,
    "qstat: garbage": 0.06,
    "qselect: fails": 0.12,
    # PBS, by job
    "job: on its way through a routing queue": 0.10,
    "job: lost in routing": 0.04,
    "job: never starts": 0.03,
    "job: cannot run for now": 0.05,
    "job: its node is lost": 0.06,
    "job: its end is seen late": 0.10,
    # what a job does
    "train: crashes": 0.12,
    "train: crashes with status 0": 0.12,
    "train: hangs": 0.08,
    "train: loses its loss": 0.06,
    "train: node dies while saving": 0.15,
    "train: disk full while saving": 0.10,
    "convert: crashes": 0.12,
    "evaluate: crashes": 0.12,
    # the site, by the ten minutes
    "site: PBS is down": 0.10,
    "site: PBS lists nothing, with status 0": 0.12,
    "site: file server crashes": 0.06,
    "site: login node boots": 0.08,
    "site: disk is full": 0.06,
    "site: clock jumps": 0.10,
    "site: clock jumps by hours or days": 0.06,
    # what came later, so that the seeds before it stay as they were
    "train: loads something else": 0.15,
    "person: writes half of a harness's result": 0.30,
    "evaluate: its output is seen late": 0.30,
    "person: deletes what the guard keeps": 0.10,
    "record: its remote is away": 0.60,
    "person: is gone before it is on record": 0.40,
}
LIKELY = 0.25
ALWAYS = ("qstat: only the first of several ids",)


class Chance:
    """The dice of one run."""

    def __init__(self, seed: int, dropped: Collection[str] = (), likely: Collection[str] = ()) -> None:
        self.seed, self.dropped = seed, frozenset(dropped)
        self.streams: dict[str, Random] = {}
        self.counts: Counter[str] = Counter()
        self.on = True
        self.rates: dict[str, float] = {}
        dice = self.of("rates")
        wild = dice.random()
        for name, most in RATES_MAX.items():
            there = dice.random() < 0.15 + 0.85 * wild
            rate = most * dice.random()
            self.rates[name] = round(rate, 4) if there and wild > 0.05 else 0.0
            if name in likely:
                self.rates[name] = LIKELY

    def of(self, name: str) -> Random:
        """The stream of one kind of decision. Seeded by text, whose hash does not depend on the process."""
        if name not in self.streams:
            self.streams[name] = Random(f"{self.seed}/{name}")
        return self.streams[name]

    def happens(self, fault: str) -> bool:
        """Whether a fault happens here and now."""
        hit = self.of(fault).random() < self.rates[fault]
        if not hit or not self.on or fault in self.dropped:
            return False
        self.counts[fault] += 1
        return True

    def told(self) -> str:
        return ", ".join(f"{name} {rate:.3f}" for name, rate in self.rates.items() if rate and name not in self.dropped)
