"""The port Replica: any order, any repetition, from several processes, ends at the highest version."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custsvc.domain.customers import INT64_MAX
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.ports.contents import Row
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.replica import Applied
from custsvc.ports.store import Store
from tests.sizes import sizes

if TYPE_CHECKING:
    from .conftest import Customers

TOPIC = "updates"


def row(event: ReceivedEvent) -> Row:
    return Row(event.customer_id, event.version, event.after["deleted"], event.doc())


# -- apply


def test_a_copy_holds_the_documents_byte_for_byte(store: Store, customers: Customers) -> None:
    events = [
        *customers.versions(1, id=1, metadata={"z": 1, "a": None, "f": 1.0, "t": 'tab\t \\ quote" 🦊'}),
        *customers.versions(3, id=2, email="a@example.com", phone="+1"),
        *customers.versions(2, id=3, last_deleted=True),
        *customers.versions(1, id=INT64_MAX),
    ]

    applied = store.replica.apply(events, TOPIC, {0: 7})

    assert applied == Applied(written=4, stale=3)
    newest = [events[0], events[3], events[5], events[6]]
    assert store.replica.scan(0, 10) == [row(event) for event in newest]
    for event in newest:
        stored = store.customers.get(event.customer_id)
        assert stored is not None
        assert (stored.version, stored.deleted, stored.doc) == row(event)[1:]
    assert store.customers.find(CustomerQuery(filter=CustomerFilter("only"))).docs == events[5].doc()
    assert store.customers.count() == 3


def test_a_batch_counts_the_customers_it_wrote(store: Store, customers: Customers) -> None:
    one, two, three = customers.versions(3, id=1)
    (other,) = customers.versions(1, id=2)

    assert store.replica.apply([two], TOPIC, {}) == (1, 0)
    assert store.replica.apply([two], TOPIC, {}) == (0, 1)
    assert store.replica.apply([one, other], TOPIC, {}) == (1, 1)
    assert store.replica.apply([three, one, three, two], TOPIC, {}) == (1, 3)
    assert store.replica.apply([], TOPIC, {}) == (0, 0)
    assert store.replica.rows([1, 2]) == [row(three), row(other)]


# -- the indexes of lists


@pytest.fixture
def unlisted(opened: Callable[[str], Store], empty_database: str) -> Store:
    """A copy as replicate makes it."""
    store = opened(empty_database)
    store.migrate(lists=False)
    store.claim_role("copy")
    return store


def test_a_copy_is_indexed_for_lists_when_somebody_wants_to_list_it(
    unlisted: Store, store: Store, customers: Customers
) -> None:
    events = [event for id in range(1, 6) for event in customers.versions(2, id=id, email=f"{id}@x.example")]
    for copy in (unlisted, store):
        copy.replica.apply(events, TOPIC, {0: 10})

    assert unlisted.replica.digest(0) == store.replica.digest(0)
    assert store.index_lists() is False
    assert unlisted.index_lists() is True
    assert unlisted.index_lists() is False
    assert unlisted.migrate() == []
    for query in (CustomerQuery(sort="email"), CustomerQuery(filter=CustomerFilter(words=("name", "2")))):
        found = unlisted.customers.find(query)
        assert found == store.customers.find(query)
        assert found.count == 5


def test_concurrent_indexing_of_a_copy_disturbs_neither_itself_nor_replication(
    unlisted: Store,
    opened: Callable[[str], Store],
    empty_database: str,
    customers: Customers,
    at_once: Callable[..., list[Any]],
) -> None:
    events = [event for id in range(1, 201) for event in customers.versions(1, id=id)]
    lister, applier = opened(empty_database), opened(empty_database)

    results = at_once(
        unlisted.index_lists, lister.index_lists, lambda: applier.replica.apply(events, TOPIC, {0: 200})
    )

    assert results[2] == Applied(written=200, stale=0)
    assert True in results[:2]
    assert unlisted.index_lists() is False


def test_a_copy_that_is_indexed_while_another_is_filled_beside_it_stays_indexed(
    unlisted: Store, customers: Customers
) -> None:
    filled = unlisted.replica.shadow()
    filled.apply(customers.versions(1, id=1), TOPIC, {0: 1})

    unlisted.index_lists()
    unlisted.replica.hold(60)

    assert unlisted.replica.swap(TOPIC)
    assert unlisted.index_lists() is False
    assert unlisted.customers.find(CustomerQuery(filter=CustomerFilter(words=("ada",)))).count == 1


@sizes("count", 1, 10_000)
def test_an_update_that_is_late_does_not_bring_a_deleted_customer_back(
    store: Store, customers: Customers, count: int
) -> None:
    """R3."""
    for number in range(1, count + 1):
        created, updated, deleted = customers.versions(3, id=number, last_deleted=True)
        store.replica.apply([deleted], TOPIC, {})

        store.replica.apply([updated], TOPIC, {})
        store.replica.apply([created, updated], TOPIC, {})

        assert store.replica.rows([number]) == [row(deleted)]
    assert store.customers.count() == 0


@pytest.mark.parametrize(
    "text", ["$name", "$$ROOT", "$$new.doc", "{$gt: 1}", "$", "$$REMOVE", "a.b", "\\N", "\\", "%s", "{}"]
)
def test_text_with_a_meaning_to_a_database_is_only_text(
    text: str, store: Store, customers: Customers
) -> None:
    one, two = customers.versions(2, id=1, email=text, phone=text, metadata={"key": text})
    foreign = orjson.loads(one.value)
    foreign["after_change"] |= {"name": text, "metadata": {"$gt": "", text: {"$ne": None}}}
    new = decode(orjson.dumps(foreign), b"1")

    store.replica.apply([new], TOPIC, {})
    assert store.replica.rows([1]) == [row(new)]
    store.replica.apply([two], TOPIC, {})
    assert store.replica.rows([1]) == [row(two)]


def test_a_foreign_layout_is_stored_in_the_canonical_order(store: Store, customers: Customers) -> None:
    (event,) = customers.versions(1, id=1)
    content = orjson.loads(event.value)
    after = dict(reversed(content.pop("after_change").items()))
    foreign = decode(orjson.dumps({"after_change": after, **content}), b"1")

    store.replica.apply([foreign], TOPIC, {})

    assert store.replica.rows([1]) == [row(event)]


def test_a_batch_of_any_size_is_applied(store: Store, customers: Customers) -> None:
    # More than MongoDB takes in one command or would like to have in one transaction.
    text = {f"key {number}": "x" * 500 for number in range(50)}
    events = [customers.versions(1, id=number, metadata=text)[0] for number in range(1, 901)]
    assert sum(len(event.value) for event in events) > 20_000_000

    assert store.replica.apply(events, TOPIC, {3: 900}) == (900, 0)

    assert len(store.replica.scan(0, 1000)) == 900
    assert store.replica.rows([1, 900]) == [row(events[0]), row(events[-1])]
    assert store.replica.positions(TOPIC) == {3: 900}


_ids = count(1)


@given(data=st.data())
@settings(max_examples=25)
def test_any_order_and_repetition_ends_at_the_highest_version(
    store: Store, customers: Customers, data: st.DataObject
) -> None:
    """R2."""
    ends_at_the_highest_version(store, customers, data)


@pytest.mark.long
@given(data=st.data())
@settings(max_examples=10_000)
def test_ten_thousand_orders_and_repetitions_end_at_the_highest_version(
    store: Store, customers: Customers, data: st.DataObject
) -> None:
    """R2."""
    ends_at_the_highest_version(store, customers, data)


def ends_at_the_highest_version(store: Store, customers: Customers, data: st.DataObject) -> None:
    ids = [next(_ids) for _ in range(data.draw(st.integers(1, 3)))]
    history = {
        each: customers.versions(data.draw(st.integers(1, 4)), id=each, last_deleted=data.draw(st.booleans()))
        for each in ids
    }
    events = [event for versions in history.values() for event in versions]
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=6))
    order = data.draw(st.permutations(events + repeats))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))

    model: dict[int, ReceivedEvent] = {}
    for batch in between(order, cuts):
        store.replica.apply(batch, TOPIC, {})
        for event in batch:
            if event.version > getattr(model.get(event.customer_id), "version", 0):
                model[event.customer_id] = event
        assert store.replica.rows(ids) == [row(model[each]) for each in ids if each in model]

    assert store.replica.rows(ids) == [row(history[each][-1]) for each in ids]


def between(items: Sequence[ReceivedEvent], cuts: list[int]) -> Iterator[Sequence[ReceivedEvent]]:
    for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True):
        yield items[start:end]


@sizes("repeats", 2, 334)
def test_several_that_apply_the_same_customers_at_once_all_succeed(
    store: Store, other_store: Store, customers: Customers, at_once: Callable[..., list[Any]], repeats: int
) -> None:
    """R8: four at once, each customer's five versions so many times, in batches of forty."""
    history = [customers.versions(5, id=number, last_deleted=number % 4 == 0) for number in range(1, 61)]
    events = [event for versions in history for event in versions]

    def redeliver(to: Store, seed: int) -> int:
        shuffled = random.Random(seed).sample(events, len(events)) * repeats
        applied = [
            to.replica.apply(shuffled[start : start + 40], TOPIC, {seed: start + 40})
            for start in range(0, len(shuffled), 40)
        ]
        assert sum(each.written + each.stale for each in applied) == len(shuffled)
        return sum(each.written for each in applied)

    stores = (store, other_store, store, other_store)
    results = at_once(*(lambda to=to, seed=seed: redeliver(to, seed) for seed, to in enumerate(stores)))

    assert [each for each in results if not isinstance(each, int)] == []
    assert 60 <= sum(results) <= 300
    assert store.replica.scan(0, 100) == [row(versions[-1]) for versions in history]
    assert store.replica.positions(TOPIC) == dict.fromkeys(range(4), 40 * ceil(300 * repeats / 40))


def test_a_reader_never_misses_a_customer_that_is_being_updated(
    store: Store, other_store: Store, customers: Customers, at_once: Callable[..., list[Any]]
) -> None:
    history = [customers.versions(12, id=number) for number in range(1, 201)]
    store.replica.apply([versions[0] for versions in history], TOPIC, {})
    done: list[bool] = []

    def update() -> None:
        try:
            for version in range(1, 12):
                store.replica.apply([versions[version] for versions in history], TOPIC, {})
        finally:
            done.append(True)

    def read() -> int:
        reads = 0
        while not done:
            rows = other_store.replica.scan(0, 500)
            assert [each.id for each in rows] == list(range(1, 201))
            assert other_store.customers.find(CustomerQuery(limit=500)).count == 200
            reads += 1
        return reads

    updated, reads = at_once(update, read)

    assert updated is None
    assert isinstance(reads, int), reads
    assert reads > 0


# -- positions


def test_positions_are_kept_per_topic_and_partition(
    store: Store, other_store: Store, customers: Customers
) -> None:
    assert store.replica.positions(TOPIC) == {}

    store.replica.apply(customers.versions(1, id=1), TOPIC, {0: 5, 11: INT64_MAX})
    store.replica.apply([], "other.topic$", {0: 1})
    store.replica.apply([], TOPIC, {2: 9})

    assert other_store.replica.positions(TOPIC) == {0: 5, 2: 9, 11: INT64_MAX}
    assert other_store.replica.positions("other.topic$") == {0: 1}
    assert other_store.replica.positions("other") == {}


def test_positions_never_go_back(store: Store) -> None:
    store.replica.apply([], TOPIC, {0: 50, 1: 9})
    store.replica.apply([], TOPIC, {0: 8, 1: 100})

    assert store.replica.positions(TOPIC) == {0: 50, 1: 100}


# -- reading


def test_a_scan_walks_all_customers_in_the_order_of_their_ids(store: Store, customers: Customers) -> None:
    events = [customers.versions(2, id=number, last_deleted=number == 9)[-1] for number in (10, 2, 9, 100, 1)]
    store.replica.apply(events, TOPIC, {})
    rows = [row(event) for event in sorted(events, key=lambda event: event.customer_id)]

    assert store.replica.scan(0, 3) == rows[:3]
    assert store.replica.scan(9, 3) == rows[3:]
    assert store.replica.scan(100, 3) == []
    assert all(type(each.id) is int and type(each.version) is int for each in store.replica.scan(0, 9))


def test_rows_are_those_that_exist_in_the_order_of_their_ids(store: Store, customers: Customers) -> None:
    events = [customers.versions(1, id=number)[0] for number in (7, 3, 5)]
    store.replica.apply(events, TOPIC, {})

    assert [each.id for each in store.replica.rows([7, 4, 3, 3])] == [3, 7]
    assert store.replica.rows([4]) == []
    assert store.replica.rows([]) == []


def test_a_source_is_scanned_like_a_copy(store: Store, customers: Customers) -> None:
    one = customers.add()
    two = customers.change(customers.add(), deleted=True)

    expected = [Row(each.id, each.version, each.deleted, each.doc) for each in (one, two)]
    assert store.replica.scan(0, 10) == expected
    assert store.replica.rows([two.id, one.id]) == expected
