"""Users, sessions and sign-in attempts, in PostgreSQL."""

from __future__ import annotations

import datetime as dt

from psycopg2.errors import UniqueViolation

from ...errors import Conflict
from ...ports.accounts import Session, User
from .connection import Connections, Statement

_USER = "name, password, role, created_on, disabled_on, email"
_SESSION = "id, subject, actor, role, created_on, seen_on"
_FIND_USER = Statement("find_user", "text", f"SELECT {_USER} FROM app_user WHERE name = $1")  # noqa: S608
_FIND_SESSION = Statement(
    "find_session",
    "text",
    f"SELECT {_SESSION} FROM web_session WHERE id = $1",  # noqa: S608
)
# If the window is over, this attempt begins a new one.
_COUNT_TRY = """
INSERT INTO sign_in_try AS t (key, count, since) VALUES (%(key)s, 1, %(now)s)
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN t.since < %(begin)s THEN 1 ELSE t.count + 1 END,
    since = CASE WHEN t.since < %(begin)s THEN excluded.since ELSE t.since END
RETURNING count
"""


class PostgresUsers:
    """The port `Users` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, user: User) -> None:
        try:
            with self._connections.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO app_user ({_USER}) VALUES (%s, %s, %s, %s, %s, %s)",  # noqa: S608
                    (user.name, user.password, user.role, user.created_on, user.disabled_on, user.email),
                )
        except UniqueViolation as exc:
            raise Conflict(f"there is a user {user.name} already") from exc

    def find(self, name: str) -> User | None:
        rows = self._connections.read(_FIND_USER, (name,))
        return User(*rows[0]) if rows else None

    def all(self) -> list[User]:
        with self._connections.cursor() as cursor:
            cursor.execute(f'SELECT {_USER} FROM app_user ORDER BY name COLLATE "C"')  # noqa: S608
            return [User(*row) for row in cursor]

    def replace(self, user: User) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "UPDATE app_user SET password = %s, role = %s, disabled_on = %s, email = %s WHERE name = %s",
                (user.password, user.role, user.disabled_on, user.email, user.name),
            )
            return cursor.rowcount > 0

    def remove(self, name: str) -> bool:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM app_user WHERE name = %s", (name,))
            return cursor.rowcount > 0


class PostgresSessions:
    """The port `Sessions` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def add(self, session: Session) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO web_session ({_SESSION}) VALUES (%s, %s, %s, %s, %s, %s)",  # noqa: S608
                (
                    session.id,
                    session.subject,
                    session.actor,
                    session.role,
                    session.created_on,
                    session.seen_on,
                ),
            )

    def find(self, session_id: str) -> Session | None:
        rows = self._connections.read(_FIND_SESSION, (session_id,))
        return Session(*rows[0]) if rows else None

    def all(self) -> list[Session]:
        with self._connections.cursor() as cursor:
            cursor.execute(f"SELECT {_SESSION} FROM web_session ORDER BY seen_on DESC, id")  # noqa: S608
            return [Session(*row) for row in cursor]

    def seen(self, session_id: str, now: dt.datetime) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "UPDATE web_session SET seen_on = greatest(seen_on, %s) WHERE id = %s", (now, session_id)
            )

    def remove(self, session_id: str) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM web_session WHERE id = %s", (session_id,))

    def remove_of(self, subject: str) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM web_session WHERE subject = %s", (subject,))
            return int(cursor.rowcount)

    def purge(self, created_before: dt.datetime) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM web_session WHERE created_on < %s", (created_before,))
            cursor.execute("DELETE FROM sign_in_try WHERE since < %s", (created_before,))

    def count_try(self, key: str, now: dt.datetime, window: float) -> int:
        begin = now - dt.timedelta(seconds=window)
        with self._connections.cursor() as cursor:
            cursor.execute(_COUNT_TRY, {"key": key, "now": now, "begin": begin})
            (count,) = cursor.fetchone() or (0,)
        return int(count)

    def forget_tries(self, key: str) -> None:
        with self._connections.cursor() as cursor:
            cursor.execute("DELETE FROM sign_in_try WHERE key = %s", (key,))
