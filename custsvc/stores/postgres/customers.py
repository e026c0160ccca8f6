"""Customers in PostgreSQL: one statement per write stores the row and its event, in one round trip."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg2

from ...customer import Customer, Stored, format_time
from ...errors import VersionConflict
from ...events import Change
from ..base import CustomerQuery, Deleted, Page
from . import copying
from .connection import ConnectionLost, Connections, Statement

# Ids are leased in blocks, so that a POST is one round trip; a process that ends wastes the rest.
_ID_BLOCK = 32
_BULK_TIMEOUT = "SET LOCAL statement_timeout = '10min'"

COPIED = "id, version, deleted, name, email, phone, created_on, updated_on, doc"
COPIED_EVENT = "id, customer_id, version, op, created, payload"

_ROW = "bigint, bigint, boolean, text, text, text, timestamptz, timestamptz, text"
_EVENT = "uuid, text, text"

_NEW_IDS = Statement("new_ids", "integer", "SELECT nextval('customer_id_seq') FROM generate_series(1, $1)")
_GET = Statement("get_customer", "bigint", "SELECT version, deleted, doc FROM customer WHERE id = $1")
_CREATE = Statement(
    "create_customer",
    f"{_ROW}, {_EVENT}",
    """
    WITH c AS (
        INSERT INTO customer (id, version, deleted, name, email, phone, created_on, updated_on, doc)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    )
    INSERT INTO customer_event (customer_id, version, created, id, op, payload)
    VALUES ($1, $2, $8, $10, $11, $12)
    RETURNING true
    """,
)
# The event's `seq` is drawn while the row lock of the UPDATE is held: that is what orders versions.
_UPDATE = Statement(
    "update_customer",
    f"{_ROW}, {_EVENT}, bigint",
    """
    WITH u AS (
        UPDATE customer
        SET version = $2, deleted = $3, name = $4, email = $5, phone = $6, updated_on = $8, doc = $9
        WHERE id = $1 AND version = $13
        RETURNING id
    )
    INSERT INTO customer_event (customer_id, version, created, id, op, payload)
    SELECT id, $2, $8, $10, $11, $12 FROM u
    RETURNING true
    """,
)
_IS_STORED = Statement(
    "is_event_stored",
    "bigint, bigint, uuid",
    "SELECT 1 FROM customer_event WHERE customer_id = $1 AND version = $2 AND id = $3",
)
_HISTORY = Statement(
    "history",
    "bigint, bigint, integer",
    "SELECT payload FROM customer_event WHERE customer_id = $1 AND version < $2 "
    "ORDER BY version DESC LIMIT $3",
)

_DELETED: dict[Deleted, str] = {"exclude": "NOT deleted", "only": "deleted", "include": "true"}


def _find(deleted: Deleted) -> Statement:
    # The documents are joined by the server: for a page of 100 that is a third of the cost of rows.
    where = _DELETED[deleted]
    return Statement(
        f"find_{deleted}",
        "bigint, integer",
        f"""
        WITH page AS (SELECT id, doc FROM customer WHERE id > $1 AND {where} ORDER BY id LIMIT $2)
        SELECT string_agg(doc, ',' ORDER BY id), count(*), max(id),
               EXISTS (SELECT 1 FROM customer WHERE id > (SELECT max(id) FROM page) AND {where})
        FROM page
        """,  # noqa: S608 - constants of this module
    )


_FIND = {deleted: _find(deleted) for deleted in _DELETED}
_COUNT = {
    deleted: Statement(
        f"count_{deleted}",
        "boolean",
        f"SELECT count(*) FROM customer WHERE $1 AND {where}",  # noqa: S608 - constants of this module
    )
    for deleted, where in _DELETED.items()
}


class PostgresCustomers:
    """The port `CustomerStore` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._ids: list[int] = []
        self._ids_lock = threading.Lock()

    def new_id(self) -> int:
        with self._ids_lock:
            if not self._ids:
                self._ids = sorted(self.new_ids(_ID_BLOCK), reverse=True)
            return self._ids.pop()

    def new_ids(self, count: int) -> Sequence[int]:
        return [row[0] for row in self._connections.read(_NEW_IDS, (count,))]

    def ids_above(self, customer_id: int) -> None:
        with self._ids_lock, self._connections.cursor() as cursor:
            self._ids = []
            cursor.execute(
                "SELECT setval('customer_id_seq', greatest(%s, nextval('customer_id_seq')))", (customer_id,)
            )

    def get(self, customer_id: int) -> Stored | None:
        for version, deleted, doc in self._connections.read(_GET, (customer_id,)):
            return Stored(customer_id, version, deleted, doc.encode())
        return None

    def find(self, query: CustomerQuery) -> Page:
        params = (query.after_id or 0, query.limit)
        ((docs, count, last_id, has_more),) = self._connections.read(_FIND[query.deleted], params)
        return Page((docs or "").encode(), count, last_id, has_more)

    def count(self, deleted: Deleted = "exclude") -> int:
        ((count,),) = self._connections.read(_COUNT[deleted], (True,))
        return int(count)

    def save(self, change: Change) -> Stored:
        # A write whose connection broke may have happened. Doing it again is safe: if it did happen, the
        # version it expects is gone, and the event it left tells that it was ours.
        try:
            saved = self._try_save(change)
        except ConnectionLost:
            saved = self._try_save(change) or self._is_stored(change)
        if not saved:
            raise VersionConflict(f"customer {change.after.id} is not at version {change.after.version - 1}")
        return Stored(change.after.id, change.after.version, change.after.deleted, change.doc)

    def _try_save(self, change: Change) -> bool:
        event = change.event
        params: tuple[Any, ...] = (
            *_columns(change.after, change.doc),
            event.id,
            event.op,
            event.payload.decode(),
        )
        try:
            if change.before is None:
                return bool(self._connections.run(_CREATE, params))
            return bool(self._connections.run(_UPDATE, (*params, change.before.version)))
        except psycopg2.errors.UniqueViolation:
            return False

    def _is_stored(self, change: Change) -> bool:
        event = change.event
        return bool(self._connections.run(_IS_STORED, (event.customer_id, event.version, event.id)))

    def save_many(self, changes: Sequence[Change]) -> None:
        try:
            self._copy_in(changes)
        except psycopg2.errors.UniqueViolation as exc:
            raise VersionConflict("one of the new customers is there already; none was stored") from exc

    def _copy_in(self, changes: Sequence[Change]) -> None:
        with self._connections.transaction() as cursor:
            cursor.execute(_BULK_TIMEOUT)
            customers = copying.lines([copied_customer(change) for change in changes])
            cursor.copy_expert(f"COPY customer ({COPIED}) FROM STDIN", customers)
            events = copying.lines([copied_event(change) for change in changes])
            cursor.copy_expert(f"COPY customer_event ({COPIED_EVENT}) FROM STDIN", events)

    def history(self, customer_id: int, *, limit: int, before_version: int | None = None) -> list[bytes]:
        params = (customer_id, before_version if before_version is not None else 2**63 - 1, limit)
        return [row[0].encode() for row in self._connections.read(_HISTORY, params)]


def _columns(customer: Customer, doc: bytes) -> tuple[Any, ...]:
    f = customer.fields
    return (
        customer.id,
        customer.version,
        customer.deleted,
        f.name,
        f.email,
        f.phone,
        format_time(customer.created_on),
        format_time(customer.updated_on),
        doc.decode(),
    )


def copied_customer(change: Change) -> str:
    """A customer's line for COPY, in the order of `COPIED`."""
    c, text = change.after, copying.text
    f = c.fields
    return (
        f"{c.id}\t{c.version}\t{c.deleted}\t{text(f.name)}\t{text(f.email)}\t{text(f.phone)}\t"
        f"{format_time(c.created_on)}\t{format_time(c.updated_on)}\t{copying.json(change.doc)}\n"
    )


def copied_event(change: Change) -> str:
    """An event's line for COPY, in the order of `COPIED_EVENT`."""
    event_id, customer_id, version, op, time, payload = change.event
    return f"{event_id}\t{customer_id}\t{version}\t{op}\t{format_time(time)}\t{copying.json(payload)}\n"
