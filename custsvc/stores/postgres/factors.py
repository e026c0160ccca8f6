"""Second factors of users, in PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from ...ports.accounts import Factor
from .connection import Connections

_FACTOR = "name, secret, created_on, confirmed_on, last_step, recovery"
_BEGIN = """
INSERT INTO second_factor AS f (name, secret, created_on) VALUES (%(name)s, %(secret)s, %(now)s)
ON CONFLICT (name) DO UPDATE SET secret = excluded.secret, created_on = excluded.created_on
WHERE f.confirmed_on IS NULL
"""
_CONFIRM = """
UPDATE second_factor SET confirmed_on = %(now)s, last_step = %(step)s, recovery = %(recovery)s
WHERE name = %(name)s AND secret = %(secret)s AND confirmed_on IS NULL
"""


class PostgresFactors:
    """The port `Factors` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def find(self, name: str) -> Factor | None:
        with self._connections.cursor() as cursor:
            cursor.execute(f"SELECT {_FACTOR} FROM second_factor WHERE name = %s", (name,))  # noqa: S608
            row = cursor.fetchone()
        if row is None:
            return None
        name, secret, created_on, confirmed_on, last_step, recovery = row
        return Factor(name, secret, created_on, confirmed_on, last_step, tuple(recovery))

    def confirmed(self) -> set[str]:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT name FROM second_factor WHERE confirmed_on IS NOT NULL")
            return {name for (name,) in cursor.fetchall()}

    def begin(self, name: str, secret: str, now: dt.datetime) -> bool:
        return self._changed(_BEGIN, {"name": name, "secret": secret, "now": now})

    def confirm(self, name: str, secret: str, step: int, recovery: Sequence[str], now: dt.datetime) -> bool:
        params = {"name": name, "secret": secret, "step": step, "recovery": list(recovery), "now": now}
        return self._changed(_CONFIRM, params)

    def use_step(self, name: str, step: int) -> bool:
        return self._changed(
            "UPDATE second_factor SET last_step = %(step)s WHERE name = %(name)s AND last_step < %(step)s",
            {"name": name, "step": step},
        )

    def use_recovery(self, name: str, code: str) -> bool:
        return self._changed(
            "UPDATE second_factor SET recovery = array_remove(recovery, %(code)s) "
            "WHERE name = %(name)s AND %(code)s = ANY(recovery)",
            {"name": name, "code": code},
        )

    def renew(self, name: str, recovery: Sequence[str]) -> bool:
        return self._changed(
            "UPDATE second_factor SET recovery = %(recovery)s "
            "WHERE name = %(name)s AND confirmed_on IS NOT NULL",
            {"name": name, "recovery": list(recovery)},
        )

    def remove(self, name: str) -> bool:
        return self._changed("DELETE FROM second_factor WHERE name = %(name)s", {"name": name})

    def _changed(self, sql: str, params: dict[str, object]) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.rowcount > 0
