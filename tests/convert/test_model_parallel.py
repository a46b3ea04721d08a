"""Tensor-parallel slices and pipeline stages become whole parameters, as DeepSpeed's own converter merges them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconciler.convert import universal
from reconciler.convert.merging import (
    AVERAGED,
    COLUMNS,
    HALVES,
    KINDS,
    REPLICATED,
    ROWS,
    Parameter,
    Part,
    owners,
    placed,
    whole_shape,
)
from reconciler.convert.pickles import Refused
from reconciler.convert.verification import verify
from tests.convert.zero_writer import BF16, STATES, ZERO, Saved, State, state_of, write_layers, write_model_parallel

TOOL = "global_step120_universal"
INFO = {
    "vocabulary_parameter_patterns": [r"language_model\.embedding"],
    "original_vocab_size": 13,
    "padded_vocab_size": 16,
    "tp_replicated_parameter_patterns": [r".*norm\.weight"],
    "parameter_to_average_patterns": [r".*gate\.weight"],
    "parameter_with_2_sub_params_cat_dim_0": [r".*dense_h_to_4h\.weight"],
    "parameter_with_row_parallelism_patterns": [r".*dense_4h_to_h\.weight"],
}
MATRICES: dict[str, tuple[int, ...]] = {
    "language_model.embedding.weight": (16, 8),
    "layers.0.qkv.weight": (12, 8),
    "layers.0.dense_h_to_4h.weight": (24, 8),
    "layers.0.dense_4h_to_h.weight": (8, 12),
    "layers.0.gate.weight": (4, 8),
}
NORMS: dict[str, tuple[int, ...]] = {"layers.0.norm.weight": (30,), "layers.0.qkv.bias": (12,)}


def kind_of(name: str) -> str:
    return next((kind for kind in KINDS if name.split(".")[-2] in str(INFO[KINDS[kind]])), COLUMNS)


def merged(kind: str, slices: list[torch.Tensor]) -> torch.Tensor:
    """As `ds_to_universal` merges."""
    if kind == REPLICATED:
        return slices[0]
    if kind == AVERAGED:
        return torch.as_tensor(sum(slices)) / len(slices)
    if kind == HALVES:
        halves = [torch.chunk(piece, 2, dim=0) for piece in slices]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])
    return torch.cat(slices, dim=1 if kind == ROWS else 0)


def slices_of(tensor_parallel: int) -> list[State]:
    """The state of each tensor-parallel rank: slices of its own, but for what is replicated."""
    states: list[State] = []
    for rank in range(tensor_parallel):
        cut = [
            {name: local(name, shape, tensor_parallel) for name, shape in group.items()} for group in (MATRICES, NORMS)
        ]
        state = state_of(cut, seed=rank)
        for name, tensors in state.parameters().items():
            if states and kind_of(name) == REPLICATED:
                tensors.update({key: whole.clone() for key, whole in states[0].parameters()[name].items()})
        states.append(state)
    return states


def local(name: str, shape: tuple[int, ...], tensor_parallel: int) -> tuple[int, ...]:
    along = {REPLICATED: None, AVERAGED: None, ROWS: 1}.get(kind_of(name), 0)
    return tuple(size // tensor_parallel if axis == along else size for axis, size in enumerate(shape))


def read(folder: Path, name: str, state: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "zero" / name / f"{state}.pt", weights_only=True)
    return content


@pytest.mark.parametrize("wrapper", [BF16, ZERO])
@pytest.mark.parametrize(("tensor_parallel", "data_parallel"), [(1, 3), (2, 1), (2, 3), (4, 2)])
def test_tensor_parallel_slices_are_merged_by_their_patterns(
    tmp_path: Path, tensor_parallel: int, data_parallel: int, wrapper: str
) -> None:
    states = slices_of(tensor_parallel)
    source = write_model_parallel(tmp_path, states, Saved(data_parallel, wrapper, INFO))
    outcome = universal.convert(source, tmp_path)
    assert outcome["weights_compared"] == len({**MATRICES, **NORMS}) - (tensor_parallel > 1), "not that of an average"
    for name in {**MATRICES, **NORMS}:
        for state in STATES:
            got = read(tmp_path / TOOL, name, state)
            wanted = merged(kind_of(name), [part.parameters()[name][state] for part in states])
            assert torch.equal(got["param"], wanted[:13] if "embedding" in name else wanted), (name, state)
    assert verify(tmp_path)["source_compared"] is True
    assert sorted(path.name for path in (tmp_path / TOOL).glob("mp_rank_*")) == [
        f"mp_rank_{part:02d}_model_states.pt" for part in range(tensor_parallel)
    ]


def test_files_say_how_a_loader_cuts_them(tmp_path: Path) -> None:
    universal.convert(write_model_parallel(tmp_path, slices_of(2), Saved(2, info=INFO)), tmp_path)
    labels = {
        name.removeprefix("layers.0."): {k: v for k, v in read(tmp_path / TOOL, name, "fp32").items() if k != "param"}
        for name in {**MATRICES, **NORMS}
    }
    assert labels == {
        "language_model.embedding.weight": {"cat_dim": 0, "vocab_tensor": True},
        "qkv.weight": {"cat_dim": 0},
        "qkv.bias": {"cat_dim": 0},
        "dense_h_to_4h.weight": {"cat_dim": 0, "param_n_sub_params": 2},
        "dense_4h_to_h.weight": {"cat_dim": 1},
        "gate.weight": {},
        "norm.weight": {},
    }


def test_ranks_that_differ_in_what_is_replicated_are_refused(tmp_path: Path) -> None:
    states = slices_of(2)
    states[1].parameters()["layers.0.norm.weight"]["exp_avg"][3] += 1
    source = write_model_parallel(tmp_path, states, Saved(2, info=INFO))
    with pytest.raises(Refused, match=r"do not hold the same exp_avg of layers\.0\.norm\.weight"):
        universal.convert(source, tmp_path)


def stages() -> list[State]:
    """Two stages of a pipeline, which share their embedding."""
    tied = "tied_modules.embed.word_embeddings.weight"
    first = state_of([{tied: (16, 4), "2.dense.weight": (6, 4)}, {"2.bias": (5,)}])
    second = state_of([{"3.dense.weight": (7, 4)}, {"3.bias": (3,)}], seed=1)
    second.groups[0][tied] = first.groups[0][tied]
    return [first, second]


PIPELINE = {"pipeline_replicated_parameter_patterns": [r"tied_modules\.embed\.word_embeddings\.weight"]}


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"checkpoint_parallel_dimensions": {"pp_degree": 2, "tp_degree": 1}}, id="DeepSpeed 0.19"),
        pytest.param({"args": argparse.Namespace(tensor_model_parallel_size=1)}, id="the launcher's arguments"),
        pytest.param({}, id="its layer files alone"),
    ],
)
def test_stages_of_a_pipeline_are_put_side_by_side(tmp_path: Path, told: dict[str, Any]) -> None:
    states = stages()
    source = write_model_parallel(tmp_path, states, Saved(3, info=PIPELINE, model=told, layers=True))
    for state in states:
        write_layers(source, state, 0)
    outcome = universal.convert(source, tmp_path)
    assert outcome["weights_compared"] == 4, "all but the tied one, which no layer file names as the optimizer does"
    whole = {**states[1].parameters(), **states[0].parameters()}
    assert outcome["parameters"] == len(whole) == 5
    for name, tensors in whole.items():
        for key in STATES:
            assert torch.equal(read(tmp_path / TOOL, name, key)["param"], tensors[key]), (name, key)
    assert verify(tmp_path)["source_compared"] is True


def test_a_parameter_on_two_stages_must_be_listed(tmp_path: Path) -> None:
    told = {"checkpoint_parallel_dimensions": {"pp_degree": 2, "tp_degree": 1}}
    source = write_model_parallel(tmp_path, stages(), Saved(2, model=told))
    with pytest.raises(Refused, match="is on two stages of the pipeline"):
        universal.convert(source, tmp_path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param({"checkpoint_parallel_dimensions": {"tp_degree": 3}}, "2 model files, and 3", id="another size"),
        pytest.param({"mp_world_size": 4}, "4 model-parallel ranks, and 2 model files", id="files missing"),
    ],
)
def test_a_model_parallel_size_that_does_not_fit_the_files_is_refused(
    tmp_path: Path, told: dict[str, Any], words: str
) -> None:
    source = write_model_parallel(tmp_path, slices_of(2), Saved(1, info=INFO, model=told))
    with pytest.raises(Refused, match=words):
        universal.convert(source, tmp_path)


def test_sequence_parallel_ranks_are_ranks_like_others(tmp_path: Path) -> None:
    """With Ulysses the optimizer is cut over data- times sequence-parallel ranks, and the shards are numbered so."""
    told = {"args": argparse.Namespace(ds_sequence_parallel_size=2, tensor_model_parallel_size=1), "dp_world_size": 4}
    states = slices_of(1)
    universal.convert(write_model_parallel(tmp_path, states, Saved(4, info=INFO, model=told)), tmp_path)
    wanted = states[0].parameters()["layers.0.qkv.weight"]["exp_avg"]
    assert torch.equal(read(tmp_path / TOOL, "layers.0.qkv.weight", "exp_avg")["param"], wanted)


@given(
    kind=st.sampled_from([REPLICATED, HALVES, ROWS, COLUMNS]),
    rows=st.lists(st.integers(2, 7), min_size=1, max_size=4),
    inner=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    cut=st.integers(1, 30),
    step=st.integers(1, 9),
)
def test_every_element_has_one_place_and_its_owner(
    kind: str, rows: list[int], inner: list[int], cut: int, step: int
) -> None:
    """Slices may be of unequal sizes, read in pieces of any length, and the vocabulary's padding cut off anywhere."""
    along = 1 if kind == ROWS else 0
    sizes = rows[:1] * len(rows) if kind == REPLICATED else rows
    shapes = [(inner[0], size, *inner[1:]) if along else (size, *inner) for size in sizes]
    slices, low = [], 0
    for shape in shapes:
        count = int(torch.Size(shape).numel())
        slices.append(torch.arange(low, low + count).reshape(shape))
        low += 0 if kind == REPLICATED else count
    whole = merged(kind, slices)
    kept = whole[:cut]
    parts = tuple(Part(rank, 0, shape, ()) for rank, shape in enumerate(shapes))
    shape = whole_shape("p", kind, [part.shape for part in parts])
    assert shape == tuple(whole.shape)
    parameter = Parameter("p", kind, parts, (), shape, tuple(kept.shape), {})
    found, flat = torch.full((kept.numel(),), -1), [piece.reshape(-1) for piece in slices]
    for rank, piece in enumerate(flat):
        for start in range(0, len(piece), step):
            for first, count, at in placed(parameter, rank, start, min(step, len(piece) - start)):
                found[at : at + count] = piece[first : first + count]
    assert torch.equal(found.reshape(kept.shape), kept)
    owned = torch.cat([torch.full((count,), rank) for rank, count in owners(parameter)])
    origin = merged(kind, [torch.full(shape, rank) for rank, shape in enumerate(shapes)])[:cut].reshape(-1)
    assert torch.equal(owned, origin)
