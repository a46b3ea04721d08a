"""YAML text → plain documents that remember the line and column of every key, value and list item.

Scanning is libyaml's (through ruamel.yaml); building is ours, from its events, so that nesting and size are bounded
while reading, numbers are exact, and nothing in the text can construct an object. Scalars follow YAML 1.2's core
schema: `yes`, `1_000` and `12:30` are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ruamel.yaml import events
from ruamel.yaml.cyaml import CParser  # type: ignore[attr-defined]  # re-exported from the C extension
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from reconciler.model.problems import Path, Problem, Where, clip
from reconciler.model.scalars import Refused, scalar

FILE_BYTES_MAX: Final = 5_000_000
NODES_MAX: Final = 20_000
"""Per document; the longest manifest in the repository has a few hundred."""
DEPTH_MAX: Final = 32
DOCUMENTS_MAX: Final = 2_000
"""Per file."""
UNREAD_DOCUMENTS_MAX: Final = 20
"""Per file; then the rest of the file is left."""

LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What libyaml counts as the end of a line."""
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_HINTS: Final = (
    ("mapping values are not allowed", "A value that holds ': ' needs quotes; otherwise check the indentation."),
    ("found unexpected ':'", "Inside { } and [ ], a value that holds a colon needs quotes."),
    ("found character that cannot start any token", "Quote a value that begins with @, ` or %."),
    ("did not find expected ',' or ']'", "Is a ] missing?"),
    ("did not find expected ',' or '}'", "Is a } missing?"),
    ("found unexpected end of stream", "Is a closing quote missing?"),
    ("found unexpected document indicator", "Is a closing quote missing?"),
    ("could not find expected ':'", "A key needs a colon and a space after it."),
    ("did not find expected key", "Check the indentation of this line against the lines above."),
    ("did not find expected '-' indicator", "Items of one list begin with - in one column."),
    ("block sequence entries are not allowed", "A list begins on a line of its own, below its key."),
)

_UNCLOSED: Final = ("found unexpected end of stream", "found unexpected document indicator")

Place = tuple[int, int]
"""Line and column, from 0."""


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain data: dict, list, str, int, Decimal, bool, None."""

    file: str
    data: object
    keys: dict[Path, Place]
    values: dict[Path, Place]
    faulty: frozenset[Path] = frozenset()
    """Values that could not be read and stand as None; already reported."""

    def where(self, path: Path = (), *, key: bool = False) -> Where:
        """The place of a value (or of its key); the nearest known parent's where the path does not exist."""
        for length in range(len(path), -1, -1):
            known = path[:length]
            if key or length < len(path):
                place = self.keys.get(known) or self.values.get(known)
            else:
                place = self.values.get(known)
            if place is not None:
                return Where(self.file, place[0] + 1, place[1] + 1, path)
        return Where(self.file, 1, 1, path)


@dataclass(frozen=True, slots=True)
class Source:
    """What one file holds."""

    text: str | None
    """For showing lines; None for a file that was not read, replacement characters where it is not UTF-8."""
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    lost: bool = False
    """Whether some document could not be read at all."""


def too_large(file: str, size_bytes: int) -> Problem:
    """The refusal of a file by its size alone, so that the caller need not read it."""
    return Problem(
        "M002",
        Where(file),
        f"{size_bytes / 1e6:.1f} MB",
        found=f"{size_bytes} bytes",
        expected=f"at most {FILE_BYTES_MAX} bytes of manifests in one file",
    )


def read(file: str, content: bytes) -> Source:
    """Every document of a file, and everything wrong with its text. Raises nothing on any content."""
    if len(content) > FILE_BYTES_MAX:
        return Source(None, (), (too_large(file, len(content)),), lost=True)
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return Source(content.decode("utf-8", "replace"), (), (_not_utf8(file, content, error),), lost=True)
    control = _CONTROL.search(text)
    if control is not None:
        return Source(text, (), (_control_character(file, text, control.start()),), lost=True)
    return _Reading(file, text).source()


def lines_of(text: str) -> list[str]:
    """The lines as the positions count them."""
    return LINE_BREAK.split(text)


def _not_utf8(file: str, content: bytes, error: UnicodeDecodeError) -> Problem:
    before = content[: error.start]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return Problem(
        "M004",
        Where(file, line, column),
        f"byte {error.start} is 0x{content[error.start]:02x}",
        expected="UTF-8 text",
        fix="This looks like UTF-16; save the file as UTF-8." if utf16 else "Save the file as UTF-8.",
    )


def _control_character(file: str, text: str, at: int) -> Problem:
    lines = lines_of(text[:at])
    return Problem(
        "M005",
        Where(file, len(lines), len(lines[-1]) + 1),
        f"U+{ord(text[at]):04X}",
        expected="text without control characters",
    )


@dataclass(slots=True)
class _Frame:
    """A mapping or list being filled."""

    container: dict[str, object] | list[object]
    path: Path
    key: str | None = None


@dataclass(slots=True)
class _Building:
    """One document being built."""

    data: object = None
    stack: list[_Frame] = field(default_factory=list)
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    faulty: set[Path] = field(default_factory=set)
    nodes: int = 0


class _GivenUp(Exception):
    """The document being read is left at this line (from 0) of the text; the problem is already noted."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Reading:
    """Turns the events of one file into documents, going on after whatever can be gone on after."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._first_line = 0
        self._lines: list[str] = []
        self._documents: list[Document] = []
        self._problems: list[Problem] = []
        self._lost = False
        self._now = _Building()
        self._on: dict[type, Callable[[Any], None]] = {
            events.ScalarEvent: self._scalar,
            events.MappingStartEvent: self._open,
            events.SequenceStartEvent: self._open,
            events.MappingEndEvent: self._close,
            events.SequenceEndEvent: self._close,
            events.AliasEvent: self._alias,
            events.DocumentStartEvent: self._begin,
            events.DocumentEndEvent: self._end,
        }

    def source(self) -> Source:
        rest = self._text
        for _ in range(UNREAD_DOCUMENTS_MAX):
            after = self._parse(rest)
            if after is None:
                break
            rest = after
        else:
            self._add(Problem("M019", Where(self._file, self._first_line + 1, 1), "the file is not read from here on"))
        if not self._documents and not self._problems:
            self._add(Problem("M006", Where(self._file, 1, 1), "no document in it"))
        return Source(self._text, tuple(self._documents), tuple(self._problems), self._lost)

    def _parse(self, text: str) -> str | None:
        """Read documents up to the end or one that must be given up; return the text from the document after it."""
        try:
            for event in parsed(text):
                handler = self._on.get(type(event))
                if handler is not None:
                    handler(event)
            return None
        except _GivenUp as given_up:
            left_at = given_up.line
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            left_at = mark.line if mark is not None else 0
            self._add(self._syntax_problem(error))
        except YAMLError as error:
            left_at = 0
            self._add(Problem("M010", Where(self._file, self._first_line + 1, 1), clip(str(error))))
        self._lost = True
        return self._after(left_at)

    def _after(self, left_at: int) -> str | None:
        """The text from the next document marker at or after a line; a marker cannot stand inside a document."""
        lines = self._all_lines()
        for number in range(self._first_line + max(left_at, 1), len(lines)):
            if lines[number].startswith("---"):
                self._first_line = number
                return "\n".join(lines[number:])
        return None

    def _all_lines(self) -> list[str]:
        self._lines = self._lines or lines_of(self._text)
        return self._lines

    def _syntax_problem(self, error: MarkedYAMLError) -> Problem:
        message = str(error.problem or error.context or "unreadable")
        mark = error.problem_mark or error.context_mark
        if message in _UNCLOSED and error.context_mark is not None:
            mark = error.context_mark  # where the quote opens, rather than where the text or document ends
        line, column = (self._first_line + mark.line, mark.column) if mark is not None else (self._first_line, 0)
        lines = self._all_lines()
        if line >= len(lines):  # the scanner counts a line after the last
            line, column = len(lines) - 1, len(lines[-1])
        source_line = lines[line]
        indent = source_line[: len(source_line) - len(source_line.lstrip())]
        if "\t" in indent:
            where = Where(self._file, line + 1, indent.index("\t") + 1)
            return Problem("M011", where, "a tab before the first word of the line", fix="Replace it with spaces.")
        related: tuple[tuple[Where, str], ...] = ()
        context = error.context_mark
        if context is not None and (self._first_line + context.line, context.column) != (line, column):
            place = Where(self._file, self._first_line + context.line + 1, context.column + 1)
            related = ((place, str(error.context).removeprefix("while ") + " that begins here"),)
        fix = next((hint for words, hint in _HINTS if words in message), None)
        return Problem("M010", Where(self._file, line + 1, column + 1), clip(message), fix=fix, related=related)

    def _add(self, problem: Problem) -> None:
        self._problems.append(problem)

    def _place(self, event: Any) -> Place:
        return event.start_mark.line + self._first_line, event.start_mark.column

    def _where(self, event: Any, path: Path = ()) -> Where:
        line, column = self._place(event)
        return Where(self._file, line + 1, column + 1, path)

    # --- one handler per event

    def _begin(self, event: Any) -> None:
        self._now = _Building()

    def _end(self, event: Any) -> None:
        now = self._now
        if len(self._documents) >= DOCUMENTS_MAX:
            self._add(Problem("M015", self._where(event), f"more than {DOCUMENTS_MAX} documents in one file"))
            raise _GivenUp(len(self._all_lines()))
        if now.data is not None or now.faulty:
            self._documents.append(Document(self._file, now.data, now.keys, now.values, frozenset(now.faulty)))

    def _open(self, event: Any) -> None:
        if event.tag is not None:
            self._tag(event)
        mapping = type(event) is events.MappingStartEvent
        container: dict[str, object] | list[object] = {} if mapping else []
        path = self._put(event, container)
        self._now.stack.append(_Frame(container, path))
        if len(self._now.stack) > DEPTH_MAX:
            self._give_up("M015", event, f"nested more than {DEPTH_MAX} deep")

    def _close(self, event: Any) -> None:
        self._now.stack.pop()

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            self._tag(event)
        stack = self._now.stack
        if stack and stack[-1].key is None and isinstance(stack[-1].container, dict):
            self._key(event, stack[-1])
            return
        value: object = event.value
        bad = None
        if event.implicit[0]:
            try:
                value = scalar(event.value)
            except Refused as refused:
                value, bad = None, refused
        path = self._put(event, value)
        if bad is not None:
            self._now.faulty.add(path)
            self._add(Problem("M017", self._where(event, path), bad.detail, None, bad.expected, bad.fix))

    def _key(self, event: Any, frame: _Frame) -> None:
        text: str = event.value
        path = (*frame.path, text)
        if event.implicit[0] and text == "<<":
            self._give_up("M013", event, "the merge key <<", fix="Write the merged fields out.")
        if event.implicit[0] and not _is_text(text):
            fix = f'If it is a name, write "{clip(text, 40)}".'
            self._add(Problem("M016", self._where(event, path), clip(text, 40), None, "a name", fix))
        if text in frame.container:
            first = self._now.keys[path]
            self._add(
                Problem(
                    "M012",
                    self._where(event, path),
                    f'"{clip(text, 60)}" is set twice in one mapping',
                    fix="Keep one of the two.",
                    related=((Where(self._file, first[0] + 1, first[1] + 1, path), "first set here"),),
                )
            )
            # The second value goes where nobody looks, so that the first one is what is checked further.
            path = (*frame.path, f"{text}\x00again")
        self._now.keys[path] = self._place(event)
        frame.key = str(path[-1])

    def _alias(self, event: Any) -> None:
        name = clip(str(event.anchor), 40)
        self._give_up("M013", event, f"the alias *{name}", fix="Write the value out where it is used.")

    def _tag(self, event: Any) -> NoReturn:
        fix = "To make text of it, put it in quotes."
        self._give_up("M014", event, f"the tag {clip(str(event.tag), 60)}", fix=fix)

    # --- building

    def _put(self, event: Any, value: object) -> Path:
        """Store a value where the open container expects one; return its path."""
        now = self._now
        now.nodes += 1
        if now.nodes > NODES_MAX:
            self._give_up("M015", event, f"more than {NODES_MAX} values")
        path: Path = ()
        if not now.stack:
            now.data = value
        else:
            frame = now.stack[-1]
            if isinstance(frame.container, list):
                path = (*frame.path, len(frame.container))
                frame.container.append(value)
            elif frame.key is None:
                self._give_up("M016", event, "a list or mapping as a key", fix="Quote text that begins with [ or {.")
            else:
                path = (*frame.path, frame.key)
                if not frame.key.endswith("\x00again"):
                    frame.container[frame.key] = value
                frame.key = None
        now.values[path] = self._place(event)
        return path

    def _give_up(self, code: str, event: Any, detail: str, fix: str | None = None) -> NoReturn:
        """Give up this document: what follows in it cannot be told apart from the consequences."""
        self._add(Problem(code, self._where(event), detail, fix=fix))
        raise _GivenUp(event.start_mark.line)


def _is_text(text: str) -> bool:
    try:
        return isinstance(scalar(text), str)
    except Refused:
        return False


def parsed(text: str) -> Iterator[Any]:
    """The parser's events, each with where it begins and ends; raises YAMLError where the text is no YAML."""
    parser = CParser(text)
    try:
        while True:
            event = parser.get_event()
            if event is None:
                return
            yield event
    finally:
        parser.dispose()
