"""The ledger's records in MongoDB: lists, attempts, retries, old rows."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import ASCENDING, DESCENDING

from ...ports.endpoints import CHANNEL_PREFIX
from ...ports.ledger import (
    AHEAD,
    DISCARDABLE,
    ERASED,
    NOT_KEPT,
    PRUNABLE,
    RETRIABLE,
    SETTLED,
    UNSETTLED,
    Attempt,
    Notification,
    storable,
)
from ..common.paused import apart
from .connection import Connection, Document

COLLECTION = "notification"
OF_CHANNEL = "of_channel"
"""The index of the deliveries of one webhook endpoint."""
WAITING = "waiting"
"""The index of those that wait."""
# The order of a row among the mails about its customer; rows of older versions lack their first event.
ORDER: Document = {"$ifNull": ["$first_version", "$version"]}


def _recipients(whole: str | None, prefix: str | None) -> list[dict[str, Any]]:
    """The tests of a recipient: this one, and one that begins so (a range, which an index can serve)."""
    tests: list[Any] = [whole] if whole is not None else []
    if prefix:
        tests.append({"$gte": prefix, "$lt": prefix + "\U0010ffff"})
    return [{"recipient": test} for test in tests]


class MongoRecords:
    """The half of the port `Ledger` that treats rows as records."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._rows = connection[COLLECTION]

    def counts(self, states: Sequence[str] = (), *, paused: Sequence[str] = ()) -> dict[str, int]:
        # Counting one state at a time stays inside the index of states, and reads no document.
        with self._translated():
            counted = {
                state: self._rows.count_documents({"state": state})
                for state in states or (*UNSETTLED, *SETTLED)
            }
            held = self._of_paused(paused, [state for state in counted if state in UNSETTLED])
        return apart(counted, held)

    def _of_paused(self, channels: Sequence[str], states: Sequence[str]) -> dict[str, int]:
        """How many notifications of these channels are in each of these unsettled states."""
        if not channels:
            return {}
        wanted: Document = {
            "channel": {"$in": list(channels)},
            "unsettled": True,
            "state": {"$in": list(states)},
        }
        by_state: list[Document] = [{"$match": wanted}, {"$group": {"_id": "$state", "count": {"$sum": 1}}}]
        return {row["_id"]: row["count"] for row in self._rows.aggregate(by_state, hint=WAITING)}

    def oldest(self, *, paused: Sequence[str] = ()) -> dt.datetime | None:
        others: Document = {"channel": {"$nin": list(paused)}} if paused else {}
        order = [("created_on", ASCENDING)]
        with self._translated():
            first = [
                self._rows.find_one({"state": state, **others}, {"created_on": 1}, sort=order)
                for state in UNSETTLED
            ]
        return min((row["created_on"] for row in first if row and "created_on" in row), default=None)

    def find(self, ids: Sequence[str]) -> list[Notification]:
        with self._translated():
            found = {row["_id"]: notification(row) for row in self._rows.find({"_id": {"$in": list(ids)}})}
        return [found[one] for one in ids if one in found]

    def recent(
        self,
        *,
        customer_id: int | None = None,
        state: str | None = None,
        recipient: str | None = None,
        rule: str | None = None,
        event_id: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        recipient_prefix: str | None = None,
        limit: int = 100,
    ) -> list[Notification]:
        created = {test: time for test, time in (("$gte", since), ("$lt", until)) if time is not None}
        wanted = {
            "customer_id": customer_id,
            "state": state,
            "rule": rule,
            "event_id": event_id,
            "created_on": created or None,
        }
        asked: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if tests := _recipients(recipient, recipient_prefix):
            asked["$and"] = tests
        order = [("created_on", DESCENDING), ("position", DESCENDING)]
        with self._translated():
            return [notification(row) for row in self._rows.find(asked).sort(order).limit(limit)]

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        with self._translated():
            rows = self._rows.find({"_id": {"$in": list(ids)}, "tries.0": {"$exists": True}}, {"tries": 1})
            return {row["_id"]: [Attempt(**attempt) for attempt in row["tries"]] for row in rows}

    def retry(self, ids: Sequence[str], *, out_of_order: bool = False, redeliver: bool = False) -> list[str]:
        again = {
            "state": "queued",
            "next_at": "$$NOW",
            "due": "$$NOW",
            "unsettled": True,
            "spared": "$attempts",
            "published": False,
            "updated_on": "$$NOW",
        }
        gone = {"$unset": ["token", "blocked_by", "publish_lease", "lease", "lease_until"]}
        queued = []
        with self._translated():
            for row in self._rows.find({"_id": {"$in": list(ids)}, **_retriable(redeliver)}):
                any_order = out_of_order or (redeliver and row["channel"] != "mail")
                if not any_order and self._is_overtaken(row):
                    continue
                done = self._rows.update_one(
                    {"_id": row["_id"], "state": row["state"]}, [{"$set": again}, gone]
                )
                if done.modified_count:
                    queued.append(row["_id"])
        return queued

    def _is_overtaken(self, row: Document) -> bool:
        if row["customer_id"] is None:
            return False
        same = {"customer_id": row["customer_id"], "recipient": row["recipient"]}
        newer = {**same, "$expr": {"$gt": [ORDER, order(row)]}, "state": {"$in": list(AHEAD)}}
        return self._rows.find_one(newer, {"_id": 1}) is not None

    def discard(self, ids: Sequence[str], reason: str) -> list[str]:
        step = {"state": "discarded", "reason": literal(storable(reason)), "updated_on": "$$NOW"}
        gone = {"$unset": ["token", "due", "blocked_by", "unsettled", "lease", "lease_until"]}
        discarded = []
        with self._translated():
            for one in ids:
                done = self._rows.update_one(
                    {"_id": one, "state": {"$in": list(DISCARDABLE)}}, [{"$set": step}, gone]
                )
                if done.modified_count:
                    discarded.append(one)
            self._unblock_behind(discarded)
        return discarded

    def doubt(self, reason: str, limit: int = 5000) -> int:
        mails = {"state": {"$in": list(UNSETTLED)}, "channel": {"$not": re.compile(f"^{CHANNEL_PREFIX}")}}
        step = {"state": "unknown", "reason": literal(storable(reason)), "updated_on": "$$NOW"}
        gone = {"$unset": ["token", "due", "blocked_by", "unsettled", "lease", "lease_until"]}
        with self._translated():
            ids = [row["_id"] for row in self._rows.find(mails, {"_id": 1}).limit(limit)]
            if not ids:
                return 0
            these = {"_id": {"$in": ids}, **mails}
            changed = self._rows.update_many(these, [{"$set": step}, gone]).modified_count
            self._unblock_behind(ids)
        return changed

    def drop_texts(
        self, since: dt.datetime | None, seconds: float, limit: int = 5000
    ) -> tuple[int, dt.datetime | None]:
        # The server's clock, as everywhere in the ledger.
        with self._translated():
            now: dt.datetime = self._rows.database.command("hello")["localTime"].replace(tzinfo=dt.UTC)
            old = {"$lt": now - dt.timedelta(seconds=seconds), **({"$gt": since} if since else {})}
            sent = {"state": "sent", "created_on": old}
            # Up to a time instead of a number of rows, since many are created at once.
            beyond = self._rows.find(sent, {"created_on": 1}).sort("created_on", ASCENDING).skip(limit)
            till = next((row["created_on"] for row in beyond.limit(1)), None)
            if till is not None:
                sent["created_on"] = {**old, "$lte": till}
            blank = {"$set": {"text": NOT_KEPT, "html": None, "entries": None}}
            full = {"channel": "mail", "text": {"$ne": NOT_KEPT}}
            return self._rows.update_many({**sent, **full}, blank).modified_count, till

    def forget(self, customer_id: int, version: int) -> int:
        theirs = {"customer_id": customer_id, "$expr": {"$lt": [ORDER, version]}}
        blank = {
            "recipient": ERASED,
            "subject": ERASED,
            "text": "",
            "html": None,
            "entries": None,
            "reason": None,
            "tries.$[].text": None,
        }
        gone = dict.fromkeys(("due", "blocked_by", "unsettled"), "")
        with self._translated():
            ids = [row["_id"] for row in self._rows.find(theirs, {"_id": 1})]
            waiting = {**theirs, "state": {"$in": ["queued", "deferred"]}}
            self._rows.update_many(waiting, {"$set": {"state": "discarded"}, "$unset": gone})
            tried = {**theirs, "tries": {"$exists": True}}
            self._rows.update_many(tried, {"$set": blank})
            del blank["tries.$[].text"]
            self._rows.update_many({**theirs, "tries": {"$exists": False}}, {"$set": blank})
            self._unblock_behind(ids)
        return len(ids)

    def sent_since(self, recipients: Sequence[str], seconds: float) -> dict[str, int]:
        stages: list[Document] = [
            {
                "$match": {
                    "recipient": {"$in": list(recipients)},
                    "state": "sent",
                    "$expr": {"$gt": ["$updated_on", {"$subtract": ["$$NOW", round(seconds * 1000)]}]},
                }
            },
            {"$group": {"_id": "$recipient", "count": {"$sum": 1}}},
        ]
        with self._translated():
            return {row["_id"]: row["count"] for row in self._rows.aggregate(stages)}

    def prune(self, seconds: float, limit: int = 5000) -> int:
        before = {"$subtract": ["$$NOW", round(seconds * 1000)]}
        old = {"$and": [{"$lt": ["$created_on", before]}, {"$lt": ["$updated_on", before]}]}
        wanted = {
            "state": {"$in": list(PRUNABLE)},
            "$expr": old,
            "$or": [{"state": {"$ne": "failed"}}, {"published": True}],
        }
        with self._translated():
            ids = [row["_id"] for row in self._rows.find(wanted, {"_id": 1}).limit(limit)]
            return self._rows.delete_many({"_id": {"$in": ids}, **wanted}).deleted_count if ids else 0

    def _unblock_behind(self, ids: Iterable[str]) -> None:
        """Remove the `blocked_by` marks that name these notifications, if they are settled or deleted."""
        marked = {"blocked_by": {"$in": list(set(ids))}}
        # Nearly always there is none, and a write that changes nothing waits for the journal too.
        names = {row["blocked_by"] for row in self._rows.find(marked, {"_id": 0, "blocked_by": 1})}
        if names:
            open_ones = self._rows.find({"_id": {"$in": list(names)}, "unsettled": True}, {"_id": 1})
            names -= {row["_id"] for row in open_ones}
        if names:
            self._rows.update_many(
                {"blocked_by": {"$in": list(names)}},
                [{"$set": {"due": "$next_at"}}, {"$unset": ["blocked_by"]}],
            )


def _retriable(redeliver: bool) -> Document:
    failed: Document = {"state": {"$in": list(RETRIABLE)}}
    delivered = {"state": "sent", "channel": {"$ne": "mail"}}
    return {"$or": [failed, delivered]} if redeliver else failed


def order(row: Document) -> int:
    """The order of a document among the mails about its customer."""
    first = row.get("first_version")
    return int(row["version"] if first is None else first)


def literal(value: str | None) -> dict[str, str | None]:
    """The text as a literal, even if it begins with `$`."""
    return {"$literal": value}


def notification(row: Document) -> Notification:
    """The notification of a document."""
    return Notification(
        id=row["_id"],
        event_id=row["event_id"],
        customer_id=row["customer_id"],
        version=row["version"],
        rule=row["rule"],
        recipient=row["recipient"],
        subject=row["subject"],
        text=row["text"],
        html=row["html"],
        state=row["state"],
        attempts=row["attempts"],
        next_at=row["next_at"],
        reason=row["reason"],
        token=row.get("token"),
        created_on=row["created_on"],
        updated_on=row["updated_on"],
        channel=row.get("channel", "mail"),
        spared=row.get("spared", 0),
        entries=row.get("entries"),
        first_version=row.get("first_version"),
        request_id=row.get("request_id"),
        traceparent=row.get("traceparent"),
    )
