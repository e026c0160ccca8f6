"""The stream of events: all records of the topic, in order, for many watchers, each from its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from custsvc.accounts.keys import new_key
from custsvc.api.events import EventStream
from custsvc.config import Settings
from custsvc.domain.customers import Fields, utc_now
from custsvc.http.permits import Revoked
from custsvc.kafka.feed import Feed, Place
from custsvc.kafka.publisher import Publisher, Record
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.service.customers import Caller, CustomerService
from tests.waiting import until

ANN = Caller("ann")


@pytest.fixture
def backend() -> str:
    """Either: the stream is read from Kafka."""
    return "postgres"


class Event(dict[str, str]):
    """One server-sent event: its fields."""

    @property
    def value(self) -> Any:
        return orjson.loads(self["data"])


class Watcher:
    """Reads a stream in the background, as a browser does: remembers the last id, and the events."""

    def __init__(self, app: Any, query: str = "", last: str | None = None) -> None:
        headers = {"Last-Event-ID": last} if last else {}
        self.answer = app.test_client().get(f"/api/events/stream{query}", headers=headers)
        self.events: list[Event] = []
        self.last = last
        self.comments = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for part in self.answer.response:
            for frame in part.decode().split("\n\n"):
                self._take(frame)

    def _take(self, frame: str) -> None:
        event = Event()
        for line in frame.splitlines():
            name, _, value = line.partition(":")
            if name:
                event[name] = value.removeprefix(" ")
            else:
                self.comments += 1
        self.last = event.get("id", self.last)
        if "data" in event:
            self.events.append(event)

    def versions(self) -> list[tuple[int, int]]:
        return [(e.value["customer_id"], e.value["version"]) for e in self.events if "event" not in e]

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "heartbeat", 0.3)


@pytest.fixture
def app(settings: Settings, store: Store, quick: None) -> Iterator[Any]:
    app = create_app(settings.replace(auth="off"), store)
    yield app
    app.extensions["custsvc"].feed.close()


@pytest.fixture
def watch(app: Any) -> Iterator[Callable[..., Watcher]]:
    opened: list[Watcher] = []

    def watch(query: str = "", last: str | None = None) -> Watcher:
        opened.append(Watcher(app, query, last))
        assert opened[-1].answer.status_code == 200, opened[-1].answer.text
        until("the stream begins", lambda: opened[-1].last is not None)
        return opened[-1]

    yield watch
    app.extensions["custsvc"].feed.close()


@pytest.fixture
def customers(store: Store, workers: Any) -> CustomerService:
    """Customers whose events get to Kafka."""
    workers.relay(store)
    return CustomerService(store.customers)


def make(customers: CustomerService, count: int, changes: int = 0) -> list[tuple[int, int]]:
    """Customers with changes; returns what there is to be seen of each, in order."""
    made = []
    for number in range(count):
        stored = customers.create(Fields(f"Customer {number}"), ANN)
        made.append((stored.id, 1))
        for change in range(changes):
            stored = customers.replace(stored.id, Fields(f"Change {change}"), ANN)
            made.append((stored.id, stored.version))
    return made


def in_order(seen: list[tuple[int, int]], made: list[tuple[int, int]]) -> bool:
    """Whether all were seen, none twice, each customer's in the order of versions."""
    by_customer: dict[int, list[int]] = {}
    for customer_id, version in seen:
        by_customer.setdefault(customer_id, []).append(version)
    return sorted(seen) == sorted(made) and all(v == sorted(v) for v in by_customer.values())


def test_every_watcher_sees_every_change_as_it_happens(
    watch: Callable[..., Watcher], customers: CustomerService, store: Store
) -> None:
    watchers = [watch() for _ in range(3)]

    made = make(customers, 20, changes=3)

    for watcher in watchers:
        until("all events", lambda w=watcher: len(w.versions()) >= len(made))
        assert in_order(watcher.versions(), made)
    first = watchers[0].events[0].value
    assert first == orjson.loads(store.customers.history(first["customer_id"], limit=10)[-1])


def test_a_watcher_goes_on_from_where_it_was(
    watch: Callable[..., Watcher], customers: CustomerService
) -> None:
    one = watch()
    before = make(customers, 5)
    until("the first events", lambda: len(one.versions()) == 5)
    last = one.events[2]["id"]
    missed = make(customers, 5)

    other = watch(last=last)

    until("the rest", lambda: len(other.versions()) == 7)
    assert sorted(other.versions()) == sorted(one.versions()[3:5] + missed)
    assert in_order(one.versions()[:5], before)


def test_events_that_left_the_feeds_memory_are_read_from_the_topic(
    settings: Settings, store: Store, customers: CustomerService, quick: None
) -> None:
    app = create_app(settings.replace(auth="off"), store)
    app.extensions["custsvc"].feed._feed = Feed(settings, ring=10)
    one = Watcher(app)
    until("the stream begins", lambda: one.last is not None)
    begin = one.last

    made = make(customers, 60)
    until("all live", lambda: len(one.versions()) == 60)
    late = Watcher(app, last=begin)
    until("all again", lambda: len(late.versions()) >= 60)
    made += make(customers, 3)
    until("and what comes now", lambda: len(late.versions()) >= 63)

    assert in_order(late.versions(), made)
    app.extensions["custsvc"].feed.close()


def test_a_new_process_shows_everything_from_the_beginning(
    watch: Callable[..., Watcher], customers: CustomerService
) -> None:
    made = make(customers, 30, changes=1)
    one = watch()
    made += make(customers, 1)
    until("the relay is done", lambda: made[-1] in one.versions())

    all_of_it = watch("?from=beginning")

    until("everything", lambda: len(all_of_it.versions()) >= 61)
    assert in_order(all_of_it.versions(), made)


def test_filters_pass_only_matching_events(watch: Callable[..., Watcher], customers: CustomerService) -> None:
    anchor = customers.create(Fields("Anchor"), ANN).id
    everything = watch()
    of_one, deletions = watch(f"?customer={anchor}"), watch("?op=deleted,restored")

    made = make(customers, 5)
    customers.delete(made[0][0], ANN)
    customers.replace(anchor, Fields("Changed"), ANN)
    customers.restore(made[0][0], ANN)

    until("all", lambda: len(everything.versions()) >= 8)
    until("those of one", lambda: (anchor, 2) in of_one.versions())
    until("the deletions", lambda: len(deletions.versions()) == 2)
    assert {customer_id for customer_id, _ in of_one.versions()} == {anchor}
    assert [e.value["op"] for e in deletions.events] == ["deleted", "restored"]
    # The place is past the filtered events, too.
    until("the heartbeat tells the place", lambda: of_one.last == everything.last)


def test_silence_is_broken_by_heartbeats(watch: Callable[..., Watcher], customers: CustomerService) -> None:
    one = watch()

    until("heartbeats", lambda: one.comments >= 3)
    assert one.events == []


def test_a_lost_place_is_reported_and_the_stream_begins_again(
    watch: Callable[..., Watcher], customers: CustomerService
) -> None:
    one = watch()
    make(customers, 3)
    until("events", lambda: len(one.versions()) == 3)

    for place in ("1.2", "9999.9999.9999.9999"):
        other = watch(last=place)
        until("all events", lambda o=other: len(o.versions()) >= 3)

        assert other.events[0]["event"] == "lost"
        assert other.events[0].value["reason"]
        assert sorted(other.versions()) == sorted(one.versions())


def test_foreign_records_do_not_end_a_stream(
    watch: Callable[..., Watcher], customers: CustomerService, settings: Settings
) -> None:
    one = watch()
    with Publisher(settings) as publisher:
        bad: list[Record] = [
            Record(b"7", b"no json", []),
            Record(b"7", None, []),
            Record(b"7", b'{"op":"created"}', [("ce_type", None)]),
        ]
        publisher.send(settings.topic_updates, bad)
    made = make(customers, 2)

    until("the good ones", lambda: len(one.versions()) == 2)
    assert in_order(one.versions(), made)


def test_no_more_streams_are_open_than_there_is_room_for(
    settings: Settings, store: Store, quick: None
) -> None:
    app = create_app(settings.replace(auth="off", streams=2), store)
    client: Any = app.test_client()
    first, second = (client.get("/api/events/stream") for _ in range(2))

    third = client.get("/api/events/stream")
    assert (third.status_code, third.json["code"]) == (503, "too-many-streams")
    assert third.headers["Retry-After"]

    first.close()
    assert client.get("/api/events/stream").status_code == 200
    second.close()
    app.extensions["custsvc"].feed.close()


def test_without_kafka_the_stream_says_so(store: Store, settings: Settings) -> None:
    for kafka in ("", "127.0.0.1:1"):
        app = create_app(settings.replace(kafka=kafka, auth="off"), store)
        answer: Any = app.test_client().get("/api/events/stream")

        assert (answer.status_code, answer.json["code"]) == (503, "dependency-down")
        assert answer.json["dependency"] == "kafka"


def test_wrong_parameters_are_refused(app: Any) -> None:
    client: Any = app.test_client()

    for query in ("?customer=x", "?customer=0", f"?customer={2**63}", "?op=nothing", "?from=noon", "?x=1"):
        assert client.get("/api/events/stream" + query).status_code == 400, query
    for last in ("x", "1,2", "-1", "1.", "9" * 30):
        answer = client.get("/api/events/stream", headers={"Last-Event-ID": last})
        assert (answer.status_code, answer.json["code"]) == (400, "bad-header"), last


def test_a_place_is_written_and_read() -> None:
    assert str(Place({0: 15, 1: 0, 2: 7})) == "15.0.7"
    parsed = Place.parse("15.0.7")
    assert parsed is not None
    assert parsed.offsets == {0: 15, 1: 0, 2: 7}


def test_a_stream_ends_with_its_key_while_events_flow(
    store: Store, settings: Settings, customers: CustomerService
) -> None:
    app = create_app(settings.replace(auth="on"), store)
    text, key = new_key("watcher", "read")
    store.keys.add(key)
    answer = app.test_client().get("/api/events/stream", headers={"X-Api-Key": text})
    ended, seen = threading.Event(), threading.Event()

    def read() -> None:
        with suppress(Revoked):
            for part in answer.response:
                if b"data:" in part:
                    seen.set()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    until("an event is seen", lambda: seen.is_set() or (make(customers, 1) and False), every=0)
    assert not ended.is_set()
    store.keys.revoke(key.prefix, utc_now())
    # There is no silence, and no heartbeat either.
    until("the stream ends", lambda: ended.is_set() or (make(customers, 1) and False), every=0)
    app.extensions["custsvc"].feed.close()
