"""A call of the launcher, and which words make one: by themselves, by a shell, or behind `nohup` and the like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.expansion import Unknown, Value
from reconciler.launcher.shelltext import Word, assignment

LAUNCHERS: Final = re.compile(r"(?:[^\s;]*/)?(train_alcf\.sh|train_aGPT[\w.-]*\.sh)")
SHELLS: Final = frozenset({"bash", "sh", "/bin/bash", "/bin/sh", "/usr/bin/bash", "zsh"})
WRAPPERS: Final = frozenset(
    {"nohup", "time", "exec", "command", "builtin", "stdbuf", "nice", "env", "timeout", "setsid", "numactl", "ionice"}
)
"""Commands that run the command which follows them."""
_PLAIN: Final = frozenset({"command", "builtin", "exec", "time"})
"""Wrappers whose first word that is no option is the command."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the launcher: what it would find in its environment, and its arguments."""

    launcher: str
    line: int
    environment: Mapping[str, str]
    unknown: Mapping[str, Unknown]
    """Exported variables whose value is not known."""
    words: tuple[Value, ...]
    """Its arguments, known or not, in order."""
    unexported: Mapping[str, int]
    """Variables that the script sets and the launcher never sees, with the line."""
    repeats: bool = False
    """It is made in a loop; what is known holds for the first time."""
    unsure: Mapping[str, str] = field(default_factory=dict)
    """Exported variables → the file or text that was read in after they were set, and may have set them anew."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(word for word in self.words if isinstance(word, str))

    @property
    def unknown_arguments(self) -> tuple[Unknown, ...]:
        return tuple(word for word in self.words if isinstance(word, Unknown))


@dataclass(frozen=True, slots=True)
class Inner:
    """The command behind a wrapper."""

    words: list[Word]
    """From the shell or launcher on; empty if neither is there."""
    assigned: tuple[tuple[str, Word], ...] = ()
    """What `env` sets for it."""
    clears: bool = False
    """`env -i`: it sees nothing else."""


def launcher_in(words: Sequence[Word], value: Callable[[Word], Value]) -> tuple[int, str] | None:
    """Index and name of the launcher's word, if these words call it."""
    at = 0
    if words[0].raw in SHELLS:
        at = next((i for i, word in enumerate(words[1:], 1) if not word.raw.startswith(("-", "+"))), len(words))
        if any("c" in word.raw and not word.raw.startswith("--") for word in words[1:at]):
            return None
    elif words[0].raw in ("source", "."):
        at = 1
    if at >= len(words):
        return None
    text = value(words[at])
    found = LAUNCHERS.fullmatch(words[at].raw) or (LAUNCHERS.fullmatch(text) if isinstance(text, str) else None)
    return (at, found[1]) if found else None


def unwrapped(words: Sequence[Word], value: Callable[[Word], Value]) -> Inner:
    """What a wrapper runs, if that is a shell or the launcher."""
    wrapper = words[0].bare
    assigned: list[tuple[str, Word]] = []
    clears = False
    for at, word in enumerate(words[1:], 1):
        found = assignment(word)
        if found:
            assigned.append((found[0], Word(found[2], word.line)))
        elif word.raw in ("-i", "--ignore-environment", "-"):
            clears = wrapper == "env"
        elif word.raw in SHELLS or launcher_in([word], value) is not None:
            return Inner(list(words[at:]), tuple(assigned), clears)
        elif wrapper in _PLAIN and not word.raw.startswith("-"):
            return Inner(list(words[at:]))
    return Inner([])
