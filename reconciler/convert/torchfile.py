"""Files as torch.save writes them, read without torch and without trust.

A file is a zip archive of uncompressed entries: `data.pkl`, a pickle, and `data/<n>`, the bytes of its tensors.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.checksums import checksum, joined
    from reconciler.convert.pickles import (
        ITEM_BYTES,
        PICKLE_BYTES_MAX,
        KnownClasses,
        Refused,
        Storage,
        unfolded,
    )

CHUNK_BYTES = 1 << 20
EARLIER = "Take an earlier checkpoint, or save this one again."


@dataclass(frozen=True)
class Span:
    """The bytes of one entry of an archive, and the checksum that its writer noted (0 where that was switched off)."""

    start: int
    size: int
    checksum: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Archive:
    """One torch file. It is opened for each reading and not kept open: there may be more files than descriptors."""

    def __init__(self, path: Path, inert: Iterable[str] = (), way_out: str = EARLIER) -> None:
        self.path, self.inert, self.way_out = path, set(inert), way_out
        self.stat = regular_file(path)
        with opened(path) as file:
            try:
                entries = zipfile.ZipFile(file).infolist()
            except (zipfile.BadZipFile, ValueError, struct.error) as problem:
                raise Refused(
                    f"{path}: not a whole torch file ({problem}; {self.stat.st_size} bytes). It was cut short or "
                    f"damaged. {way_out}"
                ) from None
            self.root = entries[0].filename.split("/")[0] if entries else ""
            self.entries = {entry.filename.partition("/")[2]: self._span(file, entry) for entry in entries}
        if "constants.pkl" in self.entries or "data.pkl" not in self.entries:
            self.damaged("it holds no checkpoint")
        if "byteorder" in self.entries and self.record("byteorder") != b"little":
            self.damaged("it was written on a big-endian machine")

    def _span(self, file: io.BufferedReader, entry: zipfile.ZipInfo) -> Span:
        file.seek(entry.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04" or entry.compress_type != zipfile.ZIP_STORED:
            self.damaged(f"its entry {entry.filename!r} is unreadable")
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        span = Span(entry.header_offset + 30 + name_bytes + extra_bytes, entry.file_size, entry.CRC)
        if span.end > self.stat.st_size:
            self.damaged(f"its entry {entry.filename!r} reaches beyond the end")
        return span

    def damaged(self, what: str) -> NoReturn:
        raise Refused(f"{self.path}: damaged: {what}. {self.way_out}")

    def span(self, name: str) -> Span:
        if name not in self.entries:
            self.damaged(f"its entry {name!r} is missing")
        return self.entries[name]

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """`count` bytes of the file, a chunk at a time, each valid until the next."""
        with opened(self.path) as file:
            about = os.fstat(file.fileno())
            if (about.st_size, about.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
                raise Refused(f"{self.path}: changed while it was read. Repeat when the run has finished saving.")
            buffer = memoryview(bytearray(min(CHUNK_BYTES, count)))
            file.seek(start)
            while count:
                got = file.readinto(buffer[: min(len(buffer), count)])
                if not got:
                    raise Refused(f"{self.path}: ends early; it was cut short while it was read.")
                count -= got
                yield buffer[:got]

    def read(self, name: str, start: int, count: int) -> bytes:
        """`count` bytes of a record from `start` on."""
        span = self.span(name)
        if start + count > span.size:
            self.damaged(f"its entry {name!r} has {span.size} bytes, {start + count} are needed")
        return b"".join(map(bytes, self.chunks(span.start + start, count)))

    def record(self, name: str) -> bytes:
        return self.read(name, 0, min(self.span(name).size, PICKLE_BYTES_MAX + 1))

    def check(self, name: str, found: int | None = None) -> None:
        """Compare a record with the checksum that torch noted; `found` is that of its bytes, if they were read."""
        span = self.span(name)
        if found is None and span.checksum:
            found = 0
            for chunk in self.chunks(span.start, span.size):
                found = checksum(chunk, found)
        if span.checksum not in (0, found):
            self.damaged(f"the content of its entry {name!r} does not match its checksum")

    def filled(self, name: str, parts: list[tuple[int, int, int]]) -> int | None:
        """The checksum of a record of which parts, in order, were read: (start, bytes, CRC-32). What lies between them,
        padding mostly, is read now."""
        span, sums, end = self.span(name), [], 0
        for start, count, found in [*parts, (span.size, 0, 0)]:
            if start < end:
                return None  # one part lies in another: it is read as a whole
            for chunk in self.chunks(span.start + end, start - end):
                sums.append((checksum(chunk), len(chunk)))
            sums.append((found, count))
            end = start + count
        return joined(sums)

    def load(self) -> Any:
        """What was saved, with tensors as `Tensor`; the pickle is checked first."""
        self.check("data.pkl")
        data = self.record("data.pkl")
        if len(data) > PICKLE_BYTES_MAX:
            self.damaged(f"its pickle has more than {PICKLE_BYTES_MAX} bytes")
        try:
            return unfolded(KnownClasses(data, str(self.path), self._storage, self.inert).load())
        except Refused:
            raise
        except Exception as problem:  # a hostile or damaged pickle can raise anything
            self.damaged(f"its pickle cannot be read ({problem})")

    def _storage(self, dtype: str, key: str) -> Storage:
        name = f"data/{key}"
        return Storage(self, name, dtype, self.span(name).size // ITEM_BYTES[dtype])


def opened(path: Path) -> io.BufferedReader:
    """An ordinary file for reading, never a link; unbuffered reads go through `readinto` of whole chunks."""
    try:
        return io.BufferedReader(
            io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)), 4096
        )
    except OSError as problem:
        raise Refused(f"{path}: cannot be read: {problem.strerror}.") from None


def regular_file(path: Path) -> os.stat_result:
    try:
        about = path.lstat()
    except OSError as problem:
        raise Refused(f"{path}: cannot be read: {problem.strerror}.") from None
    if not stat.S_ISREG(about.st_mode):
        raise Refused(f"{path}: not an ordinary file. Checkpoint files must lie in their folder, not be links.")
    return about


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
