"""Splits items into batches of a size that a database accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`items` in slices of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
