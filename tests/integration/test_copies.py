"""Several copies, the start of an empty one, and the refusals of a copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.copies.origin import Origin
from custsvc.copies.pipeline import steps
from custsvc.copies.replicate import Replicate, begin_at, claim
from custsvc.domain.customers import Fields
from custsvc.errors import ConfigurationError, Conflict, PositionLost
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from tests.background import in_background
from tests.databases import address
from tests.waiting import until

from .conftest import Topic, Workers, make_topic_anew

ME = Caller("test")


@pytest.fixture
def named(
    backend: str, settings: Settings, all_databases: Callable[[str], Any]
) -> Iterator[Callable[[str], Store]]:
    """Opens a copy by its name, all of them on one server."""
    databases = all_databases(backend)
    url = databases.empty()
    with ExitStack() as stack:

        def open_copy(name: str) -> Store:
            there = settings.replace(**address(backend, url))
            copy = stack.enter_context(open_store(there, copy=name))
            copy.migrate()
            return copy

        yield open_copy
    for suffix in ("", "_copy_search", "_copy_billing"):
        databases.drop(url.replace("?", suffix + "?", 1) if "?" in url else url + suffix)


def run(settings: Settings, copy: Store, name: str) -> None:
    with Publisher(settings) as publisher:
        origin = Origin(settings, copy)
        Replicate(settings, copy.replica, publisher, name, Stop(), origin=origin).run()


def test_copies_with_names_have_places_of_their_own_on_one_server(
    store: Store, settings: Settings, workers: Workers, named: Callable[[str], Store]
) -> None:
    service = CustomerService(store.customers)
    service.create(Fields("Ada"), ME)
    workers.relay(store)
    search, billing, plain = named("search"), named("billing"), named(store.name)
    workers.copy(search.replica, "search")
    until("it is there", lambda: search.replica.digest(0) == store.replica.digest(0))

    assert billing.replica.digest(0).customers == plain.replica.digest(0).customers == 0
    claim(search, "search")
    with pytest.raises(ConfigurationError, match="holds the copy 'search', not 'billing'"):
        claim(search, "billing")
    until(
        "status knows it",
        lambda: {"custsvc-copy-search"} <= {step["step"] for step in steps(settings, store)},
    )
    another = settings.replace(group_prefix=f"another-{settings.group_prefix}")
    assert "custsvc-copy-search" not in {step["step"] for step in steps(another, store)}


@pytest.mark.parametrize("name", ["Search", "a b", "x" * 31, "1st", "a;b"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of a copy"):
        open_store(Settings(postgres_url="postgresql://nowhere/x"), "postgres", name)


def test_only_an_empty_copy_begins_at_a_given_place(
    store: Store, settings: Settings, workers: Workers, named: Callable[[str], Store]
) -> None:
    service = CustomerService(store.customers)
    service.create(Fields("before"), ME)
    workers.relay(store)
    until("it is out", lambda: store.outbox.depth().waiting == 0)
    time.sleep(1.2)
    at_end, since = named("search"), named("billing")

    begin_at(settings, at_end.replica, "end")
    begin_at(settings, since.replica, "1s")
    workers.copy(at_end.replica, "search")
    workers.copy(since.replica, "billing")
    after = service.create(Fields("after"), ME)

    for copy in (at_end, since):
        until("it is there", lambda copy=copy: [r.id for r in copy.replica.scan(0, 9)] == [after.id])
    with pytest.raises(Conflict, match="already has a position"):
        begin_at(settings, at_end.replica, "beginning")


def test_events_of_another_source_stop_a_copy_and_none_is_applied(
    store: Store,
    settings: Settings,
    workers: Workers,
    topic: Topic,
    named: Callable[[str], Store],
) -> None:
    CustomerService(store.customers).create(Fields("Ada"), ME)
    with workers.running_relay(store):
        until("it is out", lambda: store.outbox.depth().waiting == 0)
    copy = named("search")
    copy.facts.put("copy-of", "urn:custsvc:mongo:elsewhere:customers")

    with pytest.raises(ConfigurationError, match="this is a copy of urn:custsvc:mongo:elsewhere"):
        run(settings, copy, "search")
    with pytest.raises(ConfigurationError, match="come from this very database"):
        run(settings, store, "itself")

    assert copy.replica.digest(0).customers == 0


def test_a_recreated_topic_stops_a_copy(
    store: Store, settings: Settings, named: Callable[[str], Store]
) -> None:
    copy = named("search")
    Origin(settings, copy).check_topic()
    make_topic_anew(settings)

    with pytest.raises(PositionLost, match="created again"):
        run(settings, copy, "search")


def test_a_static_member_that_follows_another_topic_is_given_none_of_the_old_one(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """Kafka gives a name that comes back what it had before, whatever it asks for."""
    quick = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}
    here = settings.replace(instance_id="moved", kafka_options=quick)
    there = here.replace(topic_updates=settings.topic_updates + "-2")
    ensure_topics(there)
    topic.produce(here.topic_updates, Record(b"1", b"old", []))
    topic.produce(there.topic_updates, Record(b"1", b"new", []))

    for follows, value in ((here, b"old"), (there, b"new")):
        stop = Stop()
        run_copy = partial(workers.with_settings(follows).run_copy, store.replica, _name(settings), stop)
        with in_background(run_copy, stop):
            until("the record is dead-lettered", lambda v=value: v in _values(topic, settings.topic_dead))


def _values(topic: Topic, name: str) -> list[bytes]:
    return [record.value() for record in topic.records(name)]


def _name(settings: Settings) -> str:
    """A copy's name, and so a group's, that no other test has."""
    return f"of-{settings.topic_updates}"


def test_a_static_member_that_restarts_gets_its_partitions_without_a_rebalance(
    store: Store, settings: Settings, workers: Workers
) -> None:
    service = CustomerService(store.customers)
    workers.relay(store)
    mine = workers.with_settings(settings.replace(instance_id="copy-1"))
    first = Stop()
    # Ended before the next begins: of two at once with one name, Kafka refuses the older.
    with in_background(lambda: mine.run_copy(store.replica, _name(settings), first), first):
        service.create(Fields("one"), ME)
        until("it reads", lambda: store.replica.positions(settings.topic_updates))
    read = sum(store.replica.positions(settings.topic_updates).values())

    mine.copy(store.replica, _name(settings))
    service.create(Fields("two"), ME)

    until("it reads on", lambda: sum(store.replica.positions(settings.topic_updates).values()) > read)
