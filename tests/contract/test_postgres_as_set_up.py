"""PostgreSQL as its administrators, and the environment of a process, have set it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from custsvc.domain.customers import Stored
from custsvc.errors import ConfigurationError, VersionConflict
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
