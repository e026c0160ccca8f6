"""The port `Ledger`: queueing, claims, and order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.ports.ledger import Ledger
from custsvc.ports.store import Store
from tests.steps import hand_over, in_seconds, mail, names, settle

LEASE = 600.0
SHORT = 0.2


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.ledger


@pytest.fixture
def other(other_store: Store) -> Ledger:
    """The same ledger, as another process has it."""
    return other_store.ledger


# -- adding ------------------------------------------------------------------------------------------------


def test_a_notification_is_claimed_as_it_was_added(ledger: Ledger) -> None:
    new = mail("m", html="<p>$html</p>")

    ledger.add([new])
    (claimed,) = ledger.claim(10, LEASE)

    for field in ("id", "event_id", "customer_id", "version", "rule", "recipient", "subject", "text", "html"):
        assert getattr(claimed, field) == getattr(new, field)
    assert (claimed.state, claimed.attempts) == ("claimed", 1)
    assert claimed.token
    assert claimed.created_on is not None
    assert claimed.created_on.tzinfo is not None


def test_the_same_notification_is_queued_once_however_often_it_is_added(ledger: Ledger) -> None:
    assert ledger.add([mail("m"), mail("n", customer=2)]) == 2
    assert ledger.add([mail("m"), mail("o", customer=3)]) == 1
    assert ledger.add([]) == 0

    assert ledger.counts() == {"queued": 3}


def test_adding_again_changes_nothing_about_one_that_was_sent(ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (claimed,) = ledger.claim(1, LEASE)
    settle(ledger, claimed, "sent")

    assert ledger.add([mail("m")]) == 0
    assert ledger.claim(1, LEASE) == []


def test_processes_that_add_the_same_at_once_queue_each_once(
    ledger: Ledger, other: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    mails = [mail(f"m{n:03}", customer=n) for n in range(200)]
    mixed = random.Random(1).sample(mails, len(mails))

    added = at_once(lambda: ledger.add(mails), lambda: other.add(mixed))

    assert sum(added) == 200
    assert ledger.counts() == {"queued": 200}


def test_one_that_is_added_as_failed_is_never_claimed_but_waits_for_the_failed_topic(
    ledger: Ledger,
) -> None:
    ledger.add([mail("m", state="failed", reason="no address")])

    assert ledger.claim(1, LEASE) == []
    (failed,) = ledger.unpublished_failures(10)
    assert (failed.id, failed.reason) == ("m", "no address")


# -- claiming ----------------------------------------------------------------------------------------------


def test_the_oldest_are_claimed_first(ledger: Ledger) -> None:
    for batch in (["z", "y"], ["b", "a"]):
        ledger.add([mail(name, customer=ord(name)) for name in batch])
        time.sleep(0.01)

    assert names(ledger.claim(3, LEASE)) == ["z", "y", "b"]
    assert names(ledger.claim(3, LEASE)) == ["a"]


def test_a_claimed_notification_is_claimed_by_nobody_else(ledger: Ledger, other: Ledger) -> None:
    ledger.add([mail("m")])

    assert names(ledger.claim(1, LEASE)) == ["m"]
    assert other.claim(1, LEASE) == []


def test_senders_that_claim_at_once_never_get_the_same(
    ledger: Ledger, other: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    ledger.add([mail(f"m{n}", customer=n) for n in range(300)])

    def claim_all(one: Ledger) -> list[str]:
        found: list[str] = []
        while batch := one.claim(7, LEASE):
            found += names(batch)
        return found

    results = at_once(*(lambda one=one: claim_all(one) for one in (ledger, other, ledger, other)))

    claimed = [name for result in results for name in result]
    assert len(claimed) == 300
    assert len(set(claimed)) == 300


def test_concurrent_claims_do_not_come_back_empty_while_notifications_are_due(
    ledger: Ledger, other: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    ledger.add([mail(f"m{n}", customer=n) for n in range(200)])

    results = at_once(*(lambda one=one: one.claim(20, LEASE) for one in (ledger, other, ledger, other)))

    assert all(names(result) for result in results)


# -- order -------------------------------------------------------------------------------------------------


def test_a_later_mail_waits_until_the_earlier_one_is_settled(ledger: Ledger) -> None:
    ledger.add([mail("v2", version=2), mail("v1", version=1), mail("v3", version=3)])

    for name in ("v1", "v2", "v3"):
        (claimed,) = ledger.claim(10, LEASE)
        assert claimed.id == name
        assert ledger.claim(10, LEASE) == []
        hand_over(ledger, claimed)
        assert ledger.claim(10, LEASE) == []
        settle(ledger, claimed, "sent")


@pytest.mark.parametrize("outcome", ["sent", "failed", "unknown", "suppressed"])
def test_the_next_one_goes_on_after_the_earlier_one_was(outcome: Any, ledger: Ledger) -> None:
    ledger.add([mail("v1", version=1), mail("v2", version=2)])
    (first,) = ledger.claim(10, LEASE)
    assert ledger.claim(10, LEASE) == []

    settle(ledger, first, outcome)

    assert names(ledger.claim(10, LEASE)) == ["v2"]


def test_a_deferred_mail_holds_the_later_ones_back(ledger: Ledger) -> None:
    ledger.add([mail("v1", version=1), mail("v2", version=2)])
    (first,) = ledger.claim(10, LEASE)

    settle(ledger, first, "deferred", next_at=in_seconds(first, 3600))

    assert ledger.claim(10, LEASE) == []


def test_only_mails_to_the_same_recipient_about_the_same_customer_wait(ledger: Ledger) -> None:
    ledger.add(
        [
            mail("v1", version=1),
            mail("other-recipient", version=2, to="b@example.com"),
            mail("other-customer", customer=2, version=2),
            mail("request-1", customer=None, version=1),
            mail("request-2", customer=None, version=2),
        ]
    )

    assert len(ledger.claim(10, LEASE)) == 5


def test_one_customer_with_a_long_queue_does_not_hold_up_the_others(ledger: Ledger) -> None:
    ledger.add([mail(f"hot{n}", version=n) for n in range(1, 1501)])
    ledger.add([mail("other", customer=2)])

    # Each claim looks past some of those that must wait, and none looks at them again.
    claimed = [name for _ in range(6) for name in names(ledger.claim(10, LEASE))]
    assert sorted(claimed) == ["hot1", "other"]


def test_four_senders_keep_the_order_of_every_customer(
    ledger: Ledger, other: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    ledger.add([mail(f"{c}-{v}", customer=c, version=v) for v in range(1, 13) for c in range(1, 6)])
    settled: list[tuple[int, int]] = []

    def send(one: Ledger) -> None:
        idle = 0
        while idle < 100:
            batch = one.claim(5, LEASE)
            idle = 0 if batch else idle + 1
            for each in batch:
                assert hand_over(one, each)
                settled.append((each.customer_id or 0, each.version))
                assert settle(one, each, "sent")
            if not batch:
                if one.counts().get("sent") == 60:
                    return
                time.sleep(0.02)

    results = at_once(*(lambda one=one: send(one) for one in (ledger, other, ledger, other)))

    assert results == [None] * 4
    assert len(settled) == 60
    for customer in range(1, 6):
        assert [v for c, v in settled if c == customer] == list(range(1, 13))


# -- attempts ----------------------------------------------------------------------------------------------


def test_a_deferred_mail_is_due_again_at_its_time_and_counts_its_attempts(ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (first,) = ledger.claim(1, LEASE)

    assert settle(ledger, first, "deferred", reason="450 busy", next_at=in_seconds(first, 3600))
    assert ledger.claim(1, LEASE) == []

    ledger.add([mail("n", customer=2)])
    (first,) = ledger.claim(1, LEASE)
    assert settle(ledger, first, "deferred", reason="450 busy", next_at=in_seconds(first, 0.1))
    time.sleep(0.2)
    (again,) = ledger.claim(10, LEASE)
    assert again.id == "n"
    assert (again.attempts, again.reason) == (2, "450 busy")
    assert again.token != first.token


def test_every_attempt_is_kept_with_its_answer(ledger: Ledger) -> None:
    ledger.add([mail("m"), mail("untried", customer=2, state="failed")])
    (first,) = ledger.claim(1, LEASE)
    settle(ledger, first, "deferred", reason="$450 busy", code=450, duration=1.5, next_at=first.updated_on)
    (second,) = ledger.claim(1, LEASE)
    hand_over(ledger, second)
    settle(ledger, second, "sent", reason="250 OK", code=250, duration=0.25)

    found = ledger.attempts(["m", "untried"])

    assert set(found) == {"m"}
    kept = [(a.number, a.outcome, a.code, a.text, a.duration) for a in found["m"]]
    assert kept == [(1, "deferred", 450, "$450 busy", 1.5), (2, "sent", 250, "250 OK", 0.25)]
    assert first.updated_on is not None
    assert abs((found["m"][0].tried_on - first.updated_on).total_seconds() + 1.5) < 60


def test_an_attempt_that_is_given_back_does_not_count(ledger: Ledger) -> None:
    ledger.add([mail("m")])
    (first,) = ledger.claim(1, LEASE)

    assert settle(ledger, first, "queued", reason="server down", count_attempt=False)

    (again,) = ledger.claim(1, LEASE)
    assert again.attempts == 1
    assert ledger.attempts(["m"]) == {}


# -- failures, counts, listing -----------------------------------------------------------------------------


def test_a_failure_is_offered_until_it_is_published(ledger: Ledger) -> None:
    ledger.add([mail("m"), mail("n", customer=2)])
    for claimed in ledger.claim(2, LEASE):
        settle(ledger, claimed, "failed", reason="550 no such user")

    assert names(ledger.unpublished_failures(10)) == ["m", "n"]
    assert names(ledger.unpublished_failures(1)) == ["m"]
    ledger.published(["m"])
    assert names(ledger.unpublished_failures(10)) == ["n"]


def test_two_processes_that_publish_failures_are_given_different_ones(ledger: Ledger, other: Ledger) -> None:
    ledger.add([mail(name, customer=n, state="failed") for n, name in enumerate("mno", 1)])

    (one,) = ledger.unpublished_failures(1, LEASE)
    (two,) = other.unpublished_failures(1, LEASE)
    (three,) = other.unpublished_failures(10, SHORT)
    assert {one.id, two.id, three.id} == set("mno")

    time.sleep(2 * SHORT)
    assert names(ledger.unpublished_failures(10, LEASE)) == [three.id]
    assert other.unpublished_failures(10, LEASE) == []


def test_the_newest_are_listed_first_for_a_customer_or_a_state(ledger: Ledger) -> None:
    for version in (1, 2, 3):
        ledger.add([mail(f"v{version}", version=version), mail(f"w{version}", customer=2, version=version)])
        time.sleep(0.01)
    ledger.claim(1, LEASE)

    assert names(ledger.recent(customer_id=1)) == ["v3", "v2", "v1"]
    assert names(ledger.recent(customer_id=1, limit=1)) == ["v3"]
    assert names(ledger.recent(state="claimed")) == ["v1"]
    assert names(ledger.recent(customer_id=2, state="claimed")) == []
    assert len(ledger.recent()) == 6
    assert ledger.counts() == {"queued": 5, "claimed": 1}
    assert ledger.counts(["claimed", "failed"]) == {"claimed": 1}
