"""Exports and streams check their reader's right again and again, and end when it is gone."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from custsvc.accounts.keys import KeyRing, new_key
from custsvc.config import Settings
from custsvc.domain.customers import Fields, utc_now
from custsvc.errors import TemporaryError
from custsvc.http import permits, streams
from custsvc.http.permits import Permits, Revoked
from custsvc.http.problems import Problem
from custsvc.http.streams import Streams
from custsvc.ports.accounts import ApiKey, User
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.service.customers import Caller, CustomerService
from custsvc.transfer import export
from custsvc.web import browser
from tests.waiting import until

from .conftest import Visitor

DEADLINE = 90.0


@pytest.fixture
def many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More customers than a page of an export has."""
    monkeypatch.setattr(export, "_PAGE", 5)
    service = CustomerService(store.customers)
    for number in range(20):
        service.create(Fields(f"Customer {number}"), Caller("ann"))


@pytest.fixture
def app(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, many: None) -> Flask:
    monkeypatch.setattr(streams, "Permits", lambda: Permits(every=0.05))
    return create_app(settings, store)


def ends(parts: Iterator[bytes], app: Flask, revoke: Callable[[], Any]) -> None:
    """Read the beginning, take the right away, and see that the rest does not come."""
    assert next(parts)
    [permit] = app.extensions["custsvc"].streams._permits._open
    assert permit()
    revoke()
    until("the permit is taken", lambda: not permit())
    with pytest.raises(Revoked):
        list(parts)
    assert app.extensions["custsvc"].streams.open == 0
    assert not app.extensions["custsvc"].streams._permits._open


KEYS: dict[str, Callable[[Store, ApiKey, KeyRing], Any]] = {
    "revoked": lambda store, key, _: store.keys.revoke(key.prefix, utc_now()),
    "expired": lambda _, key, ring: setattr(ring, "_clock", lambda: key.expires_on),
}


@pytest.mark.parametrize("fmt", ["json", "csv", "ndjson"])
@pytest.mark.parametrize("how", list(KEYS))
def test_an_export_ends_with_its_key(app: Flask, store: Store, how: str, fmt: str) -> None:
    text, key = new_key("reader", "read", expires_on=utc_now() + dt.timedelta(hours=1))
    store.keys.add(key)
    ring = app.extensions["custsvc"].keys
    ring._ttl = 0.1  # each is soon read again
    answer = app.test_client().get(
        f"/api/customers/export?format={fmt}", headers={"X-Api-Key": text}, buffered=False
    )
    assert answer.status_code == 200

    ends(iter(answer.iter_encoded()), app, lambda: KEYS[how](store, key, ring))


def changed(store: Store, **changes: Any) -> None:
    user = store.users.find("ann")
    assert user is not None
    assert store.users.replace(replace(user, **changes))


SESSIONS: dict[str, Callable[[Store, str], Any]] = {
    "signed out": lambda store, session: store.sessions.remove(session),
    "all of the user ended": lambda store, _: store.sessions.remove_of("user:ann"),
    "disabled": lambda store, _: changed(store, disabled_on=utc_now()),
}


@pytest.mark.parametrize("how", list(SESSIONS))
def test_an_export_of_the_pages_ends_with_its_session(
    app: Flask, store: Store, ann: Visitor, how: str
) -> None:
    answer = ann.client.get("/ui/customers/export", buffered=False)
    assert answer.status_code == 200

    ends(iter(answer.iter_encoded()), app, lambda: SESSIONS[how](store, browser._id(ann.cookie())))


def test_a_session_that_becomes_too_old_ends_what_it_began(
    app: Flask, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ann.client.get("/ui/customers/export", buffered=False)
    later = utc_now() + dt.timedelta(days=2)

    ends(iter(answer.iter_encoded()), app, lambda: monkeypatch.setattr(browser, "utc_now", lambda: later))


def test_a_user_whose_role_no_longer_suffices_is_refused_at_the_next_request(
    app: Flask, store: Store, make_user: Callable[..., User]
) -> None:
    make_user("ann", "admin")
    visitor = Visitor(app)
    visitor.sign_in("ann")
    with app.test_request_context("/", headers={"Cookie": f"custsvc={visitor.cookie()}"}):
        browsers = app.extensions["custsvc.web"].browsers
        may = browsers.permit(browsers.of_request(), "write")
    assert may()

    changed(store, role="read")

    until("no answer may begin", lambda: not may())


def test_while_the_database_does_not_say_an_answer_goes_on_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Event()

    def away() -> bool:
        asked.set()
        raise TemporaryError("away", dependency="postgres")

    permit = Permits(every=0.01).issue(away)
    assert asked.wait(DEADLINE)
    assert permit()

    monkeypatch.setattr(permits, "_BENEFIT_OF_DOUBT", 0.0)
    assert not permit()
    permit.close()


def test_a_question_that_fails_does_not_end_the_asking_for_others() -> None:
    may = [True]

    def broken() -> bool:
        raise RuntimeError("broken")

    both = Permits(every=0.01)
    others = [both.issue(broken), both.issue(lambda: may[0])]
    may[0] = False

    until("the place is taken", lambda: not others[1]())
    for each in others:
        each.close()
    until("both have ended", lambda: not both._running)
    assert both.issue(lambda: True)()


def test_one_caller_has_a_part_of_the_room_for_long_answers() -> None:
    room = Streams(8)

    def carried(caller: str | None) -> Any:
        return room.carried(lambda _: iter([b"x"]), lambda: True, caller)

    mine = [carried("key a") for _ in range(2)]
    with pytest.raises(Problem) as refused:
        carried("key a")
    assert (refused.value.status, refused.value.code) == (503, "too-many-streams")
    others = [carried("key b"), *(carried(None) for _ in range(5))]
    with pytest.raises(Problem):
        carried("key c")
    for each in (*mine, *others):
        each.close()
    assert room.open == 0
    assert not room._of
