"""Documents from what every Python installation carries: its language reference, its docstrings, its source.

Only modules that Debian's `python3` also has are read, so that installations agree as far as their versions do.
Docstrings and comment blocks are cut from program source: no text is in two datasets.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Tests, tools with packages of their own on Debian, and generated tables.
SKIPPED: Final = frozenset(
    [
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "tkinter",
        "distutils",
        "ensurepip",
        "turtledemo",
        "site-packages",
        "dist-packages",
        "encodings",
        "pydoc_data",
        "venv",
        "__pycache__",
    ]
)
SOURCE_BYTES_MAX: Final = 8_000_000
"""Source files are read in name order up to this many bytes: a build must stay within seconds."""
CODE_CHARACTERS_MAX: Final = 900_000
"""Of each kind of code; no campaign on one machine reads more."""
DOCUMENT_CHARACTERS_MIN: Final = 64
CHUNK_CHARACTERS: Final = 1_500


@dataclass(frozen=True)
class Harvest:
    """Documents of one pass over the standard library."""

    module_docs: list[str]
    class_docs: list[str]
    library_docs: list[str]
    package_docs: list[str]
    library_code: list[str]
    package_code: list[str]


def topics() -> list[str]:
    """The language reference that `help()` shows, cut at paragraphs into documents of about 1 500 characters."""
    from pydoc_data import topics as reference

    texts: dict[str, str] = reference.topics
    return [chunk for name in sorted(texts) for chunk in chunks(texts[name])]


def harvest(share: float = 1.0) -> Harvest:
    """Read that share of the standard library once; in name order, without what does not parse."""
    found = Harvest([], [], [], [], [], [])
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in _modules(root, int(SOURCE_BYTES_MAX * share)):
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        is_library = path.parent == root
        docs = _docstrings(tree)
        for node, doc in docs:
            match node:
                case ast.Module():
                    found.module_docs.extend(chunks(doc))
                case ast.ClassDef():
                    found.class_docs.extend(chunks(doc))
                case _:
                    (found.library_docs if is_library else found.package_docs).extend(chunks(doc))
        code = found.library_code if is_library else found.package_code
        if sum(map(len, code)) < CODE_CHARACTERS_MAX * share:
            code.extend(_pieces_of_code(text, tree, docs))
    return found


def chunks(text: str, characters: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Cut at blank lines into documents of about `characters`; what is too short to be a text is left out."""
    parts: list[str] = []
    length = 0
    for paragraph in text.strip().split("\n\n"):
        if length and length + len(paragraph) > characters:
            yield "\n\n".join(parts) + "\n"
            parts, length = [], 0
        parts.append(paragraph)
        length += len(paragraph)
    if length >= DOCUMENT_CHARACTERS_MIN:
        yield "\n\n".join(parts) + "\n"


def _modules(root: Path, budget: int) -> Iterator[Path]:
    """Alternating between top-level modules and packages, so that a cut keeps some of both."""
    top = sorted(path for path in root.glob("*.py") if not path.name.startswith("_sysconfigdata"))
    inner = sorted(path for path in root.rglob("*.py") if path.parent != root and _is_kept(path.relative_to(root)))
    for number in range(max(len(top), len(inner))):
        for paths in (top, inner):
            if number < len(paths):
                budget -= paths[number].stat().st_size
                if budget < 0:
                    return
                yield paths[number]


def _is_kept(path: Path) -> bool:
    return SKIPPED.isdisjoint(path.parts)


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _docstrings(tree: ast.Module) -> list[tuple[_Documented, str]]:
    found: list[tuple[_Documented, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            if doc:
                found.append((node, inspect.cleandoc(doc)))
    return found


def _pieces_of_code(text: str, tree: ast.Module, docs: list[tuple[_Documented, str]]) -> Iterator[str]:
    """Every function and class at the top of a module, without docstrings and comment lines."""
    lines = text.splitlines()
    dropped = {number for number, line in enumerate(lines) if line.lstrip().startswith("#")}
    for documented, _ in docs:
        first = documented.body[0]
        dropped.update(range(first.lineno - 1, first.end_lineno or first.lineno))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [lines[i] for i in range(node.lineno - 1, node.end_lineno or node.lineno) if i not in dropped]
            yield from _blocks(kept)


def _blocks(lines: list[str]) -> Iterator[str]:
    """Cut long definitions between lines into documents of about 1 500 characters."""
    block: list[str] = []
    length = 0
    for line in lines:
        if length > CHUNK_CHARACTERS and line.lstrip().startswith(("def ", "async def ", "class ", "@")):
            yield "\n".join(block) + "\n"
            block, length = [], 0
        block.append(line)
        length += len(line) + 1
    if length >= DOCUMENT_CHARACTERS_MIN:
        yield "\n".join(block) + "\n"
