"""A stage's phase, conditions and reasons, as in Kubernetes: derived on every pass, stored nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """A stage in one word."""

    WAITING = "Waiting"
    PREPARING = "Preparing"
    TRAINING = "Training"
    EVALUATING = "Evaluating"
    DONE = "Done"
    HELD = "Held"


class Reason(StrEnum):
    """Why; a closed set. Code may compare phases and actions, never messages."""

    # the stage goes on
    TRAINING_STARTS = "TrainingStarts"
    TOKENS_REMAIN = "TokensRemain"
    CONVERSION_NEEDED = "ConversionNeeded"
    EVALUATION_NEEDED = "EvaluationNeeded"
    BASELINE_NEEDED = "BaselineNeeded"
    VERDICT_DUE = "VerdictDue"
    GATE_FAILED = "GateFailed"
    DIVERGED = "Diverged"
    RECIPE_MISSING = "RecipeMissing"
    LATEST_ASTRAY = "LatestAstray"
    NOT_NEEDED = "NotNeeded"
    SET_ASIDE = "SetAside"
    BUDGET_REACHED = "BudgetReached"
    ALL_SETS_READ = "AllSetsRead"
    ALL_EVIDENCE = "AllEvidence"
    ADOPTED = "Adopted"
    SHALLOW_CLONE = "ShallowClone"
    # waits: until the next look
    SOURCE_NOT_DONE = "SourceNotDone"
    JOB_LIVE = "JobLive"
    JOB_HELD_BY_PBS = "JobHeldByPbs"
    JOB_CANNOT_RUN = "JobCannotRun"
    JOB_ENDING = "JobEnding"
    JOB_NOT_LISTED = "JobNotListed"
    JOB_TABLE_UNREAD = "JobTableUnread"
    WORKSPACE_UNREAD = "WorkspaceUnread"
    LIST_UNREAD = "ListUnread"
    SOURCE_UNREAD = "SourceUnread"
    STOPPING = "Stopping"
    SUBMIT_WINDOW_CLOSED = "SubmitWindowClosed"
    EXTERNAL_AWAITED = "ExternalAwaited"
    # holds: until a person decides
    SUSPENDED = "Suspended"
    LADDER_EXHAUSTED = "LadderExhausted"
    GATE_HOLDS = "GateHolds"
    JOBS_EXHAUSTED = "JobsExhausted"
    NO_PROGRESS = "NoProgress"
    SUBMIT_REFUSED = "SubmitRefused"
    NODE_HOURS_EXHAUSTED = "NodeHoursExhausted"
    TOKENS_EXHAUSTED = "TokensExhausted"
    TRIAL_AWAITS_CHOICE = "TrialAwaitsChoice"
    TRAINED_IMMUTABLE = "TrainedImmutable"
    LIST_MISSING = "ListMissing"
    LIST_CHANGED = "ListChanged"
    LIST_BAD = "ListBad"
    SOURCE_UNUSABLE = "SourceUnusable"
    ADOPTED_UNUSABLE = "AdoptedUnusable"
    VERDICT_UNREADABLE = "VerdictUnreadable"
    STARTED_FROM_RANDOM = "StartedFromRandom"
    LOAD_DISCONTINUOUS = "LoadDiscontinuous"
    EXTERNAL_UNREADABLE = "ExternalUnreadable"
    JOB_DELETED = "JobDeleted"
    JOB_CANNOT_START = "JobCannotStart"
    LOST_IN_ROUTING = "LostInRouting"


PASSING: Final = frozenset(
    {
        Reason.JOB_LIVE,
        Reason.JOB_HELD_BY_PBS,
        Reason.JOB_CANNOT_RUN,
        Reason.JOB_ENDING,
        Reason.JOB_NOT_LISTED,
        Reason.JOB_TABLE_UNREAD,
        Reason.WORKSPACE_UNREAD,
        Reason.LIST_UNREAD,
        Reason.SOURCE_UNREAD,
        Reason.STOPPING,
        Reason.SUBMIT_WINDOW_CLOSED,
        Reason.EXTERNAL_AWAITED,
    }
)
"""Waits that pass by themselves, so that looking again is of use. SOURCE_NOT_DONE passes when another stage does."""


IN_HISTORY: Final = "InHistory"
"""Type of the condition on the commits that a stage's jobs were submitted at."""
KEPT: Final = "Kept"
"""Type of the condition on the checkpoints that a done stage has made."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One typed fact about a stage."""

    type: str
    """`Ready`, `SourceReady`, `Trained`, `Evaluated`, `GatesPassed`; where they are not so, `InHistory` and `Kept`."""
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str
    since_s: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class RungStatus:
    """How one rung of the ladder went."""

    strategy: str
    attempt: str
    outcome: str
    """`untried`, `running`, `passed`, `failed`, `skipped`."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PilotStatus:
    """One variant of a trial, trained with the pilot budget."""

    variant: str
    attempt: str
    outcome: str
    """`untried`, `running`, `passed`, `failed`."""
    tokens: int
    """Trained so far, in complete checkpoints."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Each compared validation set → loss at the pilot's end (nats)."""
    mean: float | None = None
    """Of these; None until all are there."""
    message: str = ""
    """Its verdict, or what it waits for."""


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """A rung that is, or was, tried in several variants."""

    strategy: str
    tokens: int
    """Budget of each pilot."""
    compare: tuple[str, ...]
    pilots: tuple[PilotStatus, ...]
    chosen: str = ""
    """The variant that gets the stage's budget; empty while that is open."""
    by: str = ""
    """`manifest`, `lowest-loss`, or `begun`: it is in work, so the choice is not made again."""
    message: str = ""
    """How it was chosen, or what is left to do."""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Where one stage is, for people and for the next decision."""

    stage: str
    phase: Phase
    reason: Reason
    message: str
    strategy: str = ""
    attempt: str = ""
    tokens_done: int = 0
    tokens_budget: int = 0
    iteration: int = 0
    iterations: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    job: str = ""
    jobs: int = 0
    node_hours: float = 0.0
    rungs: tuple[RungStatus, ...] = ()
    trial: TrialStatus | None = None
    """Of the current rung, if that is a trial."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Validation set → loss at the end of the stage (nats)."""
    losses_before: Mapping[str, float] = field(default_factory=dict)
    """The same at the stage's source checkpoint."""
    conditions: tuple[Condition, ...] = ()
    path: str = ""
    """Where the attempt lies, relative to the workspace."""
    next_rung: str = ""
    """The strategy that a commit must move to the top of the ladder, where a failed gate holds the stage."""
    proposal: str = ""
    """The branch on which that commit waits, if it was proposed."""

    @property
    def drift(self) -> tuple[Condition, ...]:
        """What is not as it was left: told wherever the stage is, and left to a person."""
        return tuple(c for c in self.conditions if c.status == "False" and c.type in (IN_HISTORY, KEPT))
