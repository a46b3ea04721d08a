"""Shell variables at one moment of a script, and words expanded with them. Nothing is executed, nothing guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.launcher.arithmetic import NotArithmetic, evaluate
from reconciler.launcher.scriptsteps import assigned_in
from reconciler.launcher.shelltext import Part, Word, parts_of

VALUE_CHARS_MAX: Final = 20_000
ARRAY_LENGTH_MAX: Final = 500
FIELDS_MAX: Final = 5000
_BLANKS: Final = " \t\n"
_PATTERN: Final = re.compile(r"[*?\[]|[@+!]\(|\{[^{}]*(?:,|\.\.)[^{}]*\}")
"""What becomes file names or several words when it stands without quotes."""
_GAPS: Final = re.compile(f"([{_BLANKS}]+)")
_LISTED: Final = re.compile(r"([@*])|([A-Za-z_][A-Za-z0-9_]*)\[([@*])\]")
_ELEMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\[([0-9]{1,4})\]")
_NOT_READ: Final = {
    "home": "it begins in a home folder",
    "command": "it is the output of a command, and nothing is executed here",
    "escapes": "its escapes are not read here",
    "array": "it is a list and not one text",
    "let": "it is a command and not a text",
}
"""Kinds of parts that have no known value, and why."""
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
    many: bool = False
    """As an argument it may be any number of words, none too."""


Value = str | Unknown


@dataclass(slots=True)
class Variables:
    """What is set, where, and what of it a command would find in its environment."""

    values: dict[str, Value] = field(default_factory=dict)
    """Of an array, its first element."""
    arrays: dict[str, tuple[Value, ...] | Unknown] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)
    """Names that are exported if a condition held."""
    touched: set[str] = field(default_factory=set)
    """Names that were set or unset since the loop began that is being read."""
    export_all: bool | None = False
    """Whether `set -a` is on; None if it was set under a condition."""
    parameters: tuple[Value, ...] | Unknown | None = None
    """`$1` and so on; None for those of the script itself, which a batch job starts without."""
    alive: bool = True
    """False after `exit` and `return`: nothing that follows happens."""

    def copy(self) -> Variables:
        """The same, to be changed apart."""
        return replace(
            self,
            values=dict(self.values),
            arrays=dict(self.arrays),
            lines=dict(self.lines),
            exported=set(self.exported),
            perhaps=set(self.perhaps),
            touched=set(self.touched),
        )

    def assign(self, name: str, value: Value, line: int) -> None:
        """`name=value` at `line`."""
        self.values[name] = value
        self.lines[name] = line
        self.touched.add(name)
        if name in self.arrays:
            self.arrays[name] = Unknown(f"${{{name}[@]}}", "its elements are set one by one", line)
        if self.export_all:
            self.export(name)
        elif self.export_all is None and name not in self.exported:
            self.perhaps.add(name)

    def export(self, name: str, *, on: bool = True) -> None:
        """`export name`, or `export -n name`."""
        (self.exported.add if on else self.exported.discard)(name)
        self.perhaps.discard(name)
        self.touched.add(name)

    def assign_array(self, name: str, elements: Sequence[Value], line: int) -> None:
        """`name=(…)` at `line`."""
        self.assign(name, elements[0] if elements else "", line)
        long = Unknown(f"${{{name}[@]}}", f"it has more than {ARRAY_LENGTH_MAX} elements", line)
        self.arrays[name] = tuple(elements) if len(elements) <= ARRAY_LENGTH_MAX else long

    def drop(self, name: str) -> None:
        """`unset name`."""
        self.values.pop(name, None)
        self.arrays.pop(name, None)
        self.export(name, on=False)
        self.touched.add(name)

    def shift(self, by: int, line: int) -> None:
        """`shift`."""
        given = self.parameters
        if isinstance(given, tuple) and any(isinstance(value, Unknown) and value.many for value in given):
            self.parameters = Unknown("$@", "how many words there are is not known", line)
        elif isinstance(given, tuple) and by <= len(given):
            self.parameters = given[by:]

    def fields(self, words: Sequence[Word]) -> list[Value]:
        """Arguments after expansion; what stood without quotes is split at blanks."""
        found: list[Value] = []
        for word in words:
            found += self._fields_of(word)
            if len(found) > FIELDS_MAX:
                return [*found[:FIELDS_MAX], Unknown("…", f"there are more than {FIELDS_MAX:,} words", word.line)]
        return found

    def _fields_of(self, word: Word) -> list[Value]:
        listed = self._listed(word)
        if listed is not None:
            return listed
        found: list[Value] = []
        begun: list[Value] | None = None
        for part in word.parts:
            value = self._part(part, word.line, 0)
            if part.kind == "literal" and not part.quoted and _PATTERN.search(part.body):
                why = "it is a pattern, and what it becomes depends on the files there"
                return [Unknown(word.raw, why, word.line, many=True)]
            if part.quoted or part.kind == "literal":
                begun = [*(begun or []), value]
                continue
            pieces = self._split(part, value, word.line)
            if isinstance(pieces, Unknown):
                return [Unknown(word.raw, pieces.why, pieces.line, many=True)]
            for piece in pieces:
                if piece:
                    begun = [*(begun or []), piece]
                elif begun is not None:
                    found.append(joined(begun))
                    begun = None
        return found if begun is None else [*found, joined(begun)]

    def _split(self, part: Part, value: Value, line: int) -> list[str] | Unknown:
        """Words of an expansion without quotes; an empty text stands for a gap between two of them."""
        if isinstance(value, Unknown):
            return value
        if _PATTERN.search(value):
            return Unknown(part.raw, "without quotes it is a pattern", line)
        if "IFS" in self.values or (set(part.body) & set("\"'\\") and value.split() != [value]):
            return Unknown(part.raw, "where it is split into words is not followed here", line)
        pieces: list[str] = []
        for piece in _GAPS.split(value):
            if piece:
                pieces.append("" if piece[0] in _BLANKS else piece)
        return pieces

    def _listed(self, word: Word) -> list[Value] | None:
        """The values of `$@` or `${NAME[@]}`, if that is all that the word is."""
        parts = [part for part in word.parts if part.kind != "literal" or part.body]
        found = _LISTED.fullmatch(parts[0].body) if len(parts) == 1 and parts[0].kind == "variable" else None
        if found is None:
            return None
        part = parts[0]
        values = self._elements(found[2], word.line) if found[2] else self.parameters or ()
        if isinstance(values, Unknown):
            return [Unknown(word.raw, values.why, values.line, many=True)]
        if not part.quoted:
            pieces = [self._split(part, value, word.line) for value in values]
            pieces = [replace(piece, many=True) if isinstance(piece, Unknown) else piece for piece in pieces]
            return [one for piece in pieces for one in ([piece] if isinstance(piece, Unknown) else filter(None, piece))]
        if "*" not in (found[1], found[3]):
            return list(values)
        return [joined([piece for value in values for piece in (" ", value)][1:])]

    def _elements(self, name: str, line: int) -> tuple[Value, ...] | Unknown:
        if name in self.arrays:
            return self.arrays[name]
        if name in self.values:
            return (self.values[name],)
        return Unknown(f"${{{name}[@]}}", "the text does not set it", line)

    def value(self, word: Word) -> Value:
        """A word as one text."""
        return joined([self._part(part, word.line, 0) for part in word.parts])

    def _part(self, part: Part, line: int, depth: int) -> Value:
        if part.kind == "literal":
            return part.body
        if part.kind in _NOT_READ:
            return Unknown(part.raw, _NOT_READ[part.kind], line)
        if depth > _DEPTH_MAX:
            return Unknown(part.raw, "it is nested too deeply", line)
        if part.kind == "variable":
            return self._variable(part, line, depth)
        for name in assigned_in(part.body):
            self.assign(name, Unknown(f"${name}", "the shell's arithmetic sets it", line), line)
        expanded = joined([self._part(inner, line, depth + 1) for inner in parts_of(part.body, quoted=True)])
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
        element = _ELEMENT.fullmatch(part.body)
        if element:
            elements = self._elements(element[1], line)
            if isinstance(elements, Unknown):
                return Unknown(part.raw, elements.why, line)
            return element_of(elements, int(element[2]), part.raw, line)
        found = re.match(r"([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,4}|[@*#?!$-])(:?[-=+?])?", part.body)
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
        if there == operation.endswith("+"):
            inside = parts_of(part.body[found.end() :], quoted=part.quoted)
            rest = joined([self._part(inner, line, depth + 1) for inner in inside])
            if operation.endswith("?"):
                return Unknown(part.raw, "the shell stops here, since it is not set", line)
            if operation.endswith("="):
                self.assign(name, rest, line)
            return rest
        return "" if operation.endswith("+") else value or ""

    def _named(self, name: str, line: int) -> Value | None:
        if name in ("#", "@", "*") or name.isdigit():
            return self._parameter(name, line)
        return self.values.get(name)

    def _parameter(self, name: str, line: int) -> Value | None:
        given = self.parameters
        if isinstance(given, Unknown):
            return given
        if name == "@" and given is not None and len(given) > 1:
            return Unknown("$@", "it is several words", line)
        if name in ("@", "*"):
            return joined([piece for value in given or () for piece in (" ", value)][1:])
        if given is None or name == "0":
            return None
        if name != "#":
            return element_of(given, int(name) - 1, f"${name}", line)
        several = any(isinstance(value, Unknown) and value.many for value in given)
        return Unknown("$#", "how many words there are is not known", line) if several else str(len(given))


def element_of(values: Sequence[Value], index: int, raw: str, line: int) -> Value:
    """One of a list; empty past its end, unknown behind what may be any number of words."""
    if any(isinstance(value, Unknown) and value.many for value in values[: index + 1]):
        return Unknown(raw, "how many words come before it is not known", line)
    return values[index] if index < len(values) else ""


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
    """After a branch: what every way agrees on that goes on is known, the rest is not."""
    going = [way for way in ways if way.alive]
    if len(going) < 2:
        return (going or list(ways))[0]
    first = going[0]
    same_parameters = all(way.parameters == first.parameters for way in going)
    parameters = first.parameters if same_parameters else Unknown("$@", "it is shifted under a condition", 0)
    same_exports = all(way.export_all == first.export_all for way in going)
    result = Variables(export_all=first.export_all if same_exports else None, parameters=parameters)
    for way in going:
        result.touched |= way.touched
        result.perhaps |= way.exported | way.perhaps
    result.exported = set.intersection(*(way.exported for way in going))
    result.perhaps -= result.exported
    for name in sorted({name for way in going for name in way.values}):
        values = [way.values.get(name) for way in going]
        line = next((way.lines[name] for way in reversed(going) if name in way.lines), 0)
        known = values[0]
        same = known is not None and all(value == known for value in values)
        result.values[name] = (known or "") if same else Unknown(
            f"${name}", f"line {line} sets it only under a condition", line)  # fmt: skip
        result.lines[name] = line
        arrays = [way.arrays.get(name) for way in going]
        if any(array is not None for array in arrays):
            array = arrays[0]
            why = Unknown(f"${{{name}[@]}}", f"line {line} sets it only under a condition", line)
            result.arrays[name] = array if array is not None and all(a == array for a in arrays) else why
    return result


def after_loop(before: Variables, once: Variables) -> Variables:
    """After a loop that may have run any number of times: nothing that its body sets is known."""
    result = merged([before, once]).copy()
    for name in once.touched:
        line = once.lines.get(name, 0)
        result.assign(name, Unknown(f"${name}", f"line {line} sets it in a loop", line), line)
    result.touched |= before.touched
    return result
