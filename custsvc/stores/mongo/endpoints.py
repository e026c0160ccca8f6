"""Webhook endpoints and their secrets, in MongoDB. All times are the server's (`$$NOW`)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...errors import Conflict
from ...ports.endpoints import CHANNEL_PREFIX, EDITABLE, Endpoint, signing
from ...ports.ledger import storable
from .connection import Connection, Document, make_collection
from .records import COLLECTION as _NOTIFICATIONS
from .records import OF_CHANNEL, WAITING, literal

_COLLECTION: Final = "webhook_endpoint"
_SECRETS: Final = "webhook_secret"
_NOT_FAILING: Final = {"failing_since": None, "failure": None}
_NOT_PAUSED: Final = {"paused_on": None, "paused_by": None, "paused_why": None}


def create_webhooks(database: Database[Document]) -> None:
    """The collections of endpoints and secrets, and the index of their deliveries. May be run again."""
    make_collection(database, _COLLECTION)
    make_collection(database, _SECRETS)
    database[_SECRETS].create_index([("endpoint_id", ASCENDING), ("made_on", DESCENDING)])
    database[_NOTIFICATIONS].create_indexes(
        [
            IndexModel(
                [("channel", ASCENDING), ("created_on", DESCENDING), ("_id", DESCENDING)],
                name=OF_CHANNEL,
                partialFilterExpression={"channel": {"$gte": CHANNEL_PREFIX}},
            ),
            IndexModel(
                [("channel", ASCENDING)],
                name=WAITING,
                partialFilterExpression={"channel": {"$gte": CHANNEL_PREFIX}, "unsettled": True},
            ),
        ]
    )


class MongoEndpoints:
    """The port `Endpoints` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._rows = connection[_COLLECTION]
        self._secrets = connection[_SECRETS]

    def add(self, endpoint: Endpoint, secret: str) -> Endpoint:
        e = endpoint
        static: Document = {
            "_id": e.id,
            **_values({name: getattr(e, name) for name in EDITABLE}),
            "created_by": e.created_by,
            **_NOT_FAILING,
            **_NOT_PAUSED,
            "owner_told": False,
            "test_asked": None,
        }
        times = dict.fromkeys(("created_on", "updated_on", "secret_made_on"), "$$NOW")
        new = [{"$replaceWith": {"$mergeObjects": [{"$literal": static}, times]}}]
        # The secret first: an endpoint is never seen without one.
        with self._translated():
            self._add_secret(e.id, secret, 0.0)
            try:
                row = self._rows.find_one_and_update(
                    {"_id": e.id, "created_on": None}, new, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError as exc:
                self._secrets.delete_many({"endpoint_id": e.id, "secret": secret})
                raise Conflict(f"there is a webhook endpoint {e.id} already") from exc
        return _endpoint(row or {})

    def find(self, endpoint_id: str) -> Endpoint | None:
        with self._translated():
            row = self._rows.find_one({"_id": endpoint_id})
        return _endpoint(row) if row else None

    def all(self) -> list[Endpoint]:
        with self._translated():
            rows = self._rows.find(sort=[("created_on", ASCENDING), ("_id", ASCENDING)])
            return [_endpoint(row) for row in rows]

    def change(self, endpoint_id: str, changes: Mapping[str, Any]) -> bool:
        given = _values({name: changes[name] for name in EDITABLE if name in changes})
        step = {**{name: {"$literal": value} for name, value in given.items()}, "updated_on": "$$NOW"}
        return self._changed({"_id": endpoint_id}, step)

    def remove(self, endpoint_id: str) -> bool:
        with self._translated():
            done = self._rows.delete_one({"_id": endpoint_id}).deleted_count > 0
            self._secrets.delete_many({"endpoint_id": endpoint_id})
        return done

    def add_secret(self, endpoint_id: str, secret: str, overlap: float) -> bool:
        if not self._changed({"_id": endpoint_id}, {"secret_made_on": "$$NOW"}):
            return False
        with self._translated():
            self._add_secret(endpoint_id, secret, overlap)
        return True

    def _add_secret(self, endpoint_id: str, secret: str, overlap: float) -> None:
        new = {"endpoint_id": endpoint_id, "secret": literal(secret), "overlap": overlap, "made_on": "$$NOW"}
        # An update that inserts, because only an update knows the server's time.
        self._secrets.update_one({"_id": ObjectId()}, [{"$set": new}], upsert=True)

    def secrets(self) -> dict[str, list[str]]:
        order = [("endpoint_id", ASCENDING), ("made_on", DESCENDING), ("_id", DESCENDING)]
        with self._translated():
            rows = list(self._secrets.find(sort=order))
        return signing(
            [(r["endpoint_id"], r["secret"], r["made_on"], r["overlap"]) for r in rows], self._now()
        )

    def prune_secrets(self) -> int:
        with self._translated():
            rows = list(self._secrets.find(sort=[("made_on", DESCENDING), ("_id", DESCENDING)]))
            now = self._now()
            until: dict[str, dt.datetime] = {}
            gone = []
            for row in rows:
                endpoint = row["endpoint_id"]
                if endpoint in until and until[endpoint] < now:
                    gone.append(row["_id"])
                end = row["made_on"] + dt.timedelta(seconds=row["overlap"])
                until[endpoint] = min(end, until.get(endpoint, end))
            return self._secrets.delete_many({"_id": {"$in": gone}}).deleted_count if gone else 0

    def failed(self, endpoint_id: str, why: str, pause_after: float) -> bool:
        since = {"$ifNull": ["$failing_since", "$$NOW"]}
        pausing = {"$lte": [since, {"$subtract": ["$$NOW", round(pause_after * 1000)]}]}
        step = {
            "failing_since": since,
            "failure": literal(storable(why)),
            "paused_on": {"$cond": [pausing, "$$NOW", None]},
            "paused_why": {"$cond": [pausing, literal(storable(why)), None]},
            "owner_told": False,
        }
        with self._translated():
            row = self._rows.find_one_and_update(
                {"_id": endpoint_id, "paused_on": None},
                [{"$set": step}],
                return_document=ReturnDocument.AFTER,
            )
        return bool(row and row["paused_on"])

    def worked(self, endpoint_id: str) -> None:
        failing = {"_id": endpoint_id, "failing_since": {"$ne": None}, "paused_on": None}
        self._changed(failing, _NOT_FAILING)

    def pause(self, endpoint_id: str, why: str, by: str | None) -> bool:
        step = {
            "paused_on": "$$NOW",
            "paused_by": literal(by),
            "paused_why": literal(storable(why)),
            "owner_told": False,
        }
        return self._changed({"_id": endpoint_id, "paused_on": None}, step)

    def resume(self, endpoint_id: str) -> bool:
        return self._changed(
            {"_id": endpoint_id, "paused_on": {"$ne": None}}, {**_NOT_PAUSED, **_NOT_FAILING}
        )

    def note_owner_mailed(self, endpoint_id: str, paused_on: dt.datetime) -> None:
        self._changed({"_id": endpoint_id, "paused_on": paused_on}, {"owner_told": True})

    def ask_test(self, endpoint_id: str) -> dt.datetime | None:
        step = {"test_asked": {"$ifNull": ["$test_asked", "$$NOW"]}}
        with self._translated():
            row = self._rows.find_one_and_update(
                {"_id": endpoint_id}, [{"$set": step}], return_document=ReturnDocument.AFTER
            )
        return row["test_asked"] if row else None

    def test_queued(self, endpoint_id: str, asked: dt.datetime) -> None:
        self._changed({"_id": endpoint_id, "test_asked": asked}, {"test_asked": None})

    def _changed(self, which: Document, step: Mapping[str, Any]) -> bool:
        with self._translated():
            return self._rows.update_one(which, [{"$set": dict(step)}]).matched_count > 0

    def _now(self) -> dt.datetime:
        now: dt.datetime = self._rows.database.command("hello")["localTime"]
        return now.replace(tzinfo=dt.UTC)


def _values(fields: Mapping[str, Any]) -> Document:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _endpoint(row: Document) -> Endpoint:
    row["id"] = row.pop("_id")
    return Endpoint(**{**row, "ops": tuple(row["ops"]), "changed": tuple(row["changed"])})
