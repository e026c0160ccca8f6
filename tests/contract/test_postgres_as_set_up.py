"""PostgreSQL as its administrators, and the environment of a process, have set it up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from custsvc.domain.customers import Stored
from custsvc.errors import ConfigurationError, TemporaryError, VersionConflict
from custsvc.ports.customers import CustomerQuery
from custsvc.ports.facts import Fact
from custsvc.ports.store import Store
from tests.databases import open_database, with_database

from .conftest import Customers

pytestmark = pytest.mark.parametrize("backend", ["postgres"])

# Defaults that a database or a role may have, and that we have found at work somewhere.
DEFAULTS = {
    "default_transaction_isolation": "serializable",
    "datestyle": "German, DMY",
    "intervalstyle": "postgres_verbose",
    "bytea_output": "escape",
    "timezone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "array_nulls": "off",
    "extra_float_digits": "-15",
    "row_security": "off",
    "transform_null_equals": "on",
    "backslash_quote": "on",
}


@pytest.fixture
def run(database_url: str) -> Iterator[Callable[[str], None]]:
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        yield lambda statement: connection.cursor().execute(statement)


@pytest.fixture
def set_up(run: Callable[[str], None], database_url: str) -> None:
    name = urlsplit(database_url).path[1:]
    for setting, value in DEFAULTS.items():
        run(f"ALTER DATABASE {name} SET {setting} = '{value}'")


CALLS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.customers.get(1),
    "list": lambda store: store.customers.find(CustomerQuery()),
    "fact": lambda store: store.facts.keep(Fact.SECRET, "x"),
    "facts": lambda store: store.facts.get(Fact.ROLE),
    "shelf": lambda store: store.shelf.put("name", b"value", 60),
    "clock": lambda store: store.clock(),
    "copy": lambda store: store.replica.scan(0, 9),
    "depth": lambda store: store.outbox.depth(),
    "ping": lambda store: store.ping(writing=True),
    "role": lambda store: store.claim_role("source"),
    "ids": lambda store: store.customers.ids_above(100),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_that_was_ended_while_idle_fails_no_call(
    store: Store, call: str, database_url: str
) -> None:
    CALLS[call](store)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    CALLS[call](store)


@pytest.mark.usefixtures("set_up")
def test_the_clock_of_the_database_is_right(store: Store) -> None:
    assert abs(store.clock() - time.time()) < 60


def test_a_database_without_a_schema_for_our_tables_is_refused_with_how_to_make_one(
    run: Callable[[str], None], database_url: str
) -> None:
    name = f"{urlsplit(database_url).path[1:]}_bare"
    run(f"CREATE DATABASE {name} TEMPLATE template0")
    run(f"ALTER DATABASE {name} SET search_path = ''")
    try:
        with (
            open_database("postgres", with_database(database_url, name)) as store,
            pytest.raises(ConfigurationError, match="no schema has been selected") as refused,
        ):
            store.migrate()
    finally:
        run(f"DROP DATABASE {name} WITH (FORCE)")
    assert "search_path" in (refused.value.fix or "")


def test_a_database_that_only_reads_is_refused_with_its_two_causes(
    run: Callable[[str], None], customers: Customers, database_url: str
) -> None:
    run(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET default_transaction_read_only = on")

    with (
        open_database("postgres", database_url) as store,
        pytest.raises(TemporaryError, match="read-only") as refused,
    ):
        store.facts.keep(Fact.ROLE, "source")
    assert "stand-by" in (refused.value.fix or "")
    assert "default_transaction_read_only" in (refused.value.fix or "")


@pytest.mark.usefixtures("set_up")
def test_of_two_writers_at_once_one_is_told_that_it_is_too_late(
    store: Store, customers: Customers, at_once: Callable[..., list[Any]]
) -> None:
    stored = customers.add("Zoë Łukasz \N{CJK UNIFIED IDEOGRAPH-5C71}", metadata={"path": r"C:\new 'x'"})
    for number in range(10):
        one, two = (customers.next(stored, f"{name} {number}") for name in ("Zoë", "Łukasz"))

        results = at_once(*(lambda change=change: store.customers.save(change) for change in (one, two)))

        kinds = {type(each) for each in results}
        assert kinds == {Stored, VersionConflict}, results
        stored = next(each for each in results if isinstance(each, Stored))
    assert store.customers.get(stored.id) == stored


def test_an_encoding_of_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, store: Store, customers: Customers
) -> None:
    for name, value in {
        "PGCLIENTENCODING": "LATIN1",
        "PGDATESTYLE": "German",
        "PGTZ": "Asia/Kathmandu",
    }.items():
        monkeypatch.setenv(name, value)

    stored = customers.add("Łukasz \N{CJK UNIFIED IDEOGRAPH-5C71}")

    assert store.customers.get(stored.id) == stored


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_name_is_refused_at_once(
    encoding: str, run: Callable[[str], None], database_url: str
) -> None:
    name = f"{urlsplit(database_url).path[1:]}_other"
    with closing(psycopg2.connect(database_url)) as connection:
        provider = "LOCALE_PROVIDER libc" if connection.server_version >= 150000 else ""
    run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' {provider} LOCALE 'C'")
    try:
        with (
            open_database("postgres", with_database(database_url, name)) as store,
            pytest.raises(ConfigurationError, match=f"is encoded in {encoding}") as refused,
        ):
            store.migrate()
    finally:
        run(f"DROP DATABASE {name} WITH (FORCE)")
    assert "ENCODING 'UTF8'" in (refused.value.fix or "")
