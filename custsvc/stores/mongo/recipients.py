"""Suppressed addresses and unsubscribed customers, in MongoDB."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import DESCENDING

from ...ports.ledger import storable
from ...ports.recipients import Suppression
from .connection import Connection, Document

# Compared with the server's clock, which also set the times.
_LIVE: Document = {
    "$expr": {"$or": [{"$eq": ["$expires_on", None]}, {"$gt": ["$expires_on", "$$NOW"]}]},
}


class MongoRecipients:
    """The port `Recipients` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._suppressions = connection["notification_suppression"]
        self._preferences = connection["notification_preference"]

    def suppress(
        self, address: str, reason: str, *, detail: str | None = None, seconds: float | None = None
    ) -> None:
        new = None if seconds is None else {"$add": ["$$NOW", round(seconds * 1000)]}
        # $max ignores null, but null means "for ever".
        longer = {
            "$cond": [
                {"$or": [{"$eq": ["$expires_on", None]}, {"$eq": [new, None]}]},
                None,
                {"$max": ["$expires_on", new]},
            ]
        }
        step = {
            "reason": reason,
            "detail": {"$literal": None if detail is None else storable(detail)},
            "created_on": {"$ifNull": ["$created_on", "$$NOW"]},
            "expires_on": {"$cond": [{"$eq": [{"$type": "$created_on"}, "missing"]}, new, longer]},
        }
        with self._translated():
            self._suppressions.update_one({"_id": storable(address)}, [{"$set": step}], upsert=True)

    def allow(self, address: str) -> bool:
        with self._translated():
            return self._suppressions.delete_one({"_id": address}).deleted_count == 1

    def suppressed(self, addresses: Sequence[str]) -> dict[str, Suppression]:
        with self._translated():
            rows = list(self._suppressions.find({"_id": {"$in": list(addresses)}, **_LIVE}))
        return {row["_id"]: _suppression(row) for row in rows}

    def suppressions(self, limit: int = 1000) -> list[Suppression]:
        with self._translated():
            rows = self._suppressions.find(_LIVE).sort([("created_on", DESCENDING), ("_id", 1)]).limit(limit)
            return [_suppression(row) for row in rows]

    def set_wanted(self, customer_id: int, rule: str, wanted: bool) -> None:
        # A list, not fields named after rules: rule names may hold a dot.
        step = {"$pull": {"unwanted": rule}} if wanted else {"$addToSet": {"unwanted": rule}}
        with self._translated():
            self._preferences.update_one({"_id": customer_id}, step, upsert=True)

    def unwanted(self, customer_ids: Sequence[int]) -> dict[int, set[str]]:
        with self._translated():
            rows = list(self._preferences.find({"_id": {"$in": list(customer_ids)}}))
        return {row["_id"]: set(row["unwanted"]) for row in rows if row.get("unwanted")}


def _suppression(row: Document) -> Suppression:
    return Suppression(
        row["_id"], row["reason"], row.get("detail"), row.get("created_on"), row.get("expires_on")
    )
