"""Whether a database that follows another one holds what a client has seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from ...ports.customers import CustomerStore

_LOOK_EVERY: Final = 0.02


def arrived(customers: CustomerStore, wanted: Mapping[int, int], patience: float) -> bool:
    """Whether each customer has at least its wanted version, within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found = customers.get_many(list(wanted))
        if all(each in found and found[each].version >= version for each, version in wanted.items()):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY)
