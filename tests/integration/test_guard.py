"""The relay's refusals that protect the order of events, and the customers that it parks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.domain.erasure import blanked
from custsvc.domain.received import decode
from custsvc.errors import ConfigurationError, ValidationError
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher, Record, partition_of
from custsvc.ports.store import Store
from custsvc.relay import guard, relay
from custsvc.relay.guard import check_lineage, check_topic, topic_problem
from custsvc.relay.loss import loss_of
from custsvc.relay.relay import Relay
from custsvc.relay.replay import Replay
from custsvc.relay.resync import Resynced, resync
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.service.event_limit import EventLimit
from tests.waiting import until

from .conftest import Topic, Workers, make_topic_anew

ME = Caller("test")


def run_relay(settings: Settings, store: Store, stop: Stop | None = None) -> None:
    with Publisher(settings) as publisher:
        Relay(settings, store, publisher, stop or Stop()).run()


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def test_a_key_goes_to_the_partition_that_every_client_of_kafka_chooses(
    settings: Settings, topic: Topic
) -> None:
    keys = [b"%d" % (7**n) for n in range(20)] + [b"1", b"12", b"123", b"1234"]
    topic.produce(settings.topic_updates, *(Record(key, b"{}", []) for key in keys))

    found = {record.key(): record.partition() for record in topic.records(settings.topic_updates)}

    assert found == {key: partition_of(key, settings.partitions) for key in keys}


def test_more_partitions_stop_a_running_relay_before_it_uses_one(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """O13."""
    service = CustomerService(store.customers)
    service.create(Fields("before"), ME)
    admin = kafka.admin(settings)
    with (
        pytest.raises(ConfigurationError, match="has 9 partitions, it had 4") as refused,
        workers.running_relay(store) as stopped,
    ):
        published(store)
        (made,) = admin.create_partitions([NewPartitions(settings.topic_updates, 9)]).values()
        made.result(60)
        while not stopped():
            service.create(Fields("after"), ME)
            time.sleep(0.05)

    assert "--accept-topic" in (refused.value.fix or "")
    assert all(record.partition() < 4 for record in topic.records(settings.topic_updates))
    assert topic_problem(settings, store.facts)
    check_topic(settings, store.facts, accept=True)
    assert topic_problem(settings, store.facts) is None
    workers.relay(store)
    published(store)


def test_a_recreated_topic_is_refused(store: Store, settings: Settings, workers: Workers) -> None:
    """O13."""
    CustomerService(store.customers).create(Fields("Ada"), ME)
    with workers.running_relay(store):
        published(store)
    make_topic_anew(settings)

    with pytest.raises(ConfigurationError, match="deleted and created again"):
        run_relay(settings, store)


def test_a_recreated_topic_that_was_accepted_has_lost_nothing(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    service = CustomerService(store.customers)
    ada = service.create(Fields("Ada"), ME).id
    with workers.running_relay(store):
        published(store)
    make_topic_anew(settings)
    check_topic(settings, store.facts, accept=True)

    with workers.running_relay(store):
        service.replace(ada, Fields("second"), ME)
        published(store)

    assert loss_of(store.facts, settings.topic_updates) is None
    assert [decode(r.value(), r.key()).version for r in topic.records(settings.topic_updates)] == [2]


def test_two_sources_on_one_topic_are_refused(
    store: Store,
    new_database: Callable[[], str],
    opened: Callable[[str], Store],
    settings: Settings,
    workers: Workers,
) -> None:
    """R18."""
    another = opened(new_database())
    for each in (store, another):
        CustomerService(each.customers).create(Fields("Ada"), ME)
    workers.relay(store)
    published(store)

    with pytest.raises(ConfigurationError, match="two sources on one topic"):
        run_relay(settings, another)

    assert another.outbox.depth().waiting == 1


def take_back(store: Store, customer_id: int, version: int, doc: bytes = b"") -> None:
    """Bring a customer to an older version, as a restored backup has it; version 0 is before it existed.

    `doc` is its state then, if an erasure has blanked it since.
    """
    history = [decode(e, b"%d" % customer_id) for e in store.customers.history(customer_id, limit=100)]
    docs = {event.version: event.doc().decode() for event in history}
    if doc:
        docs[version] = doc.decode()
    if store.name == "postgres":
        with store._connections.transaction() as cursor:  # type: ignore[attr-defined]
            cursor.execute(
                "DELETE FROM customer_event WHERE customer_id = %s AND version > %s", (customer_id, version)
            )
            if version:
                cursor.execute(
                    "UPDATE customer SET version = %s, deleted = false, doc = %s WHERE id = %s",
                    (version, docs[version], customer_id),
                )
            else:
                cursor.execute("DELETE FROM customer WHERE id = %s", (customer_id,))
        return
    database = store._connection.database  # type: ignore[attr-defined]
    database["customer_event"].delete_many({"_id.customer_id": customer_id, "_id.version": {"$gt": version}})
    if version:
        change = {"version": version, "deleted": False, "doc": docs[version]}
        gone = {"outbox": {"_id.version": {"$gt": version}}}
        database["customer"].update_one({"_id": customer_id}, {"$set": change, "$pull": gone})
    else:
        database["customer"].delete_one({"_id": customer_id})


def test_a_source_restored_to_an_older_state_is_refused_and_resync_makes_it_the_newest(
    store: Store,
    new_database: Callable[[], str],
    opened: Callable[[str], Store],
    settings: Settings,
    workers: Workers,
    topic: Topic,
) -> None:
    """O15."""
    copy = opened(new_database())
    service = CustomerService(store.customers)
    kept, old, rewritten, lost, erased, refilled = (
        service.create(Fields(f"Ada {n}", f"ada{n}@example.com"), ME).id for n in range(6)
    )
    for customer_id in (old, rewritten):
        service.replace(customer_id, Fields("second"), ME)
        service.replace(customer_id, Fields("third"), ME)
    service.delete(old, ME)
    unblanked = {row.id: row.doc for row in store.replica.scan(0, 9)}
    for customer_id in (erased, refilled):
        service.erase(customer_id, ME)
    service.replace(refilled, Fields("somebody else"), ME)
    workers.copy(copy.replica, "copy")
    with workers.running_relay(store):
        published(store)
    until("the copy is there", lambda: copy.replica.scan(0, 9) == store.replica.scan(0, 9))

    for customer_id, version in ((old, 1), (rewritten, 2), (lost, 0)):
        take_back(store, customer_id, version)
    for customer_id in (erased, refilled):
        take_back(store, customer_id, 1, unblanked[customer_id])
    service.replace(rewritten, Fields("another third"), ME)

    with pytest.raises(ConfigurationError, match="restored to an older state") as refused:
        run_relay(settings, store)
    assert "relay --resync" in (refused.value.fix or "")
    done = resync(settings, store)
    workers.relay(store)
    published(store)

    until("they are equal again", lambda: copy.replica.scan(0, 9) == store.replica.scan(0, 9))
    assert done == Resynced(changed=4, lost=1, erased=2)
    rows = {row.id: row for row in store.replica.scan(0, 9)}
    assert {i: (rows[i].version, rows[i].deleted) for i in rows} == {
        kept: (1, False),
        old: (5, False),
        rewritten: (4, False),
        lost: (2, True),
        erased: (3, False),
        refilled: (4, False),
    }
    assert b"another third" in rows[rewritten].doc
    assert all(blanked(rows[customer_id].doc) == rows[customer_id].doc for customer_id in (erased, refilled))
    # Above what the lost state may have given and not sent.
    assert service.create(Fields("new"), ME).id > refilled + 999_999
    mine = [decode(r.value(), r.key()) for r in topic.records(settings.topic_updates)]
    assert {event.bulk for event in mine if event.actor == "custsvc resync" and event.op != "erased"} == {
        True
    }


@pytest.mark.parametrize("more", [0, 2], ids=["at the version of the snapshot", "past it"])
def test_a_restored_source_is_noticed_where_the_topic_ends_in_snapshots(
    more: int, store: Store, settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_TAIL", 1)
    service = CustomerService(store.customers)
    ada = service.create(Fields("Ada"), ME).id
    service.replace(ada, Fields("second"), ME)
    with workers.running_relay(store):
        published(store)
    with Publisher(settings) as publisher:
        Replay(settings, store, publisher).send((ada,))
    check_lineage(settings, store)

    take_back(store, ada, 1)
    for number in range(1 + more):
        service.replace(ada, Fields(f"another {number}"), ME)

    with pytest.raises(ConfigurationError, match="restored to an older state"):
        check_lineage(settings, store)
    resync(settings, store)
    check_lineage(settings, store)
    stored = store.customers.get(ada)
    assert stored is not None
    assert stored.version == 3 + more


@pytest.mark.parametrize("what", ["nothing", "changed", "deleted", "erased"])
def test_a_change_after_a_snapshot_is_not_taken_for_a_restored_database(
    what: str, store: Store, settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_TAIL", 1)
    service = CustomerService(store.customers)
    ada = service.create(Fields("Ada", "ada@example.com"), ME).id
    with workers.running_relay(store):
        published(store)
    with Publisher(settings) as publisher:
        Replay(settings, store, publisher).send((ada,))

    if what == "changed":
        service.replace(ada, Fields("second"), ME)
    elif what == "deleted":
        service.delete(ada, ME)
    elif what == "erased":
        service.erase(ada, ME)

    check_lineage(settings, store)


@pytest.fixture
def small_topic(settings: Settings) -> Callable[[int], None]:
    admin = kafka.admin(settings)

    def limit(most: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(
            ConfigResource.Type.TOPIC, settings.topic_updates, incremental_configs=[entry]
        )
        (done,) = admin.incremental_alter_configs([resource]).values()
        done.result(60)

    return limit


BIG = {f"k{n}": "x" * 400 for n in range(20)}


def test_an_event_that_is_too_big_is_refused_at_the_write(
    store: Store,
    settings: Settings,
    workers: Workers,
    small_topic: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """O11."""
    monkeypatch.setattr(relay, "_PARKED", 0.5)
    small_topic(5000)
    workers.relay(store)
    until("the relay has stored the limit", lambda: store.facts.get("event-limit") == "5000")
    service = CustomerService(store.customers, event_limit=EventLimit(store.facts))

    with pytest.raises(ValidationError, match=r"metadata: makes an event of .* the topic takes 4,200"):
        service.create(Fields("Ada", metadata=BIG), ME)

    assert service.create(Fields("Ada"), ME).version == 1
    assert len(store.replica.scan(0, 9)) == 1


def test_an_event_that_is_too_big_parks_its_customer_only_until_the_topic_takes_it(
    store: Store,
    settings: Settings,
    workers: Workers,
    topic: Topic,
    small_topic: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """O11."""
    monkeypatch.setattr(relay, "_PARKED", 0.5)
    small_topic(5000)
    service = CustomerService(store.customers)
    big = service.create(Fields("Ada"), ME)
    service.replace(big.id, Fields("Ada", metadata=BIG), ME)
    service.replace(big.id, Fields("Ada again"), ME)
    others = [service.create(Fields("Grace"), ME).id for _ in range(20)]

    first = workers.relay(store)
    published(store)

    def seen() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for record in topic.records(settings.topic_updates):
            event = decode(record.value(), record.key())
            versions = found.setdefault(event.customer_id, [])
            if event.version not in versions:  # a leader that loses its lease repeats
                versions.append(event.version)
        return found

    assert seen() == {big.id: [1], **{i: [1] for i in others}}
    assert re.search(rf"Customer {big.id} is parked from version 2 on", caplog.text)
    first.ask()
    workers.relay(store)
    small_topic(100_000)

    until("the rest went out in order", lambda: seen()[big.id] == [1, 2, 3])
    assert store.facts.all("parked:") == {}
