"""What a checkpoint's files hold and how it is cut: read, held against each other, and laid out parameter by parameter.

Nothing of the tensors' data is read here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.folder import LAYER_FILE, MODEL_FILE, SHARD_FILE, Folder, tensor_parallel
    from reconciler.convert.pickles import FLOATING, ITEM_BYTES, Refused, Tensor, product
    from reconciler.convert.torchfile import Archive

MASTER = "fp32"
PARAMETER_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.\-]{1,240}")
STATE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
KEEP_OR_FINETUNE = "Keep the data-parallel size for this run, or start with --finetune, which takes the weights only."
UNNEEDED = {"RMS": None, "use_muon": False}
"""Numbers beside the state that no universal checkpoint can hold, and what they must be (None: anything) to do without:
Adafactor computes its RMS anew at every step, and the launcher's Muon takes a missing `use_muon` for False."""
UNSUPPORTED_INFO = (
    "affine_map",
    "autotp_unsupported_parameter_patterns",
    "ds_autoep_layers",
    "expert_parameter_patterns",
    "parameter_with_sub_params",
)


@dataclass(frozen=True)
class Piece:
    """`numel` elements of a parameter, at `start` in the flat shard of data-parallel rank `rank`."""

    rank: int
    start: int
    numel: int


@dataclass
class Shard:
    """What one rank wrote: per group its flat tensors by state, the optimizer's step, and the fragments it holds."""

    archive: Archive
    flats: list[dict[str, Tensor]]
    steps: list[Any]
    fragments: list[dict[str, tuple[int, int]]]
    partitions: list[Any]
    paddings: list[Any]

    @property
    def path(self) -> Path:
        return self.archive.path


@dataclass(frozen=True)
class Group:
    """One optimizer group: a flat buffer, padded and cut into shards of `shard` elements. Names in order, with shape
    and place; the states that its optimizer keeps."""

    shard: int
    offsets: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    states: tuple[str, ...]

    @property
    def numel(self) -> int:
        name = next(reversed(self.offsets))
        return self.offsets[name] + product(self.shapes[name])


@dataclass
class Holder:
    """One model-parallel rank: the tensor-parallel slice `tensor` of the pipeline's stage `stage`."""

    stage: int
    tensor: int
    model: Archive
    content: dict[str, Any]
    shards: list[Shard]
    groups: list[Group]
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Source:
    """A checkpoint that was read and found consistent. `holders` by model-parallel rank."""

    folder: Folder
    tensor_parallel: int
    holders: list[Holder]
    archives: list[Archive]

    @property
    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.holders[0].content["universal_checkpoint_info"]
        return info

    @property
    def state_bytes(self) -> int:
        return sum(
            len(group.states) * ITEM_BYTES["float32"] * sum(map(product, group.shapes.values()))
            for holder in self.holders
            for group in holder.groups
        )


def read_source(folder: Folder, inert: tuple[str, ...]) -> Source:
    """Open, check and lay out a checkpoint folder.

    Raises:
        Refused: something is damaged, missing, of another run, or of a kind that no universal checkpoint holds.
    """
    models = [checked(path, inert) for path in folder.models]
    contents = []
    for archive in models:
        with reading(archive.path):
            contents.append(read_model(archive, folder))
    with reading(folder.models[0]):
        size = tensor_parallel(folder, told_sizes(contents[0]))
    holders, archives = [], list(models)
    for part, (archive, content) in enumerate(zip(models, contents)):
        shards = []
        for path in folder.shards[part]:
            shard = checked(path, inert)
            with reading(path):
                shards.append(read_shard(shard, len(content["param_shapes"])))
        groups = [read_group(shards, number, shapes) for number, shapes in enumerate(content["param_shapes"])]
        for number, group in enumerate(groups):
            check_fragments(shards, number, group)
        stage, tensor = divmod(part, size)
        holder = Holder(stage, tensor, archive, content, shards, groups)
        with reading(archive.path):
            holder.weights = dict(flattened(content.get("module") or {}))
        holders.append(holder)
        archives += [shard.archive for shard in shards]
    for (layer, tensor), path in folder.layers.items():
        archive = checked(path, inert)
        archives.append(archive)
        with reading(path):
            named = {f"{layer}.{name}": value for name, value in flattened(archive.load())}
        for holder in holders:
            if holder.tensor == tensor:
                holder.weights.update(named)
    return Source(folder, size, holders, archives)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a wrong structure raises into a refusal that names the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, re.error) as problem:
        raise Refused(f"{path}: not laid out as expected: {type(problem).__name__}: {problem}") from None


def checked(path: Path, inert: tuple[str, ...]) -> Archive:
    """The archive, under its own name: torch.save names an archive's root after its file."""
    archive = Archive(path, inert)
    written = f"{archive.root}.pt"
    known = (SHARD_FILE, MODEL_FILE, LAYER_FILE)
    if written != path.name and any(pattern.fullmatch(written) for pattern in known):
        raise Refused(
            f"{path}: was saved as {written}. Files of this folder were renamed or exchanged; put them back, or take "
            "an earlier checkpoint."
        )
    return archive


def told_sizes(model: dict[str, Any]) -> dict[str, int | None]:
    """How many tensor-parallel ranks there are, by where the model file says so (None where it does not)."""
    dimensions = model.get("checkpoint_parallel_dimensions")  # from DeepSpeed 0.19 on
    args = getattr(model.get("args"), "state", None)
    told = {
        "checkpoint_parallel_dimensions": dimensions.get("tp_degree") if isinstance(dimensions, dict) else None,
        "args": args.get("tensor_model_parallel_size") if isinstance(args, dict) else None,
    }
    return {where: size if type(size) is int else None for where, size in told.items()}


def read_model(archive: Archive, folder: Folder) -> dict[str, Any]:
    model: dict[str, Any] = archive.load()
    iteration = model.get("iteration")
    if type(iteration) is int and f"global_step{iteration}" != folder.path.name:
        raise Refused(f"{archive.path}: was saved at iteration {iteration}, but lies in {folder.path.name}.")
    if "universal_checkpoint_info" not in model:
        raise Refused(
            f"{archive.path}: has no universal_checkpoint_info, so its vocabulary padding is unknown. The trainer that "
            "saved it must put one into the checkpoint (it may be empty); keep the data-parallel size meanwhile."
        )
    parts = model.get("mp_world_size", len(folder.models))
    if parts != len(folder.models):
        raise Refused(
            f"{archive.path}: was saved by a run of {parts!r} model-parallel ranks, and {len(folder.models)} model "
            "files are there. Files are missing, or left over from another run."
        )
    info = model["universal_checkpoint_info"]
    for key in UNSUPPORTED_INFO:
        if info.get(key):
            raise Refused(f"{archive.path}: its {key} layout is not converted; use DeepSpeed's own tool.")
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
    masters, mappings = content["single_partition_of_fp32_groups"], content["param_slice_mappings"]
    if len(masters) != group_count or len(mappings) != group_count:
        raise ValueError(f"{len(masters)} groups here, {group_count} in the model file")
    shard = Shard(archive, [], [], [], list(content["partition_count"]), content.get("param_alignment_paddings") or [])
    for group in range(group_count):
        state = base["state"].get(group, {})
        shard.fragments.append({str(name): fragment(value) for name, value in mappings[group].items()})
        flats = {name: value for name, value in state.items() if name != "step"}
        if shard.fragments[group]:
            check_states(archive.path, flats)
        kept = {name: flats[name] for name in sorted(flats) if name not in UNNEEDED}
        shard.flats.append({MASTER: flat(MASTER, masters[group]), **{name: flat(name, kept[name]) for name in kept}})
        shard.steps.append(state.get("step"))
    return shard


def fragment(value: Any) -> tuple[int, int]:
    """(start, numel) out of a pickled fragment_address."""
    start, numel = value.state["start"], value.state["numel"]
    if type(start) is not int or type(numel) is not int or start < 0 or numel < 1:
        raise ValueError(f"a fragment at {start!r} with {numel!r} elements")
    return start, numel


def check_states(path: Path, state: dict[Any, Any]) -> None:
    """The loader takes any state that has an element for each of the parameter, by its name, and nothing else."""
    if not state:
        raise Refused(f"{path}: the optimizer keeps no state. {KEEP_OR_FINETUNE}")
    for name, value in state.items():
        if not (isinstance(name, str) and STATE_NAME.fullmatch(name)) or name == MASTER:
            raise Refused(f"{path}: {name!r:.80} cannot be the name of an optimizer's state.")
        number = value.value() if isinstance(value, Tensor) and value.numel == 1 and not value.shape else value
        allowed = name in UNNEEDED and UNNEEDED[name] in (None, number)
        whole = isinstance(value, Tensor) and len(value.shape) == 1 and value.dtype in FLOATING
        if not allowed and not whole:
            raise Refused(
                f"{path}: the optimizer keeps {', '.join(map(str, sorted(state)))}, and {name} is not one number for "
                f"each element: DeepSpeed's loader has no place for it. {KEEP_OR_FINETUNE}"
            )


def flat(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or len(value.shape) != 1 or not value.contiguous:
        raise ValueError(f"{name} is not a flat tensor")
    return value


def read_group(shards: list[Shard], group: int, shapes: dict[str, Any]) -> Group:
    """Check that all ranks agree on how group `group` is cut, and place its parameters in the flat buffer."""
    size, states = 0, None
    for shard in shards:
        with reading(shard.path):
            count = shard.partitions[group]
        if count != len(shards):
            raise Refused(
                f"{shard.path}: says group {group} was cut into {count!r} shards, but {len(shards)} shard files are "
                "there. Shards are missing, or left over from a run of another data-parallel size."
            )
        kept = {name: tensor for name, tensor in shard.flats[group].items() if name != MASTER}
        if not kept:
            continue
        found = {tensor.numel for tensor in kept.values()}
        size, states = size or min(found), states or tuple(kept)
        if found != {size}:
            raise Refused(
                f"{shard.path}: its group {group} differs in size from its peers ({sorted({size, *found})} elements). "
                f"It was cut short, or its optimizer keeps {', '.join(kept)} in other sizes, which DeepSpeed's loader "
                f"has no place for. {KEEP_OR_FINETUNE}"
            )
        if tuple(kept) != states:
            raise Refused(f"{shard.path}: keeps {', '.join(kept)}, its peers {', '.join(states)}: two runs are mixed.")
    with reading(shards[0].path):
        paddings = alignment_paddings(shards[0], group, len(shapes))
    offsets, end = {}, 0
    for index, (name, shape) in enumerate(shapes.items()):
        offsets[name] = end
        end += product(tuple(shape)) + paddings[index]
    if end > size * len(shards):
        raise Refused(
            f"{shards[0].path}: group {group} has {end} elements, but {len(shards)} shards of {size} hold "
            f"{size * len(shards)}. Shards are missing, or of another model."
        )
    return Group(size, offsets, {name: tuple(shape) for name, shape in shapes.items()}, (MASTER, *(states or ())))


def alignment_paddings(shard: Shard, group: int, count: int) -> list[int]:
    """Elements after each parameter; zero unless the run set zero_optimization.parameter_alignment."""
    found = [int(padding) for padding in shard.paddings[group]] if shard.paddings else [0] * count
    if len(found) != count or min(found, default=0) < 0:
        raise ValueError("param_alignment_paddings does not fit the parameters")
    return found


def expected_fragments(group: Group, ranks: int) -> list[dict[str, tuple[int, int]]]:
    """By rank, where the flat buffer puts the parameters in its shard: name -> (start, numel)."""
    spans: list[dict[str, tuple[int, int]]] = [{} for _ in range(ranks)]
    for name, offset in group.offsets.items():
        start, end = offset, offset + product(group.shapes[name])
        while start < end:
            rank, inside = divmod(start, group.shard)
            count = min(end - start, group.shard - inside)
            spans[rank][name] = (inside, count)
            start += count
    return spans


def check_fragments(shards: list[Shard], number: int, group: Group) -> None:
    """Hold what each rank says it has against where arithmetic puts it: two ways that no one mistake passes."""
    expected = expected_fragments(group, len(shards))
    for rank, shard in enumerate(shards):
        found = shard.fragments[number]
        if found != expected[rank]:
            other = next((r for r, spans in enumerate(expected) if spans == found), None)
            told = (
                f"it holds what rank {other} should" if other is not None else "its fragments are not where they belong"
            )
            raise Refused(
                f"{shard.path}: is not the shard of rank {rank} of this checkpoint: {told} (group {number}). Shards "
                "were exchanged, or come from another run or model. Take an earlier checkpoint."
            )
        reach = max((start + numel for start, numel in found.values()), default=0)
        for state in group.states if found else ():
            size = shard.flats[number][state].numel
            if size < reach:
                raise Refused(
                    f"{shard.path}: {state} of group {number} has {size} elements, {reach} are needed: cut short."
                )


def flattened(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Full dotted names of a nested or flat `module`."""
    for name, value in module.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
