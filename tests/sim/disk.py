"""The shared file system, in memory: what is written, what would survive, and what is locked.

Every inode has its content and the content that `fsync` made safe; every folder its entries and, in order, the changes
to them that no `fsync` of the folder has made safe. A crash of the file server keeps what is safe, a random subset of
the rest, and nothing else: POSIX promises no more. After `WRITEBACK_S` the kernel has written back what lay there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

WRITEBACK_S = 30.0
Entries = dict[str, "Inode"]


@dataclass(eq=False, slots=True)
class Inode:
    """One file or folder."""

    number: int
    folder: bool
    mtime: float
    data: bytes = b""
    safe: bytes = b""
    dirty_since: float | None = None
    entries: Entries = field(default_factory=dict)
    kept: Entries = field(default_factory=dict)
    pending: list[tuple[float, dict[str, Inode | None]]] = field(default_factory=list)

    def change(self, now: float, changes: dict[str, Inode | None]) -> None:
        """Entries come and go together, as in a rename."""
        apply(self.entries, changes)
        self.pending.append((now, changes))
        self.mtime = now

    def put(self, now: float, data: bytes) -> None:
        """New content, not yet safe."""
        self.data, self.mtime = data, now
        if self.dirty_since is None:
            self.dirty_since = now

    def sync(self) -> None:
        """What `fsync` does; it says nothing of the entry in the folder above."""
        self.safe, self.dirty_since = self.data, None
        self.kept, self.pending = dict(self.entries), []


def apply(entries: Entries, changes: dict[str, Inode | None]) -> None:
    for name, inode in changes.items():
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode


def problem(number: int, path: str) -> OSError:
    """The error that the kernel gives, of the class that Python makes of it."""
    return OSError(number, os.strerror(number), path)


@lru_cache(maxsize=50_000)
def parts_of(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


class Disk:
    """One file system, mounted at `/` on every node."""

    def __init__(self, flock: str = "shared", links: bool = True) -> None:
        self.flock_mode = flock
        """`shared`; `local`: other nodes do not see it; `none`: ENOLCK."""
        self.links = links
        self.numbers = 1
        self.root = Inode(1, True, 0.0)
        self.locks: dict[tuple[int, str], object] = {}
        self.now = 0.0
        self.full = False

    # --- paths --------------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Inode:
        inode = self.root
        for part in parts_of(path):
            if not inode.folder:
                raise problem(errno.ENOTDIR, path)
            found = inode.entries.get(part)
            if found is None:
                raise problem(errno.ENOENT, path)
            inode = found
        return inode

    def get(self, path: str) -> Inode | None:
        try:
            return self.find(path)
        except OSError:
            return None

    def parent(self, path: str) -> tuple[Inode, str]:
        above, _, name = path.rstrip("/").rpartition("/")
        folder = self.find(above)
        if not folder.folder:
            raise problem(errno.ENOTDIR, path)
        return folder, name

    def new(self, folder: bool) -> Inode:
        self.numbers += 1
        return Inode(self.numbers, folder, self.now)

    # --- changes ------------------------------------------------------------------------------------------------------

    def room(self, path: str) -> None:
        if self.full:
            raise problem(errno.ENOSPC, path)

    def mkdir(self, path: str) -> None:
        folder, name = self.parent(path)
        if name in folder.entries:
            raise problem(errno.EEXIST, path)
        self.room(path)
        folder.change(self.now, {name: self.new(True)})

    def makedirs(self, path: str) -> None:
        parts = parts_of(path)
        for end in range(1, len(parts) + 1):
            above = "/" + "/".join(parts[:end])
            if self.get(above) is None:
                self.mkdir(above)

    def create(self, path: str, exclusive: bool = False) -> Inode:
        folder, name = self.parent(path)
        there = folder.entries.get(name)
        if there is not None:
            if exclusive:
                raise problem(errno.EEXIST, path)
            if there.folder:
                raise problem(errno.EISDIR, path)
            return there
        self.room(path)
        made = self.new(False)
        folder.change(self.now, {name: made})
        return made

    def write(self, inode: Inode, data: bytes, path: str = "") -> None:
        self.room(path)
        inode.put(self.now, data)

    def unlink(self, path: str) -> None:
        folder, name = self.parent(path)
        there = folder.entries.get(name)
        if there is None:
            raise problem(errno.ENOENT, path)
        if there.folder:
            raise problem(errno.EISDIR, path)
        folder.change(self.now, {name: None})

    def rmdir(self, path: str) -> None:
        folder, name = self.parent(path)
        if self.find(path).entries:
            raise problem(errno.ENOTEMPTY, path)
        folder.change(self.now, {name: None})

    def rename(self, old: str, new: str) -> None:
        (source, name), (target, called) = self.parent(old), self.parent(new)
        inode = source.entries.get(name)
        if inode is None:
            raise problem(errno.ENOENT, old)
        if source is target:
            source.change(self.now, {name: None, called: inode})
        else:
            source.change(self.now, {name: None})
            target.change(self.now, {called: inode})

    def link(self, old: str, new: str) -> None:
        if not self.links:
            raise problem(errno.EPERM, new)
        inode = self.find(old)
        folder, name = self.parent(new)
        if name in folder.entries:
            raise problem(errno.EEXIST, new)
        folder.change(self.now, {name: inode})

    # --- locks --------------------------------------------------------------------------------------------------------

    def flock(self, inode: Inode, holder: object, node: str) -> bool:
        """Lock for whoever has the file open; False if somebody else has it."""
        if self.flock_mode == "none":
            raise problem(errno.ENOLCK, "")
        place = (inode.number, node if self.flock_mode == "local" else "")
        if self.locks.get(place, holder) is not holder:
            return False
        self.locks[place] = holder
        return True

    def unlock(self, holder: object) -> None:
        for place in [place for place, by in self.locks.items() if by is holder]:
            del self.locks[place]

    # --- crash --------------------------------------------------------------------------------------------------------

    def crash(self, chance: Random) -> int:
        """Everything that was not safe is kept or lost, each by itself. Returns how many things were lost or cut."""
        lost = 0
        for inode in self.every():
            lost += self._crash_file(inode, chance) if not inode.folder else self._crash_folder(inode, chance)
        return lost

    def every(self) -> Iterator[Inode]:
        seen: dict[int, Inode] = {}
        work = [self.root]
        while work:
            inode = work.pop()
            if inode.number in seen:
                continue
            seen[inode.number] = inode
            inside = [*inode.entries.values(), *inode.kept.values()]
            work += inside + [made for _, changes in inode.pending for made in changes.values() if made]
        yield from seen.values()

    def _old(self, since: float) -> bool:
        return self.now - since >= WRITEBACK_S

    def _crash_folder(self, inode: Inode, chance: Random) -> int:
        after, lost = dict(inode.kept), 0
        for since, changes in inode.pending:
            if self._old(since) or chance.random() < 0.6:
                apply(after, changes)
            else:
                lost += 1
        inode.entries, inode.kept, inode.pending = after, dict(after), []
        return lost

    def _crash_file(self, inode: Inode, chance: Random) -> int:
        if inode.dirty_since is None:
            return 0
        whole = inode.data
        if not self._old(inode.dirty_since):
            cut = whole[: chance.randrange(len(whole) + 1)]
            inode.data = chance.choice((inode.safe, whole, whole, cut, cut + b"\0" * (len(whole) - len(cut))))
        inode.safe, inode.dirty_since = inode.data, None
        return int(inode.data != whole)

    # --- for jobs and checkers ----------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        inode = self.get(path)
        return None if inode is None or inode.folder else inode.data

    def names(self, path: str) -> list[str]:
        inode = self.get(path)
        return sorted(inode.entries) if inode is not None and inode.folder else []

    def place(self, path: str, data: bytes) -> None:
        """Write a file in one go, as a job does."""
        self.write(self.create(path), data, path)

    def append(self, path: str, data: bytes) -> None:
        inode = self.create(path)
        self.write(inode, inode.data + data, path)

    def survives(self, path: str, below: str = "") -> bytes | None:
        """What this file would hold after the worst crash that leaves the folder `below`; None if it would be gone."""
        inode = self.find(below) if below else self.root
        for part in path.removeprefix(below).split("/"):
            if part:
                entries = dict(inode.kept)
                for since, changes in inode.pending:
                    if self._old(since):
                        apply(entries, changes)
                if part not in entries:
                    return None
                inode = entries[part]
        return inode.data if inode.dirty_since is None or self._old(inode.dirty_since) else inode.safe
