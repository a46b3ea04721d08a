"""Shell variables at one moment of a script, and words expanded with them. Nothing is executed, nothing guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.arithmetic import NotArithmetic, evaluate
from reconciler.launcher.shelltext import Part, Word, parts_of

VALUE_CHARS_MAX: Final = 50_000
_DEPTH_MAX: Final = 12
_OUTSIDE: Final = re.compile(r"PBS_\w*|HOME|USER|LOGNAME|PWD|OLDPWD|HOSTNAME|TMPDIR|SHELL|PATH|RANDOM|SECONDS|HOSTFILE|"
                             r"EPOCH\w*|BASH\w*|UID|EUID|PPID|VIRTUAL_ENV|CONDA_\w*|[?!$-]")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that the text alone does not give."""

    raw: str
    """As written."""
    why: str
    line: int


Value = str | Unknown


@dataclass(slots=True)
class Variables:
    """What is set, where, and what of it a command would find in its environment."""

    values: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    export_all: bool = False
    parameters: tuple[Value, ...] = ()
    """`$1` and so on."""

    def copy(self) -> Variables:
        """The same, to be changed apart."""
        return Variables(dict(self.values), dict(self.lines), set(self.exported), self.export_all, self.parameters)

    def assign(self, name: str, value: Value, line: int) -> None:
        """`name=value` at `line`."""
        self.values[name] = value
        self.lines[name] = line
        if self.export_all:
            self.exported.add(name)

    def fields(self, words: Sequence[Word]) -> list[Value]:
        """Arguments after expansion; what stood without quotes is split at blanks."""
        found: list[Value] = []
        for word in words:
            if word.raw in ("$@", "${@}", "$*", "${*}"):
                found += self.parameters
                continue
            value = self.value(word)
            loose = any(part.kind != "literal" and not part.quoted for part in word.parts)
            found += value.split() if isinstance(value, str) and loose else [value]
        return found

    def value(self, word: Word) -> Value:
        """A word as one text."""
        return joined([self._part(part, word.line, 0) for part in word.parts])

    def _part(self, part: Part, line: int, depth: int) -> Value:
        if part.kind == "literal":
            return part.body
        if part.kind == "home":
            return Unknown(part.raw, "it begins in a home folder", line)
        if part.kind == "command":
            return Unknown(part.raw, "it is the output of a command, and nothing is executed here", line)
        if depth > _DEPTH_MAX:
            return Unknown(part.raw, "it is nested too deeply", line)
        if part.kind == "variable":
            return self._variable(part, line, depth)
        expanded = joined([self._part(inner, line, depth + 1) for inner in parts_of(part.body)])
        if isinstance(expanded, Unknown):
            return Unknown(part.raw, expanded.why, line)
        try:
            return str(evaluate(expanded, lambda name: self._number_of(name)))
        except NotArithmetic as problem:
            return Unknown(part.raw, f"its arithmetic cannot be done: {problem}", line)

    def _number_of(self, name: str) -> str:
        value = self.values.get(name)
        if isinstance(value, Unknown) or (value is None and _OUTSIDE.fullmatch(name)):
            raise NotArithmetic(f"{name} is not known")
        return value or ""

    def _variable(self, part: Part, line: int, depth: int) -> Value:
        found = re.match(r"([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,4}|[@*#?!$-])(:?[-=+])?", part.body)
        if found is None or (found.end() < len(part.body) and not found[2]):
            return Unknown(part.raw, "this kind of expansion is not evaluated here", line)
        name, operation = found[1], found[2] or ""
        value = self._named(name, line)
        if not operation:
            if value is None:
                why = "the text does not set it; the job's environment may"
                return Unknown(part.raw, why, line)
            return value if isinstance(value, str) else Unknown(part.raw, value.why, value.line)
        if isinstance(value, Unknown) or (value is None and _OUTSIDE.fullmatch(name)):
            return Unknown(part.raw, f"{name} is not known from the text", line)
        there = value is not None and (bool(value) or not operation.startswith(":"))
        rest = [self._part(inner, line, depth + 1) for inner in parts_of(part.body[found.end() :])]
        if operation.endswith("+"):
            return joined(rest) if there else ""
        if there:
            return value or ""
        default = joined(rest)
        if operation.endswith("="):
            self.assign(name, default, line)
        return default

    def _named(self, name: str, line: int) -> Value | None:
        if name == "#":
            return str(len(self.parameters))
        if name in ("@", "*"):
            return joined([part for value in self.parameters for part in (value, " ")][:-1])
        if name.isdigit():
            return self.parameters[int(name) - 1] if 0 < int(name) <= len(self.parameters) else ""
        return self.values.get(name)


def joined(pieces: Sequence[Value]) -> Value:
    """One text, or unknown as soon as a piece is."""
    raw = "".join(piece if isinstance(piece, str) else piece.raw for piece in _clipped(pieces))
    for piece in pieces:
        if isinstance(piece, Unknown):
            return Unknown(raw, piece.why, piece.line)
    if sum(len(piece) for piece in pieces if isinstance(piece, str)) > VALUE_CHARS_MAX:
        return Unknown(raw[:80] + "…", f"it is longer than {VALUE_CHARS_MAX:,} characters", 0)
    return raw


def _clipped(pieces: Sequence[Value]) -> Iterator[Value]:
    """Pieces up to the longest value that is kept."""
    room = VALUE_CHARS_MAX
    for piece in pieces:
        size = len(piece if isinstance(piece, str) else piece.raw)
        if size > room:
            return
        room -= size
        yield piece


def merged(ways: Sequence[Variables]) -> Variables:
    """After a branch: what every way agrees on is known, the rest is not. The first way is that nothing happened."""
    first = ways[0]
    result = Variables(export_all=first.export_all, parameters=first.parameters)
    for name in {name for way in ways for name in way.values}:
        values = [way.values.get(name) for way in ways]
        line = next((way.lines[name] for way in reversed(ways) if name in way.lines), 0)
        known = values[0]
        if known is not None and all(value == known for value in values):
            result.values[name] = known
        else:
            result.values[name] = Unknown(f"${name}", f"line {line} sets it only under a condition", line)
        result.lines[name] = line
        if any(name in way.exported for way in ways):
            result.exported.add(name)
    return result
