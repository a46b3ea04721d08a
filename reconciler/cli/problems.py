"""Problems for people: `file:line:column: CODE message`, the line, a caret, what was found and what was expected.

What a person has waived takes two lines, with their reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import click

from reconciler.model.problems import Problem, Severity, Where, clip, harmless, path_text
from reconciler.model.source import lines_of

WIDTH_MAX: Final = 110
"""Of a source line shown; a longer one is cut around the column."""
COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def render(problems: Iterable[Problem], texts: Mapping[str, str], *, colour: bool = False) -> str:
    """All problems, in the order given; `texts` maps file names to their text, for the source lines."""
    lines: dict[str, list[str]] = {}
    shown = []
    for problem in problems:
        file = problem.where.file
        if file not in lines:
            lines[file] = lines_of(texts[file]) if file in texts else []
        shown.append("\n".join(_rendered(_shown(problem), lines[file], _Paint(colour))))
    return "\n\n".join(shown)


def as_data(problem: Problem) -> dict[str, Any]:
    """The same for programs."""
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "waived": problem.waived,
        "file": problem.where.file,
        "line": problem.where.line,
        "column": problem.where.column,
        "path": path_text(problem.where.path),
        "summary": problem.summary,
        "detail": problem.detail,
        "found": problem.found,
        "expected": problem.expected,
        "fix": problem.fix,
        "related": [
            {"file": where.file, "line": where.line, "column": where.column, "what": what}
            for where, what in problem.related
        ],
    }


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, fg: str | None = None, *, bold: bool = False) -> str:
        return click.style(text, fg=fg, bold=bold) if self._colour else text


def _shown(problem: Problem) -> Problem:
    """With texts that a terminal only shows; a waiver's reason, for one, is a stranger's."""

    def shown(text: str | None) -> str | None:
        return None if text is None else harmless(text)

    return replace(
        problem,
        detail=harmless(problem.detail),
        found=shown(problem.found),
        expected=shown(problem.expected),
        fix=shown(problem.fix),
        waived=shown(problem.waived),
        related=tuple((where, harmless(what)) for where, what in problem.related),
    )


def _rendered(problem: Problem, lines: list[str], paint: _Paint) -> Iterator[str]:
    colour = "green" if problem.waived is not None else COLOURS[problem.severity]
    code = paint(problem.code, colour, bold=True)
    yield f"{paint(place(problem.where), bold=True)}: {code} {standing(problem)}{problem.summary}: {problem.detail}"
    if problem.waived is not None:
        yield f"    {paint('=', 'blue')} waived   {problem.waived}"
        return
    number = problem.where.line
    margin = " " * len(str(number))
    bar = paint("|", "blue")
    if 1 <= number <= len(lines):
        line, offset = _window(lines[number - 1], problem.where.column - 1)
        yield f" {margin} {bar}"
        yield f" {paint(str(number), 'blue')} {bar} {line}".rstrip()
        yield f" {margin} {bar} {' ' * offset}{paint('^', colour, bold=True)}"
    at = path_text(problem.where.path)
    notes = [
        ("at", at if at not in problem.detail else None),
        ("found", problem.found),
        ("expected", problem.expected),
        ("help", problem.fix),
        *(("see", f"{place(where)}: {what}") for where, what in problem.related),
    ]
    yield from (f" {margin} {paint('=', 'blue')} {label:<8} {text}" for label, text in notes if text)


def standing(problem: Problem) -> str:
    """What it means for the reader: nothing before an error, `warning: `, `note: `, or that it is waived."""
    if problem.waived is not None:
        return f"waived {problem.severity.value}: "
    return "" if problem.severity is Severity.ERROR else f"{problem.severity.value}: "


def place(where: Where) -> str:
    """`file:line:column`."""
    file = clip(where.file, 1000)
    return f"{file}:{where.line}:{where.column}" if where.line else file


def _window(line: str, column: int) -> tuple[str, int]:
    """A line fit to print, and how many cells stand before the column in it."""
    start = max(0, column - WIDTH_MAX // 2) if len(line) > WIDTH_MAX else 0
    cut = line[start : start + WIDTH_MAX]
    safe = "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in cut)
    before = "…" if start else ""
    after = "…" if start + WIDTH_MAX < len(line) else ""
    return before + safe + after, len(before) + sum(_cells(c) for c in safe[: column - start])


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
