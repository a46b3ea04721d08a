"""Convert a DeepSpeed ZeRO-1/2 checkpoint to the universal layout, and prove the result.

One self-contained file: it needs the Python (3.9 or newer) and the torch of the launcher's environment and nothing
else, so that a job can run it where neither this project nor DeepSpeed is installed::

    python3 universal.py SOURCE TARGET      SOURCE: a global_stepN folder
                                            TARGET: the folder that will hold global_stepN_universal
    python3 universal.py --verify TARGET    repeat the verification of a result

A parameter is the concatenation of its fragments in data-parallel order, as `param_slice_mappings` names them. Padding
is never looked at, so it can be neither copied nor stripped wrongly. Everything is written into a sibling folder,
compared tensor by tensor with the shards, and only then renamed into place; `latest_universal` is written last.
The source is never written to. Exit codes: 0 done or already done, 1 refused with the reason on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import copyreg
import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import types
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

try:
    import torch
except ImportError:
    print("universal.py: torch is missing from this Python. Run it with the Python that trains.", file=sys.stderr)
    raise SystemExit(1) from None

TOOL = "cpt-reconciler universal"
VERSION = 1
STATES = ("fp32", "exp_avg", "exp_avg_sq")
RECEIPT = "receipt.json"
POINTER = "latest_universal"
PICKLE_BYTES_MAX = 256 << 20
VALUES_MAX = 5_000_000
DEPTH_MAX = 100
CHUNK_BYTES = 16 << 20
PROGRESS_BYTES = 16 << 20

STEP_FOLDER = re.compile(r"global_step(\d{1,12})")
SHARD_FILE = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d{1,6})_mp_rank_(\d{2,6})_optim_states\.pt")
MODEL_FILE = re.compile(r"mp_rank_(\d{2,6})_model_states\.pt")
PARAMETER_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.\-]{1,240}")


class Refused(Exception):
    """The conversion or the verification cannot go on; the message says what is wrong, where, and what to do."""


# --- Reading torch files: known classes only -------------------------------------------------------------------------

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
STORAGE_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


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


class KnownClasses(pickle._Unpickler):
    """An unpickler that resolves names from a fixed list and imports nothing.

    The classes it hands out are made afresh for each file, so one file cannot alter what the next one meets. It is the
    one written in Python, since that in C reserves as much memory as a damaged or hostile memo entry has for a number.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes, where: str, storage: Callable[[torch.dtype, str], torch.Tensor], inert: set[str]):
        super().__init__(io.BytesIO(data))
        self.where, self.storage, self.inert = where, storage, inert | INERT
        self.known: dict[str, Any] = {
            "__builtin__.frozenset": lambda items=(): frozenset(map(plain_key, items)),
            "__builtin__.set": lambda items=(): set(map(plain_key, items)),
            "_codecs.encode": lambda text, encoding: str(text).encode("latin1"),
            "builtins.frozenset": lambda items=(): frozenset(map(plain_key, items)),
            "builtins.set": lambda items=(): set(map(plain_key, items)),
            "collections.OrderedDict": lambda items=(): OrderedDict((plain_key(key), value) for key, value in items),
            "torch.Size": torch.Size,
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
            return type(attribute, (Placeholder,), {"stands_for": (module, attribute)})
        if module == "torch" and attribute in STORAGE_DTYPES:
            return type(attribute, (Placeholder,), {"dtype": STORAGE_DTYPES[attribute]})
        if module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype):
            return getattr(torch, attribute)
        raise Refused(
            f"{self.where}: the pickle names {name!r}, which is not a class this converter knows; nothing of it was "
            f"run. If the file is yours and the class only carries settings, add: --inert-class {name!r}"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise Refused(f"{self.where}: the pickle refers to data in an unknown way; the file is damaged.")
        dtype = getattr(pid[1], "dtype", None)
        if not isinstance(dtype, torch.dtype):
            raise Refused(f"{self.where}: the pickle names a storage of unknown type; the file is damaged.")
        return self.storage(dtype, pid[2])


def plain_key(key: Any) -> Any:
    """A key as checkpoints have them. Tuples in tuples, each named twice by the next, take for ever to hash."""
    parts = key if type(key) is tuple else (key,)
    if not all(isinstance(part, (str, bytes, int, float, type(None), Placeholder, torch.dtype)) for part in parts):
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


def rebuilt(storage: torch.Tensor, offset: int, size: Any, stride: Any) -> torch.Tensor:
    """A view of `storage`, after checking that it lies inside it (the mapping holds the rest of the file too)."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor has an impossible shape")
    if 0 in size:
        return torch.empty(size, dtype=storage.dtype)
    last = offset + sum((size[axis] - 1) * stride[axis] for axis in range(len(size)))
    if last >= storage.numel():
        raise ValueError("a tensor reaches beyond its data")
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


class Archive:
    """One file written by torch.save, memory-mapped: tensors are views of the file until someone reads them."""

    def __init__(self, path: Path, inert: Iterable[str] = ()) -> None:
        self.path, self.inert = path, set(inert)
        self.stat = regular_file(path)
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, struct.error) as problem:
            raise Refused(
                f"{path}: not a whole torch file ({problem}; {self.stat.st_size} bytes). It was cut short or damaged "
                "while being saved. Take an earlier checkpoint, or save this one again."
            ) from None
        self.bytes = torch.from_file(str(path), shared=False, size=self.stat.st_size, dtype=torch.uint8)
        self.root = entries[0].filename.split("/")[0] if entries else ""
        self.entries = {entry.filename.partition("/")[2]: self._span(entry) for entry in entries}
        if "constants.pkl" in self.entries or "data.pkl" not in self.entries:
            self._damaged("it holds no checkpoint")
        if "byteorder" in self.entries and bytes(octets(self._record("byteorder"))) != b"little":
            self._damaged("it was written on a big-endian machine")

    def _span(self, entry: zipfile.ZipInfo) -> tuple[int, int, int]:
        header = bytes(octets(self.bytes[entry.header_offset : entry.header_offset + 30]))
        if len(header) < 30 or header[:4] != b"PK\x03\x04" or entry.compress_type != zipfile.ZIP_STORED:
            self._damaged(f"its entry {entry.filename!r} is unreadable")
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        start = entry.header_offset + 30 + name_bytes + extra_bytes
        if start + entry.file_size > self.stat.st_size:
            self._damaged(f"its entry {entry.filename!r} reaches beyond the end")
        return start, entry.file_size, entry.CRC

    def _record(self, name: str) -> torch.Tensor:
        if name not in self.entries:
            self._damaged(f"its entry {name!r} is missing")
        start, size, _ = self.entries[name]
        return self.bytes[start : start + size]

    def _damaged(self, what: str) -> NoReturn:
        raise Refused(f"{self.path}: damaged: {what}. Take an earlier checkpoint, or save this one again.")

    def check(self) -> None:
        """Compare every entry with the checksum torch wrote beside it (0 where checksums were switched off)."""
        for name, (_, _, wanted) in self.entries.items():
            found = 0
            for chunk in chunks(octets(self._record(name))):
                found = zlib.crc32(chunk, found)
            if wanted not in (0, found):
                self._damaged(f"the content of its entry {name!r} does not match its checksum")

    def load(self) -> Any:
        data = self._record("data.pkl")
        if data.numel() > PICKLE_BYTES_MAX:
            self._damaged(f"its pickle has {data.numel()} bytes, more than {PICKLE_BYTES_MAX}")
        try:
            return unfolded(KnownClasses(bytes(octets(data)), str(self.path), self._storage, self.inert).load())
        except Refused:
            raise
        except Exception as problem:  # a hostile or damaged pickle can raise anything
            self._damaged(f"its pickle cannot be read ({problem})")

    def _storage(self, dtype: torch.dtype, key: str) -> torch.Tensor:
        record = self._record(f"data/{key}")
        if record.storage_offset() % 8 != 0:
            record = record.clone()
        return record.view(dtype)


def octets(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, without a copy. The tensor must outlive the view."""
    if not tensor.is_contiguous():
        raise ValueError("a tensor is not contiguous")
    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return memoryview(b"")
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B")


def chunks(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def regular_file(path: Path) -> os.stat_result:
    try:
        if path.is_symlink() or not path.is_file():
            raise Refused(f"{path}: not an ordinary file. Checkpoint files must lie in their folder, not be links.")
        return path.stat()
    except OSError as problem:
        raise Refused(f"{path}: cannot be read: {problem.strerror}.") from None


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


# --- The layout of the source ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """`numel` elements of a parameter, at `start` in the flat shard of data-parallel rank `rank`."""

    rank: int
    start: int
    numel: int


@dataclass(frozen=True)
class Parameter:
    """One parameter: where its pieces lie, and what the universal file says about it beside its values."""

    name: str
    group: int
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    rows_kept: int | None
    labels: dict[str, Any]

    @property
    def shape_kept(self) -> tuple[int, ...]:
        return self.shape if self.rows_kept is None else (min(self.rows_kept, self.shape[0]), *self.shape[1:])


@dataclass(frozen=True)
class Group:
    """One optimizer group: a flat buffer of `numel` elements, padded and cut into shards of `shard` elements."""

    numel: int
    shard: int
    offsets: dict[str, int]


@dataclass
class Shard:
    """What one rank wrote: per group the flat fp32 master, the optimizer state, and the fragments it holds."""

    path: Path
    content: dict[str, Any]
    masters: list[torch.Tensor]
    states: list[dict[str, Any]]
    fragments: list[dict[str, tuple[int, int]]]

    def flat(self, group: int, state: str) -> torch.Tensor:
        tensor = self.masters[group] if state == "fp32" else self.states[group][state]
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 1 or not tensor.is_contiguous():
            raise ValueError(f"{state} of group {group} is not a flat tensor")
        return tensor


@dataclass
class Source:
    """A checkpoint that was read and found consistent; `archives` holds the model file, then the shards."""

    folder: Path
    archives: list[Archive]
    shards: list[Shard]
    module: dict[str, torch.Tensor]
    groups: list[Group]
    parameters: list[Parameter]

    @property
    def model(self) -> Path:
        return self.archives[0].path

    @property
    def paths(self) -> list[Path]:
        return [archive.path for archive in self.archives]

    @property
    def state_bytes(self) -> int:
        return 4 * len(STATES) * sum(product(parameter.shape) for parameter in self.parameters)


@dataclass(frozen=True)
class Options:
    inert_classes: tuple[str, ...] = ()
    compare_weights: bool = True


def source_paths(folder: Path) -> list[Path]:
    """The model file, then the shards in rank order; judged by their names alone."""
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder. SOURCE must be a global_stepN folder.")
    if not STEP_FOLDER.fullmatch(folder.name):
        raise Refused(f"{folder}: SOURCE must be a folder named global_stepN, as the trainer writes it.")
    names = sorted(entry.name for entry in folder.iterdir())
    shards = shard_names(folder, names)
    models = [name for name in names if MODEL_FILE.fullmatch(name)]
    if len(models) > 1 or any(name.startswith("layer_") for name in names):
        refuse_model_parallel(folder, models[-1] if len(models) > 1 else "layer_*")
    if not models:
        raise Refused(f"{folder}: mp_rank_00_model_states.pt is missing: not a whole ZeRO-1 checkpoint.")
    if not shards:
        raise Refused(f"{folder}: no *zero_pp_rank_*_optim_states.pt: there is no optimizer state to convert.")
    missing = [rank for rank in range(max(shards) + 1) if rank not in shards]
    if missing:
        raise Refused(
            f"{folder}: the shard of rank {', '.join(map(str, missing[:8]))} is missing ({len(shards)} shards found, "
            f"the highest is rank {max(shards)}). Take an earlier checkpoint, or fetch the missing file."
        )
    return [folder / models[0], *(folder / shards[rank] for rank in range(len(shards)))]


def shard_names(folder: Path, names: list[str]) -> dict[int, str]:
    shards: dict[int, str] = {}
    for name in names:
        match = SHARD_FILE.fullmatch(name)
        if match is None:
            continue
        rank = int(match.group(1))
        if int(match.group(2)) != 0:
            refuse_model_parallel(folder, name)
        if rank in shards:
            raise Refused(f"{folder}: {name} and {shards[rank]} are both shards of rank {rank}. Two runs are mixed.")
        shards[rank] = name
    return shards


def refuse_model_parallel(folder: Path, name: str) -> NoReturn:
    raise Refused(
        f"{folder}: {name} belongs to a tensor- or pipeline-parallel checkpoint; only TP=1 and PP=1 are merged yet. "
        "Keep the parallel sizes of this run, or convert with the ds_to_universal.py of your DeepSpeed."
    )


def read_source(folder: Path, options: Options) -> Source:
    """Open, check and lay out a checkpoint folder. Nothing of the tensors' data is copied."""
    archives = [Archive(path, options.inert_classes) for path in source_paths(folder)]
    progress = Progress("checking", sum(archive.stat.st_size for archive in archives))
    for archive in archives:
        check_written_name(archive)
        archive.check()
        progress.add(archive.stat.st_size)
    with reading(archives[0].path):
        model = read_model(archives[0], folder)
        module = dict(flattened(model.get("module") or {}))
    shards = []
    for archive in archives[1:]:
        with reading(archive.path):
            shards.append(read_shard(archive, len(model["param_shapes"])))
    groups = [read_group(shards, number, shapes) for number, shapes in enumerate(model["param_shapes"])]
    with reading(archives[0].path):
        parameters = read_parameters(shards, groups, model["param_shapes"], model["universal_checkpoint_info"])
    return Source(folder, archives, shards, module, groups, parameters)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a wrong structure raises into a refusal that names the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, re.error) as problem:
        raise Refused(f"{path}: not laid out as expected: {type(problem).__name__}: {problem}") from None


def check_written_name(archive: Archive) -> None:
    """torch.save names the archive's root after its file: a shard under another rank's name shows itself."""
    written = f"{archive.root}.pt"
    if written != archive.path.name and (SHARD_FILE.fullmatch(written) or MODEL_FILE.fullmatch(written)):
        raise Refused(
            f"{archive.path}: was saved as {written}. Files of this folder were renamed or exchanged; put them back, "
            "or take an earlier checkpoint."
        )


def read_model(archive: Archive, folder: Path) -> dict[str, Any]:
    model: dict[str, Any] = archive.load()
    iteration = model.get("iteration")
    if type(iteration) is int and f"global_step{iteration}" != folder.name:
        raise Refused(f"{archive.path}: was saved at iteration {iteration}, but lies in {folder.name}.")
    if "universal_checkpoint_info" not in model:
        raise Refused(
            f"{archive.path}: has no universal_checkpoint_info, so its vocabulary padding is unknown. The trainer that "
            "saved it must put one into the checkpoint (it may be empty); keep the data-parallel size meanwhile."
        )
    if model.get("mp_world_size", 1) != 1:
        refuse_model_parallel(folder, archive.path.name)
    unsupported = {"parameter_with_sub_params", "affine_map", "ds_autoep_layers"} & {
        key for key, value in model["universal_checkpoint_info"].items() if value
    }
    if unsupported:
        raise Refused(
            f"{archive.path}: its {sorted(unsupported)[0]} layout is not converted; use DeepSpeed's own tool."
        )
    for shapes in model["param_shapes"]:
        for name, shape in shapes.items():
            if not (type(name) is str and PARAMETER_NAME.fullmatch(name)):
                raise Refused(f"{archive.path}: {name!r:.80} cannot be a parameter's name.")
            if any(type(size) is not int or size < 1 for size in shape):
                raise Refused(f"{archive.path}: parameter {name} has the shape {tuple(shape)!r:.80}.")
    return model


def read_shard(archive: Archive, group_count: int) -> Shard:
    content = archive.load()["optimizer_state_dict"]
    if "single_partition_of_fp32_groups" not in content:
        raise Refused(f"{archive.path}: holds ZeRO-3 state; only ZeRO-1 and ZeRO-2 checkpoints are converted.")
    base = content["base_optimizer_state"]
    if not isinstance(base, dict):
        raise Refused(
            f"{archive.path}: is an elastic checkpoint, which is not converted. Save without elastic_checkpoint."
        )
    states = [base["state"].get(group, {}) for group in range(group_count)]
    masters = list(content["single_partition_of_fp32_groups"])
    mappings = list(content["param_slice_mappings"])
    if len(masters) != group_count or len(mappings) != group_count:
        raise ValueError(f"{len(masters)} groups here, {group_count} in the model file")
    fragments = [{str(name): fragment(value) for name, value in mapping.items()} for mapping in mappings]
    for group in range(group_count):
        if fragments[group]:
            check_states(archive.path, states[group])
    return Shard(archive.path, content, masters, states, fragments)


def fragment(value: Any) -> tuple[int, int]:
    """(start, numel) out of a pickled fragment_address."""
    start, numel = value.state["start"], value.state["numel"]
    if type(start) is not int or type(numel) is not int or start < 0 or numel < 1:
        raise ValueError(f"a fragment at {start!r} with {numel!r} elements")
    return start, numel


def check_states(path: Path, state: dict[str, Any]) -> None:
    names = {name for name, value in state.items() if isinstance(value, torch.Tensor) and value.dim() > 0}
    if names != set(STATES[1:]):
        raise Refused(
            f"{path}: the optimizer keeps {', '.join(sorted(names)) or 'no state'}; the universal layout is loaded "
            "with exp_avg and exp_avg_sq only. Keep the data-parallel size for this run, or start with --finetune."
        )


def read_group(shards: list[Shard], group: int, shapes: dict[str, Any]) -> Group:
    """Check that all ranks agree on how group `group` is cut, and place its parameters in the flat buffer."""
    sizes: set[int] = set()
    for shard in shards:
        with reading(shard.path):
            count = shard.content["partition_count"][group]
            found = {shard.flat(group, name).numel() for name in STATES[1:] if shard.states[group]}
        if count != len(shards):
            raise Refused(
                f"{shard.path}: says group {group} was cut into {count!r} shards, but {len(shards)} shard files are "
                "there. Shards are missing, or left over from a run of another data-parallel size."
            )
        sizes |= found
        if len(sizes) > 1:
            raise Refused(f"{shard.path}: its group {group} differs in size from its peers ({sorted(sizes)} elements).")
    size = max(sizes, default=0)
    with reading(shards[0].path):
        paddings = alignment_paddings(shards[0].content, group, len(shapes))
    offsets, end = {}, 0
    for index, (name, shape) in enumerate(shapes.items()):
        offsets[name] = end
        end += product(shape) + paddings[index]
    if end > size * len(shards):
        raise Refused(
            f"{shards[0].path}: group {group} has {end} elements, but {len(shards)} shards of {size} hold "
            f"{size * len(shards)}. Shards are missing, or of another model."
        )
    return Group(end, size, offsets)


def alignment_paddings(content: dict[str, Any], group: int, count: int) -> list[int]:
    """Elements after each parameter; zero unless the run set zero_optimization.parameter_alignment."""
    paddings = content.get("param_alignment_paddings")
    found = [int(padding) for padding in paddings[group]] if paddings else [0] * count
    if len(found) != count or min(found, default=0) < 0:
        raise ValueError("param_alignment_paddings does not fit the parameters")
    return found


def read_parameters(shards: list[Shard], groups: list[Group], shapes: Any, info: dict[str, Any]) -> list[Parameter]:
    """Lay out every parameter, holding what each rank says it has against where the flat buffer puts it."""
    parameters = []
    for number, group in enumerate(groups):
        expected = [expected_fragments(group, shapes[number], rank) for rank in range(len(shards))]
        for rank, shard in enumerate(shards):
            check_fragments(shard, number, rank, expected)
        for name, shape in shapes[number].items():
            found = [(rank, shard.fragments[number].get(name)) for rank, shard in enumerate(shards)]
            pieces = tuple(Piece(rank, *span) for rank, span in found if span is not None)
            rows, labels = labels_of(name, tuple(shape), info)
            parameters.append(Parameter(name, number, tuple(shape), pieces, rows, labels))
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise ValueError("a parameter is listed in two groups")
    for key, patterns in info.items():
        for pattern in patterns if key.endswith(("_patterns", "_cat_dim_0")) else ():
            if not any(re.match(pattern, name) for name in names):
                raise Refused(f"universal_checkpoint_info: the pattern {pattern!r} of {key} matches no parameter.")
    return parameters


def expected_fragments(group: Group, shapes: dict[str, Any], rank: int) -> dict[str, tuple[int, int]]:
    """Where the flat buffer puts the parameters in the shard of `rank`: name -> (start, numel)."""
    low, high = rank * group.shard, (rank + 1) * group.shard
    spans = {}
    for name, shape in shapes.items():
        start, end = max(low, group.offsets[name]), min(high, group.offsets[name] + product(shape))
        if start < end:
            spans[name] = (start - low, end - start)
    return spans


def check_fragments(shard: Shard, group: int, rank: int, expected: list[dict[str, tuple[int, int]]]) -> None:
    found = shard.fragments[group]
    if found != expected[rank]:
        other = next((r for r, spans in enumerate(expected) if spans == found), None)
        told = f"it holds what rank {other} should" if other is not None else "its fragments are not where they belong"
        raise Refused(
            f"{shard.path}: is not the shard of rank {rank} of this checkpoint: {told} (group {group}). Shards were "
            "exchanged, or come from another run or model. Take an earlier checkpoint."
        )
    reach = max((start + numel for start, numel in found.values()), default=0)
    for state in STATES if found else ():
        size = shard.flat(group, state).numel()
        if size < reach:
            raise Refused(f"{shard.path}: {state} of group {group} has {size} elements, {reach} are needed: cut short.")


def labels_of(name: str, shape: tuple[int, ...], info: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """Rows to keep (vocabulary only) and the entries beside `param`, as DeepSpeed's converter sets them."""

    def listed(key: str) -> bool:
        return any(re.match(pattern, name) for pattern in info.get(key) or ())

    labels: dict[str, Any] = {}
    if not listed("tp_replicated_parameter_patterns") and not listed("parameter_to_average_patterns"):
        if listed("parameter_with_2_sub_params_cat_dim_0"):
            labels = {"cat_dim": 0, "param_n_sub_params": 2}
        else:
            labels = {"cat_dim": 1 if listed("parameter_with_row_parallelism_patterns") else 0}
    if not listed("vocabulary_parameter_patterns"):
        return None, labels
    rows = info["original_vocab_size"]
    if type(rows) is not int or rows < 1 or len(shape) != 2:
        raise ValueError(f"original_vocab_size {rows!r} for {name} of shape {shape}")
    return rows, {**labels, "vocab_tensor": True}


def flattened(module: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Full dotted names of a nested or flat `module`."""
    for name, value in module.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")


def product(shape: Iterable[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


# --- Merging and writing ---------------------------------------------------------------------------------------------


def merged(source: Source, parameter: Parameter, state: str) -> torch.Tensor:
    """The whole parameter: its pieces one after the other in rank order, by the shards' own slice mappings."""
    flats = [(source.shards[piece.rank].flat(parameter.group, state), piece) for piece in parameter.pieces]
    whole = torch.empty(product(parameter.shape), dtype=flats[0][0].dtype)
    end = 0
    for flat, piece in flats:
        if flat.dtype != whole.dtype:
            raise Refused(f"{source.shards[piece.rank].path}: {state} is {flat.dtype}, elsewhere {whole.dtype}.")
        whole[end : end + piece.numel].copy_(flat[piece.start : piece.start + piece.numel])
        end += piece.numel
    if end != whole.numel():
        raise Refused(f"{source.folder}: {parameter.name} has {whole.numel()} elements, its fragments {end}.")
    return whole.view(parameter.shape)


def compare_weights(source: Source, parameter: Parameter, master: torch.Tensor) -> bool:
    """Hold the master weights against the rounded ones of the model file: False if that file has none."""
    weights = source.module.get(parameter.name, source.module.get(f"module.{parameter.name}"))
    if weights is None or not weights.is_floating_point():
        return False
    rounded = master.to(weights.dtype)
    if weights.shape == master.shape and bool(((rounded == weights) | (rounded.isnan() & weights.isnan())).all()):
        return True
    raise Refused(
        f"{source.folder}: the master weights of {parameter.name} in the shards are not those of "
        f"{source.model.name}: files of two saves or runs are mixed. Take an earlier checkpoint (or, if you changed "
        "the model file on purpose, add --no-weight-check)."
    )


def step_of(source: Source, parameter: Parameter) -> Any:
    """The optimizer's step for this parameter (None if kept elsewhere); all ranks must agree."""
    steps = [source.shards[piece.rank].states[parameter.group].get("step") for piece in parameter.pieces]
    values = {None if step is None else float(step) for step in steps}
    if len(values) > 1:
        raise Refused(
            f"{source.folder}: the shards disagree on the step of {parameter.name}: {sorted(map(str, values))}."
        )
    return owned(steps[0])


def owned(value: Any) -> Any:
    """The same structure with tensors of its own: a view would drag the whole mapped file into what is saved."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return type(value)((key, owned(item)) for key, item in value.items())
    return [owned(item) for item in value] if type(value) is list else value


def optimizer_state(shard: Shard) -> dict[str, Any]:
    sharded = ("base_optimizer_state", "param_slice_mappings", "single_partition_of_fp32_groups")
    common = {key: value for key, value in shard.content.items() if key not in sharded}
    return {**owned(common), "param_groups": owned(shard.content["base_optimizer_state"]["param_groups"])}


class NamingPickler(pickle._Pickler):
    """Writes placeholders under the class names they were read by, so that DeepSpeed gets its own objects back."""

    def save_global(self, obj: Any, name: Any = None) -> None:
        module, attribute = vars(obj).get("stands_for", ("", "")) if isinstance(obj, type) else ("", "")
        if not module:
            super().save_global(obj, name)  # type: ignore[misc]
            return
        self.write(pickle.GLOBAL + f"{module}\n{attribute}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]


NAMING_PICKLE = types.ModuleType("naming_pickle")
NAMING_PICKLE.Pickler = NamingPickler  # type: ignore[attr-defined]


def save(value: Any, path: Path) -> None:
    torch.save(value, path, pickle_module=NAMING_PICKLE)
    sync(path)


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


def write_tensors(source: Source, folder: Path, options: Options) -> int:
    """Write every parameter under `folder`/zero; returns how many were compared with the model file."""
    compared = 0
    progress = Progress("merging", source.state_bytes)
    for parameter in source.parameters:
        home = folder / "zero" / parameter.name
        home.mkdir(parents=True)
        for state in STATES:
            whole = merged(source, parameter, state)
            if state == "fp32" and options.compare_weights:
                compared += compare_weights(source, parameter, whole)
            kept = whole if parameter.rows_kept is None else whole[: parameter.rows_kept].clone()
            save({**parameter.labels, "param": kept}, home / f"{state}.pt")
            progress.add(whole.numel() * 4)
        step = step_of(source, parameter)
        if step is not None:
            save(step, home / "step.pt")
        sync(home)
    save(optimizer_state(source.shards[0]), folder / "zero" / "optimizer_state.pt")
    sync(folder / "zero")
    return compared


class Progress:
    """Plain lines: one per tenth of the work, but not before another PROGRESS_BYTES were done."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done, self.due = what, total, 0, 0
        self._next()

    def _next(self) -> None:
        self.due = min(self.total, self.done + max(self.total // 10, PROGRESS_BYTES))

    def add(self, count: int) -> None:
        self.done += count
        if self.done >= self.due:
            say(f"{self.what}: {self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB")
            self._next()


def say(line: str) -> None:
    print(line, flush=True)


# --- Verification ----------------------------------------------------------------------------------------------------


def source_digest(source: Source, parameter: Parameter, state: str) -> str:
    """SHA-256 of what the result must hold, from the flat buffers and the parameter's place in them alone.

    Merging goes by the shards' slice mappings; this goes by arithmetic, so that one mistake cannot hide in both.
    """
    group = source.groups[parameter.group]
    start = group.offsets[parameter.name]
    end = start + product(parameter.shape_kept)
    digest = hashlib.sha256()
    while start < end:
        rank, inside = divmod(start, group.shard)
        count = min(end - start, group.shard - inside)
        for chunk in chunks(octets(source.shards[rank].flat(parameter.group, state)[inside : inside + count])):
            digest.update(chunk)
        start += count
    return digest.hexdigest()


def written_tensor(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts of the tensor in a universal file, and its labels."""
    archive = Archive(path)
    archive.check()
    digest = hashlib.sha256()
    with reading(path):
        content = archive.load()
        tensor = content["param"]
        for chunk in chunks(octets(tensor)):
            digest.update(chunk)
        facts = {"shape": list(tensor.shape), "dtype": str(tensor.dtype), "sha256": digest.hexdigest()}
        return facts, {key: value for key, value in content.items() if key != "param"}


def compare_with_source(source: Source, folder: Path) -> dict[str, Any]:
    """Read the result back and compare every tensor with the shards; returns the receipt's `tensors`."""
    tensors: dict[str, Any] = {}
    progress = Progress("verifying", source.state_bytes)
    for parameter in source.parameters:
        entry: dict[str, Any] = {}
        for state in STATES:
            path = folder / "zero" / parameter.name / f"{state}.pt"
            facts, labels = written_tensor(path)
            flat = source.shards[parameter.pieces[0].rank].flat(parameter.group, state)
            wanted = {"shape": list(parameter.shape_kept), "dtype": str(flat.dtype)}
            wanted["sha256"] = source_digest(source, parameter, state)
            if facts != wanted or labels != parameter.labels:
                raise Refused(f"{path}: does not hold what the shards of {source.folder} hold: {facts}, not {wanted}.")
            entry[state] = facts
            progress.add(product(parameter.shape) * 4)
        step, step_path = step_of(source, parameter), folder / "zero" / parameter.name / "step.pt"
        if step is not None:
            entry["step"] = float(step)
            with reading(step_path):
                written = float(Archive(step_path).load())
            if written != entry["step"]:
                raise Refused(f"{step_path}: holds step {written}, the shards {entry['step']}.")
        tensors[parameter.name] = entry
    return tensors


def written_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a result but its receipt, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if name != RECEIPT:
            found[name] = {"bytes": regular_file(path).st_size, "sha256": file_digest(path)}
    return found


def verify(target: Path, options: Options = Options()) -> dict[str, Any]:
    """Repeat the verification of a result: against its receipt, and against its source if that is still there.

    Raises:
        Refused: the result is incomplete or changed, or its source is there and no longer the same.
    """
    folder = result_folder(target)
    receipt = read_receipt(folder)
    say(f"verifying {folder} against its receipt")
    wanted, found = receipt["files"], written_files(folder)
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            state = "is missing" if name not in found else "was added later" if name not in wanted else "has changed"
            raise Refused(f"{folder}: {name} {state} since it was verified. Remove the folder and convert again.")
    for name, entry in receipt["tensors"].items():
        for state in STATES:
            path = folder / "zero" / name / f"{state}.pt"
            if written_tensor(path)[0] != entry[state]:
                raise Refused(f"{path}: its tensor is not the one in the receipt. Remove {folder} and convert again.")
    origin = Path(receipt["source"]["folder"])
    if not origin.is_dir():
        say(f"the source {origin} is no longer there: compared with the receipt only")
        return summary("verified", folder, receipt, source_compared=False)
    source = read_source(origin, options)
    if not same_source(source.paths, receipt):
        raise Refused(f"{origin}: has changed since {folder} was made from it. Remove the result and convert again.")
    if compare_with_source(source, folder) != receipt["tensors"]:
        raise Refused(f"{folder}: {RECEIPT} does not match the tensors. Remove the folder and convert again.")
    return summary("verified", folder, receipt, source_compared=True)


def result_folder(target: Path) -> Path:
    """The universal folder meant by `target`: itself, or the one its latest_universal names."""
    pointer = target / POINTER
    if not (target / RECEIPT).exists() and pointer.is_file():
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch(r"global_step\d{1,12}_universal", name):
            raise Refused(f"{pointer}: names {name!r:.80}, which is not a universal checkpoint folder.")
        return target / name
    return target


def read_receipt(folder: Path) -> dict[str, Any]:
    path = folder / RECEIPT
    if not path.is_file():
        raise Refused(f"{folder}: no {RECEIPT}, so it was not made and verified by this converter.")
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        named = [*receipt["tensors"], *receipt["files"], receipt["source"]["folder"]]
        if receipt["tool"] != TOOL or any(".." in name.split("/") for name in named):
            raise ValueError("not a receipt of this converter")
        if receipt["version"] > VERSION:
            raise Refused(f"{path}: was written by a newer converter (version {receipt['version']}); use that one.")
        _ = [receipt["source"]["files"][0]["sha256"], receipt["counts"]["tensors"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as problem:
        raise Refused(f"{path}: unreadable ({problem}). Remove {folder} and convert again.") from None
    return dict(receipt)


def same_source(paths: list[Path], receipt: dict[str, Any]) -> bool:
    """Whether these are the files the receipt was made from; digests are taken only where the times differ."""
    recorded = {entry["name"]: entry for entry in receipt["source"]["files"]}
    if set(recorded) != {path.name for path in paths}:
        return False
    for path in paths:
        stat, entry = regular_file(path), recorded[path.name]
        if stat.st_size != entry["bytes"]:
            return False
        if stat.st_mtime_ns != entry["mtime_ns"] and file_digest(path) != entry["sha256"]:
            return False
    return True


# --- The whole conversion --------------------------------------------------------------------------------------------


def convert(source_folder: Path, target: Path, options: Options = Options()) -> dict[str, Any]:
    """Convert `source_folder` (global_stepN) into `target`/global_stepN_universal; returns the closing summary.

    Raises:
        Refused: with nothing published; whatever was half done is removed or will be by the next run.
    """
    source_folder, target = source_folder.resolve(), target.resolve()
    if target == source_folder or source_folder in target.parents:
        raise Refused(
            f"{target}: lies inside the source. TARGET is usually the folder above it: {source_folder.parent}"
        )
    if target.exists() and not target.is_dir():
        raise Refused(f"{target}: exists and is not a folder.")
    paths = source_paths(source_folder)
    final = target / f"{source_folder.name}_universal"
    if final.exists() or final.is_symlink():
        return published_before(final, paths)
    target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final)
    source = read_source(source_folder, options)
    check_space(source, target)
    partial = final.with_name(f"{final.name}.partial-{os.uname().nodename}-{os.getpid()}")
    partial.mkdir()
    with held(partial):
        try:
            receipt = build(source, partial, options)
            publish(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    point_to(final)
    return summary("converted", final, receipt, source_compared=True)


def published_before(final: Path, paths: list[Path]) -> dict[str, Any]:
    """A result is there already: accept it if it is this one, whole; else refuse and leave it alone."""
    if final.is_symlink() or not (final / RECEIPT).is_file():
        raise Refused(
            f"{final}: exists, but was not made by this converter (no {RECEIPT}). Move it away, or choose another "
            "TARGET."
        )
    receipt = read_receipt(final)
    if not same_source(paths, receipt):
        raise Refused(
            f"{final}: was made from other files than {paths[0].parent} holds now. Remove it, or choose another TARGET."
        )
    for name, entry in receipt["files"].items():
        if not (final / name).is_file() or (final / name).stat().st_size != entry["bytes"]:
            raise Refused(f"{final}: {name} is missing or cut short. Remove the folder and convert again.")
    say(f"{final} is already there, made from these files and verified; nothing to do")
    point_to(final)
    return summary("already-converted", final, receipt, source_compared=False)


def build(source: Source, partial: Path, options: Options) -> dict[str, Any]:
    say(f"{source.folder}: {len(source.shards)} shards, {len(source.parameters)} parameters, TP=1 PP=1")
    (partial / "zero").mkdir()
    compared = write_tensors(source, partial, options)
    shutil.copy2(source.model, partial / source.model.name)
    sync(partial / source.model.name)
    tensors = compare_with_source(source, partial)
    files, origin = written_files(partial), [source_entry(archive) for archive in source.archives]
    if files[source.model.name]["sha256"] != origin[0]["sha256"]:
        raise Refused(f"{partial / source.model.name}: the copy differs from {source.model}. Convert again.")
    receipt = {
        "tool": TOOL,
        "version": VERSION,
        "iteration": int(source.folder.name[len("global_step") :]),
        "source": {"folder": str(source.folder), "data_parallel": len(source.shards), "files": origin},
        "groups": [{"numel": group.numel, "shard": group.shard} for group in source.groups],
        "counts": {
            "parameters": len(tensors),
            "tensors": len(tensors) * len(STATES),
            "elements": sum(product(parameter.shape) for parameter in source.parameters),
            "weights_compared": compared,
        },
        "tensors": tensors,
        "files": files,
    }
    (partial / RECEIPT).write_text(json.dumps(receipt, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sync(partial / RECEIPT)
    sync(partial)
    return receipt


def source_entry(archive: Archive) -> dict[str, Any]:
    """What the receipt says of one source file, after making sure that it is still the file that was read."""
    now, path = regular_file(archive.path), archive.path
    if (now.st_size, now.st_mtime_ns) != (archive.stat.st_size, archive.stat.st_mtime_ns):
        raise Refused(f"{path}: changed during the conversion. Convert again when the run has finished saving.")
    return {"name": path.name, "bytes": now.st_size, "mtime_ns": now.st_mtime_ns, "sha256": file_digest(path)}


def publish(partial: Path, final: Path) -> None:
    try:
        partial.rename(final)
    except OSError as problem:
        raise Refused(f"{final}: cannot be put in place: {problem.strerror}. Did another conversion finish?") from None
    sync(final.parent)


def point_to(final: Path) -> None:
    """Write latest_universal beside the result, whole or not at all, unless it already says so."""
    pointer = final.parent / POINTER
    if pointer.is_file() and not pointer.is_symlink() and pointer.read_bytes() == final.name.encode():
        return
    fresh = pointer.with_name(f".{POINTER}.{os.getpid()}")
    fresh.write_text(final.name, encoding="utf-8")
    sync(fresh)
    fresh.replace(pointer)
    sync(final.parent)


def check_space(source: Source, target: Path) -> None:
    needed = source.state_bytes + 8192 * len(source.parameters) + source.archives[0].stat.st_size
    free = shutil.disk_usage(target).free
    if free < needed:
        raise Refused(
            f"{target}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB free. Make room, then repeat."
        )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock that says this partial folder has a living owner."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_leftovers(final: Path) -> None:
    """Remove what killed runs left; a folder whose owner lives means that someone is at it right now."""
    for leftover in sorted(final.parent.glob(f"{final.name}.partial-*")):
        handle = os.open(leftover, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{leftover}: another conversion is writing it now. Wait for that one.") from None
        except OSError:
            pass  # file systems without locks: one conversion at a time is the caller's promise
        finally:
            os.close(handle)
        say(f"removing {leftover.name}, left by a run that was killed")
        shutil.rmtree(leftover)


def summary(outcome: str, folder: Path, receipt: dict[str, Any], *, source_compared: bool) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "folder": str(folder),
        "iteration": receipt["iteration"],
        "source_data_parallel": receipt["source"]["data_parallel"],
        "source_compared": source_compared,
        **receipt["counts"],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="universal.py", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("source", metavar="SOURCE", nargs="?", type=Path, help="a global_stepN folder")
    parser.add_argument("target", metavar="TARGET", nargs="?", type=Path, help="folder to hold global_stepN_universal")
    parser.add_argument("--verify", metavar="TARGET", type=Path, help="verify a result again and convert nothing")
    parser.add_argument("--inert-class", metavar="NAME", action="append", default=[], help="read this class unexecuted")
    parser.add_argument("--no-weight-check", action="store_true", help="skip comparing masters with the model file")
    args = parser.parse_args(arguments)
    if (args.verify is None) == (args.source is None or args.target is None):
        parser.error("give SOURCE and TARGET, or --verify TARGET")
    options = Options(tuple(args.inert_class), not args.no_weight_check)
    try:
        if args.verify is not None:
            result = verify(args.verify.resolve(), options)
        else:
            result = convert(args.source, args.target, options)
    except Refused as problem:
        print(f"refused: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was published; run it again.", file=sys.stderr)
        return 130
    except (OSError, MemoryError, RuntimeError) as problem:
        print(f"failed: {problem}. Nothing was published; run it again.", file=sys.stderr)
        return 1
    say("*** Done!")
    say(json.dumps(result, sort_keys=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
