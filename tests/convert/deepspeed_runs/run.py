"""What a training with real DeepSpeed is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

GLOBAL_BATCH, SAVED_AT, STEPS = 8, 3, 7
BF16 = "BF16_Optimizer"
ZERO = "DeepSpeedZeroOptimizer"


@dataclass(frozen=True)
class Run:
    """A training: its sizes, what it starts from, what it saves. It ends after iteration `STEPS`."""

    wrapper: str = BF16
    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    layers: int = 1
    staged: bool = False
    """As a PipelineModule, which a model of several stages is in any case."""
    nested: bool = False
    """The model file holds dictionaries in dictionaries, as Megatron-DeepSpeed writes it."""
    vocabulary: int = 22
    """Rows of the embedding; `words` of them are tokens, the rest is there so that the rows can be split evenly."""
    words: int = 22
    hessian: bool = False
    """With an optimizer that names its second moment so, as Sophia does, instead of AdamW."""
    load: str = ""
    """Folder of a universal checkpoint (the one that holds `latest_universal`); empty for fresh weights."""
    save: str = ""
    """Folder to save to after iteration `SAVED_AT`; empty for no saving."""

    @property
    def moments(self) -> tuple[str, str]:
        return "exp_avg", "hessian" if self.hessian else "exp_avg_sq"

    @property
    def in_stages(self) -> bool:
        return self.staged or self.pipeline > 1

    @property
    def ranks(self) -> int:
        return self.data * self.tensor * self.pipeline


@dataclass
class Outcome:
    """What a run left: the loss of each iteration, and after a load the SHA-256 of each whole tensor as loaded."""

    losses: list[float] = field(default_factory=list)
    loaded: dict[str, dict[str, str]] = field(default_factory=dict)
    wrapper: str = ""
    error: str = ""
