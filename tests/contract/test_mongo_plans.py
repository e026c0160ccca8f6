"""MongoDB only: what a read costs, by the plans of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from custsvc.ports.customers import CustomerFilter, CustomerQuery, Position
from custsvc.ports.store import Store

if TYPE_CHECKING:
    from tests.backdoor import MongoBackdoor

    from .conftest import Customers


pytestmark = pytest.mark.slow


@pytest.fixture
def backend() -> str:
    return "mongo"


def plan(stage: dict[str, Any]) -> list[dict[str, Any]]:
    return [stage, *(plan(stage["inputStage"]) if "inputStage" in stage else [])]


@contextmanager
def profiled(backdoor: MongoBackdoor) -> Iterator[list[dict[str, Any]]]:
    """The operations of the server within the block."""
    seen: list[dict[str, Any]] = []
    backdoor.database.command("profile", 2)
    try:
        yield seen
    finally:
        backdoor.database.command("profile", 0)
    seen += backdoor.database["system.profile"].find(sort=[("ts", 1)])


@pytest.mark.parametrize("deleted", ["exclude", "only", "include"])
def test_a_page_costs_a_page_however_deep_and_however_many_are_deleted(
    deleted: Any, store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    events = [customers.versions(2, id=each, last_deleted=each % 50 != 0)[-1] for each in range(1, 1001)]
    store.replica.apply(events, "topic", {})

    with profiled(backdoor) as seen:
        page = store.customers.find(CustomerQuery(5, CustomerFilter(deleted), after=Position(500, 500)))

    (find,) = [each for each in seen if each["op"] == "query"]
    assert page.count == 5
    assert find["docsExamined"] <= 6
    assert find["keysExamined"] <= 7
    assert not find.get("hasSortStage")
    assert find["command"]["readConcern"]["level"] == "majority"


def test_counting_looks_at_keys_only(store: Store, customers: Customers, backdoor: MongoBackdoor) -> None:
    events = [customers.versions(2, id=each, last_deleted=each % 2 == 0)[-1] for each in range(1, 101)]
    store.replica.apply(events, "topic", {})

    with profiled(backdoor) as seen:
        counts = [store.customers.count(CustomerFilter(each)) for each in ("exclude", "only", "include")]

    assert counts == [50, 50, 100]
    assert [each["docsExamined"] for each in seen if each["op"] == "command"] == [0, 0, 0]


def test_reading_the_outbox_costs_as_much_as_there_are_waiting_events(
    store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    store.customers.save_many([customers.new() for _ in range(300)])
    with store.outbox.lead():
        store.outbox.done(store.outbox.read(290))
        with profiled(backdoor) as seen:
            assert len(store.outbox.read(5).events) == 5

    (find,) = [each for each in seen if each["op"] == "query" and each["ns"].endswith("customer_event")]
    # Committed data alone is not enough: a cursor over it may meet version 3 and miss version 2.
    assert find["command"]["readConcern"]["level"] == "snapshot"
    assert find["docsExamined"] <= 6
    assert not find.get("hasSortStage")


def test_history_is_a_range_of_the_primary_index(
    store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    stored = customers.add()
    for _ in range(20):
        stored = customers.change(stored, f"Name {stored.version}")
    store.customers.save_many([customers.new() for _ in range(50)])
    publish_all(store)

    with profiled(backdoor) as seen:
        store.customers.history(stored.id, limit=3)

    held, find = [each for each in seen if each["op"] == "query"]
    assert held["docsExamined"] == 1
    assert find["docsExamined"] <= 4
    assert not find.get("hasSortStage")


def publish_all(store: Store) -> None:
    with store.outbox.lead():
        while (batch := store.outbox.read(1000)).events:
            store.outbox.done(batch)
