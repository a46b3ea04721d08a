"""One look at a cluster. Every part is what was read, or `Unread(why)`, which never means absent.

The shapes are what `reconciler.cluster.observe` returns and the planner reads; nothing here does I/O. Times are
seconds since the epoch by the cluster's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Unread:
    """Could not look. Absence must not be concluded from it."""

    why: str


class JobState(StrEnum):
    """PBS's one-letter states in words; a letter this program does not know is UNKNOWN and counts as alive."""

    QUEUED = "queued"
    HELD = "held"
    WAITING = "waiting"
    RUNNING = "running"
    EXITING = "exiting"
    FINISHED = "finished"
    UNKNOWN = "unknown"
    UNREAD = "unread"
    """No letter at all: PBS was asked for this job and gave no answer that could be read."""


class Stuck(StrEnum):
    """What a job's comment says of why it may never run."""

    FAILED_STARTS = "failed starts"
    """PBS has given up starting it and holds it for good."""
    NEVER_RUNS = "never runs"
    """The scheduler sees no way to run it with what the site has now."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the table, live or in history."""

    job_id: str
    name: str
    state: JobState
    letter: str
    key: str | None = None
    """The action key that submitted it (its CPT_KEY variable), if it is ours."""
    exit_status: int | None = None
    substate: int | None = None
    comment: str = ""
    """PBS's own words; for an unread job, why it could not be read."""
    queue: str = ""
    nodes: int | None = None
    """As PBS counts what was asked for; None if it does not say."""
    queued_s: float | None = None
    """Since when it has been in its queue."""
    started_s: float | None = None
    ended_s: float | None = None
    stuck: Stuck | None = None

    @property
    def live(self) -> bool:
        """Anything but finished may still write a checkpoint."""
        return self.state is not JobState.FINISHED


@dataclass(frozen=True, slots=True)
class Receipt:
    """The agent's journal entry for one action key."""

    key: str
    written_s: float
    """When its result was, or, if it has none, its intent: a qsub may take long to answer."""
    done: bool
    """False: the intent was written, the result was not. The agent heals this before anything is submitted again."""
    job_id: str | None = None
    failed: str | None = None
    """What the cluster answered when it refused (qsub's words), else None."""
    applied_by: str = ""
    commit: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class Inside:
    """What a checkpoint's own files say of it: counters, schedule, arguments. None where they do not."""

    iteration: int | None = None
    global_steps: int | None = None
    samples: int | None = None
    tokens: int | None = None
    data_parallel: int | None = None
    model_parallel: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    ffn_hidden: int | None = None
    rope_theta: int | None = None
    vocabulary: int | None = None
    """Before it was padded."""
    padded_vocabulary: int | None = None
    sequence_length: int | None = None
    micro_batch: int | None = None
    global_batch: int | None = None
    tensors: int | None = None
    """How many parameters there are."""
    parameters: int | None = None
    """Their elements, in one model-parallel part."""
    rate: float | None = None
    """Of the next step: the optimizer's own, which the scheduler has set last."""
    rate_max: float | None = None
    rate_min: float | None = None
    position: float | None = None
    """How far the schedule has come, in samples; so are `warmup` and `decay`."""
    warmup: float | None = None
    decay: float | None = None
    style: str | None = None
    """The launcher's LR_DECAY_STYLE."""
    precision: str | None = None
    optimizer: str | None = None
    tokenizer: str | None = None
    deepspeed: str | None = None
    """DeepSpeed's version."""
    wrapper: str | None = None
    """The class of DeepSpeed's that cut the shards; None where it is universal."""
    moments: tuple[str, ...] = ()
    """What the optimizer keeps of each parameter, such as `exp_avg`."""

    @property
    def trained_tokens(self) -> int | None:
        """The counter of tokens, or what the samples come to."""
        if self.tokens or self.samples is None or self.sequence_length is None:
            return self.tokens
        return self.samples * self.sequence_length


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """One `global_stepN` folder of a leg, or of a folder that no attempt made."""

    iteration: int
    complete: bool
    why_not: str = ""
    data_parallel: int = 0
    size_bytes: int = 0
    model_parallel: int = 0
    """Model files: tensor × pipeline parts."""
    universal: bool = False
    """It is a `global_stepN_universal` folder."""
    inside: Inside | None = None
    """Read only where it was asked for, or of a folder where it decides which checkpoint is meant."""
    identity: str = ""
    """Tells the folder from any other, and from itself when a file of it is written again; empty if it holds something
    that the launcher does not write."""
    saved_s: float = 0.0
    """When a file of it was written last, by the file system's clock."""


@dataclass(frozen=True, slots=True)
class PrunedSeen:
    """A folder that was set aside to be deleted."""

    path: str
    """Relative to the attempt."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LogPoint:
    """One iteration line; `loss` is None where the launcher left it out, which is how it shows a NaN."""

    iteration: int
    loss: float | None
    learning_rate: float


@dataclass(frozen=True, slots=True)
class LogWindow:
    """Consecutive iterations put together: mean, lowest and highest loss, how many lines had none."""

    first: int
    last: int
    mean: float | None
    low: float | None
    high: float | None
    learning_rate: float
    lines: int
    missing: int
    skipped: int = 0
    spread: float | None = None
    """Standard deviation of the finite losses around `mean`; None where it was not worked out."""


@dataclass(frozen=True, slots=True)
class TrainLog:
    """What one training job logged, as numbers; bounded in size whatever the log's length."""

    key: str
    loaded_iteration: int | None = None
    """The iteration named by "successfully loaded checkpoint", None if no such line."""
    started_from_random: bool = False
    first: tuple[LogPoint, ...] = ()
    """The first 20 iteration lines."""
    last: tuple[LogPoint, ...] = ()
    """The last 20 iteration lines."""
    windows: tuple[LogWindow, ...] = ()
    saved: tuple[int, ...] = ()
    """Iterations of "successfully saved checkpoint" lines (at most the last 64)."""
    exit_reason: str = ""
    """The text of the launcher's last life-cycle line, such as `exiting program after 5.0 minutes`."""
    finished_rc: int | None = None
    """From the last `Execution finished with N.`; PBS's exit status proves nothing on this launcher."""
    errors: tuple[str, ...] = ()
    """The last few lines that match a known failure pattern, or the end of a traceback."""
    seconds_per_iteration: float | None = None


@dataclass(frozen=True, slots=True)
class LegSeen:
    """One leg's folder of an attempt."""

    index: int
    checkpoints: tuple[CheckpointSeen, ...] = ()
    """In order of iteration."""
    latest: int | None = None
    """The iteration in `latest`, which the launcher writes before all shards are down; 0 if that file names none."""
    tracker: int | None = None
    """The iteration in `latest_checkpointed_iteration.txt`, written last."""
    logs: tuple[TrainLog, ...] = ()
    """One per training job that left a log, in order of `ended` in the key."""
    converted: int | None = None
    """The iteration of a verified universal copy of this leg's *source*, in `leg-N-source/`."""
    copy_bytes: int = 0
    copy_identity: str = ""
    """Of that copy, as of a checkpoint."""
    pruned: tuple[PrunedSeen, ...] = ()
    """What was set aside in either folder and is not deleted yet."""

    def newest_complete(self) -> CheckpointSeen | None:
        """The checkpoint a resume should start from."""
        return max((c for c in self.checkpoints if c.complete), key=lambda c: c.iteration, default=None)


@dataclass(frozen=True, slots=True)
class EvaluationSeen:
    """Validation losses of one checkpoint of an attempt, in nats, by validation set."""

    leg: int
    iteration: int
    losses: Mapping[str, float]
    key: str = ""
    earlier: int = 0
    """How many losses are kept aside that were found of an earlier checkpoint of that iteration, which is gone."""


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """Everything the cluster holds about one attempt."""

    stage: str
    attempt: str
    """The first 12 hexadecimal digits of the recipe's digest."""
    recipe: str | None
    """The text of `recipe.json`, as it was written before the first job."""
    legs: tuple[LegSeen, ...] = ()
    evaluations: tuple[EvaluationSeen, ...] = ()
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Name of the file in `verdicts/`, without `.json` → its text."""
    external: Mapping[str, str] = field(default_factory=dict)
    """Name of the file in `external/`, without `.json` → its text, which a person's harness wrote."""
    stop_requested: bool = False
    """The kill-switch file is there."""
    ran: tuple[str, ...] = ()
    """Keys of the jobs that left a log, of whatever kind: they were started."""
    unread: str = ""
    """Why this attempt's folder could not be read whole; nothing may be concluded from it then."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which checkpoint of a folder is wanted: the agent looks into those that can be it."""

    property: Literal["iteration", "tokens", "rate", "pre-cooldown", "newest", "all"]
    """`tokens`: the first with at least `number`; `rate`: the first of the decay at most at it; `all`: every one."""
    number: float = 0
    universal: bool = False


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """A folder of checkpoints that no attempt made."""

    checkpoints: tuple[CheckpointSeen, ...] = ()
    """In order of iteration; universal ones after the others."""
    latest: int | None = None
    """As of a leg."""
    tracker: int | None = None
    latest_universal: int | None = None
    """The iteration that `latest_universal` names; None without one."""


@dataclass(frozen=True, slots=True)
class FolderAbsent:
    """The cluster was asked for a folder and has none at that path."""


@dataclass(frozen=True, slots=True)
class ListAbsent:
    """The cluster was asked for a data list and has none at that path."""


@dataclass(frozen=True, slots=True)
class ListSeen:
    """A data list as the cluster has it."""

    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LockSeen:
    """Who holds the batch lock."""

    nonce: str
    holder: str
    host: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Observed:
    """One snapshot: a look that failed altogether has Unread everywhere."""

    now_s: float
    host: str
    jobs: tuple[Job, ...] | Unread
    """Own jobs, and every job that a receipt names: one that is missing here is unknown to PBS, or forgotten by it."""
    attempts: tuple[AttemptSeen, ...] | Unread
    receipts: tuple[Receipt, ...] | Unread
    lists: Mapping[str, ListSeen | ListAbsent | Unread]
    """By absolute path on the cluster, for every path that was asked for."""
    applied: str | Unread | None = None
    """The text of `applied.json`: what the last apply wanted, by commit; None before the first."""
    lock: LockSeen | None = None
    folders: Mapping[str, FolderSeen | FolderAbsent | Unread] = field(default_factory=dict)
    """By absolute path on the cluster, for every folder of checkpoints that was asked for."""
    logs: Mapping[str, TrainLog] = field(default_factory=dict)
    """By absolute path, the ends of training logs of others that were asked for; without those that were not read."""
