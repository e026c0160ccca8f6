"""Customers that share something, and dismissed pairs of them, in MongoDB."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from bson import Int64, Regex
from pymongo import ASCENDING, DeleteOne, ReplaceOne
from pymongo.database import Database

from ...domain.email_key import email_key
from ...domain.search import after_prefix
from ...ports.duplicates import Bearer, Key, Kind, Pair, Versions
from ..common.duplicates import begun, number_terms, read_bounded, share_out
from .connection import Connection, Document
from .queries import MongoQueries

_COLLECTION: Final = "dismissed_pair"
_FIELDS: Final = ("version", "name", "email", "phone")
_SHOWN: Final = dict.fromkeys(_FIELDS, 1)
# Written so that no index is used: each look-up goes by the index of its key.
_LIVE: Final[Document] = {"$nor": [{"deleted": {"$not": {"$eq": False}}}]}
# Up to this many keys are looked up one by one: then no more than the limit are read of each.
_FEW: Final = 12
_TERMS: Final = "terms_1__id_1"
# The kinds of keys that an index answers alone: its field and name.
_COVERED: Final[dict[Kind, tuple[str, str]]] = {
    "mailbox": ("email", "email_1__id_1"),
    "name": ("name_key", "name_key_1__id_1"),
}


def create_dismissed_pairs(database: Database[Document]) -> None:
    """The collection of dismissed pairs, found by either customer."""
    database[_COLLECTION].create_index([("_id.low", ASCENDING)])
    database[_COLLECTION].create_index([("_id.high", ASCENDING)])


class MongoDuplicates:
    """The port `Duplicates` on MongoDB."""

    def __init__(self, connection: Connection, customers: MongoQueries) -> None:
        self._translated = connection.translated
        self._customers = connection["customer"]
        self._pairs = connection[_COLLECTION]
        self._queries = customers

    def bearers(self, keys: Collection[Key], limits: Mapping[Kind, int]) -> dict[Key, list[Bearer]]:
        found: dict[Key, list[Bearer]] = {}
        texts: dict[Kind, list[str]] = {}
        for key in keys:
            texts.setdefault(key.kind, []).append(key.text)
        for kind, asked in texts.items():
            rows: list[tuple[Bearer, Collection[str]]]
            if kind in _COVERED and len(asked) > _FEW:
                rows = self._by_index(kind, asked, limits[kind])
            elif kind in _COVERED:
                rows = [row for text in asked for row in self._of_one(kind, text, limits[kind])]
            else:
                some = read_bounded(asked, limits[kind], partial(self._read, kind))
                rows = [(_bearer(row), _values(kind, row)) for row in some]
            share_out(found, kind, rows, asked, limits[kind])
        return found

    def _of_one(self, kind: Kind, text: str, limit: int) -> list[tuple[Bearer, Collection[str]]]:
        field, index = _COVERED[kind]
        end = after_prefix(text)
        where = {field: {"$gte": text, **({"$lt": end} if end else {})}, **_LIVE}
        with self._translated():
            rows = list(self._customers.find(where, {**_SHOWN, field: 1}, hint=index, limit=limit))
        return [(_bearer(row), [row[field]]) for row in rows]

    def _by_index(self, kind: Kind, texts: list[str], limit: int) -> list[tuple[Bearer, Collection[str]]]:
        """First by the index alone: many have a common name, and only up to the limit are read as a whole."""
        field, index = _COVERED[kind]

        def read(some: Sequence[str], most: int) -> list[Document]:
            where = {field: {"$in": [Regex(f"^{re.escape(text)}") for text in some]}}
            with self._translated():
                return list(self._customers.find(where, {field: 1}, hint=index, limit=most))

        ids: dict[str, list[int]] = {}
        for row in read_bounded(texts, limit, read):
            for text in begun(texts, [row[field]]):
                ids.setdefault(text, []).append(row["_id"])
        wanted = sorted({id_ for some in ids.values() for id_ in some[:limit]})
        if not wanted:
            return []
        where = {"_id": {"$in": wanted}, **_LIVE}
        with self._translated():
            rows = list(self._customers.find(where, {**_SHOWN, field: 1}, hint="_id_"))
        return [(_bearer(row), [row.get(field) or ""]) for row in rows]

    def _read(self, kind: Kind, texts: Sequence[str], most: int) -> list[Document]:
        """Customers that have one of these keys, at most `most`."""
        if kind == "email":
            # By the index of addresses in any case, which finds a few similar ones too.
            found = self._queries.having_emails(texts, {**_SHOWN, "deleted": 1}, most)
            return [row for row in found if not row["deleted"]]
        shown: Document = {**_SHOWN}
        if kind == "word":
            where: Document = {"terms": {"$in": list(texts)}}
            shown["terms"] = {"$setIntersection": ["$terms", list(texts)]}
        else:  # terms hold no special characters of patterns
            where = {"terms": {"$in": [Regex(f"^{text}") for text in texts]}}
        with self._translated():
            return list(self._customers.find({**where, **_LIVE}, shown, hint=_TERMS, limit=most))

    def dismiss(self, pairs: Mapping[Pair, Versions], by: str) -> None:
        now = dt.datetime.now(dt.UTC)
        with self._translated():
            self._pairs.bulk_write(
                [
                    ReplaceOne(
                        {"_id": _id(pair)},
                        {
                            "low_version": Int64(versions.low),
                            "high_version": Int64(versions.high),
                            "dismissed_by": by,
                            "dismissed_on": now,
                        },
                        upsert=True,
                    )
                    for pair, versions in pairs.items()
                ],
                ordered=False,
            )

    def undismiss(self, pairs: Collection[Pair]) -> int:
        with self._translated():
            done = self._pairs.bulk_write([DeleteOne({"_id": _id(pair)}) for pair in pairs], ordered=False)
        return int(done.deleted_count)

    def dismissed(self, pairs: Collection[Pair]) -> dict[Pair, Versions]:
        if not pairs:
            return {}
        with self._translated():
            rows = list(self._pairs.find({"_id": {"$in": [_id(pair) for pair in pairs]}}))
        return dict(map(_note, rows))

    def dismissals(self, limit: int, after: Pair | None = None) -> list[tuple[Pair, Versions]]:
        # Documents compare field by field, so by `low` first.
        where = {"_id": {"$gt": _id(after)}} if after else {}
        with self._translated():
            rows = list(self._pairs.find(where, sort=[("_id", ASCENDING)], limit=limit))
        return list(map(_note, rows))

    def forget(self, customer_ids: Sequence[int]) -> None:
        ids = [Int64(each) for each in customer_ids]
        with self._translated():
            self._pairs.delete_many({"$or": [{f"_id.{end}": {"$in": ids}} for end in Pair._fields]})


def _bearer(row: Document) -> Bearer:
    return Bearer(int(row["_id"]), *(row.get(field) for field in _FIELDS))  # type: ignore[arg-type]


def _values(kind: Kind, row: Document) -> Collection[str]:
    """The values of a customer that its keys of this kind begin."""
    if kind == "email":
        return [email_key(row["email"])]
    return number_terms(_bearer(row)) if kind == "number" else row["terms"]


def _id(pair: Pair) -> dict[str, Any]:
    return {"low": Int64(pair.low), "high": Int64(pair.high)}


def _note(row: Document) -> tuple[Pair, Versions]:
    pair = Pair(int(row["_id"]["low"]), int(row["_id"]["high"]))
    return pair, Versions(int(row["low_version"]), int(row["high_version"]))
