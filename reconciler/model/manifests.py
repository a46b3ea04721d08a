"""The five kinds a person writes, one frozen class each; unknown fields are refused.

Field names in YAML are camelCase. The JSON Schemas in `schemas/` are generated from these classes. What a single
document cannot show (references, order of stages, sums over several objects) is checked in `reconciler.domain`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from reconciler.model import quantities
from reconciler.model.quantities import Rate

API_VERSION: Final = "cpt/v1"
BUFFER: Final = "buffer"

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
SYMBOL_PATTERN: Final = r"^D[0-9]{1,3}$"
TERM_PATTERN: Final = r"^(D[0-9]{1,3}|[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)$"
WORD_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_./:+-]{0,199}$"
"""What survives the launcher, which flattens its command line into one string for `bash -c`."""
LABEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$"
VALUE_PATTERN: Final = r"^[A-Za-z0-9_./][A-Za-z0-9_./:=,@%+-]{0,999}$"
ENVIRONMENT_PATTERN: Final = r"^[A-Z][A-Z0-9_]{0,63}$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"
PATH_PATTERN: Final = r"^[A-Za-z0-9_./][A-Za-z0-9_./+-]{0,999}$"
HOUR_PATTERN: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
ZONE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"


def _text_of(value: object) -> object:
    """Numbers become their decimal text, so that one parser reads `4000`, `4e9` and `4T`; the rest is left alone."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}" if value == value.to_integral_value() and value.is_finite() else str(value)
    return str(value) if isinstance(value, int) else value


def _parsed(parse: Any) -> BeforeValidator:
    def read(value: object) -> object:
        text = _text_of(value)
        return parse(text) if isinstance(text, str) else value

    return BeforeValidator(read)


def _number_or(pattern: str, what: str, **bounds: object) -> WithJsonSchema:
    either = [{"type": "number", **bounds}, {"type": "string", "pattern": pattern}]
    return WithJsonSchema({"anyOf": either, "description": what})


def _inside(path: str) -> str:
    """A path on a cluster or under the repository may not climb out of where it is put."""
    if ".." in path.split("/"):
        raise ValueError("a path without .. in it is expected")
    return path


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no time zone; there is America/Chicago, Europe/Berlin, UTC and so on") from None
    return name


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
Value = Annotated[str, Field(pattern=VALUE_PATTERN)]
Path = Annotated[str, Field(pattern=PATH_PATTERN), AfterValidator(_inside)]
Text = Annotated[str, Field(pattern=TEXT_PATTERN, max_length=2000)]
Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
Term = Annotated[str, Field(pattern=TERM_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
HourOfDay = Annotated[str, Field(pattern=HOUR_PATTERN)]
TimeZone = Annotated[str, Field(pattern=ZONE_PATTERN), AfterValidator(_known_zone)]
Tokens = Annotated[
    int,
    _parsed(quantities.parse_tokens),
    _number_or(quantities.TOKENS_PATTERN, "tokens: 4T, 22B, 1500000", minimum=1),
    Field(ge=1, le=10**16),
]
Seconds = Annotated[
    Fraction,
    _parsed(quantities.parse_duration),
    WithJsonSchema({"type": "string", "pattern": quantities.DURATION_PATTERN, "description": "6h, 1h30m, 06:00:00"}),
]
Walltime = Annotated[Seconds, Field(gt=0)]
Share = Annotated[
    Decimal,
    _parsed(quantities.parse_share),
    WithJsonSchema({"type": "string", "pattern": quantities.SHARE_PATTERN, "description": "5%"}),
]
Weight = Annotated[
    Decimal,
    _parsed(quantities.parse_decimal),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
    Field(ge=0, le=1),
]
Positive = Annotated[
    Decimal, _parsed(quantities.parse_decimal), WithJsonSchema({"type": "number", "minimum": 0}), Field(ge=0)
]
AboveZero = Annotated[
    Decimal, _parsed(quantities.parse_decimal), WithJsonSchema({"type": "number", "exclusiveMinimum": 0}), Field(gt=0)
]
RateField = Annotated[
    Rate, _parsed(quantities.parse_rate), _number_or(quantities.RATE_PATTERN, "2e-4, lrMax, lrMax/5", minimum=0)
]


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, camelCase in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, arbitrary_types_allowed=True
    )


class Metadata(Frozen):
    """What names an object."""

    name: Name
    """Unique among objects of the kind; a stage's within its campaign. Becomes part of job and folder names."""


class ListOnCluster(Frozen):
    """A weighted data list as one cluster has it; `sha256` pins the file's bytes."""

    path: Path
    """Path of the data list on the cluster; a relative one starts at the root of a `local` transport."""
    sha256: Sha256 | None = None
    """SHA-256 of the file's bytes. With it, a list changed on the cluster is noticed and refused."""


Lists = Annotated[dict[Name, ListOnCluster], Field(min_length=1)]


class Tokenizer(Frozen):
    """The launcher's TOKENIZER_TYPE and TOKENIZER_MODEL; all data of a campaign must share it."""

    type: Word
    """TOKENIZER_TYPE, such as HFTokenizer or Llama2Tokenizer."""
    model: Word
    """TOKENIZER_MODEL: a name such as google/gemma-7b, or a path in the checkout."""


# --- Model -----------------------------------------------------------------------------------------------------------


class Architecture(Frozen):
    """The launcher's MODEL_ARCH and the sizes that it reads for it."""

    name: Word
    """MODEL_ARCH. The launcher takes an unknown name for 7B without a word."""
    layers: Count
    """Transformer layers."""
    hidden: Count
    """Width of the residual stream."""
    heads: Count
    """Attention heads."""
    kv_heads: Count
    """Key and value heads (grouped-query attention)."""
    ffn_hidden: Count
    """Width of the feed-forward layers."""
    rope_theta: Count
    """Base of the rotary embeddings."""
    vocabulary: Count
    """Tokens in the vocabulary; ln(vocabulary) is the loss of an untrained model."""


class Batch(Frozen):
    """Sequences per optimizer step, and per rank and micro-step."""

    global_: Count = Field(alias="global")
    """Sequences per optimizer step over all ranks. Fixed, since its default follows the node count."""
    micro: Count
    """Sequences per rank in one forward pass."""


class Optimizer(Frozen):
    """Everything but the learning rate."""

    name: Word = "adamw"
    """OPT. Only adamw keeps what a universal checkpoint needs."""
    beta1: Positive = Decimal("0.9")
    """Decay of the first moment."""
    beta2: Positive = Decimal("0.95")
    """Decay of the second moment."""
    eps: Positive = Decimal("1e-5")
    """Added to the denominator."""
    weight_decay: Positive = Decimal("0.1")
    """Decoupled weight decay."""
    clip_grad: Positive = Decimal("1")
    """Largest norm of the gradient. The launcher applies 1.0 whatever it is told."""


class Parallelism(Frozen):
    """How the model is cut; the data-parallel size follows from the nodes."""

    tensor: Count = 1
    """Tensor-parallel size."""
    pipeline: Count = 1
    """Pipeline-parallel size."""
    zero_stage: Literal[0, 1, 2] = 1
    """What the optimizer shards over data-parallel ranks."""


class ValidationSet(Frozen):
    """A frozen set of documents held out of dataset `of`, evaluated at the end of every stage."""

    name: Label
    """Its name in reports and verdicts."""
    of: Symbol
    """The dataset that it was held out of, by symbol."""
    samples: Count = 1024
    """Sequences evaluated."""
    lists: Lists
    """Its data list on each cluster."""


class Validation(Frozen):
    """Fixed from the start and the same for every stage (cookbook, introduction)."""

    sets: Annotated[tuple[ValidationSet, ...], Field(min_length=1)]
    """One or more for each dataset whose forgetting is to be seen."""


class ModelSpec(Frozen):
    """What the cookbook holds fixed over all stages: all but data and learning rate."""

    architecture: Architecture
    """Shape of the network."""
    tokenizer: Tokenizer
    """What all data must be tokenised with."""
    sequence_length: Count
    """Tokens per sequence."""
    batch: Batch
    """Sequences per step."""
    optimizer: Optimizer = Optimizer()
    """Its settings but the learning rate."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """DTYPE; must stay what the checkpoints were made with."""
    parallelism: Parallelism = Parallelism()
    """How the model is cut."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1234
    """For initial weights and the order of data."""
    checkpoint_every: Count
    """Iterations between saves."""
    validation: Validation
    """Held-out data, the same in every stage."""

    @property
    def tokens_per_iteration(self) -> int:
        """Global batch × sequence length."""
        return self.batch.global_ * self.sequence_length


# --- Dataset ---------------------------------------------------------------------------------------------------------


class DatasetSpec(Frozen):
    """One corpus of the campaign: its symbol in the cookbook's notation, its size, its list on each cluster."""

    symbol: Symbol
    """D0 for the pretraining data, D1, D2, … for what follows."""
    tokens: Tokens
    """Size of the dataset."""
    tokenizer: Tokenizer
    """What it was tokenised with; must be the model's."""
    origin: Text | None = None
    """Where it came from, for people."""
    lists: Lists
    """Its weighted file list on each cluster, by the cluster's name."""


# --- Cluster ---------------------------------------------------------------------------------------------------------


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
    environment: dict[Annotated[str, Field(pattern=ENVIRONMENT_PATTERN)], Value] = Field(default_factory=dict)
    """Further environment variables of every job."""

    @model_validator(mode="after")
    def _leaves_the_recipe_alone(self) -> LauncherSpec:
        taken = sorted(LAUNCHER_VARIABLES & set(self.environment))
        if taken:
            raise ValueError(f"environment sets {', '.join(taken)}, which the model, stage or campaign says already")
        secret = sorted(name for name in self.environment if re.search(SECRET_PATTERN, name))
        if secret:
            raise ValueError(f"environment sets {', '.join(secret)}; a secret has no place in git or in a job script")
        return self

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


# --- Campaign --------------------------------------------------------------------------------------------------------


class LearningRate(Frozen):
    """`lrMax` and `lrFinal` of the campaign's infinite schedule."""

    max: AboveZero
    """The rate of the plateau, `lrMax`."""
    final: Positive = Decimal(0)
    """Where the last cooldown ends, `lrFinal`."""


class Limits(Frozen):
    """A bound that warns and one that fails, in nats of loss."""

    warn: Positive
    """Above this, a warning."""
    fail: Positive
    """Above this, the gate fails."""

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn}) is above fail ({self.fail})")
        return self


class ForgettingGate(Frozen):
    """Rise of a frozen validation loss over its value at the stage's source checkpoint."""

    weak: Limits = Limits(warn=Decimal("0.05"), fail=Decimal("0.10"))
    """For a stage whose `shift` is weak."""
    strong: Limits = Limits(warn=Decimal("0.15"), fail=Decimal("0.30"))
    """For a stage whose `shift` is strong."""


class RecoveryGate(Frozen):
    """Training loss must be falling again once `grace` of the leg's tokens has passed."""

    grace: Share = Decimal("0.10")
    """Share of the leg's tokens before the loss is judged."""


class Gates(Frozen):
    """What an attempt is judged by; defaults and their sources: docs/gates.md."""

    forgetting: ForgettingGate | None = ForgettingGate()
    """Rise of old-data loss. `null` turns the gate off."""
    recovery: RecoveryGate | None = RecoveryGate()
    """Return of the training loss. `null` turns the gate off."""


class Buffer(Frozen):
    """How the buffer B is composed of the datasets of done stages after D0."""

    composition: Literal["by-tokens", "equal"] = "by-tokens"
    """Each done dataset's share of the buffer: by its tokens, or equal."""


class CampaignBounds(Frozen):
    """Where the reconciler stops and asks a person."""

    attempts_per_stage: Count = 3
    """Rungs of a ladder that may be tried."""
    jobs_per_attempt: Count = 100
    """Jobs, retries included."""
    node_hours: Positive
    """Spending of the whole campaign."""


class CampaignSpec(Frozen):
    """Stages in order, and what holds for all of them."""

    model: Name
    """Name of a Model."""
    cluster: Name
    """Name of a Cluster."""
    stages: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of the campaign's stages, in order."""
    learning_rate: LearningRate
    """What `lrMax` and `lrFinal` stand for."""
    buffer: Buffer = Buffer()
    """How the buffer is composed."""
    on_failed_gate: Literal["advance", "propose", "hold"] = "hold"
    """Go down the ladder, propose the next rung in a pull request, or wait for a person."""
    gates: Gates = Gates()
    """Defaults for every stage."""
    bounds: CampaignBounds
    """Where to stop and ask."""


# --- Stage -----------------------------------------------------------------------------------------------------------


class StageSource(Frozen):
    """A checkpoint of an earlier stage, by its property."""

    stage: Name
    """Name of an earlier stage of the campaign."""
    checkpoint: Literal["pre-cooldown", "converged"] = "pre-cooldown"
    """Before its cooldown (at LR max), or after."""


class ExternalSource(Frozen):
    """A checkpoint made elsewhere: `path` is the folder that holds `latest` or `latest_universal`."""

    path: Path
    """Folder that holds `latest` or `latest_universal`."""
    iteration: Count
    """Which iteration of it."""
    format: Literal["zero", "universal"]
    """`zero`: as training saves it, for one data-parallel size; `universal`: for any."""
    data_parallel: Count | None = None
    """Data-parallel size that a `zero` checkpoint was saved by."""
    trained_on: tuple[Name, ...] = ()
    """Names of datasets it has been trained on, so that mixtures may replay them."""


class LrPolicy(Frozen):
    """One learning-rate curve over a leg.

    `constant` stays at `at`; `cooldown` and `cosine` fall from `at` to `to`. `warmup` (a share of the leg) rises from
    0 to `at` first: only for a first stage or a declared `rewarm`, since an infinite schedule never rewarms unasked.
    """

    shape: Literal["constant", "cooldown", "cosine"]
    """The curve."""
    at: RateField = Rate("lrMax", Decimal(1))
    """Rate at which the leg begins (after warm-up)."""
    to: RateField = Rate("lrFinal", Decimal(1))
    """Rate at which a cooldown or cosine ends."""
    decay: Literal["1-sqrt"] = "1-sqrt"
    """Form of a cooldown: `at − (at − to)·√r`, r being the share done."""
    warmup: Share = Decimal(0)
    """Share of the leg over which the rate rises from 0."""
    rewarm: bool = False
    """Says that the rate is meant to rise again."""


class Leg(Frozen):
    """A stretch of a strategy with one mixture and one learning-rate curve."""

    mixture: Annotated[dict[Term, Weight], Field(min_length=1)]
    """Exact weight of each source, summing to 1. Sources: dataset symbols, names of earlier stages, `buffer`."""
    lr: LrPolicy
    """Learning rate over the leg."""
    tokens: Tokens | None = None
    """Tokens of this leg; one leg may leave it out and takes what is left of the stage's."""


class Strategy(Frozen):
    """One rung of a stage's ladder."""

    name: Name
    """Unique in its stage."""
    legs: Annotated[tuple[Leg, ...], Field(min_length=1)]
    """Trained one after the other."""


class Resources(Frozen):
    """What one job asks for."""

    nodes: Count
    """Nodes of one job."""
    walltime: Walltime
    """Walltime of one job; the stage takes as many jobs as it needs."""
    queue: Word | None = None
    """Queue, if not the cluster's."""


class StageSpec(Frozen):
    """Training on one new dataset from a source checkpoint, by the first strategy of the ladder that holds."""

    campaign: Name
    """Name of the campaign that lists this stage."""
    dataset: Name
    """Name of the dataset that is new in this stage."""
    shift: Literal["weak", "strong"] = "weak"
    """How far the new data is from the old; picks the forgetting gate's limits."""
    tokens: Tokens
    """Tokens to train on in this stage."""
    source: Literal["random"] | StageSource | ExternalSource
    """What to start from: `random`, an earlier stage's checkpoint, or one made elsewhere."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)]
    """What to try, in order; the next after a failed gate."""
    resources: Resources
    """What a job asks for."""
    gates: Gates | None = None
    """Instead of the campaign's."""
    suspend: bool = False
    """Hold this stage: nothing new is submitted."""


class _Manifest(Frozen):
    api_version: Literal["cpt/v1"]
    """Version of these manifests."""
    metadata: Metadata
    """The object's name."""


class ModelManifest(_Manifest):
    """apiVersion: cpt/v1, kind: Model."""

    kind: Literal["Model"]
    spec: ModelSpec


class DatasetManifest(_Manifest):
    """apiVersion: cpt/v1, kind: Dataset."""

    kind: Literal["Dataset"]
    spec: DatasetSpec


class ClusterManifest(_Manifest):
    """apiVersion: cpt/v1, kind: Cluster."""

    kind: Literal["Cluster"]
    spec: ClusterSpec


class CampaignManifest(_Manifest):
    """apiVersion: cpt/v1, kind: Campaign."""

    kind: Literal["Campaign"]
    spec: CampaignSpec


class StageManifest(_Manifest):
    """apiVersion: cpt/v1, kind: Stage."""

    kind: Literal["Stage"]
    spec: StageSpec


Manifest = ModelManifest | DatasetManifest | ClusterManifest | CampaignManifest | StageManifest
KINDS: Final[dict[str, type[Manifest]]] = {
    "Campaign": CampaignManifest,
    "Cluster": ClusterManifest,
    "Dataset": DatasetManifest,
    "Model": ModelManifest,
    "Stage": StageManifest,
}
