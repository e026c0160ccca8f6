"""Replacing all fields of customers in one statement: PostgreSQL composes the events from the rows it locks.

An update reads the customer, since its event's `before_change` is the customer as it was; that costs a round
trip and the work of decoding and encoding it in Python. Where all fields are given, the database has all that
is missing, and `Replacement` has the bytes around it.

`->` returns a member as it is written, so what it returns are our canonical bytes. A document that is laid
out in another way (a copy that was promoted has the documents of foreign producers) gives no row, and is
updated by reading it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...domain.customers import EDITABLE, Stored, format_time
from ...domain.events import after_of
from ...domain.name_key import name_key
from ...domain.replacing import Replacement
from ...domain.search import terms_of
from ..common.together import Together
from .connection import Connections, Statement
from .many import LONG, array_types, run_many, unnested
from .rows import tsvector
from .translate import ConnectionLost

_LAYOUT: Final = (*EDITABLE, "created_on", "created_by", "updated_on", "updated_by")
# One pass over the document; a member that is null has no value here, and only these two may be null.
_MEMBERS: Final = ", ".join(
    f"coalesce(m.{name}::text, 'null') AS {name}"
    if name in ("email", "phone")
    else f"m.{name}::text AS {name}"
    for name in _LAYOUT
)
_RECORD: Final = ", ".join(f"{name} json" for name in _LAYOUT)
_FIELDS: Final = ", ".join(f"""',"{name}":', b.{name}""" for name in EDITABLE)
_CHANGED: Final = ", ".join(
    f"""CASE WHEN b.{name} <> b.new_{name} THEN '"{name}"' END""" for name in EDITABLE
)
# A replacement's values, in the order of `_params`.
_VALUES: Final = {
    "id": "bigint",
    "expected": "bigint",
    "time": "timestamptz",
    "set_name": "text",
    "set_email": "text",
    "set_phone": "text",
    "terms": "tsvector",
    "name_key": "text",
    "event_id": "uuid",
    "traceparent": "text",
    "event_limit": "bigint",
    "doc_head": "text",
    "doc_tail": "text",
    "event_head": "text",
    "event_middle": "text",
    # As JSON.
    **{f"new_{name}": "text" for name in EDITABLE},
}
_TYPES: Final = ", ".join(_VALUES.values())


def _replacing(name: str, types: str, source: str, lock: str, *, by_index: bool) -> Statement:
    """The statement that replaces the customers of the rows of `source`, and returns what it stored."""
    return Statement(
        name,
        types,
        f"""
        WITH new AS MATERIALIZED (
            SELECT * FROM {source} AS n ({", ".join(_VALUES)})
        ), before AS MATERIALIZED (
            SELECT n.*, c.version, c.doc, {_MEMBERS}
            FROM new AS n, LATERAL (
                SELECT version, doc FROM customer
                WHERE id = n.id AND NOT deleted AND version = coalesce(n.expected, version)
                    AND updated_on <= n.time
                {lock}
            ) AS c, json_to_record(c.doc::json) AS m ({_RECORD})
        ), composed AS MATERIALIZED (
            SELECT b.*, b.version + 1 AS next, concat_ws(',', {_CHANGED}) AS changed,
                concat(doc_head, b.version + 1, ',"created_on":', b.created_on,
                    ',"created_by":', b.created_by, doc_tail) AS after
            FROM before AS b
            WHERE b.doc = concat('{{"id":', b.id, {_FIELDS}, ',"deleted":false,"version":', b.version,
                ',"created_on":', b.created_on, ',"created_by":', b.created_by,
                ',"updated_on":', b.updated_on, ',"updated_by":', b.updated_by, '}}')
        ), event AS MATERIALIZED (
            SELECT c.*, concat(event_head, next, ',"changed":[', changed, ']', event_middle, doc,
                ',"after_change":', after, '}}') AS payload
            FROM composed AS c WHERE changed <> ''
        ), stored AS (
            UPDATE customer AS c SET version = e.next, name = e.set_name, email = e.set_email,
                phone = e.set_phone, updated_on = e.time, doc = e.after, terms = e.terms,
                name_key = e.name_key, keyed = e.next
            FROM event AS e WHERE c.id = e.id AND octet_length(e.payload) <= e.event_limit
            RETURNING c.id
        ), told AS (
            INSERT INTO customer_event (customer_id, version, created, id, op, payload, traceparent)
            SELECT e.id, e.next, e.time, e.event_id, 'updated', e.payload, e.traceparent
            FROM event AS e JOIN stored USING (id)
        )
        SELECT e.id, e.next, e.after FROM event AS e JOIN stored USING (id)
        """,  # noqa: S608 - constants of this module
        by_index,
    )


_ROW: Final = f"(VALUES ({', '.join(f'${number}' for number in range(1, len(_VALUES) + 1))}))"
_REPLACE = _replacing("replace_customer", _TYPES, _ROW, "FOR UPDATE", by_index=False)
# A customer that another transaction has locked is left to its own request, so that no other waits for it.
_REPLACE_FREE = _replacing("replace_free_customer", _TYPES, _ROW, "FOR UPDATE SKIP LOCKED", by_index=False)
_REPLACE_MANY = _replacing(
    "replace_customers",
    array_types(_TYPES),
    unnested(len(_VALUES)),
    "FOR UPDATE SKIP LOCKED",
    by_index=True,
)

_IS_STORED = Statement(
    "replacement_stored",
    "bigint, uuid",
    "SELECT version, payload FROM customer_event WHERE customer_id = $1 AND id = $2",
)


class Replacing:
    """Replaces customers, those of several threads at the same time in one statement."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._together = Together(self._replaced, lambda params: params[0])

    def replace(self, new: Replacement) -> Stored | None:
        """Store the next version and its event; None if the statement finds nothing that it can replace."""
        params = _params(new)
        try:
            found = self._together.do(params) if len(new.doc_head) <= LONG else None
            if found is None:
                found = self._connections.run(_REPLACE, params)
        except ConnectionLost:
            # It may have been committed: repeating it could overwrite a version that was made meanwhile.
            stored = self._connections.run(_IS_STORED, (new.customer_id, new.event_id))
            found = [(0, version, after_of(payload.encode()).decode()) for version, payload in stored]
        return Stored(new.customer_id, found[0][1], False, found[0][2].encode()) if found else None

    def _replaced(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[list[tuple[Any, ...]] | None]:
        """What each replacement has stored; None for one that must be tried alone."""
        if len(rows) == 1:
            return [self._connections.run(_REPLACE_FREE, rows[0]) or None]
        stored = run_many(self._connections, _REPLACE_MANY, rows)
        if stored is None:
            return [None] * len(rows)
        by_id = {row[0]: row for row in stored}
        return [[by_id[params[0]]] if params[0] in by_id else [] for params in rows]


def _params(new: Replacement) -> tuple[Any, ...]:
    f = new.fields
    return (
        new.customer_id,
        new.expected,
        format_time(new.time),
        f.name,
        f.email,
        f.phone,
        tsvector(terms_of(f.name, f.email, f.phone, f.metadata)),
        name_key(f.name),
        new.event_id,
        new.traceparent,
        new.event_limit,
        new.doc_head,
        new.doc_tail,
        new.event_head,
        new.event_middle,
        *new.members,
    )
