"""Shared by the contract suites: changes to store, and access to a backend that the ports do not give."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import Change, CustomerEvent, new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.ports.outbox import Outbox
from custsvc.ports.store import Store
from custsvc.stores.mongo import carried

NOW = dt.datetime(2026, 11, 23, 20, 40, 0, 123000, tzinfo=dt.UTC)


class Customers:
    """Customers as a service would make them, and the short ways to store them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def new(self, name: str = "Ada", *, id: int | None = None, **fields: Any) -> Change:
        """A new customer, not stored yet."""
        customer = Customer(
            id=self.store.customers.new_id() if id is None else id,
            fields=Fields(name, **fields),
            deleted=False,
            version=1,
            created_on=NOW,
            created_by="test",
            updated_on=NOW,
            updated_by="test",
        )
        return new_change("created", None, customer, actor="test")

    def filled(self) -> Stored:
        """A customer of MongoDB that carries as many events as it may: its next change is a transaction."""
        stored = self.add()
        for number in range(1, carried.MOST):
            stored = self.change(stored, f"Name {number}")
        return stored

    def next(self, before: Stored, name: str = "Grace", *, deleted: bool = False, **fields: Any) -> Change:
        """The next version of a stored customer, not stored yet."""
        after = before.customer().changed_to(
            fields=Fields(name, **fields), deleted=deleted, now=NOW + dt.timedelta(seconds=1), by="test"
        )
        return new_change("deleted" if deleted else "updated", before, after, actor="test")

    def add(self, name: str = "Ada", **fields: Any) -> Stored:
        """A new customer, stored."""
        return self.store.customers.save(self.new(name, **fields))

    def change(self, before: Stored, name: str = "Grace", **options: Any) -> Stored:
        """The next version, stored."""
        return self.store.customers.save(self.next(before, name, **options))

    def versions(
        self, count: int, *, id: int, last_deleted: bool = False, **fields: Any
    ) -> list[ReceivedEvent]:
        """The first versions of a customer, as a copy receives them."""
        changes = [self.new(id=id, **fields)]
        while len(changes) < count:
            last = changes[-1].after
            before = Stored(last.id, last.version, last.deleted, changes[-1].doc)
            is_last = len(changes) == count - 1
            changes.append(
                self.next(before, f"Name {last.version + 1}", deleted=is_last and last_deleted, **fields)
            )
        return [received(change.event) for change in changes]


def received(event: CustomerEvent) -> ReceivedEvent:
    """The event as it is after its way through Kafka."""
    return decode(event.payload, b"%d" % event.customer_id)


@pytest.fixture
def customers(store: Store) -> Customers:
    return Customers(store)


@pytest.fixture
def as_received() -> Callable[[CustomerEvent], ReceivedEvent]:
    return received


@pytest.fixture
def drain() -> Callable[[Outbox, int], list[CustomerEvent]]:
    """Reads an outbox that is led until it is empty."""

    def drain(outbox: Outbox, limit: int = 1000) -> list[CustomerEvent]:
        events: list[CustomerEvent] = []
        while (batch := outbox.read(limit)).events:
            assert len(batch.events) <= limit
            events += batch.events
            outbox.done(batch)
        return events

    return drain


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Runs functions in threads that begin together; returns what each returned or raised."""

    def at_once(*functions: Callable[[], Any]) -> list[Any]:
        gate = threading.Barrier(len(functions))
        results: list[Any] = [None] * len(functions)

        def run(number: int, function: Callable[[], Any]) -> None:
            gate.wait()
            try:
                results[number] = function()
            except Exception as exc:  # noqa: BLE001 - it is the result
                results[number] = exc

        threads = [threading.Thread(target=run, args=each) for each in enumerate(functions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return at_once


# -- behind the ports ------------------------------------------------------------------------------------


@pytest.fixture
def write_mark(backend: str) -> bytes:
    """A part of the statement that makes a write final."""
    return b"_customer (" if backend == "postgres" else b"pending"
