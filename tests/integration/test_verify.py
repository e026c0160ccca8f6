"""verify names differences, and distinguishes lag from loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.copies.gauges import verify_gauges
from custsvc.copies.pipeline import known_steps, pipeline, resending
from custsvc.copies.replicate import claim
from custsvc.copies.verify import Pipeline, Report, expect_copy, last_results, remember, repair, verify
from custsvc.domain.customers import Fields
from custsvc.errors import NotFound
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.transfer.seed import seed_customers
from tests.databases import open_database
from tests.sizes import sizes
from tests.waiting import until

from .conftest import Workers, changing, plant

ME = Caller("test")


@pytest.fixture
def copy(opened: Callable[[str], Store], new_database: Callable[[], str]) -> Store:
    """A second database, to be the copy."""
    return opened(new_database())


def fill(copy: Store, source: Store) -> None:
    """Make the copy what the source is, through its events."""
    from custsvc.domain.received import decode

    with source.outbox.lead():
        while (batch := source.outbox.read(5000)).events:
            events = [decode(each.payload, b"%d" % each.customer_id) for each in batch.events]
            copy.replica.apply(events, "topic", {0: 1})
            source.outbox.done(batch)


ARRIVED = Pipeline(published=lambda _: True, ends=lambda: {0: 1}, positions=lambda: {0: 1})
STUCK = Pipeline(published=lambda _: False, ends=lambda: {0: 1}, positions=lambda: {0: 1})


@pytest.fixture
def far_copy(backend: str, all_databases: Callable[[str], Any]) -> Iterator[Store]:
    """A copy in the database of the other kind."""
    other: Any = "mongo" if backend == "postgres" else "postgres"
    databases = all_databases(other)
    url = databases.migrated()
    with open_database(other, url) as copy:
        yield copy
    databases.drop(url)


def compare(source: Store, copy: Store, pipeline: Pipeline, patience: float = 1.0) -> Report:
    return verify(source.replica, copy.replica, pipeline, patience=patience)


def test_a_true_copy_has_no_difference(store: Store, copy: Store) -> None:
    seed_customers(store.customers, 500, 1)
    fill(copy, store)

    report = compare(store, copy, ARRIVED)

    assert (report.compared, report.differences, report.behind) == (500, [], [])


@sizes("others", 0, 1_000_000)
def test_each_kind_of_difference_is_named(store: Store, copy: Store, others: int) -> None:
    """V1."""
    service = CustomerService(store.customers)
    wrong, stale, ahead, missing = (service.create(Fields(f"Ada {n}"), ME).id for n in range(4))
    seed_customers(store.customers, others, 1)
    fill(copy, store)
    for victim, version in ((wrong, 1), (ahead, 9), (10**9, 1)):
        plant(copy, victim, version)
    plant(copy, missing, 0)
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
    assert report.compared == others + 5
    print(f"{store.name}: {report.compared} compared in {report.seconds:.1f} s")


def test_a_relay_that_stands_still_is_lag_and_not_corruption(store: Store, copy: Store) -> None:
    """V3."""
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


ODD = [
    Fields("Ada"),
    Fields("Zoë 😀 \u05d0\u05d1", "zoe@example.com", None, {"a": 1.5, "b": None, "c": "x\n\ty", "d": 2**62}),
    Fields('back\\slash "quoted" \'n', None, "+1 | 2", {"e": "", "f": True}),
]


def test_both_databases_hash_the_same_bytes(store: Store, far_copy: Store) -> None:
    service = CustomerService(store.customers)
    ids = [service.create(fields, ME).id for fields in ODD]
    service.delete(ids[0], ME)
    fill(far_copy, store)

    ours, theirs = store.replica.digest(0), far_copy.replica.digest(0)

    assert ours == theirs
    assert (ours.customers, ours.last_id) == (3, ids[-1])
    assert store.replica.digest(0, limit=2) == far_copy.replica.digest(0, last_id=ids[1])
    assert store.replica.digest(ids[-1]) == far_copy.replica.digest(ids[-1])
    assert store.replica.columns(ids) == far_copy.replica.columns(ids)


def test_verify_finds_a_column_that_differs_from_its_document(store: Store, far_copy: Store) -> None:
    seed_customers(store.customers, 20, 1)
    fill(far_copy, store)
    victim = store.replica.scan(0, 20)[7].id
    if far_copy.name == "postgres":
        with far_copy._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("UPDATE customer SET name = 'Eve' WHERE id = %s", (victim,))
    else:
        table = far_copy._connection.database["customer"]  # type: ignore[attr-defined]
        table.update_one({"_id": victim}, {"$set": {"name": "Eve"}})

    (difference,) = compare(store, far_copy, ARRIVED).differences

    assert (difference.customer_id, difference.fields) == (victim, ["name (column)"])


def test_repair_removes_each_kind_of_difference_while_both_databases_are_in_use(
    store: Store, far_copy: Store, settings: Settings, workers: Workers
) -> None:
    service = CustomerService(store.customers)
    wrong, stale, ahead, missing, deleted = (service.create(Fields(f"Ada {n}"), ME).id for n in range(5))
    seed_customers(store.customers, 50, 1)
    for customer_id in (wrong, stale, ahead, missing):
        service.replace(customer_id, Fields("Grace"), ME)
    service.delete(deleted, ME)
    workers.relay(store)
    workers.copy(far_copy.replica, "far")
    until("the copy is there", lambda: far_copy.replica.digest(0) == store.replica.digest(0))
    for victim, version in ((wrong, 2), (stale, 1), (ahead, 9), (missing, 0), (deleted, 2), (10**9, 1)):
        plant(far_copy, victim, version)

    with pipeline(settings, store, far_copy) as way, resending(settings, store) as resend:
        report = verify(store.replica, far_copy.replica, way, patience=120)
        repair(store.replica, far_copy.replica, report, resend, patience=120)

    assert {d.customer_id: (d.kind, d.repaired) for d in report.differences} == {
        wrong: ("differs", True),
        stale: ("stale", True),
        ahead: ("ahead", True),
        missing: ("missing", True),
        deleted: ("differs", True),
        10**9: ("extra", True),
    }
    assert far_copy.replica.digest(0) == store.replica.digest(0)


@sizes("seconds", 4, 300)
def test_there_is_no_false_alarm_while_customers_change(
    store: Store, far_copy: Store, settings: Settings, workers: Workers, seconds: float
) -> None:
    """V2."""
    seed_customers(store.customers, 300, 1)
    ids = [row.id for row in store.replica.scan(0, 300)]
    workers.relay(store)
    workers.copy(far_copy.replica, "far")
    reports = []
    end = time.monotonic() + seconds
    with changing(store, ids), pipeline(settings, store, far_copy) as way:
        while time.monotonic() < end:
            reports.append(verify(store.replica, far_copy.replica, way, patience=180))

    assert [(r.differences, r.behind) for r in reports] == [([], [])] * len(reports)
    print(f"from {store.name}: {len(reports)} times in {seconds} s")


def test_the_last_result_of_each_copy_is_remembered(store: Store, copy: Store) -> None:
    seed_customers(store.customers, 5, 1)
    remember(store.facts, "one", compare(store, copy, STUCK))
    fill(copy, store)
    remember(store.facts, "two", compare(store, copy, ARRIVED))
    remember(store.facts, "one", compare(store, copy, ARRIVED))

    results = last_results(store.facts)

    assert [(r["copy"], r["compared"], r["different"], r["behind"]) for r in results] == [
        ("one", 5, 0, 0),
        ("two", 5, 0, 0),
    ]
    shown = verify_gauges(store)
    assert shown["custsvc_verify_different{copy=one}"] == shown["custsvc_verify_behind{copy=two}"] == 0
    assert 0 <= time.time() - shown["custsvc_verify_timestamp_seconds{copy=one}"] < 600


def test_a_missing_copy_is_an_error_and_its_old_result_is_forgotten(
    store: Store, far_copy: Store, opened: Callable[[str], Store], new_database: Callable[[], str]
) -> None:
    remember(store.facts, "nothere", Report(compared=3, differences=[], behind=[1, 2, 3], seconds=1.0))
    empty = opened(new_database())

    with pytest.raises(NotFound) as no_copy:
        expect_copy(store, empty, "nothere")
    expect_copy(store, empty, empty.name)
    claim(far_copy, "search")
    expect_copy(store, far_copy, "search")

    assert "custsvc replicate --backend" in str(no_copy.value.fix)
    assert last_results(store.facts) == []


def test_the_status_has_state_count_and_backlog_apart_from_prose(
    store: Store, settings: Settings, copy: Store
) -> None:
    seed_customers(store.customers, 3, 1)
    remember(store.facts, copy.name, Report(compared=3, differences=[], behind=[], seconds=1.0))
    mails = [
        Notification(
            f"mail-{number}", "event", number, 1, "changed", "a@example.com", "subject", "text", None
        )
        for number in (1, 2)
    ]
    store.ledger.add(mails)
    store.ledger.discard([mails[0].id], "a test")
    crm = store.endpoints.add(Endpoint("crm", "https://crm.example.com/", ("created",), "t"), "whsec_AAAA")
    store.ledger.add([replace(mails[0], id="delivery", channel=crm.channel, recipient=crm.channel)])
    store.endpoints.pause(crm.id, "500", None)

    found, _ = known_steps(settings, store)

    by_state = {(each["step"], each["state"]): (each["count"], each["waiting"]) for each in found}
    assert by_state["outbox", "waiting"] == (None, 3)
    assert by_state["notifications", "queued"] == (1, 1)
    assert by_state["notifications", "discarded"] == (1, 0)
    assert by_state["notifications", "paused"] == (1, 0)
    assert by_state[f"verify {copy.name}", "identical"] == (3, 0)
    assert all(each["state"] != each["detail"] for each in found)
