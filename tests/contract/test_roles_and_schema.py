"""The port Store: the schema, the database's role, and its health."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.ports.store import Store

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
