"""What the manifests ask for, read from their text once more by code that knows nothing of the reconciler's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TOKENS_PER_ITERATION = 2048
SAVE_EVERY = 4
TOP_RATE = 2e-3
ELSEWHERE = "elsewhere"
"""The source of a stage that goes on from a checkpoint made elsewhere."""
BOUNDS = {"weak": 0.10, "strong": 0.30}
DATASETS = {"prose": "D0", "docs": "D1", "code": "D2"}


@dataclass(frozen=True)
class Leg:
    """A stretch with one mixture and one curve."""

    iterations: int
    shape: str
    warmup: int
    mixture: dict[str, float]

    def rate(self, position: int, begins: int) -> float:
        """Of the step after `position` steps of the whole lineage; the leg began at `begins`."""
        if position - begins < self.warmup:
            return TOP_RATE * (position - begins) / self.warmup
        if self.shape == "constant":
            return TOP_RATE
        return TOP_RATE * (1.0 - math.sqrt((position - begins) / self.iterations))


@dataclass(frozen=True)
class Stage:
    """One stage."""

    name: str
    symbol: str
    tokens: int
    source: str
    shift: str
    ladder: dict[str, tuple[Leg, ...]]
    nodes: int
    suspended: bool = False


@dataclass(frozen=True)
class Declared:
    """One campaign at one commit."""

    stages: dict[str, Stage]
    jobs_per_attempt: int
    attempts_per_stage: int
    node_hours: float
    windows: tuple[tuple[float, float], ...] = ()
    """Hours of each day in which jobs may be submitted; none: all."""

    def closed(self, at: float) -> bool:
        """Whether no job may be submitted now."""
        hour = at % 86400 / 3600
        return bool(self.windows) and not any(begins <= hour < ends for begins, ends in self.windows)

    def before(self, stage: str) -> list[str]:
        names = list(self.stages)
        return names[: names.index(stage)]


def iterations(tokens: int) -> int:
    """As near as can be, and off the save interval: the launcher saves twice there."""
    count = round(tokens / TOKENS_PER_ITERATION)
    return count + 1 if count % SAVE_EVERY == 0 else count


def declared(texts: Mapping[str, str]) -> Declared:
    """From the text of each file."""
    documents = [each for text in texts.values() for each in YAML(typ="safe", pure=True).load_all(text)]
    campaign = next(each["spec"] for each in documents if each["kind"] == "Campaign")
    sizes = {each["spec"]["symbol"]: float(str(each["spec"]["tokens"]).removesuffix("M"))
             for each in documents if each["kind"] == "Dataset"}  # fmt: skip
    specs = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Stage"}
    stages: dict[str, Stage] = {}
    for name in campaign["stages"]:
        spec = specs[name]
        done = [stage.symbol for stage in stages.values()]
        ladder = {rung["name"]: legs(rung["legs"], int(spec["tokens"]), done[1:], sizes) for rung in spec["strategies"]}
        source = "" if spec["source"] == "random" else spec["source"].get("stage", ELSEWHERE)
        shift = spec.get("shift", "weak")
        stages[name] = Stage(
            name, DATASETS[spec["dataset"]], int(spec["tokens"]), source, shift, ladder, spec["resources"]["nodes"],
            spec.get("suspend", False),
        )  # fmt: skip
    bounds = campaign["bounds"]
    attempts = bounds["attemptsPerStage"] if campaign["onFailedGate"] == "advance" else 1
    cluster = next(each["spec"] for each in documents if each["kind"] == "Cluster")
    windows = tuple((hours(w["from"]), hours(w["to"])) for w in cluster["scheduler"].get("submitWindows", ()))
    return Declared(stages, bounds["jobsPerAttempt"], attempts, float(bounds["nodeHours"]), windows)


def hours(clock: str) -> float:
    whole, minutes = clock.split(":")
    return int(whole) + int(minutes) / 60


def legs(spec: list[dict[str, Any]], tokens: int, buffer: list[str], sizes: dict[str, float]) -> tuple[Leg, ...]:
    """The rest of the stage's tokens is for the leg that declares none."""
    rest = tokens - sum(int(leg.get("tokens", 0)) for leg in spec)
    found = []
    for leg in spec:
        count = iterations(int(leg.get("tokens", rest)))
        mixture: dict[str, float] = {}
        for term, weight in leg["mixture"].items():
            parts = {term: 1.0}
            if term == "buffer":
                whole = sum(sizes[symbol] for symbol in buffer)
                parts = {symbol: sizes[symbol] / whole for symbol in buffer}
            for symbol, share in parts.items():
                mixture[symbol] = mixture.get(symbol, 0.0) + float(weight) * share
        share = int(str(leg["lr"].get("warmup", "0%")).removesuffix("%")) / 100
        found.append(Leg(count, leg["lr"]["shape"], math.ceil(share * count), mixture))
    return tuple(found)


def texts_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
