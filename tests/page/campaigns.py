"""Campaigns for the report's tests, as looks at a cluster: carried out by hand, with logs that look like training."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.domain.loading import load
from reconciler.model.observed import LogPoint, LogWindow, TrainLog
from reconciler.model.plan import Action, ActionKind
from reconciler.page.content import Page, content_of
from reconciler.page.curves import POINTS_MAX
from reconciler.page.links import Forge, Places
from reconciler.planner.desired import Desired
from tests.planner.world import NOW_S, SITE, World, iterations_of, quickstart, rate

GITHUB = Forge("https://github.com/example/cpt", "/commit/{commit}", "/blob/{commit}/{file}#L{line}")
LOSSES = (
    {"val-D0": 2.31, "val-D1": 2.95, "val-D2": 3.42, "val-D3": 3.88},
    {"val-D0": 2.33, "val-D1": 2.52, "val-D2": 3.31, "val-D3": 3.71},
    {"val-D0": 2.71, "val-D1": 2.77, "val-D2": 2.05, "val-D3": 3.35},
    {"val-D0": 2.41, "val-D1": 2.55, "val-D2": 2.21, "val-D3": 3.22},
    {"val-D0": 2.43, "val-D1": 2.57, "val-D2": 2.24, "val-D3": 2.41},
)


def auroragpt() -> Desired:
    """The AuroraGPT campaign as it is shipped, with lists of whatever content."""
    files = sorted((Path(__file__).parents[2] / "manifests" / "auroragpt-v1").glob("*.yaml"))
    loaded = load([(file.name, re.sub(r"(?m)^ +sha256: .*$", "", file.read_text()).encode()) for file in files])
    assert loaded.ok, loaded.problems
    return Desired(loaded.catalog, "auroragpt-v1", "c" * 40, False, SITE)


def wavy(number: int) -> float:
    """Noise that is the same on every run, between -1 and 1."""
    return math.sin(number * 12.9898) * math.cos(number * 78.233)


def training_log(action: Action, iterations: int, start: float, end: float, windows: int = 64) -> TrainLog:
    """A log that falls from `start` to `end`, one that no launcher wrote."""
    width = max(1, math.ceil(iterations / windows))

    def loss(at: int) -> float:
        return end + (start - end) * math.exp(-5 * at / iterations) + 0.02 * wavy(at)

    found = []
    for first in range(1, iterations + 1, width):
        last = min(iterations, first + width - 1)
        mean = (loss(first) + loss(last)) / 2
        found.append(LogWindow(first, last, mean, mean - 0.04, mean + 0.05, rate(action, last), last - first + 1, 0))
    ends = tuple(LogPoint(at, loss(at), rate(action, at)) for at in range(max(1, iterations - 19), iterations + 1))
    begins = tuple(LogPoint(at, loss(at), rate(action, at)) for at in range(1, min(20, iterations) + 1))
    return TrainLog(
        str(action.key), first=begins, last=ends, windows=tuple(found), saved=(iterations,), seconds_per_iteration=0.5
    )


class Told(World):
    """A world whose jobs run one after the other, and whose logs have curves."""

    def stage(self, losses: Mapping[str, float], start: float, end: float) -> None:
        """Carry out actions until a verdict is written."""
        while True:
            action = self.the_action()
            kind = self.carry_out(losses)
            if kind is ActionKind.TRAIN:
                self.leg(action, logs=(training_log(action, iterations_of(action), start, end),))
            self.spread()
            if kind is ActionKind.JUDGE:
                return

    def spread(self) -> None:
        """Give each job hours of its own, the last one ending a while ago."""
        at = NOW_S - 3600
        for place, job in reversed(list(enumerate(self.jobs))):
            took = 1200 if job.key and "/train" in job.key else 120
            self.jobs[place] = replace(job, queued_s=at - took - 240, started_s=at - took, ended_s=at, nodes=2)
            at -= took + 300


def story(*, running: bool = True) -> Told:
    """Stages 1 and 2 are done, stage 3 forgot and fell back; stage 4 is trained, or about to be."""
    world = Told(quickstart())
    world.stage(LOSSES[0], 5.5, 2.35)
    world.stage(LOSSES[1], 2.9, 2.45)
    world.stage(LOSSES[2], 3.2, 2.0)
    world.stage(LOSSES[3], 2.65, 2.2)
    if not running:
        world.stage(LOSSES[4], 2.6, 2.1)
        return world
    action = world.until(ActionKind.TRAIN)
    world.spread()
    world.submit(action)
    world.jobs[-1] = replace(world.jobs[-1], queued_s=NOW_S - 3300, started_s=NOW_S - 3000, nodes=2)
    world.leg(action, logs=(training_log(action, iterations_of(action) * 2 // 5, 2.6, 2.3),))
    return world


def page_of(world: World, points_max: int = POINTS_MAX, places: Places | None = None) -> Page:
    """The report of a world."""
    desired = world.desired
    places = places or Places(desired.revision, GITHUB, frozenset({desired.revision}))
    return content_of(desired, world.look(), world.plan(), places, "the cluster", points_max)
