"""The exact number of all customers, counted once for each state of the database.

A count reads an index over all customers, which takes some thirty times as long as a page of 100,000. So the
number is kept with the snapshot of its statement, and given again while the snapshot is the same, because two
statements with the same snapshot see the same rows. It is not kept if the snapshot has transactions in
progress: on a stand-by its text leaves out which ones these are.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from ...ports.customers import Deleted
from .connection import Connections, Statement

DELETED: Final[dict[Deleted, str]] = {"exclude": "NOT deleted", "only": "deleted", "include": "true"}
"""The conditions of the customers that are counted, listed or found."""

_COUNT: Final = {
    deleted: Statement(
        f"count_{deleted}",
        "boolean",
        f"SELECT count(*), pg_current_snapshot()::text FROM customer WHERE {condition} AND $1",  # noqa: S608
    )
    for deleted, condition in DELETED.items()
}
_SNAPSHOT: Final = Statement("snapshot", "boolean", "SELECT pg_current_snapshot()::text WHERE $1")
# Seconds, in case a restored database comes to the same number of transactions.
_KEPT: Final = 60.0
_NONE: Final = ("", 0, 0.0)


class Counts:
    """The numbers that a process knows, by which of the customers are counted."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[Deleted, tuple[str, int, float]] = {}

    def known(self, deleted: Deleted) -> int | None:
        """The number, if it was counted and nothing was written since; None otherwise."""
        snapshot, count, until = self._known.get(deleted, _NONE)
        if monotonic() > until:
            return None
        ((now,),) = self._connections.read(_SNAPSHOT, (True,))
        return count if now == snapshot else None

    def count(self, deleted: Deleted) -> int:
        """The number, by a count."""
        ((count, snapshot),) = self._connections.read(_COUNT[deleted], (True,))
        begin, end, _ = snapshot.split(":")
        if begin == end:
            self._known[deleted] = (snapshot, count, monotonic() + _KEPT)
        return int(count)
