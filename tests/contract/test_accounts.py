"""The ports Users and Sessions: the users of the pages, and their sign-ins."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from custsvc.domain.customers import utc_now
from custsvc.errors import Conflict, DataRefused
from custsvc.ports.accounts import Factor, Session, User
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store

NOW = utc_now()
MINUTE = dt.timedelta(minutes=1)


def user(name: str, **changes: Any) -> User:
    return replace(User(name, "scrypt$…", "write", NOW), **changes)


def session(name: str, **changes: Any) -> Session:
    return replace(Session(name, "user:ann", "ann", "write", NOW, NOW), **changes)


def test_a_user_is_found_as_it_was_added(store: Store) -> None:
    store.users.add(user("zoë", role="admin", email="zoë@example.org"))
    store.users.add(user("ann", disabled_on=NOW))

    assert store.users.find("zoë") == user("zoë", role="admin", email="zoë@example.org")
    assert store.users.find("nobody") is None
    assert [each.name for each in store.users.all()] == ["ann", "zoë"]


def test_a_name_is_given_once(store: Store, at_once: Callable[..., list[Any]]) -> None:
    results = at_once(*(lambda: store.users.add(user("ann")) for _ in range(4)))

    assert [type(each) for each in results if each] == [Conflict] * 3
    with pytest.raises(Conflict, match="ann"):
        store.users.add(user("ann"))


def test_a_user_is_replaced_where_there_is_one(store: Store) -> None:
    store.users.add(user("ann"))

    assert store.users.replace(user("ann", password="new", role="read", disabled_on=NOW))
    assert not store.users.replace(user("bob"))

    assert store.users.find("ann") == user("ann", password="new", role="read", disabled_on=NOW)
    assert store.users.find("bob") is None
    for email in ("ann@example.org", None):
        assert store.users.replace(user("ann", email=email))
        assert store.users.find("ann") == user("ann", email=email)


def test_a_session_is_found_until_it_is_removed(store: Store) -> None:
    store.sessions.add(session("s1"))
    store.sessions.add(session("s2", subject="key:a1", role="read"))

    assert store.sessions.find("s1") == session("s1")
    store.sessions.remove("s1")
    store.sessions.remove("s1")

    assert store.sessions.find("s1") is None
    assert store.sessions.find("s2") == session("s2", subject="key:a1", role="read")


def test_the_last_use_of_a_session_never_goes_back(store: Store) -> None:
    store.sessions.add(session("s1"))
    store.sessions.seen("s1", NOW + 2 * MINUTE)
    store.sessions.seen("s1", NOW + MINUTE)
    store.sessions.seen("gone", NOW)

    assert store.sessions.find("s1") == session("s1", seen_on=NOW + 2 * MINUTE)
    assert store.sessions.find("gone") is None


def test_all_sessions_of_somebody_end_at_once(store: Store) -> None:
    for name, subject in (("s1", "user:ann"), ("s2", "user:ann"), ("s3", "user:bob")):
        store.sessions.add(session(name, subject=subject))

    assert store.sessions.remove_of("user:ann") == 2
    assert store.sessions.remove_of("user:ann") == 0
    assert store.sessions.find("s3") is not None


def test_all_sessions_are_listed_the_last_used_first(store: Store) -> None:
    assert store.sessions.all() == []
    for number, name in enumerate(("s2", "s1", "s3")):
        store.sessions.add(session(name, seen_on=NOW + number * MINUTE))

    assert [each.id for each in store.sessions.all()] == ["s3", "s1", "s2"]


def test_a_removed_user_is_not_found(store: Store) -> None:
    store.users.add(User("ann", "hash", "read", NOW))

    assert store.users.remove("ann")
    assert not store.users.remove("ann")
    assert store.users.find("ann") is None


def test_a_second_factor_counts_once_confirmed_and_only_one_call_confirms_it(
    store: Store, at_once: Callable[..., list[Any]]
) -> None:
    assert store.factors.begin("ann", "FIRST", NOW)
    assert store.factors.begin("ann", "SECOND", NOW)
    assert not store.factors.confirm("ann", "FIRST", 5, ["a"], NOW)
    assert store.factors.confirmed() == set()

    results = at_once(*(lambda: store.factors.confirm("ann", "SECOND", 5, ["a", "b"], NOW) for _ in range(4)))

    assert sorted(results) == [False, False, False, True]
    assert store.factors.find("ann") == Factor("ann", "SECOND", NOW, NOW, 5, ("a", "b"))
    assert not store.factors.begin("ann", "THIRD", NOW)
    assert store.factors.confirmed() == {"ann"}
    assert store.factors.remove("ann")
    assert not store.factors.remove("ann")
    assert store.factors.find("ann") is None


def test_no_code_of_a_second_factor_is_used_twice(store: Store, at_once: Callable[..., list[Any]]) -> None:
    store.factors.begin("ann", "SECRET", NOW)
    assert not store.factors.renew("ann", ["x"])
    store.factors.confirm("ann", "SECRET", 5, ["a", "b"], NOW)

    assert not store.factors.use_step("ann", 5)
    assert sorted(at_once(*(lambda: store.factors.use_step("ann", 7) for _ in range(4)))) == [
        *[False] * 3,
        True,
    ]
    assert not store.factors.use_step("ann", 6)
    used = at_once(*(lambda: store.factors.use_recovery("ann", "a") for _ in range(4)))
    assert sorted(used) == [False, False, False, True]
    assert store.factors.renew("ann", ["c"])
    assert not store.factors.use_recovery("ann", "b")
    assert store.factors.use_recovery("ann", "c")
    assert not store.factors.use_step("bob", 9)


def test_a_reset_is_claimed_by_one_and_again_when_its_lease_ends(
    store: Store, at_once: Callable[..., list[Any]]
) -> None:
    store.resets.ask("ann@x.org", NOW)
    claims = at_once(*(lambda: store.resets.claim(NOW, 60) for _ in range(4)))
    (asked,) = [each for each in claims if each]
    assert asked == ("ann@x.org", NOW)
    store.resets.issue("ann@x.org", "hash-1", NOW + MINUTE)

    again = store.resets.claim(NOW + 2 * MINUTE, 60)  # its process died before it settled
    assert again == asked
    store.resets.issue("ann@x.org", "hash-2", NOW + 3 * MINUTE)
    store.resets.settle(asked)

    assert store.resets.claim(NOW + 9 * MINUTE, 60) is None
    assert store.resets.owner("hash-1", NOW) is None
    assert store.resets.owner("hash-2", NOW) == "ann@x.org"
    store.resets.ask("ann@x.org", NOW + MINUTE)
    newer = store.resets.claim(NOW + MINUTE, 60)
    store.resets.ask("ann@x.org", NOW + 2 * MINUTE)
    assert newer is not None
    store.resets.settle(newer)
    assert store.resets.claim(NOW + 2 * MINUTE, 60) == ("ann@x.org", NOW + 2 * MINUTE)


def test_a_token_is_taken_by_one_before_it_expires(store: Store, at_once: Callable[..., list[Any]]) -> None:
    for name in ("ann@x.org", "bob@x.org", "eve@x.org"):
        store.resets.ask(name, NOW)
        store.resets.issue(name, f"hash of {name}", NOW + MINUTE)

    assert store.resets.take("hash of ann@x.org", NOW + MINUTE) is None
    taken = at_once(*(lambda: store.resets.take("hash of ann@x.org", NOW) for _ in range(4)))
    assert [name for name in taken if name] == ["ann@x.org"]
    store.resets.drop("bob@x.org")
    assert store.resets.owner("hash of bob@x.org", NOW) is None
    store.resets.purge(NOW + 2 * MINUTE)
    assert store.resets.claim(NOW, 60) == ("eve@x.org", NOW)
    store.resets.purge(NOW + 61 * MINUTE)
    assert store.resets.claim(NOW + 61 * MINUTE, 60) is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=ascii)
def test_text_that_a_database_cannot_hold_matches_nobody_or_is_refused_and_is_never_an_outage(
    store: Store, text: str
) -> None:
    """The driver's own errors, of Python or of SQL, are translated in one place."""
    asked: list[Callable[[], object]] = [
        lambda: store.users.find(text),
        lambda: store.sessions.find(text),
        lambda: store.sessions.count_try(text, NOW, 60),
        lambda: store.keys.find(text),
        lambda: store.facts.get(text),
        lambda: store.facts.put("k", text),
        lambda: store.answers.find(text, text, NOW),
        lambda: store.ledger.recent(recipient=text),
        lambda: store.ledger.recent(recipient_prefix=text),
        lambda: store.factors.find(text),
        lambda: store.ledger.find([text]),
        lambda: store.recipients.suppressed([text]),
        lambda: store.customers.get_by_emails([text]),
        lambda: store.customers.find(CustomerQuery(filter=CustomerFilter(name_prefix=text))),
    ]
    for ask in asked:
        with suppress(DataRefused):
            ask()
    store.ping()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**5000], ids=["above", "below", "long"])
def test_a_number_beyond_64_bits_matches_nobody_or_is_refused(store: Store, number: int) -> None:
    for ask in (store.customers.get, lambda id: store.customers.get_many([id])):
        with suppress(DataRefused):
            assert not ask(number)
    store.ping()


def test_an_old_session_is_purged(store: Store) -> None:
    store.sessions.add(session("old", created_on=NOW - MINUTE))
    store.sessions.add(session("new"))
    store.sessions.count_try("old", NOW - MINUTE, 3600)
    store.sessions.count_try("new", NOW, 3600)

    store.sessions.purge(NOW)

    assert store.sessions.find("old") is None
    assert store.sessions.find("new") is not None
    assert store.sessions.count_try("old", NOW, 3600) == 1
    assert store.sessions.count_try("new", NOW, 3600) == 2


def test_tries_are_counted_by_key_within_a_window(store: Store) -> None:
    assert [store.sessions.count_try("a", NOW, 60) for _ in range(3)] == [1, 2, 3]
    assert store.sessions.count_try("b", NOW, 60) == 1
    assert store.sessions.count_try("a", NOW + MINUTE, 60) == 4
    assert store.sessions.count_try("a", NOW + 2 * MINUTE, 60) == 1

    store.sessions.forget_tries("a")

    assert store.sessions.count_try("a", NOW, 60) == 1


def test_tries_at_once_each_get_a_number(store: Store, at_once: Callable[..., list[Any]]) -> None:
    numbers = at_once(*(lambda: store.sessions.count_try("a", NOW, 60) for _ in range(8)))

    assert sorted(numbers) == list(range(1, 9))
