"""A cluster that is not there: what one look at it finds, and how that changes when actions are carried out. Pure.

Every job is taken, waits, runs and ends as assumed. What is looked at has the shape of a real look, so the planner that
decides here is the one that decides on a supercomputer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.domain.trial import rung_of
from reconciler.model.external import NoNumber, metric
from reconciler.model.gates import ExternalGate
from reconciler.model.manifests import StageManifest
from reconciler.model.observed import (
    AttemptSeen,
    EvaluationSeen,
    FolderSeen,
    Job,
    JobState,
    LegSeen,
    ListSeen,
    Observed,
    Receipt,
)
from reconciler.model.plan import Action, ActionKey, ActionKind
from reconciler.planner import drift
from reconciler.planner.desired import Desired
from reconciler.planner.evidence import FINAL_VERDICT
from reconciler.planner.lists import read_lists
from reconciler.planner.strays import recipe_of
from reconciler.simulate import given, jobs
from reconciler.simulate.assumptions import Assumptions, Gate

HOST: Final = "simulated"
KILLED_STATUS: Final = 271
"""PBS's exit status of a job that was killed by signal 15."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A job that is queued or runs, with what will have come of it."""

    action: Action
    job_id: str
    starts_s: float
    ends_s: float
    ran: jobs.Ran
    killed: bool


@dataclass(slots=True)
class Cluster:
    """Grows as actions are carried out; nothing but its own clock makes it older."""

    desired: Desired
    assumed: Assumptions
    now_s: float
    jobs: list[Job] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    attempts: dict[tuple[str, str], AttemptSeen] = field(default_factory=dict)
    flights: list[Flight] = field(default_factory=list)
    applied: str | None = None
    lists: Mapping[str, ListSeen] = field(init=False)
    folders: Mapping[str, FolderSeen] = field(init=False)

    def __post_init__(self) -> None:
        self.lists, self.folders = given.lists(self.desired), given.folders(self.desired)

    def look(self) -> Observed:
        """What one look finds now."""
        return Observed(
            self.now_s,
            HOST,
            tuple(self.jobs),
            tuple(self.attempts.values()),
            tuple(self.receipts),
            self.lists,
            self.applied,
            folders=self.folders,
        )

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what a plan says: jobs are submitted, verdicts are written."""
        self.applied = drift.applied_text(self.desired)
        for action in actions:
            key = (action.key.stage, action.key.attempt)
            recipe = next((f.text for f in action.files if f.path.endswith("/recipe.json")), None)
            self.attempts.setdefault(key, AttemptSeen(*key, recipe))
            job_id = self._submit(action) if action.job is not None else None
            self.receipts.append(Receipt(str(action.key), self.now_s, True, job_id, commit=self.desired.revision))
            if action.key.kind is ActionKind.JUDGE:
                text = next(f.text for f in action.files if "/verdicts/" in f.path)
                self.attempts[key] = replace(self.attempts[key], verdicts={FINAL_VERDICT: text})

    def _submit(self, action: Action) -> str:
        assert action.job is not None  # noqa: S101
        number, every = len(self.jobs) + 1, self.assumed.job_fails_every
        killed = every is not None and number % every == 0
        ran = jobs.duration(self.desired, self.assumed, action, killed=killed)
        starts_s = self.now_s + self.assumed.queue_wait_s
        job_id = f"{number}.{HOST}"
        self.flights.append(Flight(action, job_id, starts_s, starts_s + ran.seconds, ran, killed))
        asked = action.job
        job = Job(job_id, asked.name, JobState.QUEUED, "Q", str(action.key), queue=asked.queue, nodes=asked.nodes)
        self.jobs.append(replace(job, queued_s=self.now_s))
        return job_id

    @property
    def next_end_s(self) -> float | None:
        """When the next job ends; None if none is queued or runs."""
        return min((flight.ends_s for flight in self.flights), default=None)

    def until(self, now_s: float) -> None:
        """Let the time pass."""
        self.now_s = now_s
        for flight in sorted(self.flights, key=lambda flight: flight.ends_s):
            at = next(i for i, job in enumerate(self.jobs) if job.job_id == flight.job_id)
            if flight.starts_s <= now_s:
                self.jobs[at] = replace(self.jobs[at], state=JobState.RUNNING, letter="R", started_s=flight.starts_s)
            if flight.ends_s <= now_s:
                status, how = (KILLED_STATUS, "killed half-way, as assumed") if flight.killed else (0, "")
                ended = {"exit_status": status, "substate": 92, "comment": how, "ended_s": flight.ends_s}
                self.jobs[at] = replace(self.jobs[at], state=JobState.FINISHED, letter="F", **ended)  # type: ignore[arg-type]
                self._leave(flight)
        self.flights = [flight for flight in self.flights if flight.ends_s > now_s]

    def _leave(self, flight: Flight) -> None:
        """What a job that has ended left on the file system."""
        action = flight.action
        key = (action.key.stage, action.key.attempt)
        seen = self.attempts[key]
        seen = replace(seen, ran=(*seen.ran, str(action.key)))
        match action.key.kind:
            case ActionKind.TRAIN:
                gate = self._gate(*key)
                seen = self._leg(seen, action.key, jobs.trained(
                    self.desired, action, _leg_of(seen, action.key.leg), flight.ran, gate, killed=flight.killed
                ))  # fmt: skip
            case ActionKind.CONVERT if not flight.killed:
                recipe = recipe_of(key[0], seen)
                made = replace(_leg_of(seen, 0), converted=recipe.source.iteration if recipe is not None else 1)
                seen = self._leg(seen, action.key, made)
            case ActionKind.EVALUATE if not flight.killed:
                seen = replace(seen, evaluations=(*seen.evaluations, self._evaluated(action.key)))
            case _:
                pass
        self.attempts[key] = seen

    def _leg(self, seen: AttemptSeen, key: ActionKey, leg: LegSeen) -> AttemptSeen:
        legs = {each.index: each for each in seen.legs} | {key.leg: leg}
        return replace(seen, legs=tuple(legs[index] for index in sorted(legs)))

    def _evaluated(self, key: ActionKey) -> EvaluationSeen:
        _, leg, iteration = key.detail.split("-")
        at_source = int(iteration) == 0
        gate = None if at_source else self._gate(key.stage, key.attempt)
        found = jobs.losses(self.desired, self._stage(key.stage), gate)
        names = read_lists(self.desired, self.look()).validation
        return EvaluationSeen(int(leg), int(iteration), {names[name]: loss for name, loss in found.items()}, str(key))

    def _stage(self, name: str) -> StageManifest:
        return self.desired.catalog.stage(self.desired.campaign, name)

    def _gate(self, stage: str, attempt: str) -> Gate | None:
        """What an attempt fails by, if it is assumed to."""
        recipe = recipe_of(stage, self.attempts[stage, attempt])
        manifest = self._stage(stage)
        if recipe is None:
            return None
        strategies = [found.strategy for (of, _), seen in self.attempts.items()
                      if of == stage and (found := recipe_of(of, seen)) is not None]  # fmt: skip
        rungs = [(rung_of(manifest, name), name) for name in strategies]
        begun = tuple(rung.name if rung is not None else name for rung, name in rungs)
        return jobs.fails_by(self.desired, self.assumed, manifest, recipe, begun)

    def harnesses_write(self, stage: str, attempt: str) -> None:
        """Every evaluation harness that a gate asks for writes a number that passes."""
        seen, manifest = self.attempts[stage, attempt], self._stage(stage)
        asked = (manifest.spec.gates or self.desired.spec.gates).external
        self.attempts[stage, attempt] = replace(seen, external=_files(asked))


def _files(asked: Sequence[ExternalGate]) -> dict[str, str]:
    """Name → text; gates that read one file find each its number in it."""
    files: dict[str, str] = {}
    for gate in asked:
        value: object = float(gate.at_least if gate.at_least is not None else gate.at_most or 0)
        for name in reversed(gate.metric):
            value = {name: value}
        if gate.name not in files or isinstance(metric(files[gate.name], gate.metric), NoNumber):
            files[gate.name] = json.dumps(_joined(json.loads(files.get(gate.name, "{}")), value))
    return files


def _joined(one: object, other: object) -> object:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{name: _joined(one.get(name), value) for name, value in other.items()}}


def _leg_of(seen: AttemptSeen, index: int) -> LegSeen:
    return next((leg for leg in seen.legs if leg.index == index), LegSeen(index))
