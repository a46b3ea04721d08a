"""A script or command line, as text alone → what the launcher would be given. Nothing of it is ever executed.

What cannot be known from the text (command substitutions, variables of the job's environment, settings made under a
condition) is reported as unknown with its reason, never guessed. A variable that the text does not set is taken to be
unset, which is how a batch job starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.expansion import Unknown, Value, Variables, joined, merged
from reconciler.launcher.scriptsteps import Command, Edge, Function, Step, steps_of
from reconciler.launcher.shelltext import Part, Unreadable, Word, tokens

LAUNCHERS: Final = re.compile(r"(?:[^\s;]*/)?(train_alcf\.sh|train_aGPT[\w.-]*\.sh)")
STEPS_MAX: Final = 50_000
"""Steps walked, calls of functions included."""
CALLS_MAX: Final = 100
VARIABLES_MAX: Final = 2000
_DEPTH_MAX: Final = 12
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_WRAPPERS: Final = frozenset({"nohup", "time", "exec", "command", "builtin", "stdbuf", "nice"})
_DECLARING: Final = frozenset({"export", "declare", "typeset", "readonly", "local"})
_SHELLS: Final = frozenset({"bash", "sh", "/bin/bash", "/bin/sh", "/usr/bin/bash", "zsh", "source", "."})
_DIRECTIVE: Final = re.compile(r"^#PBS\s+(.*)$", re.MULTILINE)


class NoCall(ValueError):
    """The text calls no launcher; the message says what was looked for."""


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

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(word for word in self.words if isinstance(word, str))

    @property
    def unknown_arguments(self) -> tuple[Unknown, ...]:
        return tuple(word for word in self.words if isinstance(word, Unknown))


@dataclass(frozen=True, slots=True)
class Script:
    """What was read: every call in order (at least one), and what the directives ask of PBS."""

    calls: tuple[Call, ...]
    nodes: int | None
    filesystems: str
    walltime_s: int | None = None
    sources: tuple[str, ...] = field(default=())
    """Other files that it reads in, which may set more."""


def read_script(text: str) -> Script:
    """Every call of the launcher in `text`.

    Raises:
        Unreadable: not a script (too long, NUL bytes, thousands of variables).
        NoCall: no `train_alcf.sh` or `train_aGPT*.sh` is called in it.
    """
    walker = _Walker()
    walker.walk(steps_of(tokens(text)))
    if not walker.calls:
        raise NoCall(
            "no call of the launcher was found: a line such as `LR=2e-4 TRAIN_ITERS=1000 bash train_alcf.sh` "
            "(or train_aGPT_*.sh)"
        )
    nodes, filesystems, walltime_s = _directives(text)
    return Script(tuple(walker.calls), nodes, filesystems, walltime_s, tuple(walker.sources))


def _directives(text: str) -> tuple[int | None, str, int | None]:
    """Nodes, file systems and walltime in seconds, of the `#PBS -l` lines."""
    nodes, filesystems, walltime_s = None, "", None
    for directive in _DIRECTIVE.findall(text):
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


class _Walker:
    """Walks steps and keeps the variables; calls of the launcher are collected."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.sources: list[str] = []
        self._state = Variables()
        self._functions: dict[str, tuple[Step, ...]] = {}
        self._branches: list[tuple[Variables, list[Variables]]] = []
        self._subshells: list[Variables] = []
        self._left = STEPS_MAX
        self._depth = 0
        self._ended = False

    def walk(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._left -= 1
            if self._left < 0 or self._ended or len(self.calls) >= CALLS_MAX:
                return
            if isinstance(step, Function):
                self._functions[step.name] = step.steps
            elif isinstance(step, Command):
                self._command(step)
            else:
                self._edge(step)

    def _edge(self, edge: Edge) -> None:
        if edge is Edge.SUBSHELL:
            self._subshells.append(self._state.copy())
        elif edge is Edge.LEFT:
            if self._subshells:
                self._state = self._subshells.pop()
        elif edge is Edge.BRANCH:
            self._branches.append((self._state.copy(), []))
        elif self._branches:
            before, ways = self._branches[-1]
            ways.append(self._state)
            self._state = before.copy()
            if edge is Edge.JOINED:
                self._branches.pop()
                self._state = merged([before, *ways])

    def _command(self, command: Command) -> None:
        words = list(command.words)
        assigned: list[tuple[str, Value]] = []
        scratch = self._state
        if len(scratch.values) > VARIABLES_MAX:
            raise Unreadable(f"more than {VARIABLES_MAX:,} variables are set by line {command.line}")
        while words and (found := _assignment(words[0])):
            name, appends, value = found
            # Later assignments of one command see the earlier ones, and only they do.
            scratch = scratch.copy() if not assigned else scratch
            text = scratch.value(Word(value, words[0].line))
            if appends:
                text = joined([scratch.values.get(name, ""), text])
            scratch.values[name] = text
            assigned.append((name, text))
            words.pop(0)
        if not words:
            for name, text in assigned:
                self._state.assign(name, text, command.line)
            return
        self._run(words, assigned, command.line)

    def _run(self, words: list[Word], assigned: list[tuple[str, Value]], line: int) -> None:
        while words and (words[0].bare in _WRAPPERS or words[0].bare == "env"):
            wrapper = words.pop(0).bare
            while wrapper == "env" and words and (found := _assignment(words[0])):
                assigned.append((found[0], self._state.value(Word(found[2], line))))
                words.pop(0)
        if not words:
            return
        name, rest = words[0].bare, words[1:]
        launcher = self._launcher(words)
        if launcher is not None:
            self._called(launcher[1], words[launcher[0] + 1 :], assigned, line)
        elif name in _DECLARING:
            self._declare(name, rest, line)
        elif name in ("source", ".", "eval"):
            self.sources.append(" ".join(word.raw for word in rest)[:80])
        elif name in self._functions:
            self._call_function(name, rest, line)
        else:
            self._builtin(name, rest, line)

    def _builtin(self, name: str, words: Sequence[Word], line: int) -> None:
        raw = [word.raw for word in words]
        if name == "unset":
            for variable in raw:
                self._state.values.pop(variable, None)
                self._state.exported.discard(variable)
        elif name == "set" and ("-a" in raw or raw == ["-o", "allexport"]):
            self._state.export_all = True
        elif name == "set" and ("+a" in raw or raw == ["+o", "allexport"]):
            self._state.export_all = False
        elif name == "exit" and not self._branches and not self._subshells:
            self._ended = True
        elif name == "read":
            for variable in raw:
                self._state.assign(variable, Unknown(variable, "it is read from input", line), line)

    def _call_function(self, name: str, words: Sequence[Word], line: int) -> None:
        if self._depth >= _DEPTH_MAX:
            return
        outer, self._state.parameters = self._state.parameters, tuple(self._state.fields(words))
        self._depth += 1
        self.walk(self._functions[name])
        self._depth -= 1
        self._state.parameters = outer

    def _launcher(self, words: Sequence[Word]) -> tuple[int, str] | None:
        """Index and name of the launcher's word, if these words call it."""
        at = 0
        if words[0].raw in _SHELLS:
            at = next((i for i, word in enumerate(words[1:], 1) if not word.raw.startswith(("-", "+"))), len(words))
        if at >= len(words):
            return None
        raw = words[at].raw
        value = self._state.value(words[at])
        found = LAUNCHERS.fullmatch(raw) or (LAUNCHERS.fullmatch(value) if isinstance(value, str) else None)
        return (at, found[1]) if found else None

    def _declare(self, name: str, words: Sequence[Word], line: int) -> None:
        options = "".join(word.raw for word in words if word.raw.startswith("-"))
        exports = (name == "export" and "n" not in options) or "x" in options
        for word in words:
            found = _assignment(word)
            if found:
                known, appends, value = found
                text = self._state.value(Word(value, word.line))
                self._state.assign(known, joined([self._state.values.get(known, ""), text]) if appends else text, line)
            if exports and (found or _ASSIGNMENT.fullmatch(f"{word.bare}=")):
                self._state.exported.add(found[0] if found else word.bare)

    def _called(self, launcher: str, words: Sequence[Word], assigned: Sequence[tuple[str, Value]], line: int) -> None:
        seen = {name: value for name, value in self._state.values.items() if name in self._state.exported}
        seen |= dict(assigned)
        self.calls.append(
            Call(
                launcher,
                line,
                {name: value for name, value in seen.items() if isinstance(value, str)},
                {name: value for name, value in seen.items() if isinstance(value, Unknown)},
                tuple(self._state.fields(words)),
                {name: at for name, at in self._state.lines.items() if name in self._state.values and name not in seen},
            )
        )


def _assignment(word: Word) -> tuple[str, bool, tuple[Part, ...]] | None:
    """(name, whether it appends, the value's parts) of a word such as `A=b`."""
    if not word.parts or word.parts[0].quoted or word.parts[0].kind not in ("literal", "home"):
        return None
    first = word.parts[0]
    found = _ASSIGNMENT.match(first.body)
    if found is None:
        return None
    rest = first.body[found.end() :]
    if first.kind == "home" or rest.startswith("~"):
        return found[1], bool(found[2]), (Part("home", rest, rest, False), *word.parts[1:])
    return found[1], bool(found[2]), (Part("literal", rest, rest, False), *word.parts[1:])


__all__ = ["Call", "NoCall", "Script", "Unknown", "Unreadable", "read_script"]
