"""Who gets no mail: suppressed addresses, and rules that somebody has unsubscribed from."""

from __future__ import annotations

import time

from custsvc.ports.store import Store


def test_a_suppressed_address_is_found_with_its_reason_until_it_is_allowed(store: Store) -> None:
    people = store.recipients
    people.suppress("a@x.org", "bounce", detail="550 $no such user")

    found = people.suppressed(["a@x.org", "b@x.org"])

    assert set(found) == {"a@x.org"}
    assert (found["a@x.org"].reason, found["a@x.org"].detail) == ("bounce", "550 $no such user")
    assert found["a@x.org"].expires_on is None
    assert found["a@x.org"].created_on is not None
    assert [s.address for s in people.suppressions()] == ["a@x.org"]
    assert people.allow("a@x.org")
    assert not people.allow("a@x.org")
    assert people.suppressed(["a@x.org"]) == {}


def test_a_suppression_ends_at_its_time_and_a_shorter_one_does_not_cut_it(store: Store) -> None:
    people = store.recipients
    people.suppress("short@x.org", "bounce", seconds=0.2)
    people.suppress("long@x.org", "bounce", seconds=3600)
    people.suppress("long@x.org", "complaint", seconds=0.2)
    people.suppress("ever@x.org", "manual")
    people.suppress("ever@x.org", "bounce", seconds=0.2)
    time.sleep(0.4)

    found = people.suppressed(["short@x.org", "long@x.org", "ever@x.org"])

    assert {address: s.reason for address, s in found.items()} == {
        "long@x.org": "complaint",
        "ever@x.org": "bounce",
    }
    assert found["ever@x.org"].expires_on is None
    assert len(people.suppressions(1)) == 1


def test_unsubscribed_rules_are_remembered(store: Store) -> None:
    people = store.recipients
    people.set_wanted(1, "changed", False)
    people.set_wanted(1, "a.b$c", False)
    people.set_wanted(1, "changed", False)
    people.set_wanted(2, "*", False)
    people.set_wanted(2, "*", True)

    assert people.unwanted([1, 2, 3]) == {1: {"changed", "a.b$c"}}
