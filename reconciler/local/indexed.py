"""Megatron's `.bin/.idx` pairs: the token files that trainers read.

`.bin` is the bare token array. `.idx`, little-endian: 9 bytes magic, u64 version 1, u8 type code, u64 number of
documents n, u64 n + 1, then int32 sizes[n] (tokens), int64 pointers[n] (bytes), int64 document boundaries[n + 1].
Two token types are in use: uint16 for vocabularies below 65 500, int32 above.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"MMIDIDX\x00\x00"
LEGACY_MAGIC: Final = b"TNTIDX\x00\x00"
VERSION: Final = 1
HEADER: Final = struct.Struct("<9sQBQQ")
UINT16_VOCABULARY_MAX: Final = 65_500

_CODES: Final[dict[int, type[np.generic]]] = {4: np.int32, 8: np.uint16}
_CODE_NAMES: Final = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32"}

Tokens = NDArray[Any]


class NotIndexed(ValueError):
    """A pair of files that is not a token dataset this code reads; the message says which file and what to do."""


def paths(prefix: Path) -> tuple[Path, Path]:
    """`data/prose-0` → (`data/prose-0.bin`, `data/prose-0.idx`); dots in the name stay."""
    return prefix.with_name(prefix.name + ".bin"), prefix.with_name(prefix.name + ".idx")


def token_type(vocabulary: int) -> type[np.generic]:
    """The type Megatron's preprocessing chooses for a vocabulary of this size."""
    return np.uint16 if vocabulary < UINT16_VOCABULARY_MAX else np.int32


class IndexedDataset:
    """One `.bin/.idx` pair, opened for reading; tokens stay on disk until asked for.

    Attributes:
        sizes: tokens of each document, int32.
        pointers: byte offset of each document in `.bin`, int64.
        dtype: type of one token, uint16 or int32.

    Raises:
        NotIndexed: the pair is missing, of another format, or the two files disagree.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._bin_path, self._idx_path = paths(prefix)
        for path in (self._idx_path, self._bin_path):
            if not path.is_file():
                raise NotIndexed(f"Dataset does not exist: {prefix}: there is no file {path}.")
        index = self._idx_path.read_bytes()
        code, documents = _read_header(index, self._idx_path)
        self.dtype = np.dtype(_CODES[code])
        offset = HEADER.size
        self.sizes: NDArray[np.int32] = np.frombuffer(index, np.int32, documents, offset)
        self.pointers: NDArray[np.int64] = np.frombuffer(index, np.int64, documents, offset + 4 * documents)
        self._check_lengths()
        self._tokens: Tokens = (
            np.memmap(self._bin_path, self.dtype, mode="r") if self.tokens else np.empty(0, self.dtype)
        )

    def _check_lengths(self) -> None:
        if bool((self.sizes < 0).any() or (self.pointers < 0).any() or (self.pointers % self.dtype.itemsize).any()):
            raise NotIndexed(
                f"{self._idx_path} holds negative sizes or offsets, or offsets inside a token: it is damaged; "
                "tokenise again."
            )
        expected, found = self.tokens * self.dtype.itemsize, self._bin_path.stat().st_size
        if expected != found:
            raise NotIndexed(
                f"{self._bin_path} has {found} bytes, but its index says {self.tokens} tokens of {self.dtype}, "
                f"{expected} bytes: one of the two is cut off or from another run; tokenise again."
            )
        ends = found - self.sizes * np.int64(self.dtype.itemsize)  # a sum with a pointer could overflow
        if bool((self.pointers > ends).any()):
            raise NotIndexed(f"{self._idx_path} points past the end of {self._bin_path}: tokenise again.")

    def __len__(self) -> int:
        """Number of documents."""
        return int(self.sizes.size)

    @property
    def tokens(self) -> int:
        """Number of tokens in all documents."""
        return int(self.sizes.sum(dtype=np.int64))

    def document(self, number: int, offset: int = 0, length: int | None = None) -> Tokens:
        """Tokens of one document from `offset` on, at most `length` of them (all that follow by default)."""
        start = int(self.pointers[number]) // self.dtype.itemsize
        size = int(self.sizes[number])
        stop = size if length is None else min(size, offset + length)
        return self._tokens[start + offset : start + stop]


def _read_header(index: bytes, path: Path) -> tuple[int, int]:
    """Type code and number of documents, after every length is checked."""
    if index.startswith(LEGACY_MAGIC):
        raise NotIndexed(f"{path} is in the legacy (TNTIDX, cached) format, which is not read; tokenise to mmap again.")
    if len(index) < HEADER.size or not index.startswith(MAGIC):
        raise NotIndexed(f"{path} does not begin with {MAGIC!r}: it is not a Megatron index.")
    _, version, code, documents, boundaries = HEADER.unpack_from(index)
    if version != VERSION:
        raise NotIndexed(f"{path} has index version {version}; only version {VERSION} is known.")
    if code not in _CODES:
        raise NotIndexed(
            f"{path} holds tokens of type {_CODE_NAMES.get(code, f'code {code}')}; tokens are uint16 (8) or int32 (4)."
        )
    expected = HEADER.size + 12 * documents + 8 * boundaries
    if boundaries != documents + 1 or len(index) != expected:
        raise NotIndexed(f"{path} has {len(index)} bytes where its header asks for {expected}: it is cut off.")
    return code, documents


class IndexedWriter:
    """Writes one pair under temporary names; both appear whole, `.bin` first, when the `with` block ends well."""

    def __init__(self, prefix: Path, dtype: type[np.generic] = np.uint16) -> None:
        self._bin_path, self._idx_path = paths(prefix)
        self._dtype = np.dtype(dtype)
        self._code = {np.dtype(kind): code for code, kind in _CODES.items()}[self._dtype]
        self._sizes: list[int] = []
        self._partial = self._bin_path.with_name(self._bin_path.name + ".partial")
        self._file = self._partial.open("wb")

    def __enter__(self) -> Self:
        return self

    def add(self, tokens: Sequence[int] | Tokens) -> None:
        """Append one document."""
        array = np.asarray(tokens, dtype=self._dtype)
        self._file.write(array.tobytes())
        self._sizes.append(int(array.size))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is not None:
            self._partial.unlink()
            return
        sizes = np.asarray(self._sizes, dtype=np.int32)
        ends = np.cumsum(sizes, dtype=np.int64) * self._dtype.itemsize
        pointers = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
        boundaries = np.arange(len(sizes) + 1, dtype=np.int64)
        header = HEADER.pack(MAGIC, VERSION, self._code, len(sizes), len(boundaries))
        partial = self._idx_path.with_name(self._idx_path.name + ".partial")
        partial.write_bytes(header + sizes.tobytes() + pointers.tobytes() + boundaries.tobytes())
        self._partial.replace(self._bin_path)
        partial.replace(self._idx_path)


def write(prefix: Path, documents: Iterable[Sequence[int] | Tokens], dtype: type[np.generic] = np.uint16) -> int:
    """Write all documents as one pair; returns the number of tokens."""
    tokens = 0
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add(document)
            tokens += len(document)
    return tokens
