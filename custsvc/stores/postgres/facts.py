"""Facts about a database in PostgreSQL."""

from __future__ import annotations

from .connection import Connections


class PostgresFacts:
    """The port `Facts` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def get(self, name: str) -> str | None:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT value FROM custsvc_meta WHERE key = %s", (name,))
            found = cursor.fetchone()
        return found[0] if found else None

    def keep(self, name: str, value: str) -> str:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "INSERT INTO custsvc_meta (key, value) VALUES (%s, %s) ON CONFLICT DO NOTHING", (name, value)
            )
        return self.get(name) or value

    def put(self, name: str, value: str) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "INSERT INTO custsvc_meta (key, value) VALUES (%s, %s) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def drop(self, name: str) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM custsvc_meta WHERE key = %s", (name,))

    def drop_all(self, prefix: str) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM custsvc_meta WHERE starts_with(key, %s)", (prefix,))
            return int(cursor.rowcount)

    def all(self, prefix: str) -> dict[str, str]:
        with self._connections.cursor() as cursor:
            cursor.execute("SELECT key, value FROM custsvc_meta WHERE starts_with(key, %s)", (prefix,))
            return dict(cursor.fetchall())
