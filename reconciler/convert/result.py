"""What the files of a result hold, read as a stranger's would be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.merging import AVERAGED, REPLICATED, Parameter, owners
    from reconciler.convert.pickles import ITEM_BYTES, Tensor
    from reconciler.convert.source import reading
    from reconciler.convert.torchfile import Archive

CONVERT_AGAIN = "Remove the result and convert again."


@dataclass(frozen=True)
class Found:
    """What a file of one state holds. `file` is for the whole of it: its bytes, and a digest of those around the
    tensor's. `slices` are digests of the tensor-parallel slices that a loader would cut."""

    facts: dict[str, Any]
    labels: dict[str, Any]
    slices: list[str]
    file: dict[str, Any]


def read_back(path: Path, parameter: Parameter | None = None) -> Found:
    """Read a file of one state; without the `parameter` its tensor is taken as one slice."""
    archive = Archive(path, way_out=CONVERT_AGAIN)
    with reading(path):
        content = archive.load()
        tensor = content["param"]
        if not isinstance(tensor, Tensor) or not tensor.contiguous:
            raise ValueError("param is no whole tensor")
        span, item = archive.span(tensor.storage.name), ITEM_BYTES[tensor.dtype]
        if tensor.offset or tensor.numel * item != span.size:
            raise ValueError("param is not all of its data")
        whole = hashlib.sha256()
        slices = [hashlib.sha256() for _ in range(slice_count(parameter))]
        dealer = Dealer(owners(parameter), item, slices) if parameter is not None and len(slices) > 1 else None
        for chunk in tensor.chunks(0, tensor.numel):
            whole.update(chunk)
            if dealer is not None:
                dealer.deal(chunk)
        facts = {"shape": list(tensor.shape), "dtype": f"torch.{tensor.dtype}", "sha256": whole.hexdigest()}
        around = hashlib.sha256()
        for start, end in ((0, span.start), (span.end, archive.stat.st_size)):
            for chunk in archive.chunks(start, end - start):
                around.update(chunk)
        labels = {key: value for key, value in content.items() if key != "param"}
        found = [digest.hexdigest() for digest in slices] if dealer is not None else [whole.hexdigest()]
        return Found(facts, labels, found, {"bytes": archive.stat.st_size, "around": around.hexdigest()})


def slice_count(parameter: Parameter | None) -> int:
    return 1 if parameter is None or parameter.kind in (REPLICATED, AVERAGED) else len(parameter.parts)


class Dealer:
    """Gives each stretch of a stream to the digest of the slice that owns it."""

    def __init__(self, runs: Iterator[tuple[int, int]], item: int, slices: list[Any]) -> None:
        self.runs, self.item, self.slices, self.rank, self.left = runs, item, slices, 0, 0

    def deal(self, data: memoryview) -> None:
        while data:
            if not self.left:
                self.rank, count = next(self.runs)
                self.left = count * self.item
                continue
            self.slices[self.rank].update(data[: self.left])
            taken = min(self.left, len(data))
            data, self.left = data[taken:], self.left - taken


def written_step(path: Path) -> float:
    with reading(path):
        step = Archive(path, way_out=CONVERT_AGAIN).load()
        return step.value() if isinstance(step, Tensor) else float(step)
