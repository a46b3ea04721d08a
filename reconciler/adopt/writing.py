"""Runs that are adopted → the text of their manifests, every inferred value with where it is from. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.adopt.course import PlainLeg, legs_of, named_rate
from reconciler.adopt.facts import Fact, Known, real, whole
from reconciler.adopt.launcher_names import VOCABULARIES
from reconciler.adopt.runs import Adopted, Trained
from reconciler.model.commented import documents
from reconciler.model.legacy import DataFound
from reconciler.model.manifests import API_VERSION, ClusterManifest
from reconciler.model.observed import ListSeen
from reconciler.model.quantities import counted, format_tokens, format_walltime

FILES: Final = ("model.yaml", "datasets.yaml", "campaign.yaml", "stages.yaml")
HEAD_CHANNELS: Final = 128
COPY_BYTES_MAX: Final = 1_000_000
"""A longer data list is pinned by its digest and not copied."""
STRATEGY: Final = "as-trained"
SHORT: Final = 6


@dataclass(frozen=True, slots=True)
class Place:
    """Where the campaign runs, and what its objects may be called."""

    cluster: ClusterManifest
    checkout: str
    """Absolute; what a job's relative paths count from."""
    workspace: str
    campaign: str
    taken: frozenset[str] = frozenset()
    """Names of Models and Datasets that other manifests have."""

    def free(self, name: str) -> str:
        """A name that no other manifest has."""
        wanted = f"{self.campaign}-{name}" if name in self.taken else name
        return wanted[:63].rstrip("-.")


def list_paths(adopted: Adopted, place: Place) -> dict[str, str]:
    """Run's folder → absolute path of its data list; empty where nothing names one."""
    return {run.run.folder: _list_path(run.known, place) for run in adopted.runs}


def _list_path(known: Known, place: Place) -> str:
    path = known.text("data_list").removeprefix("./")
    return path if path.startswith("/") or not path else f"{place.checkout}/{path}"


def manifests(adopted: Adopted, place: Place, data: Mapping[str, DataFound], origin: str) -> dict[str, str]:
    """File name → text. `data` is what was found of the lists that `list_paths` names.

    Raises:
        NotSaid: a run that no stage can stand for.
    """
    return _Writer(adopted, place, data, origin).files()


class _Writer:
    def __init__(self, adopted: Adopted, place: Place, data: Mapping[str, DataFound], origin: str) -> None:
        self.runs, self.place, self.data, self.origin = adopted.runs, place, data, origin
        self.paths = list_paths(adopted, place)
        self.lists = list(dict.fromkeys(self.paths[run.run.folder] for run in self.runs))
        self.names = [place.free(f"{place.campaign}-d{number}") for number in range(len(self.lists))]
        last = self.runs[-1]
        self.known = last.known
        self.peak = max(run.course.peak for run in self.runs)
        self.final = min(run.course.low for run in self.runs)

    def files(self) -> dict[str, str]:
        """Every file."""
        stages = [self.stage(number) for number in range(len(self.runs))]
        told = (
            f"# Written by `reconcile adopt {self.origin}`.\n"
            "# A comment behind a value says where it was found. What is marked TODO was told by nothing.\n"
        )
        found = {
            "model.yaml": documents([self.model()], told + "# What the run's checkpoints were made with.\n"),
            "datasets.yaml": documents([self.dataset(number) for number in range(len(self.lists))], told),
            "campaign.yaml": documents([self.campaign()], told),
            "stages.yaml": documents(stages, told),
        }
        for name, path in zip(self.names, self.lists, strict=True):
            seen = self.data[path].seen if path in self.data else None
            if isinstance(seen, ListSeen) and len(seen.text) <= COPY_BYTES_MAX:
                found[f"lists/{name}.txt"] = seen.text
        return found

    # --- Model

    def model(self) -> dict[str, Any]:
        architecture = {
            "name": self.fact("model_arch", "7B", "TODO: no name of the launcher's has these sizes; 7B reads them all"),
            "layers": self.integer("layers"),
            "hidden": self.integer("hidden"),
            "heads": self._heads(),
            "kvHeads": self._kv_heads(),
            "ffnHidden": self._ffn(),
            "ropeTheta": self.integer("rope_theta"),
            "vocabulary": self._vocabulary(),
        }
        spec = {
            "architecture": architecture,
            "tokenizer": {"type": self.fact("tokenizer_type"), "model": self.fact("tokenizer_model")},
            "sequenceLength": self.integer("sequence_length"),
            "batch": {"global": self.integer("global_batch"), "micro": self.integer("micro_batch")},
            "optimizer": {
                "name": self.fact("optimizer"),
                "beta1": self.number("beta1"),
                "beta2": self.number("beta2"),
                "eps": self.number("eps"),
                "weightDecay": self.number("weight_decay"),
                "clipGrad": self.number("clip_grad"),
            },
            "precision": self.fact("precision"),
            "parallelism": {
                "tensor": self.integer("tensor"),
                "pipeline": self.integer("pipeline"),
                "zeroStage": self.integer("zero_stage"),
            },
            "seed": self.integer("seed"),
            "checkpointEvery": self.integer("checkpoint_every"),
            "validation": {"sets": [self._held_out(number) for number in range(len(self.lists))]},
        }
        return self._object("Model", self.model_name, spec)

    @property
    def model_name(self) -> str:
        return self.place.free(self.place.campaign)

    def fact(self, name: str, otherwise: str = "", why: str = "TODO: nothing tells it") -> Fact:
        return self.known.fact(name) or Fact(otherwise, why)

    def integer(self, name: str) -> Fact:
        fact = self.known.fact(name)
        value = whole(fact.value) if fact is not None else None
        return Fact(value, fact.source) if fact is not None and value is not None else Fact(1, "TODO: nothing tells it")

    def number(self, name: str) -> Fact:
        fact = self.fact(name)
        value = real(fact.value)
        return Fact(_decimal(0.0 if value is None else value), fact.source)

    def _heads(self) -> Fact:
        hidden = whole(self.integer("hidden").value) or HEAD_CHANNELS
        guess = Fact(
            max(1, hidden // HEAD_CHANNELS), f"TODO: nothing tells it; {HEAD_CHANNELS} channels a head assumed"
        )
        return self.integer("heads") if self.known.integer("heads") else guess

    def _kv_heads(self) -> Fact:
        return self.integer("kv_heads") if self.known.integer("kv_heads") else _todo(self._heads(), "as many as heads")

    def _ffn(self) -> Fact:
        if self.known.integer("ffn_hidden"):
            return self.integer("ffn_hidden")
        return Fact(
            4 * (whole(self.integer("hidden").value) or 1), "TODO: nothing tells it; four times the width assumed"
        )

    def _vocabulary(self) -> Fact:
        if self.known.integer("vocabulary"):
            return self.integer("vocabulary")
        tokenizer = self.known.text("tokenizer_model")
        if tokenizer in VOCABULARIES:
            return Fact(VOCABULARIES[tokenizer], f"that of {tokenizer}")
        if self.known.integer("padded_vocabulary"):
            padded = self.integer("padded_vocabulary")
            return Fact(padded.value, f"TODO: padded; the tokenizer's own is a little smaller. {padded.source}")
        return Fact(32000, "TODO: nothing tells it; the size of the tokenizer's vocabulary")

    def _held_out(self, number: int) -> dict[str, Any]:
        """Nobody held anything out when the run was made."""
        path = f"{self.place.workspace}/validation/{self.place.campaign}/D{number}.txt"
        todo = f"TODO: a list of documents held out of D{number}; needed by the first stage that trains after these"
        where = {self.place.cluster.metadata.name: {"path": Fact(path, todo)}}
        return {"name": f"val-D{number}", "of": f"D{number}", "samples": 1024, "lists": where}

    # --- Datasets

    def dataset(self, number: int) -> dict[str, Any]:
        path, name = self.lists[number], self.names[number]
        drew = [run for run in self.runs if self.paths[run.run.folder] == path]
        found = self.data.get(path)
        drawn = max(run.tokens for run in drew)
        tokens = Fact(_tokens(drawn), "TODO: its size; taken to be what the run drew, one pass over it")
        if found is not None and found.tokens:
            tokens = Fact(_tokens(found.tokens), "from the .idx files that the list names")
        named = drew[0].known.fact("data_list")
        entry: dict[str, Any] = {"path": Fact(path, named.source if named is not None else "")}
        if not path:
            guess = f"{self.place.checkout}/ALCF/data-lists/{self.place.cluster.spec.launcher.machine}/dolma.txt"
            entry = {
                "path": Fact(guess, "TODO: nothing names the data list; this is the launcher's own when it is not set")
            }
        if found is not None and isinstance(found.seen, ListSeen):
            copied = f"; a copy is in lists/{name}.txt" if len(found.seen.text) <= COPY_BYTES_MAX else ""
            entry["sha256"] = Fact(found.seen.sha256, f"as it was when the run was adopted{copied}")
        spec = {
            "symbol": f"D{number}",
            "tokens": tokens,
            "tokenizer": {"type": self.fact("tokenizer_type").value, "model": self.fact("tokenizer_model").value},
            "lists": {self.place.cluster.metadata.name: entry},
        }
        return self._object("Dataset", name, spec)

    # --- Campaign and stages

    def campaign(self) -> dict[str, Any]:
        peak = max(self.runs, key=lambda run: run.course.peak).known.fact("rate")
        lowest = min(self.runs, key=lambda run: run.course.low).known.fact("rate_min")
        spec = {
            "model": self.model_name,
            "cluster": self.place.cluster.metadata.name,
            "stages": [f"stage-{number + 1}" for number in range(len(self.runs))],
            "learningRate": {
                "max": Fact(_decimal(self.peak), peak.source if peak is not None else ""),
                "final": Fact(_decimal(self.final), lowest.source if lowest is not None else ""),
            },
            "bounds": {
                "nodeHours": Fact(
                    _decimal(float(self.place.cluster.spec.allocation.node_hours)), "the cluster's allocation"
                )
            },
        }
        return self._object("Campaign", self.place.campaign, spec)

    def stage(self, number: int) -> dict[str, Any]:
        run = self.runs[number]
        legs = self.legs(run)
        saved: dict[str, Any] = {
            "path": run.run.folder,
            "iteration": Fact(run.save.iteration, "the newest complete checkpoint there"),
            "format": "universal" if run.save.universal else "zero",
        }
        if run.save.inside is not None:
            saved["iteration"] = Fact(run.save.iteration, f"{self._form(run)}, whole")
        saved["dataParallel"] = Fact(run.save.data_parallel, "from its optimizer shards")
        if run.save.universal:
            ranks = run.known.integer("data_parallel")
            known = run.known.fact("data_parallel")
            saved["dataParallel"] = Fact(
                1, "TODO: on how many data-parallel ranks it ran; a universal one loads at any"
            )
            if ranks and known is not None:
                saved["dataParallel"] = Fact(ranks, f"{known.source}; being universal, it loads at any")
        symbol = f"D{self.lists.index(self.paths[run.run.folder])}"
        spec = {
            "campaign": self.place.campaign,
            "dataset": self.names[self.lists.index(self.paths[run.run.folder])],
            "tokens": Fact(_tokens(run.tokens), f"{run.iterations} iterations of {run.tokens_per_iteration}"),
            "source": self._source(run),
            "adopted": saved,
            "strategies": [{"name": STRATEGY, "legs": [_leg(run, leg, symbol) for leg in legs]}],
            "resources": self._resources(run),
        }
        return self._object("Stage", f"stage-{number + 1}", spec)

    @staticmethod
    def _form(run: Trained) -> str:
        return f"global_step{run.save.iteration}" + ("_universal" if run.save.universal else "")

    def legs(self, run: Trained) -> Sequence[PlainLeg]:
        peak, low = run.known.fact("rate"), run.known.fact("rate_min")
        assert peak is not None and low is not None  # noqa: S101  # there is always the launcher's default
        rates = (
            named_rate(run.course.peak, peak, "lrMax", self.peak),
            named_rate(run.course.low, low, "lrFinal", self.final),
        )
        return legs_of(run.course, run.length, rates)

    def _source(self, run: Trained) -> Any:
        if run.parent is not None:
            stage = f"stage-{self.runs.index(run.parent) + 1}"
            return {"stage": Fact(stage, run.start.source), "checkpoint": "final"}
        if not run.start.folder:
            return Fact("random", run.start.source)
        iteration = Fact(run.start.iteration, run.start.source)
        if not run.start.iteration:
            iteration = Fact(1, "TODO: which iteration of it was loaded")
        return {
            "path": Fact(run.start.folder, run.start.source),
            "checkpoint": {"iteration": iteration},
            "format": "zero",
        }

    def _resources(self, run: Trained) -> dict[str, Any]:
        known, ranks = run.known, self.place.cluster.spec.node.ranks
        nodes = known.fact("nodes")
        if nodes is None:
            cut = max(1, (known.integer("tensor") or 1) * (known.integer("pipeline") or 1))
            world = known.integer("world_size") or (known.integer("data_parallel") or run.save.data_parallel or 1) * cut
            nodes = Fact(max(1, math.ceil(world / ranks)), f"{counted(world, 'rank')} over {ranks} a node")
        seconds = known.fact("walltime_s")
        walltime = Fact(
            format_walltime(int(self.place.cluster.spec.scheduler.max_walltime)),
            "the queue's longest; nothing is submitted for an adopted stage",
        )
        if seconds is not None:
            walltime = Fact(format_walltime(int(seconds.value)), seconds.source)
        return {"nodes": nodes, "walltime": walltime}

    @staticmethod
    def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _leg(run: Trained, leg: PlainLeg, symbol: str) -> dict[str, Any]:
    found: dict[str, Any] = {"mixture": {symbol: 1}}
    if leg.iterations is not None:
        found["tokens"] = Fact(_tokens(leg.iterations * run.tokens_per_iteration), f"{leg.iterations} iterations")
    lr = {name: _over(run, fact) if name == "over" else fact for name, fact in leg.lr}
    return found | {"lr": lr}


def _over(run: Trained, fact: Fact) -> Fact:
    """The length of a decay in tokens."""
    return Fact(_tokens(int(fact.value) * run.tokens_per_iteration), fact.source)


def _todo(fact: Fact, why: str) -> Fact:
    return Fact(fact.value, f"TODO: nothing tells it; {why} assumed")


def _tokens(tokens: int) -> str | int:
    """As people write it, where that is exact and short."""
    text = format_tokens(tokens)
    return text if len(text) <= SHORT and not text.isdigit() else tokens


def _decimal(value: float) -> float | int:
    """A number that YAML prints as it was written."""
    return int(value) if value == int(value) and abs(value) < 1e15 else value
