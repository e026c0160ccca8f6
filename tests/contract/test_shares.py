"""The port Shares: the outbox divided among several leaders, without a loss and in order per customer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from custsvc.domain.events import CustomerEvent
from custsvc.ports.outbox import Outbox
from custsvc.ports.shares import Share
from custsvc.ports.store import Store
from tests.waiting import until

if TYPE_CHECKING:
    from .conftest import Customers

Drain = Callable[..., list[CustomerEvent]]


def share(store: Store, number: int, of: int) -> Outbox:
    return store.shares.outbox(
        Share(number, of, f"{of}/{of}", lambda ids: [each % of == number for each in ids])
    )


def keys(events: list[CustomerEvent]) -> list[tuple[int, int]]:
    return [(event.customer_id, event.version) for event in events]


def test_each_share_reads_the_events_of_its_customers_in_order_and_all_of_them(
    store: Store, customers: Customers, drain: Drain
) -> None:
    made = [customers.add() for _ in range(40)]
    for each in made:
        store.customers.save(customers.next(each))
    found: list[CustomerEvent] = []

    for number in range(3):
        outbox = share(store, number, 3)
        with outbox.lead() as leading:
            assert leading
            part = drain(outbox, 7)
        assert {event.customer_id % 3 for event in part} == {number}
        found += part

    assert sorted(keys(found)) == sorted((each.id, version) for each in made for version in (1, 2))
    place = {key: index for index, key in enumerate(keys(found))}
    assert all(place[each.id, 1] < place[each.id, 2] for each in made)


def test_a_batch_ahead_is_what_follows_one_that_is_not_done(store: Store, customers: Customers) -> None:
    made = [customers.add().id for _ in range(30)]
    mine = [each for each in made if each % 2 == 1]
    outbox = share(store, 1, 2)

    with outbox.lead():
        first = outbox.read(4)
        ahead = outbox.ahead(first, 4)
        outbox.done(first)
        outbox.done(ahead)
        rest = outbox.read(100)

    assert [e.customer_id for e in (*first.events, *ahead.events, *rest.events)] == mine


def test_who_leads_a_share_keeps_out_the_others_of_it_and_who_wants_all(
    store: Store, other_store: Store
) -> None:
    with share(store, 0, 2).lead() as first, share(other_store, 1, 2).lead() as second:
        assert (first, second) == (True, True)
        with share(other_store, 0, 2).lead() as again:
            assert not again
        with other_store.outbox.lead() as everything:
            assert not everything


def test_nobody_leads_a_share_while_one_leads_everything(store: Store, other_store: Store) -> None:
    with store.outbox.lead() as everything, share(other_store, 0, 2).lead() as part:
        assert everything
        assert not part


def test_the_whole_outbox_learns_what_the_shares_have_sent(
    store: Store, other_store: Store, customers: Customers, drain: Drain
) -> None:
    for _ in range(10):
        customers.add()
    with ExitStack() as stack:
        parts = [share(store, number, 2) for number in range(2)]
        for part in parts:
            assert stack.enter_context(part.lead())

        drain(parts[0])
        assert other_store.outbox.depth().waiting > 0
        drain(parts[1])

        def nothing_waits() -> bool:
            return not any(part.read(10).events for part in parts) and other_store.outbox.depth().waiting == 0

        until("nothing waits", nothing_waits)


@contextmanager
def leading(outbox: Outbox) -> Iterator[None]:
    """Lead as soon as that is possible: a lease that several held expires by itself."""
    with ExitStack() as stack:
        until("it leads", lambda: stack.enter_context(outbox.lead()))
        yield


@pytest.mark.parametrize("shares", [(2, 3), (3, 1), (1, 4), (4, 2)])
def test_after_another_division_nothing_is_lost_and_nothing_comes_out_of_order(
    store: Store, customers: Customers, shares: tuple[int, int]
) -> None:
    """Of events that are sent in part: each share a different part."""
    was, then = shares
    made = [customers.add() for _ in range(30)]
    sent: dict[int, list[int]] = {each.id: [] for each in made}

    def pass_on(of: int, *, batches: int | None) -> None:
        for number in range(of):
            outbox = share(store, number, of) if of > 1 else store.outbox
            with leading(outbox):
                left = 2 * number + 1 if batches else -1
                while left and (batch := outbox.read(3)).events:
                    for event in batch.events:
                        sent[event.customer_id].append(event.version)
                    outbox.done(batch)
                    left -= 1

    pass_on(was, batches=1)
    for each in made:
        store.customers.save(customers.next(each))
    pass_on(was, batches=1)
    with leading(store.outbox):
        store.shares.join(was)
    pass_on(then, batches=None)

    assert {customer: list(dict.fromkeys(versions)) for customer, versions in sent.items()} == {
        each.id: [1, 2] for each in made
    }
    with leading(store.outbox):
        store.shares.join(then)
    assert store.outbox.depth().waiting == 0
