"""The whole way of an event in the formats of a schema registry: mixed, and while the registry is away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.copies.pipeline import pipeline
from custsvc.copies.verify import verify
from custsvc.domain.customers import Fields
from custsvc.kafka import formats
from custsvc.kafka.feed import Feed
from custsvc.kafka.formats import Events
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.registry import checks
from custsvc.kafka.tail import watch
from custsvc.notify.intake.consumer import Intake
from custsvc.notify.rules.file import load
from custsvc.ports.store import Store
from custsvc.relay.replay import Replay, Selection
from custsvc.relay.resync import resync
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.background import in_background
from tests.chaos.roles import Role
from tests.integration.conftest import Topic, Workers
from tests.schema_registry import SchemaRegistry
from tests.waiting import until

ME = Caller("test")
FORMATS = ("json", "json-schema", "avro")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SchemaRegistry]:
    monkeypatch.setattr(formats, "_schemas", {})
    with SchemaRegistry() as serving:
        yield serving


@pytest.fixture
def settings(settings: Settings, registry: SchemaRegistry) -> Settings:
    return settings.replace(schema_registry_url=registry.url)


@pytest.fixture
def copy(opened: Callable[[str], Store], new_database: Callable[[], str]) -> Store:
    """A second database, to be the copy."""
    return opened(new_database())


def writing(settings: Settings, event_format: Any) -> Settings:
    return settings.replace(event_format=event_format)


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def change(store: Store, name: str) -> None:
    """Make three customers; change one, delete one, and take one into another."""
    service = CustomerService(store.customers)
    one, two, three = (service.create(Fields(f"{name} {n}", metadata={"n": n}), ME).id for n in range(3))
    service.replace(one, Fields(f"{name}, changed", metadata={"x": 1.0, "y": None}), ME)
    service.delete(two, ME)
    service.erase(three, ME)


@pytest.mark.parametrize("event_format", FORMATS)
def test_every_reader_reads_what_the_relay_and_a_replay_wrote_before_and_after_a_change_of_format(
    store: Store, copy: Store, settings: Settings, workers: Workers, topic: Topic, event_format: str
) -> None:
    # What was before stays as it is: the formats are mixed on the topic.
    with workers.with_settings(writing(settings, "json")).running_relay(store):
        change(store, "before")
        published(store)
    later = writing(settings, event_format)
    with workers.with_settings(later).running_relay(store):
        change(store, "after")
        published(store)
        with Publisher(later) as publisher:
            assert Replay(later, store, publisher).run(Selection()).sent == 6
        workers.copy(copy.replica, copy.name)
        until("the copy is equal", lambda: copy.contents.scan(0, 100) == store.contents.scan(0, 100))
        with pipeline(settings, store, copy) as way:
            report = verify(store.contents, copy.contents, way)

    records = topic.records(settings.topic_updates)
    read = [Events(settings).read(record) for record in records]
    seen = list(watch(settings, start="beginning", leave_at_end=True))
    firsts = {record.value()[:1] for record in records}
    assert firsts == ({b"{"} if event_format == "json" else {b"{", b"\0"})
    assert not report.differences
    # A batch may have been sent twice: a relay may stop before it marks one as sent.
    assert len({event.id for event in read}) == 18
    assert [one.problem for one in seen] == [None] * len(records)
    assert sorted(one.value or b"" for one in seen) == sorted(event.value for event in read)
    assert all(orjson.loads(event.value)["customer_id"] == event.customer_id for event in read)
    assert stream(settings) == sorted((event.customer_id, event.op, event.value) for event in read)
    # The last records are ours, for the relay that leads next and for a resync.
    assert resync(settings, store) == (0, 0, 0)
    with workers.with_settings(later).running_relay(store) as ended:
        change(store, "again")
        published(store)
        assert not ended()


def stream(settings: Settings) -> list[tuple[int, str, bytes]]:
    """What a watcher gets from the beginning."""
    feed = Feed(settings)
    try:
        with feed.watch():
            return sorted(
                (e.customer_id, e.op, e.value) for found in feed.catch_up(feed.beginning()) for e in found
            )
    finally:
        feed.close()


def test_a_relay_and_a_copy_wait_for_the_registry_and_nothing_is_lost_or_dead(
    store: Store, copy: Store, settings: Settings, registry: SchemaRegistry, workers: Workers, topic: Topic
) -> None:
    avro = writing(settings, "avro")
    registry.stop()
    with workers.with_settings(avro).running_relay(store) as ended:
        change(store, "early")
        until("the probe says so", lambda: is_away(avro))
        assert store.outbox.depth().waiting == 6
        registry.start()
        published(store)
        # The id is known: the relay goes on without the registry, the copy waits for it.
        registry.stop()
        change(store, "late")
        published(store)
        formats._schemas.clear()
        workers.copy(copy.replica, copy.name)
        until("the copy waits", lambda: is_away(avro))
        assert copy.contents.scan(0, 100) == []
        registry.start()
        until("the copy is equal", lambda: copy.contents.scan(0, 100) == store.contents.scan(0, 100))
        assert not ended()

    assert not is_away(avro)
    assert topic.records(settings.topic_dead) == []


def is_away(settings: Settings) -> bool:
    """Whether `/readyz` names the registry."""
    (check,) = checks(settings).values()
    try:
        check()
    except Exception:  # noqa: BLE001 - as the probe does
        return True
    return False


def test_a_record_of_an_unknown_or_foreign_schema_becomes_a_dead_letter_and_its_neighbours_go_on(
    store: Store, copy: Store, settings: Settings, registry: SchemaRegistry, workers: Workers, topic: Topic
) -> None:
    foreign = registry.put("orders-value", '{"type": "record", "name": "Order", "fields": []}')
    bad = [b"\0\0\0\x0f\xffHx", b"\0" + foreign.to_bytes(4, "big") + b"Hx", b"\0\0", b"\0\0\0\0\1{}"]
    topic.produce(settings.topic_updates, *(Record(b"7", value, []) for value in bad))
    with workers.with_settings(writing(settings, "avro")).running_relay(store):
        change(store, "good")
        published(store)
        workers.copy(copy.replica, copy.name)
        until("the copy is equal", lambda: copy.contents.scan(0, 100) == store.contents.scan(0, 100))

    dead = topic.records(settings.topic_dead)
    assert [record.value() for record in dead] == bad
    assert [dict(record.headers())["dead_class"] for record in dead] == [
        *(b"unknown-schema", b"foreign-schema", b"bad-frame", b"bad-field")
    ]


@pytest.mark.parametrize("event_format", FORMATS)
def test_notify_takes_in_every_format(
    store: Store, settings: Settings, workers: Workers, event_format: str
) -> None:
    with workers.with_settings(writing(settings, event_format)).running_relay(store):
        CustomerService(store.customers).create(Fields("Ada", "ada@example.org"), ME)
        published(store)
    bell = threading.Event()
    with Publisher(settings) as publisher:
        stop = Stop()
        intake = Intake(settings, store.ledger, publisher, stop, rules=load(settings), bell=bell)
        with in_background(intake.run, stop):
            assert bell.wait(60), "no mail was queued"


def test_a_relay_that_is_killed_starts_again_while_the_registry_is_away_and_loses_nothing(
    store: Store,
    copy: Store,
    database_url: str,
    settings: Settings,
    registry: SchemaRegistry,
    workers: Workers,
    topic: Topic,
    tmp_path: Path,
) -> None:
    env = {
        "CUSTSVC_BACKEND": store.name,
        f"CUSTSVC_{store.name.upper()}_URL": database_url,
        "CUSTSVC_KAFKA": settings.kafka,
        "CUSTSVC_TOPIC_UPDATES": settings.topic_updates,
        "CUSTSVC_GROUP_PREFIX": settings.group_prefix,
        "CUSTSVC_EVENT_FORMAT": "avro",
        "CUSTSVC_SCHEMA_REGISTRY_URL": registry.url,
    }
    relay = Role(["relay"], env, tmp_path / "log")
    workers.copy(copy.replica, copy.name)
    try:
        change(store, "one")
        assert relay.start(crash_at="relay.produced").wait() == 137
        registry.stop()
        change(store, "two")
        relay.start()
        until("the relay waits", lambda: "cannot reach the schema registry" in relay.said())
        registry.start()
        published(store)
        relay.kill()
        change(store, "three")
        relay.start()
        published(store)
        until("the copy is equal", lambda: copy.contents.scan(0, 100) == store.contents.scan(0, 100))
        assert relay.stop() == 0
    finally:
        relay.kill()

    versions: dict[bytes, list[int]] = {}
    for record in topic.records(settings.topic_updates):
        assert record.value()[:5] == b"\0\0\0\0\1"
        versions.setdefault(record.key(), []).append(Events(settings).read(record).version)
    for found in versions.values():
        # In order, but for a batch that was sent twice.
        assert list(dict.fromkeys(found)) == sorted(set(found)) == list(range(1, max(found) + 1))
    assert topic.records(settings.topic_dead) == []
