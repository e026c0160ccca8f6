"""Notifications of channels other than mail, in MongoDB: those that are due, lists, giving them up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection

from ...ports.endpoints import CHANNEL_PREFIX
from ...ports.ledger import Notification, Place
from .connection import Document
from .records import WAITING, literal, notification

_DUE = {"due": {"$exists": True}, "$expr": {"$lte": ["$due", "$$NOW"]}}


class MongoDeliveries:
    """The part `Deliveries` of the port `Ledger`."""

    _rows: Collection[Document]
    _translated: Callable[[], AbstractContextManager[None]]
    _unblock_behind: Callable[[Iterable[str]], None]

    def due(self, channels: Sequence[str]) -> list[str]:
        with self._translated():
            return [
                channel
                for channel in channels
                if self._rows.find_one({"channel": channel, **_DUE}, {"_id": 1}, hint="due_of_channel")
            ]

    def deliveries(
        self, channel: str, *, state: str | None = None, limit: int = 100, after: Place | None = None
    ) -> list[Notification]:
        wanted: Document = {"channel": channel, **({"state": state} if state else {})}
        if after:
            same = {"created_on": after.created_on, "_id": {"$lt": after.id}}
            wanted["$or"] = [{"created_on": {"$lt": after.created_on}}, same]
        order = [("created_on", DESCENDING), ("_id", DESCENDING)]
        with self._translated():
            return [notification(row) for row in self._rows.find(wanted).sort(order).limit(limit)]

    def waiting(self, channel: str) -> int:
        with self._translated():
            return self._rows.count_documents({"channel": channel, "unsettled": True}, hint=WAITING)

    def unserved(self, served: Sequence[str]) -> dict[str, int]:
        others = {"$nin": ["mail", *served], "$not": re.compile(f"^{re.escape(CHANNEL_PREFIX)}")}
        wanted: Document = {"channel": others, "due": {"$exists": True}}
        by_channel: list[Document] = [
            {"$match": wanted},
            {"$group": {"_id": "$channel", "count": {"$sum": 1}}},
        ]
        with self._translated():
            rows = self._rows.aggregate(by_channel, hint="due_of_channel")
            return {row["_id"]: row["count"] for row in rows}

    def hasten(self, channel: str, limit: int = 5000) -> int:
        later = {"channel": channel, "due": {"$exists": True}, "$expr": {"$gt": ["$due", "$$NOW"]}}
        step = {"next_at": "$$NOW", "due": "$$NOW", "spared": "$attempts", "updated_on": "$$NOW"}
        with self._translated():
            ids = [row["_id"] for row in self._rows.find(later, {"_id": 1}).limit(limit)]
            wanted = {"_id": {"$in": ids}, "due": {"$exists": True}}
            return self._rows.update_many(wanted, [{"$set": step}]).modified_count if ids else 0

    def discard_waiting(
        self, prefix: str, reason: str, *, kept: Sequence[str] = (), older: float = 0.0, limit: int = 5000
    ) -> int:
        before = {"$subtract": ["$$NOW", round(older * 1000)]}
        wanted: Document = {
            "channel": {"$regex": f"^{re.escape(prefix)}", "$nin": list(kept)},
            "due": {"$exists": True},
            "$expr": {"$lte": ["$created_on", before]},
        }
        step = {"state": "discarded", "reason": literal(reason), "updated_on": "$$NOW"}
        gone = {"$unset": ["token", "due", "blocked_by", "unsettled", "lease", "lease_until"]}
        with self._translated():
            rows = self._rows.find(wanted, {"_id": 1}, hint="due_of_channel")
            ids = [row["_id"] for row in rows.sort("channel", ASCENDING).limit(limit)]
            waiting = {"_id": {"$in": ids}, "due": {"$exists": True}}
            done = self._rows.update_many(waiting, [{"$set": step}, gone]).modified_count if ids else 0
            self._unblock_behind(ids)
        return done
