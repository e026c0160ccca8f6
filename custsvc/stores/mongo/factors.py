"""Second factors of users, in MongoDB."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...ports.accounts import Factor
from .connection import Connection, Document, make_collection

COLLECTION = "second_factor"


def create_second_factors(database: Database[Document]) -> None:
    """The migration of second factors."""
    make_collection(database, COLLECTION)


class MongoFactors:
    """The port `Factors` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._factors = connection[COLLECTION]

    def find(self, name: str) -> Factor | None:
        with self._connection.translated():
            found = self._factors.find_one({"_id": name})
        return Factor(found.pop("_id"), recovery=tuple(found.pop("recovery")), **found) if found else None

    def confirmed(self) -> set[str]:
        with self._connection.translated():
            return {each["_id"] for each in self._factors.find({"confirmed_on": {"$ne": None}}, {"_id": 1})}

    def begin(self, name: str, secret: str, now: dt.datetime) -> bool:
        fields = {"secret": secret, "created_on": now, "last_step": 0, "recovery": []}
        with self._connection.translated():
            try:
                self._factors.update_one({"_id": name, "confirmed_on": None}, {"$set": fields}, upsert=True)
            except DuplicateKeyError:
                return False  # a confirmed one is there
        return True

    def confirm(self, name: str, secret: str, step: int, recovery: Sequence[str], now: dt.datetime) -> bool:
        unconfirmed = {"_id": name, "secret": secret, "confirmed_on": None}
        return self._changed(
            unconfirmed, {"$set": {"confirmed_on": now, "last_step": step, "recovery": list(recovery)}}
        )

    def use_step(self, name: str, step: int) -> bool:
        return self._changed({"_id": name, "last_step": {"$lt": step}}, {"$set": {"last_step": step}})

    def use_recovery(self, name: str, code: str) -> bool:
        return self._changed({"_id": name, "recovery": code}, {"$pull": {"recovery": code}})

    def renew(self, name: str, recovery: Sequence[str]) -> bool:
        return self._changed(
            {"_id": name, "confirmed_on": {"$ne": None}}, {"$set": {"recovery": list(recovery)}}
        )

    def remove(self, name: str) -> bool:
        with self._connection.translated():
            return self._factors.delete_one({"_id": name}).deleted_count > 0

    def _changed(self, where: Document, change: Document) -> bool:
        with self._connection.translated():
            return self._factors.update_one(where, change).matched_count > 0
