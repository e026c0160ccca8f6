"""Digests: one mail for all that happened within a window, whatever comes again or late."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from custsvc.config import Settings
from custsvc.customer import Customer, Fields, Stored, utc_now
from custsvc.events import ReceivedEvent, decode, new_change
from custsvc.notify.digest import Digests
from custsvc.notify.notifications import notifications_of
from custsvc.notify.rulefile import load
from custsvc.notify.rules import Rules
from custsvc.stores.base import Ledger, Notification

HOUR = 3600


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    path = tmp_path / "notify.toml"
    path.write_text(f'[[rule]]\nname = "changed"\nops = ["updated"]\ntemplate = "changed"\ndigest = {HOUR}\n')
    return load(Settings(notify_rules=str(path)))


def changes(count: int) -> list[ReceivedEvent]:
    """Updates of one customer, version 2 and on: the name, and every second time the plan too."""
    now = utc_now().replace(minute=10)
    before = Customer(7, Fields("Name 1", "ada@example.com"), False, 1, now, "t", now, "t")
    found = []
    for number in range(2, count + 2):
        fields = Fields(f"Name {number}", "ada@example.com", None, {"plan": f"p{number // 2}"})
        after = before.changed_to(fields=fields, deleted=False, now=now, by="t")
        stored = Stored(7, before.version, False, before.encode())
        found.append(decode(new_change("updated", stored, after, actor="t").event.payload, b"7"))
        before = after
    return found


def rows(rules: Rules, events: list[ReceivedEvent]) -> list[Notification]:
    return [row for event in events for row in notifications_of(event, rules, None)]


def test_all_changes_of_a_window_become_one_mail_at_its_end(rules: Rules, ledger: Ledger) -> None:
    digests = Digests(ledger, rules)

    assert digests.add(rows(rules, changes(3)[:2])) == 1
    assert digests.add(rows(rules, changes(3)[2:])) == 0

    (found,) = ledger.recent()
    assert ledger.claim(10, 60) == []
    assert found.next_at is not None
    assert found.next_at.timestamp() % HOUR == 0
    assert found.version == 4
    lines = [line for line in found.text.splitlines() if " → " in line]
    assert lines == ["Name: Name 1 → Name 4", "plan: – → p2"]


def test_events_that_come_again_change_nothing(rules: Rules, ledger: Ledger) -> None:
    digests, events = Digests(ledger, rules), changes(4)
    digests.add(rows(rules, events))
    (before,) = ledger.recent()

    assert digests.add(rows(rules, events)) == 0
    assert digests.add(rows(rules, events[1:2])) == 0

    assert ledger.recent() == [before]


def test_what_comes_while_it_is_on_its_way_is_told_by_itself_and_once(rules: Rules, ledger: Ledger) -> None:
    digests, events = Digests(ledger, rules), changes(3)
    (first,) = rows(rules, events[:1])
    ledger.add([dataclasses.replace(first, next_at=None)])
    (claimed,) = ledger.claim(1, 60)

    late = rows(rules, events)
    assert digests.add(late) == 2
    assert digests.add(late[2:]) == 0
    ledger.settle(claimed, "sent")
    assert digests.add(late) == 0

    assert sorted(row.version for row in ledger.recent()) == [2, 3, 4]


def test_a_value_that_is_as_before_at_the_end_is_not_told(rules: Rules, ledger: Ledger) -> None:
    events = changes(2)
    after = {**events[1].after, "name": "Name 1"}
    digests = Digests(ledger, rules)

    digests.add(rows(rules, [events[0], events[1]._replace(after=after)]))

    (found,) = ledger.recent()
    assert "Name:" not in found.text
    assert "plan: – → p1" in found.text
