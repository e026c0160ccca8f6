"""The partitions of many customers at once, as `partition_of` gives them one by one.

Each hash has a lane of 64 bits in one big integer, so that every step of murmur2 is one operation for all: a
product of two numbers of 32 bits stays in its lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .publisher import partition_of

_SEED: Final = 0x9747B28C
_MIX: Final = 0x5BD1E995
_LANE: Final = 8  # bytes
_FEW: Final = 8


def partitions_of(ids: Sequence[int], partitions: int) -> list[int]:
    """The partition of each of these customers' events."""
    digits = len(str(max(ids, default=0)))
    if len(ids) < _FEW or min(ids) <= 0 or len(str(min(ids))) != digits:
        return [partition_of(b"%d" % each, partitions) for each in ids]
    text = ("%d" * len(ids) % tuple(ids)).encode()
    ones = int.from_bytes((1).to_bytes(_LANE, "little") * len(ids), "little")
    low = ones * 0xFFFFFFFF

    def chunk(first: int, last: int) -> int:
        """These bytes of each key in its lane."""
        lanes = bytearray(_LANE * len(ids))
        for place in range(first, last):
            lanes[place - first :: _LANE] = text[place::digits]
        return int.from_bytes(lanes, "little")

    h = ones * (_SEED ^ digits)
    whole = digits & ~3
    for start in range(0, whole, 4):
        k = chunk(start, start + 4) * _MIX & low
        k = (k ^ k >> 24 & ones * 0xFF) * _MIX & low
        h = (h * _MIX & low) ^ k
    if whole != digits:
        h = (h ^ chunk(whole, digits)) * _MIX & low
    h = (h ^ h >> 13 & ones * 0x7FFFF) * _MIX & low
    h = (h ^ h >> 15 & ones * 0x1FFFF) & ones * 0x7FFFFFFF
    return [each % partitions for each in memoryview(h.to_bytes(_LANE * len(ids), "little")).cast("Q")]
