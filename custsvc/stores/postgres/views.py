"""Saved views, in PostgreSQL."""

from __future__ import annotations

from typing import Final

from psycopg2.errors import UniqueViolation

from ...ports.views import OWN_MAX, SHARED_SHOWN, SavedView
from ..common.views import name_taken, too_many
from .connection import Connections, Statement

_COLUMNS: Final = "id, owner, made_by, name, query, shared, changed_on"
_FIND: Final = Statement("find_view", "text", f"SELECT {_COLUMNS} FROM saved_view WHERE id = $1")  # noqa: S608
_SEEN: Final = Statement(
    "seen_views",
    "text, integer",
    f"""
    (SELECT {_COLUMNS} FROM saved_view WHERE owner = $1 ORDER BY name, id)
    UNION ALL
    (SELECT {_COLUMNS} FROM saved_view WHERE shared AND owner <> $1 ORDER BY name, id LIMIT $2)
    """,  # noqa: S608 - constants
)
_ADD: Final = f"""
    INSERT INTO saved_view ({_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s, %s
    WHERE (SELECT count(*) FROM saved_view WHERE owner = %s) < %s
"""  # noqa: S608 - constants
_REPLACE: Final = (
    "UPDATE saved_view SET name = %s, query = %s, shared = %s, changed_on = %s WHERE id = %s AND owner = %s"
)


class PostgresViews:
    """The port `Views` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, view: SavedView) -> None:
        row = (view.id, view.owner, view.made_by, view.name, view.query, view.shared, view.changed_on)
        try:
            with self._connections.cursor() as cursor:
                cursor.execute(_ADD, (*row, view.owner, OWN_MAX))
                if not cursor.rowcount:
                    raise too_many()
        except UniqueViolation as exc:
            raise name_taken(view) from exc

    def find(self, view_id: str) -> SavedView | None:
        rows = self._connections.read(_FIND, (view_id,))
        return SavedView(*rows[0]) if rows else None

    def seen_by(self, owner: str) -> list[SavedView]:
        return [SavedView(*row) for row in self._connections.read(_SEEN, (owner, SHARED_SHOWN))]

    def replace(self, view: SavedView) -> bool:
        values = (view.name, view.query, view.shared, view.changed_on, view.id, view.owner)
        try:
            with self._connections.cursor() as cursor:
                cursor.execute(_REPLACE, values)
                return cursor.rowcount > 0
        except UniqueViolation as exc:
            raise name_taken(view) from exc

    def remove(self, view_id: str) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM saved_view WHERE id = %s", (view_id,))
            return cursor.rowcount > 0

    def leave(self, owner: str) -> None:
        with self._connections.transaction() as cursor:
            cursor.execute("DELETE FROM saved_view WHERE owner = %s AND NOT shared", (owner,))
            cursor.execute("UPDATE saved_view SET owner = 'gone:' || id WHERE owner = %s", (owner,))
