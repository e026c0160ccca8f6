"""The port CustomerStore: the promises of each backend about customers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from custsvc.domain.customers import INT64_MAX, Stored
from custsvc.errors import TemporaryError, VersionConflict
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store

if TYPE_CHECKING:
    from tests.chaos.faultproxy import FaultProxy

    from .conftest import Customers

AtOnce = Callable[..., list[Any]]


# -- ids


def test_ids_ascend_from_one(store: Store) -> None:
    assert list(store.customers.new_ids(3)) == [1, 2, 3]
    assert store.customers.new_id() == 4
    assert list(store.customers.new_ids(0)) == []


def test_concurrent_callers_never_get_the_same_id(store: Store, other_store: Store, at_once: AtOnce) -> None:
    def singles(of: Store) -> list[int]:
        return [of.customers.new_id() for _ in range(120)]

    def block(of: Store) -> list[int]:
        return [each for _ in range(10) for each in of.customers.new_ids(17)]

    results = at_once(
        *(lambda of=of, f=f: f(of) for of in (store, other_store) for f in (singles, singles, block))
    )

    given = [each for result in results for each in result]
    assert len(given) == 2 * (120 + 120 + 170)
    assert len(set(given)) == len(given)


def test_ids_of_a_process_that_ended_never_come_again(
    opened: Callable[[str], Store], database_url: str
) -> None:
    first = opened(database_url).customers.new_id()

    assert opened(database_url).customers.new_id() > first


# -- save


def test_an_unknown_customer_is_none_and_has_no_history(store: Store) -> None:
    assert store.customers.get(1) is None
    assert store.customers.history(1, limit=10) == []


def test_a_saved_customer_is_read_back_byte_for_byte(store: Store, customers: Customers) -> None:
    change = customers.new(
        "Zoë 🦊 \u05d0\u05d1 $name \\ \" ' % \u2028".replace("\u2028", ""),
        email="zoe@example.com",
        phone="+49 151 0",
        metadata={"big": INT64_MAX, "small": -INT64_MAX - 1, "pi": 3.25, "no": None, "text": "a\tb\nc\\n"},
    )

    returned = store.customers.save(change)

    stored = store.customers.get(change.after.id)
    assert stored is not None
    assert stored.doc == change.doc == returned.doc
    assert stored.customer() == change.after
    assert (stored.id, stored.version, stored.deleted) == (change.after.id, 1, False)
    assert returned == stored
    assert type(stored.version) is int


def test_the_highest_id_is_a_customer_like_any_other(store: Store, customers: Customers) -> None:
    stored = store.customers.save(customers.new(id=INT64_MAX))
    changed = customers.change(stored)

    assert store.customers.get(INT64_MAX) == changed
    assert len(store.customers.history(INT64_MAX, limit=5)) == 2
    assert store.customers.find(CustomerQuery()).last == (INT64_MAX, INT64_MAX)


def test_a_change_follows_the_version_it_was_made_from(store: Store, customers: Customers) -> None:
    one = customers.add("One")
    two = customers.change(one, "Two")
    three = customers.change(two, "Three", deleted=True)

    stored = store.customers.get(one.id)
    assert stored == three
    assert stored is not None
    assert (stored.version, stored.deleted, stored.customer().fields.name) == (3, True, "Three")


def test_a_change_of_a_version_that_is_gone_is_refused_and_leaves_nothing(
    store: Store, customers: Customers
) -> None:
    one = customers.add("One")
    two = customers.change(one, "Two")

    with pytest.raises(VersionConflict, match=str(one.id)):
        customers.change(one, "Late")

    assert store.customers.get(one.id) == two
    assert len(store.customers.history(one.id, limit=10)) == 2


def test_a_new_customer_whose_id_is_taken_is_refused_and_leaves_nothing(
    store: Store, customers: Customers
) -> None:
    first = customers.add("First")

    with pytest.raises(VersionConflict):
        store.customers.save(customers.new("Second", id=first.id))

    assert store.customers.get(first.id) == first
    assert len(store.customers.history(first.id, limit=10)) == 1


def test_a_change_of_a_customer_that_is_not_there_is_refused_and_leaves_nothing(
    store: Store, customers: Customers
) -> None:
    unsaved = customers.new("Never")
    before = Stored(unsaved.after.id, 1, False, unsaved.doc)

    with pytest.raises(VersionConflict):
        customers.change(before)

    assert store.customers.get(before.id) is None
    assert store.customers.history(before.id, limit=10) == []


def test_a_change_needs_no_hint_of_the_store(store: Store, customers: Customers) -> None:
    one = customers.add()

    two = customers.change(Stored(one.id, one.version, one.deleted, one.doc))

    assert store.customers.get(one.id) == two


def test_of_writers_of_the_same_version_exactly_one_wins(
    store: Store, other_store: Store, customers: Customers, at_once: AtOnce
) -> None:
    for _ in range(5):
        before = customers.add()
        changes = [customers.next(before, f"Writer {number}") for number in range(8)]

        results = at_once(
            *(
                lambda change=change, to=(store, other_store)[number % 2]: to.customers.save(change)
                for number, change in enumerate(changes)
            )
        )

        winners = [each for each in results if isinstance(each, Stored)]
        assert [type(each) for each in results if not isinstance(each, Stored)] == [VersionConflict] * 7
        assert store.customers.get(before.id) == winners[0]
        assert len(store.customers.history(before.id, limit=10)) == 2


def test_many_changes_of_one_customer_at_once_lose_no_update(
    store: Store, other_store: Store, customers: Customers, at_once: AtOnce
) -> None:
    """A1."""
    first = customers.add(metadata={"count": 0})

    def count_up(to: Store) -> None:
        done = 0
        while done < 15:
            before = to.customers.get(first.id)
            assert before is not None
            count = before.customer().fields.metadata["count"]
            assert isinstance(count, int)
            try:
                to.customers.save(customers.next(before, metadata={"count": count + 1}))
                done += 1
            except VersionConflict:
                time.sleep(0.001)

    assert at_once(*(lambda to=to: count_up(to) for to in (store, other_store) * 2)) == [None] * 4

    last = store.customers.get(first.id)
    assert last is not None
    assert last.customer().fields.metadata["count"] == 60
    assert last.version == 61
    history = [orjson.loads(each)["version"] for each in store.customers.history(first.id, limit=100)]
    assert history == list(range(61, 0, -1))


@pytest.mark.parametrize("rounds", [1, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_save_whose_connection_breaks_happens_once(
    lost: Any,
    proxied: Store,
    proxy: FaultProxy,
    store: Store,
    customers: Customers,
    write_mark: bytes,
    rounds: int,
) -> None:
    """A5."""
    proxied.ping()
    for number in range(1, rounds + 1):
        new = customers.new()

        proxy.lose(lost, write_mark)
        one = proxied.customers.save(new)
        assert proxy.left == 0
        proxy.lose(lost, write_mark)
        two = proxied.customers.save(customers.next(one))
        assert proxy.left == 0

        assert store.customers.get(one.id) == two
        assert two.version == 2
        assert len(store.customers.history(one.id, limit=10)) == 2
        assert store.customers.count() == number


def test_the_result_of_a_transaction_is_found_out_when_the_answer_to_its_commit_is_lost(
    proxied: Store, proxy: FaultProxy, store: Store, customers: Customers
) -> None:
    # MongoDB's driver asks again by itself; all but its last answers are lost.
    commit, times = (b"COMMIT\0", 1) if store.name == "postgres" else (b"commitTransaction", 3)
    one = customers.add()
    proxied.ping()

    proxy.lose("reply", commit, times=times)
    erased = proxied.customers.erase(customers.next(one, "***"), lambda payload: payload)
    assert proxy.left == 0
    proxy.lose("reply", commit, times=times)
    proxied.customers.save_many([customers.new(), customers.next(erased)])
    assert proxy.left == 0

    last = store.customers.get(one.id)
    assert last is not None
    assert last.version == 3
    assert store.customers.count() == 2


def test_a_conflict_behind_a_broken_connection_is_still_a_conflict(
    proxied: Store, proxy: FaultProxy, store: Store, customers: Customers, write_mark: bytes
) -> None:
    one = customers.add()
    mine = customers.next(one, "Mine")
    proxied.customers.get(one.id)
    theirs = customers.change(one, "Theirs")

    proxy.lose("request", write_mark)
    with pytest.raises(VersionConflict):
        proxied.customers.save(mine)

    assert store.customers.get(one.id) == theirs


def test_a_server_that_is_away_is_a_temporary_error(
    proxied: Store, proxy: FaultProxy, store: Store, customers: Customers
) -> None:
    one = customers.add()
    proxied.ping()
    proxy.shut()

    for call in (
        lambda: proxied.customers.get(one.id),
        lambda: proxied.customers.save(customers.next(one)),
        lambda: proxied.customers.find(CustomerQuery()),
    ):
        with pytest.raises(TemporaryError) as caught:
            call()
        assert caught.value.dependency == store.name
        assert "\n" not in str(caught.value)
    assert store.customers.get(one.id) == one


# -- save_many


def test_many_new_customers_are_stored_with_their_events(store: Store, customers: Customers) -> None:
    ids = store.customers.new_ids(500)
    changes = [customers.new(f"Name {each}", id=each) for each in ids]

    store.customers.save_many(changes)

    assert store.customers.count() == 500
    page = store.customers.find(CustomerQuery(limit=500))
    assert page.docs == b",".join(change.doc for change in changes)
    for change in changes[::100]:
        assert store.customers.history(change.after.id, limit=2) == [change.event.payload]
    first = store.customers.get(ids[0])
    assert first is not None
    assert customers.change(first).version == 2


def test_many_new_customers_are_stored_all_or_none(store: Store, customers: Customers) -> None:
    taken = customers.add()
    changes = [customers.new() for _ in range(10)]
    changes.insert(7, customers.new(id=taken.id))

    with pytest.raises(VersionConflict):
        store.customers.save_many(changes)

    assert store.customers.count() == 1
    assert store.customers.get(taken.id) == taken
    assert store.customers.history(changes[0].after.id, limit=1) == []


def test_no_new_customers_are_stored_without_a_word(store: Store) -> None:
    store.customers.save_many([])
    assert store.customers.count(CustomerFilter("include")) == 0


# -- reads


def test_a_read_sees_every_write_that_returned_before(
    store: Store, other_store: Store, customers: Customers
) -> None:
    stored = customers.add()
    for _ in range(60):
        stored = customers.change(stored, f"Name {stored.version}")
        assert other_store.customers.get(stored.id) == stored
        assert other_store.customers.find(CustomerQuery()).docs == stored.doc
        assert len(other_store.customers.history(stored.id, limit=100)) == stored.version
    customers.change(stored, deleted=True)
    assert other_store.customers.count() == 0
    assert [other_store.customers.count(CustomerFilter(each)) for each in ("include", "only")] == [1, 1]


# -- history


def test_history_is_newest_first_by_number(store: Store, customers: Customers) -> None:
    stored = customers.add()
    payloads = store.customers.history(stored.id, limit=1)
    neighbour = store.customers.save(customers.new(id=stored.id * 10))
    for _ in range(11):
        change = customers.next(stored, f"Name {stored.version}")
        stored = store.customers.save(change)
        payloads.insert(0, change.event.payload)
    customers.change(neighbour)

    assert store.customers.history(stored.id, limit=100) == payloads
    assert store.customers.history(stored.id, limit=3) == payloads[:3]
    assert store.customers.history(stored.id, limit=3, before_version=11) == payloads[2:5]
    assert store.customers.history(stored.id, limit=3, before_version=2) == payloads[-1:]
    assert store.customers.history(stored.id, limit=3, before_version=1) == []
