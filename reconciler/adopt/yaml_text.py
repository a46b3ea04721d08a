"""Nested values, some of which say where they are from → YAML with that as comments. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from reconciler.adopt.facts import Fact

LINE_CHARS: Final = 118
COMMENT_AT: Final = 40
"""Column of comments behind short values."""

Tree = Mapping[str, "Any"]


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
        plain, source = (value.value, value.source) if isinstance(value, Fact) else (value, "")
        found[key] = _node(plain, indent + 2)
        if source:
            _comment(found, key, plain, source, indent)
    return found


def _node(value: Any, indent: int) -> Any:
    if isinstance(value, Mapping):
        return _commented(value, indent)
    if isinstance(value, (list, tuple)):
        items = CommentedSeq(_node(item, indent + 2) for item in value)
        if not any(isinstance(item, Mapping) for item in value):
            items.fa.set_flow_style()
        return items
    return value


def _comment(found: CommentedMap, key: str, value: object, source: str, indent: int) -> None:
    """Behind the value, or above it where the line would be too long."""
    width = indent + len(key) + 2 + len(str(value))
    if max(width + 2, COMMENT_AT) + 2 + len(source) <= LINE_CHARS:
        found.yaml_add_eol_comment(source, key, column=max(width + 2, COMMENT_AT))
    else:
        found.yaml_set_comment_before_after_key(key, before=source, indent=indent)
