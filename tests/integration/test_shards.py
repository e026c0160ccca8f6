"""Several shards of one source together with what else a relay does: a resync, and formats of a registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.errors import ConfigurationError
from custsvc.kafka.formats import Events
from custsvc.kafka.publisher import Publisher
from custsvc.ports.store import Store
from custsvc.relay.relay import Relay
from custsvc.relay.resync import Resynced, resync
from custsvc.relay.shards import Shard, division_of
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.schema_registry import SchemaRegistry
from tests.sizes import on_one
from tests.waiting import until

from .conftest import Topic, Workers
from .test_guard import take_back

ME = Caller("test")


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


@on_one("postgres")
def test_a_divided_source_that_was_restored_is_refused_and_resynced_and_its_shards_go_on(
    store: Store,
    new_database: Callable[[], str],
    opened: Callable[[str], Store],
    settings: Settings,
    workers: Workers,
) -> None:
    copy = opened(new_database())
    service = CustomerService(store.customers)
    ids = [service.create(Fields(f"Ada {n}"), ME).id for n in range(8)]
    for customer_id in ids:
        service.replace(customer_id, Fields("second"), ME)
    workers.copy(copy.replica, "copy")
    with workers.running_team(store, 2):
        published(store)
    until("the copy is there", lambda: copy.replica.scan(0, 99) == store.replica.scan(0, 99))
    division = division_of(store.facts)
    shards = [Shard(number, division) for number in range(2)]
    theirs = [[each for each in ids if shard.has(each)] for shard in shards]
    assert all(len(each) > 1 for each in theirs), "each shard has two customers that are lost in part"

    for old, lost, *_ in theirs:
        take_back(store, old, 1)
        take_back(store, lost, 0)
    for shard in shards:
        with pytest.raises(ConfigurationError, match="restored to an older state"), Publisher(settings) as p:
            Relay(settings, store, p, Stop(), shard=shard).run()
    # On MongoDB the lease that the shards have together ends some seconds after the last of them.
    done = resync(settings, store)
    with workers.running_team(store, 2):
        service.create(Fields("new"), ME)
        published(store)

    assert done == Resynced(changed=2, lost=2, erased=0)
    assert division_of(store.facts) == division
    until("they are equal again", lambda: copy.replica.scan(0, 99) == store.replica.scan(0, 99))
    rows = {row.id: row for row in store.replica.scan(0, 99)}
    for old, lost, *_ in theirs:
        assert (rows[old].version, rows[old].deleted) == (3, False)
        assert (rows[lost].version, rows[lost].deleted) == (3, True)


@pytest.mark.parametrize(("backend", "event_format"), [("postgres", "avro"), ("mongo", "json-schema")])
def test_each_shard_writes_the_format_of_a_registry(
    store: Store, settings: Settings, workers: Workers, topic: Topic, event_format: str
) -> None:
    service = CustomerService(store.customers)
    with SchemaRegistry() as registry:
        mine = settings.replace(schema_registry_url=registry.url, event_format=event_format)
        ids = [service.create(Fields(f"Ada {n}"), ME).id for n in range(8)]
        with workers.with_settings(mine).running_team(store, 2):
            for customer_id in ids:
                service.replace(customer_id, Fields("second"), ME)
            published(store)
        records = topic.records(settings.topic_updates)
        read = [Events(mine).read(record) for record in records]

    assert {record.value()[:5] for record in records} == {b"\0\0\0\0\1"}
    assert {record.partition() % 2 for record in records} == {0, 1}
    versions: dict[int, list[int]] = {}
    for event in read:
        versions.setdefault(event.customer_id, []).append(event.version)
    # A batch may have been sent twice: a shard that is handed over may not have marked it.
    assert {each: list(dict.fromkeys(found)) for each, found in versions.items()} == {
        each: [1, 2] for each in ids
    }
