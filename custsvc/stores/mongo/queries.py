"""Reading customers from MongoDB: one, a page of a list, how many there are, the history of one.

A page starts at its position in an index, so it costs the same at any depth. This module chooses the index,
not the server, whose plan cache would use for a rare word the plan of a common one: a condition that few
customers meet is looked up in its own index, and the result is sorted; otherwise the query walks the list in
its order, and skips the customers that do not match.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Final, NamedTuple

import pymongo
from bson import Int64
from pymongo import ASCENDING, DESCENDING

from ...domain.customers import INT64_MAX, Stored
from ...domain.email_key import email_key
from ...domain.name_key import is_name_key
from ...domain.search import Words
from ...ports.customers import (
    LIVE,
    CustomerFilter,
    CustomerQuery,
    Deleted,
    Page,
)
from . import carried
from .conditions import (
    DELETED,
    FIELDS,
    TERMS,
    alternatives_of,
    begins,
    bound,
    conditions_of,
    index_of,
    less,
    other_conditions,
    parts_of,
    unindexed,
)
from .connection import BULK_TIMEOUT, Connection, Document
from .list_indexes import ANY_CASE, BY_EMAIL_KEY
from .pages import beyond, condition_after, position, range_of
from .refill import MongoRefilling

BY_DELETED: Final = "deleted_1__id_1"
# This many customers are sorted quickly; if more meet a condition, a walk soon fills a page.
_FEW: Final = 3000
# This many customers are read and sorted where a walk would read still more.
_MANY: Final = 30_000
# The customers of at most this many words are intersected.
_CROSSED: Final = 3
# Sample size: it estimates a share of 5 % to within one percentage point.
_DRAWN: Final = 500
# This many index keys are counted in a few milliseconds.
_CHEAP: Final = 5000

# Sorted by without a hint: only databases of an earlier release have an index on it.
_WRITTEN_NAME: Final = "name"
# The fields that `_stored` needs.
_STORED: Final = {"version": 1, "deleted": 1, "doc": 1, "hlc": 1}


class _Few(NamedTuple):
    """An index that leads to few customers, and the conditions for it."""

    keys: list[tuple[str, int]]
    conditions: list[Document]


class MongoQueries:
    """The reading half of the port `CustomerStore` on MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._customers = connection["customer"]
        self._events = connection["customer_event"]
        self.refilling = MongoRefilling(connection)

    def get(self, customer_id: int) -> Stored | None:
        with self._connection.translated():
            found = self._customers.find_one({"_id": customer_id}, _STORED)
        return _stored(found) if found else None

    def get_many(self, ids: Sequence[int]) -> dict[int, Stored]:
        wanted = {"_id": {"$in": [Int64(each) for each in ids]}}
        with self._connection.translated():
            found = self._customers.find(wanted, _STORED, batch_size=len(ids) + 1)
            return {int(each["_id"]): _stored(each) for each in found}

    def get_by_emails(self, emails: Sequence[str]) -> list[Stored]:
        with self._connection.translated():
            found = self._by_emails(emails, _STORED)
        return sorted((_stored(each) for each in found), key=lambda stored: stored.id)

    def _by_emails(self, emails: Sequence[str], fields: Document, most: int = 0) -> list[Document]:
        """The customers with one of these addresses in any case, at most `most` if that is given."""
        keys = {email_key(each) for each in emails}
        found = self._customers.find(
            {"email": {"$in": sorted(keys)}},
            {**fields, "email": 1},
            hint=str(BY_EMAIL_KEY.document["name"]),
            collation=ANY_CASE,
            batch_size=len(keys) + 1,
            limit=most,
        )
        return [each for each in found if email_key(each["email"]) in keys]

    def having_emails(self, emails: Sequence[str], fields: Document, most: int) -> list[Document]:
        """These fields of customers that have one of these addresses in any case."""
        with self._connection.translated():
            return self._by_emails(emails, fields, most)

    def find(self, query: CustomerQuery) -> Page:
        with self._connection.translated():
            query = replace(query, filter=self.refilling.now(query.filter))
            field = self._field(query)
            found = self._read(query, field)
        page, more = found[: query.limit], len(found) > query.limit
        if not page:
            return Page(b"", 0, None, None, False)
        if query.backward:
            page.reverse()
        docs = ",".join([each["doc"] for each in page]).encode()
        first, last = (position(page[end], field) for end in (0, -1))
        return Page(docs, len(page), first, last, more)

    def _field(self, query: CustomerQuery) -> str:
        """The sort field: names as written while some have no key, and for lists that began like this."""
        after = query.after
        if query.sort == "name" and not (is_name_key(after.key) if after else self.refilling.is_over()):
            return _WRITTEN_NAME
        return FIELDS[query.sort]

    def _read(self, query: CustomerQuery, field: str) -> list[Document]:
        """Read one customer more than the page, in the order of reading."""
        down = query.descending != query.backward
        limit = query.limit + 1
        if query.sort == "id" and query.filter.is_plain:
            return self._by_id(query, down, limit)
        few, fields = self._few(query.filter) or self._scarce(query.filter, limit), {"doc": 1, field: 1}
        sort = [(name, DESCENDING if down else ASCENDING) for name in dict.fromkeys((field, "_id"))]
        if few is not None or field == _WRITTEN_NAME:
            conditions = [*(few.conditions if few else conditions_of(query.filter))]
            conditions += [condition_after(query, field, down)] if query.after else []
            where = {"$and": conditions} if conditions else {}
            found = self._customers.find(where, fields, sort=sort, limit=limit, batch_size=limit)
            return list(found.hint(few.keys) if few else found.allow_disk_use(True))
        part, conditions = range_of(query, down), conditions_of(query.filter)
        if part.start is not None and part.end is not None and not less(part.start, part.end):
            return []
        where = {"$and": conditions} if conditions else {}
        found = self._customers.find(where, fields, sort=sort, hint=part.keys, limit=limit, batch_size=limit)
        if part.start is not None:
            found = found.min(bound(part.keys, part.start))
        if part.end is not None:
            found = found.max(bound(part.keys, part.end))
        return list(found)

    def _by_id(self, query: CustomerQuery, down: bool, limit: int) -> list[Document]:
        where: Document = {} if query.after is None else {"_id": {beyond(down): Int64(query.after.id)}}
        if query.filter.deleted != "include":
            where |= DELETED[query.filter.deleted]
        return list(
            self._customers.find(
                where,
                {"doc": 1},
                sort=[("_id", DESCENDING if down else ASCENDING)],
                hint="_id_" if query.filter.deleted == "include" else BY_DELETED,
                limit=limit,
                batch_size=limit,
            )
        )

    def _few(self, asked: CustomerFilter) -> _Few | None:
        """The index that finds all matching customers, if only few meet one of the conditions."""
        if asked.nobody:
            return _Few(index_of("id"), [{"_id": {"$in": []}}])
        if asked.email is not None:
            spelled = {each["email"] for each in self._by_emails([asked.email], {})}
            return _Few(index_of("email"), [{"email": {"$in": sorted(spelled)}}, *conditions_of(asked)])
        best, fewest = None, _FEW
        parts = parts_of(asked)
        for number, (part, condition) in enumerate(parts):
            met = self._met(condition, part.keys, fewest)
            if met <= fewest:
                best, fewest = number, met
            if fewest == 0:
                break
        if best is None:
            return None
        # Only the best condition may use an index: the server would sometimes choose one of the others.
        others = [unindexed(condition) for number, (_, condition) in enumerate(parts) if number != best]
        return _Few(parts[best][0].keys, [parts[best][1], *others, *other_conditions(asked)])

    def _scarce(self, asked: CustomerFilter, limit: int) -> _Few | None:
        """The ids of those who have all words, if a walk would read more customers to fill a page of `limit`.

        Each of two words may be common, and both together rare: then a walk finds next to nothing. The index
        has the ids, so no customer is read for a word alone.
        """
        alternatives = alternatives_of(asked)
        words = {word for each in alternatives for alternative in each for word in alternative}
        if asked.earlier or len(words) < 2:
            return None
        met = {word: self._met({"terms": begins(word)}, TERMS, _MANY) for word in words}
        total = max(self._customers.estimated_document_count(), 1)
        # As if words were independent of each other.
        share = prod(
            sum(prod(met[word] / total for word in alternative) for alternative in each)
            for each in alternatives
        )
        by_cost = sorted(
            (sum(min(met[word] for word in alternative) for alternative in each), each)
            for each in alternatives
        )
        if by_cost[0][0] > min(_MANY, limit / max(share, 1 / total)):
            return None

        def having(alternative: Words) -> set[int]:
            return set.intersection(*(self._ids_with(word) for word in alternative if met[word] <= _MANY))

        sets = [set.union(*map(having, each)) for cost, each in by_cost[:_CROSSED] if cost <= _MANY]
        ids = [Int64(each) for each in set.intersection(*sets)]
        return _Few(index_of("id"), [{"_id": {"$in": ids}}, *conditions_of(asked)])

    def _ids_with(self, word: str) -> set[int]:
        """The customers that have a word beginning like this."""
        where = {"terms": begins(word)}
        found = self._customers.find(where, {"_id": 1}, hint=TERMS, batch_size=_MANY + 1)
        return {each["_id"] for each in found}

    def _met(self, condition: Document, index: list[tuple[str, int]], limit: int) -> int:
        """How many customers meet a condition, by the keys of its index; at most one more than `limit`."""
        answer = self._connection.database.command(
            "count", "customer", query=condition, hint=dict(index), limit=limit + 1
        )
        return int(answer["n"])

    def count(self, where: CustomerFilter = LIVE, *, exact: bool = True) -> int:
        where = self.refilling.now(where)
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            if where.is_plain:
                return self._count_plain(where.deleted, exact=exact)
            few = self._few(where)
            if few is not None:
                return self._count_few(few)
            return self._count_all(where) if exact else self._sample(where)

    def count_if_cheap(self, where: CustomerFilter) -> tuple[int, bool]:
        where = self.refilling.now(where)
        with self._connection.translated():
            if where.is_plain:
                found = self._count_plain(where.deleted, exact=True, limit=_CHEAP + 1)
                return (found, True) if found <= _CHEAP else (self.count(where, exact=False), False)
            if few := self._few(where):
                return self._count_few(few), True
            if self._customers.estimated_document_count() <= _CHEAP:
                return self._count_all(where), True
            return self._sample(where), False

    def _count_few(self, few: _Few) -> int:
        found = self._customers.find({"$and": few.conditions}, {"_id": 1}, hint=few.keys)
        return sum(1 for _ in found)

    def _count_all(self, where: CustomerFilter, *before: Document) -> int:
        answer = list(
            self._customers.aggregate([*before, {"$match": {"$and": conditions_of(where)}}, {"$count": "n"}])
        )
        return int(answer[0]["n"]) if answer else 0

    def _sample(self, where: CustomerFilter) -> int:
        """Estimate how many customers meet a filter, from a sample.

        It draws random ids, which costs a few milliseconds; $sample takes fifty, whatever its size.
        """
        total = self._customers.estimated_document_count()
        newest = self._customers.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        if newest is None:
            return 0
        ids = random.sample(range(1, newest["_id"] + 1), min(_DRAWN, newest["_id"]))
        drawn: Document = {"_id": {"$in": [Int64(each) for each in ids]}}
        there = self._customers.count_documents(drawn)
        if there >= len(ids) // 10:
            met = self._customers.count_documents({"$and": [drawn, *conditions_of(where)]}, hint="_id_")
        else:  # sparse ids, imported from elsewhere
            there, met = min(_DRAWN, total), self._count_all(where, {"$sample": {"size": _DRAWN}})
        return int(total * met / max(there, 1))

    def _count_plain(self, deleted: Deleted, *, exact: bool, limit: int = 0) -> int:
        if not exact:
            total = self._customers.estimated_document_count()
            trash = self._count_plain("only", exact=True) if deleted != "include" else 0
            return trash if deleted == "only" else max(total - trash, 0)
        # The command counts index keys alone; count_documents() would look at each of them.
        answer = self._connection.database.command(
            "count",
            "customer",
            query=DELETED[deleted],
            hint=BY_DELETED,
            limit=limit,
            readConcern=self._customers.read_concern.document,
        )
        return int(answer["n"])

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        newest = INT64_MAX if before_version is None else before_version - 1
        return self._payloads(customer_id, newest, None, limit)

    def event_at(self, customer_id: int, time: dt.datetime) -> bytes | None:
        found = self._payloads(customer_id, INT64_MAX, time, 1)
        return found[0] if found else None

    def _payloads(self, customer_id: int, newest: int, until: dt.datetime | None, limit: int) -> list[bytes]:
        """The events up to a version and a time, newest first, including those that the customer carries."""
        where: Document = {"_id": {"$gte": event_key(customer_id, 0), "$lte": event_key(customer_id, newest)}}
        if until is not None:
            where["time"] = {"$lte": until}
        with self._connection.translated():
            held = carried.of_customer(self._customers, customer_id)
            found = self._events.find(
                where, {"payload": 1}, sort=[("_id", DESCENDING)], limit=limit, batch_size=limit + 1
            )
            payloads = {int(each["_id"]["version"]): each["payload"] for each in found}
        for event in held:
            version = int(event["_id"]["version"])
            if version <= newest and (until is None or event["time"] <= until):
                payloads[version] = event["payload"]
        return [payloads[version].encode() for version in sorted(payloads, reverse=True)[:limit]]


def event_key(customer_id: int, version: int) -> Document:
    """The `_id` of an event."""
    return {"customer_id": Int64(customer_id), "version": Int64(version)}


def _stored(found: Document) -> Stored:
    return Stored(
        int(found["_id"]),
        int(found["version"]),
        found["deleted"],
        found["doc"].encode(),
        int(found.get("hlc", 0)),
    )
