"""The order of mails: by the first event of each, even if a digest gets more events later."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from custsvc.ports.ledger import Grown, Ledger, Notification, Overtaken
from custsvc.ports.store import Store
from tests.backdoor import Backdoor
from tests.steps import hand_over, revise, settle

LEASE = 60.0


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.ledger


@pytest.fixture
def other(other_store: Store) -> Ledger:
    """The same ledger, as another process has it."""
    return other_store.ledger


def mail(name: str, version: int = 1, customer: int = 1, **rest: Any) -> Notification:
    return Notification(
        name, f"event-{name}", customer, version, "changed", "a@x.org", "Hi", "Hello\n", None, **rest
    )


def digest(name: str, version: int, **rest: Any) -> Notification:
    return mail(name, version, entries=f"[{version}]", **rest)


def sent_in_order(ledger: Ledger) -> list[str]:
    """Send all there is, one claim after the other; returns the ids in that order."""
    sent: list[str] = []
    while claimed := ledger.claim(10, LEASE):
        for each in claimed:
            assert hand_over(ledger, each)
            assert settle(ledger, each, "sent")
            sent.append(each.id)
    return sent


def test_a_digest_that_grows_past_a_mail_behind_it_still_goes_first(
    ledger: Ledger, backdoor: Backdoor
) -> None:
    ledger.add([digest("d", 2, next_at=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))])
    ledger.add([mail("v3", 3)])
    assert ledger.claim(10, LEASE) == []

    assert revise(ledger, digest("d", 4), 2)
    ledger.add([mail("v5", 5)])
    assert ledger.claim(10, LEASE) == []
    assert ledger.stuck() == 0
    backdoor.pass_time(3601)

    assert sent_in_order(ledger) == ["d", "v3", "v5"]
    (found,) = ledger.find(["d"])
    assert (found.first_version, found.order, found.version) == (2, 2, 4)


@pytest.mark.parametrize("waits", [("v3", "d"), ("d", "v3")])
def test_mails_that_an_older_version_let_wait_for_each_other_are_freed_by_the_sweep(
    waits: tuple[str, str], ledger: Ledger, backdoor: Backdoor
) -> None:
    ledger.add([digest("d", 4, first_version=2), mail("v3", 3)])
    backdoor.write_as_before()
    for one, for_the_other in (waits, waits[::-1]):
        backdoor.block(one, for_the_other)
    assert ledger.claim(10, LEASE) == []

    # One of the two waits may be right, by what is known of these rows; the other is not.
    assert ledger.stuck() == 1
    assert ledger.sweep() == 1

    assert ledger.stuck() == ledger.sweep() == 0
    assert sorted(sent_in_order(ledger)) == ["d", "v3"]


@pytest.mark.parametrize("wrong", ["itself", "settled", "nobody", "of-another", "behind", "beside"])
def test_the_sweep_unblocks_a_mail_that_waits_for_one_that_is_not_before_it(
    wrong: str, ledger: Ledger, backdoor: Backdoor
) -> None:
    ledger.add([mail("settled", 1)])
    assert sent_in_order(ledger) == ["settled"]
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    ledger.add([mail("itself", 2), mail("beside", 2), mail("behind", 3), mail("of-another", 1, 2)])
    ledger.add([mail("first", 7, 3, next_at=later), mail("second", 8, 3)])
    assert {each.id for each in ledger.claim(10, LEASE)} == {"itself", "beside", "of-another"}
    for each in ledger.find(["itself", "beside", "of-another"]):
        assert settle(ledger, each, "queued", count_attempt=False)

    backdoor.block("itself", wrong)

    assert ledger.stuck() == 1
    assert ledger.sweep() == 1
    assert {each.id for each in ledger.claim(10, LEASE)} == {"itself", "beside", "of-another"}
    # A mail that rightly waits goes on waiting.
    assert ledger.stuck() == ledger.sweep() == 0
    assert {each.state for each in ledger.find(["behind", "second"])} == {"queued"}


def test_a_digest_that_a_wrong_clock_put_off_for_years_is_due_after_the_sweep(ledger: Ledger) -> None:
    far = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=7)
    ledger.add([digest("far", 2, next_at=far), mail("v3", 3), digest("soon", 2, customer=2, next_at=soon)])
    assert ledger.claim(10, LEASE) == []

    assert ledger.stuck() == 1
    assert ledger.sweep() == 1

    assert ledger.stuck() == 0
    assert sent_in_order(ledger) == ["far", "v3"]


def test_rows_of_an_older_version_are_ordered_grown_and_sent_again_as_ever(
    ledger: Ledger, backdoor: Backdoor
) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    ledger.add([digest("old", 2, next_at=later), mail("old-3", 3)])
    backdoor.write_as_before(["old", "old-3"])
    ledger.add([mail("new-3", 3), mail("new-4", 4)])
    assert ledger.claim(10, LEASE) == []

    assert revise(ledger, digest("old", 5), 2)
    assert ledger.claim(10, LEASE) == []
    backdoor.pass_time(3601)
    (first,) = ledger.claim(10, LEASE)
    assert (first.id, first.order, first.version) == ("old", 2, 5)
    settle(ledger, first, "failed")

    both = ledger.claim(10, LEASE)
    assert {each.id for each in both} == {"old-3", "new-3"}
    # A newer one is on its way.
    assert ledger.retry(["old"]) == []
    for each in both:
        settle(ledger, each, "sent")
    assert sent_in_order(ledger) == ["new-4"]
    assert ledger.stuck() == 0


def test_a_digest_that_began_before_an_erasure_says_nothing_any_more(
    ledger: Ledger, backdoor: Backdoor
) -> None:
    ledger.add([digest("across", 5, first_version=2), digest("after", 6)])
    ledger.add([digest("old", 3)])
    backdoor.write_as_before(["old"])

    assert ledger.forget(1, 4) == 2

    assert {each.id: each.state for each in ledger.find(["across", "old", "after"])} == {
        "across": "discarded",
        "old": "discarded",
        "after": "queued",
    }
    assert sent_in_order(ledger) == ["after"]


# -- what one batch adds -----------------------------------------------------------------------------------


@contextmanager
def claiming(ledger: Ledger) -> Iterator[list[list[str]]]:
    """Another thread claims as fast as it can meanwhile; what it got, claim by claim."""
    got: list[list[str]] = []
    enough = threading.Event()

    def claim() -> None:
        while not enough.is_set():
            if claimed := ledger.claim(1000, LEASE):
                got.append([each.id for each in claimed])

    thread = threading.Thread(target=claim)
    thread.start()
    try:
        yield got
    finally:
        enough.set()
        thread.join()


def test_a_concurrent_claim_never_gets_a_mail_before_the_earlier_one_is_added(
    ledger: Ledger, other: Ledger
) -> None:
    customers = range(1, 121)
    # In the order in which no batch should be written.
    batch = [mail(f"{c}-v4", 4, c) for c in customers]
    batch += [digest(f"{c}-d", 3, customer=c) for c in reversed(customers)]
    batch += [mail(f"{c}-v2", 2, c) for c in customers]

    with claiming(other) as got:
        for start in range(6):
            ledger.add([each for each in batch if each.customer_id and each.customer_id % 6 == start])

    assert {name for names in got for name in names} <= {f"{c}-v2" for c in customers}
    rest = sent_in_order(ledger)
    assert not {f"{c}-v2" for c in customers} & {name for names in got for name in names} & set(rest)


def _is_claimed(ledger: Ledger) -> None:
    ledger.claim(1, LEASE)


def _grew(ledger: Ledger) -> None:
    assert revise(ledger, digest("d", 3), 2)


def _is_discarded(ledger: Ledger) -> None:
    ledger.discard(["d"], "gone")


@pytest.mark.parametrize("happened", [_is_claimed, _grew, _is_discarded])
def test_where_a_digest_was_overtaken_nothing_that_goes_after_it_is_queued(
    happened: Callable[[Ledger], None], ledger: Ledger
) -> None:
    ledger.add([digest("d", 2)])
    happened(ledger)
    before = ledger.find(["d"])

    with pytest.raises(Overtaken):
        ledger.add([mail("v5", 5), digest("e", 6, customer=2)], [Grown(digest("d", 4), 2)])
    # Made by somebody else meanwhile.
    with pytest.raises(Overtaken):
        ledger.add([mail("v7", 7), digest("d", 6)])
    # One that is not there cannot grow.
    with pytest.raises(Overtaken):
        ledger.add([mail("v8", 8)], [Grown(digest("nobody", 8), 7)])

    assert ledger.find(["d"]) == before
    assert ledger.find(["v5", "v7", "v8", "nobody"]) == []


def test_digests_that_grow_come_with_the_mails_of_their_batch(ledger: Ledger) -> None:
    ledger.add([digest("d", 2), digest("e", 2, customer=2)])
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)

    grown = [Grown(digest("d", 4, next_at=soon), 2), Grown(digest("e", 3, customer=2), 2)]
    assert ledger.add([mail("v3", 3), mail("v3", 3), digest("f", 1, customer=3)], grown) == 2

    found = {each.id: each for each in ledger.find(["d", "e", "v3", "f"])}
    assert (found["d"].version, found["d"].order, found["d"].next_at) == (4, 2, soon)
    assert (found["e"].version, found["e"].entries) == (3, "[3]")
    assert {each.id for each in ledger.claim(10, LEASE)} == {"e", "f"}


def test_two_processes_that_grow_the_same_digests_at_once_lose_neither_s(
    ledger: Ledger, other: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    names = [f"d{n:02}" for n in range(15)]
    ledger.add([digest(name, 1, customer=n) for n, name in enumerate(names, 1)])

    def grow(one: Ledger, order: int) -> list[int]:
        done = 0
        while done < 5:
            now = {each.id: each for each in one.find(names)}
            grown = [Grown(digest(n, now[n].version + 1), now[n].version) for n in names[::order]]
            try:
                one.add([], grown)
                done += 1
            except Overtaken:
                pass
        return [done]

    assert at_once(lambda: grow(ledger, 1), lambda: grow(other, -1)) == [[5], [5]]
    # One that was overtaken half-way has given some of them more all the same.
    assert min(each.version for each in ledger.find(names)) >= 11
