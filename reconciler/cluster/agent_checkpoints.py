"""Which checkpoints a folder holds, and which of them are complete: by its pointers and its files' names and sizes."""

import contextlib
import hashlib
import json
import os
import re
import stat

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import Refused, read_text, read_whole

STEP = re.compile(r"global_step(\d{1,12})")
UNIVERSAL = re.compile(r"global_step(\d{1,12})_universal")
MODEL_FILE = re.compile(r"mp_rank_(\d{1,5})_model_states\.pt")
SHARD_FILE = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d{1,6})_mp_rank_(\d{1,5})_optim_states\.pt")
SMALLER_THAN_PEERS = 0.5
SAME_SIZE_BYTES = 4096
RECEIPT_BYTES_MAX = 64 * 1024 * 1024
FOLDER_ENTRIES_MAX = 100000
PRUNED = re.compile(r"\.pruned-[0-9a-f]{16}-global_step\d{1,12}(_universal)?")
"""A folder that was set aside to be deleted: what it was, and its name."""
IDENTITY_DIGITS = 16
CONVERTER_FILES, CONVERTER_FOLDERS = ("receipt.json",), ("zero",)
DEPTH_MAX = 8


def pointers(folder: str) -> "Tuple[Optional[int], Optional[int]]":
    """What `latest` and the tracker say: None without the file, and for `latest` 0 if it names no save."""
    pointer = small_text(os.path.join(folder, "latest"))
    named = STEP.fullmatch((pointer or "").strip())
    latest = int(named.group(1)) if named else None if pointer is None else 0
    tracked = (small_text(os.path.join(folder, "latest_checkpointed_iteration.txt")) or "").strip()
    return latest, int(tracked) if re.fullmatch(r"\d{1,12}", tracked) else None


def saves(folder: str, names: "List[str]", data_parallel: int, check_inside: "Callable[[str], None]") -> "Json":
    """Checkpoints of one leg's folder and what its two pointers say."""
    latest, tracker = pointers(folder)
    steps = sorted(int(STEP.fullmatch(name).group(1)) for name in names)  # type: ignore[union-attr]
    checkpoints = []
    proven = {}  # type: Dict[str, int]
    for step in reversed(steps):
        path = os.path.join(folder, "global_step{}".format(step))
        check_inside(path)
        files, identity, saved = listed(path)
        why = files_wanting(files, data_parallel) or pointer_wanting(step, tracker, newest=steps[-1])
        if not why and proven:
            why = unlike(files, proven)
        elif not why:
            # The newest is what is loaded next, so only there is it worth opening every file.
            why = cut_short(path, files)
            proven = {} if why else files
        checkpoints.append(dict(checkpoint(step, why, files), identity=identity, saved=saved))
    checkpoints.reverse()
    return {"checkpoints": checkpoints, "latest": latest, "tracker": tracker}


def checkpoint(step: int, why: str, files: "Dict[str, int]", universal: bool = False) -> "Json":
    """One checkpoint as it is told; `inside` is filled in where that is asked for."""
    return {
        "iteration": step,
        "why": why,
        "data_parallel": count_ranks(files),
        "model_parallel": sum(1 for name in files if MODEL_FILE.fullmatch(name)),
        "size": sum(files.values()),
        "universal": universal,
        "inside": None,
        "identity": "",
        "saved": 0.0,
    }


def newest(folder: str, names: "List[str]", data_parallel: int, before: float) -> "Tuple[Optional[int], Optional[int]]":
    """(newest iteration that was complete before a moment, what `latest` names) of a leg."""
    latest, tracker = pointers(folder)
    steps = sorted(int(STEP.fullmatch(name).group(1)) for name in names)  # type: ignore[union-attr]
    for step in reversed(steps):
        path = os.path.join(folder, "global_step{}".format(step))
        files, _, saved = listed(path)
        lacks = files_wanting(files, data_parallel) or pointer_wanting(step, tracker, newest=steps[-1])
        if saved <= before and not (lacks or cut_short(path, files)):
            return step, latest
    return None, latest


def converted(folder: str, check_inside: "Callable[[str], None]") -> "Optional[int]":
    """The iteration of a verified universal copy: what `latest_universal` names, with the receipt that the
    converter writes when it has compared every tensor, and every file as long as the receipt says."""
    name = (small_text(os.path.join(folder, "latest_universal")) or "").strip()
    found = UNIVERSAL.fullmatch(name)
    if found is None:
        return None
    path = os.path.join(folder, name)
    check_inside(path)
    try:
        receipt = json.loads(read_text(os.path.join(path, "receipt.json"), RECEIPT_BYTES_MAX) or "null")
        files = {str(file): entry["bytes"] for file, entry in receipt["files"].items()}
        whole = receipt["iteration"] == int(found.group(1)) and bool(files)
        for file, size in files.items():
            if ".." in file.split("/") or os.stat(os.path.join(path, file)).st_size != size:
                return None
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, RecursionError):
        return None
    return int(found.group(1)) if whole else None


def small_text(path: str) -> "Optional[str]":
    try:
        return (read_whole(path, 4096) or b"").decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def file_sizes(folder: str) -> "Dict[str, int]":
    return listed(folder)[0]


def listed(folder: str) -> "Tuple[Dict[str, int], str, float]":
    """Sizes of the shards of a folder, its identity, and when a file of it was written or changed last."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat(follow_symlinks=False)
            if len(found) > FOLDER_ENTRIES_MAX:
                raise Refused("{} holds more than {} files".format(folder, FOLDER_ENTRIES_MAX))
    sizes = {name: about.st_size for name, about in found.items() if name.endswith(".pt")}
    saved = max((about.st_ctime for about in found.values()), default=0.0)
    return sizes, identity_of(os.stat(folder).st_ino, found), saved


def identity_of(inode: int, found: "Dict[str, Any]") -> str:
    """Of a folder with this inode and these entries; "" if something lies in it that neither launcher nor converter
    writes."""
    rows = [str(inode)]
    for name, about in sorted(found.items()):
        if stat.S_ISREG(about.st_mode) and (name.endswith(".pt") or name in CONVERTER_FILES):
            rows.append("{}/{}/{}/{}".format(name, about.st_ino, about.st_size, about.st_mtime_ns))
        elif stat.S_ISDIR(about.st_mode) and name in CONVERTER_FOLDERS:
            rows.append("{}/{}".format(name, about.st_ino))
        else:
            return ""
    return hashlib.sha256("\n".join(rows).encode("ascii", "backslashreplace")).hexdigest()[:IDENTITY_DIGITS]


def tree_bytes(folder: str, depth: int = 0) -> int:
    """Of all files in a folder that may be on its way to be deleted."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(about.st_mode):
                        total += about.st_size
                    elif depth < DEPTH_MAX:
                        total += tree_bytes(os.path.join(folder, entry.name), depth + 1)
    except FileNotFoundError:
        return total
    return total


def copy_seen(folder: str, iteration: "Optional[int]") -> "Json":
    """Bytes and identity of the universal copy of an iteration in a folder."""
    if iteration is None:
        return {"copy_size": 0, "copy_identity": ""}
    path = os.path.join(folder, "global_step{}_universal".format(iteration))
    return {"copy_size": tree_bytes(path), "copy_identity": listed(path)[1]}


def count_ranks(files: "Dict[str, int]") -> int:
    return len({found.group(1) for found in map(SHARD_FILE.fullmatch, files) if found})


def highest_rank(files: "Dict[str, int]") -> int:
    return max((int(found.group(1)) for found in map(SHARD_FILE.fullmatch, files) if found), default=0)


def files_wanting(files: "Dict[str, int]", data_parallel: int) -> str:
    """What the files of a `global_step` folder lack; "" if nothing. Ranks are those of the optimizer's shards."""
    models = {int(found.group(1)): files[found.group(0)] for found in map(MODEL_FILE.fullmatch, files) if found}
    shards = {
        (int(found.group(1)), int(found.group(2))): files[found.group(0)]
        for found in map(SHARD_FILE.fullmatch, files)
        if found
    }
    if data_parallel <= 0:
        return "recipe.json does not say on how many data-parallel ranks it was trained"
    if not models:
        return "no model file"
    parts = 1 + max(max(models), max((part for _, part in shards), default=0))
    if len(models) != parts:
        return "{} of {} model files".format(len(models), parts)
    wanted = data_parallel * parts
    if len(shards) != wanted or max(rank for rank, _ in shards) != data_parallel - 1:
        return "{} optimizer shards, {} are needed".format(len(shards), wanted)
    for sizes in (models, shards):
        largest = max(sizes.values())
        smallest = min(sizes.values())
        if smallest == 0:
            return "an empty file"
        if smallest < SMALLER_THAN_PEERS * largest:
            return "a file of {} bytes among others of {}".format(smallest, largest)
    return ""


def pointer_wanting(step: int, tracker: "Optional[int]", newest: int) -> str:
    """The tracker is written when every rank has written its shards; `latest` is written before that."""
    if tracker is None:
        # It is cut to nothing and written again at each save: an older folder was finished before that.
        return "the tracker file is missing or empty" if step == newest else ""
    return "" if tracker >= step else "the tracker file says {}".format(tracker)


def unlike(files: "Dict[str, int]", proven: "Dict[str, int]") -> str:
    """Name a file that is not of the size that it has in a later save of the same leg, but for a few counters."""
    for name in sorted(files):
        if abs(files[name] - proven.get(name, files[name])) > SAME_SIZE_BYTES:
            return "{} has {} bytes, {} in a later save".format(name, files[name], proven[name])
    return ""


def cut_short(folder: str, files: "Dict[str, int]") -> str:
    """Name a file that begins as torch writes them (a zip archive) and does not end so."""
    for name in sorted(files):
        descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(descriptor).st_size
            zipped = os.pread(descriptor, 4, 0) == b"PK\x03\x04"
            if zipped and (size < 22 or os.pread(descriptor, 4, size - 22) != b"PK\x05\x06"):
                return "{} is cut short at {} bytes".format(name, size)
        finally:
            os.close(descriptor)
    return ""
