"""The shelf in PostgreSQL."""

from __future__ import annotations

from .connection import Connections


class PostgresShelf:
    """The port `Shelf` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def get(self, name: str) -> bytes | None:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT value FROM shelf WHERE name = %s AND until > now()", (name,))
            found = cursor.fetchone()
        return bytes(found[0]) if found else None

    def keep(self, name: str, value: bytes, seconds: float) -> bytes:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "INSERT INTO shelf AS s (name, value, until)"
                " VALUES (%s, %s, now() + %s * interval '1 second')"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value, until = excluded.until"
                " WHERE s.until <= now()",
                (name, value, seconds),
            )
        return self.get(name) or value

    def put(self, name: str, value: bytes, seconds: float) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "INSERT INTO shelf (name, value, until) VALUES (%s, %s, now() + %s * interval '1 second')"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value, until = excluded.until",
                (name, value, seconds),
            )

    def drop(self, name: str) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM shelf WHERE name = %s", (name,))

    def drop_all(self, prefix: str) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM shelf WHERE starts_with(name, %s)", (prefix,))
            return int(cursor.rowcount)

    def all(self, prefix: str) -> dict[str, bytes]:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "SELECT name, value FROM shelf WHERE starts_with(name, %s) AND until > now()", (prefix,)
            )
            return {name: bytes(value) for name, value in cursor.fetchall()}

    def names(self, prefix: str) -> list[str]:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT name FROM shelf WHERE starts_with(name, %s) AND until > now()", (prefix,))
            return [name for (name,) in cursor.fetchall()]

    def expire(self) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM shelf WHERE until <= now()")
            return int(cursor.rowcount)
