"""Databases as earlier releases left them, and sessions that block a migration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from custsvc.ports.store import Store
from custsvc.ports.waiting import Waiting
from custsvc.stores.mongo import MongoStore
from custsvc.stores.mongo import schema as mongo_schema
from custsvc.stores.mongo.lease import Lease
from custsvc.stores.postgres import PostgresStore
from custsvc.stores.postgres import schema as postgres_schema
from custsvc.stores.postgres.patient import migrator
from custsvc.stores.postgres.steps import migrations


def as_of(store: Store, number: int) -> None:
    """Migrate as a release did that knew up to this number, without the indexes of lists."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(store, PostgresStore):
            known = [each for each in migrations() if each.number <= number]
            patch.setattr(postgres_schema, "migrations", lambda: tuple(known))
            postgres_schema.migrate(store._connections, lists=False, waiting=Waiting())
        else:
            assert isinstance(store, MongoStore)
            steps = [each for each in mongo_schema.MIGRATIONS if each.number <= number]
            patch.setattr(mongo_schema, "MIGRATIONS", tuple(steps))
            mongo_schema.migrate(store._connection, lists=False, waiting=Waiting())


@contextmanager
def another_migrates(store: Store) -> Iterator[None]:
    """Another process migrates within the block."""
    if isinstance(store, PostgresStore):
        with migrator(store._connections, Waiting()):
            yield
        return
    assert isinstance(store, MongoStore)
    with Lease(store._connection, "custsvc_migration", "lock", 10.0).held() as ours:
        assert ours
        yield
