"""Checkpoint files: written with DeepSpeed's class names without DeepSpeed, read with known classes only."""

from __future__ import annotations

import argparse
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from reconciler.local.trainer.partitions import Fragment

FRAGMENT_MODULE: Final = "deepspeed.utils.tensor_fragment"
FRAGMENT_CLASS: Final = "fragment_address"


class _Address:
    """What `deepspeed.utils.tensor_fragment.fragment_address` unpickles to here; its state is numel and start."""

    numel: int
    start: int


class _Pickler(pickle._Pickler):
    """Writes `Fragment` as an instance of DeepSpeed's class; everything else as usual."""

    write: Callable[[bytes], None]
    memoize: Callable[[object], None]

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is Fragment:
            self.write(pickle.GLOBAL + f"{FRAGMENT_MODULE}\n{FRAGMENT_CLASS}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)  # type: ignore[misc]  # not in the stubs


# torch subclasses `Pickler` of the module it is given; the pure-Python one lets a class be written under another name.
_WRITER: Final = types.SimpleNamespace(Pickler=_Pickler, __name__="pickle")

_reconstruct: Final[Callable[..., Any]] = np.zeros(1, np.uint32).__reduce__()[0]  # type: ignore[assignment]
_KNOWN: Final[list[Callable[..., Any] | tuple[Callable[..., Any], str]]] = [
    (_Address, f"{FRAGMENT_MODULE}.{FRAGMENT_CLASS}"),
    argparse.Namespace,
    OrderedDict,
    # What numpy's random state in `rng_state` is made of.
    _reconstruct,
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
]


class UnreadableCheckpoint(RuntimeError):
    """A checkpoint file that cannot be read or holds what a checkpoint has no use for."""


def save(value: dict[str, Any], path: Path) -> None:
    """Write straight to the final name, as DeepSpeed does: a kill meanwhile leaves a short file."""
    torch.save(value, path, pickle_module=_WRITER)


def load(path: Path) -> Any:
    """Read with tensors, plain values and the classes above, nothing else.

    Raises:
        UnreadableCheckpoint: the file is cut off, damaged, or names another class.
    """
    try:
        with torch.serialization.safe_globals(_KNOWN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as problem:  # a hostile or damaged pickle can raise anything
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise UnreadableCheckpoint(
            f"{path} cannot be read as a checkpoint: {first}. It is cut off, damaged or not ours; "
            "load an older step with --load-tag."
        ) from None


def fragment(value: Any) -> Fragment:
    """A stored fragment address as ours."""
    return Fragment(int(value.numel), int(value.start))
