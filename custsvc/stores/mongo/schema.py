"""The schema: numbered migrations, each applied once, in order, by one process at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import pymongo
from pymongo.database import Database
from pymongo.errors import OperationFailure

from ...errors import ConfigurationError, TemporaryError, Unusable
from ...ports.waiting import Waiting
from ...runtime import crash
from ..common.errors import foreign
from .accounts import create_accounts
from .answers import create_answers
from .carried import create_carried
from .connection import UNLIMITED, Connection, Document, no_schema
from .customers import create_customers
from .documents import fill_terms
from .duplicates import create_dismissed_pairs
from .endpoints import create_webhooks
from .factors import create_second_factors
from .history import create_history
from .keys import create_keys
from .lease import Lease
from .ledger_indexes import (
    create_notification_address,
    create_notification_order,
    create_notification_records,
    create_notifications,
)
from .list_indexes import index_lists, missing_indexes
from .outbox import create_events
from .replica import create_replica
from .resets import create_password_resets
from .shelf import create_shelf
from .views import create_saved_views

_COLLECTION = "custsvc_migration"
_LEASE = 10.0
_GAP = 0.3
_IS_HELD = "another process migrates this database"


class Migration(NamedTuple):
    """One step. A crash may interrupt it half-way, so it must tolerate being run again.

    After a `compatible` one the previous release still works with the schema.
    """

    number: int
    name: str
    apply: Callable[[Database[Document]], None]
    compatible: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.number:04d}_{self.name}"


def _create_api(database: Database[Document]) -> None:
    create_answers(database)
    fill_terms(database)


# In order, and never renumbered. Each backend file defines its own function.
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
    Migration(11, "notification_order", create_notification_order, compatible=True),
    Migration(12, "duplicates", create_dismissed_pairs, compatible=True),
    Migration(13, "saved_views", create_saved_views, compatible=True),
    Migration(14, "webhooks", create_webhooks, compatible=True),
    Migration(15, "notification_address", create_notification_address, compatible=True),
    Migration(16, "shelf", create_shelf, compatible=True),
    Migration(18, "history", create_history, compatible=True),
    Migration(20, "second_factor", create_second_factors, compatible=True),
    Migration(21, "password_reset", create_password_resets, compatible=True),
)


def migrate(connection: Connection, *, lists: bool, waiting: Waiting) -> list[str]:
    """Apply missing migrations; return the names of those applied, and `list_indexes`.

    If none is missing, it only reads: then the account needs no right to change the schema.
    """
    connection.check()
    missing = pending(connection)
    if not missing and not (lists and missing_indexes(connection)):
        return []
    try:
        with _lease(connection, waiting) as lease:
            done = _migrate(connection, lease, waiting)
            if lists and index_lists(connection, waiting):
                done.append("list_indexes")
            return done
    except ConfigurationError as exc:
        if isinstance(exc.__cause__, OperationFailure):
            raise _not_allowed(exc, missing) from exc
        raise


def _not_allowed(exc: ConfigurationError, missing: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the schema lacks {', '.join(missing) or 'the indexes of lists'}, and this user may not change it "
        f"({exc})",
        fix="custsvc migrate --backend mongo, once, as a user with readWrite",
    )


@contextmanager
def _lease(connection: Connection, waiting: Waiting) -> Iterator[Lease]:
    """The migration lock. Raises TemporaryError when patience ends, Stopped when stop is asked."""
    deadline = time.monotonic() + waiting.patience
    while time.monotonic() < deadline:
        lease = Lease(connection, _COLLECTION, "lock", _LEASE)
        with lease.held() as ours:
            if ours:
                yield lease
                return
        waiting.pause(_GAP, _IS_HELD)
    raise TemporaryError(
        f"{_IS_HELD}, {connection.address}, and has for {waiting.patience:.0f} s",
        dependency="mongo",
        fix="wait for it, then run it again",
    )


def _migrate(connection: Connection, lease: Lease, waiting: Waiting) -> list[str]:
    done = []
    # An index on many documents takes long.
    with connection.translated(), pymongo.timeout(UNLIMITED):
        applied = _applied(connection)
        if not applied:
            _check_own(connection)
        for migration in MIGRATIONS:
            if migration.number not in applied:
                waiting.check()
                lease.check()
                waiting.tell(f"{migration.full_name} is being applied")
                migration.apply(connection.database)
                crash.point("migrate.indexed")
                connection[_COLLECTION].insert_one(
                    {
                        "_id": migration.number,
                        "name": migration.name,
                        "applied_on": datetime.now(UTC),
                        "compatible": migration.compatible,
                    }
                )
                crash.point("migrate.stepped")
                done.append(migration.full_name)
    return done


def _check_own(connection: Connection) -> None:
    """Raise Unusable if another program has customers in a database that was never migrated."""
    for found in connection.database.list_collections(filter={"name": "customer"}):
        if found.get("type") != "collection" or found.get("options"):
            raise foreign("mongo", "its customer is no plain collection")
        if connection["customer"].find_one({}, {"_id": True}) is not None:
            raise foreign("mongo", "its collection customer has documents already")


def pending(connection: Connection) -> list[str]:
    """The names of the migrations that `migrate` would apply.

    Raises ConfigurationError if the schema is newer than this custsvc can use.
    """
    with connection.translated():
        applied = _applied(connection)
    newest = MIGRATIONS[-1].number
    if unknown := [number for number, fits in sorted(applied.items()) if number > newest and not fits]:
        raise Unusable(
            f"the database's schema is at {max(applied)}, this custsvc knows up to {newest} and cannot go on "
            f"over {unknown[0]}",
            fix="upgrade custsvc to the version that migrated this database",
            dependency="mongo",
        )
    return [migration.full_name for migration in MIGRATIONS if migration.number not in applied]


def require_schema(connection: Connection) -> None:
    """Raise ConfigurationError if a migration is missing."""
    if pending(connection):
        raise no_schema()


def _applied(connection: Connection) -> dict[int, bool]:
    """The migrations that a database has, and whether each is `compatible`."""
    found = connection[_COLLECTION].find({"_id": {"$type": "number"}})
    return {int(each["_id"]): bool(each.get("compatible")) for each in found}
