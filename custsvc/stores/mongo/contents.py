"""All customers of a MongoDB database. The server cannot hash, so digests are computed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pymongo
from bson import CodecOptions, Int64
from bson.codec_options import DatetimeConversion
from pymongo import ASCENDING

from ...ports.contents import Digest, Row
from ..common.digest import digest, line
from .connection import BULK_TIMEOUT, Connection, Document

# Times as milliseconds: the digest needs them, and they decode faster than datetimes.
_MILLIS: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_FOUND_BY = ("name", "email", "phone", "created_on", "updated_on")
_ALL = dict.fromkeys(("version", "deleted", *_FOUND_BY, "doc"), 1)


class MongoContents:
    """The port `Contents` on a collection of MongoDB."""

    def __init__(self, connection: Connection, collection: str = "customer") -> None:
        self._connection = connection
        self._customers = connection[collection]

    def scan(self, after_id: int, limit: int) -> list[Row]:
        return self._rows({"_id": {"$gt": Int64(after_id)}}, limit)

    def rows(self, ids: Sequence[int]) -> list[Row]:
        return self._rows({"_id": {"$in": [Int64(each) for each in ids]}}, len(ids)) if ids else []

    def _rows(self, where: Document, limit: int) -> list[Row]:
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = self._customers.find(
                where,
                {"version": 1, "deleted": 1, "doc": 1},
                sort=[("_id", ASCENDING)],
                limit=limit,
                batch_size=limit + 1,
            )
            return [
                Row(int(each["_id"]), int(each["version"]), each["deleted"], each["doc"].encode())
                for each in found
            ]

    def digest(self, after_id: int, *, limit: int | None = None, last_id: int | None = None) -> Digest:
        where: Document = {"_id": {"$gt": Int64(after_id)}}
        if last_id is not None:
            where["_id"]["$lte"] = Int64(last_id)
        ids: list[int] = []
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = self._customers.with_options(codec_options=_MILLIS).find(
                where, _ALL, sort=[("_id", ASCENDING)], limit=limit or 0, batch_size=10_000
            )
            hashed = digest(_lines(found, ids))
        return Digest(len(ids), ids[-1] if ids else None, hashed)

    def columns(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        wanted = {"_id": {"$in": [Int64(each) for each in ids]}}
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            found = list(self._customers.with_options(codec_options=_MILLIS).find(wanted, _ALL))
        return {
            int(each["_id"]): {
                name: int(each[name]) if name.endswith("_on") and name in each else each.get(name)
                for name in ("version", *_FOUND_BY)
            }
            for each in found
        }

    def overwrite(self, rows: Sequence[Row]) -> int:
        to_zero: Document = {"$set": {"version": Int64(0)}}
        changes = [pymongo.UpdateOne(_as_given(row), to_zero) for row in rows]
        if not changes:
            return 0
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            return self._customers.bulk_write(changes, ordered=False).modified_count

    def remove(self, rows: Sequence[Row]) -> int:
        changes: list[pymongo.DeleteOne] = [pymongo.DeleteOne(_as_given(row)) for row in rows]
        if not changes:
            return 0
        with self._connection.translated(), pymongo.timeout(BULK_TIMEOUT):
            return self._customers.bulk_write(changes, ordered=False).deleted_count


def _lines(found: Any, ids: list[int]) -> Iterator[str]:
    for each in found:
        ids.append(each["_id"])
        get = each.get
        yield line(
            each["_id"],
            get("version", 0),
            bool(get("deleted")),
            get("name", ""),
            get("email"),
            get("phone"),
            int(get("created_on") or 0),
            int(get("updated_on") or 0),
            get("doc", ""),
        )


def _as_given(row: Row) -> Document:
    return {"_id": Int64(row.id), "version": row.version, "doc": row.doc.decode()}
