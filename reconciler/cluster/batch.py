"""What one exec is asked to do, and what came of it. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.plan import Action


@dataclass(frozen=True, slots=True)
class BatchAction:
    """An action, with the text of its job script if it has a job."""

    action: Action
    script: str | None = None
    retry: bool = False
    """A person has looked: a refusal that the journal holds for this key is set aside and the action tried again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Actions to carry out in order, in one exec, under the workspace's lock."""

    workspace: str
    """Absolute path on the cluster."""
    campaign: str
    holder: str
    """Who applies, for whoever meets the lock: `user@host:pid`."""
    commit: str
    dirty: bool
    actions: tuple[BatchAction, ...]
    applied: str | None = None
    """The text for `<campaign>/applied.json`, the one file that is replaced."""
    applied_seen: str | None = None
    """SHA-256 of what lay there at the look that the batch was planned by, empty where nothing did; None: whatever lies
    there. If somebody has applied something else since, nothing is done."""
    qsub_timeout_s: float = 120.0
    """After this long without an answer a submission's outcome is unknown; the qsub is left to finish."""
    pbs_timeout_s: float = 30.0
    """For each look at the job table."""


class OutcomeKind(StrEnum):
    """What came of one action."""

    DONE = "done"
    """Carried out now."""
    REPEATED = "repeated"
    """Carried out before: the journal's result."""
    ADOPTED = "adopted"
    """An earlier submission whose answer was lost; its job was found and is now in the journal."""
    FORBIDDEN = "forbidden"
    """Under the lock the cluster showed that it must not be done now, such as a live job of the same attempt."""
    REFUSED = "refused"
    """For good: a person must look. PBS's refusals are in the journal."""
    DEFERRED = "deferred"
    """Not now (a queue limit, a full disk): nothing was submitted, the next pass tries the same key again."""
    UNKNOWN = "unknown"
    """Not known whether it happened, or not known whether it may happen; nothing more was done. Look again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one action."""

    key: str
    kind: OutcomeKind
    job_id: str | None = None
    message: str = ""
