"""A write wakes a relay that has nothing to do; no promise depends on it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from custsvc.ports.store import Store
from custsvc.stores.mongo import doorbell
from custsvc.stores.mongo.doorbell import Doorbell

from .conftest import Customers

SOME = ["customer", "customer_event"]


@pytest.fixture(params=["mongo"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bell(store: Store) -> Any:
    bell = Doorbell(store._connection, SOME)  # type: ignore[attr-defined]
    yield bell
    bell.close()


def test_a_write_rings_the_doorbell_and_other_changes_do_not(
    store: Store, customers: Customers, bell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "WAIT", 20.0)
    bell.wait(0.1)  # opens it
    started = time.monotonic()
    writing = threading.Timer(0.5, customers.add)
    writing.start()

    store.facts.put("nobody", "asked")
    bell.wait(0.1)

    assert 0.3 < time.monotonic() - started < 15
    writing.join()


def test_a_stream_whose_place_fell_out_of_the_oplog_is_not_opened_again_at_once(
    bell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0

    def watch(*_: Any, **__: Any) -> Any:
        nonlocal opened
        opened += 1
        raise OperationFailure("Resume of change stream was not possible", 286)

    monkeypatch.setattr(type(bell._database), "watch", watch)

    started = time.monotonic()
    for _ in range(20):
        bell.wait(0.05)

    took = time.monotonic() - started
    assert took >= 1.0
    assert opened <= 1 + took / 4


def test_events_come_though_there_is_no_stream(
    store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*_: Any, **__: Any) -> Any:
        raise OperationFailure("not authorized to watch", 13)

    with store.outbox.lead():
        monkeypatch.setattr("pymongo.database.Database.watch", watch)
        store.outbox.wait(0.1)
        customers.add()
        store.outbox.wait(0.1)

        assert len(store.outbox.read(10).events) == 1
