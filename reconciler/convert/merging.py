"""How a parameter is put together from its tensor-parallel slices: whole shapes, and where each element goes.

The rules and labels are those of DeepSpeed's `ds_to_universal`, by the patterns in `universal_checkpoint_info`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.pickles import Refused, product
    from reconciler.convert.source import Group, Holder, Piece, Source, reading

REPLICATED, AVERAGED, HALVES, ROWS, COLUMNS = "replicated", "averaged", "halves", "rows", "columns"
"""How slices make a whole: the same on each rank; their mean; first halves, then second ones (SwiGLU); side by side
along dimension 1 (row-parallel layers); one after the other along dimension 0 (all others)."""
KINDS = {
    REPLICATED: "tp_replicated_parameter_patterns",
    AVERAGED: "parameter_to_average_patterns",
    HALVES: "parameter_with_2_sub_params_cat_dim_0",
    ROWS: "parameter_with_row_parallelism_patterns",
}
VOCABULARY = "vocabulary_parameter_patterns"
PIPELINE_REPLICATED = "pipeline_replicated_parameter_patterns"
LABELS: dict[str, dict[str, Any]] = {
    REPLICATED: {},
    AVERAGED: {},
    HALVES: {"cat_dim": 0, "param_n_sub_params": 2},
    ROWS: {"cat_dim": 1},
    COLUMNS: {"cat_dim": 0},
}


@dataclass(frozen=True)
class Part:
    """A tensor-parallel slice of a parameter: who holds it, in which group, and in which pieces, in order."""

    holder: int
    group: int
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Parameter:
    """A parameter as a whole. `parts` by tensor-parallel rank; `kept` is `shape` without vocabulary padding."""

    name: str
    kind: str
    parts: tuple[Part, ...]
    states: tuple[str, ...]
    shape: tuple[int, ...]
    kept: tuple[int, ...]
    labels: dict[str, Any]


def read_parameters(source: Source) -> list[Parameter]:
    """Every parameter of all stages, in the order of their buffers."""
    info, found = source.info, {}
    for holder in source.holders:
        if holder.tensor != 0:
            continue
        peers = [peer for peer in source.holders if peer.stage == holder.stage]
        for number, group in enumerate(holder.groups):
            for name in group.shapes:
                tied = bool(matching(info, PIPELINE_REPLICATED, name))
                if holder.stage > 0 and tied:
                    continue
                if name in found:
                    raise Refused(
                        f"{holder.model.path}: {name} is on two stages of the pipeline or in two groups, and "
                        f"{PIPELINE_REPLICATED} does not list it."
                    )
                with reading(holder.model.path):
                    found[name] = whole_parameter(source, name, number, peers)
    for key in (*KINDS.values(), VOCABULARY):
        for pattern in info.get(key) or ():
            if not any(re.match(pattern, name) for name in found):
                raise Refused(f"universal_checkpoint_info: the pattern {pattern!r} of {key} matches no parameter.")
    return list(found.values())


def matching(info: dict[str, Any], key: str, name: str) -> bool:
    return any(re.match(pattern, name) for pattern in info.get(key) or ())


def whole_parameter(source: Source, name: str, number: int, peers: list[Holder]) -> Parameter:
    kind = next((kind for kind, key in KINDS.items() if matching(source.info, key, name)), COLUMNS)
    parts = []
    for peer in peers:
        if number >= len(peer.groups) or name not in peer.groups[number].shapes:
            raise Refused(
                f"{peer.model.path}: {name} is missing, which its tensor-parallel peers have in group {number}."
            )
        pieces = pieces_of(peer, number, name)
        parts.append(Part(source.holders.index(peer), number, peer.groups[number].shapes[name], pieces))
    states = peers[0].groups[number].states
    if any(peer.groups[number].states != states for peer in peers):
        raise Refused(f"{peers[0].model.path}: tensor-parallel ranks keep other optimizer states for {name}.")
    shape = whole_shape(name, kind, [part.shape for part in parts])
    labels, kept = dict(LABELS[kind]), shape
    if matching(source.info, VOCABULARY, name):
        rows = source.info["original_vocab_size"]
        if type(rows) is not int or rows < 1 or len(shape) != 2:
            raise ValueError(f"original_vocab_size {rows!r} for {name} of shape {shape}")
        labels["vocab_tensor"], kept = True, (min(rows, shape[0]), *shape[1:])
    return Parameter(name, kind, tuple(parts), states, shape, kept, labels)


def pieces_of(holder: Holder, number: int, name: str) -> tuple[Piece, ...]:
    """By the shards' own slice mappings, in rank order."""
    spans = [(rank, shard.fragments[number].get(name)) for rank, shard in enumerate(holder.shards)]
    pieces = tuple(Piece(rank, *span) for rank, span in spans if span is not None)
    group: Group = holder.groups[number]
    if sum(piece.numel for piece in pieces) != product(group.shapes[name]):
        raise ValueError(f"the fragments of {name} are not all of it")
    return pieces


def whole_shape(name: str, kind: str, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    along = {HALVES: 0, COLUMNS: 0, ROWS: 1}.get(kind)
    rests = {shape if along is None else (*shape[:along], *shape[along + 1 :]) for shape in shapes}
    if len(rests) > 1 or (along is not None and len(shapes) > 1 and len(shapes[0]) <= along):
        raise ValueError(f"{name} ({kind}) has the shapes {shapes} on its tensor-parallel ranks")
    if along is None or len(shapes[0]) <= along:
        return shapes[0]
    return (*shapes[0][:along], sum(shape[along] for shape in shapes), *shapes[0][along + 1 :])


def first_half(shape: tuple[int, ...]) -> int:
    """Elements of the first of two sub-parameters; the larger one where the rows are odd, as torch.chunk cuts."""
    return -(-shape[0] // 2) * product(shape[1:])


def placed(parameter: Parameter, rank: int, start: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Where `count` elements from `start` on of the slice of tensor-parallel rank `rank` go in the whole parameter.

    Yields (start, count, at): runs of the slice, and each one's place. What is vocabulary padding goes nowhere.
    """
    end, kept = start + count, product(parameter.kept)
    for low, high, at in strips(parameter, rank, start, end):
        first, last = max(start, low), min(end, high)
        to = at + first - low
        if first < last and to < kept:
            yield first, min(last - first, kept - to), to


def strips(parameter: Parameter, rank: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The slice of `rank` as runs that stay together in the whole: (first, past the last, place of the first)."""
    shapes = [part.shape for part in parameter.parts]
    sizes = [product(shape) for shape in shapes]
    if parameter.kind == HALVES:
        halves = [first_half(shape) for shape in shapes]
        yield 0, halves[rank], sum(halves[:rank])
        seconds = [size - half for size, half in zip(sizes, halves)]
        yield halves[rank], sizes[rank], sum(halves) + sum(seconds[:rank])
    elif parameter.kind == ROWS and len(shapes) > 1:
        widths = [product(shape[1:]) for shape in shapes]
        width, before, row_width = widths[rank], sum(widths[:rank]), sum(widths)
        for row in range(start // width, -(-end // width)):
            yield row * width, (row + 1) * width, row * row_width + before
    else:
        yield 0, sizes[rank], 0 if parameter.kind in (REPLICATED, AVERAGED) else sum(sizes[:rank])


def owners(parameter: Parameter) -> Iterator[tuple[int, int]]:
    """Whose elements the whole parameter is made of, in its own order: (tensor-parallel rank, how many).

    This is `placed` from the other side, as a loader cuts: verification goes by it, so that a misplaced slice cannot
    hide behind the rule that misplaced it.
    """
    rows = [part.shape[0] if part.shape else 1 for part in parameter.parts]
    ranks = range(len(rows))
    inner = [product(part.shape[1:]) for part in parameter.parts]
    if parameter.kind in (REPLICATED, AVERAGED) or len(rows) == 1:
        runs = iter([(0, rows[0] * inner[0])])
    elif parameter.kind == HALVES:
        cuts = [*((rank, (rows[rank] + 1) // 2) for rank in ranks), *((rank, rows[rank] // 2) for rank in ranks)]
        runs = iter([(rank, count * inner[rank]) for rank, count in cuts])
    elif parameter.kind == ROWS:
        runs = ((rank, inner[rank]) for _ in range(rows[0]) for rank in ranks)
    else:
        runs = iter([(rank, rows[rank] * inner[rank]) for rank in ranks])
    left = product(parameter.kept)
    for rank, count in runs:
        if left <= 0:
            return
        yield rank, min(count, left)
        left -= count
