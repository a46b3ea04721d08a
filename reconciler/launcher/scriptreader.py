"""A script or command line, as text alone → what the launcher would be given. Nothing of it is ever executed.

What cannot be known from the text (command substitutions, variables of the job's environment, settings made under a
condition) is reported as unknown with its reason, never guessed. Two things are taken for granted: a variable that the
text does not set is unset, which is how a batch job starts, and a command that is no question succeeds.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.callwords import Call
from reconciler.launcher.expansion import Unknown
from reconciler.launcher.scriptsteps import steps_of
from reconciler.launcher.scriptwalk import STEPS_MAX, Walker
from reconciler.launcher.shelltext import Unreadable, tokens

_DIRECTIVE: Final = re.compile(r"#PBS\s+(.*)")


class NoCall(ValueError):
    """The text calls no launcher; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Script:
    """What was read: every call in order (at least one), and what is asked of PBS for the first one's job."""

    calls: tuple[Call, ...]
    nodes: int | None
    filesystems: str
    walltime_s: int | None = None
    sources: tuple[str, ...] = field(default=())
    """Other files that it reads in, which may set more."""
    windows: bool = False
    """Its lines end as on Windows, which bash takes for a part of the last word."""


def read_script(text: str) -> Script:
    """Every call of the launcher in `text`.

    Raises:
        Unreadable: not a script (too long, NUL bytes, thousands of variables, endless).
        NoCall: no `train_alcf.sh` or `train_aGPT*.sh` is called in it.
    """
    walker = Walker()
    walker.walk(steps_of(tokens(text)))
    if not walker.calls and walker.exhausted:
        raise Unreadable(f"the text takes more than {STEPS_MAX:,} steps before it calls the launcher")
    if not walker.calls:
        raise NoCall(
            "no call of the launcher was found: a line such as `LR=2e-4 TRAIN_ITERS=1000 bash train_alcf.sh` "
            "(or train_aGPT_*.sh)"
        )
    submitted = walker.calls[0].submitted
    asked = text if submitted is None else "\n".join(f"#PBS -l {resources}" for resources in submitted)
    nodes, filesystems, walltime_s = _directives(asked)
    return Script(tuple(walker.calls), nodes, filesystems, walltime_s, tuple(walker.sources), windows="\r\n" in text)


def _directives(text: str) -> tuple[int | None, str, int | None]:
    """Nodes, file systems and walltime in seconds, of the `#PBS -l` lines. PBS reads none after the first command."""
    nodes, filesystems, walltime_s = None, "", None
    comments = itertools.takewhile(lambda line: not line.strip() or line.startswith("#"), text.split("\n"))
    for directive in (found[1] for line in comments if (found := _DIRECTIVE.match(line))):
        for resource in re.findall(r"-l\s*(\S+)", directive):
            chunks = re.search(r"(?:^|,)(?:select|nodes)=([0-9][^,]*)", resource)
            if chunks:
                counts = [re.match(r"[0-9]{1,7}(?![0-9])", chunk) for chunk in chunks[1].split("+")]
                nodes = sum(int(count[0]) if count else 1 for count in counts)
            found = re.search(r"(?:^|,)filesystems=([\w:.-]+)", resource)
            filesystems = found[1] if found else filesystems
            clock = re.search(r"(?:^|,)walltime=([0-9]{1,9}(?::[0-9]{1,9}){0,3})(?![0-9:])", resource)
            if clock:
                parts, units = reversed(clock[1].split(":")), (1, 60, 3600, 86400)
                walltime_s = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return nodes, filesystems, walltime_s


__all__ = ["Call", "NoCall", "Script", "Unknown", "Unreadable", "read_script"]
