"""The shelf in MongoDB. A TTL index deletes what is over, some time after it."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from bson import Binary
from pymongo import ASCENDING, ReturnDocument
from pymongo.database import Database

from ...domain.customers import utc_now
from .connection import Connection, Document, make_collection

_COLLECTION: Final = "shelf"
_MOVED: Final = {"_id": {"$regex": r"^import\."}}
_MOVED_FOR: Final = dt.timedelta(days=7)


def create_shelf(database: Database[Document]) -> None:
    """The shelf. Records of imports move there, so that imports can still be undone."""
    make_collection(database, _COLLECTION)
    shelf, meta = database[_COLLECTION], database["custsvc_meta"]
    shelf.create_index([("until", ASCENDING)], expireAfterSeconds=0)
    for each in meta.find(_MOVED):
        moved = {"value": Binary(each["value"].encode()), "until": utc_now() + _MOVED_FOR}
        shelf.update_one({"_id": each["_id"]}, {"$setOnInsert": moved}, upsert=True)
        meta.delete_one({"_id": each["_id"]})


class MongoShelf:
    """The port `Shelf` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._shelf = connection[_COLLECTION]

    def get(self, name: str) -> bytes | None:
        with self._translated():
            found = self._shelf.find_one({"_id": name, "until": {"$gt": utc_now()}})
        return bytes(found["value"]) if found else None

    def keep(self, name: str, value: bytes, seconds: float) -> bytes:
        with self._translated():
            self._shelf.delete_one({"_id": name, "until": {"$lte": utc_now()}})
            kept = self._shelf.find_one_and_update(
                {"_id": name},
                {"$setOnInsert": _document(value, seconds)},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return bytes(kept["value"]) if kept else value

    def put(self, name: str, value: bytes, seconds: float) -> None:
        with self._translated():
            self._shelf.update_one({"_id": name}, {"$set": _document(value, seconds)}, upsert=True)

    def drop(self, name: str) -> None:
        with self._translated():
            self._shelf.delete_one({"_id": name})

    def drop_all(self, prefix: str) -> int:
        with self._translated():
            return self._shelf.delete_many(_beginning(prefix)).deleted_count

    def all(self, prefix: str) -> dict[str, bytes]:
        with self._translated():
            found = self._shelf.find({**_beginning(prefix), "until": {"$gt": utc_now()}})
            return {str(each["_id"]): bytes(each["value"]) for each in found}

    def names(self, prefix: str) -> list[str]:
        with self._translated():
            found = self._shelf.find({**_beginning(prefix), "until": {"$gt": utc_now()}}, {"_id": 1})
            return [str(each["_id"]) for each in found]

    def expire(self) -> int:
        with self._translated():
            return self._shelf.delete_many({"until": {"$lte": utc_now()}}).deleted_count


def _document(value: bytes, seconds: float) -> Document:
    return {"value": Binary(value), "until": utc_now() + dt.timedelta(seconds=seconds)}


def _beginning(prefix: str) -> Document:
    return {"_id": {"$regex": "^" + re.escape(prefix)}}
