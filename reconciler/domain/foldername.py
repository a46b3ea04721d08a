"""What the launcher's name for a checkpoint folder tells, and where what is inside says otherwise.

New names have hyphens (`AuroraGPT-7B-ws768-ds-stage1-nl32-…`), those of before August 2025 underscores
(`ws768_ds_stage1_nl32_hs4096_mb1_seq4096_gb3072_sp1_pp1_tp1_bf16_optadamw_…`); launcher contract, 1.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from reconciler.model.observed import Inside

PATTERN: Final = re.compile(
    r"(?:[A-Za-z0-9.]{1,20}-)*ws(?P<ws>[0-9]{1,7})[-_]ds[-_]stage(?P<stage>[0-9])[-_]nl(?P<nl>[0-9]{1,4})"
    r"[-_]hs(?P<hs>[0-9]{1,6})[-_]mb(?P<mb>[0-9]{1,6})[-_]seq(?P<seq>[0-9]{1,8})[-_]gb(?P<gb>[0-9]{1,8})"
    r"[-_]sp(?P<sp>[0-9]{1,4})[-_]pp(?P<pp>[0-9]{1,4})[-_]tp(?P<tp>[0-9]{1,4})[-_](?P<dtype>bf16|fp16|fp32)"
    r"(?:[-_]opt(?P<opt>[a-z]{1,30}))?"
)


@dataclass(frozen=True, slots=True)
class FolderName:
    """One name, read."""

    text: str
    """The part of it that was read."""
    old: bool
    """Of the scheme with underscores."""
    world: int
    zero_stage: int
    layers: int
    hidden: int
    micro_batch: int
    sequence_length: int
    global_batch: int
    tensor: int
    pipeline: int
    data_parallel: int
    """Ranks over what is cut otherwise, sequence parallelism included."""
    precision: str
    optimizer: str | None

    def told(self) -> str:
        """For people."""
        opt = f", {self.optimizer}" if self.optimizer else ""
        return (
            f"{self.layers} layers of {self.hidden}, sequences of {self.sequence_length}, batch {self.global_batch}, "
            f"{self.world} ranks as {self.data_parallel} × {self.tensor} × {self.pipeline}, {self.precision}{opt}"
        )


def of_path(path: str) -> FolderName | None:
    """What the last part of a path that is such a name tells; None where none is."""
    found = next(filter(None, map(PATTERN.match, reversed(path.split("/")))), None)
    if found is None:
        return None
    number = {name: int(found[name]) for name in ("ws", "stage", "nl", "hs", "mb", "seq", "gb", "sp", "pp", "tp")}
    return FolderName(
        text=found[0],
        old="_ds_" in found[0],
        world=number["ws"],
        zero_stage=number["stage"],
        layers=number["nl"],
        hidden=number["hs"],
        micro_batch=number["mb"],
        sequence_length=number["seq"],
        global_batch=number["gb"],
        tensor=number["tp"],
        pipeline=number["pp"],
        data_parallel=number["ws"] // max(1, number["tp"] * number["pp"] * number["sp"]),
        precision=found["dtype"],
        optimizer=found["opt"],
    )


def contradicted(name: FolderName, inside: Inside) -> tuple[str, ...]:
    """Where what is inside a checkpoint is not what its folder's name tells."""
    pairs: list[tuple[str, object, object]] = [
        ("layers", name.layers, inside.layers),
        ("hidden", name.hidden, inside.hidden),
        ("micro batch", name.micro_batch, inside.micro_batch),
        ("sequence length", name.sequence_length, inside.sequence_length),
        ("global batch", name.global_batch, inside.global_batch),
        ("tensor-parallel size", name.tensor, inside.tensor),
        ("pipeline stages", name.pipeline, inside.pipeline),
        ("data-parallel size", name.data_parallel, inside.data_parallel),
        ("precision", name.precision, inside.precision),
        ("optimizer", name.optimizer, inside.optimizer),
    ]
    return tuple(
        f"{what} {by_name} by its name, {by_content} inside"
        for what, by_name, by_content in pairs
        if None not in (by_name, by_content) and by_name != by_content
    )
