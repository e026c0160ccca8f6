"""The conditions of a filter as MongoDB takes them, and the ranges of the indexes for them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bson import MaxKey, MinKey, Regex
from pymongo import ASCENDING

from ...domain.name_key import name_prefix
from ...domain.search import Words, after_prefix, metadata_terms
from ...ports.customers import CustomerFilter, Deleted, SortField, TimeSpan
from .connection import Document

DELETED: Final[dict[Deleted, Document]] = {
    "exclude": {"deleted": False},
    "only": {"deleted": True},
    "include": {"deleted": {"$gte": False, "$lte": True}},
}
FIELDS: Final[dict[SortField, str]] = {
    "id": "_id",
    "name": "name_key",
    "email": "email",
    "created_on": "created_on",
    "updated_on": "updated_on",
    "version": "version",
}
TERMS: Final = [("terms", ASCENDING), ("_id", ASCENDING)]


def index_of(sort: SortField) -> list[tuple[str, int]]:
    if sort == "id":
        return [("_id", ASCENDING)]
    return [(FIELDS[sort], ASCENDING), ("_id", ASCENDING)]


class Range(NamedTuple):
    """A range of an index: from `start` on, and before `end`, if given."""

    keys: list[tuple[str, int]]
    start: tuple[Any, ...] | None
    end: tuple[Any, ...] | None


def parts_of(asked: CustomerFilter) -> list[tuple[Range, Document]]:
    """For each condition of a filter the range of its index, and the condition itself."""
    parts: list[tuple[Range, Document]] = []
    for condition in _term_conditions(asked):
        parts.append((Range(TERMS, None, None), condition))
    for key, text in asked.metadata:
        terms = metadata_terms(key, text)
        if len(terms) == 1:
            parts.append((Range(TERMS, None, None), {"terms": terms[0]}))
    if prefix := name_prefix(asked.name_prefix or ""):
        end = after_prefix(prefix)
        part = Range(index_of("name"), (prefix, MinKey()), (end, MinKey()) if end else None)
        parts.append((part, {FIELDS["name"]: _between(prefix, end)}))
    for sort, span in (("created_on", asked.created), ("updated_on", asked.updated)):
        if span != TimeSpan():
            bounds = [(time, MinKey()) if time else None for time in span]
            parts.append((Range(index_of(sort), *bounds), {sort: _between(*span)}))  # type: ignore[arg-type]
    return parts


def conditions_of(asked: CustomerFilter) -> list[Document]:
    return [*(condition for _, condition in parts_of(asked)), *other_conditions(asked)]


def other_conditions(asked: CustomerFilter) -> list[Document]:
    """The conditions that are not in `_parts`, except that on the address."""
    conditions = _exact_conditions(asked)
    for key, text in asked.metadata:
        terms = metadata_terms(key, text)
        if len(terms) > 1:
            conditions.append({"terms": {"$in": terms}})
    if asked.written_prefix:
        conditions.append({"name": _between(asked.written_prefix, after_prefix(asked.written_prefix))})
    if asked.deleted != "include":
        conditions.append(DELETED[asked.deleted])
    return conditions


def unindexed(condition: Document) -> Document:
    """The same condition, written so that no index is used."""
    if "terms" not in condition:
        return condition
    asked = condition["terms"]
    return {"$nor": [{"terms": {"$not": asked if isinstance(asked, dict) else {"$eq": asked}}}]}


def begins(word: str) -> Document:
    return {"$regex": f"^{word}"}  # terms hold no special characters of patterns


def alternatives_of(asked: CustomerFilter) -> list[tuple[Words, ...]]:
    """The conditions that must all hold, each in one of several alternatives."""
    return [*(((word,),) for word in asked.words), *asked.phrases]


def _term_conditions(asked: CustomerFilter) -> list[Document]:
    """The conditions that can use an index: for each alternative its longest word."""
    if asked.earlier and (asked.words or asked.phrases):
        # One condition that matches both this version's terms and an earlier version's.
        best = max(
            alternatives_of(asked),
            key=lambda alternatives: min(len(max(alternative, key=len)) for alternative in alternatives),
        )
        return [_one_of((*best, asked.earlier))]
    return [*({"terms": begins(word)} for word in asked.words), *map(_one_of, asked.phrases)]


def _one_of(alternatives: tuple[Words, ...]) -> Document:
    return {"terms": {"$in": [Regex(f"^{max(alternative, key=len)}") for alternative in alternatives]}}


def _exact_conditions(asked: CustomerFilter) -> list[Document]:
    """The conditions that `_term_conditions` leaves out, written so that no index is used."""
    if asked.earlier and (asked.words or asked.phrases):
        now = {"$and": [_some_alternative(alternatives) for alternatives in alternatives_of(asked)]}
        return [{"$or": [now, _some_alternative((asked.earlier,))]}]
    return [
        _some_alternative(alternatives)
        for alternatives in asked.phrases
        if any(len(alternative) > 1 for alternative in alternatives)
    ]


def _some_alternative(alternatives: tuple[Words, ...]) -> Document:
    return {
        "$or": [
            {"$and": [unindexed({"terms": begins(word)}) for word in alternative]}
            for alternative in alternatives
        ]
    }


def _between(start: Any, end: Any) -> Document:
    given = {"$gte": start, "$lt": end}
    return {sign: value for sign, value in given.items() if value is not None}


def bound(index: list[tuple[str, int]], values: tuple[Any, ...]) -> list[tuple[str, Any]]:
    return [(name, value) for (name, _), value in zip(index, values, strict=True)]


_RANKS: Final = ((MinKey, 0), (type(None), 1), (MaxKey, 3))


def less(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether `a` sorts before `b` in an index: MinKey, null, values, MaxKey."""
    for one, other in zip(a, b, strict=True):
        rank, other_rank = _rank(one), _rank(other)
        if rank != other_rank:
            return rank < other_rank
        if rank == _VALUE and one != other:
            return bool(one < other)
    return False


_VALUE: Final = 2


def _rank(value: Any) -> int:
    return next((rank for kind, rank in _RANKS if isinstance(value, kind)), _VALUE)
