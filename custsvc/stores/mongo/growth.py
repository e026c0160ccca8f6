"""The connection to MongoDB, and the growth of its history, for `doctor`."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Final

from pymongo.errors import OperationFailure

from ...ports.store import Growth, Link
from .connection import Connection, Document

# The rate of changes is measured over this many of the last ones.
_LATE: Final = 10_000
_SIZE: Final[list[Document]] = [{"$collStats": {"storageStats": {}}}]


def link(connection: Connection) -> Link:
    """How we are connected."""
    with connection.translated():
        nodes = tuple(host for host, _ in connection.client.nodes)
    return Link(nodes, connection.encrypted)


def growth(connection: Connection) -> Growth:
    """The size of the history, and how fast it grows."""
    events = connection["customer_event"]
    with connection.translated():
        (found,) = events.aggregate(_SIZE)
        stats = found["storageStats"]
        early = list(events.find({}, {"time": 1}).sort([("$natural", -1)]).skip(_LATE).limit(1))
        came = _LATE if early else int(stats["count"])
        oldest = list(events.find({}, {"time": 1}).sort([("$natural", 1)]).limit(1))
    since = _age(early or oldest) or 0.0
    return Growth(
        int(stats["storageSize"]) + int(stats["totalIndexSize"]),
        int(stats["count"]),
        came * 86400 / since if came and since > 0 else None,
        _free(connection),
        _age(oldest),
    )


def _age(events: list[Document]) -> float | None:
    return (dt.datetime.now(dt.UTC) - events[0]["time"]).total_seconds() if events else None


def _free(connection: Connection) -> int | None:
    """The server's free space, if the account may ask for it."""
    with suppress(OperationFailure, KeyError):
        stats = connection.database.command("dbStats")
        return int(stats["fsTotalSize"]) - int(stats["fsUsedSize"])
    return None
