"""Data lists and token counts on this machine's disks: read with bounds, written whole or not at all."""

from __future__ import annotations

import filecmp
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from reconciler.model.listfields import ListCode
from reconciler.model.listreader import BadList, Finding, ParsedList, parse_blocks

_BLOCK_BYTES: Final = 1 << 20
_IDX_HEADER: Final = struct.Struct("<9sQBQQ")
_IDX_MAGIC: Final = b"MMIDIDX\x00\x00"
_ITEM_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 8: 2}


class _NotUtf8(ValueError):
    def __init__(self, line: int, column: int, byte: int) -> None:
        super().__init__()
        self.line, self.column, self.byte = line, column, byte


class WriteRefused(Exception):
    """The list was not written and the target is as it was; the message says why and what to do."""


class SizeUnknown(Exception):
    """A dataset's size could not be read here; the message says which file and why."""


def read_list(path: Path, default_corpus: str) -> ParsedList | BadList:
    """Read the list at `path`; what the file system or the encoding refuses comes back as a problem too."""
    try:
        with path.open("rb") as file:
            return parse_blocks(_text_blocks(file), default_corpus=default_corpus)
    except _NotUtf8 as bad:
        message = f"byte 0x{bad.byte:02x} is not UTF-8 text; expected lines of weight prefix corpus"
        fix = "Is this a data list? If it is, save it as UTF-8."
        return BadList((Finding(bad.line, bad.column, ListCode.UNREADABLE, message, fix),))
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return BadList((Finding(1, 1, ListCode.UNREADABLE, message, "Give the path of a data list."),))


def _text_blocks(file: BinaryIO) -> Iterator[str]:
    lines = 0
    while data := file.read(_BLOCK_BYTES):
        if not data.endswith(b"\n"):
            data += file.readline(_BLOCK_BYTES)
        try:
            yield data.decode()
        except UnicodeDecodeError as error:
            before = data[: error.start]
            column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
            raise _NotUtf8(lines + before.count(b"\n") + 1, column, data[error.start]) from None
        if not data.endswith(b"\n"):
            return  # The end of the file, or of all patience with a line: that one is refused as too long already.
        lines += data.count(b"\n")


def write_list(path: Path, blocks: Iterable[str], *, overwrite: bool) -> tuple[str, bool]:
    """Write a list beside its place, flush it to the disk, and only then give it its name.

    Returns its SHA-256 in hex, and whether the file changed: one that already holds exactly this is left alone. Raises
    WriteRefused for a target that differs (unless `overwrite`), is no regular file, or cannot be written.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise WriteRefused(f"{path} is not a regular file. Leave out -o and redirect the output instead.")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        digest = _write_new(partial, blocks)
        if target.exists():
            if filecmp.cmp(partial, target, shallow=False):
                return digest, False
            if not overwrite:
                raise WriteRefused(
                    f"{path} exists and holds something else; it was left as it is. A trainer that has used it caches "
                    "its index by name: write to a new name, or replace it with --force."
                )
        partial.replace(target)
        _sync_directory(target.parent)
        return digest, True
    except OSError as error:
        raise WriteRefused(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_new(path: Path, blocks: Iterable[str]) -> str:
    hashed = sha256()
    with path.open("xb") as file:
        for block in blocks:
            data = block.encode()
            hashed.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashed.hexdigest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tokens_held(prefixes: Iterable[str]) -> int:
    """Tokens in all of a list's `.bin/.idx` pairs, from two short reads of each `.idx`. Raises SizeUnknown."""
    return sum(map(_tokens_of, prefixes))


def _tokens_of(prefix: str) -> int:
    path = Path(prefix + ".idx")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(_IDX_HEADER.size)
            if len(header) < _IDX_HEADER.size or not header.startswith(_IDX_MAGIC):
                raise SizeUnknown(f"{path} is not a Megatron index")
            _, version, code, count, boundaries = _IDX_HEADER.unpack(header)
            if version != 1 or code not in _ITEM_BYTES:
                raise SizeUnknown(f"{path} has index version {version} and token type {code}, which are not known")
            if size != _IDX_HEADER.size + 12 * count + 8 * boundaries:
                raise SizeUnknown(f"{path} has {size} bytes, which its header contradicts: it is cut off")
            if count == 0:
                return 0
            # Documents lie one after the other: where the last begins, plus its length, is the number of all tokens.
            file.seek(_IDX_HEADER.size + 4 * (count - 1))
            (last_size,) = struct.unpack("<i", file.read(4))
            file.seek(_IDX_HEADER.size + 4 * count + 8 * (count - 1))
            (last_pointer,) = struct.unpack("<q", file.read(8))
    except OSError as error:
        raise SizeUnknown(f"{path}: {error.strerror or error}") from error
    tokens = int(last_pointer) // _ITEM_BYTES[code] + int(last_size)
    data = Path(prefix + ".bin")
    if data.exists() and data.stat().st_size != tokens * _ITEM_BYTES[code]:
        raise SizeUnknown(f"{path} tells of {tokens} tokens, but {data} has another length")
    return tokens
