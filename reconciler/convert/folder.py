"""The files of a checkpoint folder, judged by their names: whose they are, and whether all are there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.pickles import Refused

STEP_FOLDER = re.compile(r"global_step(\d{1,12})")
SHARD_FILE = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d{1,6})_mp_rank_(\d{2,6})_optim_states\.pt")
MODEL_FILE = re.compile(r"mp_rank_(\d{2,6})_model_states\.pt")
LAYER_FILE = re.compile(r"layer_(\d{2,6})(?:-model_(\d{2,6}))?-model_states\.pt")
ZERO3_FILE = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")


@dataclass(frozen=True)
class Folder:
    """Paths of a `global_stepN` folder: by model-parallel rank, its model file and its shards in data-parallel order;
    by layer and tensor-parallel rank, the weights that a pipeline saves apart."""

    path: Path
    models: list[Path]
    shards: list[list[Path]]
    layers: dict[tuple[int, int], Path]

    @property
    def paths(self) -> list[Path]:
        """Model files, then shards, then layers; a fixed order."""
        return [*self.models, *(path for shards in self.shards for path in shards), *self.layers.values()]

    @property
    def data_parallel(self) -> int:
        """Ranks that share an optimizer's shards. Sequence-parallel ranks are among them."""
        return len(self.shards[0])


def read_folder(path: Path) -> Folder:
    """The files of the checkpoint at `path`.

    Raises:
        Refused: it is not a checkpoint folder, or some of its files are missing or are those of another run.
    """
    if not path.is_dir():
        raise Refused(f"{path}: no such folder. SOURCE must be a global_stepN folder.")
    if not STEP_FOLDER.fullmatch(path.name):
        inside = sorted(int(f.group(1)) for f in map(STEP_FOLDER.fullmatch, (e.name for e in path.iterdir())) if f)
        named = f" It holds one: {path / f'global_step{inside[-1]}'}" if inside else ""
        raise Refused(f"{path}: SOURCE must be a folder named global_stepN, as the trainer writes it.{named}")
    names = sorted(entry.name for entry in path.iterdir())
    if any(map(ZERO3_FILE.fullmatch, names)):
        raise Refused(f"{path}: holds ZeRO-3 state; only ZeRO-1 and ZeRO-2 checkpoints are converted.")
    models = {int(found.group(1)): found.group(0) for found in map(MODEL_FILE.fullmatch, names) if found}
    if not models:
        raise Refused(f"{path}: mp_rank_00_model_states.pt is missing: not a whole ZeRO-1 checkpoint.")
    shards = shards_by_rank(path, names)
    parts = 1 + max(*models, *(part for part, _ in shards))
    ranks = 1 + max(rank for _, rank in shards)
    for part in range(parts):
        if part not in models:
            raise Refused(f"{path}: mp_rank_{part:02d}_model_states.pt is missing: {whole(parts, ranks)}.")
        missing = [rank for rank in range(ranks) if (part, rank) not in shards]
        if missing:
            told = f" of model-parallel rank {part}" if parts > 1 else ""
            raise Refused(
                f"{path}: the shard of rank {', '.join(map(str, missing[:8]))}{told} is missing ({len(shards)} shards "
                f"found, the highest is rank {ranks - 1}). Take an earlier checkpoint, or fetch the missing file."
            )
    layers = {(int(f.group(1)), int(f.group(2) or 0)): path / f.group(0) for f in map(LAYER_FILE.fullmatch, names) if f}
    return Folder(
        path,
        [path / models[part] for part in range(parts)],
        [[path / shards[part, rank] for rank in range(ranks)] for part in range(parts)],
        layers,
    )


def whole(parts: int, ranks: int) -> str:
    return f"other files are there of {parts} model-parallel and {ranks} data-parallel ranks"


def shards_by_rank(folder: Path, names: list[str]) -> dict[tuple[int, int], str]:
    """(model-parallel rank, data-parallel rank) -> name."""
    shards: dict[tuple[int, int], str] = {}
    for found in filter(None, map(SHARD_FILE.fullmatch, names)):
        key = int(found.group(2)), int(found.group(1))
        if key in shards:
            raise Refused(
                f"{folder}: {found.group(0)} and {shards[key]} are both shards of rank {key[1]}. Two runs are mixed."
            )
        shards[key] = found.group(0)
    if not shards:
        raise Refused(f"{folder}: no *zero_pp_rank_*_optim_states.pt: there is no optimizer state to convert.")
    return shards


def tensor_parallel(folder: Folder, told: dict[str, int | None]) -> int:
    """How many of the model-parallel ranks cut tensors; the others are stages of a pipeline.

    `told` is what the checkpoint says itself, by where it says so. What the layer files say is held against it. Without
    any of these a checkpoint has no pipeline, as DeepSpeed takes it.
    """
    parts = len(folder.models)
    sizes = {where: size for where, size in told.items() if size is not None}
    if folder.layers:
        sizes["the layer files"] = len({rank for _, rank in folder.layers})
    if len(set(sizes.values())) > 1:
        raise Refused(
            f"{folder.path}: {', '.join(f'{where}: {size}' for where, size in sizes.items())} tensor-parallel ranks. "
            "Files of two runs are mixed, or some are missing."
        )
    size = next(iter(sizes.values()), parts)
    if size < 1 or parts % size:
        raise Refused(
            f"{folder.path}: {parts} model files, and {size} tensor-parallel ranks: files are missing, or left over."
        )
    return size
