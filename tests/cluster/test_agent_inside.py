"""What a checkpoint says of itself, read without torch: what real files say, and nothing that a hostile one wants."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reconciler.cluster.agent_inside import model_facts, shard_facts
from reconciler.cluster.agent_pickle import OPCODES_MAX, READ_BYTES_MAX, Odd, unpickled
from tests.convert.zero_writer import BF16, ZERO, Saved, state_of, write_checkpoint
from tests.local.test_trainer_checkpoints import write

MODEL, SHARD = "mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"


def test_a_model_file_says_how_it_was_trained(tmp_path: Path) -> None:
    write(tmp_path, ranks=3)
    facts = model_facts(str(tmp_path / "global_step7" / MODEL))
    assert {name: value for name, value in facts.items() if value is not None} == {
        "iteration": 7, "global_steps": 7, "samples": 0, "tokens": 0, "data_parallel": 3, "model_parallel": 1,
        "tensor": 1, "pipeline": 1, "layers": 1, "hidden": 16, "heads": 2, "kv_heads": 1, "ffn_hidden": 24,
        "sequence_length": 16, "micro_batch": 1, "global_batch": 3, "vocabulary": 256, 
        "rope_theta": 50000, "tensors": 9, "parameters": 10160, "rate_max": 1e-3, "rate_min": 0.0, "position": 0.0,
        "warmup": 0.0, "decay": 27.0, "style": "constant", "precision": "bf16", "deepspeed": "0.17.5",
    }  # fmt: skip


def test_a_shard_says_the_rate_of_the_next_step_and_what_it_keeps(tmp_path: Path) -> None:
    write(tmp_path)
    assert shard_facts(str(tmp_path / "global_step7" / SHARD)) == {
        "rate": 1e-3,
        "moments": ["exp_avg", "exp_avg_sq", "step"],
        "wrapper": "BF16_Optimizer",
    }


@pytest.mark.parametrize(("wrapper", "told"), [(BF16, "BF16_Optimizer"), (ZERO, "DeepSpeedZeroOptimizer")])
def test_deepspeed_s_class_is_told_by_what_only_one_keeps(tmp_path: Path, wrapper: str, told: str) -> None:
    how = Saved(2, wrapper=wrapper)
    folder = write_checkpoint(tmp_path, state_of([{"a": (4, 4)}, {"b": (4,)}]), how)
    (shard,) = folder.glob("*rank_0_mp_rank_00_optim_states.pt")
    assert shard_facts(str(shard))["wrapper"] == told


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_torch_writes_with(tmp_path: Path, protocol: int) -> None:
    held = {"iteration": 5, "module": {"w": torch.zeros(3, 4)}, "set": {1, 2}, "text": "ü" * 300, "bytes": b"x" * 300}
    torch.save(held, tmp_path / "x.pt", pickle_protocol=protocol)
    assert model_facts(str(tmp_path / "x.pt"))["iteration"] == 5


def test_a_file_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"iteration": 5}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert model_facts(str(tmp_path / "x.pt"))["iteration"] == 5


# --- hostile


def archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED, name: str = "archive/data.pkl") -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(name, data)
    return path


class Runs:
    """Unpickled by others, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return (os.mkdir, (str(self.path), 0o777))


def test_nothing_of_a_pickle_is_run(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    data = pickle.dumps(dict.fromkeys(("iteration", "lr_scheduler", "args"), Runs(pwned)), 2)
    facts = model_facts(str(archive(tmp_path / "x.pt", data)))
    assert {value for value in facts.values() if value is not None} == set()
    assert not pwned.exists()
    pickle.loads(data)
    assert pwned.exists(), "it would have been"


START, END = b"\x80\x02", b"."
PICKLES = {
    "empty": (b"", "it is damaged"),
    "not a pickle": (b"hello", "it is damaged"),
    "cut": (pickle.dumps({"iteration": 5}, 2)[:-1], "it is damaged|it does not end"),
    "no dictionary": (pickle.dumps([1], 2), "it holds no checkpoint"),
    "a stack that is empty": (START + b"0" + END, "its pickle has POP|it is damaged"),
    "no mark": (START + b"t" + END, "it is damaged"),
    "a memo that is not there": (START + b"h\x05" + END, "it is damaged"),
    "room for 2^40 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + END, "it is damaged"),
    "a number of a million digits": (START + b"L" + b"9" * 10**6 + b"L\n" + END, "thousands of digits"),
    "a number with underscores": (START + b"L" + b"9_" * 10**6 + b"9L\n" + END, "thousands of digits"),
    "a persistent name in text": (START + b"Pstorage\n" + END, "its pickle has PERSID"),
    "an extension": (START + b"\x82\x01" + END, "its pickle has EXT1"),
    "a class by its own __new__": (START + b"cos\nsystem\n)}\x92" + END, "its pickle has NEWOBJ_EX"),
    "an instance of old": (START + b"(ios\nsystem\n" + END, "its pickle has INST"),
    "too many opcodes": (START + b"N" * (OPCODES_MAX + 1) + END, "longer than that of a checkpoint"),
    "too many bytes": (b"N" * (READ_BYTES_MAX + 1), "more than"),
    "appends to a dictionary": (START + b"}Na" + END, "appends to what is no list"),
}


@pytest.mark.parametrize("what", PICKLES)
def test_an_odd_pickle_cannot_be_read_and_says_why(tmp_path: Path, what: str) -> None:
    data, why = PICKLES[what]
    with pytest.raises(Odd, match=rf"^x\.pt cannot be read: .*({why})"):
        unpickled(str(archive(tmp_path / "x.pt", data)))


BOMBS = {
    "nested ten thousand deep": START + b"]" * 10_000 + b"a" * 9_999 + END,
    "itself": START + b"}q\x00U\x04argsh\x00s" + END,
    "each named twice by the next": START + b"}U\x06moduleN" + b"\x86q\x00h\x00" * 10_000 + b"0"[:0] + b"s" + END,
    "a memo entry of a high number": START + b"}r\xff\xff\xff\x7f" + END,
    "keys of tuples in tuples": START + b"})" + b"q\x00h\x00\x86" * 10_000 + b"Ns" + END,
    "huge keys": START + b"}(" + b"\x8a\xff" + b"\x7f" * 255 + b"N" * 1 + b"u" + END,
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_pickle_takes_no_more_memory_than_its_length_is_worth(tmp_path: Path, what: str) -> None:
    path = archive(tmp_path / "x.pt", BOMBS[what])
    tracemalloc.start()
    try:
        model_facts(str(path))
    except Odd:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 60_000_000


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("nothing", "there is no such file"),
        ("a folder", "Is a directory|not an ordinary file"),
        ("a link", "symbolic link"),
        ("a pipe", "not an ordinary file"),
        ("empty", "not written as torch writes"),
        ("text", "not written as torch writes"),
        ("cut short", "cut short at"),
        ("a pickle that unpacks to gigabytes", "compressed, or has more than"),
        ("no pickle", "it holds no pickle"),
        ("a checksum that is wrong", "it is damaged"),
        ("a list of entries of gigabytes", "it is damaged|its list of entries has"),
    ],
)
def test_a_file_that_is_none_of_torch_s_says_why(tmp_path: Path, what: str, why: str) -> None:
    path = tmp_path / "x.pt"
    whole = archive(tmp_path / "whole.pt", pickle.dumps({"iteration": 5}, 2)).read_bytes()
    match what:
        case "a folder":
            path.mkdir()
        case "a link":
            path.symlink_to("whole.pt")
        case "a pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "text":
            path.write_text("hello" * 100)
        case "cut short":
            path.write_bytes(whole[:-5])
        case "a pickle that unpacks to gigabytes":
            archive(path, bytes(10_000_000), zipfile.ZIP_DEFLATED)
        case "no pickle":
            archive(path, b"x", name="archive/other")
        case "a checksum that is wrong":
            path.write_bytes(whole.replace(b"iteration", b"iteratiom", 1))
        case "nothing":
            pass
        case _:
            assert what == "a list of entries of gigabytes"
            ending = bytearray(whole[-22:])
            ending[12:16] = struct.pack("<I", 2**31)
            path.write_bytes(whole[:-22] + ending)
    with pytest.raises(Odd, match=rf"^x\.pt cannot be read: .*({why})"):
        unpickled(str(path))


@pytest.mark.parametrize(
    "value", [-1, 2**70, True, "5", 1.5, 2.0**60, float("nan"), None, [5], {"a": 1}, torch.tensor(5)], ids=repr
)
def test_a_counter_is_a_whole_number_or_not_told(tmp_path: Path, value: object) -> None:
    torch.save(
        {"iteration": value, "ds_version": "\x1b[2J", "lr_scheduler": {"max_lr": float("inf")}}, tmp_path / "x.pt"
    )
    facts = model_facts(str(tmp_path / "x.pt"))
    assert (facts["iteration"], facts["deepspeed"], facts["rate_max"]) == (None, None, None)


def test_what_is_read_is_the_pickle_and_not_the_tensors(tmp_path: Path) -> None:
    """A model file has gigabytes: of this one all but a few pages are a hole that reads as nothing."""
    buffer = io.BytesIO()
    torch.save({"module": {"w": torch.zeros(2_000_000)}, "iteration": 5}, buffer)
    path = tmp_path / "x.pt"
    path.write_bytes(buffer.getvalue())
    tracemalloc.start()
    assert model_facts(str(path))["iteration"] == 5
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size
