"""A stage as a manifest, each field with what it is and what else it may be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reconciler.model.commented import Noted
from reconciler.model.manifests import API_VERSION
from reconciler.scaffold.ladder import PLATEAU, Before, Ladder, rounded, strategies, tokens_text

LEAST_COOLDOWN: Final = 20
"""The final cooldown takes at least a twentieth of all tokens (rule CPT066)."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a stage goes on from."""

    campaign: str
    dataset: str
    """Name of the new dataset."""
    source: Any
    """Its `source`, as a tree of YAML."""
    before: Before


@dataclass(frozen=True, slots=True)
class Job:
    """What one job asks for."""

    nodes: int
    walltime: str


def stage(name: str, begin: Beginning, course: Ladder, job: Job, *, of_last: int | None) -> dict[str, Any]:
    """A Stage. `of_last`: tokens of all stages where it is the last one, which cools down; None otherwise."""
    before = begin.before
    cooldown = None
    if of_last is not None and not before.rewarm:
        cooldown = rounded(min(of_last / 10, course.tokens / 2))
    spec: dict[str, Any] = {"campaign": begin.campaign, "dataset": begin.dataset}
    if before.sizes:
        shift = "strong" if course.strong else "weak"
        spec["shift"] = Noted(shift, "weak or strong: how far the new data is from the old; picks the gate's limits")
    spec["tokens"] = Noted(tokens_text(course.tokens), "of this stage: each strategy sees nearly all new data")
    spec["source"] = begin.source
    curve = _curve(before, last=of_last is not None)
    spec["strategies"] = strategies(course.rungs, curve, None if cooldown is None else tokens_text(cooldown))
    spec["resources"] = {
        "nodes": Noted(job.nodes, "of one job"),
        "walltime": Noted(job.walltime, "of one job; a stage takes as many jobs as it needs"),
    }
    if cooldown is not None and of_last is not None and cooldown * LEAST_COOLDOWN < of_last:
        spec["waive"] = [{"rule": "CPT066", "reason": "the last dataset is small beside all that comes before it"}]
    return object_of("Stage", name, spec)


def after_stage(previous: str, *, decayed: bool) -> dict[str, Any]:
    """The checkpoint of an earlier stage."""
    if decayed:
        return {"stage": previous, "checkpoint": Noted("converged", "after its decay; also: final, {iteration: 1200}")}
    return {"stage": previous, "checkpoint": Noted("pre-cooldown", "at LR max; also: converged, {iteration: 1200}")}


def dataset(
    name: str, symbol: str, tokens: int, tokenizer: tuple[str, str], lists: Mapping[str, str]
) -> dict[str, Any]:
    """A Dataset; `lists` is cluster → path of its data list there."""
    spec = {
        "symbol": Noted(symbol, "its name in mixtures; D0 is the pretraining data"),
        "tokens": Noted(tokens_text(tokens), "its size; `reconcile mix` tells what a list holds"),
        "tokenizer": {"type": tokenizer[0], "model": Noted(tokenizer[1], "must be the Model's")},
        "lists": {
            cluster: {"path": Noted(path, "with `sha256: …` a changed list is refused")}
            for cluster, path in lists.items()
        },
    }
    return object_of("Dataset", name, spec)


def object_of(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _curve(before: Before, *, last: bool) -> dict[str, Any]:
    if before.rewarm and last:
        return {
            "shape": Noted("cosine", "also: constant, cooldown"),
            "at": Noted("lrMax", "also: lrMax/2, 1e-4"),
            "to": "lrFinal",
            "warmup": "1%",
            "rewarm": Noted(True, "says that the rate is meant to rise again"),
        }
    curve: dict[str, Any] = {"shape": Noted("constant", PLATEAU)}
    if not before.sizes:
        curve["warmup"] = Noted("10%", "of the leg, from 0")
    if before.rewarm:
        curve |= {"warmup": "1%", "rewarm": Noted(True, "the checkpoint has decayed, and the rate rises again")}
    return curve
