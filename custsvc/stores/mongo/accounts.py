"""Users, sessions and sign-in attempts, in MongoDB."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...errors import Conflict
from ...ports.accounts import Session, User
from .connection import Connection, Document, make_collection


def create_accounts(database: Database[Document]) -> None:
    """The migration of users, sessions and sign-in attempts."""
    for name in ("app_user", "web_session", "sign_in_try"):
        make_collection(database, name)
    database["web_session"].create_index([("subject", ASCENDING)])
    database["web_session"].create_index([("created_on", ASCENDING)])


class MongoUsers:
    """The port `Users` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._users = connection["app_user"]

    def add(self, user: User) -> None:
        with self._connection.translated():
            try:
                self._users.insert_one({"_id": user.name, **_stored(user)})
            except DuplicateKeyError as exc:
                raise Conflict(f"there is a user {user.name} already") from exc

    def find(self, name: str) -> User | None:
        with self._connection.translated():
            found = self._users.find_one({"_id": name})
        return _user(found) if found else None

    def all(self) -> list[User]:
        with self._connection.translated():
            return [_user(each) for each in self._users.find(sort=[("_id", ASCENDING)])]

    def replace(self, user: User) -> bool:
        kept = {name: value for name, value in _stored(user).items() if name != "created_on"}
        gone: Document = {} if user.email else {"$unset": {"email": ""}}
        with self._connection.translated():
            return self._users.update_one({"_id": user.name}, {"$set": kept, **gone}).matched_count > 0

    def remove(self, name: str) -> bool:
        with self._connection.translated():
            return self._users.delete_one({"_id": name}).deleted_count > 0


class MongoSessions:
    """The port `Sessions` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sessions = connection["web_session"]
        self._tries = connection["sign_in_try"]

    def add(self, session: Session) -> None:
        with self._connection.translated():
            self._sessions.insert_one({"_id": session.id, **_without(asdict(session), "id")})

    def find(self, session_id: str) -> Session | None:
        with self._connection.translated():
            found = self._sessions.find_one({"_id": session_id})
        return Session(found.pop("_id"), **found) if found else None

    def all(self) -> list[Session]:
        with self._connection.translated():
            rows = self._sessions.find(sort=[("seen_on", DESCENDING), ("_id", ASCENDING)])
            return [Session(row.pop("_id"), **row) for row in rows]

    def seen(self, session_id: str, now: dt.datetime) -> None:
        with self._connection.translated():
            self._sessions.update_one({"_id": session_id}, {"$max": {"seen_on": now}})

    def remove(self, session_id: str) -> None:
        with self._connection.translated():
            self._sessions.delete_one({"_id": session_id})

    def remove_of(self, subject: str) -> int:
        with self._connection.translated():
            return self._sessions.delete_many({"subject": subject}).deleted_count

    def purge(self, created_before: dt.datetime) -> None:
        with self._connection.translated():
            self._sessions.delete_many({"created_on": {"$lt": created_before}})
            self._tries.delete_many({"since": {"$lt": created_before}})

    def count_try(self, key: str, now: dt.datetime, window: float) -> int:
        # A missing `since` is null, which is less than any time: so the first attempt begins a window too.
        over = {"$lt": ["$since", now - dt.timedelta(seconds=window)]}
        step = {
            "count": {"$cond": [over, 1, {"$add": ["$count", 1]}]},
            "since": {"$cond": [over, now, "$since"]},
        }
        with self._connection.translated():
            found = self._tries.find_one_and_update(
                {"_id": key}, [{"$set": step}], upsert=True, return_document=ReturnDocument.AFTER
            )
        return int(found["count"]) if found else 1

    def forget_tries(self, key: str) -> None:
        with self._connection.translated():
            self._tries.delete_one({"_id": key})


def _without(fields: Document, name: str) -> Document:
    return {key: value for key, value in fields.items() if key != name}


def _stored(user: User) -> Document:
    """A user as stored. One without an address has no such field, so the release before can read it."""
    fields = _without(asdict(user), "name")
    return fields if user.email else _without(fields, "email")


def _user(found: Document) -> User:
    return User(found.pop("_id"), **found)
