"""The schema: which migrations a database has, and how it gets the others.

Migrations are applied in order, each step once, by one process at a time, beside live traffic: see `patient`.
The number of finished steps is stored with each migration, so a killed run resumes where it stopped.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final

from psycopg2.errors import InsufficientPrivilege, InvalidSchemaName
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.sql import SQL, Identifier

from ...errors import ConfigurationError, Unusable
from ...ports.waiting import Waiting
from ...runtime import crash
from .connection import Connections
from .patient import Migrator, migrator
from .queries import LIST_INDEXES
from .rows import fill_terms
from .steps import Migration, Step, migrations

logger = logging.getLogger(__name__)

# The lock under which releases before this one migrate.
_EARLIER: Final = 0x63757374_00000001
_KEPT: Final = """
    CREATE TABLE IF NOT EXISTS custsvc_migration
        (number integer PRIMARY KEY, name text NOT NULL, applied_on timestamptz NOT NULL DEFAULT now());
    ALTER TABLE custsvc_migration
        -- Whether the release before goes on over it.
        ADD COLUMN IF NOT EXISTS compatible boolean NOT NULL DEFAULT false,
        -- How many of its steps are done; null when all are.
        ADD COLUMN IF NOT EXISTS steps integer;
"""
_NOTE: Final = """
    INSERT INTO custsvc_migration (number, name, compatible, steps) VALUES (%s, %s, %s, %s)
    ON CONFLICT (number) DO UPDATE SET steps = excluded.steps, applied_on = now()
"""

# The record of each migration that a database has, by number.
_SCHEMA: Final = (
    "CREATE SCHEMA custsvc, owned by the user of CUSTSVC_POSTGRES_URL; ALTER ROLE … SET search_path = custsvc"
)
Applied = dict[int, dict[str, Any]]


def migrate(connections: Connections, *, lists: bool, waiting: Waiting) -> list[str]:
    """Apply missing migrations; return the names of the files applied, and `list_indexes`.

    If none is missing, it only reads: then the account needs no right to change the schema.
    """
    missing = pending(connections)
    if not missing and not (lists and _missing_indexes(connections)):
        return []
    try:
        with migrator(connections, waiting) as ours:
            ours.transaction(lambda cursor: _prepare(cursor, connections.schema))
            done = [each.name for each in migrations() if _apply(ours, each, waiting)]
            if lists and _index_lists(ours, _missing_indexes(connections)):
                done.append("list_indexes")
            return done
    except ConfigurationError as exc:
        if isinstance(exc.__cause__, InvalidSchemaName):
            raise ConfigurationError(str(exc), fix=_SCHEMA) from exc
        if isinstance(exc.__cause__, InsufficientPrivilege):
            raise _not_allowed(exc, missing) from exc
        raise


def _not_allowed(exc: ConfigurationError, missing: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the schema lacks {', '.join(missing) or 'the indexes of lists'}, and this user may not change it "
        f"({exc})",
        fix="custsvc migrate --backend postgres, once, as the owner of the tables",
    )


def index_lists(connections: Connections, waiting: Waiting) -> bool:
    """Make the missing indexes for lists and searches; return whether any was missing.

    Neither readers nor writers wait meanwhile.
    """
    if not _missing_indexes(connections):
        return False
    with migrator(connections, waiting) as ours:
        return _index_lists(ours, _missing_indexes(connections))


def has_lists(connections: Connections) -> bool:
    """Whether all indexes for lists and searches are there and valid."""
    return not _missing_indexes(connections)


def pending(connections: Connections) -> list[str]:
    """The names of the files that `migrate` would apply.

    Raises ConfigurationError if the schema is newer than this custsvc can use.
    """
    applied = _applied(connections)
    _check_known(applied)
    return [each.name for each in migrations() if _done(applied, each) < len(each.steps)]


def _applied(connections: Connections) -> Applied:
    with connections.cursor() as cursor:
        cursor.execute("SELECT to_regclass('custsvc_migration') IS NOT NULL")
        if not (cursor.fetchone() or (False,))[0]:
            return {}
        # As JSON: an earlier release made the table with fewer columns, a later one may have more.
        cursor.execute("SELECT number, to_jsonb(m) FROM custsvc_migration m")
        return dict(cursor.fetchall())


def _check_known(applied: Applied) -> None:
    newest = migrations()[-1].number
    if unknown := [
        number for number, each in sorted(applied.items()) if number > newest and not each.get("compatible")
    ]:
        raise Unusable(
            f"the database's schema is at {max(applied)}, this custsvc knows up to {newest} and cannot go on "
            f"over {unknown[0]}",
            fix="upgrade custsvc to the version that migrated this database",
            dependency="postgres",
        )


def _done(applied: Applied, migration: Migration) -> int:
    """How many steps of a migration are done."""
    found = applied.get(migration.number)
    if found is None:
        return 0
    steps = found.get("steps")
    return len(migration.steps) if steps is None else int(steps)


def _prepare(cursor: Cursor, schema: str | None) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_EARLIER,))
    if schema:
        cursor.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
    cursor.execute(_KEPT)


def _apply(ours: Migrator, migration: Migration, waiting: Waiting) -> bool:
    """Do the missing steps; return whether there were any."""
    done = first = _done(dict(ours.rows("SELECT number, to_jsonb(m) FROM custsvc_migration m")), migration)
    for step in migration.steps[first:]:
        waiting.tell(f"{migration.name} is being applied")
        _do(ours, migration, step, done)
        done += 1
        crash.point("migrate.stepped")
    return done > first


def _do(ours: Migrator, migration: Migration, step: Step, done: int) -> None:
    if step.kind == "concurrently":
        for statement in step.statements():
            ours.concurrently(statement)
            crash.point("migrate.indexed")
    elif step.kind != "transaction":
        ours.fill(partial(_fill_some, step))

    def note(cursor: Cursor) -> None:
        # A process of an earlier release may have applied it first.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_EARLIER,))
        cursor.execute("SELECT number, to_jsonb(m) FROM custsvc_migration m")
        if _done(dict(cursor.fetchall()), migration) > done:
            return
        if step.kind == "transaction":
            cursor.execute(step.sql)
        steps = done + 1 if done + 1 < len(migration.steps) else None
        cursor.execute(_NOTE, (migration.number, migration.name, migration.compatible, steps))

    ours.transaction(note)


def _fill_some(step: Step, cursor: Cursor) -> int:
    if step.kind == "terms":
        filled = fill_terms(cursor)
    else:
        cursor.execute(step.sql)
        filled = cursor.rowcount
    crash.point("migrate.filling")
    return filled


def _index_lists(ours: Migrator, missing: list[str]) -> bool:
    if missing:
        logger.info(
            "Making the indexes that lists and searches go by", extra={"action": "index", "indexes": missing}
        )
    for name in missing:
        ours.concurrently(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON customer {LIST_INDEXES[name]}")
        crash.point("migrate.listing")
    if missing:
        # Without statistics on the indexed expressions the planner would read the whole table instead.
        ours.concurrently("ANALYZE customer")
    return bool(missing)


def _missing_indexes(connections: Connections) -> list[str]:
    """The indexes for lists that are missing or invalid."""
    with connections.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indisvalid AND i.indrelid = to_regclass('customer')"
        )
        there = {name for (name,) in cursor.fetchall()}
    return [name for name in LIST_INDEXES if name not in there]
