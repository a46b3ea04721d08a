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
    {"nohup", "time", "exec", "command", "builtin", "stdbuf", "nice", "env", "timeout", "setsid", "numactl", "ionice",
     "mpiexec", "mpirun", "srun", "aprun"}
)  # fmt: skip
"""Commands that run the command which follows them."""
_PLAIN: Final = frozenset({"command", "builtin", "exec", "time"})
"""Wrappers whose first word that is no option is the command."""
_SWITCHES_OF_QSUB: Final = frozenset("fhIVxXz")
"""Its options without a value."""
_PASSED: Final = re.compile(r"([A-Za-z_]\w*)(?:=(.*))?", re.DOTALL)
_ITEM: Final = re.compile(r"""(?:[^,"']|"[^"]*"|'[^']*'|["'])+""")
"""One of a list with commas, which do not part it in quotes."""


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
    submitted: tuple[str, ...] | None = None
    """What the `-l` of a qsub ask for, if qsub is given the launcher as the job's script; None if it is called."""

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


@dataclass(frozen=True, slots=True)
class Submission:
    """`qsub … train_alcf.sh`: a job whose script is the launcher."""

    launcher: str
    words: list[Word]
    """The launcher's arguments, which only `qsub -- COMMAND` gives."""
    resources: tuple[str, ...]
    passes_all: bool
    """`-V`: the job has the whole environment of qsub."""
    passed: Mapping[str, Value | None]
    """What `-v` names; None for a value that is taken from the environment of qsub."""

    def environment(self, around: Mapping[str, Value]) -> dict[str, Value]:
        """What the job finds in its environment; `around` is that of qsub."""
        given = {n: around.get(n) if value is None else value for n, value in self.passed.items()}
        return (dict(around) if self.passes_all else {}) | {n: value for n, value in given.items() if value is not None}


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


def submission(words: Sequence[Word], value: Callable[[Word], Value]) -> Submission | None:
    """The job of a `qsub`, if its script is the launcher and what `-v` passes can be told apart."""
    resources: list[str] = []
    passed: dict[str, Value | None] = {}
    passes_all = False
    at = 1
    while at < len(words) and words[at].raw.startswith("-") and words[at].raw != "--":
        letter, of = words[at].raw[1:2], value(words[at])
        of = of[2:] if isinstance(of, str) else Unknown(of.raw[2:], of.why, of.line)
        passes_all = passes_all or letter == "V"
        at += 1
        if letter in _SWITCHES_OF_QSUB:
            continue
        if of == "" and at < len(words):
            of, at = value(words[at]), at + 1
        if letter == "l":
            resources.append(of if isinstance(of, str) else of.raw)
        elif letter == "v":
            found = _passed(of)
            if found is None:
                return None
            passed |= found
    command = at < len(words) and words[at].raw == "--"
    rest = list(words[at + 1 :] if command else words[at : at + 1])
    launcher = launcher_in(rest, value) if rest else None
    if launcher is None:
        return None
    return Submission(launcher[1], rest[launcher[0] + 1 :], tuple(resources), passes_all, passed)


def _passed(listed: Value) -> dict[str, Value | None] | None:
    """Names and values of `-v`; None if the names are not known."""
    text = listed if isinstance(listed, str) else listed.raw.strip("\"'")
    passed: dict[str, Value | None] = {}
    for item in _ITEM.findall(text):
        found = _PASSED.fullmatch(item)
        if found is None:
            return None
        of: Value | None = found[2] if found[2] is None else found[2].strip("\"'")
        if isinstance(listed, Unknown) and isinstance(of, str) and set(of) & set("$`~*?["):
            of = Unknown(of, listed.why, listed.line)
        passed[found[1]] = of
    return passed
