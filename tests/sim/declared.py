"""What the manifests ask for, read from their text once more by code that knows nothing of the reconciler's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """A stretch with one mixture and one curve, or a part of one."""

    iterations: int
    shape: str
    warmup: int
    mixture: dict[str, float]
    fallen: int = 0
    """Iterations of its decay that the legs before it have taken."""
    decay: int = 0
    """Iterations of the whole decay; 0: its own."""

    def rate(self, position: int, begins: int) -> float:
        """Of the step after `position` steps of the whole lineage; the leg began at `begins`."""
        if position - begins < self.warmup:
            return TOP_RATE * (position - begins) / self.warmup
        if self.shape == "constant":
            return TOP_RATE
        return TOP_RATE * (1.0 - math.sqrt((self.fallen + position - begins) / (self.decay or self.iterations)))


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
    pilots: dict[str, tuple[Leg, ...]] = field(default_factory=dict)
    """Variant of a trial → its legs with the pilot budget; with the stage's it is in the ladder."""
    compared: tuple[str, ...] = ()
    """Validation sets that the pilots are compared on."""


@dataclass(frozen=True)
class Declared:
    """One campaign at one commit."""

    stages: dict[str, Stage]
    jobs_per_attempt: int
    attempts_per_stage: int
    node_hours: float
    tokens: float = math.inf
    windows: tuple[tuple[float, float], ...] = ()
    """Hours of each day in which jobs may be submitted; none: all."""
    prunes: bool = False
    """Folders that nothing needs may be taken away."""

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
        ladder: dict[str, tuple[Leg, ...]] = {}
        pilots: dict[str, tuple[Leg, ...]] = {}
        compared: tuple[str, ...] = ()
        for rung in spec["strategies"]:
            for name_of, variant in variants(rung):
                ladder[name_of] = legs(variant, int(spec["tokens"]), done[1:], sizes)
                if "trial" in rung and "chosen" not in rung["trial"]:
                    pilots[name_of] = legs(variant, int(rung["trial"]["tokens"]), done[1:], sizes)
                    compared = tuple(rung["trial"]["compare"])
        source = "" if spec["source"] == "random" else spec["source"].get("stage", ELSEWHERE)
        shift = spec.get("shift", "weak")
        stages[name] = Stage(
            name, DATASETS[spec["dataset"]], int(spec["tokens"]), source, shift, ladder, spec["resources"]["nodes"],
            spec.get("suspend", False), pilots, compared,
        )  # fmt: skip
    bounds = campaign["bounds"]
    attempts = bounds["attemptsPerStage"] if campaign["onFailedGate"] == "advance" else 1
    cluster = next(each["spec"] for each in documents if each["kind"] == "Cluster")
    windows = tuple((hours(w["from"]), hours(w["to"])) for w in cluster["scheduler"].get("submitWindows", ()))
    tokens = float(bounds.get("tokens", math.inf))
    prunes = bool(campaign.get("retention", {}).get("prune", False))
    return Declared(stages, bounds["jobsPerAttempt"], attempts, float(bounds["nodeHours"]), tokens, windows, prunes)


def variants(rung: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(name, legs) of all that a rung may come to: itself, or its trial's mixtures in its last leg."""
    if "trial" not in rung:
        return [(rung["name"], rung["legs"])]
    mixtures = rung["trial"]["matrix"]["mixture"]
    return [(f"{rung['name']}.{name}", [*rung["legs"][:-1], {**rung["legs"][-1], "mixture": mixture}])
            for name, mixture in mixtures.items()]  # fmt: skip


def hours(clock: str) -> float:
    whole, minutes = clock.split(":")
    return int(whole) + int(minutes) / 60


def legs(spec: list[dict[str, Any]], tokens: int, buffer: list[str], sizes: dict[str, float]) -> tuple[Leg, ...]:
    """The rest of the stage's tokens is for the leg that declares none; a decay that is left at a rate (`until`) and
    continued is one, over both."""
    rest = tokens - sum(int(leg.get("tokens", 0)) for leg in spec)
    found: list[Leg] = []
    for leg in spec:
        count, decay, fallen = iterations(int(leg.get("tokens", rest))), 0, 0
        if "until" in leg["lr"]:
            decay = count
            count = next(n for n in range(1, decay) if n % SAVE_EVERY and 1 - math.sqrt(n / decay) <= part(leg["lr"]))
        elif leg["lr"]["shape"] == "continue":
            decay, fallen = found[-1].decay, found[-1].iterations
            count = decay - fallen
        mixture: dict[str, float] = {}
        for term, weight in leg["mixture"].items():
            parts = {term: 1.0}
            if term == "buffer":
                whole = sum(sizes[symbol] for symbol in buffer)
                parts = {symbol: sizes[symbol] / whole for symbol in buffer}
            for symbol, share in parts.items():
                mixture[symbol] = mixture.get(symbol, 0.0) + float(weight) * share
        share = int(str(leg["lr"].get("warmup", "0%")).removesuffix("%")) / 100
        found.append(Leg(count, leg["lr"]["shape"], math.ceil(share * count), mixture, fallen, decay))
    return tuple(found)


def part(rate: dict[str, str]) -> float:
    """`until: lrMax/3` as a share of the top rate."""
    return 1 / float(rate["until"].removeprefix("lrMax/"))


def texts_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
