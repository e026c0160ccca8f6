"""Facts about a database in MongoDB."""

from __future__ import annotations

import re

from .connection import Connection


class MongoFacts:
    """The port `Facts` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._meta = connection["custsvc_meta"]

    def get(self, name: str) -> str | None:
        with self._connection.translated():
            found = self._meta.find_one({"_id": name})
        return str(found["value"]) if found else None

    def keep(self, name: str, value: str) -> str:
        return self._connection.keep(name, value)

    def put(self, name: str, value: str) -> None:
        with self._connection.translated():
            self._meta.update_one({"_id": name}, {"$set": {"value": value}}, upsert=True)

    def drop(self, name: str) -> None:
        with self._connection.translated():
            self._meta.delete_one({"_id": name})

    def drop_all(self, prefix: str) -> int:
        with self._connection.translated():
            return self._meta.delete_many({"_id": {"$regex": "^" + re.escape(prefix)}}).deleted_count

    def all(self, prefix: str) -> dict[str, str]:
        with self._connection.translated():
            found = self._meta.find({"_id": {"$regex": "^" + re.escape(prefix)}})
            return {str(each["_id"]): str(each["value"]) for each in found}
