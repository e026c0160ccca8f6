"""The outbox divided into shares: each has a cursor of its own, ahead of the cursor of the whole outbox.

The row of the whole outbox stays what it was: everything that it counts as sent is sent. So whoever knows
nothing of shares, like `depth`, the history's trimming or an earlier release that leads, is right, and at
worst repeats. The cursors of the shares lie in facts. Twice a second a leader brings the whole one up to what
all shares have in common (`joined`).

The database cannot tell whose a customer is, because the hash of Kafka's key would cost it more than the rest
of the query. So a share reads the ids of all events of a window, and then only its own events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any, Final

import orjson

from ...ports.facts import Fact
from ...ports.outbox import Batch, Depth, Sent
from ...ports.shares import Share
from .connection import Connection, Connections, Statement
from .locks import try_lock
from .outbox import COLUMNS, LOCK, SESSION, START, PostgresOutbox
from .snapshots import Cursor, is_ahead, joined
from .translate import translated

_LOCK_OF_SHARE: Final = 0x63757374_00010000
# Seconds between two times that a leader brings the whole cursor up to the shares'.
_JOIN: Final = 0.5
# Ids read at once: of as many events as give the wanted number of ours, and some more.
_MORE: Final = 100
_MOST_IDS: Final = 20_000
_TRIES: Final = 5

_FIRST_IDS = Statement(
    "share_first",
    "pg_snapshot, pg_snapshot, integer",
    f"""
    SELECT array_agg(e.seq ORDER BY e.seq), array_agg(e.customer_id ORDER BY e.seq)
    FROM customer_event e WHERE e.seq = ANY (ARRAY({START}))
    """,  # noqa: S608 - a constant
)
_NEXT_IDS = Statement(
    "share_next",
    "pg_snapshot, pg_snapshot, bigint, integer",
    """
    SELECT array_agg(seq), array_agg(customer_id) FROM (
        SELECT seq, customer_id FROM customer_event
        WHERE seq > $3 AND pg_visible_in_snapshot(txid, $2) AND NOT pg_visible_in_snapshot(txid, $1)
        ORDER BY seq LIMIT $4
    ) e
    """,
)
_EVENTS = Statement(
    "share_events",
    "bigint[]",
    f"SELECT {COLUMNS} FROM customer_event e WHERE e.seq = ANY ($1) ORDER BY e.seq",  # noqa: S608 - a constant
)
_LATEST = Statement(
    "share_latest",
    "pg_snapshot, pg_snapshot, bigint, bigint, integer",
    """
    SELECT seq, customer_id, version, id::text FROM (
        SELECT seq, txid, customer_id, version, id FROM customer_event WHERE seq < $4
        ORDER BY seq DESC LIMIT 100000
    ) e
    WHERE pg_visible_in_snapshot(txid, $1) OR coalesce(pg_visible_in_snapshot(txid, $2) AND seq <= $3, false)
    ORDER BY seq DESC LIMIT $5
    """,
)
# Look back no further than this many sent events.
_LATEST_MOST: Final = 100_000
_END: Final = 2**63 - 1

_SAVED = Statement("share_saved", "text", "SELECT value FROM custsvc_meta WHERE key = $1")
_SAVE = Statement("share_save", "text, text", "UPDATE custsvc_meta SET value = $2 WHERE key = $1")
_KNOWN = Statement(
    "share_known",
    "text",
    "SELECT c.prev::text, c.target::text, c.last_seq, m.key, m.value "
    "FROM outbox_cursor c LEFT JOIN custsvc_meta m ON starts_with(m.key, $1)",
)
# Only if nobody else has moved it meanwhile.
_MOVE = Statement(
    "share_move",
    "pg_snapshot, pg_snapshot, bigint, text, text, bigint",
    "UPDATE outbox_cursor SET prev = $1, target = $2, last_seq = $3 WHERE prev::text = $4 "
    "AND target::text IS NOT DISTINCT FROM $5 AND last_seq = $6 RETURNING 1",
)


def _key(number: int) -> str:
    return f"{Fact.OUTBOX_SHARE}{number}"


def _text(cursor: Cursor) -> str:
    return orjson.dumps(list(cursor)).decode()


def _cursor(text: str) -> Cursor:
    return Cursor(*orjson.loads(text))


def _join(run: Callable[[Statement, tuple[Any, ...]], list[tuple[Any, ...]]], shares: int) -> None:
    """Bring the whole outbox's cursor up to what all shares have sent."""
    for _ in range(_TRIES):
        found = run(_KNOWN, (Fact.OUTBOX_SHARE,))
        if not found:
            return
        whole = Cursor(*found[0][:3])
        known: Mapping[str, str] = {key: value for *_, key, value in found if key}
        if any(_key(number) not in known for number in range(shares)):
            return  # one never led: it begins at the whole cursor
        now = joined([_cursor(known[_key(number)]) for number in range(shares)])
        # A leader of the whole outbox, of an earlier release, may have gone on alone since.
        if now == whole or not is_ahead(now, whole) or run(_MOVE, (*now, *whole)):
            return


class PostgresShares:
    """The port `Shares` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def outbox(self, share: Share) -> PostgresOutbox:
        return _ShareOutbox(self._connections, share)

    def join(self, shares: int) -> None:
        _join(self._connections.run, shares)
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM custsvc_meta WHERE starts_with(key, %s)", (Fact.OUTBOX_SHARE,))


class _ShareOutbox(PostgresOutbox):
    """The outbox of one share."""

    def __init__(self, connections: Connections, share: Share) -> None:
        super().__init__(connections)
        self._share = share
        self._key = _key(share.number)
        # Whether events of others were passed that the saved cursor does not count; whether the whole cursor
        # was not brought up since the last save, and when it was last.
        self._passed = False
        self._is_apart = False
        self._joined_on = 0.0

    def _try_lock(self, connection: Connection) -> bool:
        number = _LOCK_OF_SHARE + self._share.number
        if connection.is_pooled:
            return try_lock(connection, "%s", (LOCK,), soon=True, shared=True) and try_lock(
                connection, "%s", (number,), soon=True
            )
        with translated(connection), connection.cursor() as cursor:
            cursor.execute(SESSION)
            cursor.execute("SELECT pg_backend_pid(), pg_try_advisory_lock_shared(%s)", (LOCK,))
            self._pid, shared = cursor.fetchone() or (0, False)
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (number,))
            return (bool(shared), *(cursor.fetchone() or ())) == (True, True)

    def _load(self) -> None:
        super()._load()
        found = self._run(_SAVED, (self._key,))
        if found and is_ahead(saved := _cursor(found[0][0]), self._cursor):
            self._cursor = saved
            return
        with self._connections.cursor() as cursor:
            cursor.execute(
                "INSERT INTO custsvc_meta (key, value) VALUES (%s, %s) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (self._key, _text(self._cursor)),
            )

    def read(self, limit: int) -> Batch:
        batch = super().read(limit)
        if not batch.events and time.monotonic() - self._joined_on > _JOIN:
            if self._passed:
                self._save(batch.token)
            if self._is_apart:
                self._bring_up()
        return batch

    def done(self, batch: Batch) -> None:
        if batch.token is None:
            return
        self._save(batch.token)
        self._cursor = batch.token
        if time.monotonic() - self._joined_on > _JOIN:
            self._bring_up()

    def _save(self, cursor: Cursor) -> None:
        self._run(_SAVE, (self._key, _text(cursor)))
        self._passed, self._is_apart = False, True

    def _bring_up(self) -> None:
        self._joined_on = time.monotonic()
        self._is_apart = False
        _join(self._run, self._share.of)

    def _after(self, cursor: Cursor, limit: int) -> Batch:
        prev, target, last_seq = cursor
        if target is not None:
            rest = self._window(prev, target, last_seq, limit)
            if rest.events:
                return rest
            prev = target
        target = self._now()
        return self._window(prev, target, None, limit) if target != prev else Batch([], Cursor(prev, None, 0))

    def _window(self, prev: str, target: str, last_seq: int | None, limit: int) -> Batch:
        """The next of our events in a window, up to `limit`: from its beginning, or after `last_seq`."""
        ours: list[int] = []
        statement, after = (_FIRST_IDS, ()) if last_seq is None else (_NEXT_IDS, (last_seq,))
        has = self._share.has
        while True:
            page = min((limit - len(ours)) * self._share.of + _MORE, _MOST_IDS)
            # Arrays, because reading a row takes the driver longer than reading its numbers.
            ((seqs, customers),) = self._run(statement, (prev, target, *after, page))
            ours += compress(seqs or (), has(customers or ()))
            self._passed = self._passed or bool(seqs)
            is_last = len(seqs or ()) < page
            if is_last or len(ours) >= limit:
                break
            statement, after = _NEXT_IDS, (seqs[-1],)
        finished = is_last and len(ours) <= limit
        end = Cursor(target, None, 0) if finished else Cursor(prev, target, ours[:limit][-1])
        # As text, because the driver takes as long to write a list as the database to answer it.
        wanted = "{" + ",".join(map(str, ours[:limit])) + "}"
        rows = self._run(_EVENTS, (wanted,)) if ours else []
        return Batch(self._events(rows), end)

    def latest(self, limit: int) -> list[Sent]:
        found: list[Sent] = []
        page, before = 10 * limit * self._share.of, _END
        seen = 0
        while len(found) < limit and seen < _LATEST_MOST:
            rows = self._connections.read(_LATEST, (*self._saved(), before, page))
            ours = self._share.has([customer_id for _, customer_id, *_ in rows])
            found += [Sent(*sent) for _, *sent in compress(rows, ours)]
            seen += len(rows)
            if len(rows) < page:
                break
            before = rows[-1][0]
        return found[:limit]

    def depth(self) -> Depth:
        return PostgresOutbox(self._connections).depth()

    def _saved(self) -> tuple[Any, ...]:
        found = self._connections.read(_SAVED, (self._key,))
        return tuple(_cursor(found[0][0])) if found else super()._saved()
