"""A second collection that is filled while the copy goes on serving, and then takes its place.

A rename is atomic, but cannot be part of a transaction. So the copy is marked first: a process that applies a
batch sees the mark within its transaction and stops, and the next process to begin finishes an interrupted
swap. Each shadow has a unique name, so that a process which was suspended during one swap does not rename the
shadow of the next.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from ...ports.facts import Fact
from ...runtime import crash
from .connection import Connection
from .lease import Lease

PREFIX: Final = "shadow:"
_SWAPPING = "swapping "
_LEASE = 3.0
_NO_SUCH_COLLECTION = 26


@contextmanager
def alone(connection: Connection) -> Iterator[bool]:
    """Lock the filling of this copy's shadow; yields False if it is taken. Ends with the block or process."""
    deadline = time.monotonic() + _LEASE + 1
    while True:
        with Lease(connection, "custsvc_meta", Fact.REBUILD_LEASE, _LEASE).held() as ours:
            # The lease of a killed process ends soon.
            if ours or time.monotonic() > deadline:
                yield ours
                return
        time.sleep(0.2)


def make(connection: Connection) -> str:
    """Make the shadow, or keep it as it was left, with the copy's indexes; return its name."""
    # An interrupted swap still has its shadow.
    finish(connection)
    name = connection.keep(Fact.SHADOW, f"customer_shadow_{uuid.uuid4().hex[:8]}")
    _copy_indexes(connection, name)
    return name


def _copy_indexes(connection: Connection, name: str) -> None:
    with connection.translated():
        for index in connection["customer"].list_indexes():
            options = {key: value for key, value in index.items() if key not in ("v", "key", "ns")}
            if options["name"] != "_id_":
                connection[name].create_index(list(index["key"].items()), **options)


def drop(connection: Connection) -> None:
    finish(connection)
    meta = connection["custsvc_meta"]
    with connection.translated():
        if found := meta.find_one({"_id": Fact.SHADOW}):
            connection[str(found["value"])].drop()
        connection["position"].delete_many({"_id.topic": {"$regex": "^" + PREFIX}})
        meta.delete_one({"_id": Fact.SHADOW})


def hold(connection: Connection, seconds: float) -> None:
    """Stop applying: no batch that begins from here on is applied.

    A batch that has begun may still be applied. Its records are already on the topic, so a shadow that then
    reads up to the topic's ends has them too.
    """
    after = {"$toString": {"$add": [{"$toLong": {"$ifNull": ["$value", "0"]}}, 1]}}
    with connection.translated():
        connection["custsvc_meta"].update_one(
            {"_id": Fact.GENERATION}, [{"$set": {"value": after, "until": _until(seconds)}}], upsert=True
        )


def _until(seconds: float) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(seconds * 1000)]}


def is_held(connection: Connection) -> bool:
    """Whether the copy is held for a swap. A hold expires by itself: its process may be killed."""
    with connection.translated():
        return connection["custsvc_meta"].find_one(_HELD) is not None


_HELD: Final[dict[str, Any]] = {"_id": Fact.GENERATION, "$expr": {"$gt": ["$until", "$$NOW"]}}


def swap(connection: Connection, topic: str, *, anyway: bool) -> bool:
    """Replace the copy by the shadow, with its positions.

    False if the copy is further, or could become so because it is not held, or no longer.
    """
    meta = connection["custsvc_meta"]
    with connection.translated():
        held, shadow = meta.find_one(_HELD), meta.find_one({"_id": Fact.SHADOW})
        if held is None or shadow is None:
            return False
        live, filled = positions(connection, topic), positions(connection, PREFIX + topic)
        if not anyway and any(offset > filled.get(part, 0) for part, offset in live.items()):
            return False
        # A role with lists may have added indexes to the copy since the shadow was made.
        _copy_indexes(connection, str(shadow["value"]))
        before = str(held["value"])
        # The point of no return, only while the copy is held: from here on the next process finishes it.
        marked = meta.update_one(
            {**_HELD, "value": before},
            {"$set": {"value": f"{_SWAPPING}{shadow['value']} {topic}", "before": before}},
        )
        if not marked.modified_count:
            return False
    crash.point("rebuild.swapping")
    finish(connection)
    return True


def finish(connection: Connection) -> None:
    """Finish a swap that has begun, if any."""
    with connection.translated():
        found = connection["custsvc_meta"].find_one({"_id": Fact.GENERATION})
        if found is None or not str(found["value"]).startswith(_SWAPPING):
            return
        mark = str(found["value"])
        name, topic = mark.removeprefix(_SWAPPING).split(" ", 1)
        try:
            connection[name].rename("customer", dropTarget=True)
        except OperationFailure as exc:
            # Renamed already, by us before an interruption or by another process.
            if exc.code != _NO_SUCH_COLLECTION:
                raise
    crash.point("rebuild.renamed")
    connection.transaction(lambda session: _move_positions(connection, mark, topic, session))


def _move_positions(connection: Connection, mark: str, topic: str, session: ClientSession) -> None:
    meta, places = connection["custsvc_meta"], connection["position"]
    found = meta.find_one({"_id": Fact.GENERATION, "value": mark}, session=session)
    if found is None:
        return
    filled = list(places.find({"_id.topic": PREFIX + topic}, session=session))
    places.delete_many({"_id.topic": {"$in": [topic, PREFIX + topic]}}, session=session)
    if filled:
        moved = [{**each, "_id": {**each["_id"], "topic": topic}} for each in filled]
        places.insert_many(moved, session=session)
    meta.delete_one({"_id": Fact.SHADOW}, session=session)
    after = {"$set": {"value": str(int(found["before"]) + 1)}, "$unset": {"until": "", "before": ""}}
    meta.update_one({"_id": Fact.GENERATION}, after, session=session)


def positions(connection: Connection, topic: str) -> dict[int, int]:
    """A copy's positions; those of its shadow with `PREFIX` before the topic."""
    return {
        int(each["_id"]["partition"]): int(each["next"])
        for each in connection["position"].find({"_id.topic": topic})
    }
