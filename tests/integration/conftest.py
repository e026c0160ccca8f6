"""Workers in this process, between real databases and a real broker. Topics are the test's own."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from subprocess import CompletedProcess
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewTopic

from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetterBox
from custsvc.copies.replicate import Replicate
from custsvc.domain.customers import Fields
from custsvc.kafka import client as kafka
from custsvc.kafka import offsets, topics
from custsvc.kafka.publisher import Publisher, Record
from custsvc.kafka.topics import ensure_topics
from custsvc.ports.store import Store
from custsvc.relay.guard import check_topic
from custsvc.relay.relay import Relay
from custsvc.relay.shards import ask, division_of
from custsvc.relay.team import Team
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.background import in_background
from tests.integration.secure_kafka import SecureKafka, secure_kafka
from tests.processes import run_custsvc
from tests.waiting import until


@pytest.fixture
def settings(servers: Any) -> Settings:
    """Kafka's address, and topics and groups that are this test's alone; the topics are made already."""
    mine = uuid.uuid4().hex[:12]
    settings = Settings(
        kafka=servers.url("kafka"),
        topic_updates=f"updates-{mine}",
        topic_notify=f"notify-{mine}",
        topic_failed=f"failed-{mine}",
        topic_dead=f"dead-{mine}",
        group_prefix=f"custsvc-{mine}-",
        partitions=4,
    )
    ensure_topics(settings)
    return settings


def make_topic_anew(settings: Settings) -> None:
    """Delete the topic of events and make it again, as somebody does who does not know better."""
    admin = kafka.admin(settings)  # kept: its answers come while it lives
    (deleted,) = admin.delete_topics([settings.topic_updates]).values()
    deleted.result(60)

    def is_made() -> bool:
        try:
            return settings.topic_updates in ensure_topics(settings)
        except Exception:  # noqa: BLE001 - it is still being deleted
            return False

    until("it is there again", is_made)


def plant(copy: Store, customer_id: int, version: int) -> None:
    """Put a customer into the copy behind everybody's back; version 0 takes it away."""
    doc = f'{{"id":{customer_id},"name":"Eve","version":{version}}}'
    if copy.name == "postgres":
        with copy._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("DELETE FROM customer WHERE id = %s", (customer_id,))
            if version:
                cursor.execute(
                    "INSERT INTO customer (id, version, deleted, name, created_on, updated_on, doc) "
                    "VALUES (%s, %s, false, 'Eve', now(), now(), %s)",
                    (customer_id, version, doc),
                )
        return
    table = copy._connection.database["customer"]  # type: ignore[attr-defined]
    table.delete_one({"_id": customer_id})
    if version:
        table.insert_one({"_id": customer_id, "version": version, "deleted": False, "doc": doc})


@contextmanager
def changing(source: Store, ids: Sequence[int]) -> Iterator[None]:
    """Until the end of the block these customers change all the time, and others come and go."""
    stop = Stop()

    def write() -> None:
        service, me = CustomerService(source.customers), Caller("test")
        turn = 0
        while not stop.asked():
            turn += 1
            service.replace(ids[turn % len(ids)], Fields(f"turn {turn}"), me)
            if turn % 20 == 0:
                service.delete(service.create(Fields("new"), me).id, me)

    with in_background(write, stop):
        yield


class Workers:
    """Starts relays and copies; all of them are stopped at the end of the test."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack

    def with_settings(self, settings: Settings) -> Workers:
        return Workers(settings, self._stack)

    @contextmanager
    def running_relay(self, store: Store) -> Iterator[Callable[[], bool]]:
        """A relay until the end of the block; gives a function that says whether it has ended by itself."""
        stop, ended = Stop(), threading.Event()

        def run() -> None:
            try:
                relay.run()
            finally:
                ended.set()

        with Publisher(self._settings) as publisher:
            relay = Relay(self._settings, store, publisher, stop)
            with in_background(run, stop):
                yield ended.is_set

    @contextmanager
    def running_team(self, store: Store, shards: int) -> Iterator[None]:
        """The relays of one process, which divide the source into so many shards and lead all of them."""
        stop, settings = Stop(), self._settings
        check_topic(settings, store.facts)
        ask(store.facts, settings.topic_updates, shards)
        with in_background(Team(settings, store, stop).run, stop):
            until("it is divided", lambda: division_of(store.facts).shards == shards)
            yield

    def relay(self, store: Store) -> Stop:
        stop = Stop()
        publisher = self._stack.enter_context(Publisher(self._settings))
        relay = Relay(self._settings, store, publisher, stop)
        self._stack.enter_context(in_background(relay.run, stop))
        return stop

    def copy(self, replica: Any, name: str) -> Stop:
        stop = Stop()
        self._stack.enter_context(in_background(lambda: self.run_copy(replica, name, stop), stop))
        return stop

    def run_copy(self, replica: Any, name: str, stop: Stop) -> None:
        """Run a copy in this thread."""
        with Publisher(self._settings) as publisher:
            Replicate(self._settings, replica, publisher, name, stop).run()


@pytest.fixture
def workers(settings: Settings) -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(settings, stack)


@pytest.fixture(scope="session")
def secure() -> Iterator[SecureKafka]:
    """A Kafka with passwords, certificates and tokens, one for all tests that need it."""
    with secure_kafka() as server:
        yield server


class Topic:
    """A topic as any consumer reads it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def records(self, topic: str) -> list[Any]:
        """Everything that is on it now."""
        client = kafka.consumer(self._settings, "test-reader", enable_partition_eof=False)
        try:
            parts = topics.partitions(client, topic, self._settings.kafka)
            marks = offsets.watermarks(client, topic, parts, self._settings.kafka)
            left = {part for part, (low, high) in marks.items() if low < high}
            client.assign([TopicPartition(topic, part, marks[part][0]) for part in left])
            found: list[Any] = []
            while left:
                for message in client.consume(5000, 0.5):
                    assert message.error() is None
                    found.append(message)
                    part, offset = message.partition(), message.offset()
                    assert part is not None
                    assert offset is not None
                    if offset + 1 >= marks[part][1]:
                        left.discard(part)
            return found
        finally:
            client.close()

    def make_plain(self, topic: str) -> None:
        """Make a topic as somebody else would: one partition, not compacted."""
        client = kafka.admin(self._settings)
        (made,) = client.create_topics([NewTopic(topic, 1, 1)]).values()
        made.result(60)

    def produce(self, topic: str, *records: Record) -> None:
        with Publisher(self._settings) as publisher:
            publisher.send(topic, records)


@pytest.fixture
def topic(settings: Settings) -> Topic:
    return Topic(settings)


@pytest.fixture
def box(settings: Settings) -> Iterator[DeadLetterBox]:
    with DeadLetterBox(settings) as box:
        yield box


@pytest.fixture
def command(settings: Settings, database_url: str) -> Callable[..., CompletedProcess[str]]:
    """Runs `custsvc failed`."""
    environment = {
        **os.environ,
        "CUSTSVC_KAFKA": settings.kafka,
        "CUSTSVC_POSTGRES_URL": database_url,
        "CUSTSVC_TOPIC_UPDATES": settings.topic_updates,
        "CUSTSVC_TOPIC_DEAD": settings.topic_dead,
        "CUSTSVC_LOCAL": "never",
    }

    def run(*arguments: str) -> CompletedProcess[str]:
        return run_custsvc("failed", *arguments, env=environment)

    return run
