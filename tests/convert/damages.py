"""Ways in which a checkpoint folder can be damaged, each with what must be said of it."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.convert.zero_writer import deepspeed_named

MODEL = "mp_rank_00_model_states.pt"
OUTSIDE = "outside-the-workspace"
MARK = "executed"


def shard(rank: int, part: int = 0) -> str:
    return f"bf16_zero_pp_rank_{rank}_mp_rank_{part:02d}_optim_states.pt"


@dataclass(frozen=True)
class Damage:
    """What is done to the folder (given it and another run's), and the words of the refusal to convert it.

    `seen`: the sizes and names of the folder's files and the two pointers are enough to tell.
    """

    name: str
    seen: bool
    words: tuple[str, ...]
    do: Callable[[Path, Path], object]


def resaved(path: Path, change: Callable[[Any], object]) -> None:
    """Change the content of a torch file as another program would have written it."""
    with deepspeed_named():
        content = torch.load(path, weights_only=False)
        change(content)
        buffer = io.BytesIO()  # a file would be given its name as the archive's root
        torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def optimizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """Change the optimizer's state in the shard of rank 1."""
    return lambda folder, other: resaved(folder / shard(1), lambda content: change(content["optimizer_state_dict"]))


def model(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    return lambda folder, other: resaved(folder / MODEL, change)


def each_state(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    for state in content["base_optimizer_state"]["state"].values():
        change(state)


def truncated(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def bit_flipped(path: Path) -> None:
    """One bit in the middle of the largest tensor: the file stays readable, only a checksum can tell."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size if "/data/" in entry.filename else 0)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 64 + entry.file_size // 2] ^= 1
    path.write_bytes(data)


def exchanged(one: Path, other: Path) -> None:
    spare = one.with_name("spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def linked(path: Path, elsewhere: Path) -> None:
    elsewhere.parent.mkdir(exist_ok=True)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


class Calls:
    """Unpickles by calling `function`, wherever unpickling is not restricted."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def pickled(path: Path, payload: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """A torch file whose pickle is `payload`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", payload)


def padded(path: Path, size: int) -> None:
    """Bytes after the end of an archive would not be read; so the file is as large as its peers."""
    data = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/filling", bytes(max(0, size - len(data))))


def trap(name: str, payload: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def damage(folder: Path, other: Path) -> None:
        size = (folder / name).stat().st_size
        pickled(folder / name, payload(folder.parent / MARK))
        padded(folder / name, size)

    return damage


def pointers(latest: str, tracker: str) -> Callable[[Path, Path], None]:
    def damage(folder: Path, other: Path) -> None:
        (folder / shard(3)).unlink()
        (folder.parent / "latest").write_text(latest)
        (folder.parent / "latest_checkpointed_iteration.txt").write_text(tracker)

    return damage


def copied(path: Path, target: Path) -> Path:
    return shutil.copyfile(path, target)


def removed(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


DAMAGES = [
    # files that are not there, or too many
    Damage("a shard is missing", True, ("rank 2 is missing",), lambda f, o: (f / shard(2)).unlink()),
    Damage("the last shard is missing", True, ("cut into 4",), lambda f, o: (f / shard(3)).unlink()),
    Damage("the model file is missing", True, (MODEL, "missing"), lambda f, o: (f / MODEL).unlink()),
    Damage(
        "no shard is there",
        True,
        ("no *zero_pp_rank_*_optim_states.pt",),
        lambda f, o: removed(f / shard(rank) for rank in range(4)),
    ),
    Damage(
        "a shard of a larger run is left over",
        True,
        ("cut into 4 shards", "5 shard files"),
        lambda f, o: resaved(copied(f / shard(3), f / shard(4)), lambda content: None),
    ),
    Damage(
        "half of the ranks of a larger run",
        False,
        ("cut into 8 shards", "4 shard files"),
        optimizer(lambda content: content.update(partition_count=[8, 8])),
    ),
    Damage("`latest` is ahead of the shards", True, ("cut into 4",), pointers("global_step120", "100")),
    Damage("both pointers are ahead of the shards", True, ("cut into 4",), pointers("global_step120", "120")),
    Damage("`latest` names nothing that is there", True, ("cut into 4",), pointers("global_step140", "140")),
    # files that are not whole
    Damage("a shard is cut short", True, (shard(1), "cut short"), lambda f, o: truncated(f / shard(1), 0.9)),
    Damage("the model file is cut short", True, (MODEL, "cut short"), lambda f, o: truncated(f / MODEL, 0.5)),
    Damage("a shard is empty", True, (shard(2), "0 bytes"), lambda f, o: truncated(f / shard(2), 0)),
    Damage("the model file is empty", True, (MODEL, "0 bytes"), lambda f, o: truncated(f / MODEL, 0)),
    Damage("a bit of a shard is flipped", False, (shard(3), "checksum"), lambda f, o: bit_flipped(f / shard(3))),
    Damage("a bit of the model file is flipped", False, (MODEL,), lambda f, o: bit_flipped(f / MODEL)),
    Damage(
        "moments are shorter than their weights",
        False,
        (shard(1), "differs in size"),
        optimizer(lambda content: each_state(content, lambda s: s.update(exp_avg=s["exp_avg"][:-2].clone()))),
    ),
    # files of another rank, save or run
    Damage(
        "two shards are exchanged",
        False,
        (shard(1), f"saved as {shard(2)}"),
        lambda f, o: exchanged(f / shard(1), f / shard(2)),
    ),
    Damage(
        "a shard is there twice",
        False,
        (shard(2), f"saved as {shard(1)}"),
        lambda f, o: copied(f / shard(1), f / shard(2)),
    ),
    Damage("a shard of another run", False, ("mixed",), lambda f, o: copied(o / shard(2), f / shard(2))),
    Damage("the model file of another run", False, ("mixed",), lambda f, o: copied(o / MODEL, f / MODEL)),
    Damage(
        "a shard of another step",
        False,
        ("disagree on the step",),
        optimizer(lambda content: each_state(content, lambda s: s.update(step=torch.tensor(119.0)))),
    ),
    Damage("a folder with the name of another step", False, ("119",), model(lambda c: c.update(iteration=119))),
    Damage(
        "shards of another model",
        False,
        ("Shards are missing, or of another model",),
        model(lambda c: c["param_shapes"][0].update({"a.weight": torch.Size([16, 9])})),
    ),
    Damage(
        "an optimizer without the second moment",
        False,
        ("hessian",),
        optimizer(lambda content: each_state(content, lambda s: s.update(hessian=s.pop("exp_avg_sq")))),
    ),
    # no files at all
    Damage(
        "a link out of the folder",
        True,
        (shard(0), "links"),
        lambda f, o: linked(f / shard(0), f.parent / OUTSIDE / "0.pt"),
    ),
    Damage(
        "a link that leads nowhere", True, (shard(0),), lambda f, o: instead(f / shard(0), lambda p: p.symlink_to("x"))
    ),
    Damage("a pipe", True, (shard(0), "ordinary"), lambda f, o: instead(f / shard(0), os.mkfifo)),
    Damage(
        "a folder in place of a file", False, (shard(0), "ordinary"), lambda f, o: instead(f / shard(0), Path.mkdir)
    ),
    # files of somebody who means harm
    Damage(
        "a pickle that runs a command",
        False,
        (shard(1), "posix.mkdir"),
        trap(shard(1), lambda mark: pickle.dumps(Calls(os.mkdir, str(mark)))),
    ),
    Damage(
        "a pickle in the model file that runs a command",
        False,
        (MODEL, "posix.mkdir"),
        trap(MODEL, lambda mark: pickle.dumps(Calls(os.mkdir, str(mark)))),
    ),
    Damage(
        "a pickle that evaluates text",
        False,
        (shard(1), "builtins.eval"),
        trap(shard(1), lambda mark: pickle.dumps(Calls(eval, f"__import__('os').mkdir({str(mark)!r})"))),
    ),
    Damage(
        "a pickle that loads another pickle",
        False,
        (shard(1), "torch.storage._load_from_bytes"),
        trap(shard(1), lambda mark: b"ctorch.storage\n_load_from_bytes\n(C\x01.tR."),
    ),
    Damage(
        "a pickle that walks to what it may not name",
        False,
        (shard(1), "getattr"),
        trap(shard(1), lambda mark: b"c__builtin__\ngetattr\n(cbuiltins\nset\nS'__class__'\ntR."),
    ),
    Damage(
        "a pickle that names itself a billion times",
        False,
        (shard(1), "unfolds"),
        trap(shard(1), lambda mark: b"(l" + b"q\x00(lh\x00ah\x00a" * 40 + b"."),
    ),
    Damage(
        "an entry that unfolds to a thousand times its size",
        False,
        (shard(1), "unreadable"),
        lambda f, o: pickled(f / shard(1), bytes(10_000_000), zipfile.ZIP_DEFLATED),
    ),
    Damage(
        "a parameter named to climb out of the folder",
        False,
        (MODEL, "cannot be a parameter's name"),
        model(lambda c: c["param_shapes"][0].update({"../../escaped": c["param_shapes"][0].pop("a.weight")})),
    ),
]
