"""What a Cluster manifest holds: how to reach one PBS cluster, and what it offers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from reconciler.model.fieldtypes import (
    DAYS,
    ENVIRONMENT_PATTERN,
    Count,
    Day,
    Frozen,
    HourOfDay,
    Label,
    Name,
    Path,
    Positive,
    Seconds,
    TimeZone,
    Value,
    Walltime,
    Word,
)


class LocalTransport(Frozen):
    """This machine, with the embedded PBS; `root` is relative to the repository."""

    kind: Literal["local"]
    """This machine."""
    root: Path
    """Folder of the embedded cluster, relative to the repository."""


class SshTransport(Frozen):
    """A login node, by its name in the ssh configuration."""

    kind: Literal["ssh"]
    """Over SSH."""
    host: Word
    """Host, as in the ssh configuration."""
    fallback_hosts: tuple[Word, ...] = ()
    """Other login nodes of the same cluster, tried in order when `host` does not answer."""
    connection: Literal["own", "master"] = "own"
    """`own`: made by the reconciler. `master`: the one a person opened with ssh (ControlMaster), and no other."""
    user: Word | None = None
    """User, if not the one of the ssh configuration."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port, if not the one of the ssh configuration."""
    connect_timeout: Walltime | None = None
    """How long one host may take to answer; otherwise as the ssh configuration says, or 15s."""
    path: tuple[Path, ...] = ()
    """Absolute folders put in front of PATH there, where a plain `ssh HOST qstat` does not find its command."""
    root: Path | None = None
    """Absolute folder on the cluster that relative paths start at; without it all paths are absolute."""

    @model_validator(mode="after")
    def _folders_are_absolute(self) -> SshTransport:
        _must_be_absolute(*self.path, self.root)
        return self


class LoginNodeTransport(Frozen):
    """The machine that the reconciler runs on is a login node of the cluster, and has its PBS commands."""

    kind: Literal["login-node"]
    """No connection: commands run here."""
    path: tuple[Path, ...] = ()
    """Absolute folders put in front of PATH, where qsub and qstat are not on it."""
    root: Path | None = None
    """Absolute folder on the cluster that relative paths start at; without it all paths are absolute."""

    @model_validator(mode="after")
    def _folders_are_absolute(self) -> LoginNodeTransport:
        _must_be_absolute(*self.path, self.root)
        return self


def _must_be_absolute(*folders: str | None) -> None:
    for folder in folders:
        if folder is not None and not folder.startswith("/"):
            raise ValueError(f"{folder} must be an absolute path on the cluster")


class SubmitWindow(Frozen):
    """Hours of the week in which jobs may be submitted."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    """Days on which it begins."""
    from_: HourOfDay = Field(alias="from")
    """When it begins."""
    to: HourOfDay
    """When it ends; at or before `from` it is the next day's."""


class Scheduler(Frozen):
    """Where jobs go and what the queue allows."""

    kind: Literal["openpbs"]
    """The only scheduler so far."""
    queue: Word
    """Queue that jobs go to unless a stage names another."""
    account: Word | None = None
    """Project that is charged (`-A`)."""
    max_walltime: Walltime
    """Longest walltime that the queue takes."""
    submit_windows: tuple[SubmitWindow, ...] = ()
    """When jobs may be submitted; at any time if there is none. What runs goes on."""
    time_zone: TimeZone = "UTC"
    """Whose hours the submit windows are in, such as America/Chicago."""


class Node(Frozen):
    """Ranks per node: 12 tiles on Aurora, 4 GPUs on Polaris."""

    ranks: Count
    """Ranks on one node."""


LAUNCHER_VARIABLES: Final = frozenset(
    {
        "ADAM_BETA1", "ADAM_BETA2", "ADAM_EPS", "CKPT_DIR", "CLIP_GRAD", "DATA_FILE_LIST", "DTYPE", "EVAL_INTERVAL",
        "EVAL_ITERS", "FFN_HIDDEN_SIZE", "GLOBAL_BATCH", "GRAD_ACC_STEPS", "HEADS", "HIDDEN", "LOAD", "LR",
        "LR_DECAY_ITERS", "LR_DECAY_STYLE", "LR_WARMUP_FRAC", "MICRO_BATCH", "MODEL_ARCH", "NGPU_PER_HOST", "NLAYERS",
        "NUM_KV_HEAD", "OPT", "OVERRIDE_CKPT_OPT_PARAM", "PP", "ROPE_THETA", "SAVE", "SAVE_INTERVAL", "SEQ", "SP",
        "TEST_SPLIT", "TOKENIZER_MODEL", "TOKENIZER_TYPE", "TP", "TRAIN_ITER", "TRAIN_ITERS", "TRAIN_SPLIT",
        "TRAIN_TOKENS", "VAL_SPLIT", "WANDB_MODE", "WEIGHT_DECAY", "WORLD_SIZE", "ZERO_STAGE",
    }
)  # fmt: skip
"""What the launcher adapter sets itself (`reconciler.launcher.command`): a manifest may not say it a second time."""


MACHINES: Final = ("aurora", "local", "polaris", "sunspot")
"""What has a `machine/NAME.sh` in the package."""
ALCF: Final = ("aurora", "polaris")
"""Where PBS refuses a job without account and filesystems."""
SECRET_PATTERN: Final = r"(TOKEN|_KEY|APIKEY|_KEY_ID|_PAT)$|SECRET|PASSWORD|PASSWD|CREDENTIAL"  # noqa: S105
"""Names of variables that hold secrets, as templates/secrets.pbs keeps them from the launcher."""


def _free(variable: str) -> str:
    if variable in LAUNCHER_VARIABLES:
        raise ValueError("the model, stage or campaign says this already")
    if re.search(SECRET_PATTERN, variable):
        raise ValueError("a secret has no place in git or in a job script")
    return variable


Variable = Annotated[str, Field(pattern=ENVIRONMENT_PATTERN), AfterValidator(_free)]
"""Name of an environment variable that a manifest may set."""


class LauncherSpec(Frozen):
    """The Megatron-DeepSpeed checkout that trains, and what its environment needs."""

    kind: Literal["megatron-deepspeed"]
    """The only launcher so far."""
    checkout: Path
    """Folder of the launcher on the cluster."""
    machine: Label
    """How a job's environment is set up: aurora, local, polaris, sunspot, or NAME of machine/NAME.sh in `templates`."""
    templates: Path | None = None
    """Folder of the repository with templates of job scripts that go before those of the package."""
    startup: Seconds
    """From the job's start to its first iteration; also left free at its end for the last save."""
    environment: dict[Variable, Value] = Field(default_factory=dict)
    """Further environment variables of every job."""

    @model_validator(mode="after")
    def _templates_are_in_the_repository(self) -> LauncherSpec:
        if self.templates is not None and self.templates.startswith("/"):
            raise ValueError(f"templates ({self.templates}) must be relative to the repository")
        return self


class Allocation(Frozen):
    """What the project may spend here."""

    node_hours: Positive
    """No plan may spend more than this."""


class ClusterSpec(Frozen):
    """How to reach one PBS cluster and what it offers."""

    transport: Annotated[LocalTransport | SshTransport | LoginNodeTransport, Field(discriminator="kind")]
    """How commands get there."""
    scheduler: Scheduler
    """Where jobs go."""
    node: Node
    """Shape of a node."""
    filesystems: tuple[Word, ...] = ()
    """What a job needs mounted (`-l filesystems=`)."""
    workspace: Path
    """Folder for everything that is made: attempts, lists, the journal."""
    launcher: LauncherSpec
    """What trains."""
    allocation: Allocation
    """What may be spent."""
    throughput: dict[Name, Count] = Field(default_factory=dict)
    """Model → tokens per second and node, for forecasts until a job has measured it."""
    poll: Seconds = Fraction(60)
    """Time between two looks."""

    @model_validator(mode="after")
    def _asks_for_what_the_site_wants(self) -> ClusterSpec:
        wanting = [
            name
            for name, value in (("scheduler.account", self.scheduler.account), ("filesystems", self.filesystems))
            if self.launcher.machine in ALCF and not value
        ]
        if wanting:
            raise ValueError(f"{' and '.join(wanting)} missing: PBS on {self.launcher.machine} refuses jobs without")
        return self
