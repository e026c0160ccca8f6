"""Where a page of a list begins and ends in the index of its order."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from bson import Int64, MaxKey

from ...domain.customers import INT64_MAX, format_time, parse_time
from ...ports.customers import CustomerQuery, Position, SortField
from .conditions import Range, index_of, less, parts_of
from .connection import Document

# Fields that a customer may lack; it then sorts first. One just written by an earlier release has no key.
_MAY_LACK: Final = ("name_key", "email")


def position(found: Document, field: str) -> Position:
    """The position of a customer in the order of this field."""
    key = found.get(field)
    if isinstance(key, dt.datetime):
        key = format_time(key)
    elif isinstance(key, int):
        key = int(key)
    return Position("" if key is None else key, int(found["_id"]))


def _key(sort: SortField, after: Position) -> Any:
    """The sort key of a position, as it stands in the index."""
    if sort in ("created_on", "updated_on"):
        return parse_time(str(after.key))
    if sort == "version":
        return Int64(after.key)
    return None if after.key == "" else after.key


def beyond(down: bool) -> str:
    """The operator of coming after a position, for lists that go up or down."""
    return "$lt" if down else "$gt"


def condition_after(query: CustomerQuery, field: str, down: bool) -> Document:
    """The condition of coming after the position where the page starts, for lists without a range."""
    assert query.after is not None  # noqa: S101 - only asked where it is
    after = beyond(down)
    if field == "_id":
        return {"_id": {after: Int64(query.after.id)}}
    key = _key(query.sort, query.after)
    later: Document = {field: {after: key}}
    if key is None:  # a comparison with null never matches text
        later = {field: {"$in": []}} if down else {field: {"$ne": None}}
    elif field in _MAY_LACK and down:
        later = {"$or": [later, {field: None}]}
    return {"$or": [{field: key, "_id": {after: Int64(query.after.id)}}, later]}


def range_of(query: CustomerQuery, down: bool) -> Range:
    """The range of the sort's own index in which the page lies, for a list that goes up or down."""
    part = _bounds_of_sort(query)
    if query.after is None:
        return part
    prefix = () if query.sort == "id" else (_key(query.sort, query.after),)
    if down:
        end = (*prefix, Int64(query.after.id))
        return part._replace(end=end if part.end is None or less(end, part.end) else part.end)
    next_id = MaxKey() if query.after.id == INT64_MAX else Int64(query.after.id + 1)
    start = (*prefix, next_id)
    return part._replace(start=start if part.start is None or less(part.start, start) else part.start)


def _bounds_of_sort(query: CustomerQuery) -> Range:
    index = index_of(query.sort)
    for part, _ in parts_of(query.filter):
        if part.keys == index:
            return part
    return Range(index, None, None)
