"""Token files are Megatron's, byte for byte, and files of another kind are refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.local import indexed


@settings(max_examples=40)
@given(
    documents=st.lists(st.lists(st.integers(0, 65_499), max_size=20), max_size=12),
    dtype=st.sampled_from([np.uint16, np.int32]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], dtype: type[np.generic]
) -> None:
    prefix = tmp_path_factory.mktemp("idx") / "a.b"
    assert indexed.write(prefix, documents, dtype) == sum(map(len, documents))
    data = indexed.IndexedDataset(prefix)
    assert (data.dtype, data.tokens) == (np.dtype(dtype), sum(map(len, documents)))
    assert [data.document(number).tolist() for number in range(len(data))] == documents
    for number, document in enumerate(documents):
        assert data.document(number, 2, 3).tolist() == document[2:5]


def test_bytes_of_an_index(tmp_path: Path) -> None:
    indexed.write(tmp_path / "a", [[1, 2, 3], [4]])
    expected = (
        b"MMIDIDX\0\0"
        + struct.pack("<QBQQ", 1, 8, 2, 3)
        + struct.pack("<2i", 3, 1)
        + struct.pack("<2q3q", 0, 6, 0, 1, 2)
    )
    assert (tmp_path / "a.idx").read_bytes() == expected
    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<4H", 1, 2, 3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.idx"]


@pytest.mark.parametrize(
    ("vocabulary", "dtype"),
    [
        pytest.param(32_000, np.uint16, id="Llama 2"),
        pytest.param(65_500, np.int32, id="limit"),
        pytest.param(256_000, np.int32, id="gemma"),
    ],
)
def test_token_type(vocabulary: int, dtype: type[np.generic]) -> None:
    assert indexed.token_type(vocabulary) is dtype


def damaged(index: bytes, at: int, value: bytes) -> bytes:
    return index[:at] + value + index[at + len(value) :]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        pytest.param(lambda old: b"TNTIDX\0\0" + old[8:], "legacy", id="legacy magic"),
        pytest.param(lambda old: b"PK" + old[2:], "not a Megatron index", id="another magic"),
        pytest.param(lambda old: b"", "not a Megatron index", id="empty"),
        pytest.param(lambda old: damaged(old, 9, struct.pack("<Q", 2)), "version 2", id="newer version"),
        pytest.param(lambda old: damaged(old, 17, b"\x07"), "float32", id="another type"),
        pytest.param(lambda old: damaged(old, 17, b"\x63"), "code 99", id="unknown type"),
        pytest.param(lambda old: old[:-1], "cut off", id="cut off"),
        pytest.param(lambda old: damaged(old, 34, struct.pack("<i", -3)), "negative", id="negative size"),
        pytest.param(
            lambda old: damaged(old, 34, struct.pack("<i", 5)), "one of the two is cut off", id="sizes disagree"
        ),
        pytest.param(
            lambda old: damaged(old, 42, struct.pack("<q", 600)), "points past the end", id="pointer past the end"
        ),
    ],
)
def test_damaged_indices_are_refused(tmp_path: Path, index, words: str) -> None:  # type: ignore[no-untyped-def]
    indexed.write(tmp_path / "a", [[1, 2, 3], [4]])
    path = tmp_path / "a.idx"
    path.write_bytes(index(path.read_bytes()))
    with pytest.raises(indexed.NotIndexed, match=words):
        indexed.IndexedDataset(tmp_path / "a")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(indexed.NotIndexed, match=r"Dataset does not exist: .*a\.idx"):
        indexed.IndexedDataset(tmp_path / "a")


def test_an_interrupted_write_leaves_nothing_under_the_final_names(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), indexed.IndexedWriter(tmp_path / "a") as writer:
        writer.add([1, 2])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
