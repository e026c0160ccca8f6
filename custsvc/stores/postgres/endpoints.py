"""Webhook endpoints and their secrets, in PostgreSQL. All times are the server's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg2.errors import UniqueViolation

from ...errors import Conflict
from ...ports.endpoints import EDITABLE, Endpoint, signing
from ...ports.ledger import storable
from .connection import Connections

_COLUMNS: Final = (
    "id, url, ops, created_by, changed, conditions, payload, email, description, created_on, updated_on, "
    "secret_made_on, failing_since, failure, paused_on, paused_by, paused_why, owner_told, test_asked"
)
_ADD: Final = f"""
INSERT INTO webhook_endpoint (id, url, ops, created_by, changed, conditions, payload, email, description)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}
"""  # noqa: S608 - a constant
_KEEP: Final = "INSERT INTO webhook_secret (endpoint_id, secret, overlap) VALUES (%s, %s, %s)"
_SECRETS: Final = (
    "SELECT endpoint_id, secret, made_on, overlap, clock_timestamp() FROM webhook_secret "
    "ORDER BY endpoint_id, made_on DESC"
)
# The newest always signs; an earlier one until the first of the later ones ends that.
_PRUNE_SECRETS: Final = """
DELETE FROM webhook_secret s USING webhook_secret later
WHERE later.endpoint_id = s.endpoint_id AND later.made_on > s.made_on
  AND later.made_on + make_interval(secs => later.overlap) < clock_timestamp()
"""
_FAILED: Final = """
UPDATE webhook_endpoint e SET
    failing_since = coalesce(e.failing_since, now()),
    failure = %(why)s,
    paused_on = CASE WHEN pausing THEN now() END,
    paused_why = CASE WHEN pausing THEN %(why)s END,
    owner_told = false
FROM (SELECT id, coalesce(failing_since, now()) <= now() - make_interval(secs => %(after)s) AS pausing
      FROM webhook_endpoint WHERE id = %(id)s FOR UPDATE) AS seen
WHERE e.id = seen.id AND e.paused_on IS NULL
RETURNING pausing
"""
_PAUSE: Final = """
UPDATE webhook_endpoint SET paused_on = now(), paused_by = %s, paused_why = %s, owner_told = false
WHERE id = %s AND paused_on IS NULL
"""
_RESUME: Final = """
UPDATE webhook_endpoint
SET paused_on = NULL, paused_by = NULL, paused_why = NULL, failing_since = NULL, failure = NULL
WHERE id = %s AND paused_on IS NOT NULL
"""


class PostgresEndpoints:
    """The port `Endpoints` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, endpoint: Endpoint, secret: str) -> Endpoint:
        e = endpoint
        values = [e.id, e.url, list(e.ops), e.created_by, list(e.changed), e.conditions, e.payload]
        try:
            with self._connections.transaction() as cursor:
                cursor.execute(_ADD, [*values, e.email, e.description])
                (row,) = cursor.fetchall()
                cursor.execute(_KEEP, (e.id, secret, 0.0))
        except UniqueViolation as exc:
            raise Conflict(f"there is a webhook endpoint {e.id} already") from exc
        return _endpoint(row)

    def find(self, endpoint_id: str) -> Endpoint | None:
        rows = self._connections.query(
            f"SELECT {_COLUMNS} FROM webhook_endpoint WHERE id = %s",  # noqa: S608 - a constant
            (endpoint_id,),
        )
        return _endpoint(rows[0]) if rows else None

    def all(self) -> list[Endpoint]:
        rows = self._connections.query(
            f"SELECT {_COLUMNS} FROM webhook_endpoint ORDER BY created_on, id",  # noqa: S608 - a constant
            (),
        )
        return [_endpoint(row) for row in rows]

    def change(self, endpoint_id: str, changes: Mapping[str, Any]) -> bool:
        given = {name: changes[name] for name in EDITABLE if name in changes}
        values = [list(value) if isinstance(value, tuple) else value for value in given.values()]
        sets = "".join(f"{name} = %s, " for name in given)
        return self._changed(
            f"UPDATE webhook_endpoint SET {sets}updated_on = now() WHERE id = %s",  # noqa: S608 - of EDITABLE
            (*values, endpoint_id),
        )

    def remove(self, endpoint_id: str) -> bool:
        return self._changed("DELETE FROM webhook_endpoint WHERE id = %s", (endpoint_id,))

    def add_secret(self, endpoint_id: str, secret: str, overlap: float) -> bool:
        with self._connections.transaction() as cursor:
            cursor.execute(
                "UPDATE webhook_endpoint SET secret_made_on = now() WHERE id = %s RETURNING id",
                (endpoint_id,),
            )
            if not cursor.fetchall():
                return False
            cursor.execute(_KEEP, (endpoint_id, secret, overlap))
        return True

    def secrets(self) -> dict[str, list[str]]:
        rows = self._connections.query(_SECRETS, ())
        return signing([row[:4] for row in rows], rows[0][4]) if rows else {}

    def prune_secrets(self) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(_PRUNE_SECRETS)
            return int(cursor.rowcount)

    def failed(self, endpoint_id: str, why: str, pause_after: float) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(_FAILED, {"id": endpoint_id, "why": storable(why), "after": pause_after})
            return any(pausing for (pausing,) in cursor.fetchall())

    def worked(self, endpoint_id: str) -> None:
        self._changed(
            "UPDATE webhook_endpoint SET failing_since = NULL, failure = NULL "
            "WHERE id = %s AND failing_since IS NOT NULL AND paused_on IS NULL",
            (endpoint_id,),
        )

    def pause(self, endpoint_id: str, why: str, by: str | None) -> bool:
        return self._changed(_PAUSE, (by, storable(why), endpoint_id))

    def resume(self, endpoint_id: str) -> bool:
        return self._changed(_RESUME, (endpoint_id,))

    def note_owner_mailed(self, endpoint_id: str, paused_on: dt.datetime) -> None:
        self._changed(
            "UPDATE webhook_endpoint SET owner_told = true WHERE id = %s AND paused_on = %s",
            (endpoint_id, paused_on),
        )

    def ask_test(self, endpoint_id: str) -> dt.datetime | None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "UPDATE webhook_endpoint SET test_asked = coalesce(test_asked, now()) WHERE id = %s "
                "RETURNING test_asked",
                (endpoint_id,),
            )
            rows = cursor.fetchall()
        return _time(rows[0][0]) if rows else None

    def test_queued(self, endpoint_id: str, asked: dt.datetime) -> None:
        self._changed(
            "UPDATE webhook_endpoint SET test_asked = NULL WHERE id = %s AND test_asked = %s",
            (endpoint_id, asked),
        )

    def _changed(self, sql: str, values: Sequence[Any]) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(sql, values)
            return int(cursor.rowcount) > 0


def _endpoint(row: Sequence[Any]) -> Endpoint:
    return Endpoint(*map(_value, row))


def _value(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return _time(value)
    return tuple(value) if isinstance(value, list) else value


def _time(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC)
