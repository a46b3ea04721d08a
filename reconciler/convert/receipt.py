"""The receipt beside a result: from which files it was made, and what was found in it when it was verified."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.pickles import Refused
    from reconciler.convert.source import Source
    from reconciler.convert.torchfile import Archive, regular_file
    from reconciler.convert.writing import Done

TOOL = "cpt-reconciler universal"
VERSION = 2
RECEIPT = "receipt.json"
POINTER = "latest_universal"
AGAIN = "Remove the folder and convert again."


def receipt_of(source: Source, dones: Iterable[Done], files: dict[str, Any], elements: int) -> dict[str, Any]:
    """The receipt of a result that was verified; `files` are those beside the parameters' own."""
    dones = sorted(dones, key=lambda done: done.name)
    for done in dones:
        files.update(done.files)
    return {
        "tool": TOOL,
        "version": VERSION,
        "iteration": int(source.folder.path.name[len("global_step") :]),
        "source": {
            "folder": str(source.folder.path),
            "data_parallel": source.folder.data_parallel,
            "tensor_parallel": source.tensor_parallel,
            "pipeline_parallel": len(source.holders) // source.tensor_parallel,
            "files": identities(source.archives),
        },
        "groups": [
            {"numel": group.numel, "shard": group.shard} for holder in source.holders for group in holder.groups
        ],
        "counts": {
            "parameters": len(dones),
            "tensors": sum(len([state for state in done.tensors if state != "step"]) for done in dones),
            "elements": elements,
            "weights_compared": sum(done.weights_compared for done in dones),
        },
        "tensors": {done.name: done.tensors for done in dones},
        "files": dict(sorted(files.items())),
    }


def identities(archives: Iterable[Archive]) -> list[dict[str, Any]]:
    """By what a source's files are known again, after making sure that they are still those that were read."""
    found = []
    for archive in archives:
        now, path = regular_file(archive.path), archive.path
        if (now.st_size, now.st_mtime_ns) != (archive.stat.st_size, archive.stat.st_mtime_ns):
            raise Refused(f"{path}: changed during the conversion. Convert again when the run has finished saving.")
        found.append({"name": path.name, "bytes": now.st_size, "mtime_ns": now.st_mtime_ns})
    return found


def likeness(paths: Iterable[Path], receipt: dict[str, Any]) -> str:
    """`same` files as the receipt's by size and time, `touched` if only times differ, or `other`."""
    recorded = {entry["name"]: entry for entry in receipt["source"]["files"]}
    found = {path.name: regular_file(path) for path in paths}
    if {name: about.st_size for name, about in found.items()} != {n: entry["bytes"] for n, entry in recorded.items()}:
        return "other"
    times = all(about.st_mtime_ns == recorded[name]["mtime_ns"] for name, about in found.items())
    return "same" if times else "touched"


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
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder. PATH is a global_stepN_universal folder, or the one that holds it.")
    if not path.is_file():
        raise Refused(
            f"{folder}: no {RECEIPT}, so it was not made and verified by this converter. PATH is a folder "
            f"global_stepN_universal that it made, or the one that holds that and {POINTER}."
        )
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        named = [*receipt["tensors"], *receipt["files"], receipt["source"]["folder"]]
        if receipt["tool"] != TOOL or any(".." in name.split("/") for name in named):
            raise ValueError("not a receipt of this converter")
        if receipt["version"] != VERSION:
            raise Refused(f"{path}: was written by version {receipt['version']} of the converter; this is {VERSION}.")
        _ = [receipt["source"]["files"][0]["mtime_ns"], receipt["counts"]["tensors"], receipt["iteration"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as problem:
        raise Refused(f"{path}: unreadable ({problem}). {AGAIN}") from None
    return dict(receipt)


def summary(outcome: str, folder: Path, receipt: dict[str, Any], *, source_compared: bool) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "folder": str(folder),
        "iteration": receipt["iteration"],
        "source_data_parallel": receipt["source"]["data_parallel"],
        "source_compared": source_compared,
        **receipt["counts"],
    }
