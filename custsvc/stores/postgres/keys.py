"""API keys in PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

from psycopg2.errors import UniqueViolation

from ...errors import Conflict
from ...ports.accounts import ApiKey
from .connection import Connections, Statement

_COLUMNS = "prefix, sha256, name, role, created_on, expires_on, revoked_on"
_FIND = Statement("find_key", "text", f"SELECT {_COLUMNS} FROM api_key WHERE prefix = $1")  # noqa: S608


class PostgresKeys:
    """The port `Keys` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, key: ApiKey) -> None:
        try:
            with self._connections.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO api_key ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)",  # noqa: S608
                    (
                        key.prefix,
                        key.sha256,
                        key.name,
                        key.role,
                        key.created_on,
                        key.expires_on,
                        key.revoked_on,
                    ),
                )
        except UniqueViolation as exc:
            raise Conflict(f"there is a key {key.prefix} already") from exc

    def find(self, prefix: str) -> ApiKey | None:
        rows = self._connections.read(_FIND, (prefix,))
        return _key(rows[0]) if rows else None

    def all(self) -> list[ApiKey]:
        with self._connections.cursor() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM api_key ORDER BY created_on, prefix")  # noqa: S608
            return [_key(row) for row in cursor]

    def revoke(self, prefix: str, now: dt.datetime) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "UPDATE api_key SET revoked_on = %s WHERE prefix = %s AND revoked_on IS NULL "
                "AND (expires_on IS NULL OR expires_on > %s)",
                (now, prefix, now),
            )
            return cursor.rowcount > 0


def _key(row: tuple[Any, ...]) -> ApiKey:
    prefix, sha256, *rest = row
    return ApiKey(prefix, bytes(sha256), *rest)
