"""Answers under idempotency keys in MongoDB. A TTL index deletes them when they are a day old."""

from __future__ import annotations

import datetime as dt

from pymongo import ASCENDING
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ...errors import KeyTaken
from ...ports.answers import ANSWER_KEPT, Answer
from .connection import Connection, Document, make_collection

_COLLECTION = "answer"


def create_answers(database: Database[Document]) -> None:
    """The migration of answers."""
    make_collection(database, _COLLECTION)
    database[_COLLECTION].create_index(
        [("created_on", ASCENDING)], expireAfterSeconds=int(ANSWER_KEPT.total_seconds())
    )


class MongoAnswers:
    """The port `Answers` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers = connection[_COLLECTION]

    def find(self, principal: str, key: str, now: dt.datetime) -> Answer | None:
        with self._connection.translated():
            found = self._answers.find_one({"_id": _id(principal, key)})
            if found is None:
                return None
            if found["created_on"] > now - ANSWER_KEPT:
                return Answer(
                    principal, key, bytes(found["request"]), found["body"].encode(), found["created_on"]
                )
            # An expired answer must not block the key for a new one; the TTL monitor runs too rarely.
            self._answers.delete_one({"_id": found["_id"], "created_on": found["created_on"]})
            return None

    def add(self, answer: Answer) -> None:
        with self._connection.translated():
            self.insert(answer, None)

    def insert(self, answer: Answer, session: ClientSession | None) -> None:
        """Store an answer, in the transaction of `session`. Raises KeyTaken, which aborts it."""
        try:
            self._answers.insert_one(_document(answer), session=session)
        except DuplicateKeyError as exc:
            raise KeyTaken from exc

    def prune(self, now: dt.datetime) -> int:
        with self._connection.translated():
            return self._answers.delete_many({"created_on": {"$lte": now - ANSWER_KEPT}}).deleted_count


def _id(principal: str, key: str) -> Document:
    return {"principal": principal, "key": key}


def _document(answer: Answer) -> Document:
    return {
        "_id": _id(answer.principal, answer.key),
        "request": answer.request,
        "body": answer.body.decode(),
        "created_on": answer.created_on,
    }
