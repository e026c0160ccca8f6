"""Refills terms and keys made by an earlier version, or by a running process of an earlier release."""

from __future__ import annotations

from typing import Any, Final

import pymongo
from bson import MinKey
from pymongo import ASCENDING, UpdateOne

from ...domain.name_key import name_key
from ...domain.search import stored_terms
from ...ports.waiting import Waiting
from ...runtime import crash
from ..common.refilling import Refilling
from .connection import UNLIMITED, Connection
from .facts import MongoFacts

_AT_ONCE: Final = 1000
_FIELDS: Final = dict.fromkeys(("version", "name", "email", "phone", "doc"), 1)


class MongoRefilling(Refilling):
    """The refilling of a database's terms, and its progress."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(MongoFacts(connection))
        self._connection = connection

    def run(self, waiting: Waiting) -> int:
        """Refill all outdated customers; return how many. It reads every customer once."""
        customers = self._connection["customer"]
        refilled, last = 0, MinKey()
        with self._connection.translated(), pymongo.timeout(UNLIMITED):
            while found := list(
                customers.find(
                    # An earlier release does not update `keyed` when it writes.
                    {"_id": {"$gt": last}, "$expr": {"$ne": ["$keyed", "$version"]}},
                    _FIELDS,
                    sort=[("_id", ASCENDING)],
                    hint="_id_",
                    limit=_AT_ONCE,
                )
            ):
                waiting.check()
                done = customers.bulk_write([_refilled(each) for each in found], ordered=False)
                crash.point("migrate.refilling")
                refilled += done.matched_count
                last = found[-1]["_id"]
        self.note()
        return refilled

    def note_if_over(self) -> None:
        """Note the end of refilling in a database without customers."""
        with self._connection.translated():
            if self._connection["customer"].find_one({}, {"_id": 1}) is None:
                self.note()


def _refilled(found: dict[str, Any]) -> UpdateOne:
    name = found.get("name") or ""
    made = {
        "terms": stored_terms(name, found.get("email"), found.get("phone"), found.get("doc") or ""),
        "name_key": name_key(name),
        "keyed": found["version"],
    }
    # A customer that is written meanwhile gets them by that write.
    return UpdateOne({"_id": found["_id"], "version": found["version"]}, {"$set": made})
