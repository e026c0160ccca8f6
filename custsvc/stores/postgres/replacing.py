"""Replacing all fields of a customer in one statement: PostgreSQL composes the event from the row it locks.

An update reads the customer, since its event's `before_change` is the customer as it was; that costs a round
trip and the work of decoding and encoding it in Python. Where all fields are given, the database has all that
is missing, and `Replacement` has the bytes around it.

`->` returns a member as it is written, so what it returns are our canonical bytes. A document that is laid
out in another way (a copy that was promoted has the documents of foreign producers) gives no row, and is
updated by reading it.
"""

from __future__ import annotations

from typing import Final

from ...domain.customers import EDITABLE, Stored, format_time
from ...domain.events import after_of
from ...domain.name_key import name_key
from ...domain.replacing import Replacement
from ...domain.search import terms_of
from .connection import ConnectionLost, Connections, Statement
from .rows import tsvector

_LAYOUT: Final = (*EDITABLE, "created_on", "created_by", "updated_on", "updated_by")
_MEMBERS: Final = ", ".join(f"(j->'{name}')::text AS {name}" for name in _LAYOUT)
_FIELDS: Final = ", ".join(f"""',"{name}":', {name}""" for name in EDITABLE)
# $16 to $19 are the new fields as JSON.
_CHANGED: Final = ", ".join(
    f"""CASE WHEN {name} <> ${number} THEN '"{name}"' END""" for number, name in enumerate(EDITABLE, 16)
)

_REPLACE = Statement(
    "replace_customer",
    "bigint, bigint, timestamptz, text, text, text, tsvector, text, uuid, text, bigint,"
    "text, text, text, text, text, text, text, text",
    f"""
    WITH locked AS MATERIALIZED (
        SELECT id, version, doc, doc::json AS j FROM customer
        WHERE id = $1 AND NOT deleted AND version = coalesce($2, version) AND updated_on <= $3
        FOR UPDATE
    ), members AS MATERIALIZED (
        SELECT id, version, doc, {_MEMBERS} FROM locked
    ), composed AS MATERIALIZED (
        SELECT id, version + 1 AS version, doc AS before, concat_ws(',', {_CHANGED}) AS changed,
            concat($12, version + 1, ',"created_on":', created_on, ',"created_by":', created_by, $13) AS after
        FROM members
        WHERE doc = concat('{{"id":', id, {_FIELDS}, ',"deleted":false,"version":', version,
            ',"created_on":', created_on, ',"created_by":', created_by,
            ',"updated_on":', updated_on, ',"updated_by":', updated_by, '}}')
    ), event AS MATERIALIZED (
        SELECT id, version, after,
            concat($14, version, ',"changed":[', changed, ']', $15, before, ',"after_change":', after, '}}')
                AS payload
        FROM composed WHERE changed <> ''
    ), stored AS (
        UPDATE customer AS c SET version = e.version, name = $4, email = $5, phone = $6, updated_on = $3,
            doc = e.after, terms = $7, name_key = $8, keyed = e.version
        FROM event AS e WHERE c.id = e.id AND octet_length(e.payload) <= $11
        RETURNING c.id
    )
    INSERT INTO customer_event (customer_id, version, created, id, op, payload, traceparent)
    SELECT e.id, e.version, $3, $9, 'updated', e.payload, $10 FROM event AS e JOIN stored USING (id)
    RETURNING version, (SELECT after FROM event)
    """,  # noqa: S608 - constants of this module
)

_IS_STORED = Statement(
    "replacement_stored",
    "bigint, uuid",
    "SELECT version, payload FROM customer_event WHERE customer_id = $1 AND id = $2",
)


def replace(connections: Connections, new: Replacement) -> Stored | None:
    """Store the next version and its event; None if this statement finds nothing that it can replace."""
    try:
        found = connections.run(_REPLACE, _params(new))
    except ConnectionLost:
        # It may have been committed: repeating it could overwrite a version that was made meanwhile.
        stored = connections.run(_IS_STORED, (new.customer_id, new.event_id))
        found = [(version, after_of(payload.encode()).decode()) for version, payload in stored]
    return Stored(new.customer_id, found[0][0], False, found[0][1].encode()) if found else None


def _params(new: Replacement) -> tuple[object, ...]:
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
