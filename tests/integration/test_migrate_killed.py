"""`custsvc migrate`, killed at each crash point and run again, on a database of the first release."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from subprocess import CompletedProcess
from typing import Any

import psycopg2
import pytest

from custsvc.errors import ExitCode
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from tests.contract.migrating import as_of
from tests.processes import run_custsvc


@pytest.fixture
def empty(opened: Callable[[str], Store], empty_database: str) -> Store:
    return opened(empty_database)


KILLED_AT = [
    "migrate.stepped:1",
    "migrate.stepped:3",
    "migrate.indexed:1",
    "migrate.filling:2",
    "migrate.listing:3",
    "migrate.refilling:1",
]


@pytest.mark.parametrize("at", KILLED_AT)
def test_a_migration_that_was_killed_goes_on_when_it_is_run_again(
    backend: str, empty: Store, store: Store, empty_database: str, database_url: str, at: str
) -> None:
    """Of a database of the first release, with rows in it."""
    as_of(empty, {"postgres": 2, "mongo": 5}[backend])
    put_as_the_first_release_did(backend, empty_database, 1500)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    if backend == "mongo":
        at = at.replace("listing:3", "listing:1")  # one command makes all of them there
    environ |= {"CUSTSVC_BACKEND": backend, f"CUSTSVC_{backend.upper()}_URL": empty_database}

    def run(**more: str) -> CompletedProcess[str]:
        return run_custsvc("migrate", env=environ | more)

    killed = run(CUSTSVC_CRASH_AT=at)
    assert killed.returncode == 137, killed.stderr
    if backend == "mongo" and at != KILLED_AT[0]:
        end_lease(empty_database)
    again = run()

    assert again.returncode == ExitCode.OK, again.stderr
    assert empty.migrate() == []
    assert empty.refill() == 0
    assert schema_of(backend, empty_database) == schema_of(backend, database_url)
    assert empty.customers.count(CustomerFilter(words=("ada",))) == 1500


def end_lease(url: str) -> None:
    """End the lease of who was killed, which its successor waits for; the first of these tests sees that."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        locks = client.get_default_database()["custsvc_migration"]
        locks.update_one({"_id": "lock"}, [{"$set": {"until": "$$NOW"}}])


def put_as_the_first_release_did(backend: str, url: str, count: int) -> None:
    doc = (
        '{{"id":{0},"name":"Ada {0}","email":null,"phone":null,"metadata":{{}},"deleted":false,"version":1,'
        '"created_on":"2026-11-23T20:40:00.123Z","created_by":"me",'
        '"updated_on":"2026-11-23T20:40:00.123Z","updated_by":"me"}}'
    )
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            for number in range(1, count + 1):
                cursor.execute(
                    "INSERT INTO customer (id, version, deleted, name, created_on, updated_on, doc) "
                    "VALUES (%s, 1, false, %s, now(), now(), %s)",
                    (number, f"Ada {number}", doc.format(number)),
                )
            cursor.execute(
                "INSERT INTO notification (id, event_id, version, rule, recipient, subject, text, state, "
                "position) VALUES ('n', 'e', 1, 'r', 'a@x.example', 's', 't', 'sent', 0)"
            )
            connection.commit()
        return
    from bson import Int64
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        client.get_default_database()["customer"].insert_many(
            {
                "_id": Int64(number),
                "version": Int64(1),
                "deleted": False,
                "name": f"Ada {number}",
                "email": None,
                "phone": None,
                "doc": doc.format(number),
            }
            for number in range(1, count + 1)
        )


def schema_of(backend: str, url: str) -> Any:
    """All that a migration makes, in a form that can be compared."""
    if backend == "postgres":
        queries = (
            "SELECT table_name, column_name, data_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
            "SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'public' ORDER BY 1",
            "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
            "SELECT number, name, compatible, steps FROM custsvc_migration ORDER BY 1",
        )
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            found = []
            for query in queries:
                cursor.execute(query)
                found.append(cursor.fetchall())
            return found
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        return {
            name: {index["name"]: index["key"] for index in database[name].list_indexes()}
            for name in sorted(database.list_collection_names())
            if name not in ("customer_event_sent", "system.profile")
        } | {
            "applied": sorted(
                each["_id"] for each in database["custsvc_migration"].find() if each["_id"] != "lock"
            )
        }
