"""NOTIFY wakes a relay that has nothing to do, beside the writes; no promise depends on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from custsvc.ports.store import Store
from custsvc.stores.postgres import doorbell
from tests.waiting import until

from .conftest import Customers


@pytest.fixture(params=["postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(database_url: str) -> Iterator[Callable[[str], Any]]:
    """Asks the server, in another session."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def ask(sql: str) -> Any:
            cursor.execute(sql)
            return (cursor.fetchone() or (None,))[0] if cursor.description else None

        yield ask


BELLS = "pg_stat_activity WHERE application_name = 'custsvc doorbell' AND datname = current_database()"


def test_each_kind_of_write_wakes_the_relay(store: Store, customers: Customers) -> None:
    first = customers.add()
    writes: list[Callable[[], Any]] = [
        customers.add,
        lambda: customers.change(first),
        lambda: store.customers.save_many([customers.new()]),
    ]
    with store.outbox.lead():
        for write in writes:
            time.sleep(0.2)
            store.outbox.wait(0.0)  # what is left of the writes before
            started = time.monotonic()
            writing = threading.Timer(0.3, write)
            writing.start()

            store.outbox.wait(20.0)

            assert 0.2 < time.monotonic() - started < 10
            writing.join()


def test_many_writes_ring_few_times(
    store: Store, customers: Customers, ask: Callable[[str], Any], database_url: str
) -> None:
    with closing(psycopg2.connect(database_url)) as listening, listening.cursor() as cursor:
        listening.autocommit = True
        cursor.execute("LISTEN custsvc_outbox")
        started = time.monotonic()

        for _ in range(100):
            customers.add()

        time.sleep(0.2)
        took = time.monotonic() - started
        cursor.execute("SELECT 1")
        assert 1 <= len(listening.notifies) <= 2 + took / 0.05


def test_a_bell_that_loses_its_connection_disturbs_no_write_and_rings_again(
    store: Store, customers: Customers, ask: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_RETRY", 0.1)
    customers.add()
    until("it has a connection", lambda: ask(f"SELECT count(*) FROM {BELLS}") == 1)

    with store.outbox.lead():
        ask(f"SELECT pg_terminate_backend(pid) FROM {BELLS}")
        time.sleep(0.2)
        customers.add()
        time.sleep(0.3)
        store.outbox.wait(0.0)
        started = time.monotonic()
        customers.add()
        store.outbox.wait(20.0)
        assert time.monotonic() - started < 10
    assert store.outbox.depth().waiting == 3


def test_a_process_that_writes_no_more_gives_the_connection_back(
    store: Store, customers: Customers, ask: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_LINGER", 0.3)
    for _ in range(2):
        customers.add()
        until("it has a connection", lambda: ask(f"SELECT count(*) FROM {BELLS}") == 1)
        until("it has none", lambda: ask(f"SELECT count(*) FROM {BELLS}") == 0)

    customers.add()
    until("it has a connection", lambda: ask(f"SELECT count(*) FROM {BELLS}") == 1)
    store.close()
    until("it has none", lambda: ask(f"SELECT count(*) FROM {BELLS}") == 0)
