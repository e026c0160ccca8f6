"""A second collection that is filled while the copy goes on serving, and then takes its place.

A rename is atomic, but no part of a transaction. So the copy is marked first: whoever applies a batch looks
at the mark within its transaction and stops, and whoever begins anew finishes a swap that was cut off. Each
shadow has a name of its own, so that a process which slept through the end of one swap does not rename the
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
    """Whether nobody else fills a shadow of this copy; the lock ends with the block, or after the process."""
    deadline = time.monotonic() + _LEASE + 1
    while True:
        with Lease(connection, "custsvc_meta", Fact.REBUILD_LEASE, _LEASE).held() as ours:
            # That of a process which was killed ends soon.
            if ours or time.monotonic() > deadline:
                yield ours
                return
        time.sleep(0.2)


def make(connection: Connection) -> str:
    """The shadow, as it was left, with the copy's indexes; its name."""
    # A swap that was cut off has its shadow still.
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
    """No batch that begins from here on is applied.

    One that has begun may still be. It is made of records that were on the topic by now, so a shadow which
    then reads up to the topic's ends has them too.
    """
    after = {"$toString": {"$add": [{"$toLong": {"$ifNull": ["$value", "0"]}}, 1]}}
    with connection.translated():
        connection["custsvc_meta"].update_one(
            {"_id": Fact.GENERATION}, [{"$set": {"value": after, "until": _until(seconds)}}], upsert=True
        )


def _until(seconds: float) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(seconds * 1000)]}


def is_held(connection: Connection) -> bool:
    """Whether the copy is about to be swapped. A hold ends by itself: whoever holds may be killed."""
    with connection.translated():
        return connection["custsvc_meta"].find_one(_HELD) is not None


_HELD: Final[dict[str, Any]] = {"_id": Fact.GENERATION, "$expr": {"$gt": ["$until", "$$NOW"]}}


def swap(connection: Connection, topic: str, *, anyway: bool) -> bool:
    """Put the shadow in the copy's place, with its positions.

    False where the copy is further, or may come to be: where it is not held, or no longer.
    """
    meta = connection["custsvc_meta"]
    with connection.translated():
        held, shadow = meta.find_one(_HELD), meta.find_one({"_id": Fact.SHADOW})
        if held is None or shadow is None:
            return False
        live, filled = positions(connection, topic), positions(connection, PREFIX + topic)
        if not anyway and any(offset > filled.get(part, 0) for part, offset in live.items()):
            return False
        # Whoever lists the copy may have given it indexes since the shadow was made.
        _copy_indexes(connection, str(shadow["value"]))
        before = str(held["value"])
        # The point of no return, and only while nobody applies: from here on whoever comes finishes it.
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
    """Do what is left of a swap that has begun; nothing where none has."""
    with connection.translated():
        found = connection["custsvc_meta"].find_one({"_id": Fact.GENERATION})
        if found is None or not str(found["value"]).startswith(_SWAPPING):
            return
        mark = str(found["value"])
        name, topic = mark.removeprefix(_SWAPPING).split(" ", 1)
        try:
            connection[name].rename("customer", dropTarget=True)
        except OperationFailure as exc:
            # Renamed already, by us before we were cut off or by another process.
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
    """How far a copy is; with `PREFIX` before the topic, its shadow."""
    return {
        int(each["_id"]["partition"]): int(each["next"])
        for each in connection["position"].find({"_id.topic": topic})
    }
