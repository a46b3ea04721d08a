"""At which data-parallel sizes DeepSpeed can load a universal checkpoint."""

from __future__ import annotations

from collections.abc import Iterable


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


def sizes_nearby(groups_elements: Iterable[int], data_parallel: int) -> tuple[int, int | None]:
    """The nearest data-parallel sizes below and above that load; above only if there is one within twice the size."""
    groups = list(groups_elements)
    below = next(size for size in range(data_parallel, 0, -1) if universal_loads_at(groups, size))
    larger = range(data_parallel, 2 * data_parallel + 1)
    return below, next((size for size in larger if universal_loads_at(groups, size)), None)
