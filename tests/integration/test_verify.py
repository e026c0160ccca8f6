"""verify names what is wrong, and tells lag from loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from custsvc.customer import Fields
from custsvc.seed import seed_customers
from custsvc.service import Caller, CustomerService
from custsvc.stores.base import Store
from custsvc.verify import Pipeline, Report, verify

ME = Caller("test")


@pytest.fixture
def copy(opened: Callable[[str], Store], new_database: Callable[[], str]) -> Store:
    """A second database, to be the copy."""
    return opened(new_database())


def fill(copy: Store, source: Store) -> None:
    """Make the copy what the source is, through its events."""
    from custsvc.events import decode

    events = []
    for row in source.replica.scan(0, 100_000):
        (payload,) = source.customers.history(row.id, limit=1)
        events.append(decode(payload, b"%d" % row.id))
    copy.replica.apply(events, "topic", {0: 1})


ARRIVED = Pipeline(published=lambda _: True, ends=lambda: {0: 1}, positions=lambda: {0: 1})
STUCK = Pipeline(published=lambda _: False, ends=lambda: {0: 1}, positions=lambda: {0: 1})


def compare(source: Store, copy: Store, pipeline: Pipeline, patience: float = 1.0) -> Report:
    return verify(source.replica, copy.replica, pipeline, patience=patience)


def test_a_true_copy_has_no_difference(store: Store, copy: Store) -> None:
    seed_customers(store.customers, 500, 1)
    fill(copy, store)

    report = compare(store, copy, ARRIVED)

    assert (report.compared, report.differences, report.behind) == (500, [], [])


def test_each_kind_of_difference_is_named(store: Store, copy: Store) -> None:
    service = CustomerService(store.customers)
    wrong, stale, ahead, missing = (service.create(Fields(f"Ada {n}"), ME).id for n in range(4))
    fill(copy, store)
    for victim, version in ((wrong, 1), (ahead, 9), (10**9, 1)):
        _plant(copy, victim, version)
    _plant(copy, missing, 0)
    service.replace(stale, Fields("Grace"), ME)

    report = compare(store, copy, ARRIVED)

    assert {d.customer_id: d.kind for d in report.differences} == {
        wrong: "differs",
        ahead: "ahead",
        stale: "stale",
        10**9: "extra",
        missing: "missing",
    }
    assert "name" in next(d.fields for d in report.differences if d.kind == "differs")
    assert report.behind == []


def test_a_relay_that_stands_still_is_lag_and_not_corruption(store: Store, copy: Store) -> None:
    service = CustomerService(store.customers)
    known = service.create(Fields("Ada"), ME).id
    fill(copy, store)
    service.replace(known, Fields("Grace"), ME)
    new = service.create(Fields("Linus"), ME).id

    report = compare(store, copy, STUCK)

    assert (report.differences, report.behind) == ([], [known, new])


def test_a_copy_that_catches_up_meanwhile_is_no_difference(store: Store, copy: Store) -> None:
    service = CustomerService(store.customers)
    service.create(Fields("Ada"), ME)

    def publish(_: float) -> bool:
        fill(copy, store)
        return True

    report = compare(store, copy, Pipeline(publish, lambda: {0: 1}, lambda: {0: 1}), patience=10)

    assert (report.differences, report.behind) == ([], [])


def _plant(store: Store, customer_id: int, version: int) -> None:
    """Put a customer into the copy behind everybody's back; version 0 takes it away."""
    doc = f'{{"id":{customer_id},"name":"Eve","version":{version}}}'
    if store.name == "postgres":
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("DELETE FROM customer WHERE id = %s", (customer_id,))
            if version:
                cursor.execute(
                    "INSERT INTO customer (id, version, deleted, name, created_on, updated_on, doc) "
                    "VALUES (%s, %s, false, 'Eve', now(), now(), %s)",
                    (customer_id, version, doc),
                )
        return
    table = store._connection.database["customer"]  # type: ignore[attr-defined]
    table.delete_one({"_id": customer_id})
    if version:
        table.insert_one({"_id": customer_id, "version": version, "deleted": False, "doc": doc})
