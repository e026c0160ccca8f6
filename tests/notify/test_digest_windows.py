"""Windows of digests: when they end, despite late events and odd clocks."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from pathlib import Path

import pytest

from custsvc.notify.intake.digest import Digests
from custsvc.notify.rules.rules import Rules
from custsvc.ports.ledger import Ledger, Notification
from tests.backdoor import Backdoor
from tests.steps import settle

from .digests import HOUR, changes, rows, rules_in


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return rules_in(tmp_path)


def seconds_from_now(due: dt.datetime | None) -> float:
    assert due is not None
    return due.timestamp() - time.time()


def send_what_is_due(ledger: Ledger) -> list[Notification]:
    sent: list[Notification] = []
    while claimed := ledger.claim(50, 60):
        for each in claimed:
            assert settle(ledger, each, "sent")
        sent += claimed
    return sent


def test_a_window_that_is_over_is_one_mail_however_many_batches_bring_it(
    rules: Rules, ledger: Ledger
) -> None:
    digests = Digests(ledger, rules)
    late = rows(rules, changes(600, ago=3 * HOUR))

    for start in range(0, 600, 50):
        digests.add(late[start : start + 50], behind=3 * HOUR)
        assert send_what_is_due(ledger) == []

    (found,) = ledger.recent()
    assert (found.order, found.version) == (2, 601)
    assert 0 < seconds_from_now(found.next_at) <= 300
    assert "Name: Name 1 → Name 601" in found.text


def test_a_trickle_of_late_events_puts_a_mail_off_for_no_longer_than_its_window(
    rules: Rules, ledger: Ledger, backdoor: Backdoor
) -> None:
    digests, sent = Digests(ledger, rules), []
    late = rows(rules, changes(60, ago=3 * HOUR))

    # Each comes two minutes after the one before.
    for row in late:
        digests.add([row], behind=3 * HOUR)
        sent += send_what_is_due(ledger)
        backdoor.pass_time(120, born_too=True)
    backdoor.pass_time(2 * HOUR)
    sent += send_what_is_due(ledger)

    told = [(each.order, each.version) for each in sent]
    assert [first for first, _ in told] == [2, *(last + 1 for _, last in told[:-1])]
    assert told[-1][1] == 61
    assert len(told) <= 3


def test_events_that_lag_within_their_window_put_its_end_off_by_no_more_than_the_grace(
    rules: Rules, ledger: Ledger
) -> None:
    on_time, behind = (Digests(ledger, rules) for _ in range(2))
    (event,) = changes(1, ago=-1.0)
    (row,) = rows(rules, [event])

    on_time.add([row])
    behind.add(rows(rules, [event._replace(version=3)]), behind=30.0)
    (once,) = ledger.recent()
    behind.add(rows(rules, [event._replace(version=4)]), behind=1e9)
    (twice,) = ledger.recent()

    assert row.next_at is not None
    assert once.next_at is not None
    assert twice.next_at is not None
    latest = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=HOUR)
    assert row.next_at <= once.next_at <= min(row.next_at + dt.timedelta(seconds=30), latest)
    assert once.next_at <= twice.next_at <= min(row.next_at + dt.timedelta(seconds=300), latest)


STRANGE_TIMES = [
    "",
    "yesterday",
    "2036-02-07T06:28:16.000Z",
    "9999-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999999-14:00",
    "0001-01-01T00:00:00.000Z",
    "0001-01-01T00:00:00+14:00",
    "-2026-11-23T20:40:00.000Z",
    "2026-11-23T20:40:00.123+05:30",
    "2026-11-23T20:40:00",
    "2026-W48-1T20:40:00.123Z",
    "1969-12-31T23:59:59.999Z",
    "\0",
    "9" * 400,
]


def test_no_clock_puts_a_digest_off_for_longer_than_its_window(rules: Rules, ledger: Ledger) -> None:
    digests = Digests(ledger, rules)
    odd = [None, "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z"]
    for customer, (event_ts, updated_on) in enumerate(itertools.product(STRANGE_TIMES, odd), 1):
        events = [each._replace(event_ts=event_ts, customer_id=customer) for each in changes(3)]
        if updated_on:
            events = [each._replace(after={**each.after, "updated_on": updated_on}) for each in events]

        digests.add(rows(rules, events[:2]))
        digests.add(rows(rules, events))

        (found,) = ledger.recent(customer_id=customer)
        assert (found.order, found.version) == (2, 4)
        assert seconds_from_now(found.next_at) <= HOUR + 1
    assert ledger.stuck() == 0


def test_a_clock_that_stands_still_holds_nothing_up(rules: Rules, ledger: Ledger, backdoor: Backdoor) -> None:
    digests, sent = Digests(ledger, rules), []
    for row in rows(rules, [event._replace(event_ts="2036-01-01T00:00:00.000Z") for event in changes(12)]):
        digests.add([row])
        sent += send_what_is_due(ledger)
        backdoor.pass_time(HOUR / 3, born_too=True)
    backdoor.pass_time(HOUR)
    sent += send_what_is_due(ledger)

    assert sum(each.version - each.order + 1 for each in sent) == 12
    assert [each.order for each in sent] == sorted(each.order for each in sent)
    assert 3 <= len(sent) <= 5


def test_the_mails_of_one_batch_are_in_order_across_rules(rules: Rules, ledger: Ledger) -> None:
    digests = Digests(ledger, rules)
    events = changes(2, ago=3 * HOUR)
    phone = events[1]._replace(version=4, id="e4", after={**events[1].after, "phone": "+41 1"})
    phone = phone._replace(said_before=events[1].after)

    assert digests.add(rows(rules, [*events, phone])) == 2

    assert send_what_is_due(ledger) == []
    assert sorted((row.rule, row.order, row.version) for row in ledger.recent()) == [
        ("changed", 2, 3),
        ("phone", 4, 4),
    ]
