"""Models and clusters that a campaign may begin from, as tables: what is here needs not be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Sizes of a model, and what its data is tokenised with."""

    name: str
    what: str
    """In a few words."""
    architecture: str
    """MODEL_ARCH of the launcher."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn_hidden: int
    rope_theta: int
    vocabulary: int
    tokenizer: tuple[str, str]
    """(TOKENIZER_TYPE, TOKENIZER_MODEL)."""
    sequence_length: int
    global_batch: int
    """Sequences a step, on one of the known clusters."""
    micro_batch: int
    checkpoint_every: int
    """Iterations."""
    rate: float
    """A usual LR max."""


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """A cluster that is reached in a known way, or the outline of another."""

    name: str
    what: str
    host: str = ""
    queue: str = "workq"
    max_walltime: str = "6h"
    ranks: int = 4
    nodes: int = 4
    filesystems: tuple[str, ...] = ()
    folder: str = ""
    """Where workspace and checkout are looked for; {account} is the project."""
    machine: str = ""
    """Template of the package; empty: one is written beside the manifests."""
    startup: str = "15m"
    poll: str = "5m"


TINY: Final = KnownModel(
    "tiny", "tiny: a small GPT on bytes, for this machine", "7B", 2, 64, 4, 4, 176, 10_000, 256,
    ("ByteTokenizer", "bytes"), 128, 16, 4, 100, 2e-3,
)  # fmt: skip
MODELS: Final = {
    model.name: model
    for model in (
        KnownModel(
            "agpt-2b", "AuroraGPT 2B, Gemma's tokenizer", "AuroraGPT-2B", 12, 2048, 16, 4, 11008, 50_000, 256_000,
            ("HFTokenizer", "google/gemma-7B"), 8192, 6144, 1, 500, 2e-4,
        ),
        KnownModel(
            "agpt-7b", "AuroraGPT 7B as it was pretrained, Llama 2's tokenizer", "7B", 32, 4096, 32, 8, 11008, 10_000,
            32_000, ("Llama2Tokenizer", "ALCF/tokenizer.model"), 4096, 3072, 1, 150, 2e-4,
        ),
        KnownModel(
            "llama-2-7b", "Llama 2 7B", "7B", 32, 4096, 32, 32, 11008, 10_000, 32_000,
            ("Llama2Tokenizer", "ALCF/tokenizer.model"), 4096, 1536, 1, 150, 3e-4,
        ),
        KnownModel(
            "llama-3-8b", "Llama 3 8B", "7B", 32, 4096, 32, 8, 14336, 500_000, 128_256,
            ("HFTokenizer", "meta-llama/Meta-Llama-3-8B"), 8192, 768, 1, 150, 3e-4,
        ),
        TINY,
    )
}  # fmt: skip
"""By name."""

CLUSTERS: Final = {
    cluster.name: cluster
    for cluster in (
        KnownCluster(
            "local", "this machine, with an embedded PBS and a small trainer", max_walltime="1h", ranks=1, nodes=1,
            machine="local", startup="5s", poll="0.5s",
        ),
        KnownCluster(
            "polaris", "Polaris at ALCF", host="polaris", queue="prod", max_walltime="3h", ranks=4, nodes=16,
            filesystems=("home:eagle",), folder="/eagle/{account}", machine="polaris",
        ),
        KnownCluster(
            "aurora", "Aurora at ALCF", host="aurora", queue="prod", ranks=12, nodes=16, filesystems=("flare:home",),
            folder="/flare/{account}", machine="aurora",
        ),
        KnownCluster("own", "another PBS cluster"),
    )
}  # fmt: skip
"""By name."""
