"""What the agent finds of a campaign's attempts: recipes, evaluations, verdicts, logs, and their checkpoints."""

import errno
import json
import os
import re
import time

MYPY = False
if MYPY:
    from typing import Any, Dict, List, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_checkpoints import (
        FOLDER_ENTRIES_MAX,
        PRUNED,
        STEP,
        converted,
        copy_seen,
        saves,
        tree_bytes,
    )
    from reconciler.cluster.agent_disk import (
        JSON_BYTES_MAX,
        MESSAGE_CHARS_MAX,
        Disk,
        Refused,
        disk_trouble,
        is_folder,
        is_there,
        ordinary,
        read_text,
    )
    from reconciler.cluster.agent_inside import look_inside
    from reconciler.cluster.agent_logs import LOGS_S_MAX, TrainLogFile
    from reconciler.cluster.agent_numbers import ANSI, real

RECIPE_BYTES_MAX = 4 * 1024 * 1024
EXTERNAL_CHARS_MAX = 1024 * 1024
"""Of what a harness wrote; of more, one character is kept too, by which it is known to be longer."""
EXTERNAL_FILES_MAX = 16
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,99}")
ATTEMPT = re.compile(r"[0-9a-f]{12}")
LEG = re.compile(r"leg-(\d{1,4})(-source)?")
TRAIN_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-train\.log")
JOB_LOG = re.compile(r"l(\d{1,4})-n(\d{1,6})-([a-z]+)(?:-([A-Za-z0-9.-]{1,100}))?\.log")
EXTERNAL = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?)\.json")
RESULT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.(log|json)")
EVALUATION = re.compile(r"leg-(\d{1,4})-(\d{1,12})(\.aside-\d{1,4})?")
EVALUATION_BYTES_MAX = 1024 * 1024
VALIDATION = re.compile(rb"validation loss at [^|]{0,200}\| lm loss value=\s*([0-9.einfa+-]+?)\s*\|?\s*lm loss PPL=")
NO_LEG = {
    "checkpoints": [],
    "latest": None,
    "tracker": None,
    "logs": [],
    "converted": None,
    "copy_size": 0,
    "copy_identity": "",
    "pruned": [],
}  # type: Json
NOTHING = {"recipe": None, "legs": [], "evaluations": [], "verdicts": {}, "external": {}, "stop": False, "ran": []}  # type: Json


class Attempts:
    """Everything under one campaign's folder."""

    def __init__(self, disk: Disk, campaign: str, windows: int, inside: bool = False) -> None:
        self.disk, self.campaign, self.windows, self.inside = disk, campaign, windows, inside
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
                leg["converted"] = converted(path, self.disk.check_inside)
                leg.update(copy_seen(path, leg["converted"]))
            else:
                steps = self.folders(path, STEP)
                leg.update(saves(path, steps, data_parallel, self.disk.check_inside))
                for entry in leg["checkpoints"] if self.inside else ():
                    if not entry["why"] and time.monotonic() < self.until:
                        look_inside(entry, os.path.join(path, "global_step{}".format(entry["iteration"])))
            asides = ((aside, os.path.join(path, aside)) for aside in self.folders(path, PRUNED))
            leg["pruned"] = leg["pruned"] + [
                {"path": "{}/{}".format(name, aside), "size": tree_bytes(inner)} for aside, inner in asides
            ]
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

    def evaluations(self, folder: str) -> "List[Json]":
        found = {}  # type: Dict[Tuple[int, int], Json]
        for name in self.folders(folder, EVALUATION):
            leg, iteration, aside = EVALUATION.fullmatch(name).groups()  # type: ignore[union-attr]
            at = (int(leg), int(iteration))
            seen = found.setdefault(at, {"leg": at[0], "iteration": at[1], "losses": {}, "earlier": 0})
            losses = self.losses(os.path.join(folder, name))
            if aside:
                seen["earlier"] += len(losses)
            else:
                seen["losses"] = losses
        return list(found.values())

    def losses(self, folder: str) -> "Dict[str, float]":
        self.disk.check_inside(folder)
        losses = {}
        for name in self.names(folder):
            chosen = RESULT.fullmatch(name)
            loss = validation_loss(os.path.join(folder, name)) if chosen and chosen.group(2) == "log" else None
            if loss is not None:
                losses[name[: -len(".log")]] = loss
        return losses

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
        file = ordinary(path)
    except Refused:
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone since, a link, a socket or a pipe
            return None
        raise
    with file:
        data = file.read(4 * (EXTERNAL_CHARS_MAX + 1))
    return data.decode("utf-8", "replace")[: EXTERNAL_CHARS_MAX + 1]


def data_parallel_of(recipe: "Optional[str]") -> int:
    """How many data-parallel ranks the recipe trains on; 0 if it does not say."""
    try:
        value = json.loads(recipe or "null")["data_parallel"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return value if type(value) is int and 0 < value < 1000000 else 0


def validation_loss(path: str) -> "Optional[float]":
    """The loss on the validation set that an evaluation's log ends with; None if it has none, or no number."""
    with ordinary(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - EVALUATION_BYTES_MAX))
        lines = ANSI.sub(b"", file.read(EVALUATION_BYTES_MAX)).splitlines()
    for line in reversed(lines):
        found = VALIDATION.search(line) if b"test set" not in line else None
        if found is not None:
            return real(found.group(1))
    return None
