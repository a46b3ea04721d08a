"""What the reconciler needs to know about conversion without reading tensors: names, the program, and safe sizes.

The converter itself is `universal.py`, one self-contained file that is copied to the cluster and run there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PROGRAM = Path(__file__).with_name("universal.py")
POINTER = "latest_universal"
RECEIPT = "receipt.json"
DONE_LINE = "*** Done!"

_STEP_FOLDER = re.compile(r"global_step(0|[1-9]\d{0,11})")


def program_text() -> str:
    """The converter as text, to be shipped with a job and run as `python3 universal.py SOURCE TARGET`."""
    return PROGRAM.read_text(encoding="utf-8")


def universal_folder(step_folder: str) -> str:
    """The name of the result for a `global_stepN` folder name.

    Raises:
        ValueError: `step_folder` is not such a name.
    """
    if _STEP_FOLDER.fullmatch(step_folder) is None:
        raise ValueError(f"{step_folder!r} is not a checkpoint folder's name; it must be global_stepN")
    return f"{step_folder}_universal"


def ranks_without_elements(group_elements: int, data_parallel: int) -> int:
    """How many data-parallel ranks own no element of an optimizer group of `group_elements` elements.

    The flat buffer is padded to a multiple of twice the ranks and cut in equal shards, so a small group can end before
    the last shards begin. DeepSpeed (0.15.4 to 0.19.8) cannot load a universal checkpoint on such a rank: its loader
    takes the first entry of an empty list of steps.
    """
    if group_elements < 1 or data_parallel < 1:
        raise ValueError("a group has at least one element, and a run at least one rank")
    shard = 2 * -(-group_elements // (2 * data_parallel))
    return data_parallel - -(-group_elements // shard)


def universal_loads_at(groups_elements: Iterable[int], data_parallel: int) -> bool:
    """Whether an unpatched DeepSpeed can load a universal checkpoint of these groups at this data-parallel size."""
    return all(ranks_without_elements(elements, data_parallel) == 0 for elements in groups_elements)
