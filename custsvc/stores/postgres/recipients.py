"""Suppressed addresses and unsubscribed customers, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from ...ports.ledger import storable
from ...ports.recipients import Suppression
from .connection import Connections

_COLUMNS = "address, reason, detail, created_on, expires_on"
_LIVE = "(expires_on IS NULL OR expires_on > now())"

# greatest() ignores null, but null means "for ever".
_SUPPRESS = """
INSERT INTO notification_suppression AS s (address, reason, detail, expires_on)
VALUES (%(address)s, %(reason)s, %(detail)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (address) DO UPDATE SET
    reason = excluded.reason,
    detail = excluded.detail,
    expires_on = CASE WHEN s.expires_on IS NULL OR excluded.expires_on IS NULL THEN NULL
                      ELSE greatest(s.expires_on, excluded.expires_on) END
"""

_SET_WANTED = """
INSERT INTO notification_preference (customer_id, rule, wanted) VALUES (%s, %s, %s)
ON CONFLICT (customer_id, rule) DO UPDATE SET wanted = excluded.wanted, updated_on = now()
"""


class PostgresRecipients:
    """The port `Recipients` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def suppress(
        self, address: str, reason: str, *, detail: str | None = None, seconds: float | None = None
    ) -> None:
        stored_detail = None if detail is None else storable(detail)
        params = {"address": storable(address), "reason": reason, "detail": stored_detail, "seconds": seconds}
        with self._connections.cursor() as cursor:
            cursor.execute(_SUPPRESS, params)

    def allow(self, address: str) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM notification_suppression WHERE address = %s", (address,))
            return cursor.rowcount == 1

    def suppressed(self, addresses: Sequence[str]) -> dict[str, Suppression]:
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM notification_suppression "  # noqa: S608 - constants
                f"WHERE address = ANY(%s) AND {_LIVE}",
                (list(addresses),),
            )
            return {row[0]: Suppression(*row) for row in cursor.fetchall()}

    def suppressions(self, limit: int = 1000) -> list[Suppression]:
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"SELECT {_COLUMNS} FROM notification_suppression WHERE {_LIVE} "  # noqa: S608 - constants
                "ORDER BY created_on DESC, address LIMIT %s",
                (limit,),
            )
            return [Suppression(*row) for row in cursor.fetchall()]

    def set_wanted(self, customer_id: int, rule: str, wanted: bool) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(_SET_WANTED, (customer_id, rule, wanted))

    def unwanted(self, customer_ids: Sequence[int]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        with self._connections.cursor() as cursor:
            cursor.execute(
                "SELECT customer_id, rule FROM notification_preference "
                "WHERE customer_id = ANY(%s) AND NOT wanted",
                (list(customer_ids),),
            )
            for customer_id, rule in cursor.fetchall():
                found.setdefault(customer_id, set()).add(rule)
        return found
