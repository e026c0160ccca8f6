"""Old history in PostgreSQL: walked along `seq`, deleted by key in small statements.

No partitions by time (docs/design.md says why): the newest event of each customer must stay, so most rows of
a partition would have to be copied before it could be dropped.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from ...errors import DatabaseRestored
from ...ports.history import KEPT_OPS, Old, Passage
from .connection import Connections, Statement

_CURSOR: Final = Statement(
    "history_cursor",
    "boolean",
    "SELECT prev::text, target::text, last_seq, "
    "system_identifier = (SELECT system_identifier::text FROM pg_control_system()) "
    "FROM outbox_cursor WHERE only_one = $1",
)
_PASS: Final = Statement(
    "history_pass",
    "bigint, integer, timestamptz, pg_snapshot, pg_snapshot, bigint",
    """
    SELECT seq, customer_id, version, created, created < $3
        AND (pg_visible_in_snapshot(txid, $4)
            OR coalesce(pg_visible_in_snapshot(txid, $5) AND seq <= $6, false)),
        created > now() + interval '1 day'
    FROM (
        SELECT seq, customer_id, version, created, txid FROM customer_event WHERE seq > $1
        ORDER BY seq LIMIT $2
    ) e ORDER BY seq
    """,
)
# Each range of versions by the unique index; LIMIT keeps the planner from a join with the whole history.
_OUTDATED: Final = Statement(
    "history_outdated",
    "bigint[], bigint[], bigint[], text[], pg_snapshot, pg_snapshot, bigint",
    """
    SELECT e.customer_id, e.version, e.payload
    FROM unnest($1, $2, $3) AS p (customer_id, known, version), LATERAL (
        SELECT customer_id, version, payload, op, txid, seq FROM customer_event
        WHERE customer_id = p.customer_id AND version > p.known AND version < p.version
        ORDER BY version DESC LIMIT 1000000000
    ) e
    WHERE e.op <> ALL ($4) AND (pg_visible_in_snapshot(e.txid, $5)
        OR coalesce(pg_visible_in_snapshot(e.txid, $6) AND e.seq <= $7, false))
    ORDER BY e.customer_id, e.version
    """,
)
_STORED: Final = Statement(
    "history_stored",
    "bigint[], bigint[]",
    "SELECT customer_id, version, payload FROM unnest($1, $2) AS k (customer_id, version) "
    "JOIN customer_event USING (customer_id, version)",
)
# Without waiting for the disk: the mark that is stored after a piece brings its deletions there too, and
# until then they may be repeated.
_DROP: Final = Statement(
    "history_drop",
    "bigint[], bigint[], text[]",
    """
    WITH gone AS (
        DELETE FROM customer_event e USING unnest($1, $2, $3) AS k (customer_id, version, payload)
        WHERE e.customer_id = k.customer_id AND e.version = k.version AND e.payload = k.payload
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) FROM set_config('synchronous_commit', 'off', true)
    """,
)


class PostgresHistory:
    """The port `History` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def outdated(
        self,
        mark: str,
        before: dt.datetime,
        limit: int,
        *,
        parked: Callable[[], Collection[int]],
        known: Mapping[int, int],
    ) -> Passage:
        sent = self._sent()
        if sent is None:
            return Passage([], 0, mark, None, True)
        found = self._connections.read(_PASS, (int(mark or 0), limit, before, *sent))
        passed = _until_too_young(found)
        # A clock that was set wrong must not end the walk for years. Its event outdates nothing.
        dated = [row for row in passed if not row[5]]
        waiting = frozenset(parked())
        newest = {row[1]: row[2] for row in sorted(dated, key=itemgetter(2)) if row[1] not in waiting}
        ranges = _columns([(i, known.get(i, 0), version) for i, version in newest.items()], 3)
        rows = self._connections.read(_OUTDATED, (*ranges, list(KEPT_OPS), *sent)) if newest else []
        return Passage(
            [Old(customer_id, version, payload.encode()) for customer_id, version, payload in rows],
            len(passed),
            str(passed[-1][0]) if passed else mark,
            max((row[3] for row in dated), default=None),
            len(passed) < limit,
        )

    def _sent(self) -> tuple[Any, ...] | None:
        """The saved cursor of the outbox: what is on Kafka; None if no relay has ever led."""
        for *cursor, is_of_this_cluster in self._connections.read(_CURSOR, (True,)):
            if not is_of_this_cluster:
                raise DatabaseRestored(
                    "this database was restored into another cluster; what it sent is not known"
                )
            return tuple(cursor)
        return None

    def stored(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        rows = self._connections.read(_STORED, tuple(_columns(keys, 2)))
        return {(customer_id, version): payload.encode() for customer_id, version, payload in rows}

    def drop(self, events: Sequence[Old]) -> int:
        ids, versions, payloads = _columns(events, 3)
        texts = [payload.decode() for payload in payloads]
        # Not `read`, although it could be repeated: then the count would be wrong.
        ((count,),) = self._connections.run(_DROP, (ids, versions, texts))
        return int(count)


def _until_too_young(rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """The rows before the first one that may not be passed."""
    for number, row in enumerate(rows):
        if not row[4] and not row[5]:
            return rows[:number]
    return rows


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]
