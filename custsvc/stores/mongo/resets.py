"""Password resets, in MongoDB."""

from __future__ import annotations

import datetime as dt

from pymongo import ASCENDING
from pymongo.database import Database

from ...ports.accounts import Asked
from .connection import Connection, Document, make_collection

COLLECTION = "password_reset"
_HOUR = dt.timedelta(hours=1)


def create_password_resets(database: Database[Document]) -> None:
    """The migration of password resets."""
    make_collection(database, COLLECTION)
    is_there = {"token": {"$exists": True}}
    database[COLLECTION].create_index(
        [("token", ASCENDING)], name="token", unique=True, partialFilterExpression=is_there
    )
    was_asked = {"asked_on": {"$exists": True}}
    database[COLLECTION].create_index(
        [("asked_on", ASCENDING)], name="asked", partialFilterExpression=was_asked
    )


class MongoResets:
    """The port `Resets` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._resets = connection[COLLECTION]

    def ask(self, name: str, now: dt.datetime) -> None:
        with self._connection.translated():
            self._resets.update_one({"_id": name}, {"$set": {"asked_on": now}}, upsert=True)

    def claim(self, now: dt.datetime, lease: float) -> Asked | None:
        free = {"$or": [{"leased_until": {"$exists": False}}, {"leased_until": {"$lt": now}}]}
        with self._connection.translated():
            found = self._resets.find_one_and_update(
                {"asked_on": {"$exists": True}, **free},
                {"$set": {"leased_until": now + dt.timedelta(seconds=lease)}},
                sort=[("asked_on", ASCENDING)],
            )
        return Asked(found["_id"], found["asked_on"]) if found else None

    def issue(self, name: str, token: str, expires_on: dt.datetime) -> None:
        with self._connection.translated():
            self._resets.update_one({"_id": name}, {"$set": {"token": token, "expires_on": expires_on}})

    def settle(self, asked: Asked) -> None:
        was = {"_id": asked.name, "asked_on": asked.asked_on}
        with self._connection.translated():
            if not self._resets.update_one(
                was, {"$unset": {"asked_on": "", "leased_until": ""}}
            ).matched_count:
                self._resets.update_one({"_id": asked.name}, {"$unset": {"leased_until": ""}})

    def owner(self, token: str, now: dt.datetime) -> str | None:
        with self._connection.translated():
            found = self._resets.find_one({"token": token, "expires_on": {"$gt": now}})
        return str(found["_id"]) if found else None

    def take(self, token: str, now: dt.datetime) -> str | None:
        with self._connection.translated():
            found = self._resets.find_one_and_delete({"token": token, "expires_on": {"$gt": now}})
        return str(found["_id"]) if found else None

    def drop(self, name: str) -> None:
        with self._connection.translated():
            self._resets.delete_one({"_id": name})

    def purge(self, now: dt.datetime) -> None:
        over = [
            {"$or": [{"asked_on": {"$exists": False}}, {"asked_on": {"$lt": now - _HOUR}}]},
            {"$or": [{"expires_on": {"$exists": False}}, {"expires_on": {"$lt": now}}]},
        ]
        with self._connection.translated():
            self._resets.delete_many({"$and": over})
