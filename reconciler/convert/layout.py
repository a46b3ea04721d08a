"""What the reconciler needs to know about conversion without doing any: the program and its names.

The converter is one program of the files below, joined when it is sent to a cluster and run there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from reconciler.convert.sizes import ranks_without_elements as ranks_without_elements
from reconciler.convert.sizes import universal_loads_at as universal_loads_at

PROGRAM_FILES: Final = (
    "pickles.py",
    "checksums.py",
    "torchfile.py",
    "torchwriter.py",
    "folder.py",
    "source.py",
    "merging.py",
    "rounding.py",
    "progress.py",
    "workers.py",
    "sizes.py",
    "result.py",
    "writing.py",
    "receipt.py",
    "verification.py",
    "partial.py",
    "universal.py",
)
"""In this order they are one program; the last one runs it."""
PROGRAM = Path(__file__).with_name(PROGRAM_FILES[-1])
"""Runs from here as it is, where this project is installed."""
POINTER = "latest_universal"
RECEIPT = "receipt.json"
DONE_LINE = "*** Done!"

_FUTURE = "from __future__ import annotations\n"
_STEP_FOLDER = re.compile(r"global_step(0|[1-9]\d{0,11})")


def program_text() -> str:
    """The converter as text, to be shipped with a job and run as `python3 universal.py SOURCE TARGET`."""
    texts = [PROGRAM.with_name(name).read_text(encoding="utf-8") for name in PROGRAM_FILES]
    return _FUTURE + "\n\n".join(text.replace(_FUTURE, "", 1) for text in texts)


def universal_folder(step_folder: str) -> str:
    """The name of the result for a `global_stepN` folder name.

    Raises:
        ValueError: `step_folder` is not such a name.
    """
    if _STEP_FOLDER.fullmatch(step_folder) is None:
        raise ValueError(f"{step_folder!r} is not a checkpoint folder's name; it must be global_stepN")
    return f"{step_folder}_universal"
