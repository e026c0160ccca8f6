"""Reading new events gap-free and in order: the difference of two snapshots.

A reader that asks for "seq greater than the last one" loses events, because a transaction that drew a low
seq may commit late. A reader that waits for the oldest open transaction stalls on any of them. So the
cursor is a snapshot: new events are those visible in `target` that were not visible in `prev`. Within that
window they go out by seq, which keeps each customer's versions in order: a later version cannot take the
customer's row lock before the earlier one has committed, so it has the higher seq and is not visible first.
When the window is done, `prev` becomes `target`. Nothing is deleted or marked, so readers cost writers
nothing. PgQ has read its queues this way for years.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from ...domain.events import CustomerEvent, stored_event
from ...errors import ConfigurationError, DatabaseRestored, TemporaryError
from ...ports.facts import Fact
from ...ports.outbox import Batch, Depth, Known, Sent
from . import doorbell
from .connection import Connection, Connections, Statement, address
from .locks import giving_back, try_lock
from .snapshots import BEGINNING, Cursor
from .translate import translated

LOCK = 0x63757374_00000002
# A server that lost its reader without a word must notice within the promised take-over time. A cursor
# that was saved and then lost with the server's memory only repeats a batch.
SESSION = (
    "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2; "
    "SET synchronous_commit = off"
)

COLUMNS = "e.seq, e.customer_id, e.version, e.op, e.payload, e.traceparent"

_NOW = Statement("outbox_now", "boolean", "SELECT pg_current_snapshot()::text, pg_backend_pid() WHERE $1")
# The start of a window: two ranges of the index on (txid, seq), so that a poll costs the new events only.
# The LIMIT inside keeps the planner from turning the second one into a join with the whole history; and a
# range of one txid in that index's order, instead of `txid = x.txid` by seq, from walking the primary key
# where statistics say that many events share a txid, as they do after a bulk load.
START = """
    SELECT w.seq FROM (
        SELECT seq FROM customer_event
        WHERE txid >= pg_snapshot_xmax($1) AND txid < pg_snapshot_xmax($2)
          AND pg_visible_in_snapshot(txid, $2)
        UNION ALL
        SELECT late.seq FROM pg_snapshot_xip($1) AS x (txid), LATERAL (
            SELECT seq FROM customer_event
            WHERE txid >= x.txid AND txid <= x.txid AND pg_visible_in_snapshot(txid, $2)
            ORDER BY txid, seq LIMIT $3
        ) late
    ) w ORDER BY w.seq LIMIT $3
"""
_FIRST = Statement(
    "outbox_first",
    "pg_snapshot, pg_snapshot, integer",
    f"""
    SELECT {COLUMNS} FROM customer_event e WHERE e.seq = ANY (ARRAY({START})) ORDER BY e.seq
    """,  # noqa: S608 - constants of this module
)
# The rest of a big window. The functions cannot use an index, so this walks the primary key and a page
# costs a page.
_NEXT = Statement(
    "outbox_next",
    "pg_snapshot, pg_snapshot, bigint, integer",
    f"""
    SELECT {COLUMNS} FROM customer_event e
    WHERE e.seq > $3 AND pg_visible_in_snapshot(e.txid, $2) AND NOT pg_visible_in_snapshot(e.txid, $1)
    ORDER BY e.seq LIMIT $4
    """,  # noqa: S608 - constants of this module
)
_SAVE = Statement(
    "outbox_save",
    "pg_snapshot, pg_snapshot, bigint",
    "UPDATE outbox_cursor SET prev = $1, target = $2, last_seq = $3",
)
_CURSOR = Statement(
    "outbox_cursor",
    "boolean",
    "SELECT prev::text, target::text, last_seq FROM outbox_cursor WHERE only_one = $1",
)
# The events visible neither in `prev` nor in the sent part of the window.
_DEPTH = Statement(
    "outbox_depth",
    "pg_snapshot, pg_snapshot, bigint",
    """
    WITH unsent AS MATERIALIZED (
        SELECT w.seq FROM (
            SELECT seq, txid FROM customer_event WHERE txid >= pg_snapshot_xmax($1)
            UNION ALL
            SELECT late.seq, late.txid FROM pg_snapshot_xip($1) AS x (txid), LATERAL (
                SELECT seq, txid FROM customer_event WHERE txid >= x.txid AND txid <= x.txid
                ORDER BY txid, seq LIMIT 1000000000
            ) late
        ) w
        WHERE $2 IS NULL OR w.seq > $3 OR NOT pg_visible_in_snapshot(w.txid, $2)
    )
    SELECT count(*), extract(epoch FROM now() - (
        SELECT created FROM customer_event WHERE seq = (SELECT min(seq) FROM unsent)
    )) FROM unsent
    """,
)

_EVENTS = Statement(
    "outbox_events",
    "bigint[], bigint[], pg_snapshot, pg_snapshot, bigint",
    """
    SELECT e.customer_id, e.version, e.id::text, pg_visible_in_snapshot(e.txid, $3)
        OR coalesce(pg_visible_in_snapshot(e.txid, $4) AND e.seq <= $5, false)
    FROM unnest($1, $2) AS k (customer_id, version) JOIN customer_event e USING (customer_id, version)
    """,
)

# Look back no further than this: a history of which nothing is sent would be read whole.
_LATEST = Statement(
    "outbox_latest",
    "pg_snapshot, pg_snapshot, bigint, integer",
    """
    SELECT customer_id, version, id::text
    FROM (SELECT seq, txid, customer_id, version, id FROM customer_event ORDER BY seq DESC LIMIT 100000) e
    WHERE pg_visible_in_snapshot(txid, $1) OR coalesce(pg_visible_in_snapshot(txid, $2) AND seq <= $3, false)
    ORDER BY seq DESC LIMIT $4
    """,
)

# An event that a statement sees has a number below the end of its snapshot, unless it is of another cluster.
_FOREIGN = """
    coalesce((SELECT txid FROM customer_event ORDER BY txid DESC, seq DESC LIMIT 1)
        >= pg_snapshot_xmax(pg_current_snapshot()), false)
"""
_MOVED = f"""
    SELECT EXISTS (SELECT 1 FROM outbox_cursor, pg_control_system() AS here
        WHERE outbox_cursor.system_identifier <> here.system_identifier::text) OR {_FOREIGN}
"""  # noqa: S608 - constants of this module
# Numbers of transactions of another cluster may be higher than any here: such an event would be invisible to
# every snapshot, and sent only when this cluster has got as far, behind later events of its customer.
_RENUMBERED_AT_ONCE = 20_000
_RENUMBER = """
    WITH page AS (
        SELECT seq, txid FROM customer_event WHERE seq > %s ORDER BY seq LIMIT %s
    ), renumbered AS (
        UPDATE customer_event e SET txid = '3' FROM page
        WHERE e.seq = page.seq AND page.txid >= pg_snapshot_xmin(pg_current_snapshot())
    )
    SELECT max(seq) FROM page
"""


class PostgresOutbox:
    """The port `Outbox` on PostgreSQL. Reading holds one connection of its own; the lock lives on it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Connection | None = None
        # Behind a pooler: the connection that has the lock, in a transaction, beside the one that reads.
        self._lock: Connection | None = None
        self._pid = 0
        self._cursor = Cursor(BEGINNING, None, 0)

    @contextmanager
    def lead(self) -> Iterator[bool]:
        with ExitStack() as stack:
            connection = stack.enter_context(giving_back(self._connections.another("custsvc relay")))
            if not self._try_lock(connection):
                yield False
                return
            if connection.is_pooled:
                self._lock = connection
                connection = stack.enter_context(closing(self._connections.another("custsvc relay")))
                connection.bring({"synchronous_commit": "off"})
            self._connection = connection
            try:
                self._load()
                doorbell.listen(connection)
                yield True
            finally:
                self._connection = self._lock = None

    def _try_lock(self, connection: Connection) -> bool:
        if connection.is_pooled:
            return try_lock(connection, "%s", (LOCK,), soon=True)
        with translated(connection), connection.cursor() as cursor:
            cursor.execute(SESSION)
            cursor.execute("SELECT pg_backend_pid(), pg_try_advisory_lock(%s)", (LOCK,))
            self._pid, locked = cursor.fetchone() or (0, False)
        return bool(locked)

    def _load(self) -> None:
        """Read the cursor's row; make a new one if there is none or it is from another cluster."""
        with translated(self._connection), self._leading().cursor() as cursor:
            cursor.execute(
                "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'customer_event_seq_seq'::regclass"
            )
            (cache,) = cursor.fetchone() or (1,)
            if cache != 1:
                raise ConfigurationError(
                    f"the sequence of customer_event has CACHE {cache}: events would leave their order",
                    fix="ALTER SEQUENCE customer_event_seq_seq CACHE 1",
                )
            cursor.execute(f"SELECT system_identifier::text, {_FOREIGN} FROM pg_control_system()")  # noqa: S608
            system, is_foreign = cursor.fetchone() or ("", False)
            cursor.execute(
                "INSERT INTO outbox_cursor (system_identifier, prev) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (system, BEGINNING),
            )
            cursor.execute("SELECT system_identifier, prev::text, target::text, last_seq FROM outbox_cursor")
            was, *saved = cursor.fetchone() or ("", BEGINNING, None, 0)
            if was != system or is_foreign:
                raise DatabaseRestored(
                    f"this database was restored into another cluster ({system}, before "
                    f"{'unknown' if was == system else was}), so what it has sent to Kafka is not known"
                )
        self._cursor = Cursor(*saved)

    def _leading(self) -> Connection:
        if self._connection is None:
            raise TemporaryError("the outbox is read without leading it", dependency="postgres")
        return self._connection

    def _run(self, statement: Statement, params: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        connection = self._leading()
        with translated(connection), connection.cursor() as cursor:
            connection.run(cursor, statement, params)
            return cursor.fetchall() if cursor.description else []

    def read(self, limit: int) -> Batch:
        batch = self._after(self._cursor, limit)
        if not batch.events:
            # Not saved: windows without events may be read again.
            self._cursor = batch.token
        return batch

    def ahead(self, batch: Batch, limit: int) -> Batch:
        return self._after(batch.token, limit)

    def _after(self, cursor: Cursor, limit: int) -> Batch:
        prev, target, last_seq = cursor
        if target is not None:
            rows = self._run(_NEXT, (prev, target, last_seq, limit))
            if rows:
                return self._batch(prev, target, rows, finished=len(rows) < limit)
            prev = target
        target = self._now()
        rows = self._run(_FIRST, (prev, target, limit)) if target != prev else []
        return self._batch(prev, target, rows, finished=len(rows) < limit)

    def _now(self) -> str:
        """The snapshot of now. Raises TemporaryError if the lock is lost."""
        if self._lock is not None:
            with translated(self._lock), self._lock.cursor() as still_ours:
                still_ours.execute("SELECT 1")
        ((now, pid),) = self._run(_NOW, (True,))
        if pid != self._pid and self._lock is None:
            raise ConfigurationError(
                f"{address(self._connections.url)} shares sessions between clients, so no lock can be held",
                fix="point the relay at PostgreSQL itself, not at a pooler in transaction mode",
            )
        return str(now)

    @staticmethod
    def _events(rows: Sequence[tuple[Any, ...]]) -> list[CustomerEvent]:
        return [
            stored_event(customer_id, version, op, payload.encode(), traceparent)
            for _, customer_id, version, op, payload, traceparent in rows
        ]

    def _batch(self, prev: str, target: str, rows: list[tuple[Any, ...]], *, finished: bool) -> Batch:
        after = Cursor(target, None, 0) if finished else Cursor(prev, target, rows[-1][0])
        return Batch(self._events(rows), after)

    def together(self, first: Batch, second: Batch) -> Batch:
        return Batch([*first.events, *second.events], second.token)

    def done(self, batch: Batch) -> None:
        if batch.token is not None:
            self._run(_SAVE, tuple(batch.token))
            self._cursor = batch.token

    def wait(self, seconds: float) -> None:
        doorbell.wait(self._leading(), seconds)

    def adopt(self) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(_MOVED)
            if cursor.fetchone() == (False,):
                return  # the same cluster: its transactions and what was sent of them are still known
            # In pieces, so that no statement is long. No relay leads meanwhile: `lead` refuses this database.
            at: int | None = -1
            while at is not None:
                cursor.execute(_RENUMBER, (at, _RENUMBERED_AT_ONCE))
                ((at,),) = cursor.fetchall()
            cursor.execute(
                "UPDATE outbox_cursor SET prev = %s, target = NULL, last_seq = 0, "
                "system_identifier = (SELECT system_identifier::text FROM pg_control_system())",
                (BEGINNING,),
            )
            cursor.execute("DELETE FROM custsvc_meta WHERE starts_with(key, %s)", (Fact.OUTBOX_SHARE,))

    def events(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Known]:
        ids, versions = [list(column) for column in zip(*keys, strict=True)] or [[], []]
        found = self._connections.read(_EVENTS, (ids, versions, *self._saved()))
        return {(customer_id, version): Known(*known) for customer_id, version, *known in found}

    def latest(self, limit: int) -> list[Sent]:
        return [Sent(*found) for found in self._connections.read(_LATEST, (*self._saved(), limit))]

    def depth(self) -> Depth:
        ((waiting, age),) = self._connections.read(_DEPTH, self._saved())
        return Depth(waiting, max(float(age or 0), 0.0))

    def _saved(self) -> tuple[Any, ...]:
        """The saved cursor, for processes that do not lead."""
        (saved,) = self._connections.read(_CURSOR, (True,)) or [tuple(Cursor(BEGINNING, None, 0))]
        return saved

    def source(self) -> str:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT system_identifier::text, current_database() FROM pg_control_system()")
            system, database = cursor.fetchone() or ("", "")
        return f"urn:custsvc:postgres:{system}:{database}"
