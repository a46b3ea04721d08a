"""CRC-32 of a whole, put together from those of its parts: each byte is summed once, in whatever order it is read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache

POLYNOMIAL = 0xEDB88320
ONE = 1 << 31


def times(first: int, second: int) -> int:
    """The product of two polynomials modulo that of CRC-32; the highest bit is the power zero."""
    result = 0
    while first:
        if first & ONE:
            result ^= second
        first = (first << 1) & 0xFFFFFFFF
        second = (second >> 1) ^ (POLYNOMIAL if second & 1 else 0)
    return result


@lru_cache(maxsize=4096)
def behind(count: int) -> int:
    """What a CRC is multiplied by when `count` bytes follow: x to the power of eight times `count`."""
    result, power = ONE, 1 << 23
    while count:
        if count & 1:
            result = times(power, result)
        power, count = times(power, power), count >> 1
    return result


def joined(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of parts one after the other, each given as (its CRC-32, its bytes)."""
    whole = 0
    for checksum, count in parts:
        whole = times(behind(count), whole) ^ checksum
    return whole


def checksum(data: bytes | memoryview, so_far: int = 0) -> int:
    return zlib.crc32(data, so_far)
