"""Python's garbage collector, set for a process that lives long and works in batches."""

from __future__ import annotations

import gc

# Objects that are made before the youngest are looked at. A batch of 5,000 records makes some 20,000 at once,
# none of them a cycle; with Python's own 700 it would be gone through again and again, which took a third of
# the time of reading it.
_YOUNG = 50_000


def spare_batches() -> None:
    """Make the collector rare, and what is loaded by now no business of its own.

    It spares a request of the API the pause in which all modules are gone through.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
