"""Commands in the documentation: every line after `$ ` in a console block, with what the page shows of its output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^(?P<indent> *)```console\n(?P<text>.*?)^ *```", re.M | re.S)
CONTINUED = re.compile(r" *\\\n *")
EXITS = re.compile(r"# exits (\d)")


@dataclass(frozen=True)
class Step:
    """One command, as a reader types it."""

    page: str
    command: str
    shown: tuple[str, ...]
    """Lines of its output that a page shows."""

    @property
    def status(self) -> int:
        """How it ends; a comment says so where it is not 0."""
        found = EXITS.search(self.command)
        return int(found[1]) if found else 0


def steps(page: Path) -> tuple[Step, ...]:
    """Every command of a page, in order."""
    return tuple(_steps(page.name, page.read_text(encoding="utf-8")))


def _steps(name: str, text: str) -> Iterator[Step]:
    for block in BLOCK.finditer(text):
        joined = CONTINUED.sub(" ", block["text"])
        lines = [line.removeprefix(block["indent"]) for line in joined.splitlines()]
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        ends = [*starts[1:], len(lines)][: len(starts)]
        for start, end in zip(starts, ends, strict=True):
            yield Step(name, lines[start].removeprefix("$ "), tuple(line for line in lines[start + 1 : end] if line))
