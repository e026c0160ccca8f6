"""The relay brings every event to Kafka, in order per customer."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from tests.sizes import sizes
from tests.waiting import until

from .conftest import Topic, Workers

ME = Caller("test")


@pytest.fixture
def other_database(all_databases: Callable[[str], Any]) -> Iterator[str]:
    """Another database of the PostgreSQL that the tests use; its address."""
    databases = all_databases("postgres")
    url = databases.migrated()
    yield url
    databases.drop(url)


def versions(records: list[Any]) -> dict[int, list[int]]:
    """Per customer the versions on the topic, in order, without the repeats."""
    from custsvc.domain.received import decode

    found: dict[int, list[int]] = defaultdict(list)
    for record in records:
        event = decode(record.value(), record.key())
        found[event.customer_id].append(event.version)
    return {customer_id: list(dict.fromkeys(each)) for customer_id, each in found.items()}


def test_an_event_is_on_the_topic_with_its_key_and_headers(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    customer = CustomerService(store.customers).create(Fields("Ada"), ME)
    workers.relay(store)

    (record,) = until("it is there", lambda: topic.records(settings.topic_updates))

    headers = dict(record.headers())
    assert record.key() == b"%d" % customer.id
    assert record.value() == store.customers.history(customer.id, limit=1)[0]
    assert headers["ce_type"] == b"custsvc.customer.created.v1"
    assert headers["ce_source"] == store.outbox.source().encode()
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def leaders(caplog: pytest.LogCaptureFixture) -> int:
    """How often a relay began to lead: one that loses its lease on a busy machine repeats its last batch."""
    return sum(getattr(record, "action", "") == "leading" for record in caplog.records)


def test_a_big_backlog_goes_out_whole_and_once(
    store: Store, settings: Settings, workers: Workers, topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    from custsvc.transfer.seed import seed_customers

    caplog.set_level("INFO", "custsvc")
    seed_customers(store.customers, 12_000, 1)
    workers.relay(store)

    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)

    records = topic.records(settings.topic_updates)
    assert len({record.key() for record in records}) == 12_000
    assert len(records) == 12_000 or leaders(caplog) > 1


def hot_writers(store: Store, changes: int) -> dict[int, int]:
    """Eight writers change five customers so often, as fast as they can; returns each one's last version."""
    service = CustomerService(store.customers)
    hot = [service.create(Fields(f"hot {n}"), ME).id for n in range(5)]
    failed: list[Exception] = []

    def write(number: int) -> None:
        try:
            for turn in range(changes // 8):
                service.replace(hot[turn % 5], Fields(f"{number} {turn}"), ME)
        except Exception as exc:  # noqa: BLE001 - shown below
            failed.append(exc)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    return {i: stored.version for i in hot if (stored := store.customers.get(i))}


# Not all of the full size in one open transaction: what it keeps PostgreSQL from cleaning up makes each
# change of a hot row dearer than the one before.
@sizes("rounds, changes", (1, 1200), (20, 10_000))
def test_writers_on_hot_customers_lose_nothing_and_an_open_transaction_holds_up_nobody(
    store: Store,
    other_store: Store,
    settings: Settings,
    workers: Workers,
    topic: Topic,
    backdoor: Any,
    rounds: int,
    changes: int,
) -> None:
    """O2, O3."""
    workers.relay(other_store)
    last: dict[int, int] = {}

    for _ in range(rounds):
        with backdoor.open_write():
            last |= hot_writers(store, changes)
            until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)
            seen = versions(topic.records(settings.topic_updates))

    assert seen == {i: list(range(1, version + 1)) for i, version in last.items()}
    assert sum(last.values()) == rounds * (5 + changes)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["postgres"])
def test_transactions_that_stay_open_for_ten_minutes_delay_no_event(
    store: Store, other_store: Store, workers: Workers, backdoor: Any, other_database: str
) -> None:
    """O3: one in the outbox's database, one in another of the same cluster."""
    service = CustomerService(store.customers)
    customer = service.create(Fields("Ada"), ME)
    workers.relay(other_store)
    took: list[float] = []

    with backdoor.open_write(), closing(psycopg2.connect(other_database)) as another:
        with another.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
        end = time.monotonic() + 600
        while (begun := time.monotonic()) < end:
            service.replace(customer.id, Fields(f"Ada {begun}"), ME)
            until("it is sent", lambda: store.outbox.depth().waiting == 0, 60)
            took.append(time.monotonic() - begun)
            time.sleep(0.05)

    took.sort()
    print(f"{len(took)} events, median {took[len(took) // 2]:.3f} s, p99 {took[len(took) * 99 // 100]:.3f} s")


def test_a_stand_by_takes_over_where_the_leader_ends(
    store: Store, other_store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    service = CustomerService(store.customers)
    first = workers.relay(store)
    service.create(Fields("one"), ME)
    until("the first leads", lambda: store.outbox.depth().waiting == 0)
    workers.relay(other_store)

    first.ask()
    service.create(Fields("two"), ME)

    until("the second has taken over", lambda: len(topic.records(settings.topic_updates)) >= 2)


def test_two_relays_do_not_send_anything_twice(
    store: Store,
    other_store: Store,
    settings: Settings,
    workers: Workers,
    topic: Topic,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "custsvc")
    workers.relay(store)
    workers.relay(other_store)

    last = hot_writers(store, 400)
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)

    records = topic.records(settings.topic_updates)
    assert versions(records) == {i: list(range(1, version + 1)) for i, version in last.items()}
    assert len(records) == sum(last.values()) or leaders(caplog) > 1
