"""What is said of one call of the launcher: the checkpoint it meets, the forecast, and findings. Plain values.

Iteration n of a trace is the rate after n iterations: what the log line of n shows, and what step n + 1 is taken with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from reconciler.launcher.codes import ERRORS, MEANINGS
from reconciler.launcher.scheduler import Schedule, WouldStop
from reconciler.launcher.settings import Settings
from reconciler.model.problems import Severity

TRACE_POINTS_MAX: Final = 200_000
"""A longer run is traced at evenly spread iterations, both ends included."""
ITEMS: Final = ("weights", "optimizer", "scheduler", "iteration", "data", "rng")
"""What a job either takes from a checkpoint or starts afresh. `data` is the position in the data, `iteration` the
counter that TRAIN_ITERS is compared with."""


class Mode(StrEnum):
    """Whose schedule counts after a load (contract 2.2)."""

    CHECKPOINT = "the checkpoint's"
    OVERRIDE = "the command line's"
    EQUAL = "the checkpoint's, which must equal the command line's"
    CLASH = "neither: both flags are set"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know. An error means: the launcher stops, starts from random weights, or trains nothing new."""

    code: str
    message: str
    fix: str

    def __post_init__(self) -> None:
        if self.code not in MEANINGS:
            raise KeyError(f"{self.code} is not in the catalogue of codes")

    @property
    def severity(self) -> Severity:
        return Severity.ERROR if self.code in ERRORS else Severity.WARNING


@dataclass(frozen=True, slots=True)
class State:
    """The source checkpoint. Lengths of its schedule are samples, as the launcher stores them."""

    iteration: int
    global_batch: int
    max_lr: float
    min_lr: float
    style: str
    warmup: float
    decay: float
    lr: float | None = None
    """The rate that its optimizer holds: the first step after a load is taken with it."""
    data_parallel: int | None = None
    path: str = ""
    """Folder that holds `latest`; empty stands for whatever LOAD names."""
    num_steps: int | None = None
    """Samples that its scheduler has counted; None for iteration × batch."""

    @property
    def samples(self) -> int:
        """Where its schedule stands."""
        return self.iteration * self.global_batch if self.num_steps is None else self.num_steps


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the launcher will do with one call. None is not known from the text."""

    settings: Settings
    mode: Mode
    start_iteration: int | None
    """None too when the counter is loaded and nothing says where it stands."""
    train_iters: int | None
    global_batch_size: int | None
    load: str
    save: str
    data_file_list: str
    """These three as written where the value is not known; `known` tells."""
    kept: tuple[str, ...]
    resets: tuple[str, ...]
    """Of `ITEMS`, all that is not kept; both are empty when `undecided` says why neither is known."""
    stops: tuple[str, ...]
    """Where and why training ends, in words."""
    schedule: Schedule | None
    """None when the launcher stops before it has one, or when a length is not known."""
    samples: int
    """Samples that the schedule has counted when training starts."""
    first_rate: float | None
    """Rate that the loaded optimizer holds, with which the first step is taken whatever the schedule says; or None."""
    loaded: State | None
    """The checkpoint that is found at LOAD; None when weights start from random, or when none was described."""
    findings: tuple[Finding, ...] = field(default=())
    undecided: str = ""
    """What is not known, in words, so that what is loaded is not known either; empty if that is known."""

    def known(self, name: str) -> bool:
        """Whether the path of LOAD, SAVE or DATA_FILE_LIST is known whole."""
        if name == "DATA_FILE_LIST":
            return name not in self.settings.unknown
        # A `?` stands in a folder that the launcher makes up for what is not known of it.
        made_up = not self.settings.given(name) and not self.settings.given("CKPT_DIR")
        return not self.settings.hides(name) and not (made_up and "?" in self.settings.save + self.settings.load)

    @property
    def failed(self) -> bool:
        """Whether something is an error and not only a warning."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def rate(self, iteration: int) -> float | None:
        """The schedule's rate after `iteration` iterations; None outside the run, or when there is none.

        Raises:
            WouldStop: the launcher ends with an error there.
        """
        if self.schedule is None or self.start_iteration is None or self.train_iters is None:
            return None
        if not self.start_iteration <= iteration <= self.train_iters:
            return None
        return self.schedule.rate(self.samples + (iteration - self.start_iteration) * (self.global_batch_size or 0))

    def trace(self, points_max: int = TRACE_POINTS_MAX) -> Iterator[tuple[int, float]]:
        """(iteration, rate) from the first to the last; fewer when the launcher would stop on the way."""
        if self.schedule is None or self.start_iteration is None or self.train_iters is None:
            return
        length = self.train_iters - self.start_iteration
        count = min(length + 1, points_max)
        for i in range(count):
            iteration = self.start_iteration + (i if count == length + 1 else round(i * length / max(1, count - 1)))
            try:
                rate = self.rate(iteration)
            except WouldStop:
                return
            if rate is not None:
                yield iteration, rate


def stop(code: str, what: str, fix: str) -> Finding:
    """An error that ends the job before or while it trains."""
    return Finding(code, f"the launcher will stop: {what}", fix)
