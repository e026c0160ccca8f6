"""Password resets, in PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ...ports.accounts import Asked
from .connection import Connections

_ASK = """
INSERT INTO password_reset (name, asked_on) VALUES (%(name)s, %(now)s)
ON CONFLICT (name) DO UPDATE SET asked_on = excluded.asked_on
"""
_CLAIM = """
UPDATE password_reset SET leased_until = %(until)s WHERE name = (
    SELECT name FROM password_reset WHERE asked_on IS NOT NULL AND leased_until < %(now)s
    ORDER BY asked_on LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING name, asked_on
"""
_SETTLE = """
UPDATE password_reset SET
    leased_until = '-infinity', asked_on = CASE WHEN asked_on = %(asked_on)s THEN NULL ELSE asked_on END
WHERE name = %(name)s
"""
_PURGE = """
DELETE FROM password_reset
WHERE coalesce(asked_on < %(old)s, true) AND coalesce(expires_on < %(now)s, true)
"""
_HOUR = dt.timedelta(hours=1)


class PostgresResets:
    """The port `Resets` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def ask(self, name: str, now: dt.datetime) -> None:
        self._run(_ASK, {"name": name, "now": now})

    def claim(self, now: dt.datetime, lease: float) -> Asked | None:
        found = self._run(_CLAIM, {"now": now, "until": now + dt.timedelta(seconds=lease)}, reads=True)
        return Asked(*found) if found else None

    def issue(self, name: str, token: str, expires_on: dt.datetime) -> None:
        self._run(
            "UPDATE password_reset SET token = %(token)s, expires_on = %(expires_on)s WHERE name = %(name)s",
            {"name": name, "token": token, "expires_on": expires_on},
        )

    def settle(self, asked: Asked) -> None:
        self._run(_SETTLE, asked._asdict())

    def owner(self, token: str, now: dt.datetime) -> str | None:
        return self._name(
            "SELECT name FROM password_reset WHERE token = %(token)s AND expires_on > %(now)s", token, now
        )

    def take(self, token: str, now: dt.datetime) -> str | None:
        return self._name(
            "DELETE FROM password_reset WHERE token = %(token)s AND expires_on > %(now)s RETURNING name",
            token,
            now,
        )

    def drop(self, name: str) -> None:
        self._run("DELETE FROM password_reset WHERE name = %(name)s", {"name": name})

    def purge(self, now: dt.datetime) -> None:
        self._run(_PURGE, {"now": now, "old": now - _HOUR})

    def _name(self, sql: str, token: str, now: dt.datetime) -> str | None:
        found = self._run(sql, {"token": token, "now": now}, reads=True)
        return str(found[0]) if found else None

    def _run(self, sql: str, params: dict[str, object], *, reads: bool = False) -> tuple[Any, ...] | None:
        with self._connections.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchone() if reads else None
