"""The forgetting and the continuity gate with default settings, on what a small real trainer logs.

    python benchmarks/gates.py [--seeds 50]

Every seed draws its own languages, trains a model on the first (D0) with the local trainer's own network, optimizer,
token files and samples, and then

- goes on with D1 in ways that do and do not forget D0 by construction, and judges the rise of frozen losses on D0;
- loads the checkpoint rightly and wrongly, trains 20 iterations, and judges their losses; with the data that went
  before, with other data, and by the frozen losses alone, as `gates.continuity.conversion` does.

A language has, for every two tokens, four that may follow, so that order and both layers matter. Prints
Markdown tables; `docs/gates.md` has them with what they do not show.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reconciler.domain import gates
from reconciler.local import indexed
from reconciler.local.trainer import network, samples
from reconciler.local.trainer.partitions import Optimizer, Rates
from reconciler.model.gates import ContinuityGate, ForgettingGate
from reconciler.model.observed import LogPoint, TrainLog
from reconciler.model.verdict import Level

TOKENS = 16
"""Of one language."""
SIZES = network.Sizes(layers=2, hidden=32, heads=4, kv_heads=4, ffn=88, vocabulary=128, seq=24, rope_theta=10_000.0)
BATCH, PRETRAINING, STAGE, HELD_OUT = 8, 400, 80, 64
RATE, WARMUP = 4e-3, 50
DOCUMENTS, DOCUMENT_TOKENS = 400, 160
CONVERSION = 0.01
"""Nats; what `gates.continuity.conversion` is set to here."""


# --- languages and their files


@dataclass(frozen=True)
class Language:
    """What may follow two tokens, and how likely."""

    followers: NDArray[np.int64]
    first: int
    """Its tokens are this one and the `TOKENS` - 1 after it."""

    @classmethod
    def drawn(cls, draw: np.random.Generator, first: int = 0) -> Language:
        return cls(draw.integers(0, TOKENS, (TOKENS, TOKENS, 4)), first)

    def contradicted(self, draw: np.random.Generator, share: float) -> Language:
        """The same, but after so many pairs of tokens others follow."""
        changed = draw.random((TOKENS, TOKENS, 1)) < share
        return Language(np.where(changed, Language.drawn(draw).followers, self.followers), self.first)

    def documents(self, draw: np.random.Generator, count: int) -> Iterator[NDArray[np.int64]]:
        choices = draw.choice(4, size=(count, DOCUMENT_TOKENS), p=(0.6, 0.25, 0.1, 0.05))
        starts = draw.integers(0, TOKENS, (count, 2))
        text = np.empty((count, DOCUMENT_TOKENS), dtype=np.int64)
        text[:, :2] = starts
        for place in range(2, DOCUMENT_TOKENS):
            text[:, place] = self.followers[text[:, place - 2], text[:, place - 1], choices[:, place]]
        yield from text + self.first


@dataclass(frozen=True)
class Corpus:
    """Token files of one language in a folder: to train on, and to hold out."""

    training: Path
    held_out: torch.Tensor

    @classmethod
    def written(cls, language: Language, draw: np.random.Generator, prefix: Path) -> Corpus:
        indexed.write(prefix, language.documents(draw, DOCUMENTS), np.uint16)
        rows = np.stack([text[: SIZES.seq + 1] for text in language.documents(draw, HELD_OUT)])
        return cls(prefix, torch.from_numpy(rows))


def mixture(shares: Mapping[Path, float], iterations: int) -> samples.Blend:
    text = "".join(f"{share} {prefix} {prefix.name}\n" for prefix, share in shares.items())
    blend = samples.open_part(text, "train", "990,10,0", iterations * BATCH, SIZES.seq, 1234)
    assert blend is not None
    return blend


# --- the trainer


@dataclass
class Model:
    """Weights with their optimizer, as a job holds them."""

    optimizer: Optimizer
    iteration: int = 0
    log: list[LogPoint] = field(default_factory=list)

    @classmethod
    def random(cls, seed: int) -> Model:
        return cls(Optimizer(network.initial(SIZES, seed), 1, Rates(0.0, 0.9, 0.95, 1e-5, 0.1), clip=1.0))

    def copy(self) -> Model:
        """As after a save and a load: every shard as it was."""
        return self.like(1)

    def like(self, ranks: int) -> Model:
        """As after a conversion to another data-parallel size: whole tensors, cut anew."""
        old = self.optimizer
        new = Optimizer(dict(old.weights), ranks, copy.copy(old.groups[0].rates), clip=1.0)
        for before, after in zip(old.groups, new.groups, strict=True):
            after.rates = copy.copy(before.rates)
            for kind in ("master", "exp_avg", "exp_avg_sq"):
                after.fill(kind, before.whole(kind))
            for shard in after.shards:
                shard.step = before.shards[0].step
            after.gather()
        return Model(new, self.iteration)

    def train(self, data: samples.Blend, iterations: int, *, first: int = 0) -> Model:
        net = network.Network(SIZES, self.optimizer.weights)
        for number in range(iterations):
            self.optimizer.set_rates(RATE * min(1.0, (self.iteration + 1) / WARMUP), 0.1)
            rows = torch.from_numpy(data.batch((first + number) * BATCH, BATCH))
            self.optimizer.clear()
            loss = net.loss(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.iteration += 1
            self.log.append(LogPoint(self.iteration, round(float(loss.detach()), 6), self.optimizer.lr))
        return self

    def evaluate(self, rows: torch.Tensor) -> float:
        with torch.no_grad():
            return round(float(network.Network(SIZES, self.optimizer.weights).loss(rows)), 6)

    def weights_from(self, weights: Mapping[str, torch.Tensor]) -> Model:
        for group in self.optimizer.groups:
            group.fill("master", {name: weights[name] for name in group.layout.shapes})
            group.gather()
        return self

    def whole(self) -> dict[str, torch.Tensor]:
        return {name: w.clone() for group in self.optimizer.groups for name, w in group.whole("master").items()}


# --- forgetting


@dataclass(frozen=True)
class Course:
    """A way to go on with D1, and whether it forgets D0: what is in D1 that unlearns D0."""

    corpus: str
    replay: float
    shift: str
    forgets: bool

    @property
    def told(self) -> str:
        return f"{D1[self.corpus]}, {f'{self.replay:.0%} replay' if self.replay else 'no replay'}"


D1 = {
    "more": "more of D0's language",
    "apart": "a language with tokens of its own",
    "near": "D0's language, 10 % contradicted",
    "far": "D0's language, 30 % contradicted",
}
COURSES = (
    Course("more", 0.0, "weak", False),
    Course("more", 0.05, "weak", False),
    Course("apart", 0.25, "strong", False),
    Course("near", 0.0, "weak", True),
    Course("far", 0.05, "strong", True),
    Course("far", 0.0, "strong", True),
)


def forgetting(seed: int, base: Model, corpora: Mapping[str, Corpus], found: Counts) -> None:
    gate = ForgettingGate()
    old = corpora["D0"]
    before = {"val-D0": base.evaluate(old.held_out)}
    for course in COURSES:
        new = corpora[course.corpus]
        shares = {new.training: 1 - course.replay} | ({old.training: course.replay} if course.replay else {})
        model = base.copy().train(mixture(shares, STAGE), STAGE)
        after = {"val-D0": model.evaluate(old.held_out)}
        limits = gate.strong if course.shift == "strong" else gate.weak
        result = gates.forgetting(before, after, ("val-D0",), limits, gates.Phases.SAME)
        found.levels[course].append(result.level)
        found.rises[course].append(result.numbers["val-D0.rise"])


# --- continuity


Load = Callable[[Model, int], Model]


def moments_lost(base: Model, seed: int) -> Model:
    model = base.copy()
    for group in model.optimizer.groups:
        for shard in group.shards:
            shard.exp_avg.zero_()
            shard.exp_avg_sq.zero_()
            shard.step = 0
    return model


def random_weights(base: Model, seed: int) -> Model:
    model = moments_lost(base, seed)
    return model.weights_from(network.initial(SIZES, seed + 10_000))


def layers_swapped(base: Model, seed: int) -> Model:
    weights = base.whole()
    swap = {"layers.0.": "layers.1.", "layers.1.": "layers.0."}
    other = {name: next((name.replace(a, b) for a, b in swap.items() if a in name), name) for name in weights}
    return base.copy().weights_from({name: weights[other[name]] for name in weights})


def tokenizer_swapped(base: Model, seed: int) -> Model:
    """The same as tokens with other numbers: the rows of both embeddings change places."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(SIZES.vocabulary))
    weights = base.whole()
    for name in weights:
        if "word_embeddings" in name or "output_layer" in name:
            weights[name] = weights[name][order]
    return base.copy().weights_from(weights)


LOADS: dict[str, tuple[bool, Load]] = {
    "resumed, nothing changed": (True, lambda base, seed: base.copy()),
    "converted to 3 data-parallel ranks": (True, lambda base, seed: base.like(3)),
    "random weights": (False, random_weights),
    "wrong layer order": (False, layers_swapped),
    "swapped tokenizer": (False, tokenizer_swapped),
    "lost moments": (False, moments_lost),
}


def continuity(seed: int, base: Model, corpora: Mapping[str, Corpus], found: Counts) -> None:
    gate = ContinuityGate()
    earlier = gates.losses_before([TrainLog("", last=tuple(base.log[-20:]))], base.iteration)
    assert earlier is not None
    found.deviations.append(earlier.deviation)
    own = {"val-D0": base.evaluate(corpora["D0"].held_out)}
    for name, (_, load) in LOADS.items():
        for data in ("D0", "far"):
            model = load(base, seed)
            if data == "D0":
                converted = {"val-D0": model.evaluate(corpora["D0"].held_out)}
                exact = gates.conversion(own, converted, ("val-D0",), CONVERSION)
                found.stops[name, "frozen losses"].append(exact.level is Level.FAIL)
            same = data == "D0"
            blend = mixture({corpora[data].training: 1.0}, PRETRAINING + 20)
            model.train(blend, 20, first=PRETRAINING if same else 0)
            log = TrainLog("", first=tuple(model.log[:20]))
            result = gates.continuity(log, earlier, gate, SIZES.vocabulary, same_data=same)
            assert result is not None
            found.stops[name, data].append(result.level is Level.FAIL)
            found.loads[name, data].append(result.numbers["rise"])


# --- all of it


@dataclass
class Counts:
    """What the seeds came to."""

    levels: dict[Course, list[Level]] = field(default_factory=lambda: defaultdict(list))
    rises: dict[Course, list[float]] = field(default_factory=lambda: defaultdict(list))
    stops: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    loads: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    deviations: list[float] = field(default_factory=list)


def one(seed: int, folder: Path, found: Counts) -> None:
    draw = np.random.default_rng(seed)
    old = Language.drawn(draw)
    languages = {"D0": old, "more": old, "apart": Language.drawn(draw, TOKENS)}
    languages |= {"near": old.contradicted(draw, 0.1), "far": old.contradicted(draw, 0.3)}
    corpora = {name: Corpus.written(of, draw, folder / f"{name}-{seed}") for name, of in languages.items()}
    base = Model.random(seed).train(mixture({corpora["D0"].training: 1.0}, PRETRAINING + 20), PRETRAINING)
    forgetting(seed, base, corpora, found)
    continuity(seed, base, corpora, found)


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def tables(found: Counts, seeds: int) -> Iterator[str]:
    noise = statistics.fmean(found.deviations)
    yield f"{seeds} seeds; ln(vocabulary) {math.log(SIZES.vocabulary):.2f}; σ of the training loss {noise:.3f}\n"
    yield "| course of the stage | forgets | limits | rise, mean (min … max) | fails | warns |"
    yield "|---|---|---|---|---|---|"
    for course in COURSES:
        rises, levels = found.rises[course], found.levels[course]
        told = f"{statistics.fmean(rises):+.2f} ({min(rises):+.2f} … {max(rises):+.2f})"
        fails, warns = (percent(levels.count(level), len(levels)) for level in (Level.FAIL, Level.WARN))
        yield f"| {course.told} | {'yes' if course.forgets else 'no'} | {course.shift} | {told} | {fails} | {warns} |"
    yield ""
    yield "| load | right | stopped (rise, mean) | stopped where the data changes | frozen losses differ |"
    yield "|---|---|---|---|---|"
    for name, (good, _) in LOADS.items():
        cells = []
        for data in ("D0", "far"):
            stops = found.stops[name, data]
            cells.append(f"{percent(sum(stops), len(stops))} ({statistics.fmean(found.loads[name, data]):+.2f})")
        exact = found.stops[name, "frozen losses"]
        yield f"| {name} | {'yes' if good else 'no'} | {' | '.join(cells)} | {percent(sum(exact), len(exact))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=50)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    begun, found = time.perf_counter(), Counts()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            one(seed, Path(folder), found)
    for line in tables(found, seeds):
        print(line)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
