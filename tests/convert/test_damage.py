"""A damaged, mixed or hostile checkpoint is refused by name, nothing of it runs, and nothing is published."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reconciler.convert import universal
from reconciler.convert.layout import PROGRAM
from reconciler.convert.merging import placed
from reconciler.convert.partial import lock
from reconciler.convert.pickles import Refused, Storage, rebuilt
from reconciler.convert.result import read_back
from reconciler.convert.torchwriter import save
from reconciler.convert.verification import verify
from tests.convert.zero_writer import BF16, ZERO, Saved, State, deepspeed_named, state_of, write_checkpoint

RANK = "bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt"
MODEL = "mp_rank_00_model_states.pt"


def whole_state(seed: int = 0) -> State:
    return state_of([{"a.weight": (16, 8), "b.weight": (9, 4)}, {"norm.weight": (30,)}], seed)


def refused(source: Path, target: Path) -> str:
    """The message of the refusal; checks that nothing was published or left behind."""
    with pytest.raises(Refused) as caught:
        universal.convert(source, target)
    left = [path.name for path in target.iterdir() if "universal" in path.name] if target.is_dir() else []
    assert left == []
    return str(caught.value)


def flip(source: Path) -> None:
    """Flip one bit of one weight, in place: only a checksum can tell."""
    path = source / RANK.format(3)
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size if "/data/" in entry.filename else 0)
    data = bytearray(path.read_bytes())
    name_bytes, extra_bytes = struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30])
    data[entry.header_offset + 30 + name_bytes + extra_bytes + 5] ^= 1
    path.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def resave(path: Path, change: Callable[[Any], None], *, to_buffer: bool = True) -> None:
    """Change the content of a torch file as another program would have written it."""
    with deepspeed_named():
        content = torch.load(path, weights_only=False)
        change(content)
        if to_buffer:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            path.write_bytes(buffer.getvalue())
        else:
            torch.save(content, path)


def factored_optimizer(content: dict[str, Any]) -> None:
    for state in content["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
        state["exp_avg_sq_row"] = state.pop("exp_avg_sq")[:2].clone()


def quantized_optimizer(content: dict[str, Any]) -> None:
    for state in content["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
        state["state1"] = state.pop("exp_avg").to(torch.uint8)


def other_step(content: dict[str, Any]) -> None:
    for state in content["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
        state["step"] = torch.tensor(121.0)


def shorter_moments(content: dict[str, Any]) -> None:
    state = content["optimizer_state_dict"]["base_optimizer_state"]["state"][0]
    state["exp_avg"] = state["exp_avg"][:-2].clone()


def no_info(content: dict[str, Any]) -> None:
    del content["universal_checkpoint_info"]


def unused_pattern(content: dict[str, Any]) -> None:
    content["universal_checkpoint_info"]["vocabulary_parameter_patterns"] = ["embedding"]


def changed(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda source: resave(source / name, change)


# More, in test_damaged_folders.py, of what also must not be resumed from.
DAMAGE = [
    pytest.param(flip, [RANK.format(3), "checksum"], id="a flipped bit in a shard"),
    pytest.param(changed(RANK.format(0), factored_optimizer), ["exp_avg_sq_row", "--finetune"], id="factored moments"),
    pytest.param(changed(RANK.format(0), quantized_optimizer), ["state1", "--finetune"], id="quantized moments"),
    pytest.param(changed(RANK.format(1), other_step), ["disagree on the step"], id="a shard of another step"),
    pytest.param(changed(RANK.format(1), shorter_moments), ["differs in size"], id="moments cut short"),
    pytest.param(changed(MODEL, no_info), ["universal_checkpoint_info"], id="nothing known of the vocabulary"),
    pytest.param(changed(MODEL, unused_pattern), ["'embedding'", "matches no parameter"], id="an unused pattern"),
]


@pytest.mark.parametrize("wrapper", [BF16, ZERO])
@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_damage_is_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], Any], words: list[str], wrapper: str
) -> None:
    source = write_checkpoint(tmp_path / "run", whole_state(), Saved(4, wrapper))
    damage(source)
    message = refused(source, tmp_path / "run")
    assert [word for word in words if word not in message] == [], message


def test_exchanged_shards_are_caught_by_their_fragments(tmp_path: Path) -> None:
    """Without the file's own name inside, the slice mappings still place a shard."""
    source = write_checkpoint(tmp_path, whole_state(), Saved(4))
    for rank in range(4):
        resave(source / RANK.format(rank), lambda content: None)
    swap(source / RANK.format(2), source / RANK.format(3))
    assert "holds what rank 3 should" in refused(source, tmp_path)


def test_exchanged_shards_inside_one_parameter_are_caught_by_the_weights(tmp_path: Path) -> None:
    """Two middle shards of one wide matrix have equal mappings; the rounded weights tell them apart."""
    state = state_of([{"wide.weight": (4, 64)}, {"norm.weight": (64,)}])
    source = write_checkpoint(tmp_path, state, Saved(4))
    for rank in range(4):
        resave(source / RANK.format(rank), lambda content: None)
    swap(source / RANK.format(1), source / RANK.format(2))
    assert "files of two saves or runs are mixed" in refused(source, tmp_path)
    outcome = universal.convert(source, tmp_path, universal.Options(compare_weights=False))
    assert outcome["weights_compared"] == 0


def test_a_shard_of_another_run_is_caught_by_the_weights(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "one", whole_state(seed=1), Saved(4))
    other = write_checkpoint(tmp_path / "two", whole_state(seed=2), Saved(4))
    (source / RANK.format(2)).write_bytes((other / RANK.format(2)).read_bytes())
    assert "mixed" in refused(source, tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "mp_rank_01_model_states.pt", "shard of rank 0, 1 of model-parallel rank 1 is missing", id="model"
        ),
        pytest.param(
            "bf16_zero_pp_rank_0_mp_rank_01_optim_states.pt", "mp_rank_01_model_states.pt is missing", id="shard"
        ),
        pytest.param("layer_00-model_states.pt", f"saved as {MODEL}", id="layer"),
    ],
)
def test_a_file_of_a_model_parallel_run_among_others_is_refused(tmp_path: Path, name: str, words: str) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    (source / name).write_bytes((source / MODEL).read_bytes())
    assert words in refused(source, tmp_path)


class Hostile:
    """Unpickles by creating a file, wherever unpickling is not restricted."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("name", [MODEL, RANK.format(1)])
def test_a_hostile_pickle_is_named_and_does_not_run(tmp_path: Path, name: str) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    mark = tmp_path / "executed"
    torch.save({"module": {}, "trap": Hostile(mark)}, source / name)
    message = refused(source, tmp_path)
    assert name in message and "posix.mkdir" in message
    assert not mark.exists()
    torch.load(source / name, weights_only=False)  # the trap is a real one
    assert mark.exists()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="os.system"),
        pytest.param(b"cbuiltins\neval\n(S'1'\ntR.", id="eval"),
        pytest.param(b"c__builtin__\ngetattr\n.", id="getattr under its old name"),
        pytest.param(b"ctorch\nload\n.", id="a function of torch that is no storage"),
        pytest.param(b"ctorch.storage\n_load_from_bytes\n.", id="the nested loader of torch"),
        pytest.param(b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.", id="a dotted name"),
        pytest.param(b"(I1\n", id="a pickle that stops"),
        pytest.param(b"S'archive'\nQ.", id="data of unknown kind"),
        pytest.param(pickle.dumps([[]] * 3, protocol=5) + b"x", id="a list where a checkpoint should be"),
    ],
)
def test_pickles_are_read_with_known_classes_only(tmp_path: Path, payload: bytes) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    with zipfile.ZipFile(source / RANK.format(0), "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    assert RANK.format(0) in refused(source, tmp_path)


def test_a_tensor_cannot_reach_beyond_its_own_data(tmp_path: Path) -> None:
    """The file holds other things too, so a tensor must be held inside its own record."""
    four = Storage(None, "data/0", "float32", 4)
    with pytest.raises(ValueError, match="beyond its data"):
        rebuilt(four, 0, (5,), (1,))
    with pytest.raises(ValueError, match="beyond its data"):
        rebuilt(four, 1, (2, 2), (2, 1))
    with pytest.raises(ValueError, match="impossible shape"):
        rebuilt(four, -1, (2,), (1,))
    assert rebuilt(four, 1, (3,), (1,)).numel == 3


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    """A compressed entry could unfold to any size; torch never writes one."""
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    with zipfile.ZipFile(source / RANK.format(0), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x00" * 100_000)
    assert "unreadable" in refused(source, tmp_path)


def test_a_named_class_can_be_let_in_as_an_empty_shell(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    mark = tmp_path / "executed"
    resave(source / MODEL, lambda content: content.update(extra=Hostile(mark)))
    assert "--inert-class 'posix.mkdir'" in refused(source, tmp_path)
    universal.convert(source, tmp_path, universal.Options(inert_classes=("posix.mkdir",)))
    assert not mark.exists()


def test_a_target_inside_the_source_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    for target in (source, source / "deeper"):
        assert "inside the source" in refused(source, target)


def test_something_else_in_the_place_of_the_result_is_left_alone(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    other = tmp_path / "global_step120_universal"
    other.mkdir()
    (other / "precious").write_text("mine")
    with pytest.raises(Refused, match="not made by this converter"):
        universal.convert(source, tmp_path)
    assert (other / "precious").read_text() == "mine"
    assert not (tmp_path / "latest_universal").exists()


def test_a_result_of_other_files_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """A run that starts again from an earlier step writes the same folder name with other content."""
    source = write_checkpoint(tmp_path / "one", whole_state(seed=1), Saved(2))
    other = write_checkpoint(tmp_path / "two", whole_state(seed=2), Saved(2))
    universal.convert(other, tmp_path / "one")
    with pytest.raises(Refused, match="made from other files"):
        universal.convert(source, tmp_path / "one")


def damaged_tensor(result: Path) -> None:
    path = result / "zero" / "a.weight" / "exp_avg.pt"
    data = bytearray(path.read_bytes())
    at = data.find(whole_state().groups[0]["a.weight"]["exp_avg"].numpy().tobytes()[:32])
    data[at + 9] ^= 0x10
    path.write_bytes(data)


def damaged_frame(result: Path) -> None:
    """A bit of the label `cat_dim`, which says how a loader cuts the tensor."""
    path = result / "zero" / "a.weight" / "exp_avg.pt"
    data = bytearray(path.read_bytes())
    data[data.find(b"cat_dim") + 3] ^= 0x01
    path.write_bytes(data)


def damaged_model(result: Path) -> None:
    path = result / MODEL
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


def flipped_shard(result: Path) -> None:
    """As a disk does it: no time changes."""
    path = result.parent / "global_step120" / RANK.format(3)
    about = path.stat()
    flip(result.parent / "global_step120")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def edited_receipt(result: Path) -> None:
    path = result / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["tensors"]["a.weight"]["fp32"]["sha256"] = "0" * 64
    path.write_text(json.dumps(receipt))


def source_trained_on(result: Path) -> None:
    source = result.parent / "global_step120"
    for path in source.iterdir():
        path.unlink()
    source.rmdir()
    (result.parent / "latest").unlink()
    write_checkpoint(result.parent, whole_state(seed=5), Saved(4))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(damaged_tensor, "not the one in the receipt", id="a flipped bit"),
        pytest.param(lambda r: (r / "zero/b.weight/fp32.pt").unlink(), "fp32.pt is missing", id="a missing tensor"),
        pytest.param(lambda r: (r / "zero/extra.pt").touch(), "was added later", id="a file nobody wrote"),
        pytest.param(damaged_frame, "exp_avg.pt: damaged", id="a flipped bit beside the tensor"),
        pytest.param(damaged_model, "mp_rank_00_model_states.pt has changed", id="a flipped bit in the model file"),
        pytest.param(edited_receipt, "not the one in the receipt", id="an edited receipt"),
        pytest.param(lambda r: (r / "receipt.json").write_text("{}"), "unreadable", id="a broken receipt"),
        pytest.param(lambda r: (r / "receipt.json").unlink(), "not made and verified", id="no receipt"),
        pytest.param(flipped_shard, "trust neither", id="a flipped bit in a shard"),
        pytest.param(source_trained_on, "has changed since", id="a source saved again with other content"),
    ],
)
def test_verification_catches_what_happened_to_a_result(
    tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(4))
    universal.convert(source, tmp_path)
    result = tmp_path / "global_step120_universal"
    assert verify(tmp_path)["source_compared"] is True
    damage(result)
    with pytest.raises(Refused, match=words):
        verify(result)


def test_a_result_whose_receipt_was_forged_with_it_still_fails_against_its_source(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(4))
    universal.convert(source, tmp_path)
    result = tmp_path / "global_step120_universal"
    path = result / "zero" / "a.weight" / "fp32.pt"
    content = torch.load(path)
    content["param"][0, 0] += 1
    torch.save(content, path)
    receipt = json.loads((result / "receipt.json").read_text())
    found = read_back(path)
    receipt["tensors"]["a.weight"]["fp32"], receipt["files"]["zero/a.weight/fp32.pt"] = found.facts, found.file
    (result / "receipt.json").write_text(json.dumps(receipt))
    with pytest.raises(Refused, match="does not hold what the shards"):
        verify(result)
    for entry in source.iterdir():
        entry.unlink()
    source.rmdir()
    assert verify(result)["source_compared"] is False


def test_a_wrong_merge_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back is held against what was read, whatever wrote it where."""
    source = write_checkpoint(tmp_path, whole_state(), Saved(4))
    right = placed

    def exchanged(parameter: Any, rank: int, start: int, count: int) -> Any:
        for first, length, at in right(parameter, rank, start, count):
            half = length // 2
            yield first, half, at + length - half
            yield first + half, length - half, at

    monkeypatch.setattr("reconciler.convert.writing.placed", exchanged)
    options = universal.Options(compare_weights=False)
    with pytest.raises(Refused, match="does not hold what the shards"):
        universal.convert(source, tmp_path, options)
    assert [path.name for path in tmp_path.iterdir() if "universal" in path.name] == []


def test_a_source_saved_again_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    beside = universal.write_beside

    def saved_again(*arguments: Any) -> Any:
        os.utime(source / RANK.format(1), ns=(1, 1))
        return beside(*arguments)

    monkeypatch.setattr(universal, "write_beside", saved_again)
    assert f"{RANK.format(1)}: changed during the conversion" in refused(source, tmp_path)


def test_a_bad_copy_of_the_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    right = universal.copied

    def cut_short(old: Path, new: Path) -> str:
        digest = right(old, new)
        os.truncate(new, new.stat().st_size - 1)
        return digest

    monkeypatch.setattr(universal, "copied", cut_short)
    assert "the copy differs" in refused(source, tmp_path)


def test_a_wrong_step_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    monkeypatch.setattr("reconciler.convert.writing.save", lambda value, path: save(121, path))
    assert "holds step 121.0, the shards 120.0" in refused(source, tmp_path)


def test_a_conversion_killed_anywhere_is_done_again_with_the_same_result(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {f"layers.{n}.weight": (512, 512) for n in range(16)}
    source = write_checkpoint(tmp_path, state_of([shapes, {"norm.weight": (512,)}]), Saved(4))
    for stop_at in ("shards,", "converting:", "checking"):
        kill_at(stop_at, source, tmp_path)
        assert len(list(tmp_path.glob("global_step120_universal.partial-*"))) == 1
        assert not (tmp_path / "global_step120_universal").exists()
        assert not (tmp_path / "latest_universal").exists()
    assert universal.convert(source, tmp_path)["outcome"] == "converted"
    assert not list(tmp_path.glob("*.partial-*"))
    universal.convert(source, tmp_path / "undisturbed")
    assert tensors_of(tmp_path) == tensors_of(tmp_path / "undisturbed")


def kill_at(words: str, source: Path, target: Path) -> None:
    """Start a conversion and kill it with SIGKILL when it says `words`."""
    command = [sys.executable, "-u", str(PROGRAM), str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if words in line:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    for partial in target.glob("*.partial-*"):  # its workers are killed for it, a moment later
        handle = os.open(partial, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.close(handle)


def tensors_of(root: Path) -> Any:
    return json.loads((root / "global_step120_universal" / "receipt.json").read_text())["tensors"]


def test_two_conversions_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, whole_state(), Saved(2))
    partial = tmp_path / "global_step120_universal.partial-other-1"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    lock(handle, partial)
    with pytest.raises(Refused, match="another conversion"):
        universal.convert(source, tmp_path)
    assert partial.is_dir()
    os.close(handle)
    universal.convert(source, tmp_path)
    assert not partial.exists()
