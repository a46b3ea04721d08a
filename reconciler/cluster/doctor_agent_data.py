"""The doctor's look at token files: every pair that a data list names, its index read and compared with its tokens.

Sent in front of doctor_agent.py; Python 3.6, standard library only. The format is Megatron's indexed_dataset:
`.idx`, little-endian, holds magic, version, type code, sequences n, documents + 1, then int32 sizes[n] (tokens), int64
pointers[n] (bytes), int64 documents[documents + 1]; `.bin` is the bare tokens.
"""

import hashlib
import os
import re
import struct
import time

MYPY = False
if MYPY:
    from typing import Any, Dict

    from reconciler.cluster.agent import LIST_BYTES_MAX
    from reconciler.cluster.agent_disk import Refused, disk_trouble, read_whole

    Json = Dict[str, Any]

INDEX = struct.Struct("<9sQBQQ")
MAGIC = b"MMIDIDX\x00\x00"
LEGACY = b"TNTIDX\x00\x00"
TYPES = {1: ("uint8", 1), 2: ("int8", 1), 3: ("int16", 2), 4: ("int32", 4), 5: ("int64", 8), 8: ("uint16", 2)}
COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
PROBLEMS_SHOWN = 5
TEXT_MAX = 500


class BadPair(Exception):
    """What is wrong with a pair of token files."""


class Data:
    """Token files of the lists, each pair opened once, until the time is up."""

    def __init__(self, checkout: str, timeout_s: float) -> None:
        self.checkout = checkout
        self.until = time.monotonic() + timeout_s
        self.seen: "dict[str, tuple[str, int]]" = {}

    def look(self, path: str) -> "Json":
        data = read_whole(path, LIST_BYTES_MAX, follow=True)
        if data is None:
            raise Refused(f"{path} is longer than {LIST_BYTES_MAX} bytes")
        types: "dict[str, int]" = {}
        problems: "list[str]" = []
        count, rows, looked, tokens = 0, 0, 0, 0
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            fields = COMMENT.sub("", line).split()
            if not fields:
                continue
            rows += 1
            if time.monotonic() > self.until:
                continue
            looked += 1
            try:
                if len(fields) not in (2, 3):
                    raise BadPair(f"it has {len(fields)} fields; a line is: weight prefix corpus")
                kind, held = self.pair(fields[1])
                types[kind] = types.get(kind, 0) + 1
                tokens += held
            except (BadPair, OSError, ValueError) as error:  # ValueError: a name that no file can have
                count += 1
                why = disk_trouble(error) if isinstance(error, OSError) else str(error)
                if len(problems) < PROBLEMS_SHOWN:
                    problems.append(f"line {number}: {why}"[:TEXT_MAX])
        return {
            "sha256": hashlib.sha256(data).hexdigest(),
            "rows": rows,
            "looked": looked,
            "tokens": tokens,
            "types": types,
            "count": count,
            "problems": problems,
        }

    def pair(self, prefix: str) -> "tuple[str, int]":
        """(token type, tokens) of `prefix`.bin and `prefix`.idx. BadPair, OSError."""
        whole = os.path.join(self.checkout, prefix[:-4] if prefix.endswith((".bin", ".idx")) else prefix)
        if whole not in self.seen:
            self.seen[whole] = self.measured(whole)
        return self.seen[whole]

    @staticmethod
    def measured(whole: str) -> "tuple[str, int]":
        size = os.stat(whole + ".bin").st_size
        with os.fdopen(os.open(whole + ".idx", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as index:
            head = index.read(INDEX.size)
            if head.startswith(LEGACY):
                raise BadPair(f"{whole}.idx is in the legacy format (TNTIDX), which the trainer does not map")
            if len(head) < INDEX.size or not head.startswith(MAGIC):
                raise BadPair(f"{whole}.idx is no Megatron index")
            _, version, code, sequences, documents = INDEX.unpack(head)
            if version != 1 or code not in TYPES:
                raise BadPair(f"{whole}.idx has version {version} and token type {code}")
            expected = INDEX.size + 12 * sequences + 8 * documents
            found = os.fstat(index.fileno()).st_size
            if found != expected:
                raise BadPair(f"{whole}.idx has {found} bytes, its head asks for {expected}")
            kind, width = TYPES[code]
            tokens = 0
            if sequences:
                index.seek(INDEX.size + 4 * (sequences - 1))
                (last,) = struct.unpack("<i", index.read(4))
                index.seek(INDEX.size + 4 * sequences + 8 * (sequences - 1))
                (pointer,) = struct.unpack("<q", index.read(8))
                tokens = pointer // width + last
        if tokens <= 0:
            raise BadPair(f"{whole} holds no tokens")
        if size != tokens * width:
            raise BadPair(f"{whole}.bin has {size} bytes, its index asks for {tokens * width}")
        return kind, tokens


def list_facts(data: "Data", path: str) -> "Json":
    try:
        return {"read": data.look(path)}
    except (FileNotFoundError, NotADirectoryError):
        return {"unread": "there is no such file"}
    except Refused as refused:
        return {"unread": str(refused)}
    except OSError as error:
        return {"unread": disk_trouble(error)}
