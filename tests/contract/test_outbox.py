"""The port Outbox: events are read gap-free, in order per customer, by one reader at a time."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import pytest

from custsvc.domain.events import CustomerEvent
from custsvc.errors import TemporaryError, VersionConflict
from custsvc.ports.outbox import Batch
from custsvc.ports.store import Store
from custsvc.relay import parked
from custsvc.relay.parked import Parking
from tests.sizes import sizes

if TYPE_CHECKING:
    from tests.backdoor import Backdoor

    from .conftest import Customers

Drain = Callable[..., list[CustomerEvent]]


def test_events_are_read_as_they_were_saved(store: Store, customers: Customers) -> None:
    new = customers.new("Zoë 🦊 $x", metadata={"a": "$b"})
    one = store.customers.save(new)
    change = customers.next(one)
    store.customers.save(change)

    with store.outbox.lead() as leading:
        assert leading
        assert store.outbox.read(10).events == [new.event, change.event]


def test_an_empty_outbox_gives_an_empty_batch(store: Store) -> None:
    with store.outbox.lead():
        batch = store.outbox.read(10)
        assert batch.events == []
        store.outbox.done(batch)
        assert store.outbox.read(10).events == []


def test_events_come_again_until_they_are_marked_as_done(store: Store, customers: Customers) -> None:
    for _ in range(5):
        customers.add()

    with store.outbox.lead():
        batch = store.outbox.read(3)
        assert store.outbox.read(3).events == batch.events
    with store.outbox.lead():
        again = store.outbox.read(3)
        assert again.events == batch.events
        store.outbox.done(again)
        rest = store.outbox.read(10)
        assert len(rest.events) == 2
        assert not set(map(id_of, rest.events)) & set(map(id_of, again.events))
        store.outbox.done(rest)
    with store.outbox.lead():
        assert store.outbox.read(10).events == []


def id_of(event: CustomerEvent) -> str:
    return event.id


def test_reading_ahead_returns_the_next_events_which_come_again_unless_they_are_done(
    store: Store, customers: Customers, drain: Drain
) -> None:
    saved = [customers.add().id for _ in range(10)]

    with store.outbox.lead():
        first = store.outbox.read(3)
        ahead = store.outbox.ahead(first, 3)
        later = customers.add().id
        assert store.outbox.read(3).events == first.events
        store.outbox.done(first)
        assert store.outbox.read(3).events[: len(ahead.events)] == ahead.events
    with store.outbox.lead():
        rest = [event.customer_id for event in drain(store.outbox, 3)]
        assert rest == [*saved[3:], later]
        assert store.outbox.ahead(store.outbox.read(3), 3).events == []


def test_reading_ahead_goes_on_however_many_events_are_on_their_way(
    store: Store, customers: Customers
) -> None:
    """Customers whose events came one by one, others whose came together, and what is written meanwhile."""
    alone = [customers.add() for _ in range(5)]
    ids = store.customers.new_ids(1200)
    store.customers.save_many([customers.new(id=each) for each in ids])
    again = [customers.change(each) for each in alone]

    with store.outbox.lead():
        unmarked = batch = store.outbox.read(600)
        late = [customers.change(each) for each in again]
        for _ in range(2):
            batch = store.outbox.ahead(unmarked, 600)
            unmarked = store.outbox.together(unmarked, batch)
        store.outbox.done(unmarked)
        rest = store.outbox.read(100)

    assert len(unmarked.events) == 1210
    assert len({event.id for event in unmarked.events}) == 1210
    sent = [(event.customer_id, event.version) for event in (*unmarked.events, *rest.events)]
    assert [each for each in sent if each[0] in ids] == [(each, 1) for each in ids]
    for one in late:
        assert [version for customer_id, version in sent if customer_id == one.id] == [1, 2, 3]


def test_an_event_on_its_way_does_not_come_again_when_a_transaction_moves_it(
    store: Store, customers: Customers
) -> None:
    """On MongoDB erasing moves what a customer carries. Sent once more, it would come after a later one."""
    one = customers.add()

    with store.outbox.lead():
        first = store.outbox.read(10)
        store.customers.erase(customers.next(one, "***"), lambda payload: payload)
        second = store.outbox.ahead(first, 10)
        store.outbox.done(first)
        store.outbox.done(second)

        assert [event.version for event in (*first.events, *second.events)] == [1, 2]
        assert store.outbox.read(10).events == []


@pytest.mark.parametrize("seed", range(4))
def test_batches_read_ahead_and_marked_together_hold_every_event_once_and_in_order(
    store: Store, customers: Customers, drain: Drain, seed: int
) -> None:
    """Writes, reads and marks by turns in any order, as a relay does that marks aside."""
    rng = random.Random(seed)
    known = [customers.add()]
    written = [(known[0].id, 1)]
    read: list[tuple[int, int]] = []
    with store.outbox.lead():
        unmarked: list[Batch] = []
        for _ in range(40):
            if rng.random() < 0.7:
                which = rng.randrange(len(known) + 1)
                if which == len(known):
                    known.append(customers.add())
                else:
                    known[which] = customers.change(known[which])
                written.append((known[which].id, known[which].version))
            if rng.random() < 0.6:
                limit = rng.randint(1, 4)
                batch = (
                    store.outbox.ahead(reduce(store.outbox.together, unmarked), limit)
                    if unmarked
                    else store.outbox.read(limit)
                )
                if batch.events:
                    read += [(event.customer_id, event.version) for event in batch.events]
                    unmarked.append(batch)
            if unmarked and rng.random() < 0.4:
                count = rng.randint(1, len(unmarked))
                store.outbox.done(reduce(store.outbox.together, unmarked[:count]))
                del unmarked[:count]
        if unmarked:
            store.outbox.done(reduce(store.outbox.together, unmarked))
        read += [(event.customer_id, event.version) for event in drain(store.outbox, 3)]

    assert sorted(read) == sorted(written)
    for one in known:
        versions = [version for customer_id, version in read if customer_id == one.id]
        assert versions == sorted(versions)


def test_events_that_are_saved_while_a_batch_is_sent_come_next(store: Store, customers: Customers) -> None:
    first = customers.add()

    with store.outbox.lead():
        batch = store.outbox.read(10)
        second = customers.change(first)
        third = customers.add()
        store.outbox.done(batch)
        events = store.outbox.read(10).events

    assert [(each.customer_id, each.version) for each in events] == [(second.id, 2), (third.id, 1)]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_versions_of_a_customer_come_in_order_however_small_the_batches(
    limit: int, store: Store, customers: Customers, drain: Drain
) -> None:
    current = [customers.add() for _ in range(3)]
    for _ in range(12):
        current = [customers.change(each, f"Name {each.version}") for each in current]

    with store.outbox.lead():
        events = drain(store.outbox, limit)

    assert len(events) == 39
    for each in current:
        assert [event.version for event in events if event.customer_id == each.id] == list(range(1, 14))


def test_customers_stored_in_bulk_come_in_the_order_given(
    store: Store, customers: Customers, drain: Drain
) -> None:
    ids = list(store.customers.new_ids(300))
    changes = [customers.new(id=each) for each in ids[::3] + ids[1::3] + ids[2::3]]

    store.customers.save_many(changes)

    with store.outbox.lead():
        assert drain(store.outbox, 70) == [change.event for change in changes]


@sizes("turns", 25, 12_500)
def test_nothing_is_lost_or_out_of_order_while_many_write_and_one_transaction_stays_open(
    store: Store, other_store: Store, customers: Customers, backdoor: Backdoor, drain: Drain, turns: int
) -> None:
    """O2, O3, O17."""
    hot = [customers.add() for _ in range(5)]
    expected: set[tuple[int, int]] = {(each.id, 1) for each in hot}
    lock = threading.Lock()
    problems: list[Exception] = []

    def write(number: int) -> None:
        to = (store, other_store)[number % 2].customers
        try:
            for turn in range(turns):
                before = to.get(hot[(number + turn) % 5].id)
                assert before is not None
                try:
                    saved = to.save(customers.next(before, f"Writer {number} turn {turn}"))
                except VersionConflict:
                    continue
                with lock:
                    expected.add((saved.id, saved.version))
        except Exception as exc:  # noqa: BLE001 - told below
            problems.append(exc)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    events: list[CustomerEvent] = []
    with backdoor.open_write(), store.outbox.lead() as leading, ThreadPoolExecutor(1) as aside:
        assert leading
        for writer in writers:
            writer.start()
        ahead, marking = Batch(), aside.submit(store.outbox.done, Batch())
        while any(writer.is_alive() for writer in writers):
            if not ahead.events:
                marking.result()
                ahead = store.outbox.read(7)
            batch = ahead
            events += batch.events
            marking.result()
            marking = aside.submit(store.outbox.done, batch)
            ahead = store.outbox.ahead(batch, 7)
        marking.result()
        events += ahead.events
        store.outbox.done(ahead)
        events += drain(store.outbox, 7)
        for writer in writers:
            writer.join()

    assert problems == []
    seen = [(event.customer_id, event.version) for event in events]
    assert len(seen) == len(set(seen))
    assert set(seen) == expected
    for each in hot:
        versions = [version for customer_id, version in seen if customer_id == each.id]
        assert versions == list(range(1, len(versions) + 1))
    print(f"{store.name}: {8 * turns} tries, {len(seen)} events")


# -- parked customers


def test_a_parked_customer_goes_on_with_all_events_from_the_first_that_was_not_sent(
    store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with those that only a newer custsvc can read: the relay passes on what the source holds."""
    monkeypatch.setattr(parked, "_PAGE", 2)
    last = customers.add()
    for number in range(2, 8):
        change = customers.next(last, f"Name {number}")
        if number == 5:
            payload = change.event.payload.replace(b'"schema":1', b'"schema":9')
            change = replace(change, event=change.event._replace(payload=payload))
        last = store.customers.save(change)
    parking = Parking(store.facts)
    parking.keep_back([customers.next(last).event._replace(version=3)], 10)

    ((waiting, events),) = parking.ready(store.customers, 1_000_000)

    assert waiting.version == 3
    assert [event.version for event in events] == [3, 4, 5, 6, 7]
    assert b'"schema":9' in events[2].payload


# -- leadership


def test_reading_needs_leadership(store: Store, customers: Customers) -> None:
    customers.add()

    with pytest.raises(TemporaryError):
        store.outbox.read(1)
    with store.outbox.lead():
        batch = store.outbox.read(1)
    with pytest.raises(TemporaryError):
        store.outbox.done(batch)


def test_one_leads_at_a_time_and_the_next_may_when_it_ends(store: Store, other_store: Store) -> None:
    with store.outbox.lead() as first:
        assert first
        with other_store.outbox.lead() as second:  # does not wait: nobody else ends the first
            assert not second
            with pytest.raises(TemporaryError):
                other_store.outbox.read(1)
        store.outbox.read(1)

    with other_store.outbox.lead() as second:
        assert second
    with store.outbox.lead() as first:
        assert first


def test_each_database_has_a_leader_of_its_own(
    store: Store, new_database: Callable[[], str], opened: Callable[[str], Store]
) -> None:
    with store.outbox.lead() as here, opened(new_database()).outbox.lead() as there:
        assert here
        assert there


_LEADER = """
import sys, time
from custsvc.config import Settings
from custsvc.stores import open_store

backend, url = sys.argv[1:]
with open_store(Settings(backend=backend, **{backend + "_url": url})) as store:
    with store.outbox.lead() as leading:
        print(leading, len(store.outbox.read(10).events), flush=True)
        time.sleep(600)
"""


def test_a_leader_that_was_killed_is_followed(
    backend: str, database_url: str, store: Store, customers: Customers
) -> None:
    customers.add()
    leader = subprocess.Popen(
        [sys.executable, "-c", _LEADER, backend, database_url], stdout=subprocess.PIPE, text=True
    )
    with leader:
        try:
            assert leader.stdout is not None
            assert leader.stdout.readline().split() == ["True", "1"]
            with store.outbox.lead() as leading:
                assert not leading
        finally:
            leader.kill()
            leader.wait()
    killed = time.monotonic()

    while True:
        with store.outbox.lead() as leading:
            if leading:
                assert len(store.outbox.read(10).events) == 1
                break
        assert time.monotonic() - killed < 120
        time.sleep(0.1)


# -- depth and source


def test_depth_is_how_many_events_wait_and_for_how_long(store: Store, customers: Customers) -> None:
    assert store.outbox.depth() == (0, 0)
    for _ in range(3):
        customers.add()
    time.sleep(0.2)

    waiting, age = store.outbox.depth()
    assert waiting == 3
    assert age >= 0

    with store.outbox.lead():
        store.outbox.done(store.outbox.read(2))
        assert store.outbox.depth().waiting == 1
        store.outbox.done(store.outbox.read(2))
        assert store.outbox.depth() == (0, 0)


def test_a_source_names_one_database_for_all_its_processes(
    store: Store, other_store: Store, new_database: Callable[[], str], opened: Callable[[str], Store]
) -> None:
    source = store.outbox.source()

    assert source.startswith(f"urn:custsvc:{store.name}:")
    assert store.outbox.source() == other_store.outbox.source() == source
    assert opened(new_database()).outbox.source() != source


def test_the_latest_sent_events_are_known_without_the_waiting_ones(
    store: Store, customers: Customers
) -> None:
    with store.outbox.lead():
        assert store.outbox.latest(10) == []
        first = [customers.add() for _ in range(4)]
        newest = customers.change(first[0])
        batch = store.outbox.read(10)
        assert store.outbox.latest(10) == []
        store.outbox.done(batch)
        waiting = customers.change(first[1])
        store.customers.save_many([customers.new("waits"), customers.new("too")])

        sent = store.outbox.latest(10)

    # Of other customers, changed within the same millisecond, either may be the last one sent.
    assert [each.version for each in sent if each.customer_id == newest.id] == [2, 1]
    assert {each.event_id for each in sent} == {event.id for event in batch.events}
    assert waiting.version not in [each.version for each in sent if each.customer_id == waiting.id]
    assert store.outbox.latest(2) == sent[:2]
