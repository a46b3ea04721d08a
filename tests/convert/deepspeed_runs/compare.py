"""Two universal folders beside each other, read with DeepSpeed's own classes."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reconciler.convert.layout import RECEIPT


def differences(one: Path, other: Path) -> list[str]:
    """What differs in the files of two universal folders, but for the receipt, which only our converter writes."""
    names = [
        {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {RECEIPT} for root in (one, other)
    ]
    found = [f"{name} is in one only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if name.startswith("mp_rank_"):
            found += [] if (one / name).read_bytes() == (other / name).read_bytes() else [f"{name}: other bytes"]
        else:
            contents = (torch.load(root / name, weights_only=False) for root in (one, other))
            found += [f"{name}: {where}" for where in unlike(*contents)]
    return found


def unlike(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Places in two structures where class, shape, type or any bit differs."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__}, {type(other).__name__}"
    elif isinstance(one, torch.Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            yield f"{where}: {one.dtype} {tuple(one.shape)}, {other.dtype} {tuple(other.shape)}"
        elif digest(one) != digest(other):
            yield f"{where}: other values"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{where}: keys {list(one)}, {list(other)}"
        for key in one.keys() & other.keys():
            yield from unlike(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{where}: {len(one)} items, {len(other)}"
        for number, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from unlike(left, right, f"{where}/{number}")
    elif hasattr(one, "__dict__") and not isinstance(one, enum.Enum):
        yield from unlike(vars(one), vars(other), where)
    elif one != other:
        yield f"{where}: {one!r}, {other!r}"


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 of the values."""
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()
