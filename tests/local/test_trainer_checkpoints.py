"""The folder, the files, their contents and the order in which they appear are the launcher's."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconciler.local.trainer import arguments, checkpoints, environment, network, pickles
from reconciler.local.trainer.partitions import Fragment, Layout, Optimizer, Rates
from reconciler.local.trainer.schedule import Schedule, limits

SIZES = network.Sizes(layers=1, hidden=16, heads=2, kv_heads=1, ffn=24, vocabulary=256, seq=16, rope_theta=1e4)


def make(ranks: int) -> tuple[Any, Optimizer, Schedule]:
    variables = {
        "HEADS": "2", "NLAYERS": "1", "HIDDEN": "16", "NUM_KV_HEAD": "1", "FFN_HIDDEN_SIZE": "24", "SEQ": "16",
        "GLOBAL_BATCH": str(ranks), "WORLD_SIZE": str(ranks), "TRAIN_ITERS": "9", "DATA_FILE_LIST": "list",
    }  # fmt: skip
    args = arguments.parse(environment.command_line(variables, []))
    args.iteration = 7
    optimizer = Optimizer(network.initial(SIZES, 1), ranks, Rates(1e-3, 0.9, 0.95, 1e-5, 0.1), 1.0)
    schedule = Schedule(
        limits(lr=1e-3, min_lr=0, style="constant", train_iters=9, global_batch=ranks, warmup_fraction=0)
    )
    return args, optimizer, schedule


def write(folder: Path, ranks: int = 3) -> Optimizer:
    args, optimizer, schedule = make(ranks)
    checkpoints.save(folder, args, SIZES, optimizer, schedule, 256)
    checkpoints.write_tracker(folder, 7)
    return optimizer


def test_layout(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(path.name for path in (tmp_path / "global_step7").iterdir()) == [
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt",
        "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt",
        "mp_rank_00_model_states.pt",
    ]
    assert (tmp_path / "latest").read_text() == "global_step7"
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "7"


def test_latest_is_written_before_the_last_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = pickles.save

    def watched(value: dict[str, Any], path: Path) -> None:
        events.append(f"{path.name} (latest: {(tmp_path / 'latest').exists()})")
        real(value, path)

    monkeypatch.setattr(pickles, "save", watched)
    write(tmp_path)
    assert events == [
        "mp_rank_00_model_states.pt (latest: False)",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt (latest: False)",
        "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt (latest: True)",
        "bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt (latest: True)",
    ]


def test_a_kill_between_shards_leaves_latest_ahead_of_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pickles.save

    def killed(value: dict[str, Any], path: Path) -> None:
        if "rank_2" in path.name:
            path.write_bytes(b"half a shard")
            raise KeyboardInterrupt
        real(value, path)

    monkeypatch.setattr(pickles, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert (tmp_path / "latest").read_text() == "global_step7"
    assert not (tmp_path / "latest_checkpointed_iteration.txt").exists()
    with pytest.raises(pickles.UnreadableCheckpoint):
        pickles.load(tmp_path / "global_step7" / checkpoints.shard_file(2))


def test_model_file(tmp_path: Path) -> None:
    write(tmp_path)
    state = pickles.load(tmp_path / "global_step7" / checkpoints.MODEL_FILE)
    inner = state["module"]["language_model"]
    assert inner["embedding"]["word_embeddings"]["weight"].dtype == torch.bfloat16
    assert "layers.0.mlp.dense_h_to_4h.weight" in inner["encoder"]
    assert inner["output_layer"]["weight"].shape == (256, 16)
    assert [type(group) for group in state["param_shapes"]] == [OrderedDict, OrderedDict]
    assert set(network.flattened(state["module"])) == {name for group in state["param_shapes"] for name in group}
    expected = {"dp_world_size": 3, "mp_world_size": 1, "global_steps": 7, "iteration": 7, "optimizer": None}
    assert {key: state[key] for key in expected} == expected
    assert state["universal_checkpoint_info"]["original_vocab_size"] == 256


def test_shards_put_together_are_the_parameters(tmp_path: Path) -> None:
    optimizer = write(tmp_path)
    shards = [
        pickles.load(tmp_path / "global_step7" / checkpoints.shard_file(rank))["optimizer_state_dict"]
        for rank in range(3)
    ]
    assert [shard["partition_count"] for shard in shards] == [[3, 3]] * 3
    for number, group in enumerate(optimizer.groups):
        paddings = [shard["group_paddings"][number] for shard in shards]
        assert paddings == [0, 0, group.layout.padding], "all of it is booked on the last rank"
        for name, whole in group.whole("master").items():
            pieces = []
            for shard in shards:
                if name in shard["param_slice_mappings"][number]:
                    place = pickles.fragment(shard["param_slice_mappings"][number][name])
                    flat = shard["single_partition_of_fp32_groups"][number]
                    pieces.append(flat[place.start : place.start + place.numel])
            assert torch.equal(torch.cat(pieces).view(whole.shape), whole)


@given(numels=st.lists(st.integers(1, 40), min_size=1, max_size=5), ranks=st.integers(1, 9))
def test_fragments_cover_every_element_once_and_never_the_padding(numels: list[int], ranks: int) -> None:
    layout = Layout("g", True, {f"p{number}": (numel,) for number, numel in enumerate(numels)}, ranks)
    assert layout.shard % 2 == 0
    assert 0 <= layout.padding < 2 * ranks
    fragments = [layout.fragments(rank) for rank in range(ranks)]
    for name, (numel,) in layout.shapes.items():
        assert sum(found[name].numel for found in fragments if name in found) == numel
    for found in fragments:
        assert all(place.start >= 0 and place.start + place.numel <= layout.shard for place in found.values())


def test_fragments_carry_deepspeeds_class_name_without_deepspeed(tmp_path: Path) -> None:
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / "global_step7" / checkpoints.shard_file(0)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        text = archive.read(name)
    assert b"deepspeed.utils.tensor_fragment\nfragment_address" in text
    assert Fragment.__module__.encode() not in text


def test_a_checkpoint_that_names_another_class_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "proof", "executed"))

    torch.save({"module": Evil()}, tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(pickles.UnreadableCheckpoint, match="cannot be read as a checkpoint"):
        pickles.load(tmp_path / "evil.pt")
    assert not (tmp_path / "proof").exists()


def test_adamw_is_torchs_own() -> None:
    torch.manual_seed(0)
    _, optimizer, _ = make(2)
    reference = {
        name: torch.nn.Parameter(value.clone())
        for group in optimizer.groups
        for name, value in group.whole("master").items()
    }
    matrices = [value for value in reference.values() if value.dim() > 1]
    norms = [value for value in reference.values() if value.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-5)
    for _ in range(5):
        optimizer.clear()
        for name, weight in optimizer.weights.items():
            assert weight.grad is not None
            weight.grad.copy_(torch.randn_like(weight) * 1e-3)
            reference[name].grad = weight.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(list(reference.values()), 1.0)
        assert optimizer.step() == pytest.approx(float(norm), rel=1e-5)
        adamw.step()
    for group in optimizer.groups:
        for name, value in group.whole("master").items():
            torch.testing.assert_close(value, reference[name].detach(), rtol=1e-5, atol=1e-7)
            assert torch.equal(optimizer.weights[name].detach(), value.to(torch.bfloat16).float())
