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

from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from ...ports.ledger import (
    ENOUGH,
    FARTHEST,
    LOOK_AT,
    LOST_IN_HAND_OVER,
    ROUNDS,
    SETTLED,
    Advanced,
    Grown,
    Notification,
    Overtaken,
    Settlement,
)
from .connection import Document
from .deliveries import MongoDeliveries
from .notifications import adding, from_now, growing, handing_over, settling, with_attempt
from .records import COLLECTION, ORDER, MongoRecords, literal, notification, order

_IS_DUE = {"due": {"$exists": True}, "$expr": {"$lte": ["$due", "$$NOW"]}}
_LEASE_IS_OVER = {"lease_until": {"$exists": True}, "$expr": {"$lt": ["$lease_until", "$$NOW"]}}
_UNCLAIMABLE = {"$unset": ["due"]}
_UNBLOCKED: list[Document] = [{"$set": {"due": "$next_at"}}, {"$unset": ["blocked_by"]}]
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


class MongoLedger(MongoRecords, MongoDeliveries):
    """The port `Ledger` on MongoDB: the queue; operators' actions are in `records`."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        # An ordered write: a reader that sees one notification sees all before it, and a crash or an
        # overtaken digest that ends the write half-way omits only the last ones.
        position = {id(n): at for at, n in enumerate(notifications)}
        writes = [growing(n, was) for n, was in sorted(grown, key=lambda each: each.notification.id)]
        writes += [adding(n, position[id(n)]) for n in sorted(notifications, key=attrgetter("order"))]
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
            "lease_until": from_now(lease),
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
        steps = [(n, "handing_over", handing_over(n, mark)) for n in hand_overs]
        steps += [(s.notification, s.state, settling(s, mark)) for s in settlements]
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
            self._rows.update_many(held, [{"$set": {"lease_until": from_now(lease)}}])

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
            "tries": with_attempt("unknown", None, LOST_IN_HAND_OVER, 0.0),
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
                step = {"publish_lease": from_now(lease), "publisher": mine}
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
