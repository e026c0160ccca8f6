"""API keys in MongoDB."""

from __future__ import annotations

import datetime as dt

from pymongo import ASCENDING
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...errors import Conflict
from ...ports.accounts import ApiKey
from .connection import Connection, Document, make_collection


def create_keys(database: Database[Document]) -> None:
    """The migration of API keys."""
    make_collection(database, "api_key")


class MongoKeys:
    """The port `Keys` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection["api_key"]

    def add(self, key: ApiKey) -> None:
        document = {
            "_id": key.prefix,
            "sha256": key.sha256,
            "name": key.name,
            "role": key.role,
            "created_on": key.created_on,
            "expires_on": key.expires_on,
            "revoked_on": key.revoked_on,
        }
        with self._connection.translated():
            try:
                self._keys.insert_one(document)
            except DuplicateKeyError as exc:
                raise Conflict(f"there is a key {key.prefix} already") from exc

    def find(self, prefix: str) -> ApiKey | None:
        with self._connection.translated():
            found = self._keys.find_one({"_id": prefix})
        return _key(found) if found else None

    def all(self) -> list[ApiKey]:
        with self._connection.translated():
            return [
                _key(each) for each in self._keys.find(sort=[("created_on", ASCENDING), ("_id", ASCENDING)])
            ]

    def revoke(self, prefix: str, now: dt.datetime) -> bool:
        live = {
            "_id": prefix,
            "revoked_on": None,
            "$or": [{"expires_on": None}, {"expires_on": {"$gt": now}}],
        }
        with self._connection.translated():
            return self._keys.update_one(live, {"$set": {"revoked_on": now}}).modified_count > 0


def _key(found: Document) -> ApiKey:
    prefix = found.pop("_id")
    return ApiKey(prefix, **found)
