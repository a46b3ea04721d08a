"""Convert a DeepSpeed ZeRO-1/2 checkpoint to the universal layout, and prove the result.

What is shipped is one self-contained program (`layout.program_text`): these files joined. It needs the Python (3.9 or
newer) of the launcher's environment and nothing of this project, DeepSpeed or torch, so a job can run it anywhere::

    python3 universal.py SOURCE TARGET      SOURCE: a global_stepN folder
                                            TARGET: the folder that will hold global_stepN_universal
    python3 universal.py --verify TARGET    repeat the verification of a result

A parameter is the concatenation of its fragments in data-parallel order, as `param_slice_mappings` names them. Padding
is never looked at, so it can be neither copied nor stripped wrongly. Everything is written into a sibling folder, each
tensor read back and held against the digest of what was read from the shards, and only then renamed into place;
`latest_universal` is written last. The source is never written to. Exit codes: 0 done or already done, 1 refused or
failed with the reason on standard error, 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ != "__main__" or "Refused" not in globals():  # shipped, all are one program
    from reconciler.convert.folder import Folder, read_folder
    from reconciler.convert.merging import Parameter, read_parameters
    from reconciler.convert.partial import Partial, point_to
    from reconciler.convert.pickles import ITEM_BYTES, product
    from reconciler.convert.pickles import Refused as Refused
    from reconciler.convert.progress import Progress, say, shown
    from reconciler.convert.receipt import RECEIPT, identities, likeness, read_receipt, receipt_of, summary
    from reconciler.convert.sizes import ranks_without_elements, sizes_nearby, universal_loads_at
    from reconciler.convert.source import Source, read_source, reading
    from reconciler.convert.torchfile import file_digest, opened
    from reconciler.convert.torchwriter import save, sync
    from reconciler.convert.verification import compare
    from reconciler.convert.verification import verify as verify
    from reconciler.convert.workers import default_workers, in_workers
    from reconciler.convert.writing import Done, write_parameter

COPY_BYTES = 1 << 20
SHARDED = ("base_optimizer_state", "param_slice_mappings", "single_partition_of_fp32_groups")
CODE = "NotConverted"
"""`reconcile explain` has a page on it."""


@dataclass(frozen=True)
class Options:
    """`for_data_parallel`: the size that the result is wanted for, which a warning needs; 0 if that is not known."""

    inert_classes: tuple[str, ...] = ()
    compare_weights: bool = True
    workers: int = 1
    for_data_parallel: int = 0


def convert(source_folder: Path, target: Path, options: Options = Options()) -> dict[str, Any]:
    """Convert `source_folder` (global_stepN) into `target`/global_stepN_universal; returns the closing summary.

    Raises:
        Refused: with nothing published and nothing left behind.
        OSError: as the disk tells it; what is finished is taken up by the next run.
    """
    source_folder, target = source_folder.resolve(), target.resolve()
    if target == source_folder or source_folder in target.parents:
        raise Refused(
            f"{target}: lies inside the source. TARGET is usually the folder above it: {source_folder.parent}"
        )
    if target.exists() and not target.is_dir():
        raise Refused(f"{target}: exists and is not a folder.")
    files = read_folder(source_folder)
    final = target / f"{source_folder.name}_universal"
    if final.exists() or final.is_symlink():
        return published_before(final, files, options)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Refused(f"{target}: cannot be made: {problem.strerror}. Choose another TARGET.") from None
    growing = Partial(final)
    with growing.held():
        try:
            source = read_source(files, options.inert_classes)
            warn_of_empty_ranks(source, options.for_data_parallel)
            receipt = build(source, growing, options)
        except Refused:
            growing.remove()
            raise
        growing.publish()
    point_to(final)
    return summary("converted", final, receipt, source_compared=True)


def published_before(final: Path, files: Folder, options: Options) -> dict[str, Any]:
    """A result is there already: accept it if it is this one, whole; else refuse and leave it alone."""
    if final.is_symlink() or not (final / RECEIPT).is_file():
        raise Refused(
            f"{final}: exists, but was not made by this converter (no {RECEIPT}). Move it away, or choose another "
            "TARGET."
        )
    receipt = read_receipt(final)
    for name, entry in receipt["files"].items():
        if not (final / name).is_file() or (final / name).stat().st_size != entry["bytes"]:
            raise Refused(f"{final}: {name} is missing or cut short. Remove the folder and convert again.")
    like = likeness(files.paths, receipt)
    if like == "touched":
        say(f"{files.path}: its files have other times than {final} notes; comparing what they hold")
        try:
            compare(final, receipt, files, options.inert_classes, options.workers)
        except Refused as problem:
            say(str(problem))
            like = "other"
    if like == "other":
        raise Refused(
            f"{final}: was made from other files than {files.path} holds now. Remove it, or choose another TARGET."
        )
    say(f"{final} is already there, made from these files and verified; nothing to do")
    point_to(final)
    return summary("already-converted", final, receipt, source_compared=like == "touched")


def warn_of_empty_ranks(source: Source, data_parallel: int) -> None:
    """Say if DeepSpeed's loader would fail at the size that the result is wanted for."""
    groups = [group.numel for holder in source.holders for group in holder.groups]
    if data_parallel < 1 or universal_loads_at(groups, data_parallel):
        return
    empty = max(ranks_without_elements(elements, data_parallel) for elements in groups)
    below, above = sizes_nearby(groups, data_parallel)
    print(
        f"warning: at {data_parallel} data-parallel ranks, {empty} would own nothing of the smallest optimizer group "
        f"({min(groups)} elements), and DeepSpeed (0.15.4 to 0.19.8) cannot load a universal checkpoint there: an "
        f"IndexError in runtime/base_optimizer.py. Train on {below}{f' or {above}' if above else ''} ranks.",
        file=sys.stderr,
    )


def build(source: Source, growing: Partial, options: Options) -> dict[str, Any]:
    """Write and verify everything into the partial folder; what an earlier run finished is taken up."""
    parameters = read_parameters(source)
    held, tensor = len(source.holders), source.tensor_parallel
    shards = source.folder.data_parallel * held
    say(
        f"{source.folder.path}: {shards} shard{'s' if shards > 1 else ''}, {len(parameters)} parameters, "
        f"TP={tensor} PP={held // tensor}"
    )
    identity = {"files": identities(source.archives), "weights": options.compare_weights}
    dones = growing.finished(identity, options.workers)
    check_space(source, parameters, dones, growing.path)
    sizes = {parameter.name: state_bytes(source, parameter) for parameter in parameters}
    progress = Progress("converting", sum(sizes.values()))
    done_before = {done.name for done in dones}
    progress.add(sum(sizes[name] for name in done_before))
    todo = sorted((p for p in parameters if p.name not in done_before), key=lambda p: -sizes[p.name])
    work = partial(write_numbered, source, todo, growing.path, options.compare_weights)
    for done in in_workers(work, range(len(todo)), options.workers):
        growing.finish(done)
        dones.append(done)
        progress.add(sizes[done.name])
    say("checking what was read against the checksums of the shards, and copying the model files")
    check_records(source, dones, options.workers)
    files = write_beside(source, growing.path)
    receipt = receipt_of(source, dones, files, sum(product(parameter.shape) for parameter in parameters))
    (growing.path / RECEIPT).write_text(json.dumps(receipt, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    say("flushing to the disk")
    for _ in in_workers(sync, [path for path in growing.path.rglob("*") if path.is_file()], options.workers):
        pass
    return receipt


def write_numbered(source: Source, todo: list[Parameter], folder: Path, compare_weights: bool, number: int) -> Done:
    return write_parameter(source, todo[number], folder, compare_weights)


def state_bytes(source: Source, parameter: Parameter) -> int:
    """Bytes that are read for a parameter."""
    return len(parameter.states) * ITEM_BYTES["float32"] * sum(product(part.shape) for part in parameter.parts)


def check_space(source: Source, parameters: list[Parameter], dones: list[Done], folder: Path) -> None:
    done = {done.name for done in dones}
    left = [parameter for parameter in parameters if parameter.name not in done]
    needed = sum(len(p.states) * ITEM_BYTES["float32"] * product(p.kept) + 8192 for p in left)
    needed += sum(holder.model.stat.st_size for holder in source.holders)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refused(
            f"{folder.parent}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB free. Make room, then repeat."
        )


def check_records(source: Source, dones: list[Done], workers: int) -> None:
    """Every record of every file against the checksum that torch noted, from the sums of what was read already."""
    sums: dict[tuple[int, int], list[tuple[str, int, int, int]]] = {}
    for done in dones:
        for part, rank, group, state, start, count, found in done.sums:
            tensor = source.holders[part].shards[rank].flats[group][state]
            size = ITEM_BYTES[tensor.dtype]
            span = (tensor.storage.name, (tensor.offset + start) * size, count * size, found)
            sums.setdefault((part, rank), []).append(span)
    tasks = [(part, rank) for part, holder in enumerate(source.holders) for rank in range(len(holder.shards))]
    for _ in in_workers(partial(check_shard, source, sums), tasks, workers):
        pass
    for archive in source.archives:
        if not any(archive is shard.archive for holder in source.holders for shard in holder.shards):
            for name in archive.entries:
                archive.check(name)


def check_shard(
    source: Source, sums: dict[tuple[int, int], list[tuple[str, int, int, int]]], key: tuple[int, int]
) -> None:
    archive = source.holders[key[0]].shards[key[1]].archive
    read: dict[str, list[tuple[int, int, int]]] = {}
    for name, start, count, found in sums.get(key, []):
        read.setdefault(name, []).append((start, count, found))
    for name in archive.entries:
        archive.check(name, archive.filled(name, sorted(read[name])) if name in read else None)


def write_beside(source: Source, folder: Path) -> dict[str, Any]:
    """The model files, copied byte by byte, and the state that all ranks share; returns their part of the receipt."""
    files = {}
    for holder in source.holders:
        path = folder / holder.model.path.name
        wanted = copied(holder.model.path, path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        if files[path.name]["sha256"] != wanted:
            raise Refused(f"{path}: the copy differs from {holder.model.path}. Convert again.")
    first = source.holders[0].shards[0]
    path = folder / "zero" / "optimizer_state.pt"
    with reading(first.path):
        content = first.archive.load()["optimizer_state_dict"]
        common = {key: value for key, value in content.items() if key not in SHARDED}
        save({**common, "param_groups": content["base_optimizer_state"]["param_groups"]}, path)
    files["zero/optimizer_state.pt"] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    return files


def copied(old: Path, new: Path) -> str:
    """Copy a file; returns the digest of what was read."""
    digest = hashlib.sha256()
    with opened(old) as source, new.open("wb") as target:
        for chunk in iter(lambda: source.read(COPY_BYTES), b""):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="universal.py",
        description="Convert a DeepSpeed ZeRO-1/2 checkpoint to the universal layout, and prove it.",
    )
    parser.add_argument("source", metavar="SOURCE", nargs="?", type=Path, help="a global_stepN folder")
    parser.add_argument("target", metavar="TARGET", nargs="?", type=Path, help="folder to hold global_stepN_universal")
    parser.add_argument("--verify", metavar="TARGET", type=Path, help="verify a result again and convert nothing")
    parser.add_argument("--workers", metavar="N", type=int, default=default_workers(), help="processes (%(default)s)")
    parser.add_argument(
        "--for-data-parallel", metavar="N", type=int, default=0, help="warn if the result would not load at this size"
    )
    parser.add_argument("--inert-class", metavar="NAME", action="append", default=[], help="read this class unexecuted")
    parser.add_argument("--no-weight-check", action="store_true", help="skip comparing masters with the model file")
    args = parser.parse_args(arguments)
    if (args.verify is None) == (args.source is None or args.target is None):
        parser.error("give SOURCE and TARGET, or --verify TARGET")
    if args.workers < 1:
        parser.error("--workers: at least one is needed")
    return args


def told(work: Callable[[], dict[str, Any]]) -> int:
    """Carry out and say how it went, for people and for the job's log; returns the exit status."""
    if sys.byteorder != "little":
        print(f"refused: checkpoints are little-endian, and this machine is not. [{CODE}]", file=sys.stderr)
        return 1
    try:
        result = work()
    except Refused as problem:
        print(f"refused: {shown(str(problem))} [{CODE}]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was published, and what is finished is kept; run it again.", file=sys.stderr)
        return 130
    except (OSError, MemoryError, RuntimeError) as problem:
        told = f"{shown(str(problem))}. Nothing was published, and what is finished is kept; run it again."
        print(f"failed: {told} [{CODE}]", file=sys.stderr)
        return 1
    say("*** Done!")
    say(json.dumps(result, sort_keys=True))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit status."""
    args = parsed(arguments)
    inert = tuple(args.inert_class)
    if args.verify is not None:
        return told(lambda: verify(args.verify.resolve(), inert, args.workers))
    options = Options(inert, not args.no_weight_check, args.workers, args.for_data_parallel)
    return told(lambda: convert(args.source, args.target, options))


if __name__ == "__main__":
    raise SystemExit(main())
