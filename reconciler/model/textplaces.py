"""Where values stand in the text of a manifest, so that it can be edited without being written anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ruamel.yaml import events

from reconciler.model.source import LINE_BREAK, parsed, read

_BOM: Final = "\ufeff"
LAYOUT: Final = "the layout of its manifest does not let itself be edited without touching more than is meant"
"""Why an edit was given up."""


@dataclass(slots=True)
class Node:
    """A value with its place in the text, by characters."""

    start: int
    end: int
    flow: bool = False
    items: list[Node] = field(default_factory=list)
    """Of a list; of a mapping its keys and values in turn."""
    value: str | None = None

    def entry(self, key: str) -> Node:
        """The value of a key."""
        return next(value for name, value in zip(self.items[::2], self.items[1::2], strict=True) if name.value == key)


def tree(text: str) -> list[Node]:
    """Every document that is not empty, as nodes with their places."""
    documents: list[Node] = []
    stack: list[Node] = []
    for event in parsed(text):
        start, end = event.start_mark.index, event.end_mark.index
        match event:
            case events.MappingStartEvent() | events.SequenceStartEvent():
                node = Node(start, end, bool(event.flow_style))
            case events.ScalarEvent():
                node = Node(start, end, value=event.value)
            case events.MappingEndEvent() | events.SequenceEndEvent():
                stack.pop().end = end
                continue
            case _:
                continue
        if stack:
            stack[-1].items.append(node)
        elif node.value is None:
            documents.append(node)
        if node.value is None:
            stack.append(node)
    return documents


def edited(content: bytes, wanted: Sequence[object], edit: Callable[[str], str]) -> bytes | None:
    """A file after an edit of its text, its byte order mark kept; None if it does not say just what is wanted then."""
    text = content.decode("utf-8")
    bom, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    made = (bom + edit(text)).encode("utf-8")
    after = read("", made)
    same = not after.problems and [document.data for document in after.documents] == list(wanted)
    return made if same else None


def lines_of(text: str) -> list[tuple[int, str]]:
    """(where it begins, its text without the line's end) of every line."""
    found, at = [], 0
    for line_end in LINE_BREAK.finditer(text):
        found.append((at, text[at : line_end.start()]))
        at = line_end.end()
    return [*found, (at, text[at:])] if at < len(text) else found


def line_at(starts: list[int], place: int) -> int:
    """Number of the line that holds a place."""
    return max(index for index, start in enumerate(starts) if start <= place)
