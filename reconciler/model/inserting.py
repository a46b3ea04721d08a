"""A stage added to a campaign's list in the text of its manifest, with every other byte kept.

The name is put where the parser says that an item ends. What comes out is read again and must say just that; where a
layout does not let itself be edited so, nothing is changed.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final

from ruamel.yaml.error import YAMLError

from reconciler.model.source import LINE_BREAK, Source, read
from reconciler.model.textplaces import LAYOUT, Node, edited, line_at, lines_of, tree

_ITEM: Final = re.compile(r"[ ]*-[ ]+")


class NotInserted(Exception):
    """The text does not let itself be edited without touching more than is meant."""


def with_stage(content: bytes, campaign: str, stage: str, after: str) -> bytes:
    """The file with this stage listed right behind another one of this campaign.

    Raises:
        NotInserted: the file has no such campaign or stage, or its layout does not let itself be edited.
    """
    before = read("", content)
    number = _document(before, campaign)
    wanted = deepcopy([document.data for document in before.documents])
    listed: list[Any] = wanted[number]["spec"]["stages"]  # type: ignore[index]  # `_document` has looked
    if after not in listed:
        raise NotInserted(f"{campaign} does not list stage {after}")
    at = listed.index(after)
    listed.insert(at + 1, stage)

    def edit(text: str) -> str:
        try:
            stages = tree(text)[number].entry("spec").entry("stages")
        except (YAMLError, IndexError, StopIteration) as error:
            raise NotInserted("its manifest cannot be edited") from error
        item = stages.items[at]
        return _in_brackets(text, item, stage) if stages.flow else _on_a_line(text, item, stage)

    listing = edited(content, wanted, edit)
    if listing is None:
        raise NotInserted(LAYOUT)
    return listing


def _document(source: Source, campaign: str) -> int:
    """Which document of the file is the campaign."""
    for number, document in enumerate(source.documents):
        match document.data:
            case {"kind": "Campaign", "metadata": {"name": name}, "spec": {"stages": [*_]}} if name == campaign:
                if not source.problems:
                    return number
            case _:
                pass
    raise NotInserted(f"the file does not have campaign {campaign}")


def _in_brackets(text: str, item: Node, stage: str) -> str:
    return f"{text[: item.end]}, {stage}{text[item.end :]}"


def _on_a_line(text: str, item: Node, stage: str) -> str:
    """A line of its own behind the item's, with the same dash; the item's comment stays with the item."""
    lines = lines_of(text)
    starts = [start for start, _ in lines]
    line = line_at(starts, item.start)
    dash = _ITEM.match(lines[line][1])
    if dash is None or starts[line] + dash.end() != item.start:
        raise NotInserted("its stages are written in an unusual way")
    line_end = LINE_BREAK.search(text)
    between = line_end[0] if line_end is not None else "\n"
    if line + 1 < len(lines):
        return f"{text[: starts[line + 1]]}{dash[0]}{stage}{between}{text[starts[line + 1] :]}"
    ended = LINE_BREAK.search(text[-1:]) is not None
    return f"{text}{dash[0]}{stage}{between}" if ended else f"{text}{between}{dash[0]}{stage}"
