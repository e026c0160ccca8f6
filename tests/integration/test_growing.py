"""The topic grows: who has to follow before, who watches it meanwhile, and what may be deleted after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest
from confluent_kafka import TopicPartition

from custsvc.config import Settings
from custsvc.copies.rebuild import Rebuild
from custsvc.domain.customers import Fields
from custsvc.domain.received import decode
from custsvc.errors import Conflict, Stopped
from custsvc.kafka import client as kafka
from custsvc.kafka.feed import Feed
from custsvc.kafka.reader import Reader
from custsvc.kafka.tail import watch
from custsvc.ports.store import Store
from custsvc.relay.grow import Grow, drop_old
from custsvc.relay.growth import waits_for
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.background import in_background
from tests.waiting import until

from .conftest import Topic, Workers

ME = Caller("test")


@pytest.fixture
def backend() -> str:
    """Either: what differs by the database is in the chaos tests."""
    return "postgres"


@pytest.fixture
def customers(store: Store, workers: Workers) -> CustomerService:
    workers.relay(store)
    return CustomerService(store.customers)


def grow(settings: Settings, store: Store, to: int = 12, without: Iterable[str] = ()) -> None:
    work = Grow(settings, store, Stop(), print)
    work.fill(work.switch(to, list(without)), rate=None, progress=lambda _: None)


def changed(customers: CustomerService, ids: Iterable[int]) -> dict[int, int]:
    """Change these customers once more; the versions that they have now."""
    return {each: customers.replace(each, Fields("changed"), ME).version for each in ids}


def published(store: Store) -> None:
    until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)


def in_order(seen: dict[int, list[int]], versions: dict[int, int]) -> bool:
    """Whether each customer's versions were first seen in order, up to these."""
    firsts = {each: list(dict.fromkeys(found)) for each, found in seen.items()}
    return firsts == {each: list(range(1, last + 1)) for each, last in versions.items()}


def test_a_group_that_is_behind_holds_up_a_growth_until_it_need_not_follow(
    settings: Settings, store: Store, customers: CustomerService
) -> None:
    ids = [customers.create(Fields("before"), ME).id for _ in range(20)]
    published(store)
    client = kafka.consumer(settings, "gone")
    group = f"{settings.group_prefix}gone"
    client.commit(offsets=[TopicPartition(settings.topic_updates, 0, 1)], asynchronous=False)
    client.close()
    stop = Stop()
    work = Grow(settings, store, stop, lambda _: None)

    with in_background(lambda: _until_stopped(work), stop):
        until("it says why", lambda: group in waits_for(store.facts, settings.topic_updates))
        changed(customers, ids)
        published(store)
        assert work.used() == 4
    grow(settings, store, without=[group])

    assert work.used() == 12


def _until_stopped(work: Grow) -> None:
    with pytest.raises(Conflict):
        work.switch(6, [])
    with pytest.raises(Stopped):
        work.switch(12, [])


def test_watchers_follow_and_a_place_from_before_goes_on_after_it(
    settings: Settings, store: Store, customers: CustomerService
) -> None:
    ids = [customers.create(Fields("before"), ME).id for _ in range(20)]
    published(store)
    feed = Feed(settings)
    seen: dict[int, list[int]] = defaultdict(list)
    stop = Stop()

    def follow() -> None:
        for each in watch(settings, start="beginning", stopped=stop.asked):
            assert each.event is not None
            seen[each.event.customer_id].append(each.event.version)

    with in_background(follow, stop), feed.watch():
        before = feed.end()
        changed(customers, ids)
        grow(settings, store)
        last = changed(customers, ids)
        published(store)
        until("the tail has all", lambda: {each: max(found) for each, found in list(seen.items())} == last)
        until("the feed follows", lambda: feed.end().offsets == _ends(settings))
        place, why = feed.resume(before)
        caught: dict[int, list[int]] = defaultdict(lambda: [1])
        for batch in feed.catch_up(place):
            for entry in batch:
                caught[entry.customer_id].append(decode(entry.value, b"%d" % entry.customer_id).version)
    feed.close()

    assert why == ""
    assert len(str(place).split(".")) == 12
    assert in_order(seen, last)
    assert in_order(caught, last)


def test_the_records_from_before_are_deleted_only_after_all_have_read_them_and_the_rest_is_complete(
    settings: Settings,
    store: Store,
    customers: CustomerService,
    workers: Workers,
    topic: Topic,
    new_database: Callable[[], str],
    opened: Callable[[str], Store],
) -> None:
    ids = [customers.create(Fields("before"), ME).id for _ in range(20)]
    copy = opened(new_database())
    reading = workers.copy(copy.replica, settings.topic_updates)
    grow(settings, store)
    last = changed(customers, ids[:10])
    published(store)

    with pytest.raises(Conflict, match="last seven days"):
        drop_old(settings, store, now=False)
    until("the copy has read it", lambda: _dropped(settings, store))
    reading.ask()
    rebuilt = opened(new_database())
    Rebuild(settings, rebuilt, None).run()

    left = {int(record.key()): 0 for record in topic.records(settings.topic_updates)}
    assert sorted(left) == sorted(ids)
    rows = {row.id: row.version for row in rebuilt.contents.scan(0, 100)}
    assert rows == {**dict.fromkeys(ids, 1), **last}
    assert drop_old(settings, store, now=True) == 0


def _ends(settings: Settings) -> dict[int, int]:
    with Reader(settings) as topic:
        return {part: high for part, (_, high) in topic.marks().items()}


def _dropped(settings: Settings, store: Store) -> bool:
    try:
        return drop_old(settings, store, now=True) >= 20
    except Conflict:
        return False
