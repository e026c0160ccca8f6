"""A copy in PostgreSQL: each batch is one COPY, one upsert that keeps the higher version, one commit."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import execute_values

from ... import crash
from ...events import ReceivedEvent
from ..base import Applied, Positions
from . import copying
from .contents import PostgresContents
from .rows import CHANGEABLE, COPIED, copied_received

_INCOMING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE customer INCLUDING DEFAULTS) ON COMMIT DELETE ROWS
"""
# The rows come sorted by id: unsorted batches of two processes deadlock, repeated ids are an error.
_UPSERT = f"""
    INSERT INTO customer AS c ({COPIED}) SELECT {COPIED} FROM incoming ORDER BY id
    ON CONFLICT (id) DO UPDATE SET created_on = excluded.created_on,
        {", ".join(f"{name} = excluded.{name}" for name in CHANGEABLE)}
    WHERE excluded.version > c.version
"""  # noqa: S608 - constants of this module
# Never back: a process that lost the partition meanwhile must not undo its successor's progress.
_POSITIONS = """
    INSERT INTO replica_position AS p (topic, part, next_offset) VALUES %s
    ON CONFLICT (topic, part) DO UPDATE SET next_offset = greatest(p.next_offset, excluded.next_offset)
"""


class PostgresReplica(PostgresContents):
    """The port `Replica` on PostgreSQL; positions are part of the batch's own transaction."""

    def positions(self, topic: str) -> dict[int, int]:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT part, next_offset FROM replica_position WHERE topic = %s", (topic,))
            return dict(cursor.fetchall())

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        newest: dict[int, ReceivedEvent] = {}
        for event in events:
            known = newest.get(event.customer_id)
            if known is None or event.version > known.version:
                newest[event.customer_id] = event
        written = 0
        with self._connections.transaction() as cursor:
            if newest:
                cursor.execute(_INCOMING)
                rows = copying.lines([copied_received(newest[customer_id]) for customer_id in sorted(newest)])
                cursor.copy_expert(f"COPY incoming ({COPIED}) FROM STDIN", rows)
                cursor.execute(_UPSERT)
                written = cursor.rowcount
            execute_values(
                cursor, _POSITIONS, [(topic, part, offset) for part, offset in sorted(positions.items())]
            )
            crash.point("replicate.writing")
        return Applied(written, len(events) - written)
