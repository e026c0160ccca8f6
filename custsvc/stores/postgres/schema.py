"""The schema: numbered SQL files, each applied once, in order, in a transaction under a lock."""

from __future__ import annotations

import logging
import re
from importlib.resources import files

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.sql import SQL, Composed, Identifier

from ...errors import ConfigurationError
from .connection import Connections
from .queries import LIST_INDEXES
from .rows import fill_terms

logger = logging.getLogger(__name__)

# Any number will do, as long as nobody else in this database uses it.
_LOCK = 0x63757374_00000001

# What SQL cannot work out for rows that are there already.
_FILLED_BY = {3: fill_terms}


def migrate(connections: Connections, *, lists: bool) -> list[str]:
    """Apply what is missing; returns the names of the files applied, and `list_indexes`."""
    known = _files()
    done: list[str] = []
    with connections.transaction() as cursor:
        _lock(cursor)
        if connections.schema:
            cursor.execute(Composed([SQL("CREATE SCHEMA IF NOT EXISTS "), Identifier(connections.schema)]))
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS custsvc_migration "
            "(number integer PRIMARY KEY, name text NOT NULL, applied_on timestamptz NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT number FROM custsvc_migration")
        applied = {number for (number,) in cursor.fetchall()}
        if applied and max(applied) > max(known):
            raise ConfigurationError(
                f"the database's schema is at {max(applied)}, this custsvc knows up to {max(known)}",
                fix="upgrade custsvc to the version that migrated this database",
            )
        for number, (name, sql) in sorted(known.items()):
            if number not in applied:
                cursor.execute(sql)
                if number in _FILLED_BY:
                    _FILLED_BY[number](cursor)
                cursor.execute("INSERT INTO custsvc_migration (number, name) VALUES (%s, %s)", (number, name))
                done.append(name)
        if lists and _index_lists(cursor):
            done.append("list_indexes")
    return done


def index_lists(connections: Connections) -> bool:
    """Make the indexes that lists and searches go by, where they are missing; returns whether any was.

    Who writes waits meanwhile, who reads does not.
    """
    with connections.cursor() as cursor:
        if not (missing := _missing_indexes(cursor)):
            return False
    logger.info(
        "Making the indexes that lists and searches go by", extra={"action": "index", "indexes": missing}
    )
    with connections.transaction() as cursor:
        _lock(cursor)
        return _index_lists(cursor)


def _lock(cursor: Cursor) -> None:
    cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def _index_lists(cursor: Cursor) -> bool:
    missing = _missing_indexes(cursor)
    for name in missing:
        cursor.execute(f"CREATE INDEX {name} ON customer {LIST_INDEXES[name]}")
    return bool(missing)


def _missing_indexes(cursor: Cursor) -> list[str]:
    cursor.execute(
        "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'customer'"
    )
    there = {name for (name,) in cursor.fetchall()}
    return [name for name in LIST_INDEXES if name not in there]


def pending(connections: Connections) -> list[str]:
    """The names of the files that `migrate` would apply."""
    with connections.cursor() as cursor:
        cursor.execute("SELECT to_regclass('custsvc_migration') IS NOT NULL")
        applied: set[int] = set()
        if (cursor.fetchone() or (False,))[0]:
            cursor.execute("SELECT number FROM custsvc_migration")
            applied = {number for (number,) in cursor.fetchall()}
    return [name for number, (name, _) in sorted(_files().items()) if number not in applied]


def _files() -> dict[int, tuple[str, str]]:
    folder = files(__package__) / "migrations"
    return {
        int(match[1]): (entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    }
