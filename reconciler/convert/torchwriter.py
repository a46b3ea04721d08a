"""Files written as torch.save writes them, so that torch.load takes them, with the data of tensors streamed."""

from __future__ import annotations

import errno
import io
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.checksums import checksum
    from reconciler.convert.pickles import ITEM_BYTES, NamingPickler

ALIGNMENT = 64
ZIP64 = 0xFFFFFFFF
STORED = struct.pack("<5H", 45, 0, 0, 0, 33)  # version, flags, method, time and date (1 January 1980)


class TorchFile:
    """A new file with `value` in it, whose tensors' data the caller gives by `put`; whole only after `finish`."""

    def __init__(self, path: Path, value: Any) -> None:
        self.path, self.root = path, path.stem
        pickled = io.BytesIO()
        pickler = NamingPickler(pickled)
        pickler.dump(value)
        self.tensors = pickler.data
        sizes = [
            (f"data/{number}", tensor.numel * ITEM_BYTES[tensor.dtype]) for number, tensor in enumerate(self.tensors)
        ]
        self.plain = {"data.pkl": pickled.getvalue(), "byteorder": b"little", "version": b"3\n"}
        self.sizes = {name: len(data) for name, data in self.plain.items()}
        self.sizes.update(sizes)
        self.headers: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.end = 0
        for name, size in self.sizes.items():
            self.headers[name] = self.end
            self.starts[name] = self.end + len(self._local(name, 0))
            self.end = self.starts[name] + size
        path.unlink(missing_ok=True)
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def put(self, tensor: int, offset: int, data: bytes | memoryview) -> None:
        """Bytes of the data of tensor number `tensor`, `offset` bytes into it."""
        self._write(self.starts[f"data/{tensor}"] + offset, data)

    def finish(self, checksums: Mapping[int, int]) -> None:
        """Write what is not data; `checksums` has the CRC-32 of each tensor's data."""
        sums = {name: checksum(data) for name, data in self.plain.items()}
        sums.update({f"data/{number}": found for number, found in checksums.items()})
        for name, data in self.plain.items():
            self._write(self.starts[name], data)
        for name in self.sizes:
            self._write(self.headers[name], self._local(name, sums[name]))
        directory = b"".join(self._central(name, sums[name]) for name in self.sizes)
        self._write(self.end, directory + self._ending(len(directory)))

    def _write(self, at: int, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self.descriptor, left, at)
            at, left = at + written, left[written:]

    def _local(self, name: str, found: int) -> bytes:
        """An entry's header, with padding that brings its data to a multiple of ALIGNMENT, as torch does."""
        full, size = f"{self.root}/{name}".encode(), self.sizes[name]
        extra = struct.pack("<HHQQ", 1, 16, size, size) if size >= ZIP64 else b""
        padding = -(self.headers[name] + 30 + len(full) + len(extra) + 4) % ALIGNMENT
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        sizes = struct.pack("<III", found, min(size, ZIP64), min(size, ZIP64))
        return b"PK\x03\x04" + STORED + sizes + struct.pack("<HH", len(full), len(extra)) + full + extra

    def _central(self, name: str, found: int) -> bytes:
        full, size, at = f"{self.root}/{name}".encode(), self.sizes[name], self.headers[name]
        large = ([size, size] if size >= ZIP64 else []) + ([at] if at >= ZIP64 else [])
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        sizes = struct.pack("<III", found, min(size, ZIP64), min(size, ZIP64))
        rest = struct.pack("<5HII", len(full), len(extra), 0, 0, 0, 0, min(at, ZIP64))
        return b"PK\x01\x02" + struct.pack("<H", 45) + STORED + sizes + rest + full + extra

    def _ending(self, directory: int) -> bytes:
        count = len(self.sizes)
        ending = struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, count, count, directory, min(self.end, ZIP64), 0)
        if self.end < ZIP64:
            return ending
        at = self.end + directory
        record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, directory, self.end)
        return record + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1) + ending


def save(value: Any, path: Path) -> None:
    """Write a small value whole, with the data of its tensors."""
    with TorchFile(path, value) as file:
        found = {}
        for number, tensor in enumerate(file.tensors):
            data = tensor.bytes(0, tensor.numel)
            file.put(number, 0, data)
            found[number] = checksum(data)
        file.finish(found)


def sync(path: Path) -> None:
    """fsync a file or a folder; file systems that cannot sync folders are let off."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
