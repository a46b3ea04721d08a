"""The converter gives every element of every parameter, and nothing else, whatever the cut and whoever wrote it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.convert import universal
from reconciler.convert.torchfile import Archive
from tests.convert.zero_writer import BF16, STATES, ZERO, Saved, State, state_of, write_checkpoint

MATRICES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (16, 8),
    "layers.0.dense_h_to_4h.weight": (12, 8),
    "head.weight": (9, 4),
}
NORMS: dict[str, tuple[int, ...]] = {"layers.0.norm.weight": (30,), "final.norm.weight": (6,)}
INFO = {
    "vocabulary_parameter_patterns": ["embedding.weight"],
    "original_vocab_size": 13,
    "padded_vocab_size": 16,
    "parameter_with_2_sub_params_cat_dim_0": [r".*dense_h_to_4h\.weight"],
}


def whole_state() -> State:
    return state_of([MATRICES, NORMS])


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def result_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of a universal folder: parameter -> state -> tensor."""
    return {
        home.name: {state: read(home / f"{state}.pt")["param"] for state in STATES}
        for home in sorted((folder / "zero").iterdir())
        if home.is_dir()
    }


def assert_holds(folder: Path, state: State, rows: dict[str, int] | None = None) -> None:
    got = result_of(folder)
    assert set(got) == set(state.parameters())
    for name, tensors in state.parameters().items():
        for key in STATES:
            wanted = tensors[key][: (rows or {}).get(name)]
            assert torch.equal(got[name][key], wanted), (name, key)


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("wrapper", [BF16, ZERO])
@pytest.mark.parametrize("data_parallel", [1, 2, 3, 4, 8, 13])
def test_every_element_arrives_at_any_cut(tmp_path: Path, data_parallel: int, wrapper: str) -> None:
    # At 8 ranks the norm group of 36 elements is cut in shards of 6 with 12 of padding: two ranks own nothing.
    source = write_checkpoint(tmp_path, whole_state(), Saved(data_parallel, wrapper, INFO))
    outcome = universal.convert(source, tmp_path)
    assert outcome["outcome"] == "converted"
    assert outcome["tensors"] == 15
    assert outcome["weights_compared"] == 5
    assert_holds(tmp_path / "global_step120_universal", whole_state(), {"embedding.weight": 13})


def test_zero_optimizer_with_old_padding_numbers_converts(tmp_path: Path) -> None:
    """Releases up to 0.15.4 book all padding on the last rank, which stops DeepSpeed's own converter."""
    source = write_checkpoint(tmp_path, whole_state(), Saved(8, ZERO, old_paddings=True))
    universal.convert(source, tmp_path)
    assert_holds(tmp_path / "global_step120_universal", whole_state())


def test_a_parameter_over_three_shards_is_put_together_in_rank_order(tmp_path: Path) -> None:
    state = state_of([{"wide.weight": (1, 100)}, {"norm.weight": (4,)}])
    source = write_checkpoint(tmp_path, state, Saved(3))
    universal.convert(source, tmp_path)
    assert_holds(tmp_path / "global_step120_universal", state)


def test_the_layout_is_the_one_deepspeed_loads(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2, ZERO, INFO))
    universal.convert(source, tmp_path)
    result = tmp_path / "global_step120_universal"
    assert (tmp_path / "latest_universal").read_text() == "global_step120_universal"
    assert (result / "mp_rank_00_model_states.pt").read_bytes() == (source / "mp_rank_00_model_states.pt").read_bytes()
    labels = {
        name: {key: value for key, value in read(result / "zero" / name / "exp_avg.pt").items() if key != "param"}
        for name in whole_state().parameters()
    }
    assert labels == {
        "embedding.weight": {"cat_dim": 0, "vocab_tensor": True},
        "layers.0.dense_h_to_4h.weight": {"cat_dim": 0, "param_n_sub_params": 2},
        "head.weight": {"cat_dim": 0},
        "layers.0.norm.weight": {"cat_dim": 0},
        "final.norm.weight": {"cat_dim": 0},
    }
    step = read(result / "zero" / "head.weight" / "step.pt")
    assert step.shape == () and step == 120.0
    embedding = read(result / "zero" / "embedding.weight" / "fp32.pt")["param"]
    assert embedding.untyped_storage().nbytes() == 13 * 8 * 4, "the rows that were cut are still in the file"
    # Views of the mapped shard would drag all of it into every file.
    assert max(path.stat().st_size for path in (result / "zero").rglob("*.pt")) < 4096


def test_a_replicated_parameter_has_no_cat_dim(tmp_path: Path) -> None:
    info = {"tp_replicated_parameter_patterns": [r".*norm\.weight"]}
    universal.convert(write_checkpoint(tmp_path, whole_state(), Saved(2, info=info)), tmp_path)
    zero = tmp_path / "global_step120_universal" / "zero"
    assert set(read(zero / "final.norm.weight" / "fp32.pt")) == {"param"}
    assert set(read(zero / "head.weight" / "fp32.pt")) == {"param", "cat_dim"}


def test_a_row_parallel_parameter_is_labelled_for_its_columns(tmp_path: Path) -> None:
    info = {"parameter_with_row_parallelism_patterns": ["head"]}
    universal.convert(write_checkpoint(tmp_path, whole_state(), Saved(2, info=info)), tmp_path)
    assert read(tmp_path / "global_step120_universal" / "zero" / "head.weight" / "fp32.pt")["cat_dim"] == 1


def test_optimizer_state_keeps_deepspeeds_own_classes_by_name(tmp_path: Path) -> None:
    """DeepSpeed takes its loss scaler out of this file, so it must unpickle as DeepSpeed's class, not as ours."""
    universal.convert(write_checkpoint(tmp_path, whole_state(), Saved(2, ZERO)), tmp_path)
    path = tmp_path / "global_step120_universal" / "zero" / "optimizer_state.pt"
    content = Archive(path).load()
    assert set(content) >= {"clip_grad", "ds_version", "group_paddings", "partition_count", "param_groups"}
    assert not {"base_optimizer_state", "param_slice_mappings", "single_partition_of_fp32_groups"} & set(content)
    assert content["loss_scaler"].stands_for == ("deepspeed.runtime.fp16.loss_scaler", "LossScaler")
    assert content["loss_scaler"].state == {"cur_scale": 1.0, "dtype": ANY}
    assert content["loss_scaler"].state["dtype"].stands_for == ("torch", "bfloat16")
    assert content["zero_stage"].stands_for == ("deepspeed.runtime.zero.config", "ZeroStageEnum")
    assert (content["zero_stage"].args, content["zero_stage"].called) == ((1,), True)
    assert content["param_groups"][0]["betas"] == (0.9, 0.95)


def test_an_optimizer_that_keeps_its_step_elsewhere_gets_no_step_file(tmp_path: Path) -> None:
    universal.convert(write_checkpoint(tmp_path, whole_state(), Saved(2, step_in_groups=True)), tmp_path)
    zero = tmp_path / "global_step120_universal" / "zero"
    assert not list(zero.rglob("step.pt"))
    assert Archive(zero / "optimizer_state.pt").load()["param_groups"][0]["step"] == 120


def test_a_nested_module_converts_under_full_names(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2, nested=True))
    outcome = universal.convert(source, tmp_path)
    assert outcome["weights_compared"] == 5
    assert (tmp_path / "global_step120_universal/zero/language_model.encoder.head.weight/fp32.pt").is_file()


def test_the_source_is_only_read(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "run", whole_state(), Saved(4))
    before = tree(tmp_path / "run")
    universal.convert(source, tmp_path / "elsewhere")
    assert tree(tmp_path / "run") == before
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [
        "global_step120_universal",
        "latest_universal",
    ]


def test_the_receipt_says_what_was_compared(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(4, info=INFO))
    universal.convert(source, tmp_path)
    receipt = json.loads((tmp_path / "global_step120_universal" / "receipt.json").read_text())
    assert receipt["source"]["folder"] == str(source)
    assert receipt["source"]["data_parallel"] == 4
    assert {entry["name"] for entry in receipt["source"]["files"]} == {path.name for path in source.iterdir()}
    assert receipt["groups"] == [{"numel": 260, "shard": 66}, {"numel": 36, "shard": 10}]
    assert receipt["tensors"]["embedding.weight"]["fp32"]["shape"] == [13, 8]
    assert receipt["tensors"]["embedding.weight"]["step"] == 120.0
    assert set(receipt["files"]) == {
        str(path.relative_to(tmp_path / "global_step120_universal"))
        for path in (tmp_path / "global_step120_universal").rglob("*")
        if path.is_file() and path.name != "receipt.json"
    }


def test_a_second_run_finds_the_verified_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    universal.convert(source, tmp_path)
    before = tree(tmp_path / "global_step120_universal")
    (tmp_path / "latest_universal").unlink()  # as if killed between the rename and the pointer
    assert universal.convert(source, tmp_path)["outcome"] == "already-converted"
    assert "nothing to do" in capsys.readouterr().out
    assert tree(tmp_path / "global_step120_universal") == before
    assert (tmp_path / "latest_universal").read_text() == "global_step120_universal"


def test_a_copied_source_with_new_times_is_known_by_its_content(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    universal.convert(source, tmp_path)
    for path in source.iterdir():
        path.touch()
    assert universal.convert(source, tmp_path)["outcome"] == "already-converted"


shapes_strategy = st.lists(
    st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25)
@given(
    shapes=shapes_strategy,
    first=st.integers(1, 9),
    second=st.integers(1, 9),
    wrapper=st.sampled_from([BF16, ZERO]),
)
def test_two_cuts_of_one_state_give_the_same_bytes(
    shapes: list[list[tuple[int, ...]]], first: int, second: int, wrapper: str
) -> None:
    named = [{f"g{g}.p{i}.weight": shape for i, shape in enumerate(group)} for g, group in enumerate(shapes)]
    state = state_of(named)
    root = Path(tempfile.mkdtemp())
    try:
        results = []
        for number, data_parallel in enumerate((first, second)):
            source = write_checkpoint(root / str(number), state, Saved(data_parallel, wrapper))
            universal.convert(source, root / str(number))
            result = root / str(number) / "global_step120_universal"
            assert_holds(result, state)
            results.append({p.relative_to(result): p.read_bytes() for p in files_of_parameters(result)})
        assert results[0] == results[1]
    finally:
        shutil.rmtree(root)


def files_of_parameters(result: Path) -> list[Path]:
    return [path for path in sorted((result / "zero").rglob("*.pt")) if path.name != "optimizer_state.pt"]
