"""Events that customers carry on MongoDB move to the history once published, despite interruptions."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pymongo.collection import Collection

from custsvc.domain.events import CustomerEvent
from custsvc.errors import VersionConflict
from custsvc.local.process import wait_until
from custsvc.ports.answers import Answer
from custsvc.ports.outbox import Batch
from custsvc.ports.store import Store
from custsvc.stores.mongo import carried, window

if TYPE_CHECKING:
    from tests.backdoor import MongoBackdoor

    from .conftest import Customers

Drain = Callable[..., list[CustomerEvent]]


@pytest.fixture
def backend() -> str:
    return "mongo"


def versions(events: list[CustomerEvent]) -> list[tuple[int, int]]:
    return [(each.customer_id, each.version) for each in events]


def in_history(store: Store, customer_id: int) -> list[int]:
    return [orjson.loads(each)["version"] for each in store.customers.history(customer_id, limit=1000)]


def carried_by(backdoor: MongoBackdoor, customer_id: int) -> list[int]:
    found: Any = backdoor.database["customer"].find_one({"_id": customer_id})
    return [int(each["_id"]["version"]) for each in found.get("outbox", [])]


def test_a_snapshot_that_has_become_old_is_left_for_a_new_one(
    store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    clock = iter([now, now, now + 60])
    monkeypatch.setattr(window, "_now", lambda: next(clock, now + 60))
    added = [customers.add().id for _ in range(4)]

    with store.outbox.lead():
        first = store.outbox.read(2)
        later = customers.add().id
        second = store.outbox.ahead(first, 2)
        monkeypatch.undo()
        third = store.outbox.ahead(store.outbox.together(first, second), 10)

    found = [*first.events, *second.events, *third.events]
    assert [event.customer_id for event in found] == [*added, later]


def test_a_change_is_one_write_of_one_document(
    store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    stored = customers.change(customers.add())

    assert carried_by(backdoor, stored.id) == [1, 2]
    assert backdoor.database["customer_event"].count_documents({}) == 0
    assert in_history(store, stored.id) == [2, 1]
    assert store.outbox.depth().waiting == 2


def test_a_published_event_is_in_the_history_and_no_longer_carried(
    store: Store, customers: Customers, backdoor: MongoBackdoor, drain: Drain
) -> None:
    stored = customers.change(customers.add())
    before = store.customers.history(stored.id, limit=9)

    with store.outbox.lead():
        assert versions(drain(store.outbox)) == [(stored.id, 1), (stored.id, 2)]

    assert carried_by(backdoor, stored.id) == []
    assert backdoor.database["customer_event"].count_documents({"pending": {"$exists": True}}) == 0
    assert store.customers.history(stored.id, limit=9) == before
    assert store.outbox.depth().waiting == 0
    assert store.customers.get(stored.id) == stored


@pytest.mark.parametrize("step", ["insert_many", "update_many"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_move_that_is_cut_off_loses_and_doubles_nothing(
    step: str,
    after: bool,
    store: Store,
    other_store: Store,
    customers: Customers,
    backdoor: MongoBackdoor,
    drain: Drain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = customers.change(customers.add())
    published = cut_off_in_done(store, step, after, monkeypatch)
    assert in_history(store, stored.id) == [2, 1]

    third = customers.change(stored, "Third")
    assert in_history(store, stored.id) == [3, 2, 1]
    with other_store.outbox.lead():
        again = drain(other_store.outbox)

    assert versions(published) == [(stored.id, 1), (stored.id, 2)]
    repeated = [] if (step, after) == ("update_many", True) else versions(published)
    assert versions(again) == [*repeated, (third.id, 3)]
    assert in_history(store, stored.id) == [3, 2, 1]
    assert carried_by(backdoor, stored.id) == []


class _KilledError(BaseException):
    """As if the process had ended here."""


def cut_off_in_done(
    store: Store, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> list[CustomerEvent]:
    """Publish what waits, and end just before or after this step of the move."""
    real = getattr(Collection, step)

    def killed(self: Collection[Any], *args: Any, **options: Any) -> Any:
        if after:
            real(self, *args, **options)
        raise _KilledError

    with monkeypatch.context() as patched, pytest.raises(_KilledError), store.outbox.lead():
        batch = store.outbox.read(100)
        patched.setattr(Collection, step, killed)
        store.outbox.done(batch)
    return batch.events


def test_a_customer_that_carries_enough_writes_its_next_events_apart_and_in_order(
    store: Store, customers: Customers, backdoor: MongoBackdoor, drain: Drain
) -> None:
    stored = customers.add()
    for number in range(carried.MOST + 5):
        stored = customers.change(stored, f"Name {number}")

    assert len(carried_by(backdoor, stored.id)) == carried.MOST
    assert backdoor.database["customer_event"].count_documents({}) == 6
    assert store.outbox.depth().waiting == stored.version
    assert in_history(store, stored.id) == list(range(stored.version, 0, -1))
    assert in_history(store, stored.id)[:3] == newest(store, stored.id, 3)
    with store.outbox.lead():
        events = drain(store.outbox, 4)
    assert versions(events) == [(stored.id, version) for version in range(1, stored.version + 1)]
    assert carried_by(backdoor, stored.id) == []


def test_a_page_is_no_longer_than_asked_however_much_customers_carry(
    store: Store, customers: Customers, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "_AT_ONCE", 2)
    some = [customers.add() for _ in range(5)]
    for _ in range(3):
        some = [customers.change(each) for each in some]

    with store.outbox.lead():
        assert len(store.outbox.read(7).events) == 7
        events = drain(store.outbox, 7)

    assert len(events) == 20
    for each in some:
        assert [e.version for e in events if e.customer_id == each.id] == [1, 2, 3, 4]


def test_an_event_outside_its_customer_waits_for_those_that_the_customer_still_carries(
    store: Store, customers: Customers, drain: Drain
) -> None:
    """O17: a page of another customer, that has waited longer, must not let the later events pass."""
    other, hot = customers.add(), customers.add()
    for number in range(carried.MOST + 2):
        hot = customers.change(hot, f"Name {number}")
    wait_until(lambda: time.time_ns() // 1_000_000 > (hot.hint or 0), 60)
    for number in range(10):
        other = customers.change(other, f"Name {number}")

    with store.outbox.lead():
        seen = versions(drain(store.outbox, 5))

    for each in (other, hot):
        assert [v for c, v in seen if c == each.id] == list(range(1, each.version + 1))


@pytest.mark.parametrize("seed", range(3))
def test_events_are_in_order_on_pages_of_any_size_however_they_were_written(
    store: Store, customers: Customers, seed: int
) -> None:
    """O17: carried or apart, in a backlog of customers of whom some change more often than others."""
    rng = random.Random(seed)
    some = [customers.add() for _ in range(6)]
    for number in range(120):
        place = min(rng.randrange(6), rng.randrange(6))
        change = customers.next(some[place], f"Name {number}")
        answer = replace(an_answer(), key=f"k{number}") if rng.random() < 0.2 else None
        some[place] = store.customers.save(change, answer)

    seen: list[tuple[int, int]] = []
    with store.outbox.lead():
        while batch := read_any(store, rng.randint(1, 12)):
            seen += versions(batch.events)
            store.outbox.done(batch)

    for each in some:
        assert [v for c, v in seen if c == each.id] == list(range(1, each.version + 1))


def read_any(store: Store, limit: int) -> Batch | None:
    batch = store.outbox.read(limit)
    assert len(batch.events) <= limit
    return batch if batch.events else None


def newest(store: Store, customer_id: int, limit: int) -> list[int]:
    events = store.customers.history(customer_id, limit=limit)
    return [orjson.loads(each)["version"] for each in events]


def test_a_write_with_an_idempotency_key_keeps_the_carried_events(
    store: Store, customers: Customers, backdoor: MongoBackdoor, drain: Drain
) -> None:
    first = customers.add()
    second = store.customers.save(customers.next(first), an_answer())
    third = customers.change(second, "Third")
    store.customers.save_many([customers.next(third, "Fourth")])

    assert carried_by(backdoor, first.id) == [1, 3]
    assert in_history(store, first.id) == [4, 3, 2, 1]
    with store.outbox.lead():
        assert versions(drain(store.outbox)) == [(first.id, version) for version in (1, 2, 3, 4)]
    assert in_history(store, first.id) == [4, 3, 2, 1]


def an_answer() -> Answer:
    return Answer("me", "k", b"r", b"{}", dt.datetime.now(dt.UTC))


def scrub(payload: bytes) -> bytes:
    return payload.replace(b"Ada", b"***").replace(b"Grace", b"***")


def test_erased_data_does_not_come_back_with_a_move_that_is_under_way(
    store: Store, customers: Customers, backdoor: MongoBackdoor, drain: Drain
) -> None:
    stored = customers.change(customers.add("Ada"), "Grace")

    with store.outbox.lead():
        read_before = store.outbox.read(10)
        store.customers.erase(customers.next(stored, "***"), scrub)
        store.outbox.done(read_before)
        assert in_history(store, stored.id) == [3, 2, 1]
        for payload in store.customers.history(stored.id, limit=9)[1:]:
            assert payload == scrub(payload)
        assert carried_by(backdoor, stored.id) == []

        assert versions(drain(store.outbox))[-1] == (stored.id, 3)
    assert store.outbox.depth().waiting == 0


def test_an_event_is_known_wherever_it_is(store: Store, customers: Customers, drain: Drain) -> None:
    sent = customers.add()
    with store.outbox.lead():
        drain(store.outbox)
    waiting = customers.change(sent)

    keys = [(sent.id, 1), (waiting.id, 2), (waiting.id, 3)]
    found = store.outbox.events(keys)

    assert {key: known.sent for key, known in found.items()} == {(sent.id, 1): True, (waiting.id, 2): False}


def test_a_page_of_history_may_end_between_the_two_places(
    store: Store, customers: Customers, drain: Drain
) -> None:
    stored = customers.change(customers.add())
    with store.outbox.lead():
        drain(store.outbox)
    for number in range(3):
        stored = customers.change(stored, f"Later {number}")

    pages = [store.customers.history(stored.id, limit=2, before_version=v) for v in (None, 4, 2)]

    assert [[orjson.loads(each)["version"] for each in page] for page in pages] == [[5, 4], [3, 2], [1]]


def test_events_of_both_places_come_in_order_while_others_write_and_move(
    store: Store, other_store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few that both ways are taken all the time.
    monkeypatch.setattr(carried, "_HAS_ROOM", "outbox.1")
    ids = [customers.add().id for _ in range(3)]
    rounds = 40
    problems: list[BaseException] = []

    def write(customer_id: int) -> None:
        try:
            for number in range(rounds):
                current = other_store.customers.get(customer_id)
                assert current is not None
                other_store.customers.save(customers.next(current, f"Name {number}"))
        except BaseException as exc:  # noqa: BLE001 - it is the result
            problems.append(exc)

    writers = [threading.Thread(target=write, args=(each,)) for each in ids]
    for each in writers:
        each.start()
    seen: list[tuple[int, int]] = []
    with store.outbox.lead():
        while any(each.is_alive() for each in writers) or store.outbox.depth().waiting:
            batch = store.outbox.read(5)
            seen += versions(batch.events)
            store.outbox.done(batch)

    assert problems == []
    for customer_id in ids:
        assert [v for c, v in seen if c == customer_id] == list(range(1, rounds + 2))
        assert in_history(store, customer_id) == list(range(rounds + 1, 0, -1))


def test_history_never_misses_an_event_while_it_is_moved(
    store: Store, other_store: Store, customers: Customers
) -> None:
    stored = customers.add()
    gaps: list[list[int]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = in_history(other_store, stored.id)
            if found != list(range(len(found), 0, -1)):
                gaps.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    with store.outbox.lead():
        for number in range(60):
            stored = customers.change(stored, f"Name {number}")
            store.outbox.done(store.outbox.read(10))
    stop.set()
    reader.join()

    assert gaps == []
    assert in_history(store, stored.id) == list(range(61, 0, -1))


def test_of_two_writers_of_a_full_customer_one_wins(store: Store, customers: Customers) -> None:
    stored = customers.add()
    for number in range(1, carried.MOST):
        stored = customers.change(stored, f"Name {number}")

    customers.change(stored, "first")
    with pytest.raises(VersionConflict):
        customers.change(stored, "second")

    assert in_history(store, stored.id) == list(range(stored.version + 1, 0, -1))
