"""Writing customers to PostgreSQL: one statement stores the row, its event and the answer to its key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extras import execute_values

from ...domain.customers import Stored
from ...domain.events import Change, CustomerEvent, time_of
from ...domain.replacing import Replacement
from ...errors import KeyTaken, VersionConflict
from ...ports.answers import Answer
from ..common.together import Together
from . import copying
from .answers import ADD_ANSWER, answer_row, is_key_taken
from .connection import Connections, Statement, temporary
from .doorbell import Doorbell
from .many import LONG, array_types, run_many, unnested
from .queries import PostgresQueries
from .replacing import Replacing
from .rows import CHANGEABLE, COPIED, TYPES, copied_customer, customer_row
from .translate import ConnectionLost

# Ids are leased in blocks, so that a POST is one round trip; a process that ends wastes the rest.
_ID_BLOCK = 32
_BULK_TIMEOUT = "SET LOCAL statement_timeout = '10min'"

COPIED_EVENT = "id, customer_id, version, op, created, payload, traceparent"
_EVENT_COLUMNS = "customer_id, version, created, id, op, payload, traceparent"
_EVENT_TYPES = "uuid, text, text, text"
_ANSWER_TYPES = "text, text, bytea, text, timestamptz"

_NEW_IDS = Statement("new_ids", "integer", "SELECT nextval('customer_id_seq') FROM generate_series(1, $1)")
_IS_STORED = Statement(
    "is_event_stored",
    "bigint, bigint, uuid",
    "SELECT 1 FROM customer_event WHERE customer_id = $1 AND version = $2 AND id = $3",
)


_CREATE_TYPES = f"{TYPES}, {_EVENT_TYPES}"


def _create(name: str, types: str = "", keeping: str = "") -> Statement:
    return Statement(
        name,
        f"{TYPES}, {_EVENT_TYPES}{types}",
        f"""
        WITH c AS (
            INSERT INTO customer ({COPIED}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $2)
        ){keeping}
        INSERT INTO customer_event ({_EVENT_COLUMNS}) VALUES ($1, $2, $8, $12, $13, $14, $15)
        RETURNING true
        """,  # noqa: S608 - constants of this module
    )


_ROW_COUNT = _CREATE_TYPES.count(",") + 1
# Several new customers at once, each with its event.
_CREATE_MANY = Statement(
    "create_customers",
    array_types(_CREATE_TYPES),
    f"""
    WITH new AS MATERIALIZED (
        SELECT * FROM {unnested(_ROW_COUNT)}
            AS n ({COPIED.removesuffix(", keyed")}, event_id, op, payload, traceparent)
    ), c AS (
        INSERT INTO customer ({COPIED}) SELECT {COPIED.removesuffix("keyed")}version FROM new
    )
    INSERT INTO customer_event ({_EVENT_COLUMNS})
    SELECT id, version, updated_on, event_id, op, payload, traceparent FROM new
    RETURNING true
    """,  # noqa: S608 - constants of this module
)


def _update(name: str, types: str = "", keeping: str = "") -> Statement:
    # The event's `seq` is drawn while the row lock of the UPDATE is held: that is what orders versions.
    return Statement(
        name,
        f"{TYPES}, {_EVENT_TYPES}, bigint{types}",
        f"""
        WITH u AS (
            UPDATE customer SET version = $2, deleted = $3, name = $4, email = $5, phone = $6,
                updated_on = $8, doc = $9, terms = $10, name_key = $11, keyed = $2
            WHERE id = $1 AND version = $16
            RETURNING id
        ){keeping}
        INSERT INTO customer_event ({_EVENT_COLUMNS})
        SELECT id, $2, $8, $12, $13, $14, $15 FROM u
        RETURNING true
        """,  # noqa: S608 - constants of this module
    )


# A taken key is an error, never DO NOTHING: it must undo the whole statement.
_KEEP = "INSERT INTO answer (principal, key, request, body, created_on)"
_CREATE = _create("create_customer")
_CREATE_KEYED = _create(
    "create_keyed_customer",
    f", {_ANSWER_TYPES}",
    f", k AS ({_KEEP} VALUES ($16, $17, $18, $19, $20))",
)
_UPDATE = _update("update_customer")
_UPDATE_KEYED = _update(
    "update_keyed_customer",
    f", {_ANSWER_TYPES}",
    f", k AS ({_KEEP} SELECT $17, $18, $19, $20, $21 FROM u)",  # noqa: S608 - constants
)

_UPDATE_MANY = f"""
    UPDATE customer AS c SET {", ".join(f"{name} = changed.{name}" for name in CHANGEABLE)}
    FROM changed WHERE c.id = changed.id
"""  # noqa: S608 - constants of this module


class PostgresCustomers(PostgresQueries):
    """The port `CustomerStore` on PostgreSQL."""

    def __init__(self, connections: Connections, doorbell: Doorbell) -> None:
        super().__init__(connections)
        self._doorbell = doorbell
        self._ids: list[int] = []
        self._ids_lock = threading.Lock()
        self._creating = Together(self._created, lambda params: params[0])
        self._replacing = Replacing(connections)

    def new_id(self) -> int:
        with self._ids_lock:
            if not self._ids:
                self._ids = sorted(self.new_ids(_ID_BLOCK), reverse=True)
            return self._ids.pop()

    def new_ids(self, count: int) -> Sequence[int]:
        return [row[0] for row in self._connections.read(_NEW_IDS, (count,))]

    def analyze(self) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("ANALYZE customer")  # warns an account that is not the owner, and skips it

    def ids_above(self, customer_id: int) -> None:
        with self._ids_lock, self._connections.cursor() as cursor:
            self._ids = []
            cursor.execute(
                "SELECT setval('customer_id_seq', greatest(%s, nextval('customer_id_seq')))", (customer_id,)
            )

    def save(self, change: Change, answer: Answer | None = None) -> Stored:
        # A write whose connection broke may have been committed. Repeating it is safe: if it was, the version
        # that it expects is gone, and the stored event shows that the write was ours.
        try:
            saved = self._try_save(change, answer)
        except ConnectionLost:
            saved = self._save_again(change, answer)
        if not saved:
            raise VersionConflict(f"customer {change.after.id} is not at version {change.after.version - 1}")
        self._doorbell.ring()
        return Stored(change.after.id, change.after.version, change.after.deleted, change.doc)

    def replace(self, new: Callable[[], Replacement]) -> Stored | None:
        stored = self._replacing.replace(new())
        self._doorbell.ring()
        return stored

    def _save_again(self, change: Change, answer: Answer | None) -> bool:
        try:
            return self._try_save(change, answer) or self._is_stored(change)
        except KeyTaken:
            if self._is_stored(change):
                return True
            raise

    def _try_save(self, change: Change, answer: Answer | None) -> bool:
        params = (*customer_row(change.after, change.doc), *_event_params(change.event))
        if change.before is not None:
            params = (*params, change.before.version)
        try:
            if answer is None:
                if change.before is None:
                    return self._create(params, joins=len(change.doc) <= LONG)
                return bool(self._connections.run(_UPDATE, params))
            statement = _UPDATE_KEYED if change.before else _CREATE_KEYED
            return bool(self._connections.run(statement, (*params, *answer_row(answer))))
        except psycopg2.errors.UniqueViolation as exc:
            if is_key_taken(exc):
                raise KeyTaken from exc
            return False

    def _create(self, params: tuple[Any, ...], *, joins: bool) -> bool:
        """Store a new customer, with those that other threads store at the same time."""
        stored = self._creating.do(params) if joins else None
        return bool(self._connections.run(_CREATE, params)) if stored is None else stored

    def _created(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[bool | None]:
        """Whether each of these new customers is stored; None for one that must be tried alone."""
        if len(rows) == 1:
            return [bool(self._connections.run(_CREATE, rows[0]))]
        stored = run_many(self._connections, _CREATE_MANY, rows)
        return [None if stored is None else True] * len(rows)

    def _is_stored(self, change: Change) -> bool:
        event = change.event
        return bool(self._connections.run(_IS_STORED, (event.customer_id, event.version, event.id)))

    def save_many(self, changes: Sequence[Change], answer: Answer | None = None) -> None:
        try:
            with _atomic(self._connections) as cursor:
                _copy_customers(cursor, changes)
                _copy_events(cursor, changes)
                if answer is not None:
                    cursor.execute(ADD_ANSWER, answer_row(answer))
        except ConnectionLost:
            # All or none: where one event is there, all of them are.
            if not changes or not self._is_stored(changes[0]):
                raise
        self._doorbell.ring()

    def erase(self, change: Change, scrub: Callable[[bytes], bytes], answer: Answer | None = None) -> Stored:
        try:
            self._erase(change, scrub, answer)
        except ConnectionLost:
            if not self._is_stored(change):
                raise
        self._doorbell.ring()
        return Stored(change.after.id, change.after.version, change.after.deleted, change.doc)

    def _erase(self, change: Change, scrub: Callable[[bytes], bytes], answer: Answer | None) -> None:
        event = change.event
        with _atomic(self._connections) as cursor:
            _copy_customers(cursor, [change])
            cursor.execute(
                "SELECT seq, payload FROM customer_event WHERE customer_id = %s", (event.customer_id,)
            )
            execute_values(
                cursor,
                "UPDATE customer_event AS e SET payload = s.payload FROM (VALUES %s) AS s (seq, payload) "
                "WHERE e.seq = s.seq",
                [(seq, scrub(payload.encode()).decode()) for seq, payload in cursor.fetchall()],
            )
            _copy_events(cursor, [change])
            if answer is not None:
                cursor.execute(ADD_ANSWER, answer_row(answer))


@contextmanager
def _atomic(connections: Connections) -> Iterator[Cursor]:
    """A transaction with a timeout for many rows. Raises KeyTaken or VersionConflict for existing rows."""
    try:
        with connections.transaction() as cursor:
            cursor.execute(_BULK_TIMEOUT)
            yield cursor
    except psycopg2.errors.UniqueViolation as exc:
        if is_key_taken(exc):
            raise KeyTaken from exc
        raise VersionConflict("one of the customers to store is there already; none was stored") from exc


def _event_params(event: CustomerEvent) -> tuple[Any, ...]:
    return (event.id, event.op, event.payload.decode(), event.traceparent)


def _copy_customers(cursor: Cursor, changes: Sequence[Change]) -> None:
    """Bring the rows to the last state of each customer, if they are at the version of its first change."""
    expected: dict[int, int] = {}
    last: dict[int, Change] = {}
    for change in changes:
        expected.setdefault(change.after.id, change.before.version if change.before else 0)
        last[change.after.id] = change
    _copy(cursor, "customer", [change for id_, change in last.items() if not expected[id_]])
    changed = {id_: version for id_, version in expected.items() if version}
    if changed:
        _lock(cursor, changed)
        temporary(cursor, "changed", "LIKE customer")
        _copy(cursor, "changed", [last[id_] for id_ in changed])
        cursor.execute(_UPDATE_MANY)


def _copy(cursor: Cursor, table: str, changes: Sequence[Change]) -> None:
    if changes:
        rows = copying.lines([copied_customer(change) for change in changes])
        cursor.copy_expert(f"COPY {table} ({COPIED}) FROM STDIN", rows)


def _lock(cursor: Cursor, expected: dict[int, int]) -> None:
    # In the order of id, so that two of these never deadlock.
    cursor.execute(
        "SELECT id, version FROM customer WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (list(expected),)
    )
    found = dict(cursor.fetchall())
    for customer_id, version in expected.items():
        if found.get(customer_id) != version:
            raise VersionConflict(f"customer {customer_id} is not at version {version}; nothing was stored")


def _copy_events(cursor: Cursor, changes: Sequence[Change]) -> None:
    events = copying.lines([copied_event(change) for change in changes])
    cursor.copy_expert(f"COPY customer_event ({COPIED_EVENT}) FROM STDIN", events)


def copied_event(change: Change) -> str:
    """An event's line for COPY, in the order of `COPIED_EVENT`."""
    event_id, customer_id, version, op, payload, trace = change.event
    return (
        f"{event_id}\t{customer_id}\t{version}\t{op}\t{time_of(payload).decode()}\t{copying.json(payload)}\t"
        f"{copying.text(trace)}\n"
    )
