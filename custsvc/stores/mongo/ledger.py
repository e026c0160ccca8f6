"""The ledger in MongoDB: each step is one conditional update, and all times are the server's (`$$NOW`).

`due` exists only while a notification can be claimed, so its index holds nothing else. The order per customer
and recipient needs no transaction. A claim takes a notification only if a read shows no older unsettled one;
settled is final, so a stale read can only make a mail wait. Waiting notifications are marked `blocked_by` and
lose `due`; the mark is removed when the older one settles, or by a sweep if a process died in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from ...ports.ledger import (
    ENOUGH,
    FARTHEST,
    LOOK_AT,
    LOST_IN_HAND_OVER,
    ROUNDS,
    SETTLED,
    UNSETTLED,
    Advanced,
    Grown,
    Notification,
    Overtaken,
    Settlement,
)
from ..common.one_by_one import OneByOne
from .connection import Document
from .deliveries import MongoDeliveries
from .records import COLLECTION, ORDER, MongoRecords, literal, notification, order

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

_IS_DUE = {"due": {"$exists": True}, "$expr": {"$lte": ["$due", "$$NOW"]}}
_LEASE_IS_OVER = {"lease_until": {"$exists": True}, "$expr": {"$lt": ["$lease_until", "$$NOW"]}}
_UNCLAIMABLE = {"$unset": ["due"]}
_UNBLOCKED: list[Document] = [{"$set": {"due": "$next_at"}}, {"$unset": ["blocked_by"]}]
# Matches only a document that an upsert is just inserting.
_IS_NEW = {"$eq": [{"$type": "$created_on"}, "missing"]}
# The errors of a write of `add` that would insert a digest: duplicate key, immutable key.
_NOT_AS_READ = (11000, 66)
# Digests that are due later than any rule allows.
_FAR: Document = {
    "channel": "mail",
    "due": {"$exists": True},
    "$expr": {"$gt": ["$due", {"$add": ["$$NOW", round(FARTHEST * 1000)]}]},
    "state": "queued",
    "attempts": 0,
    "entries": {"$ne": None},
}
_AGAIN = {"state": "queued", "due": "$next_at", "updated_on": "$$NOW"}


def create_notifications(database: Database[Document]) -> None:
    """The collection of notifications with its indexes. May be run again."""
    database[COLLECTION].create_indexes(_INDEXES)


def create_notification_records(database: Database[Document]) -> None:
    """The indexes for channels beside mail, and for a recipient's recent mails."""
    rows = database[COLLECTION]
    rows.update_many({"channel": {"$exists": False}}, {"$set": {"channel": "mail", "spared": 0}})
    # Each channel has its own senders, so that an outage of one does not delay the others.
    rows.create_indexes(
        [
            IndexModel(
                [("channel", ASCENDING), ("due", ASCENDING), ("position", ASCENDING)],
                name="due_of_channel",
                partialFilterExpression={"due": {"$exists": True}},
            ),
            IndexModel(
                [("recipient", ASCENDING), ("updated_on", ASCENDING)],
                name="recipient",
                partialFilterExpression={"state": "sent"},
            ),
        ]
    )
    if "due" in rows.index_information():
        rows.drop_index("due")


def create_notification_order(database: Database[Document]) -> None:
    """The indexes for the order of mails, by the first event that each reports.

    The index `unsettled` of the previous order stays: claims of an older version ask for it by name.
    """
    database[COLLECTION].create_indexes(
        [
            IndexModel(
                [
                    ("customer_id", ASCENDING),
                    ("recipient", ASCENDING),
                    ("first_version", ASCENDING),
                    ("version", ASCENDING),
                ],
                name="order",
                partialFilterExpression={"unsettled": True},
            )
        ]
    )


def create_notification_address(database: Database[Document]) -> None:
    """The index for mails by the beginning of their address."""
    database[COLLECTION].create_indexes(
        [IndexModel([("recipient", ASCENDING), ("created_on", ASCENDING)], name="address")]
    )


class MongoLedger(MongoRecords, MongoDeliveries, OneByOne):
    """The port `Ledger` on MongoDB: the queue; operators' actions are in `records`."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        # An ordered write: a reader that sees one notification sees all before it, and a crash or an
        # overtaken digest that ends the write half-way omits only the last ones.
        position = {id(n): at for at, n in enumerate(notifications)}
        writes = [_grow(n, was) for n, was in sorted(grown, key=lambda each: each.notification.id)]
        writes += [_add(n, position[id(n)]) for n in sorted(notifications, key=attrgetter("order"))]
        if not writes:
            return 0
        with self._translated():
            try:
                return self._rows.bulk_write(writes, ordered=True).upserted_count
            except BulkWriteError as exc:
                if any(error["code"] in _NOT_AS_READ for error in exc.details["writeErrors"]):
                    raise Overtaken(exc.details["nUpserted"]) from exc
                raise

    def claim(self, limit: int, lease: float, channel: str = "mail") -> list[Notification]:
        claimed: list[Notification] = []
        look = limit
        for turn in range(ROUNDS):
            with self._translated():
                found = self._look(look, channel)
                older = self._older(found)
                ready = [row["_id"] for row in found if row["_id"] not in older]
                taken = self._take(ready[: limit - len(claimed)], lease)
                self._block(older)
            claimed += taken
            # Other senders may have taken all notifications seen; then there may be more after them.
            got_all = not older and (claimed or not ready)
            if got_all or len(claimed) == limit or (claimed and turn >= ENOUGH):
                break
            look = limit if taken else LOOK_AT
        return claimed

    def _look(self, limit: int, channel: str) -> list[Document]:
        fields = {"customer_id": 1, "recipient": 1, "first_version": 1, "version": 1}
        order = [("due", ASCENDING), ("position", ASCENDING)]
        due = self._rows.find({"channel": channel, **_IS_DUE}, fields)
        return list(due.sort(order).limit(limit).hint("due_of_channel"))

    def _older(self, found: list[Document]) -> dict[str, str]:
        """The notifications that must wait, each with the nearest older unsettled one."""
        older: dict[str, str] = {}
        oldest: list[Document] = []
        below: dict[tuple[int, str], Document] = {}
        for row in sorted((r for r in found if r["customer_id"] is not None), key=order):
            pair = (row["customer_id"], row["recipient"])
            if pair in below and order(below[pair]) < order(row):
                older[row["_id"]] = below[pair]["_id"]
            else:
                oldest.append(row)
            below[pair] = row
        first = self._first_unsettled({row["customer_id"] for row in oldest})
        late = [row for row in oldest if first.get((row["customer_id"], row["recipient"])) != order(row)]
        nearest: dict[str, Document] = {}
        stages = [stage for row in late for stage in _nearest_older(row)]
        if stages:
            unions = [{"$unionWith": {"coll": COLLECTION, "pipeline": stage}} for stage in stages[1:]]
            for match in self._rows.aggregate([*stages[0], *unions]):
                waits = match["waits"]
                if waits not in nearest or order(nearest[waits]) < order(match):
                    nearest[waits] = match
        return older | {waits: match["_id"] for waits, match in nearest.items()}

    def _first_unsettled(self, customer_ids: set[int]) -> dict[tuple[int, str], int]:
        """The first unsettled notification per customer and recipient; read from the index alone."""
        stages: list[Document] = [
            {"$match": {"unsettled": True, "customer_id": {"$in": list(customer_ids)}}},
            {"$group": {"_id": ["$customer_id", "$recipient"], "first": {"$min": ORDER}}},
        ]
        if not customer_ids:
            return {}
        found = self._rows.aggregate(stages, hint="order")
        return {(row["_id"][0], row["_id"][1]): row["first"] for row in found}

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
        return [notification(row) for row in sorted(rows, key=lambda r: (r["next_at"], r["position"]))]

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
        # Check after the marks were written: either this read sees that the older one has settled meanwhile,
        # or the process that settles it sees the mark.
        self._unblock_behind(older.values())

    def advance(self, hand_overs: Sequence[Notification], settlements: Sequence[Settlement]) -> Advanced:
        mark = str(uuid.uuid4())
        steps = [(n, "handing_over", _hand_over(n, mark)) for n in hand_overs]
        steps += [(s.notification, s.state, _settle(s, mark)) for s in settlements]
        if not steps:
            return Advanced(set(), set())
        moved = self._moved(steps, mark)
        with self._translated():
            self._unblock_behind(id_ for id_, state in moved.items() if state in SETTLED)
        return Advanced(
            {id_ for id_, state in moved.items() if state == "handing_over"},
            {id_ for id_, state in moved.items() if state != "handing_over"},
        )

    def _moved(self, steps: Sequence[tuple[Notification, str, UpdateOne]], mark: str) -> dict[str, str]:
        """Take the steps; return the new state for each step that succeeded."""
        with self._translated():
            done = self._rows.bulk_write([step for _, _, step in steps], ordered=False)
            if done.matched_count == len(steps):
                return {n.id: state for n, state, _ in steps}
            # A bulk write does not report which of its filters matched; the mark shows it.
            ids = [n.id for n, _, _ in steps]
            rows = self._rows.find({"_id": {"$in": ids}, "moved_by": mark}, {"state": 1})
            return {row["_id"]: row["state"] for row in rows}

    def renew(self, notifications: Sequence[Notification], lease: float) -> None:
        held = {
            "_id": {"$in": [n.id for n in notifications]},
            "token": {"$in": [n.token for n in notifications]},
            "state": {"$in": ["claimed", "handing_over"]},
        }
        with self._translated():
            self._rows.update_many(held, [{"$set": {"lease_until": _from_now(lease)}}])

    def expire(self, *, resend: bool = False) -> tuple[int, int]:
        with self._translated():
            # It never reached the hand-over, so the attempt is not counted.
            again = self._rows.update_many(
                {"state": "claimed", **_LEASE_IS_OVER},
                [
                    {"$set": {**_AGAIN, "attempts": {"$subtract": ["$attempts", 1]}}},
                    {"$unset": ["token", "lease", "lease_until"]},
                ],
            ).modified_count
            lost = self._expire_hand_overs(resend)
        return (again + lost, 0) if resend else (again, lost)

    def _expire_hand_overs(self, resend: bool) -> int:
        over = {"state": "handing_over", **_LEASE_IS_OVER}
        ids = [row["_id"] for row in self._rows.find(over, {"_id": 1})]
        if not ids:
            return 0
        step = {
            **(_AGAIN if resend else {"state": "unknown", "updated_on": "$$NOW"}),
            "reason": literal(LOST_IN_HAND_OVER),
            "tries": _with_attempt("unknown", None, LOST_IN_HAND_OVER, 0.0),
        }
        # An unknown one keeps its token, so that its sender, if it lives, can still record the result.
        gone = ["lease", "lease_until", "token" if resend else "unsettled"]
        done = self._rows.update_many({"_id": {"$in": ids}, **over}, [{"$set": step}, {"$unset": gone}])
        self._unblock_behind(ids)
        return done.modified_count

    def sweep(self) -> int:
        freed = 0
        with self._translated():
            for wrong in self._wrongly_blocked():
                marks = {"$or": [{"_id": row["_id"], "blocked_by": row["blocked_by"]} for row in wrong]}
                freed += self._rows.update_many(marks, _UNBLOCKED).modified_count
            now = [{"$set": {"next_at": "$$NOW", "due": "$$NOW"}}]
            freed += self._rows.update_many(_FAR, now, hint="due_of_channel").modified_count
        return freed

    def stuck(self) -> int:
        with self._translated():
            far = self._rows.count_documents(_FAR, hint="due_of_channel")
            return far + sum(map(len, self._wrongly_blocked()))

    def _wrongly_blocked(self) -> Iterator[list[Document]]:
        """Notifications marked as blocked by one that is settled, deleted, of others, or not older."""
        fields = {"blocked_by": 1, "customer_id": 1, "recipient": 1, "first_version": 1, "version": 1}
        blocked = self._rows.find({"blocked_by": {"$exists": True}}, fields)
        while rows := list(islice(blocked, LOOK_AT)):
            names = list({row["blocked_by"] for row in rows})
            open_ones = self._rows.find({"_id": {"$in": names}, "unsettled": True}, fields)
            older = {row["_id"]: row for row in open_ones}
            if wrong := [row for row in rows if not _goes_before(older.get(row["blocked_by"]), row)]:
                yield wrong

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
            return [notification(row) for row in self._rows.find(wanted).sort(order).limit(limit)]

    def published(self, ids: Sequence[str]) -> None:
        with self._translated():
            self._rows.update_many(
                {"_id": {"$in": list(ids)}, "state": "failed"}, {"$set": {"published": True}}
            )


def _goes_before(older: Document | None, row: Document) -> bool:
    return (
        older is not None
        and (older["customer_id"], older["recipient"]) == (row["customer_id"], row["recipient"])
        and order(older) < order(row)
    )


def _add(n: Notification, position: int) -> UpdateOne:
    new = {"$cond": [_IS_NEW, _new(n, position), "$$ROOT"]}
    # An existing digest does not match, so the upsert inserts, which fails with a duplicate key.
    only_new: Document = {} if n.entries is None else {"created_on": {"$exists": False}}
    return UpdateOne({"_id": n.id, **only_new}, [{"$replaceWith": new}], upsert=True)


def _grow(n: Notification, was: int) -> UpdateOne:
    """Give a digest its new content. If it has changed since it was read, the upsert fails."""
    due = n.next_at or "$next_at"
    step = {
        "version": n.version,
        "first_version": {"$ifNull": ["$first_version", "$version"]},
        "event_id": literal(n.event_id),
        "request_id": literal(n.request_id),
        "traceparent": literal(n.traceparent),
        "subject": literal(n.subject),
        "text": literal(n.text),
        "html": literal(n.html),
        "entries": literal(n.entries),
        "next_at": due,
        # A blocked one is not due, whatever its time.
        "due": {"$cond": [{"$eq": [{"$type": "$due"}, "missing"]}, "$$REMOVE", due]},
        "updated_on": "$$NOW",
    }
    grown = {"$cond": [_IS_NEW, {"_id": None}, {"$mergeObjects": ["$$ROOT", step]}]}
    as_it_was = {"_id": n.id, "state": "queued", "attempts": 0, "version": was}
    return UpdateOne(as_it_was, [{"$replaceWith": grown}], upsert=True)


def _new(n: Notification, position: int) -> Document:
    """The document of a new notification."""
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
        "channel": n.channel,
        "spared": 0,
        "entries": n.entries,
        "first_version": n.order,
        "request_id": n.request_id,
        "traceparent": n.traceparent,
        **({} if settled else {"unsettled": True}),
    }
    due = n.next_at or "$$NOW"
    times = {
        "created_on": "$$NOW",
        "updated_on": "$$NOW",
        "next_at": due,
        **({} if settled else {"due": due}),
    }
    return {"$mergeObjects": [{"$literal": static}, times]}


def _hand_over(n: Notification, mark: str) -> UpdateOne:
    step = {
        "state": "handing_over",
        "updated_on": "$$NOW",
        "lease_until": _from_now("$lease"),
        "moved_by": mark,
    }
    return UpdateOne({"_id": n.id, "token": n.token, "state": "claimed"}, [{"$set": step}])


def _settle(s: Settlement, mark: str) -> UpdateOne:
    n = s.notification
    may_be = ["claimed", "handing_over", *(["unknown"] if s.state in ("sent", "failed") else [])]
    step: Document = {
        "state": s.state,
        "reason": literal(s.reason),
        "next_at": s.next_at or "$next_at",
        "updated_on": "$$NOW",
        "moved_by": mark,
    }
    if s.state in UNSETTLED:
        step["due"] = s.next_at or "$next_at"
    if s.count_attempt:
        step["tries"] = _with_attempt(s.state, s.code, s.reason, s.duration)
    else:
        step["attempts"] = {"$subtract": ["$attempts", 1]}
    gone = ["token", "lease", "lease_until", *(["unsettled"] if s.state in SETTLED else [])]
    return UpdateOne(
        {"_id": n.id, "token": n.token, "state": {"$in": may_be}}, [{"$set": step}, {"$unset": gone}]
    )


def _nearest_older(row: Document) -> list[list[Document]]:
    """Pipelines with at most one result each: from rows with their first event, and from the others."""
    same = {"unsettled": True, "customer_id": row["customer_id"], "recipient": row["recipient"]}
    below = {"$lt": order(row)}
    found = {"waits": literal(row["_id"]), "first_version": 1, "version": 1}
    return [
        [
            {"$match": {**same, "first_version": {"$ne": None, **below}}},
            {"$sort": {"first_version": DESCENDING}},
            {"$limit": 1},
            {"$project": found},
        ],
        [
            {"$match": {**same, "first_version": None, "version": below}},
            {"$sort": {"version": DESCENDING}},
            {"$limit": 1},
            {"$project": found},
        ],
    ]


def _with_attempt(state: str, code: int | None, text: str | None, duration: float) -> Document:
    """The attempts with this one appended; it replaces one of the same number."""
    attempt = {
        "number": "$attempts",
        "tried_on": _from_now(-duration),
        "outcome": state,
        "code": code,
        "text": literal(text),
        "duration": duration,
    }
    before = {
        "$filter": {"input": {"$ifNull": ["$tries", []]}, "cond": {"$ne": ["$$this.number", "$attempts"]}}
    }
    return {"$concatArrays": [before, [attempt]]}


def _from_now(seconds: float | str) -> Document:
    millis = {"$multiply": [seconds, 1000]} if isinstance(seconds, str) else round(seconds * 1000)
    return {"$add": ["$$NOW", millis]}
