"""The ledger in MongoDB: each step is one conditional update, and all times are the server's (`$$NOW`).

`due` is there only while a notification can be claimed, so its index holds nothing else. The order per
customer and recipient needs no transaction. A claim takes one only if a read shows no older one that is not
settled; settled is for good, so a read that is behind can only make a mail wait. Those that wait so are
marked `blocked_by` and lose `due`; the mark is taken off when the older one settles, or, where a process
died in between, by a sweep.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterable, Sequence

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.database import Database

from ..base import Notification, NotificationState
from ..ledger import LOST_IN_HAND_OVER, SETTLED, UNSETTLED, Attempt
from .connection import Connection, Document

COLLECTION = "notification"
_INDEXES = [
    IndexModel(
        [("due", ASCENDING), ("position", ASCENDING)],
        name="due",
        partialFilterExpression={"due": {"$exists": True}},
    ),
    IndexModel(
        [("customer_id", ASCENDING), ("recipient", ASCENDING), ("version", ASCENDING)],
        name="unsettled",
        partialFilterExpression={"unsettled": True},
    ),
    IndexModel([("blocked_by", ASCENDING)], name="blocked", sparse=True),
    IndexModel([("lease_until", ASCENDING)], name="leased", sparse=True),
    IndexModel(
        [("updated_on", ASCENDING)],
        name="unpublished",
        partialFilterExpression={"state": "failed", "published": False},
    ),
    IndexModel([("state", ASCENDING), ("created_on", DESCENDING), ("position", DESCENDING)], name="state"),
    IndexModel(
        [("customer_id", ASCENDING), ("created_on", DESCENDING), ("position", DESCENDING)], name="customer"
    ),
    IndexModel([("created_on", DESCENDING), ("position", DESCENDING)], name="created"),
]

_SWEEP_EVERY = 60.0
# A claim looks at this many at a time. Where nearly all must wait, it goes on for so many turns, or for a few
# once it has some.
_LOOK_AT = 500
_ROUNDS = 40
_ENOUGH = 2

_IS_DUE = {"due": {"$exists": True}, "$expr": {"$lte": ["$due", "$$NOW"]}}
_LEASE_IS_OVER = {"lease_until": {"$exists": True}, "$expr": {"$lt": ["$lease_until", "$$NOW"]}}
_UNCLAIMABLE = {"$unset": ["due"]}


def create_notifications(database: Database[Document]) -> None:
    """The collection of notifications with its indexes. Bears being run again."""
    database[COLLECTION].create_indexes(_INDEXES)


class MongoLedger:
    """The ports `Ledger` and `AttemptLedger` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._translated = connection.translated
        self._rows = connection[COLLECTION]
        self._sweep_at = 0.0

    def add(self, notifications: Sequence[Notification]) -> int:
        if not notifications:
            return 0
        writes = [
            UpdateOne({"_id": n.id}, [{"$replaceWith": _unless_there(n, at)}], upsert=True)
            for at, n in enumerate(notifications)
        ]
        with self._translated():
            return self._rows.bulk_write(writes, ordered=False).upserted_count

    def claim(self, limit: int, lease: float) -> list[Notification]:
        claimed: list[Notification] = []
        look = limit
        for turn in range(_ROUNDS):
            with self._translated():
                found = self._look(look)
                older = self._older(found)
                ready = [row["_id"] for row in found if row["_id"] not in older]
                taken = self._take(ready[: limit - len(claimed)], lease)
                self._block(older)
            claimed += taken
            if not older or len(claimed) == limit or (claimed and turn >= _ENOUGH):
                break
            look = limit if taken else _LOOK_AT
        return claimed

    def _look(self, limit: int) -> list[Document]:
        fields = {"customer_id": 1, "recipient": 1, "version": 1}
        order = [("due", ASCENDING), ("position", ASCENDING)]
        return list(self._rows.find(_IS_DUE, fields).sort(order).limit(limit).hint("due"))

    def _older(self, found: list[Document]) -> dict[str, str]:
        """Which of these must wait, and for which older one: the nearest below it that is not settled."""
        older: dict[str, str] = {}
        oldest: list[Document] = []
        below: dict[tuple[int, str], Document] = {}
        for row in sorted((r for r in found if r["customer_id"] is not None), key=lambda r: r["version"]):
            pair = (row["customer_id"], row["recipient"])
            if pair in below and below[pair]["version"] < row["version"]:
                older[row["_id"]] = below[pair]["_id"]
            else:
                oldest.append(row)
            below[pair] = row
        stages = [_nearest_older(row) for row in oldest]
        if stages:
            unions = [{"$unionWith": {"coll": COLLECTION, "pipeline": stage}} for stage in stages[1:]]
            for match in self._rows.aggregate([*stages[0], *unions]):
                older[match["waits"]] = match["_id"]
        return older

    def _take(self, ids: list[str], lease: float) -> list[Notification]:
        if not ids:
            return []
        token = str(uuid.uuid4())
        claim = {
            "state": "claimed",
            "token": token,
            "attempts": {"$add": ["$attempts", 1]},
            "lease": lease,
            "lease_until": _from_now(lease),
            "updated_on": "$$NOW",
        }
        taken = self._rows.update_many({"_id": {"$in": ids}, **_IS_DUE}, [{"$set": claim}, _UNCLAIMABLE])
        if not taken.modified_count:
            return []
        rows = self._rows.find({"_id": {"$in": ids}, "token": token})
        return [_notification(row) for row in sorted(rows, key=lambda r: (r["next_at"], r["position"]))]

    def _block(self, older: dict[str, str]) -> None:
        if not older:
            return
        self._rows.bulk_write(
            [
                UpdateOne({"_id": i, "due": {"$exists": True}}, [{"$set": {"blocked_by": o}}, _UNCLAIMABLE])
                for i, o in older.items()
            ],
            ordered=False,
        )
        # Looked at after the marks were written: either this sees that the older one has settled meanwhile,
        # or whoever settles it sees the mark.
        self._unblock_behind(older.values())

    def _unblock_behind(self, ids: Iterable[str]) -> None:
        """Take off the marks that name these, as far as they are settled or gone."""
        names = set(ids)
        names -= {
            r["_id"] for r in self._rows.find({"_id": {"$in": list(names)}, "unsettled": True}, {"_id": 1})
        }
        if names:
            self._rows.update_many(
                {"blocked_by": {"$in": list(names)}},
                [{"$set": {"due": "$next_at"}}, {"$unset": ["blocked_by"]}],
            )

    def handing_over(self, notification: Notification) -> bool:
        step = {"state": "handing_over", "updated_on": "$$NOW", "lease_until": _from_now("$lease")}
        with self._translated():
            done = self._rows.update_one(
                {"_id": notification.id, "token": notification.token, "state": "claimed"}, [{"$set": step}]
            )
        return done.matched_count == 1

    def settle(
        self,
        notification: Notification,
        state: NotificationState,
        *,
        reason: str | None = None,
        next_at: dt.datetime | None = None,
        count_attempt: bool = True,
        code: int | None = None,
        duration: float = 0.0,
    ) -> bool:
        may_be = ["claimed", "handing_over", *(["unknown"] if state in ("sent", "failed") else [])]
        step: Document = {
            "state": state,
            "reason": _literal(reason),
            "next_at": next_at or "$next_at",
            "updated_on": "$$NOW",
        }
        if state in UNSETTLED:
            step["due"] = next_at or "$next_at"
        if count_attempt:
            step["tries"] = _with_attempt(state, code, reason, duration)
        else:
            step["attempts"] = {"$subtract": ["$attempts", 1]}
        gone = ["token", "lease", "lease_until", *(["unsettled"] if state in SETTLED else [])]
        with self._translated():
            done = self._rows.update_one(
                {"_id": notification.id, "token": notification.token, "state": {"$in": may_be}},
                [{"$set": step}, {"$unset": gone}],
            )
            if done.matched_count and state in SETTLED and notification.customer_id is not None:
                self._unblock_behind([notification.id])
        return done.matched_count == 1

    def expire(self) -> tuple[int, int]:
        with self._translated():
            again = self._rows.update_many(
                {"state": "claimed", **_LEASE_IS_OVER},
                [
                    {
                        "$set": {
                            "state": "queued",
                            "due": "$next_at",
                            # It never reached the hand-over, so the attempt is given back.
                            "attempts": {"$subtract": ["$attempts", 1]},
                            "updated_on": "$$NOW",
                        }
                    },
                    {"$unset": ["token", "lease", "lease_until"]},
                ],
            )
            unknown = self._expire_hand_overs()
            self._sweep()
        return again.modified_count, unknown

    def _expire_hand_overs(self) -> int:
        over = {"state": "handing_over", **_LEASE_IS_OVER}
        ids = [row["_id"] for row in self._rows.find(over, {"_id": 1})]
        if not ids:
            return 0
        # The token stays, so that the sender, should it live, can still say how it ended.
        step = {
            "state": "unknown",
            "reason": _literal(LOST_IN_HAND_OVER),
            "updated_on": "$$NOW",
            "tries": _with_attempt("unknown", None, LOST_IN_HAND_OVER, 0.0),
        }
        done = self._rows.update_many(
            {"_id": {"$in": ids}, **over}, [{"$set": step}, {"$unset": ["lease", "lease_until", "unsettled"]}]
        )
        self._unblock_behind(ids)
        return done.modified_count

    def _sweep(self) -> None:
        if time.monotonic() >= self._sweep_at:
            marks = self._rows.aggregate(
                [{"$match": {"blocked_by": {"$exists": True}}}, {"$group": {"_id": "$blocked_by"}}]
            )
            names = [mark["_id"] for mark in marks]
            for start in range(0, len(names), _LOOK_AT):
                self._unblock_behind(names[start : start + _LOOK_AT])
            self._sweep_at = time.monotonic() + _SWEEP_EVERY

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        wanted: Document = {"state": "failed", "published": False}
        order = [("updated_on", ASCENDING), ("position", ASCENDING)]
        with self._translated():
            if lease:
                free = {"$expr": {"$lte": [{"$ifNull": ["$publish_lease", "$$NOW"]}, "$$NOW"]}}
                ids = [
                    r["_id"] for r in self._rows.find({**wanted, **free}, {"_id": 1}).sort(order).limit(limit)
                ]
                mine = str(uuid.uuid4())
                step = {"publish_lease": _from_now(lease), "publisher": mine}
                self._rows.update_many({"_id": {"$in": ids}, **wanted, **free}, [{"$set": step}])
                wanted = {"_id": {"$in": ids}, "publisher": mine}
            return [_notification(row) for row in self._rows.find(wanted).sort(order).limit(limit)]

    def published(self, ids: Sequence[str]) -> None:
        with self._translated():
            self._rows.update_many({"_id": {"$in": list(ids)}}, {"$set": {"published": True}})

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        with self._translated():
            rows = self._rows.find({"_id": {"$in": list(ids)}, "tries.0": {"$exists": True}}, {"tries": 1})
            return {row["_id"]: [Attempt(**attempt) for attempt in row["tries"]] for row in rows}

    def counts(self) -> dict[str, int]:
        # Counting inside the index of states, one state at a time, reads no document.
        with self._translated():
            counted = {
                state: self._rows.count_documents({"state": state}) for state in (*UNSETTLED, *SETTLED)
            }
        return {state: count for state, count in counted.items() if count}

    def recent(
        self, *, customer_id: int | None = None, state: str | None = None, limit: int = 100
    ) -> list[Notification]:
        asked = {"customer_id": customer_id, "state": state}
        wanted = {name: value for name, value in asked.items() if value is not None}
        order = [("created_on", DESCENDING), ("position", DESCENDING)]
        with self._translated():
            return [_notification(row) for row in self._rows.find(wanted).sort(order).limit(limit)]


def _unless_there(n: Notification, position: int) -> Document:
    """The new document, or the one that is there as it is."""
    settled = n.state in SETTLED
    static = {
        "_id": n.id,
        "event_id": n.event_id,
        "customer_id": n.customer_id,
        "version": n.version,
        "rule": n.rule,
        "recipient": n.recipient,
        "subject": n.subject,
        "text": n.text,
        "html": n.html,
        "state": n.state,
        "attempts": 0,
        "position": position,
        "reason": n.reason,
        "published": False,
        **({} if settled else {"unsettled": True}),
    }
    times = ("next_at", "created_on", "updated_on", *(() if settled else ("due",)))
    new = {"$mergeObjects": [{"$literal": static}, dict.fromkeys(times, "$$NOW")]}
    return {"$cond": [{"$eq": [{"$type": "$state"}, "missing"]}, new, "$$ROOT"]}


def _nearest_older(row: Document) -> list[Document]:
    return [
        {
            "$match": {
                "unsettled": True,
                "customer_id": row["customer_id"],
                "recipient": row["recipient"],
                "version": {"$lt": row["version"]},
            }
        },
        {"$sort": {"version": DESCENDING}},
        {"$limit": 1},
        {"$project": {"waits": _literal(row["_id"])}},
    ]


def _with_attempt(state: str, code: int | None, text: str | None, duration: float) -> Document:
    """The attempts with this one at the end; it replaces one of the same number."""
    attempt = {
        "number": "$attempts",
        "tried_on": _from_now(-duration),
        "outcome": state,
        "code": code,
        "text": _literal(text),
        "duration": duration,
    }
    before = {
        "$filter": {"input": {"$ifNull": ["$tries", []]}, "cond": {"$ne": ["$$this.number", "$attempts"]}}
    }
    return {"$concatArrays": [before, [attempt]]}


def _from_now(seconds: float | str) -> Document:
    millis = {"$multiply": [seconds, 1000]} if isinstance(seconds, str) else round(seconds * 1000)
    return {"$add": ["$$NOW", millis]}


def _literal(value: str | None) -> dict[str, str | None]:
    """Text as it is, though it begin with `$`."""
    return {"$literal": value}


def _notification(row: Document) -> Notification:
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
    )
