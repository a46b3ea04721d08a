"""What a campaign's jobs really trained: the learning rate at every iteration, and the samples that were drawn."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from reconciler.local.trainer import samples

LINE = re.compile(r" iteration= *(\d+)/ *\d+ .* learning_rate=(\S+) ")
BATCH, SEQUENCE, SEED = 16, 128, 1234
WINDOW = 40
"""Bytes by which a sample's dataset is recognised: few texts share as many, and most samples hold one unbroken."""


@dataclass(frozen=True)
class Trained:
    """One leg of an attempt, as its files and logs have it."""

    folder: Path
    number: int
    recipe: dict[str, Any]

    @property
    def position(self) -> int:
        """Schedule position at its start, in iterations."""
        return int(self.recipe["legs"][self.number]["position"])

    @property
    def declared(self) -> dict[str, float]:
        """Dataset → weight, the buffer and earlier mixtures expanded."""
        mixture = self.recipe["legs"][self.number]["mixture"]
        return {symbol: float(Fraction(share)) for symbol, share in mixture.items()}

    def rates(self) -> list[float]:
        """The learning rate that was logged at every iteration; fails where one is missing."""
        found: dict[int, float] = {}
        for log in self.folder.glob(f"jobs/l{self.number}-n*-train.log"):
            found |= {int(at): float(rate) for at, rate in LINE.findall(log.read_text(errors="replace"))}
        assert sorted(found) == list(range(1, len(found) + 1)), "an iteration is not logged"
        return [found[at] for at in sorted(found)]

    def drawn(self, data: Path) -> dict[str, float]:
        """Dataset → share of the samples that the leg's iterations took from it, recognised by their text."""
        (listed,) = self.folder.glob(f"lists/leg-{self.number}-*.txt")
        wanted = BATCH * len(self.rates())
        part = samples.open_part(listed.read_text(), "train", "990,10,0", wanted, SEQUENCE, SEED)
        assert part is not None
        texts = {symbol: text_of(data, symbol) for symbol in self.declared}
        counts = dict.fromkeys(texts, 0)
        for row in part.batch(0, wanted):
            counts[origin(bytes(row.astype(np.uint8)), texts)] += 1
        return {symbol: count / wanted for symbol, count in counts.items()}


def leg(campaign: Path, stage: str, strategy: str, number: int) -> Trained:
    """One leg of the attempt that a strategy of a stage came to, by the recipe beside its checkpoints."""
    for path in sorted(campaign.glob(f"{stage}/*/recipe.json")):
        recipe = json.loads(path.read_text())
        if recipe["strategy"] == strategy:
            return Trained(path.parent, number, recipe)
    raise AssertionError(f"{stage} has no attempt of {strategy}")


def text_of(data: Path, symbol: str) -> bytes:
    """All token files of a dataset; a token of the byte tokenizer is a byte."""
    prefixes = [line.split()[1] for line in (data / f"{symbol}.txt").read_text().splitlines()]
    return b"".join(np.fromfile(f"{prefix}.bin", dtype=np.uint16).astype(np.uint8).tobytes() for prefix in prefixes)


def origin(sample: bytes, texts: dict[str, bytes]) -> str:
    """The dataset in which most windows of a sample are found."""
    windows = [sample[at : at + WINDOW] for at in range(0, len(sample) - WINDOW, WINDOW // 2)]
    found = {symbol: sum(window in text for window in windows) for symbol, text in texts.items()}
    return max(found, key=lambda symbol: found[symbol])


def sampling_error(share: float, draws: int) -> float:
    """Four standard deviations of a share of independent draws."""
    return 4 * float((share * (1 - share) / draws) ** 0.5)
