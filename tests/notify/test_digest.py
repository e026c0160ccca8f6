"""Digests: what one mail tells of all events of a window, despite repeats."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.notify.intake.digest import Digests
from custsvc.notify.rules.rules import Rules
from custsvc.notify.sending.sender import Sender
from custsvc.ports.ledger import Ledger, Notification
from tests.backdoor import Backdoor
from tests.steps import settle

from .conftest import Sink
from .digests import HOUR, changes, rows, rules_in

NewSender = Callable[..., Sender]


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return rules_in(tmp_path)


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


def test_events_that_come_while_a_digest_is_sent_are_in_a_second_one_once(
    rules: Rules, ledger: Ledger
) -> None:
    digests, events = Digests(ledger, rules), changes(3)
    (first,) = rows(rules, events[:1])
    ledger.add([dataclasses.replace(first, next_at=None)])
    (claimed,) = ledger.claim(1, 60)

    late = rows(rules, events)
    assert digests.add(late[:2]) == 1
    assert digests.add(late) == 0
    assert digests.add(late[2:]) == 0
    settle(ledger, claimed, "sent")
    assert digests.add(late) == 0

    assert sorted((row.order, row.version) for row in ledger.recent()) == [(2, 2), (3, 4)]
    assert ledger.claim(10, 60) == []


def test_an_event_that_is_twice_in_a_batch_is_in_its_digest_once(rules: Rules, ledger: Ledger) -> None:
    events = changes(4)

    Digests(ledger, rules).add(rows(rules, [*events, *events[1:3], events[0]]))

    (found,) = ledger.recent()
    assert [each["version"] for each in json.loads(found.entries or "")["events"]] == [2, 3, 4, 5]


@pytest.mark.parametrize("keys", [("Name",), ("E-mail", "Phone"), ("tier", "ti\u202eer", "ti\u2066er")])
def test_fields_with_names_that_look_alike_stay_apart_in_a_digest(
    rules: Rules, ledger: Ledger, keys: tuple[str, ...]
) -> None:
    now = utc_now().replace(minute=10)
    versions = [Customer(7, Fields("Name 1", "a@example.com", "1"), False, 1, now, "t", now, "t")]
    for number, key in enumerate(["", *keys], 2):
        last = versions[-1]
        metadata = {**last.fields.metadata, key: f"new {key}"} if key else {}
        fields = Fields(f"Name {number}", f"a{number}@example.com", str(number), metadata)
        versions.append(last.changed_to(fields=fields, deleted=False, now=now, by="t"))
    events = [
        decode(
            new_change("updated", Stored(7, was.version, False, was.encode()), is_, actor="t").event.payload,
            b"7",
        )
        for was, is_ in itertools.pairwise(versions)
    ]
    team = dataclasses.replace(rules, rules=(dataclasses.replace(rules.rules[0], to=("t@example.com",)),))

    Digests(ledger, team).add(rows(team, events))

    (found,) = ledger.recent()
    changes = {label: (was, now) for label, was, now in json.loads(found.entries or "")["changes"]}
    assert len(changes) == 3 + len(keys)
    assert changes.pop("Name") == ("Name 1", versions[-1].fields.name)
    assert changes.pop("E-mail") == ("a@example.com", versions[-1].fields.email)
    assert changes.pop("Phone") == ("1", versions[-1].fields.phone)
    assert [was for was, _ in changes.values()] == ["–"] * len(keys)


def test_a_value_that_changed_and_changed_back_is_not_in_the_digest(rules: Rules, ledger: Ledger) -> None:
    events = changes(2)
    after = {**events[1].after, "name": "Name 1"}
    digests = Digests(ledger, rules)

    digests.add(rows(rules, [events[0], events[1]._replace(after=after)]))

    (found,) = ledger.recent()
    assert "Name:" not in found.text
    assert "plan: – → p1" in found.text


def flipping(count: int) -> list[ReceivedEvent]:
    """So many updates that change the name and change it back, of a window that is over."""
    first = changes(1, ago=3 * HOUR)[0]
    assert first.before is not None
    before = first.before
    there = first._replace(after={**before, "name": "Name 2"})
    back = there._replace(after=before, said_before=there.after)
    pairs = zip(range(count), itertools.cycle([there, back]), strict=False)
    return [each._replace(version=2 + n, id=f"e{n}") for n, each in pairs]


@pytest.mark.parametrize("count", [2, 4, 60])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_digest_whose_changes_are_all_taken_back_is_not_sent_and_says_why(
    rules: Rules,
    ledger: Ledger,
    sink: Sink,
    new_sender: NewSender,
    backdoor: Backdoor,
    at_once: bool,
    count: int,
) -> None:
    digests, events = Digests(ledger, rules), flipping(count + 1)
    for part in [events[:-1]] if at_once else [[each] for each in events[:-1]]:
        digests.add(rows(rules, part))
    backdoor.pass_time(HOUR)
    new_sender().turn()

    (found,) = ledger.recent()
    why = "all changes of the digest were taken back within it"
    assert (found.state, found.reason, sink.accepted) == ("suppressed", why, [])

    # What comes later is told.
    digests.add(rows(rules, events[-1:]))
    backdoor.pass_time(HOUR)
    new_sender().turn()
    assert ledger.counts() == {"suppressed": 1, "sent": 1}


@pytest.mark.parametrize("op", ["deleted", "restored", "created", "merged"])
def test_a_digest_that_tells_more_than_updates_is_sent_even_if_no_field_has_changed(
    rules: Rules, ledger: Ledger, new_sender: NewSender, backdoor: Backdoor, op: str
) -> None:
    first, *others = rows(rules, flipping(60))
    kept = json.loads(first.entries or "")
    kept["events"][0]["op"] = op
    digests = Digests(ledger, rules)
    digests.add([dataclasses.replace(first, entries=json.dumps(kept)), *others[:3]])
    digests.add(others)
    backdoor.pass_time(HOUR)

    new_sender().turn()

    assert ledger.counts() == {"sent": 1}


def test_a_digest_is_sent_if_values_differ_where_they_are_not_shown(
    rules: Rules, ledger: Ledger, new_sender: NewSender, backdoor: Backdoor
) -> None:
    there, back = flipping(2)
    assert there.before is not None
    plans = [{**there.before, "metadata": {"plan": "x" * 600 + end}} for end in "abc"]
    there = there._replace(said_before=plans[0], after=plans[1])
    back = back._replace(said_before=plans[1], after=plans[2])
    Digests(ledger, rules).add(rows(rules, [there, back]))
    backdoor.pass_time(HOUR)

    new_sender().turn()

    assert ledger.counts() == {"sent": 1}


# -- what comes late ---------------------------------------------------------------------------------------


def test_a_digest_is_taken_up_again_where_somebody_else_was_faster(
    rules: Rules, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = changes(4, ago=3 * HOUR)
    ours, theirs = Digests(ledger, rules), Digests(ledger, rules)
    real = ledger.find
    meanwhile = [lambda: theirs.add(rows(rules, events[:1])), lambda: theirs.add(rows(rules, events[:2]))]

    def find(ids: list[str]) -> list[Notification]:
        found = real(ids)
        if meanwhile:
            meanwhile.pop(0)()
        return found

    monkeypatch.setattr(ledger, "find", find)
    ours.add(rows(rules, events))

    (found,) = ledger.recent()
    assert (found.order, found.version) == (2, 5)
    assert "Name: Name 1 → Name 5" in found.text


def test_an_erasure_and_the_changes_after_it_are_mailed(rules: Rules, ledger: Ledger) -> None:
    digests = Digests(ledger, rules)
    events = changes(4, ago=3 * HOUR)
    erased = events[2]._replace(op="erased")

    digests.add(rows(rules, [*events[:2], erased]))
    ledger.forget(7, erased.version)
    digests.add(rows(rules, events[3:]))

    waiting = [row for row in ledger.recent() if row.state == "queued"]
    assert sorted((row.rule, row.order, row.version) for row in waiting) == [
        ("changed", 5, 5),
        ("erased", 4, 4),
    ]


# -- clocks ------------------------------------------------------------------------------------------------
