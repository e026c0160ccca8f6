"""The ledger's records in PostgreSQL: lists, attempts, retries, old rows."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

from ...ports.endpoints import CHANNEL_PREFIX
from ...ports.ledger import (
    AHEAD,
    DISCARDABLE,
    ERASED,
    NOT_KEPT,
    PRUNABLE,
    RETRIABLE,
    SETTLED,
    UNSETTLED,
    Attempt,
    Notification,
    storable,
)
from ..common.paused import apart
from .connection import Connections

COLUMNS = (
    "id, event_id, customer_id, version, rule, recipient, subject, text, html, state, attempts, next_at, "
    "reason, token, created_on, updated_on, channel, spared, entries, first_version, "
    "request_id, traceparent"
)
# The order of a row among the mails about its customer; rows of older versions lack their first event.
ORDER = "coalesce({0}.first_version, {0}.version)"
# Literal in the SQL text: only a constant lets the planner use the partial indexes of such rows.
UNSETTLED_SQL = str(UNSETTLED)

_RETRY = f"""
UPDATE notification n SET
    state = 'queued', next_at = now(), blocked_by = NULL, token = NULL, lease_until = NULL, spared = attempts,
    published = false, publish_lease = '-infinity', updated_on = now()
WHERE id = ANY(%(ids)s)
  AND (state = ANY(%(states)s) OR (%(redeliver)s AND state = 'sent' AND channel <> 'mail'))
  AND (%(out_of_order)s OR (%(redeliver)s AND channel <> 'mail') OR NOT EXISTS (
    SELECT 1 FROM notification o
    WHERE o.customer_id = n.customer_id AND o.recipient = n.recipient
      AND {ORDER.format("o")} > {ORDER.format("n")} AND o.state = ANY(%(ahead)s)))
RETURNING id
"""  # noqa: S608 - constants of this module

_DISCARD = """
UPDATE notification SET state = 'discarded', reason = %(reason)s, token = NULL, updated_on = now()
WHERE id = ANY(%(ids)s) AND state = ANY(%(states)s)
RETURNING id
"""

# Rows that were blocked by discarded rows are free now.
UNBLOCK = "UPDATE notification SET blocked_by = NULL WHERE blocked_by = ANY(%s)"

_DOUBT = f"""
UPDATE notification SET
    state = 'unknown', reason = %(reason)s, token = NULL, lease_until = NULL, blocked_by = NULL,
    updated_on = now()
WHERE id IN (
    SELECT id FROM notification WHERE state IN {UNSETTLED_SQL} AND NOT starts_with(channel, %(webhooks)s)
    ORDER BY id LIMIT %(limit)s FOR UPDATE)
RETURNING id
"""  # noqa: S608 - constants of this module

# Along the index of states. Up to a time instead of a number of rows, since many are created at once.
_DROP_TEXTS = """
WITH till AS MATERIALIZED (
    SELECT (
        SELECT created_on FROM notification
        WHERE state = 'sent' AND created_on > %(since)s
          AND created_on < now() - make_interval(secs => %(seconds)s)
        ORDER BY created_on OFFSET %(limit)s LIMIT 1) AS next
), dropped AS (
    UPDATE notification SET text = %(not_kept)s, html = NULL, entries = NULL FROM till
    WHERE state = 'sent' AND channel = 'mail' AND created_on > %(since)s AND text <> %(not_kept)s
      AND created_on <= coalesce(till.next, now() - make_interval(secs => %(seconds)s))
    RETURNING 1
)
SELECT (SELECT count(*) FROM dropped), next FROM till
"""
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_FORGET = """
WITH gone AS (
    UPDATE notification SET
        recipient = %(erased)s, subject = %(erased)s, text = '', html = NULL, entries = NULL, reason = NULL,
        blocked_by = NULL,
        state = CASE WHEN state IN ('queued', 'deferred') THEN 'discarded' ELSE state END
    WHERE customer_id = %(customer_id)s AND coalesce(first_version, version) < %(version)s
    RETURNING id
), tries AS (
    UPDATE notification_attempt SET text = NULL WHERE notification_id IN (SELECT id FROM gone)
)
SELECT id FROM gone
"""

_PRUNE = """
DELETE FROM notification WHERE id IN (
    SELECT id FROM notification
    WHERE state = ANY(%(states)s) AND created_on < now() - make_interval(secs => %(seconds)s)
      AND updated_on < now() - make_interval(secs => %(seconds)s) AND (state <> 'failed' OR published)
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
"""

_SENT_SINCE = """
SELECT recipient, count(*) FROM notification
WHERE recipient = ANY(%(recipients)s) AND state = 'sent'
  AND updated_on > now() - make_interval(secs => %(seconds)s)
GROUP BY recipient
"""


# By the index `notification_waiting`.
_OF_PAUSED = f"""
SELECT state, count(*), true FROM notification
WHERE channel = ANY(%(paused)s) AND channel <> 'mail' AND state IN {UNSETTLED_SQL} AND state = ANY(%(states)s)
GROUP BY state
"""  # noqa: S608 - constants of this module


def _pattern(prefix: str) -> str:
    """The LIKE pattern of texts that begin so."""
    return re.sub(r"([\\%_])", r"\\\1", prefix) + "%"


class PostgresRecords:
    """The half of the port `Ledger` that treats rows as records."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def counts(self, states: Sequence[str] = (), *, paused: Sequence[str] = ()) -> dict[str, int]:
        which = "WHERE state = ANY(%(states)s) " if states else ""
        asked = f"SELECT state, count(*), false FROM notification {which}GROUP BY state"  # noqa: S608 - constants
        params = {"states": list(states or (*UNSETTLED, *SETTLED)), "paused": list(paused)}
        with self._connections.cursor() as cursor:
            # One statement, so one snapshot: no notification is counted twice.
            cursor.execute(f"{asked} UNION ALL {_OF_PAUSED}" if paused else asked, params)
            found: list[tuple[str, int, bool]] = cursor.fetchall()
        counted = {state: count for state, count, is_paused in found if not is_paused}
        return apart(counted, {state: count for state, count, is_paused in found if is_paused})

    def oldest(self, *, paused: Sequence[str] = ()) -> dt.datetime | None:
        # Read the first row of each state from its index: a minimum over all states would read all rows.
        others = "AND n.channel <> ALL(%(paused)s) " if paused else ""
        with self._connections.cursor() as cursor:
            cursor.execute(
                "SELECT min(one.created_on) FROM unnest(%(states)s) AS s (state), "  # noqa: S608 - constants
                "LATERAL (SELECT created_on FROM notification n "
                f"WHERE n.state = s.state {others}ORDER BY created_on LIMIT 1) one",
                {"states": list(UNSETTLED), "paused": list(paused)},
            )
            ((found,),) = cursor.fetchall()
            return found if found is None else found.astimezone(dt.UTC)

    def find(self, ids: Sequence[str]) -> list[Notification]:
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"SELECT {COLUMNS} FROM notification WHERE id = ANY(%s)",  # noqa: S608 - a constant
                (list(ids),),
            )
            found = {row[0]: notification(row) for row in cursor.fetchall()}
        return [found[one] for one in ids if one in found]

    def recent(
        self,
        *,
        customer_id: int | None = None,
        state: str | None = None,
        recipient: str | None = None,
        rule: str | None = None,
        event_id: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        recipient_prefix: str | None = None,
        limit: int = 100,
    ) -> list[Notification]:
        wanted = {
            "customer_id = %s": customer_id,
            "state = %s": state,
            "recipient = %s": recipient,
            "rule = %s": rule,
            "event_id = %s": event_id,
            "created_on >= %s": since,
            "created_on < %s": until,
            "recipient LIKE %s": _pattern(recipient_prefix) if recipient_prefix else None,
        }
        asked = {test: value for test, value in wanted.items() if value is not None}
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"SELECT {COLUMNS} FROM notification "  # noqa: S608 - tests from above only
                f"WHERE {' AND '.join(asked) or 'true'} ORDER BY created_on DESC, position DESC LIMIT %s",
                [*asked.values(), limit],
            )
            return [notification(row) for row in cursor.fetchall()]

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

    def retry(self, ids: Sequence[str], *, out_of_order: bool = False, redeliver: bool = False) -> list[str]:
        params = {
            "ids": list(ids),
            "states": list(RETRIABLE),
            "ahead": list(AHEAD),
            "out_of_order": out_of_order,
            "redeliver": redeliver,
        }
        return self._ids(_RETRY, params)

    def discard(self, ids: Sequence[str], reason: str) -> list[str]:
        gone = self._ids(
            _DISCARD, {"ids": list(ids), "states": list(DISCARDABLE), "reason": storable(reason)}
        )
        if gone:
            with self._connections.cursor() as cursor:
                cursor.execute(UNBLOCK, (gone,))
        return gone

    def doubt(self, reason: str, limit: int = 5000) -> int:
        params = {"reason": storable(reason), "webhooks": CHANNEL_PREFIX, "limit": limit}
        gone = self._ids(_DOUBT, params)
        if gone:
            with self._connections.cursor() as cursor:
                cursor.execute(UNBLOCK, (gone,))
        return len(gone)

    def drop_texts(
        self, since: dt.datetime | None, seconds: float, limit: int = 5000
    ) -> tuple[int, dt.datetime | None]:
        params = {
            "since": since or _BEGINNING,
            "seconds": seconds,
            "limit": limit,
            "not_kept": NOT_KEPT,
        }
        with self._connections.cursor() as cursor:
            cursor.execute(_DROP_TEXTS, params)
            ((dropped, till),) = cursor.fetchall()
        return int(dropped), till

    def forget(self, customer_id: int, version: int) -> int:
        gone = self._ids(_FORGET, {"customer_id": customer_id, "version": version, "erased": ERASED})
        if gone:
            with self._connections.cursor() as cursor:
                cursor.execute(UNBLOCK, (gone,))
        return len(gone)

    def sent_since(self, recipients: Sequence[str], seconds: float) -> dict[str, int]:
        with self._connections.cursor() as cursor:
            cursor.execute(_SENT_SINCE, {"recipients": list(recipients), "seconds": seconds})
            return dict(cursor.fetchall())

    def prune(self, seconds: float, limit: int = 5000) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(_PRUNE, {"states": list(PRUNABLE), "seconds": seconds, "limit": limit})
            return int(cursor.rowcount)

    def _ids(self, sql: str, params: dict[str, Any]) -> list[str]:
        with self._connections.cursor() as cursor:
            cursor.execute(sql, params)
            return [row[0] for row in cursor.fetchall()]


def notification(row: Sequence[Any]) -> Notification:
    """The notification of a row of COLUMNS."""
    return Notification(*row)
