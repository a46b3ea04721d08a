"""What the agent finds of a campaign's attempts: recipes, checkpoints, conversions, evaluations, verdicts, logs."""

import errno
import json
import os
import re
import stat
import time

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        MESSAGE_CHARS_MAX,
        Disk,
        Refused,
        disk_trouble,
        is_folder,
        is_there,
        read_text,
        read_whole,
    )
    from reconciler.cluster.agent_logs import LOGS_S_MAX, TrainLogFile
    from reconciler.cluster.agent_numbers import ANSI, real

RECIPE_BYTES_MAX = 4 * 1024 * 1024
EXTERNAL_CHARS_MAX = 1024 * 1024
"""Of what a harness wrote; of more, one character is kept too, by which it is known to be longer."""
EXTERNAL_FILES_MAX = 16
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
ATTEMPT = re.compile(r"[0-9a-f]{12}")
LEG = re.compile(r"leg-(\d{1,4})(-source)?")
STEP = re.compile(r"global_step(\d{1,12})")
TRAIN_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-train\.log")
JOB_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-([a-z]+)(?:-([A-Za-z0-9.-]{1,100}))?\.log")
EXTERNAL = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?)\.json")
RESULT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.(log|json)")
EVALUATION = re.compile(r"leg-(\d{1,4})-(\d{1,12})")
EVALUATION_BYTES_MAX = 1024 * 1024
VALIDATION = re.compile(rb"validation loss at [^|]{0,200}\| lm loss value=\s*([0-9.einfa+-]+?)\s*\|?\s*lm loss PPL=")
MODEL_FILE = re.compile(r"mp_rank_(\d{1,5})_model_states\.pt")
SHARD_FILE = re.compile(r"(?:bf16_)?zero_pp_rank_(\d{1,6})_mp_rank_(\d{1,5})_optim_states\.pt")
SMALLER_THAN_PEERS = 0.5
RECEIPT_BYTES_MAX = 64 * 1024 * 1024
FOLDER_ENTRIES_MAX = 100000
NO_LEG = {"checkpoints": [], "latest": None, "tracker": None, "logs": [], "converted": None}  # type: Json
NOTHING = {"recipe": None, "legs": [], "evaluations": [], "verdicts": {}, "external": {}, "stop": False, "ran": []}  # type: Json


class Attempts:
    """Everything under one campaign's folder."""

    def __init__(self, disk: Disk, campaign: str, windows: int) -> None:
        self.disk, self.campaign, self.windows = disk, campaign, windows
        self.until = time.monotonic() + LOGS_S_MAX
        self.bytes_read = 0

    def look(self) -> "List[Json]":
        """Every attempt. One that cannot be read says so and does not hide the others."""
        found = []
        top = os.path.join(self.disk.root, self.campaign)
        for stage in self.folders(top, NAME):
            for attempt in self.folders(os.path.join(top, stage), ATTEMPT):
                seen = {"stage": stage, "attempt": attempt}  # type: Json
                try:
                    seen.update(self.attempt(stage, attempt), unread="")
                except (OSError, Refused) as error:
                    why = disk_trouble(error) if isinstance(error, OSError) else str(error)
                    seen.update(NOTHING, unread=why[:MESSAGE_CHARS_MAX])
                found.append(seen)
        return found

    def names(self, folder: str) -> "List[str]":
        """What a folder of the workspace holds; nothing if it is not there. Refused if it leads out."""
        if os.path.islink(folder):
            self.disk.check_inside(folder)
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        if len(names) > FOLDER_ENTRIES_MAX:
            raise Refused("{} holds more than {} entries".format(folder, FOLDER_ENTRIES_MAX))
        return sorted(names)

    def folders(self, folder: str, pattern: "Any") -> "List[str]":
        return [
            name for name in self.names(folder) if pattern.fullmatch(name) and is_folder(os.path.join(folder, name))
        ]

    def attempt(self, stage: str, attempt: str) -> "Json":
        folder = os.path.join(self.disk.root, self.campaign, stage, attempt)
        self.disk.check_inside(folder)
        recipe = read_text(os.path.join(folder, "recipe.json"), RECIPE_BYTES_MAX)
        key = "{}/{}/{}".format(self.campaign, stage, attempt)
        return {
            "recipe": recipe,
            "legs": self.legs(folder, key, data_parallel_of(recipe)),
            "evaluations": self.evaluations(os.path.join(folder, "evaluations")),
            "verdicts": self.verdicts(os.path.join(folder, "verdicts")),
            "external": self.external(os.path.join(folder, "external")),
            "stop": is_there(os.path.join(folder, "stop")),
            "ran": self.ran(os.path.join(folder, "jobs"), key),
        }

    def legs(self, folder: str, key: str, data_parallel: int) -> "List[Json]":
        legs = {}  # type: Dict[int, Json]
        for name in self.folders(folder, LEG):
            found = LEG.fullmatch(name)
            path = os.path.join(folder, name)
            self.disk.check_inside(path)
            leg = legs.setdefault(int(found.group(1)), dict(NO_LEG))  # type: ignore[union-attr]
            if found.group(2):  # type: ignore[union-attr]
                leg["converted"] = self.converted(path)
            else:
                leg.update(self.saves(path, data_parallel))
        for number, ended, name in self.train_logs(os.path.join(folder, "jobs")):
            log = TrainLogFile(os.path.join(folder, "jobs", name), self.windows, self.until)
            leg = legs.setdefault(number, dict(NO_LEG))
            leg["logs"] = leg["logs"] + [log.look("{}/l{}/n{}/train".format(key, number, ended))]
            self.bytes_read += log.bytes_read
        return [dict(legs[number], index=number) for number in sorted(legs)]

    def ran(self, folder: str, key: str) -> "List[str]":
        """Keys of the jobs that left a log, of whatever kind: they were started."""
        found = filter(None, map(JOB_LOG.fullmatch, self.names(folder)))
        parts = [(log.group(1), log.group(2), "/".join(filter(None, log.group(3, 4)))) for log in found]
        return ["{}/l{}/n{}/{}".format(key, int(leg), int(ended), rest) for leg, ended, rest in parts]

    def train_logs(self, folder: str) -> "List[Tuple[int, int, str]]":
        found = [(TRAIN_LOG.fullmatch(name), name) for name in self.names(folder)]
        return sorted((int(match.group(1)), int(match.group(2)), name) for match, name in found if match)

    def saves(self, folder: str, data_parallel: int) -> "Json":
        """Checkpoints of one leg's folder and what its two pointers say."""
        pointer = small_text(os.path.join(folder, "latest"))
        named = STEP.fullmatch((pointer or "").strip())
        latest = int(named.group(1)) if named else None if pointer is None else 0
        tracked = (small_text(os.path.join(folder, "latest_checkpointed_iteration.txt")) or "").strip()
        tracker = int(tracked) if re.fullmatch(r"\d{1,12}", tracked) else None
        steps = sorted(int(STEP.fullmatch(name).group(1)) for name in self.folders(folder, STEP))  # type: ignore[union-attr]
        checkpoints = []
        proven = False
        for step in reversed(steps):
            path = os.path.join(folder, "global_step{}".format(step))
            self.disk.check_inside(path)
            files = file_sizes(path)
            why = files_wanting(files, data_parallel) or pointer_wanting(step, tracker, newest=steps[-1])
            if not why and not proven:
                # Only the newest is ever loaded, so only there is it worth opening every file.
                why = cut_short(path, files)
                proven = not why
            checkpoints.append(
                {"iteration": step, "why": why, "data_parallel": count_ranks(files), "size": sum(files.values())}
            )
        checkpoints.reverse()
        return {"checkpoints": checkpoints, "latest": latest, "tracker": tracker}

    def converted(self, folder: str) -> "Optional[int]":
        """The iteration of a verified universal copy: what `latest_universal` names, with the receipt that the
        converter writes when it has compared every tensor, and every file as long as the receipt says."""
        name = (small_text(os.path.join(folder, "latest_universal")) or "").strip()
        found = re.fullmatch(r"global_step(\d{1,12})_universal", name)
        if found is None:
            return None
        path = os.path.join(folder, name)
        self.disk.check_inside(path)
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

    def evaluations(self, folder: str) -> "List[Json]":
        found = []
        for name in self.folders(folder, EVALUATION):
            path = os.path.join(folder, name)
            self.disk.check_inside(path)
            losses = {}
            for log in self.names(path):
                chosen = RESULT.fullmatch(log)
                loss = validation_loss(os.path.join(path, log)) if chosen and chosen.group(2) == "log" else None
                if loss is not None:
                    losses[log[: -len(".log")]] = loss
            leg, iteration = EVALUATION.fullmatch(name).groups()  # type: ignore[union-attr]
            found.append({"leg": int(leg), "iteration": int(iteration), "losses": losses})
        return found

    def verdicts(self, folder: str) -> "Dict[str, str]":
        texts = {}
        for name in self.names(folder):
            chosen = RESULT.fullmatch(name)
            if chosen and chosen.group(2) == "json":
                text = read_text(os.path.join(folder, name), JSON_BYTES_MAX)
                if text is not None:
                    texts[name[: -len(".json")]] = text
        return texts

    def external(self, folder: str) -> "Dict[str, str]":
        """What harnesses wrote, which may be anything: a file that is none, or leads elsewhere, is not there."""
        texts = {}
        for name in self.names(folder):
            chosen = EXTERNAL.fullmatch(name)
            text = foreign_text(os.path.join(folder, name)) if chosen else None
            if chosen and text is not None:
                texts[chosen.group(1)] = text
            if len(texts) == EXTERNAL_FILES_MAX:
                break
        return texts


def foreign_text(path: str) -> "Optional[str]":
    """The text of an ordinary file that people or programs of theirs wrote, as far as it is read; None for any other
    thing of that name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone since, a link, a socket or a pipe
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(4 * (EXTERNAL_CHARS_MAX + 1))
    return data.decode("utf-8", "replace")[: EXTERNAL_CHARS_MAX + 1]


def small_text(path: str) -> "Optional[str]":
    try:
        return (read_whole(path, 4096) or b"").decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def data_parallel_of(recipe: "Optional[str]") -> int:
    """How many data-parallel ranks the recipe trains on; 0 if it does not say."""
    try:
        value = json.loads(recipe or "null")["data_parallel"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return value if type(value) is int and 0 < value < 1000000 else 0


def file_sizes(folder: str) -> "Dict[str, int]":
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".pt"):
                try:
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
            if len(sizes) > FOLDER_ENTRIES_MAX:
                raise Refused("{} holds more than {} files".format(folder, FOLDER_ENTRIES_MAX))
    return sizes


def count_ranks(files: "Dict[str, int]") -> int:
    return len({found.group(1) for found in map(SHARD_FILE.fullmatch, files) if found})


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


def validation_loss(path: str) -> "Optional[float]":
    """The loss on the validation set that an evaluation's log ends with; None if it has none, or no number."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise Refused("{} is not an ordinary file".format(path))
        file.seek(max(0, about.st_size - EVALUATION_BYTES_MAX))
        lines = ANSI.sub(b"", file.read(EVALUATION_BYTES_MAX)).splitlines()
    for line in reversed(lines):
        found = VALIDATION.search(line) if b"test set" not in line else None
        if found is not None:
            return real(found.group(1))
    return None
