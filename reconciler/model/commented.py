"""Nested values, some with words of their own → YAML with these as comments. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

LINE_CHARS: Final = 118
COMMENT_AT: Final = 40
"""Column of comments behind short values."""

Tree = Mapping[str, "Any"]


class InLine(dict[str, Any]):
    """A mapping that is written in one line, `{…}`; nothing in it has a comment."""


@runtime_checkable
class Said(Protocol):
    """A value, which may be a tree of its own, and what a comment beside it says."""

    @property
    def value(self) -> Any:
        """What YAML holds."""

    @property
    def comment(self) -> str:
        """One line; none where it is empty."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The plainest `Said`."""

    value: Any
    comment: str


def plain(tree: Tree) -> dict[str, Any]:
    """Without its comments, as far as they are on its own fields: for what was explained before."""
    return {key: value.value if isinstance(value, Said) else value for key, value in tree.items()}


def documents(trees: Sequence[Tree], heading: str) -> str:
    """Documents of one file under a heading, which becomes comment lines."""
    yaml = YAML()
    yaml.width = 4096  # a line that is broken would part a value from its comment
    yaml.indent(mapping=2, sequence=4, offset=2)
    texts = []
    for tree in trees:
        out = io.StringIO()
        yaml.dump(_commented(tree, 0), out)
        texts.append(out.getvalue())
    return "".join(f"{line}\n" for line in heading.splitlines()) + "---\n".join(texts)


def _commented(tree: Tree, indent: int) -> CommentedMap:
    found = CommentedMap()
    for key, value in tree.items():
        plain, comment = (value.value, value.comment) if isinstance(value, Said) else (value, "")
        found[key] = _node(plain, indent + 2)
        if comment:
            _comment(found, key, plain, comment, indent)
    return found


def _node(value: Any, indent: int) -> Any:
    if isinstance(value, InLine):
        line = CommentedMap({key: _in_brackets(item) for key, item in value.items()})
        line.fa.set_flow_style()
        return line
    if isinstance(value, Mapping):
        return _commented(value, indent)
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, Mapping) for item in value):
            return CommentedSeq(_node(item, indent + 2) for item in value)
        items = CommentedSeq(map(_in_brackets, value))
        items.fa.set_flow_style()
        return items
    return value


def _in_brackets(value: Any) -> Any:
    """A text with a colon is no plain one within brackets for every reader."""
    return DoubleQuotedScalarString(value) if isinstance(value, str) and ":" in value else value


def _comment(found: CommentedMap, key: str, value: object, comment: str, indent: int) -> None:
    """Behind the value, or above it where the line would be too long or the value is a tree."""
    width = indent + len(key) + 2 + len(str(value))
    if max(width + 2, COMMENT_AT) + 2 + len(comment) <= LINE_CHARS and not isinstance(value, Mapping):
        found.yaml_add_eol_comment(comment, key, column=max(width + 2, COMMENT_AT))
    else:
        found.yaml_set_comment_before_after_key(key, before=comment, indent=indent)
