"""Replay sends customers as they are now, never between or after the events of their later changes."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields, utc_now
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.errors import Stopped
from custsvc.kafka.publisher import Publisher
from custsvc.ports.store import Store
from custsvc.relay.replay import Replay, Selection
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.waiting import until

from .conftest import Topic, Workers

ME = Caller("test")


def events(records: list[Any]) -> list[ReceivedEvent]:
    return [decode(record.value(), record.key()) for record in records]


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def test_customers_are_sent_as_they_are_with_the_source_and_the_partition_of_their_events(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    service = CustomerService(store.customers)
    one, two = (service.create(Fields(name), ME).id for name in ("Ada", "Grace"))
    service.replace(one, Fields("Ada Lovelace"), ME)
    service.delete(two, ME)
    workers.relay(store)
    published(store)

    with Publisher(settings) as publisher:
        done = Replay(settings, store, publisher).run(Selection())

    records = topic.records(settings.topic_updates)
    snapshots = [r for r in records if decode(r.value(), r.key()).op == "snapshot"]
    assert done.sent == 2
    assert {e.customer_id: (e.version, e.doc()) for e in events(snapshots)} == {
        row.id: (row.version, row.doc) for row in store.replica.rows([one, two])
    }
    assert {r.key(): r.partition() for r in records} == {r.key(): r.partition() for r in snapshots}
    assert {dict(r.headers())["ce_source"] for r in records} == {store.outbox.source().encode()}


def test_replay_leaves_unsent_events_to_the_relay(store: Store, settings: Settings, topic: Topic) -> None:
    CustomerService(store.customers).create(Fields("Ada"), ME)

    with Publisher(settings) as publisher:
        done = Replay(settings, store, publisher).run(Selection())

    assert (done.sent, done.left_to_relay) == (0, 1)
    assert topic.records(settings.topic_updates) == []


def test_the_last_record_of_a_customer_that_changes_meanwhile_is_its_newest(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    service = CustomerService(store.customers)
    ids = [service.create(Fields(f"Ada {n}"), ME).id for n in range(5)]
    workers.relay(store)
    published(store)
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for customer_id in ids:
                service.replace(customer_id, Fields(f"at {time.monotonic_ns()}"), ME)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Publisher(settings) as publisher:
            for _ in range(10):
                Replay(settings, store, publisher).send(ids)
    finally:
        over.set()
        writer.join()
    published(store)

    last: dict[int, int] = {}
    seen: dict[int, int] = {}
    for event in events(topic.records(settings.topic_updates)):
        # A snapshot shows nothing before its own event did.
        assert event.version <= seen.get(event.customer_id, 0) + 1
        assert event.op != "snapshot" or event.version <= seen[event.customer_id]
        seen[event.customer_id] = max(event.version, seen.get(event.customer_id, 0))
        last[event.customer_id] = event.version
    assert last == {row.id: row.version for row in store.replica.rows(ids)}


def test_a_customer_that_never_stops_changing_is_not_waited_for(
    store: Store, settings: Settings, workers: Workers, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change is written behind what was sent, so its event needs no help to come last."""
    monkeypatch.setattr("custsvc.relay.replay._PATIENCE", 3600.0)
    service = CustomerService(store.customers)
    ids = [service.create(Fields(f"Ada {n}"), ME).id for n in range(2)]
    workers.relay(store)
    published(store)

    def change() -> None:
        for customer_id in ids:
            service.replace(customer_id, Fields(f"at {time.monotonic_ns()}"), ME)

    class Meanwhile(Stop):
        """They change while the replay waits."""

        def wait(self, seconds: float) -> bool:
            change()
            return super().wait(seconds)

    class Slowly(Publisher):
        """They change while the replay sends."""

        def send(self, *args: Any, **options: Any) -> int:
            sent = super().send(*args, **options)
            change()
            return sent

    with Slowly(settings) as publisher:
        assert Replay(settings, store, publisher, stop=Meanwhile()).send(ids).sent == 2

    snapshots = [e for e in events(topic.records(settings.topic_updates)) if e.op == "snapshot"]
    assert sorted((e.customer_id, e.version) for e in snapshots) == [(customer_id, 1) for customer_id in ids]


def test_only_those_changed_since_a_time_or_of_given_ids_are_sent(
    store: Store, settings: Settings, workers: Workers
) -> None:
    service = CustomerService(store.customers, clock=lambda: utc_now() - dt.timedelta(hours=2))
    old = [service.create(Fields(f"old {n}"), ME).id for n in range(3)]
    CustomerService(store.customers).replace(old[1], Fields("new"), ME)
    workers.relay(store)
    published(store)

    with Publisher(settings) as publisher:
        replay = Replay(settings, store, publisher)

        assert replay.run(Selection(since=utc_now() - dt.timedelta(hours=1))).sent == 1
        assert replay.run(Selection(ids=(old[0], old[2], 10**9))).sent == 2


def test_one_that_was_cut_off_goes_on_where_it_was_at_its_rate(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    service = CustomerService(store.customers)
    for n in range(40):
        service.create(Fields(f"Ada {n}"), ME)
    workers.relay(store)
    published(store)
    stop = Stop()

    with Publisher(settings) as publisher, pytest.raises(Stopped, match="run the same command again"):
        sent = 0

        def progress(count: int) -> None:
            nonlocal sent
            sent += count
            if sent >= 20:
                stop.ask()

        Replay(settings, store, publisher, stop=stop, rate=10, progress=progress).run(Selection())
    started = time.monotonic()
    with Publisher(settings) as publisher:
        done = Replay(settings, store, publisher, rate=10).run(Selection())

    assert (done.sent, done.resumed_after > 0) == (20, True)
    assert time.monotonic() - started > 1.0
    snapshots = [e.customer_id for e in events(topic.records(settings.topic_updates)) if e.op == "snapshot"]
    assert len(snapshots) == len(set(snapshots)) == 40
