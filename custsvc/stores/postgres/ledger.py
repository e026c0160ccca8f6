"""The ledger in PostgreSQL: claims skip locked rows, and all times are the server's.

The order per customer and recipient needs no lock. A claim takes a row only if its snapshot shows no older
unsettled row; settled is final, so an old snapshot can only make a mail wait. Waiting rows are marked
`blocked_by` and leave the index of due rows; the mark is removed when the older row settles, or by a sweep if
a process died in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg2 import extensions
from psycopg2.extras import execute_values

from ...ports.ledger import (
    ENOUGH,
    FARTHEST,
    LOOK_AT,
    LOST_IN_HAND_OVER,
    ROUNDS,
    SETTLED,
    Advanced,
    Grown,
    Notification,
    Overtaken,
    Settlement,
)
from .connection import Statement
from .deliveries import PostgresDeliveries
from .records import COLUMNS as _COLUMNS
from .records import ORDER as _ORDER
from .records import UNSETTLED_SQL as _UNSETTLED
from .records import PostgresRecords, notification

_ADD = """
INSERT INTO notification (position, id, event_id, customer_id, version, rule, recipient, subject, text, html,
                          state, reason, channel, entries, first_version, request_id, traceparent, next_at)
VALUES %s ON CONFLICT (id) DO NOTHING RETURNING id
"""
_ADD_ROW = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()))"

# Always lock rows in this order: two processes that lock the same rows then never deadlock.
_LOCK = "SELECT 1 FROM notification WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_GROW = """
UPDATE notification n
SET version = g.version, first_version = coalesce(n.first_version, n.version), event_id = g.event_id,
    request_id = g.request_id, traceparent = g.traceparent,
    subject = g.subject, text = g.text, html = g.html, entries = g.entries,
    next_at = coalesce(g.next_at, n.next_at), updated_on = now()
FROM (VALUES %s) AS g (id, was, version, event_id, request_id, traceparent, subject, text, html,
                            entries, next_at)
WHERE n.id = g.id AND n.state = 'queued' AND n.attempts = 0 AND n.version = g.was
"""
_GROW_ROW = "(%s, %s::bigint, %s::bigint, %s, %s::text, %s::text, %s, %s, %s, %s, %s::timestamptz)"

# A claim updates both rows that it takes and rows that must wait; `older` distinguishes them.
_CLAIM: Final = Statement(
    "claim_mails",
    "text, bigint, bigint, float8",
    f"""
WITH candidate AS MATERIALIZED (
    SELECT n.id, (
        SELECT o.id FROM notification o
        WHERE o.customer_id = n.customer_id AND o.recipient = n.recipient AND o.state IN {_UNSETTLED}
          AND {_ORDER.format("o")} < {_ORDER.format("n")}
        ORDER BY {_ORDER.format("o")} DESC LIMIT 1
    ) AS older
    FROM notification n
    WHERE n.channel = $1 AND n.state IN ('queued', 'deferred') AND n.blocked_by IS NULL
      AND n.next_at <= now()
    ORDER BY n.next_at, n.position
    LIMIT $2
    FOR UPDATE OF n SKIP LOCKED
), chosen AS (
    SELECT id, older FROM candidate WHERE older IS NOT NULL
    UNION ALL
    (SELECT id, older FROM candidate WHERE older IS NULL LIMIT $3)
)
UPDATE notification n SET
    blocked_by = c.older,
    state = CASE WHEN c.older IS NULL THEN 'claimed' ELSE n.state END,
    token = CASE WHEN c.older IS NULL THEN gen_random_uuid()::text END,
    attempts = n.attempts + CASE WHEN c.older IS NULL THEN 1 ELSE 0 END,
    lease = $4,
    lease_until = CASE WHEN c.older IS NULL THEN now() + make_interval(secs => $4) END,
    updated_on = CASE WHEN c.older IS NULL THEN now() ELSE n.updated_on END
FROM chosen c
WHERE n.id = c.id
RETURNING n.position, n.blocked_by, {", ".join(f"n.{name}" for name in _COLUMNS.split(", "))}
""",  # noqa: S608 - constants of this module
    by_index=True,
)

_UNBLOCK = f"""
UPDATE notification n SET blocked_by = NULL
WHERE {{which}} AND NOT EXISTS (
    SELECT 1 FROM notification o WHERE o.id = n.blocked_by AND o.state IN {_UNSETTLED})
"""  # noqa: S608 - constants of this module
_UNBLOCK_THESE: Final = Statement(
    "unblock_these_mails", "text[]", _UNBLOCK.format(which="n.id = ANY($1)"), by_index=True
)
_UNBLOCK_BEHIND: Final = Statement(
    "unblock_mails_behind",
    "text[]",
    _UNBLOCK.format(
        which="n.id IN (SELECT id FROM notification WHERE blocked_by = ANY($1) ORDER BY id FOR UPDATE)"
    ),
    by_index=True,
)

# Rows blocked wrongly: by a row that is settled, gone, of another customer or recipient, or not older.
_STUCK = f"""
SELECT n.id FROM notification n
WHERE n.blocked_by IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM notification o
    WHERE o.id = n.blocked_by AND o.state IN {_UNSETTLED} AND o.customer_id = n.customer_id
      AND o.recipient = n.recipient AND {_ORDER.format("o")} < {_ORDER.format("n")})
"""  # noqa: S608 - constants of this module
# The first conditions match the index of due rows; a blocked row is checked later.
_FAR = """
SELECT n.id FROM notification n
WHERE n.channel = 'mail' AND n.state IN ('queued', 'deferred') AND n.blocked_by IS NULL
  AND n.state = 'queued' AND n.attempts = 0 AND n.entries IS NOT NULL
  AND n.next_at > now() + make_interval(secs => %(farthest)s)
"""
_LOCKED = "FOR UPDATE OF n SKIP LOCKED"
_SWEEP = f"UPDATE notification SET blocked_by = NULL WHERE id IN ({_STUCK} {_LOCKED})"  # noqa: S608 - as above
_NEARER = f"UPDATE notification SET next_at = now() WHERE id IN ({_FAR} {_LOCKED})"  # noqa: S608 - as above
_COUNT_STUCK = f"SELECT count(*) FROM ({_STUCK} UNION {_FAR}) AS stuck"  # noqa: S608 - as above

# These rows belong to one sender, and a renewal skips locked rows: so no process waits for them, whatever the
# order of locking.
_ADVANCE: Final = Statement(
    "advance_mails",
    "text[], text[], text[], text[], timestamptz[], boolean[], integer[], float8[]",
    """
WITH step AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
        AS step(id, token, state, reason, next_at, counted, code, duration)
), moved AS (
    UPDATE notification n SET
        state = s.state,
        reason = CASE s.state WHEN 'handing_over' THEN n.reason ELSE s.reason END,
        next_at = coalesce(s.next_at, n.next_at),
        attempts = n.attempts - CASE WHEN s.counted THEN 0 ELSE 1 END,
        lease_until = CASE s.state WHEN 'handing_over' THEN now() + make_interval(secs => n.lease) END,
        token = CASE s.state WHEN 'handing_over' THEN n.token END,
        updated_on = now()
    FROM step s
    WHERE n.id = s.id AND n.token = s.token AND CASE s.state
        WHEN 'handing_over' THEN n.state = 'claimed'
        ELSE n.state IN ('claimed', 'handing_over') OR (n.state = 'unknown' AND s.state IN ('sent', 'failed'))
        END
    RETURNING n.id, n.attempts, n.state
), kept AS (
    INSERT INTO notification_attempt (notification_id, number, tried_on, outcome, code, text, duration)
    SELECT s.id, m.attempts, now() - make_interval(secs => s.duration), s.state, s.code, s.reason, s.duration
    FROM step s JOIN moved m USING (id) WHERE s.counted AND s.state <> 'handing_over'
    ON CONFLICT (notification_id, number) DO UPDATE
    SET outcome = excluded.outcome, code = excluded.code, text = excluded.text, duration = excluded.duration
)
SELECT id, state FROM moved
""",
    by_index=True,
)

# A locked row is just taking its next step, which renews its lease anyway. Waiting for it could deadlock:
# steps of many rows lock them in another order.
_RENEW = """
WITH held AS MATERIALIZED (
    SELECT n.id FROM unnest(%(ids)s::text[], %(tokens)s::text[]) AS held(id, token)
    JOIN notification n ON n.id = held.id AND n.token = held.token AND n.state IN ('claimed', 'handing_over')
    FOR UPDATE OF n SKIP LOCKED
)
UPDATE notification n SET lease_until = now() + make_interval(secs => %(lease)s)
FROM held WHERE n.id = held.id
"""

# An attempt that never reached the hand-over is not counted; the other rows keep their token, so that their
# sender, if it lives, can still record the result.
_EXPIRE = """
WITH expired AS (
    SELECT id, CASE WHEN state = 'claimed' OR %(resend)s THEN 'queued' ELSE 'unknown' END AS next, state
    FROM notification
    WHERE state IN ('claimed', 'handing_over') AND lease_until < now()
    ORDER BY id FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE notification n SET
        state = e.next,
        attempts = n.attempts - CASE e.state WHEN 'claimed' THEN 1 ELSE 0 END,
        token = CASE e.next WHEN 'unknown' THEN n.token END,
        reason = CASE e.state WHEN 'claimed' THEN n.reason ELSE %(lost)s END,
        lease_until = NULL,
        updated_on = now()
    FROM expired e WHERE n.id = e.id
    RETURNING n.id, n.state, n.attempts, e.state AS was
), kept AS (
    INSERT INTO notification_attempt (notification_id, number, tried_on, outcome, text, duration)
    SELECT id, attempts, now(), 'unknown', %(lost)s, 0 FROM moved WHERE was = 'handing_over'
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


class PostgresLedger(PostgresRecords, PostgresDeliveries):
    """The port `Ledger` on PostgreSQL: the queue; operators' actions are in `records`."""

    def add(self, notifications: Sequence[Notification], grown: Sequence[Grown] = ()) -> int:
        digests = {n.id for n in notifications if n.entries is not None}
        if not digests and not grown:
            with self._connections.cursor() as cursor:
                return len(_add(cursor, notifications))
        with self._connections.transaction() as cursor:
            _grow(cursor, grown)
            added = _add(cursor, notifications)
            if not digests <= added:
                raise Overtaken
        return len(added)

    def claim(self, limit: int, lease: float, channel: str = "mail") -> list[Notification]:
        claimed: list[tuple[Any, ...]] = []
        look = limit
        for turn in range(ROUNDS):
            rows = self._connections.run(_CLAIM, (channel, look, limit - len(claimed), lease))
            taken = [row for row in rows if row[1] is None]
            waiting = [row[2] for row in rows if row[1] is not None]
            if waiting:
                # Check after the mark was committed: either this statement sees that the older row has
                # settled meanwhile, or the process that settles it sees the mark.
                self._connections.run(_UNBLOCK_THESE, (waiting,))
            claimed += taken
            if not waiting or len(claimed) == limit or (claimed and turn >= ENOUGH):
                break
            look = limit if taken else LOOK_AT
        # By due time, then in the order in which they were added.
        claimed.sort(key=lambda row: (row[13], row[0]))
        return [notification(row[2:]) for row in claimed]

    def advance(self, hand_overs: Sequence[Notification], settlements: Sequence[Settlement]) -> Advanced:
        steps = [(n, Settlement(n, "handing_over")) for n in hand_overs]
        steps += [(settlement.notification, settlement) for settlement in settlements]
        if not steps:
            return Advanced(set(), set())
        moved = self._connections.run(_ADVANCE, _step_columns(steps))
        # A separate statement: its snapshot must show what the previous one committed.
        if free := [id_ for id_, state in moved if state in SETTLED]:
            self._connections.run(_UNBLOCK_BEHIND, (free,))
        return Advanced(
            {id_ for id_, state in moved if state == "handing_over"},
            {id_ for id_, state in moved if state != "handing_over"},
        )

    def renew(self, notifications: Sequence[Notification], lease: float) -> None:
        ids, tokens = [n.id for n in notifications], [n.token for n in notifications]
        with self._connections.cursor() as cursor:
            cursor.execute(_RENEW, {"ids": ids, "tokens": tokens, "lease": lease})

    def expire(self, *, resend: bool = False) -> tuple[int, int]:
        with self._connections.cursor() as cursor:
            cursor.execute(_EXPIRE, {"lost": LOST_IN_HAND_OVER, "resend": resend})
            rows = cursor.fetchall()
        unknown = [row[0] for row in rows if row[1] == "unknown"]
        if unknown:
            self._connections.run(_UNBLOCK_BEHIND, (unknown,))
        return len(rows) - len(unknown), len(unknown)

    def sweep(self) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(_SWEEP)
            freed = int(cursor.rowcount)
            cursor.execute(_NEARER, {"farthest": FARTHEST})
            return freed + int(cursor.rowcount)

    def stuck(self) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(_COUNT_STUCK, {"farthest": FARTHEST})
            ((count,),) = cursor.fetchall()
            return int(count)

    def unpublished_failures(self, limit: int, lease: float = 0.0) -> list[Notification]:
        with self._connections.cursor() as cursor:
            cursor.execute(_UNPUBLISHED, {"limit": limit, "lease": lease})
            # The oldest failure first, then by id.
            return [notification(row) for row in sorted(cursor.fetchall(), key=lambda r: (r[15], r[0]))]

    def published(self, ids: Sequence[str]) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "UPDATE notification SET published = true WHERE id = ANY(%s) AND state = 'failed'",
                (list(ids),),
            )


def _add(cursor: extensions.cursor, notifications: Sequence[Notification]) -> set[str]:
    """Insert the rows that do not exist yet; return their ids."""
    # Sorted, so that two processes that add the same rows never deadlock.
    rows = sorted((n.id, at, n) for at, n in enumerate(notifications))
    if not rows:
        return set()
    values = [(at, *_new_row(n)) for _, at, n in rows]
    added = execute_values(cursor, _ADD, values, _ADD_ROW, page_size=len(values), fetch=True)
    return {id_ for (id_,) in added}


def _grow(cursor: extensions.cursor, grown: Sequence[Grown]) -> None:
    """Give digests their new content. Raises Overtaken if one of them has changed since it was read."""
    if not grown:
        return
    cursor.execute(_LOCK, ([n.id for n, _ in grown],))
    values = [
        (
            *(n.id, was, n.version, n.event_id, n.request_id, n.traceparent),
            *(n.subject, n.text, n.html, n.entries, n.next_at),
        )
        for n, was in grown
    ]
    execute_values(cursor, _GROW, values, _GROW_ROW, page_size=len(values))
    if cursor.rowcount != len(grown):
        raise Overtaken


def _step_columns(steps: Sequence[tuple[Notification, Settlement]]) -> list[list[Any]]:
    rows = [
        (n.id, n.token, s.state, s.reason, s.next_at, s.count_attempt, s.code, s.duration) for n, s in steps
    ]
    return [list(column) for column in zip(*rows, strict=True)]


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
        n.channel,
        n.entries,
        n.order,
        n.request_id,
        n.traceparent,
        n.next_at,
    )
