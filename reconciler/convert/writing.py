"""One parameter of the result: merged from the shards into its files, and read back.

Each byte of the shards is read once. On its way into the file it goes into the checksum of its record, which torch
noted when it saved, and into a digest of its slice; the file is read back and must give the same digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.checksums import checksum, joined
    from reconciler.convert.merging import AVERAGED, REPLICATED, Parameter, placed
    from reconciler.convert.pickles import FLOATING, ITEM_BYTES, Refused, Storage, Tensor, product
    from reconciler.convert.result import read_back, written_step
    from reconciler.convert.rounding import average, rounds_to
    from reconciler.convert.source import MASTER, Source, reading
    from reconciler.convert.torchfile import file_digest
    from reconciler.convert.torchwriter import TorchFile, save


@dataclass
class Done:
    """A finished parameter: its part of the receipt, and the checksums of what was read, by which whole records are
    checked. `sums`: (model-parallel rank, data-parallel rank, group, state, start, elements, CRC-32)."""

    name: str
    tensors: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    weights_compared: bool = False
    sums: list[tuple[int, int, int, str, int, int, int]] = field(default_factory=list)


def write_parameter(source: Source, parameter: Parameter, folder: Path, compare_weights: bool) -> Done:
    """Write `folder`/zero/<name>/<state>.pt for each state, and step.pt."""
    done, home = Done(parameter.name), folder / "zero" / parameter.name
    home.mkdir(parents=True, exist_ok=True)
    for leftover in home.iterdir():
        leftover.unlink()
    for state in parameter.states:
        path = home / f"{state}.pt"
        wanted = write_state(source, parameter, state, path, done, compare_weights)
        found = read_back(path, parameter)
        if found.slices != wanted or found.labels != parameter.labels:
            raise Refused(f"{path}: does not hold what the shards of {source.folder.path} hold: {found.facts}.")
        done.tensors[state] = found.facts
        done.files[path.relative_to(folder).as_posix()] = found.file
    step = step_of(source, parameter)
    if step is not None:
        path = home / "step.pt"
        save(step, path)
        done.tensors["step"] = value_of(step)
        if written_step(path) != value_of(step):
            raise Refused(f"{path}: holds step {written_step(path)}, the shards {value_of(step)}.")
        done.files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return done


def write_state(
    source: Source, parameter: Parameter, state: str, path: Path, done: Done, compare_weights: bool
) -> list[str]:
    """Write one state; returns the digest of each slice, as it was read."""
    dtype = dtype_of(source, parameter, state)
    item, steps = ITEM_BYTES[dtype], tuple(product(parameter.kept[axis + 1 :]) for axis in range(len(parameter.kept)))
    tensor = Tensor(Storage(None, "", dtype, product(parameter.kept)), 0, parameter.kept, steps)
    with TorchFile(path, {**parameter.labels, "param": tensor}) as file:
        if parameter.kind == AVERAGED and len(parameter.parts) > 1:
            whole = averaged(source, parameter, state, done)
            file.put(0, 0, whole)
            file.finish({0: checksum(whole)})
            return [hashlib.sha256(whole).hexdigest()]
        digests, runs, compared = [hashlib.sha256() for _ in parameter.parts], [], True
        for rank in range(len(parameter.parts)):
            weights = weights_of(source, parameter, rank) if state == MASTER and compare_weights else None
            compared = compared and weights is not None
            for start, chunk, found in chunks_read(source, parameter, rank, state, done):
                count = len(chunk) // item
                if weights is not None:
                    check_weights(source, parameter, rank, start, chunk, weights)
                for first, length, at in placed(parameter, rank, start, count):
                    run = chunk[(first - start) * item : (first - start + length) * item]
                    digests[rank].update(run)
                    if rank == 0 or parameter.kind != REPLICATED:
                        file.put(0, at * item, run)
                        runs.append((at, found if length == count else checksum(run), length * item))
        file.finish({0: joined((found, size) for _, found, size in sorted(runs))})
    done.weights_compared = done.weights_compared or (state == MASTER and compared)
    slices = [digest.hexdigest() for digest in digests]
    if parameter.kind != REPLICATED:
        return slices
    if len(set(slices)) > 1:
        raise Refused(
            f"{source.folder.path}: the tensor-parallel ranks do not hold the same {state} of {parameter.name}, which "
            "is listed as replicated: files of two saves or runs are mixed. Take an earlier checkpoint."
        )
    return slices[:1]


def chunks_read(
    source: Source, parameter: Parameter, rank: int, state: str, done: Done
) -> Iterator[tuple[int, memoryview, int]]:
    """The slice of a tensor-parallel rank, by the shards' slice mappings: (first element, bytes, their CRC-32)."""
    part, start = parameter.parts[rank], 0
    for piece in part.pieces:
        whole = source.holders[part.holder].shards[piece.rank].flats[part.group][state]
        parts = []
        for chunk in whole.chunks(piece.start, piece.numel):
            found = checksum(chunk)
            parts.append((found, len(chunk)))
            yield start, chunk, found
            start += len(chunk) // ITEM_BYTES[whole.dtype]
        done.sums.append((part.holder, piece.rank, part.group, state, piece.start, piece.numel, joined(parts)))


def averaged(source: Source, parameter: Parameter, state: str, done: Done) -> bytes:
    """The mean of the slices; the one merge that holds a whole tensor in memory."""
    if dtype_of(source, parameter, state) != "float32":
        raise Refused(f"{source.folder.path}: {state} of {parameter.name} is averaged, and is no float32.")
    ranks = range(len(parameter.parts))
    slices = [b"".join(bytes(c) for _, c, _ in chunks_read(source, parameter, rank, state, done)) for rank in ranks]
    return average(slices)[: 4 * product(parameter.kept)]


def dtype_of(source: Source, parameter: Parameter, state: str) -> str:
    found = {
        source.holders[part.holder].shards[piece.rank].flats[part.group][state].dtype
        for part in parameter.parts
        for piece in part.pieces
    }
    if len(found) > 1:
        raise Refused(f"{source.folder.path}: {state} of {parameter.name} is {' and '.join(sorted(found))}.")
    return found.pop()


def weights_of(source: Source, parameter: Parameter, rank: int) -> Tensor | None:
    """The rounded weights that the model file holds of a slice; None if it holds none that could be compared."""
    part = parameter.parts[rank]
    held = source.holders[part.holder].weights
    weights = held.get(parameter.name, held.get(f"module.{parameter.name}"))
    if weights is None or weights.dtype not in FLOATING or not weights.contiguous:
        return None
    if tuple(weights.shape) != part.shape or dtype_of(source, parameter, MASTER) != "float32":
        refuse_weights(source, parameter, rank)
    return weights


def check_weights(
    source: Source, parameter: Parameter, rank: int, start: int, master: memoryview, weights: Tensor
) -> None:
    """Hold master weights against the rounded ones of the model file."""
    if not rounds_to(master, weights.bytes(start, len(master) // 4), weights.dtype):
        refuse_weights(source, parameter, rank)


def refuse_weights(source: Source, parameter: Parameter, rank: int) -> NoReturn:
    """Say that shards and model file are of two saves, unless a shard is damaged, which is said then."""
    part = parameter.parts[rank]
    holder = source.holders[part.holder]
    for shard in {piece.rank: holder.shards[piece.rank] for piece in part.pieces}.values():
        shard.archive.check(shard.flats[part.group][MASTER].storage.name)
    model = holder.model.path.name
    raise Refused(
        f"{source.folder.path}: the master weights of {parameter.name} in the shards are not those of {model}: files "
        "of two saves or runs are mixed. Take an earlier checkpoint (or, if you changed the model file on purpose, add "
        "--no-weight-check)."
    )


def step_of(source: Source, parameter: Parameter) -> Any:
    """The optimizer's step for this parameter (None if kept elsewhere); all ranks must agree."""
    steps = []
    for part in parameter.parts:
        for piece in part.pieces:
            shard = source.holders[part.holder].shards[piece.rank]
            with reading(shard.path):
                step = shard.steps[part.group]
                steps.append((value_of(step), step))
    values = {value for value, _ in steps}
    if len(values) > 1:
        raise Refused(
            f"{source.folder.path}: the shards disagree on the step of {parameter.name}: {sorted(map(str, values))}."
        )
    return steps[0][1]


def value_of(step: Any) -> float | None:
    if step is None:
        return None
    return step.value() if isinstance(step, Tensor) else float(step)
