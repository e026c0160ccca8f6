"""The port Store: the schema, the database's role, and its health."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.ports.store import Store
from tests.databases import open_database, with_database

if TYPE_CHECKING:
    from tests.backdoor import Backdoor

AtOnce = Callable[..., list[Any]]


def test_a_migration_is_applied_once(opened: Callable[[str], Store], empty_database: str) -> None:
    store = opened(empty_database)

    applied = store.migrate()

    assert applied
    assert applied == sorted(set(applied))
    assert store.migrate() == []
    assert opened(empty_database).migrate() == []


def test_processes_that_migrate_at_once_apply_each_migration_once(
    opened: Callable[[str], Store], empty_database: str, at_once: AtOnce
) -> None:
    stores = [opened(empty_database) for _ in range(4)]

    results = at_once(*(store.migrate for store in stores))

    assert [each for each in results if isinstance(each, Exception)] == []
    applied = [name for result in results for name in result]
    assert applied
    assert len(set(applied)) == len(applied)
    assert stores[0].customers.new_id() == 1


def test_a_schema_from_the_future_is_refused(store: Store, backdoor: Backdoor) -> None:
    backdoor.set_schema(9999)

    with pytest.raises(ConfigurationError, match="9999") as caught:
        store.migrate()
    assert "upgrade" in (caught.value.fix or "")


def test_a_schema_that_is_newer_and_compatible_is_gone_on_over(store: Store, backdoor: Backdoor) -> None:
    backdoor.set_schema(9998, compatible=True)
    backdoor.set_schema(9999, compatible=True)

    assert store.migrate() == []
    assert store.pending_migrations() == []
    store.claim_role("source")

    backdoor.set_schema(9997)
    for call in (store.migrate, store.pending_migrations):
        with pytest.raises(ConfigurationError, match="9997") as caught:
            call()
        assert "upgrade" in (caught.value.fix or "")


def test_a_database_without_schema_names_the_command_that_makes_it(
    opened: Callable[[str], Store], empty_database: str
) -> None:
    store = opened(empty_database)

    for call in (store.customers.new_id, lambda: store.claim_role("source")):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert caught.value.fix == "custsvc migrate"


@pytest.mark.parametrize(("role", "other"), [("source", "copy"), ("copy", "source")])
def test_a_role_is_claimed_for_good(role: Any, other: Any, store: Store, other_store: Store) -> None:
    store.claim_role(role)
    store.claim_role(role)
    other_store.claim_role(role)

    with pytest.raises(ConfigurationError, match=store.name) as caught:
        other_store.claim_role(other)
    assert caught.value.fix
    store.claim_role(role)


def test_of_two_roles_claimed_at_once_one_is_refused(
    store: Store, other_store: Store, at_once: AtOnce
) -> None:
    results = at_once(
        lambda: store.claim_role("source"),
        lambda: other_store.claim_role("copy"),
        lambda: store.claim_role("source"),
        lambda: other_store.claim_role("copy"),
    )

    refused = [each for each in results if each]
    assert len(refused) == 2
    assert all(isinstance(each, ConfigurationError) for each in refused)


def test_a_secret_is_one_for_all_processes_of_a_database(
    store: Store, other_store: Store, new_database: Callable[[], str], opened: Callable[[str], Store]
) -> None:
    secret = store.secret()

    assert len(secret) == 32
    assert store.secret() == other_store.secret() == secret
    assert opened(new_database()).secret() != secret


def test_a_ping_returns_when_the_database_answers(store: Store) -> None:
    store.ping()


def test_an_address_where_nothing_listens_is_a_temporary_error(
    backend: str, database_url: str, opened: Callable[[str], Store]
) -> None:
    store = opened(urlunsplit(urlsplit(database_url)._replace(netloc="user:hush-hush@127.0.0.1:1")))

    with pytest.raises(TemporaryError) as caught:
        store.ping()

    assert caught.value.dependency == backend
    assert "127.0.0.1:1" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_a_malformed_database_address_is_a_configuration_error(
    backend: str, opened: Callable[[str], Store]
) -> None:
    scheme = {"postgres": "postgresql", "mongo": "mongodb"}[backend]

    with pytest.raises(ConfigurationError) as caught:
        opened(f"{scheme}://127.0.0.1:no-number/custsvc").ping()
    assert f"CUSTSVC_{backend.upper()}_URL" in (caught.value.fix or "")


FOREIGN: dict[str, list[Any]] = {
    "postgres": ["CREATE TABLE customer (id int)", "CREATE VIEW customer AS SELECT 1 AS id"],
    "mongo": [{}, {"capped": True, "size": 4096}, {"timeseries": {"timeField": "at"}}, {"viewOn": "person"}],
}


@pytest.mark.parametrize(
    ("backend", "made"), [(name, each) for name, all_of_it in FOREIGN.items() for each in all_of_it], ids=str
)
def test_a_database_in_which_another_program_has_customers_is_refused_and_left_as_it_is(
    backend: str, made: Any, empty_database: str
) -> None:
    import psycopg2
    import pymongo

    if backend == "postgres":
        with psycopg2.connect(empty_database) as connection, connection.cursor() as cursor:
            cursor.execute(made)
        connection.close()
    else:
        with pymongo.MongoClient[Any](empty_database) as client:
            there = client.get_default_database().create_collection("customer", **made)
            if not made:
                there.insert_one({"name": ["of", "another"]})

    with (
        open_database(backend, empty_database) as store,
        pytest.raises(ConfigurationError, match="belongs to another program") as refused,
    ):
        store.migrate()
    assert f"CUSTSVC_{backend.upper()}_URL" in (refused.value.fix or "")


@pytest.mark.parametrize("backend", ["mongo"])
def test_what_an_address_prefers_to_read_from_is_no_error(backend: str, database_url: str) -> None:
    extra = "&readPreference=secondaryPreferred&maxStalenessSeconds=90&readPreferenceTags=dc:east"

    with open_database(backend, database_url + extra) as store:
        store.ping(writing=True)


@pytest.mark.parametrize("backend", ["mongo"])
def test_a_name_that_no_database_can_have_is_said_as_such(backend: str, database_url: str) -> None:
    with (
        open_database(backend, with_database(database_url, "x" * 70)) as store,
        pytest.raises(ConfigurationError, match="no such database"),
    ):
        store.migrate()
