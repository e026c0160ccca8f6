"""The ports Endpoints and Deliveries: webhook endpoints, their secrets, how they fare, and their log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custsvc.errors import Conflict
from custsvc.ports.endpoints import SECRETS_MAX, Endpoint
from custsvc.ports.ledger import Notification, Place, Settlement
from custsvc.ports.store import Store
from tests.backdoor import Backdoor

DAY = 86400.0


def endpoint(name: str = "one", **changes: Any) -> Endpoint:
    return replace(Endpoint(name, "https://example.com/$a", ("created", "updated"), "ann"), **changes)


def delivery(name: str, channel: str = "webhook:one", customer: int = 1, version: int = 1) -> Notification:
    return Notification(
        name, f"e-{name}", customer, version, "webhook", channel, "", "{}", None, channel=channel
    )


def ids(found: list[Notification]) -> list[str]:
    return [each.id for each in found]


def test_an_endpoint_is_found_as_it_was_stored_and_changed(store: Store) -> None:
    endpoints = store.endpoints
    one = endpoints.add(
        endpoint(changed=("metadata.$x",), conditions='{"$literal": 1}', description="$now"), "s1"
    )
    two = endpoints.add(endpoint("two", payload="state", email="ann@example.com"), "s2")

    assert endpoints.find("one") == one
    assert endpoints.all() == [one, two]
    assert one.created_on is not None
    assert (one.changed, one.conditions, one.description) == (("metadata.$x",), '{"$literal": 1}', "$now")
    with pytest.raises(Conflict):
        endpoints.add(endpoint(), "s3")

    assert endpoints.change("one", {"ops": ("deleted",), "email": "$b@example.com", "created_by": "eve"})
    assert not endpoints.change("nobody", {"url": "x"})
    changed = endpoints.find("one")
    assert changed is not None
    assert changed == replace(one, ops=("deleted",), email="$b@example.com", updated_on=changed.updated_on)
    assert endpoints.remove("one")
    assert not endpoints.remove("one")
    assert endpoints.all() == [two]
    assert endpoints.secrets().get("one", []) == []


def test_a_new_secret_lets_the_earlier_ones_sign_as_long_as_it_says(store: Store) -> None:
    endpoints = store.endpoints
    endpoints.add(endpoint(), "s1")
    endpoints.add(endpoint("two"), "t1")

    assert endpoints.add_secret("one", "s2", 3600.0)
    assert endpoints.add_secret("one", "s3", 3600.0)
    assert not endpoints.add_secret("nobody", "x", 0.0)
    assert endpoints.secrets() == {"one": ["s3", "s2", "s1"], "two": ["t1"]}

    for number in range(4, 8):
        endpoints.add_secret("one", f"s{number}", 3600.0)
    assert endpoints.secrets()["one"] == ["s7", "s6", "s5", "s4"][:SECRETS_MAX]
    assert endpoints.prune_secrets() == 0

    endpoints.add_secret("one", "leaked", 0.0)
    endpoints.add_secret("one", "last", 3600.0)
    assert endpoints.secrets() == {"one": ["last", "leaked"], "two": ["t1"]}
    assert endpoints.prune_secrets() == 7
    assert endpoints.secrets() == {"one": ["last", "leaked"], "two": ["t1"]}


def test_an_endpoint_is_paused_once_it_has_failed_for_so_long(
    store: Store, backdoor: Backdoor, at_once: Callable[..., list[Any]]
) -> None:
    endpoints = store.endpoints
    endpoints.add(endpoint(), "s")

    assert not endpoints.failed("one", "500 $no", DAY)
    backdoor.pass_time(DAY / 2)
    assert not endpoints.failed("one", "503 $down", DAY)
    endpoints.worked("one")
    found = endpoints.find("one")
    assert found is not None
    assert (found.failing_since, found.failure, found.paused_on) == (None, None, None)

    assert not endpoints.failed("one", "503 $down", DAY)
    backdoor.pass_time(DAY + 1)
    paused = at_once(*[lambda: endpoints.failed("one", "$gone", DAY)] * 3)
    assert sorted(paused) == [False, False, True]
    found = endpoints.find("one")
    assert found is not None
    assert found.paused_on is not None
    assert (found.paused_by, found.paused_why, found.owner_told) == (None, "$gone", False)

    endpoints.worked("one")
    assert (endpoints.find("one") or found).failing_since is not None
    endpoints.note_owner_mailed("one", found.paused_on)
    assert (endpoints.find("one") or found).owner_told
    assert not endpoints.pause("one", "by hand", "ann")
    assert endpoints.resume("one")
    assert not endpoints.resume("one")
    found = endpoints.find("one")
    assert found is not None
    assert (found.failing_since, found.paused_on, found.paused_why) == (None, None, None)
    assert endpoints.pause("one", "$by hand", "$ann")
    found = endpoints.find("one")
    assert found is not None
    assert (found.paused_by, found.paused_why) == ("$ann", "$by hand")


def test_a_test_is_asked_for_once_until_it_is_queued(store: Store) -> None:
    endpoints = store.endpoints
    endpoints.add(endpoint(), "s")

    asked = endpoints.ask_test("one")
    assert asked is not None
    assert endpoints.ask_test("one") == asked
    assert endpoints.ask_test("nobody") is None
    assert (endpoints.find("one") or endpoint()).test_asked == asked
    endpoints.test_queued("one", asked)
    assert (endpoints.find("one") or endpoint()).test_asked is None


def test_the_deliveries_of_a_channel_are_listed_page_by_page(store: Store) -> None:
    ledger = store.ledger
    for batch in range(3):
        ledger.add([delivery(f"{batch}{n}", customer=10 * batch + n) for n in range(4)])
    ledger.add([delivery("other", "webhook:two"), replace(delivery("mail"), channel="mail")])

    seen: list[str] = []
    place: Place | None = None
    while page := ledger.deliveries("webhook:one", limit=5, after=place):
        assert len(page) <= 5
        seen += ids(page)
        assert page[-1].created_on is not None
        place = Place(page[-1].created_on, page[-1].id)

    assert len(seen) == len(set(seen)) == 12
    assert [name[0] for name in seen] == sorted((name[0] for name in seen), reverse=True)
    assert ledger.deliveries("webhook:one", state="sent") == []
    assert ledger.waiting("webhook:one") == 12
    assert ledger.due(["webhook:one", "webhook:three", "webhook:two"]) == ["webhook:one", "webhook:two"]


def test_waiting_deliveries_of_a_channel_are_made_due_or_discarded(store: Store, backdoor: Backdoor) -> None:
    ledger = store.ledger
    ledger.add([delivery("a"), delivery("b", version=2), delivery("c", customer=2)])
    mail = replace(delivery("mail"), channel="mail", recipient="ann@example.com")
    ledger.add([delivery("x", "webhook:two", customer=3), mail])
    tomorrow = dt.datetime.fromtimestamp(store.clock() + DAY, dt.UTC)
    for claimed in ledger.claim(9, 60.0, "webhook:one"):
        ledger.advance([], [Settlement(claimed, "deferred", "500", tomorrow)])
    assert ledger.due(["webhook:one"]) == []

    assert ledger.hasten("webhook:one") == 2
    assert ledger.due(["webhook:one"]) == ["webhook:one"]
    again = ledger.claim(9, 60.0, "webhook:one")
    assert [(each.id, each.attempts, each.spared) for each in again] == [("a", 2, 1), ("c", 2, 1)]
    ledger.advance([], [Settlement(each, "queued", count_attempt=False) for each in again])

    assert ledger.discard_waiting("webhook:", "old", older=DAY) == 0
    while ledger.discard_waiting("webhook:", "the endpoint was deleted", kept=["webhook:two"]):
        pass
    assert {(row.id, row.state) for row in ledger.recent()} == {
        *((name, "discarded") for name in "abc"),
        ("x", "queued"),
        ("mail", "queued"),
    }
    backdoor.pass_time(2 * DAY, born_too=True)
    assert ledger.discard_waiting("webhook:", "old", older=DAY) == 1
    assert ledger.waiting("webhook:one") == ledger.waiting("webhook:two") == 0
