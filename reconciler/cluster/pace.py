"""Keeps looks at one cluster apart, whichever of the person's processes on this machine makes them.

Login nodes are shared, and sites ban who asks too often; intervals kept by each process on its own add up. The times of
the last looks lie in a file that all of them lock: `$XDG_STATE_HOME/reconcile/looks/<user>@<host>:<port>.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from reconciler.cluster.ports import Clock

APART_MIN_S: Final = 5.0
"""Between any two looks, one that a person waits for included; a shorter `poll` makes it shorter."""
DOUBLINGS_MAX: Final = 3
"""Looks that fail are made more and more seldom, down to one in eight times `poll`."""
FILE_BYTES_MAX: Final = 4096


def state_folder() -> Path:
    """Where this person's programs keep state (XDG Base Directory Specification)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    return (Path(named) if named.startswith("/") else Path.home() / ".local" / "state") / "reconcile"


def file_for(host: str, user: str | None, port: int | None) -> Path:
    """The file that all looks at one cluster share."""
    return state_folder() / "looks" / (quote(f"{user or ''}@{host}:{port or ''}", safe="@:") + ".json")


@dataclass(slots=True)
class Stamps:
    """When the last looks were made (seconds since the epoch); 0 for never."""

    any: float = 0.0
    loop: float = 0.0
    """By an `apply --until-done`."""


class SharedPace:
    """When the next look may be made. Without a file only this process counts."""

    def __init__(self, file: Path | None, clock: Clock, warn: Callable[[str], None] = lambda trouble: None) -> None:
        self._file = file
        self._clock = clock
        self._warn = warn
        """Told once, why the file cannot be shared; looks go on."""
        self._own = Stamps(loop=clock.now_s())
        """A loop begins with a look, so its next one is due `poll` after it was made."""

    def now(self, poll_s: float) -> None:
        """Wait until a look that a person asked for may be made: at once, unless one was made just now."""
        if self._file is not None:
            self._wait(min(APART_MIN_S, poll_s), 0.0, in_loop=False)

    def next(self, poll_s: float, misses: int) -> None:
        """Wait until the next look of a loop is due: `poll_s` after the last one of any loop of this person.

        After `misses` looks in a row that read nothing it is made later, at a random moment, so that many who lost the
        same link do not come back together.
        """
        if misses:
            self._clock.sleep(poll_s * 2 ** min(misses, DOUBLINGS_MAX) * random.uniform(0.5, 1.0))  # noqa: S311
        self._wait(min(APART_MIN_S, poll_s), poll_s, in_loop=True)

    def _wait(self, any_s: float, loop_s: float, *, in_loop: bool) -> None:
        while True:
            try:
                with self._stamps() as stamps:
                    left_s = self._claim(stamps, any_s, loop_s, in_loop=in_loop)
            except OSError as error:
                self._warn(f"{self._file}: {error.strerror or error}")
                self._file = None
                continue
            if left_s <= 0:
                return
            # Who waits for the same moment would otherwise wake in it together.
            self._clock.sleep(left_s + random.uniform(0.0, 0.1) * any_s)  # noqa: S311

    def _claim(self, stamps: Stamps, any_s: float, loop_s: float, *, in_loop: bool) -> float:
        """Seconds to wait still; if there are none, the look is written down as made."""
        now = self._clock.now_s()
        # A time to come was written before the clock was set back.
        last_any = max(at for at in (0.0, stamps.any) if at <= now)
        last_loop = max(at for at in (0.0, stamps.loop, self._own.loop) if at <= now)
        left_s = max(last_any + any_s, last_loop + loop_s) - now
        if left_s <= 0:
            stamps.any = now
            stamps.loop = now if in_loop else stamps.loop
        return left_s

    @contextlib.contextmanager
    def _stamps(self) -> Iterator[Stamps]:
        """The times, under a lock that goes with this process; what the caller changes is kept."""
        if self._file is None:
            yield self._own
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.parent.parent.chmod(0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._file, flags, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            stamps = _read(file.read(FILE_BYTES_MAX))
            yield stamps
            file.seek(0)
            file.write(json.dumps({"any": stamps.any, "loop": stamps.loop}).encode("ascii"))
            file.truncate()


def _read(data: bytes) -> Stamps:
    """What the file says; one that is damaged says nothing."""
    try:
        found = json.loads(data)
        return Stamps(float(found["any"]), float(found["loop"]))
    except (ValueError, KeyError, TypeError):
        return Stamps()
