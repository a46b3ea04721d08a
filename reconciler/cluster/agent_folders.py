"""Checkpoints in folders that no attempt of ours made: what is there, what is complete, and what the wanted ones say.

Such a folder may hold thousands of saves. Their names and sizes are listed; only those that can be the wanted one are
opened, by halving, since counters only rise and a decay only falls.
"""

import os
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_checkpoints import (
        FOLDER_ENTRIES_MAX,
        MODEL_FILE,
        STEP,
        UNIVERSAL,
        checkpoint,
        cut_short,
        file_sizes,
        files_wanting,
        highest_rank,
        pointer_wanting,
        pointers,
        small_text,
    )
    from reconciler.cluster.agent_disk import MESSAGE_CHARS_MAX, Refused, disk_trouble, is_folder, is_there
    from reconciler.cluster.agent_inside import look_inside

FOLDERS_S_MAX = 30.0
"""For all folders of one look; on a busy file system one file takes some milliseconds to open."""
OPENED_ALL = 16
"""Of so few saves all are opened, so that the near ones can be told too."""
SAME_RATE = 1e-6
STATES = ("fp32.pt", "exp_avg.pt", "exp_avg_sq.pt")


def folders_seen(asked: "List[Json]") -> "Json":
    """Each folder by its path: {"read": …}, null for one that is not there, or {"unread": why}."""
    until = time.monotonic() + FOLDERS_S_MAX
    found = {}  # type: Json
    for folder in asked:
        path = folder["path"]
        try:
            if not path.startswith("/"):
                raise Refused("not an absolute path: {!r}".format(path[:200]))
            found[path] = {"read": Folder(path, until).look(folder["wanted"]) if is_folder(path) else None}
        except (OSError, ValueError, Refused) as error:
            why = disk_trouble(error) if isinstance(error, OSError) else str(error)
            found[path] = {"unread": why[:MESSAGE_CHARS_MAX]}
    return found


class NotWhole(Exception):
    """A checkpoint that was taken for complete is not; its entry says why."""


class Folder:
    """One folder that holds `latest` or `latest_universal`."""

    def __init__(self, path: str, until: float) -> None:
        self.root, self.until = os.path.realpath(path), until
        self.latest, self.tracker = pointers(self.root)
        self.bare = not is_there(os.path.join(self.root, "latest_checkpointed_iteration.txt"))
        pointer = UNIVERSAL.fullmatch((small_text(os.path.join(self.root, "latest_universal")) or "").strip())
        self.latest_universal = int(pointer.group(1)) if pointer else None
        self.entries = self.listed()
        self.proven = []  # type: List[Json]

    def look(self, wanted: "List[Json]") -> "Json":
        """Every checkpoint; those that can be a wanted one with what they say of themselves."""
        for wish in wanted:
            while self.prove(wish):
                pass
        return {
            "checkpoints": self.entries,
            "latest": self.latest,
            "tracker": self.tracker,
            "latest_universal": self.latest_universal,
        }

    def listed(self) -> "List[Json]":
        names = os.listdir(self.root)
        if len(names) > FOLDER_ENTRIES_MAX:
            raise Refused("{} holds more than {} entries".format(self.root, FOLDER_ENTRIES_MAX))
        numbers = sorted(int(found.group(1)) for found in map(STEP.fullmatch, names) if found)
        entries = [self.saved(step, numbers[-1]) for step in numbers]
        numbers = sorted(int(found.group(1)) for found in map(UNIVERSAL.fullmatch, names) if found)
        return entries + [self.universal(step) for step in numbers]

    def saved(self, step: int, newest: int) -> "Json":
        files = self.files("global_step{}".format(step))
        if files is None:
            return checkpoint(step, "it leads out of its folder, or is none", {})
        entry = checkpoint(step, "", files)
        # A copy may have come without the tracker: then every shard of the one that is wanted is opened instead.
        pointer = "" if self.bare else pointer_wanting(step, self.tracker, newest)
        entry["why"] = files_wanting(files, 1 + highest_rank(files)) or pointer
        return entry

    def universal(self, step: int) -> "Json":
        name = "global_step{}_universal".format(step)
        files = self.files(name)
        if files is None:
            return checkpoint(step, "it leads out of its folder, or is none", {}, universal=True)
        why = "" if any(MODEL_FILE.fullmatch(file) for file in files) else "no model file"
        if is_there(os.path.join(self.root, name, "tmp")):
            why = "it holds `tmp`, which the converter removes when it is done"
        entry = checkpoint(step, why, files, universal=True)
        entry["size"] += sum(map(zero_bytes, parameters(os.path.join(self.root, name))))
        return entry

    def files(self, name: str) -> "Optional[Dict[str, int]]":
        """Sizes of a checkpoint's files; None if it is no folder in this one."""
        path = os.path.join(self.root, name)
        return file_sizes(path) if is_folder(path) and os.path.realpath(path) == path else None

    def prove(self, wish: "Json") -> bool:
        """Look into what can be the wanted one; True if something was found out that changes which that is."""
        whole = [e for e in self.entries if not e["why"] and e["universal"] == wish["universal"]]
        try:
            if wish["property"] == "all" or (wish["property"] != "iteration" and len(whole) <= OPENED_ALL):
                for entry in whole:
                    self.facts(entry)
            chosen = self.chosen(whole, wish)
            if chosen is not None:
                self.whole(chosen)
        except NotWhole:
            return True
        return False

    def chosen(self, whole: "List[Json]", wish: "Json") -> "Optional[Json]":
        """The one that is wanted, as far as the agent can tell; its neighbours have been looked into as well."""
        kind, least = wish["property"], wish["number"]
        if kind == "iteration":
            return next((entry for entry in whole if entry["iteration"] == least), None)
        if kind == "tokens":
            return self.first(whole, lambda facts: tokens_of(facts) >= least)
        if kind == "rate":
            return self.first(whole, lambda facts: decayed(facts) and facts["rate"] <= least)
        if kind == "pre-cooldown":
            before = self.first(whole, decayed)
            older = whole if before is None else whole[: whole.index(before)]
            return older[-1] if older and self.facts(older[-1]) else None
        return whole[-1] if whole and self.facts(whole[-1]) else None

    def first(self, whole: "List[Json]", test: "Callable[[Json], bool]") -> "Optional[Json]":
        """The first for which this holds, of those in order of which it holds for all after it."""
        low, high = 0, len(whole)
        while low < high:
            middle = (low + high) // 2
            if test(self.facts(whole[middle])):
                high = middle
            else:
                low = middle + 1
        return whole[low] if low < len(whole) else None

    def facts(self, entry: "Json") -> "Json":
        """What a checkpoint says of itself, read once. NotWhole if it cannot be read, or says that it is another."""
        if entry["inside"] is None:
            if time.monotonic() > self.until:
                raise Refused("{} was not looked into whole in {} s".format(self.root, int(FOLDERS_S_MAX)))
            look_inside(entry, self.path(entry))
        if entry["why"]:
            raise NotWhole
        return dict(entry["inside"])

    def whole(self, entry: "Json") -> None:
        """Every file of the one that is wanted, opened. NotWhole if one is cut short or missing."""
        inside, path = self.facts(entry), self.path(entry)
        if any(entry is proven for proven in self.proven):
            return
        lacks = universal_wanting(path, inside["tensors"]) if entry["universal"] else ""
        entry["why"] = lacks or cut_short(path, file_sizes(path))
        if entry["why"]:
            raise NotWhole
        self.proven.append(entry)

    def path(self, entry: "Json") -> str:
        return os.path.join(
            self.root, "global_step{}{}".format(entry["iteration"], "_universal" if entry["universal"] else "")
        )


def parameters(path: str) -> "List[str]":
    """The folders of a universal checkpoint, one a parameter."""
    zero = os.path.join(path, "zero")
    if not is_folder(zero):
        return []
    return [os.path.join(zero, name) for name in sorted(os.listdir(zero)) if is_folder(os.path.join(zero, name))]


def zero_bytes(folder: str) -> int:
    return sum(file_sizes(folder).values())


def universal_wanting(path: str, tensors: "Optional[int]") -> str:
    """What a universal checkpoint's parameters lack; "" if nothing."""
    folders = parameters(path)
    if tensors is not None and len(folders) < tensors:
        return "{} of {} parameters".format(len(folders), tensors)
    for folder in folders:
        files, name = file_sizes(folder), os.path.basename(folder)
        missing = [state for state in STATES if not files.get(state)]
        if missing:
            return "{} of {} is missing or empty".format(missing[0], name)
        why = cut_short(folder, files)
        if why:
            return "{}: {}".format(name, why)
    return ""


def decayed(facts: "Json") -> bool:
    """Whether the rate has left its peak for good: it is lower, and past the warm-up."""
    rate, peak, position = facts["rate"], facts["rate_max"], facts["position"]
    if rate is None or peak is None:
        return False
    return bool(rate < peak * (1 - SAME_RATE) and (position is None or position >= (facts["warmup"] or 0.0)))


def tokens_of(facts: "Json") -> int:
    """Tokens trained on: the counter, or what the samples come to."""
    return int(facts["tokens"] or (facts["samples"] or 0) * (facts["sequence_length"] or 0))
