"""Notifications of channels other than mail, in PostgreSQL: those that are due, lists, giving them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...ports.endpoints import CHANNEL_PREFIX
from ...ports.ledger import Notification, Place
from .connection import Connections
from .records import COLUMNS, UNBLOCK, UNSETTLED_SQL, notification

_DUE: Final = """
SELECT c FROM unnest(%s) AS c WHERE EXISTS (
    SELECT 1 FROM notification n WHERE n.channel = c AND n.state IN ('queued', 'deferred')
      AND n.blocked_by IS NULL AND n.next_at <= now())
"""
# As the index `notification_waiting` has it.
_WAITING: Final = (
    f"SELECT count(*) FROM notification WHERE channel = %s AND channel <> 'mail' AND state IN {UNSETTLED_SQL}"  # noqa: S608 - constants
)
_UNSERVED: Final = f"""
SELECT channel, count(*) FROM notification
WHERE channel <> 'mail' AND state IN {UNSETTLED_SQL} AND state IN ('queued', 'deferred')
  AND blocked_by IS NULL AND NOT starts_with(channel, %s) AND channel <> ALL(%s)
GROUP BY channel
"""  # noqa: S608 - constants
_HASTEN: Final = """
UPDATE notification SET next_at = now(), spared = attempts, updated_on = now() WHERE id IN (
    SELECT id FROM notification WHERE channel = %s AND state IN ('queued', 'deferred') AND next_at > now()
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
"""
# By the index of due rows, which holds no blocked ones: those follow when their blockers are settled.
_DISCARD: Final = """
UPDATE notification SET state = 'discarded', reason = %(reason)s, token = NULL, updated_on = now()
WHERE id IN (
    SELECT id FROM notification
    WHERE starts_with(channel, %(prefix)s) AND channel <> ALL(%(kept)s) AND state IN ('queued', 'deferred')
      AND blocked_by IS NULL AND created_on <= now() - make_interval(secs => %(older)s)
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id
"""


class PostgresDeliveries:
    """The part `Deliveries` of the port `Ledger`."""

    _connections: Connections

    def due(self, channels: Sequence[str]) -> list[str]:
        with self._connections.cursor() as cursor:
            cursor.execute(_DUE, (list(channels),))
            return [channel for (channel,) in cursor.fetchall()]

    def deliveries(
        self, channel: str, *, state: str | None = None, limit: int = 100, after: Place | None = None
    ) -> list[Notification]:
        asked = [
            ("channel = %s", (channel,)),
            ("state = %s", (state,) if state else ()),
            ("(created_on, id) < (%s, %s)", after or ()),
        ]
        tests = " AND ".join(test for test, values in asked if values)
        rows = self._connections.query(
            f"SELECT {COLUMNS} FROM notification WHERE {tests} "  # noqa: S608 - constants of this module
            "ORDER BY created_on DESC, id DESC LIMIT %s",
            (*(value for _, values in asked for value in values), limit),
        )
        return [notification(row) for row in rows]

    def waiting(self, channel: str) -> int:
        ((count,),) = self._connections.query(_WAITING, (channel,))
        return int(count)

    def unserved(self, served: Sequence[str]) -> dict[str, int]:
        return dict(self._connections.query(_UNSERVED, (CHANNEL_PREFIX, list(served))))

    def hasten(self, channel: str, limit: int = 5000) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(_HASTEN, (channel, limit))
            return int(cursor.rowcount)

    def discard_waiting(
        self, prefix: str, reason: str, *, kept: Sequence[str] = (), older: float = 0.0, limit: int = 5000
    ) -> int:
        params = {"prefix": prefix, "reason": reason, "kept": list(kept), "older": older, "limit": limit}
        with self._connections.cursor() as cursor:
            cursor.execute(_DISCARD, params)
            gone = [id_ for (id_,) in cursor.fetchall()]
            if gone:
                cursor.execute(UNBLOCK, (gone,))
        return len(gone)
