"""Binary files of others: token indices and checkpoint pickles."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import torch

from reconciler.cluster.agent_disk import Refused as AgentRefused
from reconciler.cluster.doctor_agent_data import BadPair, Data
from reconciler.convert.pickles import Refused
from reconciler.convert.torchfile import Archive
from reconciler.local import indexed
from reconciler.local.indexed import IndexedDataset, NotIndexed
from tests.fuzz.engine import Target

FOLDER = tempfile.TemporaryDirectory(prefix="reconcile-fuzz-")
PAIR = Path(FOLDER.name) / "pair"
SHARD = Path(FOLDER.name) / "shard.pt"


# --- token indices: two bytes with the size of .bin, then .idx


def index_seeds() -> Iterator[bytes]:
    for documents in ([], [[1, 2, 3]], [[1] * 7, [], [2] * 20]):
        indexed.write(PAIR, documents)
        yield struct.pack("<H", PAIR.with_name("pair.bin").stat().st_size) + PAIR.with_name("pair.idx").read_bytes()


def indices(data: bytes) -> Hashable:
    """Refused, or every document can be read and has the tokens that the index says."""
    size = struct.unpack("<H", data[:2].ljust(2, b"\0"))[0]
    PAIR.with_name("pair.bin").write_bytes(bytes(size))
    PAIR.with_name("pair.idx").write_bytes(data[2:])
    told: list[str] = []
    try:
        dataset = IndexedDataset(PAIR)
        assert [len(dataset.document(i)) for i in range(len(dataset))] == dataset.sizes.tolist()
        told.append("read")
    except NotIndexed as refused:
        told.append(str(refused).replace(str(PAIR), "")[:20])
    try:
        told.append(Data("/", 9.0).pair(str(PAIR))[0])
    except (BadPair, AgentRefused) as refused:
        told.append(str(refused).replace(str(PAIR), "")[:20])
    return tuple(told)


# --- pickles

FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.dlopen",
    "exec",
    "compile",
    "import",
    "open",
    "tempfile.",
    "sqlite3.",
)
HARMLESS = ("os.listdir", "os.scandir", "os.putenv")


class Watch:
    """Notes what a piece of code does that a reader of data has no business with."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.event)

    def event(self, name: str, arguments: Any) -> None:
        own = name == "open" and (type(arguments[0]) is int or str(arguments[0]) == str(SHARD))
        if self.on and name.startswith(FORBIDDEN) and name not in HARMLESS and not own:
            self.seen.append(f"{name} {str(arguments)[:200]}")


WATCH = Watch()
"".encode("raw_unicode_escape")  # pickle's own text codec is imported on first use


def checkpoint_like() -> Any:
    return OrderedDict(
        module=OrderedDict(weight=torch.zeros(4, 2, dtype=torch.bfloat16), bias=torch.ones(3)),
        args={"a": 1, "b": [1.5, None, True], "c": (2, "x", b"y"), "d": {1, 2}, "e": torch.Size([2]), "f": torch.half},
    )  # fmt: skip


class Asks:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


LAUGHS = pickle.MARK + b"K\x01" * 2 + pickle.TUPLE + b"".join(
    pickle.BINPUT + bytes([n]) + pickle.MARK + (pickle.BINGET + bytes([n])) * 9 + pickle.LIST for n in range(60)
)  # fmt: skip
TOLD_TWICE = b"K\x01" + b"".join(
    pickle.BINPUT + bytes([n]) + pickle.BINGET + bytes([n]) + pickle.TUPLE2 for n in range(80)
)
HOSTILE: dict[str, bytes] = {
    "global": b"cos\nsystem\n(S'touch pwned'\ntR.",
    "stack-global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch pwned\x85R.",
    "dotted-name": b"\x80\x04\x8c\x05torch\x8c\x0dhub.load.sub\x93.",
    "attribute-of-a-known-name": b"\x80\x04\x8c\x0bcollections\x8c\x17OrderedDict.__reduce__\x93.",
    "inst": b"(S'touch pwned'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch pwned'\no.",
    "newobj": b"\x80\x02cos\nsystem\nU\x05touch\x85\x81.",
    "newobj-ex": b"\x80\x04cos\nsystem\n)}\x92.",
    "build-sets-a-method": b"ccollections\nOrderedDict\n)R}U\x06__eq__cos\nsystem\nsb.",
    "build-on-a-function": b"ctorch._utils\n_rebuild_tensor_v2\n(N}U\x08__code__Nstb.",
    "extension": b"\x80\x02\x82\x01.",
    "extension-4": b"\x80\x02\x84\xff\xff\xff\x7f.",
    "persistent-text": b"Pcos\n.",
    "persistent-other-type": b"(U\x07storagecos\nsystem\nU\x010U\x03cpuK\x01tQ.",
    "persistent-beyond": b"(U\x07storagectorch\nFloatStorage\nU\x08../../etU\x03cpuK\x01tQ.",
    "memo-bomb": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "memo-bomb-text": b"Np99999999999999999999\n.",
    "long-length": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "bytes-length": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytearray-length": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "frame-length": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "billion-laughs": LAUGHS + b".",
    "laughs-as-a-key": b"}" + TOLD_TWICE + b"Ns.",
    "laughs-in-a-set": b"c__builtin__\nset\n]" + TOLD_TWICE + b"a\x85R.",
    "laughs-in-a-frozenset": b"\x80\x04(" + TOLD_TWICE + b"\x91.",
    "deep-key": b"}N" + b"\x85" * 100_000 + b"Ns.",
    "deep": b"]" * 50_000 + b"a" * 49_999 + b".",
    "holds-itself": b"]q\x00h\x00a.",
    "dictionary-holds-itself": b"}q\x00U\x01ah\x00s.",
    "huge-size": b"ctorch\nSize\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft\x85R.",
    "huge-tensor": b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQK\x00"
    b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft(K\x00K\x00t\x89}tR.",
    "getattr": b"c__builtin__\ngetattr\n(c__builtin__\nset\nU\x07__class__tR.",
    "codecs-decode": b"c_codecs\ndecode\n(U\x02aaU\x03hextR.",
    "numpy-object-array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR.",
}  # fmt: skip


def pickle_seeds() -> Iterator[bytes]:
    yield from HOSTILE.values()
    for protocol in range(6):
        yield pickle.dumps({"a": [1, 2.5, "x", b"y", None, True, {3}, (4,)], "b": OrderedDict(c=2**70)}, protocol)
    buffer = io.BytesIO()
    torch.save(checkpoint_like(), buffer)
    with zipfile.ZipFile(buffer) as archive:
        yield next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


def archive_of(data: bytes) -> bytes:
    """A torch file with this pickle and a few storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("shard/data.pkl", data)
        archive.writestr("shard/byteorder", b"little")
        for number in range(3):
            archive.writestr(f"shard/data/{number}", bytes(64))
        archive.writestr("shard/version", b"3\n")
    return buffer.getvalue()


def converter_pickles(data: bytes) -> Hashable:
    """The converter reads values or refuses, and nothing that is named is imported, called or opened."""
    SHARD.write_bytes(archive_of(data))
    archive = Archive(SHARD)
    WATCH.seen.clear()
    WATCH.on = True
    try:
        told = type(archive.load()).__name__
    except Refused as refused:
        told = _reason(str(refused))
    finally:
        WATCH.on = False
    assert not WATCH.seen, WATCH.seen
    return told


def _reason(text: str) -> str:
    return "".join(c for c in text.replace(str(SHARD), "") if c.isalpha() or c == " ")[:60]


TARGETS = (
    Target(
        "indices",
        "refused, or every document has its tokens",
        index_seeds,
        indices,
        (indexed.MAGIC, b"\x04", b"\x08", b"\xff" * 7 + b"\x7f", b"\x00" * 12),
    ),
    Target(
        "converter-pickles",
        "values or Refused; nothing named is imported, called or opened",
        pickle_seeds,
        converter_pickles,
        tuple(bytes([op]) for op in pickle._Unpickler.dispatch) + tuple(HOSTILE.values()),
    ),
)
