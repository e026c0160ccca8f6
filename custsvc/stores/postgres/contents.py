"""All customers of a PostgreSQL database; the server computes their digests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2 import sql
from psycopg2.extras import execute_values

from ...domain.customers import INT64_MAX
from ...ports.contents import Digest, Row
from .connection import Connections

# The bytes of a customer in a digest; `custsvc.stores.common.digest` makes the same ones.
_LINE = r"""
    concat_ws(E'\x1f', id, version, deleted::int, name, coalesce(email, E'\x1e'), coalesce(phone, E'\x1e'),
        (extract(epoch FROM created_on) * 1000)::bigint, (extract(epoch FROM updated_on) * 1000)::bigint, doc)
"""
_DIGEST = r"""
    SELECT count(*), max(id), md5(coalesce(string_agg(line, E'\n' ORDER BY id), ''))
    FROM (SELECT id, {line} AS line FROM {table} WHERE id > %s AND id <= %s ORDER BY id LIMIT %s) l
"""
_COLUMNS = """
    SELECT id, version, name, email, phone, (extract(epoch FROM created_on) * 1000)::bigint,
        (extract(epoch FROM updated_on) * 1000)::bigint
    FROM {table} WHERE id = ANY(%s)
"""


class PostgresContents:
    """The port `Contents` on a table of PostgreSQL."""

    def __init__(self, connections: Connections, table: str = "customer") -> None:
        self._connections = connections
        self._table = table

    def _sql(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(table=sql.Identifier(self._table), line=sql.SQL(_LINE))

    def scan(self, after_id: int, limit: int) -> list[Row]:
        return self._rows(
            "SELECT id, version, deleted, doc FROM {table} WHERE id > %s ORDER BY id LIMIT %s",
            (after_id, limit),
        )

    def rows(self, ids: Sequence[int]) -> list[Row]:
        return self._rows(
            "SELECT id, version, deleted, doc FROM {table} WHERE id = ANY(%s) ORDER BY id", (list(ids),)
        )

    def _rows(self, query: str, params: tuple[Any, ...]) -> list[Row]:
        with self._connections.cursor() as cursor:
            cursor.execute(self._sql(query), params)
            return [Row(i, version, deleted, doc.encode()) for i, version, deleted, doc in cursor]

    def digest(self, after_id: int, *, limit: int | None = None, last_id: int | None = None) -> Digest:
        with self._connections.cursor() as cursor:
            cursor.execute(self._sql(_DIGEST), (after_id, INT64_MAX if last_id is None else last_id, limit))
            return Digest(*(cursor.fetchone() or (0, None, "")))

    def columns(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        names = ("version", "name", "email", "phone", "created_on", "updated_on")
        with self._connections.cursor() as cursor:
            cursor.execute(self._sql(_COLUMNS), (list(ids),))
            return {i: dict(zip(names, values, strict=True)) for i, *values in cursor}

    def overwrite(self, rows: Sequence[Row]) -> int:
        return self._where_as_given("UPDATE {table} c SET version = 0 FROM (VALUES %s) AS r", rows)

    def remove(self, rows: Sequence[Row]) -> int:
        return self._where_as_given("DELETE FROM {table} c USING (VALUES %s) AS r", rows)

    def _where_as_given(self, change: str, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        query = sql.SQL(" (id, version, doc) WHERE c.id = r.id AND c.version = r.version AND c.doc = r.doc")
        values = sorted((row.id, row.version, row.doc.decode()) for row in rows)
        with self._connections.transaction() as cursor:
            execute_values(cursor, self._sql(change) + query, values, page_size=len(values))
            return cursor.rowcount
