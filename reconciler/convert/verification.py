"""The verification of a result, repeated: against its receipt, and against its source where that is still there."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.folder import Folder, read_folder
    from reconciler.convert.merging import AVERAGED, REPLICATED, Parameter, placed, read_parameters
    from reconciler.convert.pickles import ITEM_BYTES, Refused, product
    from reconciler.convert.progress import Progress, say
    from reconciler.convert.receipt import AGAIN, RECEIPT, likeness, read_receipt, result_folder, summary
    from reconciler.convert.result import read_back, written_step
    from reconciler.convert.source import Source, read_source
    from reconciler.convert.torchfile import file_digest, regular_file
    from reconciler.convert.workers import in_workers
    from reconciler.convert.writing import Done, averaged, dtype_of, step_of, value_of


def verify(target: Path, inert: tuple[str, ...] = (), workers: int = 1) -> dict[str, Any]:
    """Repeat the verification of the result at `target`, or that its latest_universal names.

    Raises:
        Refused: the result is incomplete or changed, or its source is there and no longer the same.
    """
    folder = result_folder(target)
    receipt = read_receipt(folder)
    check_names(folder, receipt)
    origin = Path(receipt["source"]["folder"])
    if origin.is_dir():
        say(f"verifying {folder} against its receipt and {origin}")
        files = read_folder(origin)
        if likeness(files.paths, receipt) == "other":
            raise Refused(f"{origin}: has changed since {folder} was made from it. {AGAIN}")
        compare(folder, receipt, files, inert, workers)
        return summary("verified", folder, receipt, source_compared=True)
    say(f"verifying {folder} against its receipt alone: the source {origin} is no longer there")
    compare(folder, receipt, None, inert, workers)
    return summary("verified", folder, receipt, source_compared=False)


def check_names(folder: Path, receipt: dict[str, Any]) -> None:
    """Every file that the receipt names is there, as long as it says, and no other."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not is_folder(path)}
    found.pop(RECEIPT, None)
    for name in sorted(set(receipt["files"]) | set(found)):
        state = "is missing" if name not in found else "was added later" if name not in receipt["files"] else ""
        if not state and regular_file(found[name]).st_size != receipt["files"][name]["bytes"]:
            state = "has changed (its length)"
        if state:
            raise Refused(f"{folder}: {name} {state} since it was verified. {AGAIN}")


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def compare(folder: Path, receipt: dict[str, Any], files: Folder | None, inert: tuple[str, ...], workers: int) -> None:
    """Read the whole result again, and its source if `files` are given; every tensor must be as the receipt says."""
    source, parameters = None, {}
    if files is not None:
        source = read_source(files, inert)
        parameters = {parameter.name: parameter for parameter in read_parameters(source)}
        if set(parameters) != set(receipt["tensors"]):
            raise Refused(f"{files.path}: has other parameters than {folder}, which was made from it. {AGAIN}")
    check = partial(check_parameter, folder, receipt, source, parameters)
    progress = Progress("verifying", sum(entry["bytes"] for entry in receipt["files"].values()))
    of_parameters = {f"zero/{name}/" for name in receipt["tensors"]}
    for name, entry in receipt["files"].items():
        if name[: name.rfind("/") + 1] not in of_parameters:
            if file_digest(folder / name) != entry.get("sha256"):
                raise Refused(f"{folder}: {name} has changed since it was verified. {AGAIN}")
            progress.add(entry["bytes"])
    models = [] if files is None else files.models
    for path in models:
        if file_digest(path) != receipt["files"].get(path.name, {}).get("sha256"):
            raise Refused(f"{path}: has changed since {folder} was made from it. {AGAIN}")
    for count in in_workers(check, receipt["tensors"], workers):
        progress.add(count)


def check_parameter(
    folder: Path, receipt: dict[str, Any], source: Source | None, parameters: dict[str, Parameter], name: str
) -> int:
    """One parameter; returns how many bytes of the result were read."""
    parameter, count = parameters.get(name), 0
    for state, facts in receipt["tensors"][name].items():
        relative = f"zero/{name}/{state}.pt"
        entry, path = receipt["files"].get(relative, {}), folder / relative
        count += int(entry.get("bytes", 0))
        if state == "step":
            if file_digest(path) != entry.get("sha256") or written_step(path) != facts:
                raise Refused(f"{folder}: {relative} has changed since it was verified. {AGAIN}")
            if source is not None and parameter is not None and value_of(step_of(source, parameter)) != facts:
                refuse_source(source, name, state, folder)
            continue
        found = read_back(path, parameter)
        if found.file != entry:
            raise Refused(f"{folder}: {relative} has changed since it was verified. {AGAIN}")
        if found.facts != facts:
            raise Refused(f"{path}: its tensor is not the one in the receipt. Remove {folder} and convert again.")
        if source is None or parameter is None:
            continue
        if (
            found.labels != parameter.labels
            or found.facts["shape"] != list(parameter.kept)
            or state not in parameter.states
            or found.slices != source_slices(source, parameter, state)
        ):
            refuse_source(source, name, state, folder)
    return count


def refuse_source(source: Source, name: str, state: str, folder: Path) -> None:
    raise Refused(
        f"{folder}: {name}/{state} does not hold what the shards of {source.folder.path} hold. One of the two has "
        "changed since the conversion: if the run saved again, remove the result and convert again; else trust neither."
    )


def source_slices(source: Source, parameter: Parameter, state: str) -> list[str]:
    """The digest of each slice, from the flat buffers and the parameter's place in them alone.

    Merging goes by the shards' slice mappings; this goes by arithmetic, so that one mistake cannot hide in both.
    """
    if parameter.kind == AVERAGED and len(parameter.parts) > 1:
        return [hashlib.sha256(averaged(source, parameter, state, Done(parameter.name))).hexdigest()]
    item, slices = ITEM_BYTES[dtype_of(source, parameter, state)], []
    for rank, part in enumerate(parameter.parts):
        holder, digest, done = source.holders[part.holder], hashlib.sha256(), 0
        group = holder.groups[part.group]
        while done < product(part.shape):
            shard, inside = divmod(group.offsets[parameter.name] + done, group.shard)
            count = min(product(part.shape) - done, group.shard - inside)
            for chunk in holder.shards[shard].flats[part.group][state].chunks(inside, count):
                length = len(chunk) // item
                for first, kept, _ in placed(parameter, rank, done, length):
                    digest.update(chunk[(first - done) * item : (first - done + kept) * item])
                done += length
        slices.append(digest.hexdigest())
    if parameter.kind == REPLICATED:
        return slices[:1] if len(set(slices)) == 1 else slices
    return slices
