"""People who apply: each with a commit, a link and habits. The real `loop.look` and `loop.act` run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from reconciler import loop
from reconciler.cluster import execute, observe
from reconciler.cluster.ports import ClusterError
from reconciler.model.status import Reason
from reconciler.planner.desired import Desired
from tests.sim.campaigns import TURNS, commit
from tests.sim.link import SimulatedLink
from tests.sim.swap import swapped

if TYPE_CHECKING:
    from tests.sim.kept import Branch
    from tests.sim.world import World

RETRIED = frozenset(
    {
        Reason.JOB_DELETED,
        Reason.NO_PROGRESS,
        Reason.JOBS_EXHAUSTED,
        Reason.SUBMIT_REFUSED,
        Reason.LOST_IN_ROUTING,
        Reason.JOB_CANNOT_START,
        Reason.STARTED_FROM_RANDOM,
        Reason.LOAD_DISCONTINUOUS,
    }
)
"""Holds that a person lifts with --retry when the cause is mended."""


@dataclass(eq=False)
class Person:
    """One who looks and applies."""

    world: World
    name: str
    desired: Desired
    busy: bool = False
    old: loop.Look | None = None
    last: loop.Look | None = None
    retry: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.link = SimulatedLink(self.world, self)
        self.kept: Branch | None = None

    def one_pass(self) -> loop.Pass:
        """Look, think (for a while, at times), act."""
        world, happens = self.world, self.world.chance.happens
        self.busy = True
        try:
            if happens("person: gives --retry"):
                self.retry = frozenset(self.world.declared.stages)
            desired = replace(self.desired, retry=self.retry)
            seen = self.look(desired)
            if self.old is not None and happens("person: acts on an old look"):
                world.say(f"{self.name} acts on an old look")
                self.act(desired, self.old)
            self.old = seen
            done = self.act(desired, seen)
            self.last, self.retry = seen, frozenset()
            return done
        finally:
            self.busy = False

    def takes(self, letter: str) -> None:
        """Another commit."""
        self.desired, self.old = commit(self.world.campaign, letter)[0], None
        self.world.check.ladders_turned += 1
        self.world.say(f"{self.name} takes commit {letter}")

    def moves_a_rung_up(self, told: str) -> bool:
        """As the message says: in a commit; False if the rung is at the top already."""
        found = re.search(r"move (\S+) to the top of the ladder of (\S+) in a commit", told)
        if found is None:
            return False
        rung, stage = found.groups()
        turned = TURNS[self.desired.revision[0]] ^ {stage}
        letter = next(letter for letter, stages in TURNS.items() if stages == turned)
        self.takes(letter)
        return next(iter(self.world.declared_at(letter).stages[stage].ladder)) == rung

    def chooses(self, told: str) -> None:
        """The variant that comes first in the message, in a commit; where it tells no losses, the better one."""
        found = re.search(r"tokens of the same curve: mixes\.(\w+) \d", told)
        self.takes("u" if found is not None and found[1] == "naive" else "t")

    def look(self, desired: Desired) -> loop.Look:
        with self.world.speaking(self):
            seen = loop.look(desired, self.link, by=None)
        self.world.check.looked(self, seen, self.link.blind)
        actions = [str(action.key).split("/", 1)[1] for action in seen.plan.actions]
        told = [f"{stage.stage} {stage.phase}/{stage.reason}" for stage in seen.plan.stages]
        self.world.say(
            f"{self.name} sees {', '.join(told)}; would do {actions}" + (" REFUSED" if seen.plan.refusals else "")
        )
        for stage in seen.plan.stages:
            self.world.chance.counts[f"reason: {stage.reason}"] += 1
            if stage.reason in (Reason.EXTERNAL_AWAITED, Reason.EXTERNAL_UNREADABLE):
                self.asks_harness(stage.message)
        return seen

    def asks_harness(self, told: str) -> None:
        """As the message says: its result is written where it is waited for, and not always whole."""
        found = re.search(r"(/\S+)/(\w+\.json)", told)
        assert found is not None, told
        result = b'{"results": {"score": 0.7}}'
        if self.world.chance.happens("person: writes half of a harness's result"):
            result = result[: self.world.chance.of("hands").randrange(len(result))]
        if not self.world.disk.full:
            self.world.disk.makedirs(found[1])
            self.world.disk.place(f"{found[1]}/{found[2]}", result)
            self.world.say(f"{self.name} writes {found[1]}/{found[2]}: {result!r}")

    def act(self, desired: Desired, seen: loop.Look) -> loop.Pass:
        world = self.world
        if not seen.plan.refusals:
            world.check.retries(desired.retry)
        with world.speaking(self):
            try:
                done = loop.act(desired, self.link, seen)
            except ClusterError as error:  # the command says so and ends; the next one begins with a look
                done = loop.Pass(seen, (), error.message)
        for outcome in done.outcomes:
            world.say(
                f"{self.name}: {outcome.key.split('/', 1)[1]} {outcome.kind} {outcome.job_id or ''} {outcome.message}"
            )
            world.chance.counts[f"outcome: {outcome.kind}"] += 1
            world.chance.counts[f"action: {outcome.key.split('/')[5]}"] += 1
        if self.kept is not None:
            self.kept.follows(desired, done)
        if done.unknown:
            world.say(f"{self.name} is told: {done.unknown}")
            self.unlock(desired, done.unknown)
        return done

    def unlock(self, desired: Desired, told: str) -> None:
        """As the message says, once the holder is certainly no longer running."""
        found = re.search(r"reconcile unlock ([0-9a-f]+)", told)
        if found is None or self.world.lock_holder_runs():
            return
        self.world.check.unlocks += 1
        with self.world.speaking(self):
            try:
                self.world.say(f"{self.name} unlocks: {execute.unlock(self.link, desired.site.workspace, found[1])}")
                self.world.chance.counts["person: unlocks"] += 1
            except ClusterError as error:
                self.world.say(f"{self.name} cannot unlock: {error.message}")


@contextmanager
def deterministic(world: World) -> Iterator[None]:
    """What the reconciler takes from its own machine (nonces, names) comes from the simulation."""

    def token(size: int) -> str:
        world.nonces += 1
        return f"{world.nonces:0{2 * size}x}"

    speaker = SimpleNamespace
    changed = {
        (observe, "secrets"): speaker(token_hex=token),
        (execute, "secrets"): speaker(token_hex=token),
        (loop, "getpass"): speaker(getuser=lambda: world.people[world.current].name),
        (loop, "socket"): speaker(gethostname=lambda: "desk"),
        (loop, "os"): speaker(getpid=lambda: 1, environ={}),
    }
    with swapped(changed):
        yield
