"""The schema: numbered migrations, each applied once, in order, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import pymongo
from pymongo.database import Database

from ...errors import ConfigurationError, TemporaryError
from .accounts import create_accounts
from .answers import create_answers
from .carried import create_carried
from .connection import Connection, Document, no_schema
from .customers import create_customers
from .documents import fill_terms
from .keys import create_keys
from .lease import Lease
from .ledger import create_notification_records, create_notifications
from .outbox import create_events
from .queries import index_lists
from .replica import create_replica

_COLLECTION = "custsvc_migration"
_LEASE = 10.0
# Seconds to wait for another process that migrates.
_PATIENCE = 300.0


class Migration(NamedTuple):
    """One step. It may have been cut off half-way by a crash, so it must bear being run again."""

    number: int
    name: str
    apply: Callable[[Database[Document]], None]


def _create_api(database: Database[Document]) -> None:
    create_answers(database)
    fill_terms(database)


# In order, and never renumbered. A backend file brings its own function.
MIGRATIONS = (
    Migration(1, "customers", create_customers),
    Migration(2, "events", create_events),
    Migration(3, "replica", create_replica),
    Migration(4, "keys", create_keys),
    Migration(5, "notification", create_notifications),
    Migration(6, "api", _create_api),
    Migration(8, "notification_records", create_notification_records),
    Migration(9, "accounts", create_accounts),
    Migration(10, "carried", create_carried),
)


def migrate(connection: Connection, *, lists: bool) -> list[str]:
    """Apply what is missing; returns the names of the migrations applied, and `list_indexes`."""
    connection.check()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        lease = Lease(connection, _COLLECTION, "lock", _LEASE)
        with lease.held() as ours:
            if ours:
                done = _migrate(connection, lease)
                if lists and index_lists(connection):
                    done.append("list_indexes")
                return done
        time.sleep(0.1)
    raise TemporaryError(
        f"another process has been migrating {connection.address} for {_PATIENCE:.0f} seconds",
        dependency="mongo",
    )


def _migrate(connection: Connection, lease: Lease) -> list[str]:
    known = MIGRATIONS[-1].number
    done = []
    # An index over many documents takes its time.
    with connection.translated(), pymongo.timeout(None):
        applied = _applied(connection)
        if applied and max(applied) > known:
            raise ConfigurationError(
                f"the database's schema is at {max(applied)}, this custsvc knows up to {known}",
                fix="upgrade custsvc to the version that migrated this database",
            )
        for number, name, apply in MIGRATIONS:
            if number not in applied:
                lease.check()
                apply(connection.database)
                connection[_COLLECTION].insert_one(
                    {"_id": number, "name": name, "applied_on": datetime.now(UTC)}
                )
                done.append(f"{number:04d}_{name}")
    return done


def pending(connection: Connection) -> list[str]:
    """The names of the migrations that `migrate` would apply."""
    with connection.translated():
        applied = _applied(connection)
    return [f"{number:04d}_{name}" for number, name, _ in MIGRATIONS if number not in applied]


def require_schema(connection: Connection) -> None:
    """Raise ConfigurationError where a migration is missing."""
    if pending(connection):
        raise no_schema()


def _applied(connection: Connection) -> set[int]:
    return {int(found["_id"]) for found in connection[_COLLECTION].find({"_id": {"$type": "number"}})}
