"""The folder that a result grows in: who is writing it, what of it is finished, and its one rename into place."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.pickles import Refused
    from reconciler.convert.progress import say
    from reconciler.convert.receipt import POINTER, VERSION
    from reconciler.convert.result import read_back
    from reconciler.convert.torchfile import file_digest
    from reconciler.convert.torchwriter import sync
    from reconciler.convert.workers import in_workers
    from reconciler.convert.writing import Done

JOURNAL = "journal.jsonl"


class Partial:
    """A folder beside the result's place. Its journal has a line for each parameter that is finished and verified."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f"{final.name}.partial-{os.uname().nodename}-{os.getpid()}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take up the folder of a run that was killed, or make a new one, and hold its lock.

        Raises:
            Refused: another conversion is at it right now.
        """
        with contextlib.ExitStack() as stack:
            for leftover in sorted(self.final.parent.glob(f"{self.final.name}.partial-*")):
                if leftover.is_symlink() or not leftover.is_dir():
                    raise Refused(f"{leftover}: is no folder of an interrupted conversion. Move it away.")
                handle = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                stack.callback(os.close, handle)
                lock(handle, leftover)
                if self.path.exists() and leftover != self.path:  # a second one: only one can be taken up
                    shutil.rmtree(leftover)
                else:
                    # From now on a run on another node, whose lock this file system may not show, has no folder.
                    leftover.rename(self.path)
            if not self.path.exists():
                self.path.mkdir()
                handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, handle)
                lock(handle, self.path)
            yield

    def finished(self, identity: dict[str, Any], workers: int) -> list[Done]:
        """What an earlier run finished from the same files, each proven by reading it again; the rest is removed."""
        lines = []
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            lines = (self.path / JOURNAL).read_text(encoding="utf-8").splitlines()
        dones: list[Done] = []
        with contextlib.suppress(ValueError, TypeError, KeyError):  # a line that a kill cut short is the last one
            if lines and json.loads(lines[0]) == identity | {"version": VERSION}:
                for line in lines[1:]:
                    done = Done(**json.loads(line))
                    done.sums = [tuple(entry) for entry in done.sums]  # type: ignore[misc]
                    dones.append(done)
        whole = [done for done in in_workers(partial(proven, self.path), dones, workers) if done is not None]
        if whole:
            say(f"taking up {len(whole)} parameters that an earlier run finished")
        kept = {done.name for done in whole}
        for path in self.path.iterdir():
            if path.name != "zero":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.path / "zero").mkdir(exist_ok=True)
        for path in (self.path / "zero").iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._begin(identity, whole)
        return whole

    def _begin(self, identity: dict[str, Any], dones: list[Done]) -> None:
        lines = [identity | {"version": VERSION}, *map(dataclasses.asdict, dones)]
        (self.path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def finish(self, done: Done) -> None:
        """Note a parameter as finished."""
        with (self.path / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(dataclasses.asdict(done)) + "\n")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def publish(self) -> None:
        """Put the folder in the result's place, all of it on the disk before."""
        (self.path / JOURNAL).unlink()
        for folder in (*(path for path in self.path.rglob("*") if path.is_dir()), self.path):
            sync(folder)
        try:
            self.path.rename(self.final)
        except OSError as problem:
            raise Refused(
                f"{self.final}: cannot be put in place: {problem.strerror}. Did another conversion finish?"
            ) from None
        sync(self.final.parent)


def lock(handle: int, folder: Path) -> None:
    """Hold the lock that says this partial folder has a living owner."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"{folder}: another conversion is writing it now. Wait for that one.") from None
    except OSError:
        pass  # file systems without locks: one conversion at a time is the caller's promise


def proven(folder: Path, done: Done) -> Done | None:
    """A finished parameter, if its files still hold what was noted."""
    try:
        for name, entry in done.files.items():
            path = folder / name
            if "sha256" in entry:
                if file_digest(path) != entry["sha256"]:
                    return None
                continue
            found = read_back(path)
            if found.file != entry or found.facts != done.tensors[path.stem]:
                return None
    except (Refused, OSError, KeyError):
        return None
    return done


def point_to(final: Path) -> None:
    """Write latest_universal beside the result, whole or not at all, unless it already says so."""
    pointer = final.parent / POINTER
    if pointer.is_file() and not pointer.is_symlink() and pointer.read_bytes() == final.name.encode():
        return
    if pointer.is_dir() and not pointer.is_symlink():
        raise Refused(
            f"{pointer}: is a folder, so it cannot name {final}, which is in place. Move it away, and repeat."
        )
    fresh = pointer.with_name(f".{POINTER}.{os.getpid()}")
    fresh.write_text(final.name, encoding="utf-8")
    sync(fresh)
    fresh.replace(pointer)
    sync(final.parent)
