"""A strategy moved to the top of a stage's ladder in the text of its manifest, with every other byte kept.

The text is cut where the parser says that items begin and end, and put together in another order: comments, quotes,
indentation and line ends stay as they are. What comes out is read again and must say just that; where a layout does not
let itself be cut so, nothing is changed.
"""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final

from ruamel.yaml.error import YAMLError

from reconciler.model.source import LINE_BREAK, Source, read
from reconciler.model.textplaces import LAYOUT, Node, edited, line_at, lines_of, tree

_DASH: Final = re.compile(r"[ ]*-(?=\s|$)")
_BLANK: Final = re.compile(r"[ \t]*(#.*)?$")


class NotMoved(Exception):
    """The text does not let itself be edited without touching more than is meant."""


def moved_to_top(content: bytes, campaign: str, stage: str, strategy: str, *, unconditionally: bool) -> bytes:
    """The file with this strategy first in the ladder of this stage, without its `if` where that is wanted.

    Raises:
        NotMoved: the file has no such stage or strategy, or its layout does not let itself be edited.
    """
    before = read("", content)
    number = _document(before, campaign, stage)
    wanted = deepcopy([document.data for document in before.documents])
    ladder: list[dict[str, Any]] = wanted[number]["spec"]["strategies"]  # type: ignore[index]  # `_document` has looked
    rung = next((index for index, each in enumerate(ladder) if each.get("name") == strategy), None)
    if rung is None:
        raise NotMoved(f"{stage} has no strategy {strategy}")
    ladder.insert(0, ladder.pop(rung))
    if unconditionally:
        ladder[0].pop("if", None)

    def edit(text: str) -> str:
        text = _reordered(text, _ladder(text, number), rung) if rung else text
        return _without(text, _ladder(text, number).items[0], "if") if unconditionally else text

    moved = edited(content, wanted, edit)
    if moved is None:
        raise NotMoved(LAYOUT)
    return moved


def _document(source: Source, campaign: str, stage: str) -> int:
    """Which document of the file is the stage."""
    for number, document in enumerate(source.documents):
        match document.data:
            case {"kind": "Stage", "metadata": {"name": name}, "spec": {"campaign": of, "strategies": [*_]}}:
                if (name, of) == (stage, campaign) and not source.problems:
                    return number
            case _:
                pass
    raise NotMoved(f"the file does not have stage {stage} of {campaign}")


def _ladder(text: str, number: int) -> Node:
    """The list of strategies of a document."""
    try:
        return tree(text)[number].entry("spec").entry("strategies")
    except (YAMLError, IndexError, StopIteration) as error:
        raise NotMoved("its manifest cannot be edited") from error


# --- a list in another order


def _reordered(text: str, ladder: Node, rung: int) -> str:
    spans = _flow_items(text, ladder) if ladder.flow else _block_items(text, ladder)
    texts = [text[start:end] for start, end in spans]
    between = [text[end:start] for (_, end), (start, _) in pairwise(spans)]
    if not ladder.flow and not LINE_BREAK.search(texts[-1][-1:]):
        # The file ends in the middle of a line, and so it does afterwards.
        line_end = LINE_BREAK.search(text)
        assert line_end is not None  # noqa: S101  # a list of two items has one
        texts[-1] += line_end[0]
        texts.insert(0, texts.pop(rung))
        texts[-1] = texts[-1].removesuffix(line_end[0])
    else:
        texts.insert(0, texts.pop(rung))
    # What lies between two items stays above the lower one; what was above the moved one is now below it.
    between.insert(0, between.pop(rung - 1))
    joined = texts[0] + "".join(gap + item for gap, item in zip(between, texts[1:], strict=True))
    return text[: spans[0][0]] + joined + text[spans[-1][1] :]


def _block_items(text: str, ladder: Node) -> list[tuple[int, int]]:
    """Whole lines of every item, with the comments right above its dash and those that are set in below it."""
    lines = lines_of(text)
    starts = [start for start, _ in lines]
    dashes = [_dash(lines, line_at(starts, item.start)) for item in ladder.items]
    column = len(lines[dashes[0]][1]) - len(lines[dashes[0]][1].lstrip(" "))
    firsts = [_with_comments(lines, dash, column) for dash in dashes]
    after = line_at(starts, ladder.end) if ladder.end < len(text) else len(lines)
    spans = []
    for index, first in enumerate(firsts):
        last = (firsts[index + 1] if index + 1 < len(firsts) else after) - 1
        while last > dashes[index] and _is_apart(lines[last][1], column):
            last -= 1
        spans.append((starts[first], starts[last + 1] if last + 1 < len(lines) else len(text)))
    return spans


def _dash(lines: list[tuple[int, str]], line: int) -> int:
    """The line with the dash of an item whose content begins on this line."""
    while line >= 0 and not _DASH.match(lines[line][1]):
        line -= 1
    if line < 0:
        raise NotMoved("its ladder is written in an unusual way")
    return line


def _with_comments(lines: list[tuple[int, str]], dash: int, column: int) -> int:
    """The first of the comment lines that stand right above a dash, at its column; else the dash's line."""
    first = dash
    while first > 0 and lines[first - 1][1].startswith(" " * column + "#"):
        first -= 1
    return first


def _is_apart(line: str, column: int) -> bool:
    """Whether a line between two items belongs to neither: blank, or a comment that is not set in."""
    stripped = line.lstrip(" \t")
    return _BLANK.fullmatch(line) is not None and (not stripped or len(line) - len(stripped) <= column)


def _flow_items(text: str, ladder: Node) -> list[tuple[int, int]]:
    """Every item of a list in brackets, with the comment lines right above it."""
    spans, floor = [], ladder.start
    for item in ladder.items:
        above = re.search(r"(?:#[^\r\n]*(?:\r\n|\r|\n)[ \t]*)+$", text[floor : item.start])
        comment = floor + above.start() if above is not None else item.start
        own_line = LINE_BREAK.search(text[floor:comment].rpartition(",")[2]) is not None
        spans.append((comment if own_line else item.start, item.end))
        floor = item.end
    return spans


# --- a mapping without a key


def _without(text: str, mapping: Node, key: str) -> str:
    names, values = mapping.items[::2], mapping.items[1::2]
    index = next((index for index, name in enumerate(names) if name.value == key), None)
    if index is None:
        return text
    name, value = names[index], values[index]
    following = names[index + 1].start if index + 1 < len(names) else None
    if mapping.flow and following is None:
        return text[: values[index - 1].end] + text[value.end :]
    if (mapping.flow or index == 0) and following is not None:
        between = text[value.end : following]
        if mapping.flow or len(LINE_BREAK.findall(between)) == 1:
            return text[: name.start] + text[following:]
        # Comments stand below it, so the dash is left alone on its line.
        return text[: name.start] + text[value.end + len(LINE_BREAK.split(between)[0]) :]
    lines = lines_of(text)
    starts = [start for start, _ in lines]
    first, last = line_at(starts, name.start), line_at(starts, max(name.start, value.end - 1))
    end = starts[last + 1] if last + 1 < len(lines) else len(text)
    return text[: starts[first]] + text[end:]
