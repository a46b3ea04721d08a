"""Arithmetic on the numbers of tensors: rounding masters as a trainer does, and averaging slices.

Only this needs numpy, which every Python that trains has.
"""

from __future__ import annotations

import os
from typing import Any

if __name__ != "__main__":  # shipped, all are one program
    from reconciler.convert.pickles import Refused


def numpy() -> Any:
    """numpy, when it is needed; without the threads that it would start and that a fork would lose."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import numpy
    except ImportError:
        raise Refused(
            "numpy is missing from this Python, and the master weights are compared with it. Run the converter with "
            "the Python that trains, or leave the comparison out: --no-weight-check."
        ) from None
    return numpy


def rounds_to(master: bytes | memoryview, weights: bytes, dtype: str) -> bool:
    """Whether float32 numbers, rounded to nearest even, are these `weights`; a NaN is any NaN."""
    np = numpy()
    exact = np.frombuffer(master, dtype="<f4")
    if dtype == "bfloat16":
        bits = exact.view("<u4")
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        found = np.frombuffer(weights, dtype="<u2")
        differs = rounded != found
        nan = np.isnan(exact) & ((found & 0x7FFF) > 0x7F80)
    else:
        found = np.frombuffer(weights, dtype={"float16": "<f2", "float32": "<f4", "float64": "<f8"}[dtype])
        with np.errstate(over="ignore"):
            differs = exact.astype(found.dtype) != found
        nan = np.isnan(exact) & np.isnan(found)
    return not bool((differs & ~nan).any())


def average(slices: list[bytes]) -> bytes:
    """The mean of float32 tensors, summed in their order from zero, as DeepSpeed's converter does it."""
    np = numpy()
    whole = np.zeros(len(slices[0]) // 4, dtype="<f4")
    for data in slices:
        whole += np.frombuffer(data, dtype="<f4")
    whole /= np.float32(len(slices))
    return bytes(whole.tobytes())
