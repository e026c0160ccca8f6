"""The ledger in PostgreSQL: claims skip what others hold, and all times are the server's.

The order per customer and recipient needs no lock. A claim takes a row only if its snapshot shows no older
row that is not settled; settled is for good, so a snapshot that is behind can only make a mail wait. Rows
that wait so are marked `blocked_by` and leave the index of due rows; the mark is taken off when the older
row settles, or, where a process died in between, by a sweep.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from psycopg2 import extensions
from psycopg2.extras import execute_values

from ..base import Notification, NotificationState
from ..ledger import LOST_IN_HAND_OVER, SETTLED, Attempt
from .connection import Connections

_SWEEP_EVERY = 60.0
# A claim looks at this many rows at a time. Where nearly all must wait, it goes on for so many turns, or for
# a few once it has some.
_LOOK_AT = 500
_ROUNDS = 40
_ENOUGH = 2

_COLUMNS = (
    "id, event_id, customer_id, version, rule, recipient, subject, text, html, state, attempts, next_at, "
    "reason, token, created_on, updated_on"
)
_UNSETTLED = "('queued', 'claimed', 'handing_over', 'deferred')"

_ADD = """
INSERT INTO notification (position, id, event_id, customer_id, version, rule, recipient, subject, text, html,
                          state, reason)
VALUES %s ON CONFLICT (id) DO NOTHING
"""

# The columns that a claim gives to rows it takes and to rows that must wait are told apart by `older`.
_CLAIM = f"""
WITH candidate AS MATERIALIZED (
    SELECT n.id, (
        SELECT o.id FROM notification o
        WHERE o.customer_id = n.customer_id AND o.recipient = n.recipient AND o.state IN {_UNSETTLED}
          AND o.version < n.version
        ORDER BY o.version DESC LIMIT 1
    ) AS older
    FROM notification n
    WHERE n.state IN ('queued', 'deferred') AND n.blocked_by IS NULL AND n.next_at <= now()
    ORDER BY n.next_at, n.position
    LIMIT %(look)s
    FOR UPDATE OF n SKIP LOCKED
), chosen AS (
    SELECT id, older FROM candidate WHERE older IS NOT NULL
    UNION ALL
    (SELECT id, older FROM candidate WHERE older IS NULL LIMIT %(limit)s)
)
UPDATE notification n SET
    blocked_by = c.older,
    state = CASE WHEN c.older IS NULL THEN 'claimed' ELSE n.state END,
    token = CASE WHEN c.older IS NULL THEN gen_random_uuid()::text END,
    attempts = n.attempts + CASE WHEN c.older IS NULL THEN 1 ELSE 0 END,
    lease_until = CASE WHEN c.older IS NULL THEN now() + make_interval(secs => %(lease)s) END,
    updated_on = CASE WHEN c.older IS NULL THEN now() ELSE n.updated_on END
FROM chosen c
WHERE n.id = c.id
RETURNING n.position, n.blocked_by, {", ".join(f"n.{name}" for name in _COLUMNS.split(", "))}
"""  # noqa: S608 - constants of this module

_UNBLOCK = f"""
UPDATE notification n SET blocked_by = NULL
WHERE {{which}} AND NOT EXISTS (
    SELECT 1 FROM notification o WHERE o.id = n.blocked_by AND o.state IN {_UNSETTLED})
"""  # noqa: S608 - constants of this module
_UNBLOCK_THESE = _UNBLOCK.format(which="n.id = ANY(%s)")
_UNBLOCK_BEHIND = _UNBLOCK.format(which="n.blocked_by = ANY(%s)")
_SWEEP = _UNBLOCK.format(
    which="n.id IN (SELECT id FROM notification WHERE blocked_by IS NOT NULL FOR UPDATE SKIP LOCKED)"
)

# The lease is renewed for its whole length: `updated_on` is the time of the claim.
_HANDING_OVER = """
UPDATE notification
SET state = 'handing_over', lease_until = now() + (lease_until - updated_on), updated_on = now()
WHERE id = %s AND token = %s AND state = 'claimed'
"""

_SETTLE = """
WITH moved AS (
    UPDATE notification SET
        state = %(state)s,
        reason = %(reason)s,
        next_at = coalesce(%(next_at)s, next_at),
        attempts = attempts - CASE WHEN %(counted)s THEN 0 ELSE 1 END,
        lease_until = NULL,
        token = NULL,
        updated_on = now()
    WHERE id = %(id)s AND token = %(token)s
      AND (state IN ('claimed', 'handing_over') OR (state = 'unknown' AND %(state)s IN ('sent', 'failed')))
    RETURNING id, attempts
), kept AS (
    INSERT INTO notification_attempt (notification_id, number, tried_on, outcome, code, text, duration)
    SELECT id, attempts, now() - make_interval(secs => %(duration)s), %(state)s, %(code)s, %(reason)s,
           %(duration)s
    FROM moved WHERE %(counted)s
    ON CONFLICT (notification_id, number) DO UPDATE
    SET outcome = excluded.outcome, code = excluded.code, text = excluded.text, duration = excluded.duration
)
SELECT count(*) FROM moved
"""

# An attempt that never reached the hand-over is given back; the token of the others stays, so that their
# sender, should it live, can still say how it ended.
_EXPIRE = """
WITH expired AS (
    SELECT id, state FROM notification
    WHERE state IN ('claimed', 'handing_over') AND lease_until < now()
    ORDER BY id FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE notification n SET
        state = CASE e.state WHEN 'claimed' THEN 'queued' ELSE 'unknown' END,
        attempts = n.attempts - CASE e.state WHEN 'claimed' THEN 1 ELSE 0 END,
        token = CASE e.state WHEN 'claimed' THEN NULL ELSE n.token END,
        reason = CASE e.state WHEN 'claimed' THEN n.reason ELSE %(lost)s END,
        lease_until = NULL,
        updated_on = now()
    FROM expired e WHERE n.id = e.id
    RETURNING n.id, n.state, n.attempts
), kept AS (
    INSERT INTO notification_attempt (notification_id, number, tried_on, outcome, text, duration)
    SELECT id, attempts, now(), state, %(lost)s, 0 FROM moved WHERE state = 'unknown'
    ON CONFLICT (notification_id, number) DO NOTHING
)
SELECT id, state FROM moved
"""

_UNPUBLISHED = f"""
UPDATE notification SET publish_lease = now() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM notification WHERE state = 'failed' AND NOT published
      AND (%(lease)s = 0 OR publish_lease <= now())
    ORDER BY updated_on LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants of this module


class PostgresLedger:
    """The ports `Ledger` and `AttemptLedger` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._sweep_at = 0.0

    def add(self, notifications: Sequence[Notification]) -> int:
        # Sorted, so that two that add the same rows at once wait for each other in one order only.
        rows = sorted((n.id, at, n) for at, n in enumerate(notifications))
        if not rows:
            return 0
        values = [(at, *_new_row(n)) for _, at, n in rows]
        with self._connections.cursor() as cursor:
            execute_values(cursor, _ADD, values, page_size=len(values))
            return int(cursor.rowcount)

    def claim(self, limit: int, lease: float) -> list[Notification]:
        claimed: list[tuple[Any, ...]] = []
        look = limit
        for turn in range(_ROUNDS):
            with self._connections.cursor() as cursor:
                cursor.execute(_CLAIM, {"limit": limit - len(claimed), "lease": lease, "look": look})
                rows = cursor.fetchall()
                taken = [row for row in rows if row[1] is None]
                waiting = [row[2] for row in rows if row[1] is not None]
                if waiting:
                    # Looked at after the mark was committed: either this sees that the older one has
                    # settled meanwhile, or whoever settles it sees the mark.
                    cursor.execute(_UNBLOCK_THESE, (waiting,))
            claimed += taken
            if not waiting or len(claimed) == limit or (claimed and turn >= _ENOUGH):
                break
            look = limit if taken else _LOOK_AT
        # By the time they are due, then as they were added together.
        claimed.sort(key=lambda row: (row[13], row[0]))
        return [_notification(row[2:]) for row in claimed]

    def handing_over(self, notification: Notification) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(_HANDING_OVER, (notification.id, notification.token))
            return cursor.rowcount == 1

    def settle(
        self,
        notification: Notification,
        state: NotificationState,
        *,
        reason: str | None = None,
        next_at: dt.datetime | None = None,
        count_attempt: bool = True,
        code: int | None = None,
        duration: float = 0.0,
    ) -> bool:
        params = {
            "id": notification.id,
            "token": notification.token,
            "state": state,
            "reason": reason,
            "next_at": next_at,
            "counted": count_attempt,
            "code": code,
            "duration": duration,
        }
        with self._connections.cursor() as cursor:
            cursor.execute(_SETTLE, params)
            (moved,) = cursor.fetchone() or (0,)
            if moved and state in SETTLED and notification.customer_id is not None:
                cursor.execute(_UNBLOCK_BEHIND, ([notification.id],))
        return bool(moved)

    def expire(self) -> tuple[int, int]:
        with self._connections.cursor() as cursor:
            cursor.execute(_EXPIRE, {"lost": LOST_IN_HAND_OVER})
            rows = cursor.fetchall()
            unknown = [row[0] for row in rows if row[1] == "unknown"]
            if unknown:
                cursor.execute(_UNBLOCK_BEHIND, (unknown,))
            self._sweep(cursor)
        return len(rows) - len(unknown), len(unknown)

    def _sweep(self, cursor: extensions.cursor) -> None:
        if time.monotonic() >= self._sweep_at:
            cursor.execute(_SWEEP)
            self._sweep_at = time.monotonic() + _SWEEP_EVERY

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        with self._connections.cursor() as cursor:
            cursor.execute(_UNPUBLISHED, {"limit": limit, "lease": lease})
            # The oldest failure first, then by id.
            return [_notification(row) for row in sorted(cursor.fetchall(), key=lambda r: (r[15], r[0]))]

    def published(self, ids: Sequence[str]) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("UPDATE notification SET published = true WHERE id = ANY(%s)", (list(ids),))

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        found: dict[str, list[Attempt]] = {}
        with self._connections.cursor() as cursor:
            cursor.execute(
                "SELECT notification_id, number, tried_on, outcome, code, text, duration "
                "FROM notification_attempt WHERE notification_id = ANY(%s) ORDER BY number",
                (list(ids),),
            )
            for notification_id, *attempt in cursor.fetchall():
                found.setdefault(notification_id, []).append(Attempt(*attempt))
        return found

    def counts(self) -> dict[str, int]:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT state, count(*) FROM notification GROUP BY state")
            return dict(cursor.fetchall())

    def recent(
        self, *, customer_id: int | None = None, state: str | None = None, limit: int = 100
    ) -> list[Notification]:
        wanted = {"customer_id": customer_id, "state": state}
        asked = [name for name, value in wanted.items() if value is not None]
        where = " AND ".join(f"{name} = %({name})s" for name in asked) or "true"
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM notification WHERE {where} "  # noqa: S608 - names from above only
                "ORDER BY created_on DESC, position DESC LIMIT %(limit)s",
                {**wanted, "limit": limit},
            )
            return [_notification(row) for row in cursor.fetchall()]


def _new_row(n: Notification) -> tuple[Any, ...]:
    return (
        n.id,
        n.event_id,
        n.customer_id,
        n.version,
        n.rule,
        n.recipient,
        n.subject,
        n.text,
        n.html,
        n.state,
        n.reason,
    )


def _notification(row: Sequence[Any]) -> Notification:
    return Notification(*row)
