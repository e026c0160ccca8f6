"""The pages of duplicates: pairs judged, dismissed and back, and a warning before a customer comes twice."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.ports.duplicates import Pair, Versions
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.service.changes import Caller
from custsvc.service.customers import CustomerService
from custsvc.web import duplicates
from tests.browser_form import form_of

from .conftest import Visitor, words

ME = Caller("me")
PAGE = "/ui/duplicates"


@pytest.fixture
def service(store: Store) -> CustomerService:
    return CustomerService(store.customers)


@pytest.fixture
def three(service: CustomerService) -> list[int]:
    """Three times the same woman, after somebody else."""
    service.create(Fields("Bob Ray", "bob@example.org"), ME)
    return [service.create(Fields("Ada <b>Lovelace", "ada@example.org"), ME).id for _ in range(3)]


def pairs(page: TestResponse) -> list[tuple[int, int]]:
    """The pairs of a page, by the links that merge them."""
    found = re.findall(r'href="/ui/customers/(\d+)/merge\?from=(\d+)"', page.text)
    return [(int(one), int(other)) for one, other in found]


def sent(page: TestResponse, number: int = 0) -> dict[str, str]:
    """The values that the form of a pair sends."""
    forms = re.findall(r'action="/ui/duplicates/\w+">(.*?)</form>', page.text, re.DOTALL)
    found = dict(re.findall(r'name="(\w+)" value="([^"]*)"', forms[number]))
    return {name: unescape(found[name]) for name in ("pair", "back")}


def test_pairs_are_shown_page_by_page_with_what_is_alike(
    ann: Visitor, three: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = three
    monkeypatch.setattr(duplicates, "_PER_PAGE", 2)

    first = ann.get(PAGE)
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following is not None
    second = ann.get(unescape(following[1]))

    assert (pairs(first), pairs(second)) == ([(a, b), (a, c)], [(b, c)])
    assert "99 % likely same email same rare name" in words(first)
    assert "Ada &lt;b&gt;Lovelace" in first.text
    assert 'rel="next"' not in second.text
    assert ann.get(f"{PAGE}?cursor=made-up").status_code == 400


def test_a_pair_that_is_not_the_same_is_gone_until_that_is_undone_or_one_changes(
    ann: Visitor, three: list[int], service: CustomerService
) -> None:
    a, b, c = three
    page = ann.get(PAGE)

    done = ann.post(f"{PAGE}/dismiss", **sent(page))
    after = ann.get(done.location)
    gone = ann.get(f"{PAGE}?state=dismissed")

    assert (done.status_code, done.location) == (303, PAGE)
    assert "are not the same" in words(after)
    assert (pairs(after), pairs(gone)) == ([(a, c), (b, c)], [(a, b)])
    assert sent(after)["pair"] == sent(page)["pair"]  # the undo of the message
    ann.post(f"{PAGE}/undismiss", **sent(gone))
    assert pairs(ann.get(PAGE)) == [(a, b), (a, c), (b, c)]

    service.replace(a, Fields("Ada Lovelace", "ada@example.org"), ME)
    ann.post(f"{PAGE}/dismiss", **sent(page))
    assert "changed meanwhile" in words(ann.get(PAGE))
    assert pairs(ann.get(PAGE)) == [(a, b), (a, c), (b, c)]


@pytest.mark.parametrize("pair", ["", "1-1", "1-1,1-1", "2-1,1-1", "1-1,2-x", "9-1,10-1", "1-1,99-1"])
def test_a_form_that_no_page_has_dismisses_nothing(ann: Visitor, store: Store, pair: str) -> None:
    answer = ann.post(f"{PAGE}/dismiss", pair=pair, back="//evil.example")

    assert answer.status_code == 400 or answer.location == PAGE
    assert store.duplicates.dismissals(9) == []


def test_without_pairs_the_page_says_how_many_were_compared_and_what_to_do(
    ann: Visitor, service: CustomerService
) -> None:
    service.create(Fields("Bob Ray"), ME)

    page = words(ann.get(PAGE))

    assert "No two of your 1 customer are likely one" in page
    assert "custsvc duplicates --min-score" in page
    assert "stays here until one of the two changes" in words(ann.get(f"{PAGE}?state=dismissed"))


def test_a_new_customer_that_may_be_there_is_saved_once_that_was_seen(
    ann: Visitor, three: list[int], store: Store
) -> None:
    before = store.customers.count()
    new = form_of(ann.get("/ui/customers/new").text).sent(name="Ada Lovelace", email="ADA@example.org")

    asked = ann.post("/ui/customers/new", **new)

    assert asked.status_code == 409
    assert "One of these customers may be it already" in words(asked)
    assert "same email" in words(asked)
    assert store.customers.count() == before
    again = form_of(asked.text)
    assert again.values("seen") == [str(each) for each in three]
    saved = ann.post("/ui/customers/new", **again.sent())
    assert saved.status_code == 303
    assert ann.post("/ui/customers/new", **again.sent()).location == saved.location
    assert store.customers.count() == before + 1


def test_a_form_that_is_sent_twice_is_not_warned_of_its_own_customer(ann: Visitor, store: Store) -> None:
    new = form_of(ann.get("/ui/customers/new").text).sent(name="Ada", email="ada@example.org")

    first, again = (ann.post("/ui/customers/new", **new) for _ in range(2))

    assert (first.status_code, again.location) == (303, first.location)
    assert store.customers.count() == 1


@pytest.mark.parametrize(
    ("typed", "is_found"),
    [
        ({"name": "Ada Lovelace", "email": "ada@example.org"}, True),
        ({"name": "Ada Lovelace", "email": "ada@example.org", "phone": "\x01" * 999}, True),
        ({"name": "Ada Lovelace", "email": "ada@"}, True),
        ({"name": "", "email": "ada@example.org"}, False),
        ({"name": "Bob", "phone": "+49 30 1234567"}, False),
        ({}, False),
    ],
)
def test_likely_duplicates_are_shown_while_a_customer_is_typed(
    ann: Visitor, three: list[int], typed: dict[str, str], is_found: bool
) -> None:
    shown = ann.post(f"{PAGE}/like", **typed)

    assert shown.status_code == 200
    assert ("may be it already" in words(shown)) == is_found


def test_a_copy_shows_every_pair_and_lets_nobody_judge(
    settings: Settings, store: Store, three: list[int]
) -> None:
    a, b, c = three
    store.duplicates.dismiss({Pair(a, b): Versions(1, 1)}, "me")
    copy = Visitor(create_app(settings.replace(read_only=True, auth="off"), store))

    page = copy.get(f"{PAGE}?state=dismissed")

    assert "This is a copy" in words(page)
    assert page.text.count('class="twins"') == 3
    assert "Not the same" not in words(page)
    assert "merge?" not in page.text
    assert copy.post(f"{PAGE}/dismiss", pair=f"{a}-1,{c}-1").status_code in (403, 405)


def test_a_reader_sees_pairs_and_cannot_dismiss_them(app: Flask, make_user: Any, three: list[int]) -> None:
    make_user("reader", "read")
    reader = Visitor(app)
    reader.sign_in("reader")

    page = reader.get(PAGE)

    assert page.text.count('class="twins"') == 3
    assert "Compare and merge" not in words(page)
    for action in ("dismiss", "undismiss", "like"):
        assert reader.post(f"{PAGE}/{action}").status_code == 403
