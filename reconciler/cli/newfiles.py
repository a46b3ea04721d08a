"""Files that are written for a person: manifests, every one or none, and none over what is there; other files whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler.cli.telling import fail
from reconciler.model.faults import Fault

ANOTHER = "Name another folder"


def must_be_free(folder: Path, names: Iterable[str], fix: str = ANOTHER) -> None:
    """Exits with status 1 where one of the files exists."""
    there = next((name for name in names if os.path.lexists(folder / name)), None)
    if there is not None:
        fail(Fault.NOT_WRITTEN, f"{folder / there} exists, and is not written over", fix)


def write_new(folder: Path, texts: Mapping[str, str], fix: str = ANOTHER) -> list[Path]:
    """Every file, or none with exit status 1; what is there is never written over."""
    must_be_free(folder, texts, fix)
    made: list[Path] = []
    try:
        for name, text in texts.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8", newline="") as file:
                made.append(target)
                file.write(text)
    except OSError as error:
        unwrite(made)
        fail(Fault.NOT_WRITTEN, f"{error.filename or folder} cannot be written: {error.strerror}; nothing was", fix)
    return made


def unwrite(made: Iterable[Path]) -> None:
    """Take back what `write_new` wrote; folders that it made stay."""
    for target in made:
        target.unlink(missing_ok=True)


def replace_whole(path: Path, data: bytes) -> None:
    """A file with exactly these bytes, in place of what has its name; never half of them, and what was there is kept if
    they cannot be written.

    Raises:
        OSError: they cannot.
    """
    # A name of its own: of two that write at once, neither moves the half of the other.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:  # never through a link that somebody put there
            if path.exists():
                partial.chmod(path.stat().st_mode)
            file.write(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
