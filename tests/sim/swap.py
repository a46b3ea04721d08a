"""Attributes of modules and classes set for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def swapped(changes: Mapping[tuple[Any, str], Any]) -> Iterator[None]:
    """(owner, name) → value, within it."""
    was = {place: getattr(*place) for place in changes}
    for (owner, name), value in changes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name), value in was.items():
            setattr(owner, name, value)
