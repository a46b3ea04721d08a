"""The five kinds a person writes, one frozen class each; unknown fields are refused.

Field names in YAML are camelCase. The JSON Schemas in `schemas/` are generated from these classes. What a single
document cannot show (references, order of stages, sums over several objects) is checked in `reconciler.domain`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from reconciler.model.authority import Authority
from reconciler.model.cluster import ClusterSpec
from reconciler.model.fieldtypes import (
    AboveZero,
    Count,
    Frozen,
    Label,
    Lists,
    Metadata,
    Name,
    Path,
    Positive,
    Symbol,
    Text,
    Tokenizer,
    Tokens,
    Walltime,
    Weight,
    Word,
)
from reconciler.model.gates import Gates
from reconciler.model.strategy import Adopted, ExternalSource, StageSource, Strategy, Waiver

API_VERSION: Final = "cpt/v1"
BUFFER: Final = "buffer"


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
    max_epochs: AboveZero = Decimal(4)
    """Passes over it that a model may have had, replay included; more is rule CPT010."""
    origin: Text | None = None
    """Where it came from, for people."""
    lists: Lists
    """Its weighted file list on each cluster, by the cluster's name."""


# --- Campaign --------------------------------------------------------------------------------------------------------


class LearningRate(Frozen):
    """`lrMax` and `lrFinal` of the campaign's infinite schedule."""

    max: AboveZero
    """The rate of the plateau, `lrMax`."""
    final: Positive = Decimal(0)
    """Where the last cooldown ends, `lrFinal`."""


class Selection(Frozen):
    """Which files of a dataset the buffer takes, "representative or difficult samples" (cookbook, Strategy 3)."""

    shards: tuple[Path, ...] = ()
    """Files by the end of their prefix in the dataset's list; empty: all."""
    scores: Lists | None = None
    """A score file on each cluster, `score tokens prefix` a line, for the same files as the dataset's list."""
    order: Literal["highest", "lowest", "middle"] = "highest"
    """Which scores are taken first: difficult files have the highest or lowest, representative ones the nearest to the
    median."""
    cap: Tokens | None = None
    """Files are taken in order up to and with the one that reaches this many tokens; needs scores."""

    @model_validator(mode="after")
    def _takes_a_part(self) -> Selection:
        if (self.scores is None) is not (self.cap is None):
            raise ValueError("scores and cap go together: files are taken by score until they hold the cap's tokens")
        if not self.shards and self.scores is None:
            raise ValueError(
                "neither shards nor scores: leave the dataset out of select, and the buffer takes all of it"
            )
        return self


class Buffer(Frozen):
    """How the buffer B is composed of the datasets of done stages after D0."""

    composition: Literal["by-tokens", "equal", "declared"] = "by-tokens"
    """Each done dataset's share of the buffer: by its tokens, equal, or as `weights` says."""
    weights: dict[Symbol, Weight] = Field(default={})
    """For `declared`: relative weight of each dataset; the share is taken among those that the buffer holds."""
    select: dict[Symbol, Selection] = Field(default={})
    """Which files of a dataset the buffer takes; all of one that is not named."""

    @model_validator(mode="after")
    def _weights_are_read(self) -> Buffer:
        if self.weights and self.composition != "declared":
            raise ValueError(f"weights are read only with composition: declared, not {self.composition}")
        return self


class CampaignBounds(Frozen):
    """Where the reconciler stops and asks a person."""

    attempts_per_stage: Count = 3
    """Rungs of a ladder that may be tried."""
    jobs_per_attempt: Count = 100
    """Jobs, retries included."""
    tokens: Tokens | None = None
    """Tokens trained in the whole campaign, discarded attempts and pilots of trials included."""
    node_hours: Positive
    """Spending of the whole campaign."""


class Retention(Frozen):
    """Which checkpoints of an attempt are kept, besides all that something still needs: ends of legs, sources, what a
    recipe or a pointer names. Without `prune` nothing is deleted."""

    prune: bool = False
    """Set aside and then delete what nothing needs any more. Without it plans only say what that is, in bytes."""
    newest: Count = 2
    """Complete checkpoints of a leg that are kept, the newest ones."""
    every: Tokens | None = None
    """Besides, the first complete one in each stretch of so many tokens of the stage."""
    settle: Walltime = Fraction(600)
    """How long ago a checkpoint must have been saved to make older ones needless: what was just written may yet be lost
    with a file server."""


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
    retention: Retention = Retention()
    """Which checkpoints are kept."""
    authority: Authority | None = None
    """Which commits are applied; every one without it."""
    waive: tuple[Waiver, ...] = ()
    """Rules that are waived for the whole campaign."""


# --- Stage -----------------------------------------------------------------------------------------------------------


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
    adopted: Adopted | None = None
    """The checkpoint that it ended at, where it was trained before there were manifests (`reconcile adopt`). The rest
    of the stage then says how it was trained, and nothing of it is trained again."""
    waive: tuple[Waiver, ...] = ()
    """Rules that are waived for this stage."""

    @model_validator(mode="after")
    def _what_is_adopted_was_trained_once(self) -> StageSpec:
        if self.adopted is None:
            return self
        of = self.strategies[0]
        if len(self.strategies) > 1 or of.trial is not None or of.if_ is not None:
            raise ValueError("an adopted stage was trained in one way: one strategy, with no trial and no if")
        if self.gates is not None or self.suspend:
            raise ValueError("nothing of an adopted stage is submitted or judged: leave gates and suspend out")
        return self

    def source_of(self, strategy: Strategy) -> Literal["random"] | StageSource | ExternalSource:
        """What a strategy starts from: its own source, or the stage's."""
        return self.source if strategy.source is None else strategy.source


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
