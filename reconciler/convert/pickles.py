"""Pickles as torch writes them: which classes one may name, and the same names given back when one is written."""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

PICKLE_BYTES_MAX = 256 << 20
VALUES_MAX = 5_000_000
DEPTH_MAX = 100


class Refused(Exception):
    """The conversion or the verification cannot go on; the message says what is wrong, where, and what to do."""


# Read as inert placeholders: they keep their pickled content and their name, and none of their code is imported.
INERT = frozenset(
    {
        "argparse.Namespace",
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
        "deepspeed.utils.tensor_fragment.fragment_address",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.PosixPath",
        "torch.device",
    }
)
STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}
ITEM_BYTES = {
    "bfloat16": 2,
    "bool": 1,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "int8": 1,
    "uint8": 1,
}
ITEM_CODES = {"bool": "?", "float16": "e", "float32": "f", "float64": "d", "int32": "i", "int64": "q"}
FLOATING = ("bfloat16", "float16", "float32", "float64")
# Named by the settings that a run saves; no tensor of these is read.
OTHER_DTYPES = frozenset({"complex128", "complex64", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"})


@dataclass(frozen=True)
class Storage:
    """The data of one or more tensors: `numel` elements in the record `name` of an archive."""

    archive: Any
    name: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's elements lie, `offset` elements into its storage; nothing is read until someone asks."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype

    @property
    def numel(self) -> int:
        return product(self.shape)

    @property
    def contiguous(self) -> bool:
        return self.numel < 2 or all(
            size == 1 or step == product(self.shape[axis + 1 :])
            for axis, (size, step) in enumerate(zip(self.shape, self.stride))
        )

    def bytes(self, start: int, count: int) -> bytes:
        """`count` elements from element `start` on, of a contiguous tensor; read now."""
        return b"".join(map(bytes, self.chunks(start, count)))

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """The same, a chunk at a time, each valid until the next."""
        if not self.contiguous or start < 0 or start + count > self.numel:
            raise ValueError(f"{count} elements at {start} of a tensor of {self.numel}")
        size, archive = ITEM_BYTES[self.dtype], self.storage.archive
        chunks: Iterator[memoryview] = archive.chunks(
            archive.span(self.storage.name).start + (self.offset + start) * size, count * size
        )
        return chunks

    def value(self) -> float:
        """The number that a tensor of one element holds."""
        data = self.bytes(0, 1) if self.numel == 1 else b""
        if not data or self.dtype not in ITEM_CODES:
            raise ValueError(f"a {self.dtype} tensor of {self.numel} elements is not a number")
        return float(struct.unpack("<" + ITEM_CODES[self.dtype], data)[0])


class Size(tuple):  # type: ignore[type-arg]
    """Stands for torch.Size."""

    stands_for = ("torch", "Size")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (tuple(self),))


class Placeholder:
    """Stands for an instance of a class that is not imported; pickles back under that class's name."""

    stands_for: tuple[str, str] = ("", "")

    def __new__(cls, *args: Any) -> Placeholder:
        self = object.__new__(cls)
        self.args, self.called, self.state = args, False, None
        return self

    args: tuple[Any, ...]
    called: bool
    state: Any

    def __init__(self, *args: Any) -> None:
        self.called = True

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Built by a call or by __new__ alone: the real class may accept only the way it was written.
        if self.called:
            return (type(self), self.args, self.state)
        return (copyreg.__newobj__, (type(self), *self.args), self.state)  # type: ignore[attr-defined]


def standing_for(module: str, attribute: str) -> type[Placeholder]:
    """A class of nothing, under the name of one that is not imported."""
    return type(attribute, (Placeholder,), {"stands_for": (module, attribute)})


STORAGE_CLASSES = {dtype: standing_for("torch", name) for name, dtype in STORAGES.items()}
REBUILD = standing_for("torch._utils", "_rebuild_tensor_v2")


class KnownClasses(pickle._Unpickler):
    """An unpickler that resolves names from a fixed list and imports nothing.

    The classes it hands out are made afresh for each file, so one file cannot alter what the next one meets. It is the
    one written in Python, since that in C reserves as much memory as a damaged or hostile memo entry has for a number.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes, where: str, storage: Callable[[str, str], Storage], inert: set[str]):
        super().__init__(io.BytesIO(data))
        self.where, self.storage, self.inert = where, storage, inert | INERT
        self.known: dict[str, Any] = {
            "__builtin__.frozenset": lambda items=(): frozenset(map(plain_key, items)),
            "__builtin__.set": lambda items=(): set(map(plain_key, items)),
            "_codecs.encode": lambda text, encoding: str(text).encode("latin1"),
            "builtins.frozenset": lambda items=(): frozenset(map(plain_key, items)),
            "builtins.set": lambda items=(): set(map(plain_key, items)),
            "collections.OrderedDict": lambda items=(): OrderedDict((plain_key(key), value) for key, value in items),
            "torch.Size": lambda sizes=(): Size(sizes),
            "torch._utils._rebuild_parameter": lambda data, requires_grad, hooks: data,
            "torch._utils._rebuild_tensor_v2": lambda *parts: rebuilt(*parts[:4]),
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in self.known:
            self.known[name] = self._made(name, module_name, global_name)
        return self.known[name]

    def _made(self, name: str, module: str, attribute: str) -> Any:
        if name in self.inert:
            return standing_for(module, attribute)
        if module == "torch" and attribute in STORAGES:
            return type(attribute, (Placeholder,), {"dtype": STORAGES[attribute]})
        if module == "torch" and (attribute in ITEM_BYTES or attribute in OTHER_DTYPES):
            return standing_for(module, attribute)
        raise Refused(
            f"{self.where}: the pickle names {name!r}, which is not a class this converter knows; nothing of it was "
            f"run. If the file is yours and the class only carries settings, add: --inert-class {name!r}"
        )

    def persistent_load(self, pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise Refused(f"{self.where}: the pickle refers to data in an unknown way; the file is damaged.")
        dtype = getattr(pid[1], "dtype", None)
        if not (isinstance(dtype, str) and dtype in ITEM_BYTES):
            raise Refused(f"{self.where}: the pickle names a storage of unknown type; the file is damaged.")
        return self.storage(dtype, pid[2])


def plain_key(key: Any) -> Any:
    """A key as checkpoints have them. Tuples in tuples, each named twice by the next, take for ever to hash."""
    parts = key if type(key) in (tuple, Size) else (key,)
    if not all(isinstance(part, (str, bytes, int, float, type(None), Placeholder, type)) for part in parts):
        raise ValueError("a set or dictionary has a key that no checkpoint has")
    return key


def with_plain_keys(opcode: bytes, keys_of: Callable[[list[Any]], list[Any]]) -> None:
    """Let an opcode that fills a set or dictionary look at the keys first, which `keys_of` finds on the stack."""
    original = KnownClasses.dispatch[opcode[0]]

    def load(self: Any) -> None:
        for key in keys_of(self.stack):
            plain_key(key)
        original(self)

    KnownClasses.dispatch[opcode[0]] = load


# A checkpoint has no byte arrays, and this one reserves as much memory as a number says.
del KnownClasses.dispatch[pickle.BYTEARRAY8[0]]
with_plain_keys(pickle.SETITEM, lambda stack: stack[-2:-1])
with_plain_keys(pickle.SETITEMS, lambda stack: stack[::2])
with_plain_keys(pickle.DICT, lambda stack: stack[::2])
with_plain_keys(pickle.ADDITEMS, lambda stack: stack)
with_plain_keys(pickle.FROZENSET, lambda stack: stack)


def unfolded(content: Any) -> Any:
    """The content, after walking it as its readers will: a few bytes of pickle can name themselves, or each other so
    often that no walk ends. ValueError for these."""
    level, count = [content], 0
    for _ in range(DEPTH_MAX):
        held: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                held += value.values()
            elif isinstance(value, (list, tuple, set, frozenset)):
                held += value
            elif isinstance(value, Placeholder):
                held += [value.args, value.state]
            if count + len(held) > VALUES_MAX:
                raise ValueError(f"it unfolds to more than {VALUES_MAX} values")
        level, count = held, count + len(held)
        if not level:
            return content
    raise ValueError(f"it is nested more than {DEPTH_MAX} deep")


def rebuilt(storage: Storage, offset: int, size: Any, stride: Any) -> Tensor:
    """A tensor of `storage`, after checking that it lies inside it (the file holds other things too)."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor has an impossible shape")
    last = offset + sum((size[axis] - 1) * stride[axis] for axis in range(len(size)))
    if 0 not in size and last >= storage.numel:
        raise ValueError("a tensor reaches beyond its data")
    return Tensor(storage, offset, size, stride)


class NamingPickler(pickle._Pickler):
    """Writes placeholders under the class names they were read by, so that DeepSpeed gets its own objects back.

    A tensor's data becomes an entry of `data`, which the caller writes beside the pickle as torch.save does.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.data: list[Tensor] = []

    def save_global(self, obj: Any, name: Any = None) -> None:
        module, attribute = vars(obj).get("stands_for", ("", "")) if isinstance(obj, type) else ("", "")
        if not module:
            super().save_global(obj, name)  # type: ignore[misc]
            return
        self.write(pickle.GLOBAL + f"{module}\n{attribute}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        return ("storage", STORAGE_CLASSES[obj.dtype], obj.name, "cpu", obj.numel)

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor):
            return NotImplemented
        # Its own elements only: a view would drag the whole storage into what is written.
        own = Storage(obj.storage.archive, str(len(self.data)), obj.dtype, obj.numel)
        self.data.append(obj)
        steps = tuple(product(obj.shape[axis + 1 :]) for axis in range(len(obj.shape)))
        return REBUILD, (own, 0, tuple(obj.shape), steps, False, OrderedDict())


def product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
