"""What the planner returns: actions with keys, waits, holds, changes, and one status per stage. Plain values."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from reconciler.model.authority import Approval
from reconciler.model.message import Message
from reconciler.model.problems import Problem
from reconciler.model.recipe import Recipe
from reconciler.model.status import StageStatus
from reconciler.model.upkeep import Retained, Upkeep
from reconciler.model.upkeep import semantic as upkeep_semantic


class ActionKind(StrEnum):
    """The closed set of effects."""

    CONVERT = "convert"
    TRAIN = "train"
    EVALUATE = "evaluate"
    JUDGE = "judge"
    """Write a verdict with every number it used."""
    STOP = "stop"
    """Ask a live job to save and exit (kill-switch file)."""
    RESTORE = "restore"
    """Write a recipe again that was taken away."""
    REPAIR = "repair"
    """Have `latest` name the newest complete checkpoint."""
    PRUNE = "prune"
    """Set folders aside that nothing needs any more."""
    DELETE = "delete"
    """Delete what was set aside."""

    @property
    def submits(self) -> bool:
        """Whether a job does it."""
        return self in (ActionKind.CONVERT, ActionKind.TRAIN, ActionKind.EVALUATE)


KINDS = frozenset(ActionKind)
KEY_PATTERN = re.compile(
    r"(?P<campaign>[a-z0-9.-]+)/(?P<stage>[a-z0-9.-]+)/(?P<attempt>[0-9a-f]{12})"
    r"/l(?P<leg>[0-9]{1,9})/n(?P<ended>[0-9]{1,9})/(?P<kind>[a-z]+)(/(?P<detail>[A-Za-z0-9.-]+))?"
)


@dataclass(frozen=True, slots=True, order=True)
class ActionKey:
    """The identity of one effect, equal on retry.

    `ended` counts the jobs of this leg and kind that have ended, so a lost answer meets its old key again and a new
    try after a dead job gets a new one.
    """

    campaign: str
    stage: str
    attempt: str
    leg: int
    ended: int
    kind: ActionKind
    detail: str = ""
    """Tells keys of one kind apart: the checkpoint that is evaluated, the gate that is judged."""

    def __str__(self) -> str:
        tail = f"/{self.detail}" if self.detail else ""
        return f"{self.campaign}/{self.stage}/{self.attempt}/l{self.leg}/n{self.ended}/{self.kind}{tail}"

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> ActionKey | None:
        """Read a key back from a job's variables or the journal; None if it is not one of ours.

        Answers are kept: one look asks for each key once for every attempt that it could be of.
        """
        found = KEY_PATTERN.fullmatch(text)
        if found is None or found["kind"] not in KINDS:
            return None
        return ActionKey(
            found["campaign"],
            found["stage"],
            found["attempt"],
            int(found["leg"]),
            int(found["ended"]),
            ActionKind(found["kind"]),
            found["detail"] or "",
        )


@dataclass(frozen=True, slots=True)
class FileWrite:
    """A file to be there with exactly this text: written whole or not at all, never over different text."""

    path: str
    """Relative to the workspace."""
    text: str
    if_absent: bool = False
    """Whatever lies there already is as good: `recipe.json` of the same digest may carry other labels."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One PBS job, before it is rendered: resources, and the commands of its body as (environment, arguments)."""

    name: str
    template: str
    """`train`, `evaluate` or `convert`: which template renders it."""
    nodes: int
    walltime_s: int
    queue: str
    account: str | None
    filesystems: tuple[str, ...]
    script: str
    """Where the script goes, relative to the workspace."""
    log: str
    """Where PBS puts the joined output, relative to the workspace."""
    values: Mapping[str, object]
    """What the template reads; every string goes through one quoting filter."""
    header: Mapping[str, str] = field(default_factory=dict)
    """For the person who opens the script at night: commit, how to stop it. Not part of the plan's digest."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training job is declared to do. Its script, read by other code, must come to the same (`agreement`)."""

    recipe: Recipe
    leg: int
    newest: int | None
    """Iteration of the leg's own checkpoint that it goes on from; None for a first job."""
    load: str
    """Absolute folder that it loads from; empty from random weights."""
    universal: bool
    """What lies there is universal."""
    data_list: str
    """Absolute path."""


@dataclass(frozen=True, slots=True)
class Action:
    """One effect with its reason. The agent re-checks `forbids_live` under its lock before it acts."""

    key: ActionKey
    reason: str
    """CamelCase code, closed set: `reconciler.model.status.Reason`."""
    summary: str
    files: tuple[FileWrite, ...] = ()
    directories: tuple[str, ...] = ()
    job: JobRequest | None = None
    remove: tuple[str, ...] = ()
    """Files to unlink first (the kill-switch file before a new job); relative to the workspace."""
    aside: tuple[str, ...] = ()
    """Folders to keep under another name first: what was found of checkpoints that are gone. By workspace path."""
    trains: Training | None = None
    """Of a training job: what it is declared to do. Its job says the same, so this is not in the digest."""
    upkeep: Upkeep | None = None
    """What is done to the attempt's folders; the agent looks again at all of it before it does."""

    def semantic(self) -> object:
        """What a reviewer agreed to, without anything volatile."""
        job = self.job
        return {
            "key": str(self.key),
            "files": {f.path: f.sha256 for f in self.files},
            "remove": list(self.remove),
            **({"aside": list(self.aside)} if self.aside else {}),
            **({} if self.upkeep is None else {"upkeep": upkeep_semantic(self.upkeep)}),
            "job": None
            if job is None
            else {
                "nodes": job.nodes,
                "walltime_s": job.walltime_s,
                "queue": job.queue,
                "account": job.account,
                "filesystems": list(job.filesystems),
                "template": job.template,
                "values": job.values,
            },
        }


@dataclass(frozen=True, slots=True)
class Change:
    """Desired differs from what was last applied, in the field's words."""

    stage: str
    path: str
    before: str
    after: str
    started: bool
    """Whether anything of the stage has been trained."""


@dataclass(frozen=True, slots=True)
class LegForecast:
    """One leg as it will run."""

    mixture: Mapping[str, str]
    """Dataset symbol → exact share, after the buffer and earlier mixtures are expanded."""
    terms: Mapping[str, str]
    """As the manifest has it."""
    tokens: int
    iterations: int
    lr: str
    """In words: `constant at 2e-3`, `1-sqrt cooldown from 2e-3 to 0`."""
    lr_curve: tuple[tuple[int, float], ...]
    """(tokens into the leg, learning rate), enough points to draw."""
    epochs: Mapping[str, float]
    """Dataset symbol → passes over it that this leg draws."""
    boundary: str = ""
    """How the rate changes where the leg begins, in words; empty where it goes on as it was."""


@dataclass(frozen=True, slots=True)
class Span:
    """From the least to the most that is expected of a number."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)


@dataclass(frozen=True, slots=True)
class TrialForecast:
    """What the pilots of a trial will still cost, on top of the variant that is chosen by them."""

    variants: tuple[str, ...]
    tokens: int
    """Of all pilots together."""
    node_hours: Span | None
    """Training and evaluations; None until a speed is declared or measured."""
    jobs: Span | None
    """Training jobs."""


@dataclass(frozen=True, slots=True)
class StageForecast:
    """What a stage will still do if nothing fails: its current rung, less what is trained of it."""

    stage: str
    strategy: str
    legs: tuple[LegForecast, ...]
    iterations: int
    """Left to train."""
    node_hours: Span | None
    """Training, evaluations and conversion; None until a speed is declared or measured."""
    jobs: Span | None
    """Training jobs."""
    hours: Span | None
    """By the clock, from the end of the stage before it: jobs, their waits in the queue, hours in which none may be
    submitted."""
    saves: int
    """Checkpoints still to be written on the interval and at ends of legs."""
    storage_bytes: Span
    """What they take; at most, each job writes one more when its time is up."""
    rests_on: Mapping[str, str] = field(default_factory=dict)
    """`speed`, `waits`, `checkpoints`: what the numbers rest on, in words."""
    trial: TrialForecast | None = None
    """What its pilots cost before that; None without a trial, or once it is decided."""


@dataclass(frozen=True, slots=True)
class CampaignForecast:
    """What is spent and what is to come, over all stages."""

    spent: float
    """Node-hours."""
    bound: float
    """Node-hours that campaign and allocation allow."""
    node_hours: Span
    """To come, of the stages that are not `unknown`."""
    hours: Span
    storage_bytes: Span
    unknown: tuple[str, ...]
    """Stages whose cost is not known: no speed is, or what they train is not."""

    @property
    def over(self) -> bool:
        """Whether even the least that is expected exceeds the bound."""
        return self.node_hours.low > 0 and self.spent + self.node_hours.low > self.bound

    @property
    def may_be_over(self) -> bool:
        """Whether the most that is expected exceeds it."""
        return self.node_hours.high > 0 and self.spent + self.node_hours.high > self.bound


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's answer for one campaign at one look."""

    campaign: str
    revision: str
    dirty: bool
    actions: tuple[Action, ...]
    stages: tuple[StageStatus, ...]
    forecasts: tuple[StageForecast, ...] = ()
    outlook: CampaignForecast | None = None
    """None for a look that was not whole."""
    retained: Retained = field(default_factory=Retained)
    """What could be deleted; like a forecast, not part of the digest."""
    changes: tuple[Change, ...] = ()
    refusals: tuple[Message, ...] = ()
    """Why this plan may be shown but not applied (found by `planner.checks`, or trained work was edited)."""
    approval: Approval = field(default_factory=Approval)
    """What the campaign's `authority` asks of the commit: without it this may be shown and reviewed, not applied."""
    findings: tuple[Problem, ...] = ()
    """Where the campaign strays from the cookbook, waived or not; like what is refused, not part of the digest."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """The observed facts that the actions rest on: digest input, nothing volatile."""

    @property
    def stopped(self) -> bool:
        """Whether it is shown only, and nothing of it is carried out."""
        return bool(self.refusals or self.approval.missing)

    @property
    def done(self) -> bool:
        return all(stage.phase == "Done" for stage in self.stages)

    @property
    def digest(self) -> str:
        """SHA-256 over actions and the facts they rest on; equal plans have equal digests."""
        body = {"campaign": self.campaign, "actions": [a.semantic() for a in self.actions], "facts": dict(self.facts)}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
