"""Upkeep of an attempt's folders: `latest` repaired, needless folders set aside, what was set aside deleted.

Whatever was planned, each folder is looked at again here, under the lock: it is the one that was seen, by its files;
its leg has a newer complete checkpoint; no recipe of any campaign in the workspace starts from it. Folders are opened
one below the other, never through a link, and what is renamed or deleted is so by its name in an open folder.
"""

import contextlib
import errno
import json
import os
import re
import stat
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_attempts import ATTEMPT, NAME, RECIPE_BYTES_MAX, Attempts, data_parallel_of
    from reconciler.cluster.agent_checkpoints import PRUNED, STEP, identity_of, newest
    from reconciler.cluster.agent_disk import Disk, Refused, is_there, read_text, sync_descriptor
    from reconciler.cluster.agent_journal import KEY, Journal

FOLDER = re.compile(r"leg-(\d{1,4})(?:/global_step(\d{1,12})|-source/global_step(\d{1,12})_universal)")
ASIDE = re.compile(r"leg-\d{1,4}(-source)?/([^/]+)")
DELETE_S_MAX = 20.0
"""Of one batch: its answer is waited for a minute; what is left is deleted by the next."""
TREE_DEPTH_MAX = 8


class Changed(Exception):
    """What lies there is not what was planned for; the next look tells more."""


class TimeIsUp(Exception):
    """A batch must be over before its answer is given up on."""


class Upkeep:
    """One action's upkeep of one attempt."""

    def __init__(self, disk: Disk, key: str, what: "Json", now: float) -> None:
        found = KEY.fullmatch(key)
        self.disk, self.what, self.now = disk, what, now
        self.prefix = found.group("prefix")  # type: ignore[union-attr]
        self.campaign, self.attempt = found.group("campaign"), found.group("attempt")  # type: ignore[union-attr]
        self.found = {}  # type: Dict[int, Tuple[Optional[int], Optional[int]]]
        self.until = 0.0
        self.left = []  # type: List[str]
        """Of folders that stay after all, why."""

    def carry_out(self, journal: Journal, intent: "Json", clock: "Callable[[], float]") -> "Tuple[str, str]":
        """(kind of outcome, what is told). What is going to be done is journalled before any of it is."""
        kind = self.what["do"]
        try:
            going = {"prune": self.may_go, "delete": self.were_set_aside, "repair": self.may_be_repaired}[kind]()
            journal.write(dict(intent, folders=going))
            told = {"prune": self.set_aside, "delete": self.delete, "repair": self.repair}[kind](going)
        except Changed as changed:
            return "forbidden", str(changed)
        except Refused as refused:
            journal.write(dict(intent, state="failed", ended=clock(), message=str(refused)))
            return "refused", str(refused)
        except TimeIsUp:
            return "deferred", "as much was deleted as there was time for; the next pass goes on"
        journal.write(dict(intent, state="done", ended=clock(), folders=going, message=told))
        return "done", told

    def may_go(self) -> "List[str]":
        """Folders that may be set aside, as they are now. Refused if none ever may, Changed if none may now."""
        leads = list(self.recipes())
        going, changed = [], ""
        for path, identity in sorted(self.what["folders"].items()):
            try:
                self.needless(path, identity, leads)
                going.append(path)
            except Refused as refused:
                self.left.append(str(refused))
            except (Changed, FileNotFoundError) as other:
                changed = str(other) if isinstance(other, Changed) else "{} is not there any more".format(path)
        if not going and changed:
            raise Changed(changed)
        if not going:
            raise Refused("; ".join(self.left[:3]))
        return going

    def needless(self, path: str, identity: str, leads: "List[Tuple[str, Json]]") -> None:
        found = FOLDER.fullmatch(self.within(path))
        if found is None or not identity:
            raise Refused("{} is no checkpoint of the attempt".format(path))
        leg, step = int(found.group(1)), int(found.group(2) or found.group(3))
        for who, source in leads:
            named = source.get("attempt"), source.get("leg"), source.get("iteration")
            if named == (self.attempt, leg, step) and found.group(2):
                raise Refused("{} is what {} starts from".format(path, who))
            if self.leads_here(str(source.get("external") or ""), leg):
                raise Refused("{} starts from a path that leads here, {}".format(who, source["external"]))
        for spared in self.what["spared"]:
            if self.leads_here(spared, leg):
                raise Refused("a manifest starts from a path that leads here, {}".format(spared))
        newest, latest = self.newest(leg)
        if newest is None or (found.group(2) and step >= newest):
            raise Changed("no newer checkpoint of leg {} has been complete for long, so {} stays".format(leg, path))
        if found.group(2) and step == latest:
            raise Changed("`latest` names {}, so it stays".format(path))
        with self.opened(os.path.dirname(path)) as folder:
            if self.identity(folder, os.path.basename(path)) != identity:
                raise Changed("{} is not as it was seen".format(path))

    def within(self, path: str) -> str:
        """The path below the attempt; "" if it is none."""
        return path[len(self.prefix) + 1 :] if path.startswith(self.prefix + "/") else ""

    def leads_here(self, path: str, leg: int) -> bool:
        """Whether a path names the attempt, or leads to the leg, into it or to what it lies in, by whatever links."""
        if self.attempt in path:
            return True
        if not path.startswith("/"):
            return False
        real = os.path.realpath(path) + "/"
        legs = [os.path.join(self.disk.root, self.prefix, "leg-{}{}".format(leg, end)) + "/" for end in ("", "-source")]
        return any(real.startswith(own) or own.startswith(real) for own in legs)

    def newest(self, leg: int) -> "Tuple[Optional[int], Optional[int]]":
        """(newest complete iteration, what `latest` names) of a leg. To set others aside it must have been saved long
        enough ago, by the file system's own clock: what was just written may be lost with a file server."""
        if leg not in self.found:
            recipe = read_text(os.path.join(self.disk.root, self.prefix, "recipe.json"), RECIPE_BYTES_MAX)
            folder = os.path.join(self.disk.root, self.prefix, "leg-{}".format(leg))
            before = self.now - self.what["settle_s"] if self.what["do"] == "prune" else float("inf")
            names = Attempts(self.disk, self.campaign, 1).folders(folder, STEP)
            self.found[leg] = newest(folder, names, data_parallel_of(recipe), before)
        return self.found[leg]

    def recipes(self) -> "Iterator[Tuple[str, Json]]":
        """(attempt, its source) of all recipes in the workspace, of whichever campaign. Refused if one cannot be read:
        it may name anything."""
        look = Attempts(self.disk, self.campaign, 1)
        for campaign in look.folders(self.disk.root, NAME):
            for stage in look.folders(os.path.join(self.disk.root, campaign), NAME):
                for attempt in look.folders(os.path.join(self.disk.root, campaign, stage), ATTEMPT):
                    who = "{}/{}/{}".format(campaign, stage, attempt)
                    try:
                        text = read_text(os.path.join(self.disk.root, who, "recipe.json"), RECIPE_BYTES_MAX)
                        source = json.loads(text)["source"] if text is not None else {}
                        if not isinstance(source, dict):
                            raise ValueError("its source is no object")
                    except (ValueError, KeyError, TypeError, RecursionError, Refused):
                        why = "the recipe of {} cannot be read, so what it needs is not known"
                        raise Refused(why.format(who)) from None
                    yield who, source

    def set_aside(self, going: "List[str]") -> str:
        """Each by one rename within its own folder, which is then made safe."""
        for path in going:
            name = os.path.basename(path)
            aside = ".pruned-{}-{}".format(self.what["folders"][path], name)
            if is_there(os.path.join(self.disk.root, os.path.dirname(path), aside)):
                raise Refused("{} is there already".format(aside))
            with self.opened(os.path.dirname(path)) as folder:
                os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
                sync_descriptor(folder)
        return "; ".join(["{} set aside".format(len(going)), *self.left[:3]])

    def were_set_aside(self) -> "List[str]":
        going = sorted(self.what["folders"])
        for path in going:
            found = ASIDE.fullmatch(self.within(path))
            if found is None or PRUNED.fullmatch(found.group(2)) is None:
                raise Refused("{} was not set aside".format(path))
        return going

    def delete(self, going: "List[str]") -> str:
        """Each that may be; Refused if none is."""
        self.until = time.monotonic() + DELETE_S_MAX
        for path in going:
            try:
                with contextlib.suppress(FileNotFoundError), self.opened(os.path.dirname(path)) as folder:
                    self.delete_tree(folder, os.path.basename(path), 0)
                    sync_descriptor(folder)
            except Refused as refused:
                self.left.append("{}: {}".format(path, refused))
        if len(self.left) == len(going):
            raise Refused("; ".join(self.left[:3]))
        return "; ".join(["{} deleted".format(len(going) - len(self.left)), *self.left[:3]])

    def delete_tree(self, folder: int, name: str, depth: int) -> None:
        """Everything in it goes by its name in an open folder; a link goes, what it leads to does not."""
        if depth > TREE_DEPTH_MAX:
            raise Refused("folders lie deeper in it than in a checkpoint; delete it by hand")
        with Opened(name, folder) as inside:
            for entry in os.listdir(inside):
                if time.monotonic() > self.until:
                    raise TimeIsUp
                if stat.S_ISDIR(os.stat(entry, dir_fd=inside, follow_symlinks=False).st_mode):
                    self.delete_tree(inside, entry, depth + 1)
                else:
                    os.unlink(entry, dir_fd=inside)
        os.rmdir(name, dir_fd=folder)

    def may_be_repaired(self) -> "List[str]":
        """The leg, if both its newest complete checkpoint and what `latest` names are as they were seen; or if `latest`
        is right already."""
        leg = re.fullmatch(r"leg-(\d{1,4})", self.within(self.what["leg"]))
        if leg is None:
            raise Refused("{} is no leg of the attempt".format(self.what["leg"]))
        newest, latest = self.newest(int(leg.group(1)))
        if newest is None or newest != self.what["newest"]:
            raise Changed("the newest complete checkpoint of leg {} is {} now".format(leg.group(1), newest))
        if latest not in (newest, self.what["was"]):
            raise Changed("`latest` of leg {} names {} now".format(leg.group(1), latest))
        return [self.what["leg"]]

    def repair(self, going: "List[str]") -> str:
        """`latest` is replaced whole."""
        with self.opened(going[0]):
            text = "global_step{}".format(self.what["newest"]).encode("ascii")
            self.disk.put(going[0] + "/latest", text, replace=True)
        return ""

    def identity(self, folder: int, name: str) -> str:
        with Opened(name, folder) as inside:
            names = os.listdir(inside)
            found = {each: os.stat(each, dir_fd=inside, follow_symlinks=False) for each in names}
            return identity_of(os.fstat(inside).st_ino, found)

    def opened(self, relative: str) -> "Opened":
        """A folder of the workspace, reached through folders alone."""
        self.disk.place(relative)
        return Opened(relative, None, self.disk.root)


class Opened:
    """An open folder, reached from another without following any link."""

    def __init__(self, path: str, at: "Optional[int]", root: str = "") -> None:
        self.path, self.at, self.root, self.descriptor = path, at, root, -1

    def __enter__(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        at = os.open(self.root, flags) if self.at is None else self.at
        try:
            for part in self.path.split("/"):
                inner = os.open(part, flags, dir_fd=at)
                if at != self.at:
                    os.close(at)
                at = inner
        except OSError as error:
            if at != self.at:
                os.close(at)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused("{} leads through a link, or is no folder".format(self.path)) from None
            raise
        self.descriptor = at
        return at

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
