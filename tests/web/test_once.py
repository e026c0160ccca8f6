"""A form that is sent twice takes effect once, and the second answer equals the first."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from custsvc.domain.customers import Fields
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from tests.browser_form import form_of

from .conftest import Visitor

ME = Caller("me")


def versions(store: Store) -> dict[str, int]:
    page = store.customers.find(CustomerQuery(200, CustomerFilter("include")))
    return {each["name"]: each["version"] for each in orjson.loads(b"[" + page.docs + b"]")}


def filled(visitor: Visitor, page: str, action: str | None = None, /, **fields: str) -> MultiDict[str, str]:
    """The form of a page as a browser sends it, with these fields."""
    form = form_of(visitor.get(page).text, action)
    return MultiDict([(n, v) for n, v in form.fields if n not in fields] + list(fields.items()))


def send(visitor: Visitor, path: str, data: MultiDict[str, str]) -> TestResponse:
    return visitor.client.post(path, base_url=visitor.base_url, data=data)


def said(answer: TestResponse) -> tuple[int, str, str]:
    """An answer as the person sees it: the page that it leads to, and the message there."""
    toast = next((c for c in answer.headers.getlist("Set-Cookie") if c.startswith("custsvc_toast=")), "")
    return answer.status_code, answer.location, toast.split(".")[0]


@pytest.fixture
def one(store: Store) -> int:
    return CustomerService(store.customers).create(Fields("Ann", phone="1"), ME).id


def test_a_customer_is_added_once_however_often_the_form_is_sent(ann: Visitor, store: Store) -> None:
    data = filled(ann, "/ui/customers/new", name="New", email="new@example.org")

    answers = [send(ann, "/ui/customers/new", data) for _ in range(3)]

    assert len({said(answer) for answer in answers}) == 1
    assert versions(store) == {"New": 1}
    send(ann, "/ui/customers/new", MultiDict({**data, "name": "Another"}))
    send(ann, "/ui/customers/new", filled(ann, "/ui/customers/new", name="Somebody"))
    assert set(versions(store)) == {"New", "Another", "Somebody"}
    assert store.customers.count() == 3


def test_a_form_that_comes_twice_at_the_same_time_gets_one_answer(
    app: Flask, ann: Visitor, store: Store
) -> None:
    data = filled(ann, "/ui/customers/new", name="New")
    answers: list[Any] = []
    cookie = ann.cookie()

    def press() -> None:
        client = app.test_client()
        client.set_cookie("custsvc", cookie)
        answers.append(said(client.post("/ui/customers/new", data=data)))

    threads = [threading.Thread(target=press) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert versions(store) == {"New": 1}


@pytest.mark.parametrize("action", ["edit", "delete", "revert"])
def test_a_change_is_made_once_also_where_others_changed_it_back_between(
    action: str, ann: Visitor, store: Store, one: int
) -> None:
    service = CustomerService(store.customers)
    service.replace(one, Fields("Ann", phone="2"), ME)
    page, path = f"/ui/customers/{one}", f"/ui/customers/{one}/{action}"
    data = filled(ann, path, name="Mine") if action == "edit" else filled(ann, page, path)

    first = send(ann, path, data)
    assert (stored := store.customers.get(one)) is not None
    assert stored.version == 3
    if action == "delete":
        service.restore(one, ME)
    else:
        service.replace(one, Fields("Theirs"), ME)
    second = send(ann, path, data)

    assert said(first) == said(second)
    assert (again := store.customers.get(one)) is not None
    assert (again.version, again.deleted) == (4, False)


def test_choices_on_a_conflict_are_made_once(ann: Visitor, store: Store, one: int) -> None:
    path = f"/ui/customers/{one}/edit"
    opened = filled(ann, path, name="Mine", phone="2")
    CustomerService(store.customers).replace(one, Fields("Theirs", phone="3"), ME)
    asked = form_of(send(ann, path, opened).text, f"/ui/customers/{one}/resolve")
    data = MultiDict([*asked.fields, ("pick:name", "mine"), ("pick:phone", "theirs")])

    first, second = (send(ann, asked.action, data) for _ in range(2))

    assert said(first) == said(second)
    assert first.status_code == 303
    assert versions(store) == {"Mine": 3}


def test_an_old_form_does_not_restore_a_customer_that_was_deleted_again(
    ann: Visitor, store: Store, one: int
) -> None:
    service = CustomerService(store.customers)
    service.delete(one, ME)
    path = f"/ui/customers/{one}/restore"
    data = filled(ann, f"/ui/customers/{one}", path)

    first = send(ann, path, data)
    service.delete(one, ME)
    second = send(ann, path, data)

    assert said(first) == said(second)
    assert (stored := store.customers.get(one)) is not None
    assert stored.deleted


def test_many_are_deleted_once(ann: Visitor, store: Store, one: int) -> None:
    service = CustomerService(store.customers)
    two = service.create(Fields("Bob"), ME).id
    data = MultiDict(
        [*filled(ann, "/ui/customers", "/ui/customers/bulk").items(multi=True), ("ids", f"{one},{two}")]
    )
    data["action"] = "delete"

    first = send(ann, "/ui/customers/bulk", data)
    service.restore(one, ME)
    second = send(ann, "/ui/customers/bulk", data)

    assert said(first) == said(second)
    assert versions(store) == {"Ann": 3, "Bob": 2}
    data["action"] = "restore"
    send(ann, "/ui/customers/bulk", data)
    assert versions(store) == {"Ann": 3, "Bob": 3}


def test_undoing_leaves_those_that_somebody_else_had_deleted_or_restored(ann: Visitor, store: Store) -> None:
    service = CustomerService(store.customers)
    ids = [service.create(Fields(name), ME).id for name in ("Ann", "Bob", "Cem")]
    for action, undo, theirs in (
        ("delete", "restore", service.delete),
        ("restore", "delete", service.restore),
    ):
        data = filled(ann, "/ui/customers?state=all", "/ui/customers/bulk", action=action)
        data.update({"ids": ",".join(map(str, [*ids, 999_999]))})
        theirs(ids[1], ME)
        before = versions(store)["Bob"]

        send(ann, "/ui/customers/bulk", data)
        page = ann.get("/ui/customers")
        assert "2 customers. 2 others had been" in page.text
        button = form_of(page.text.partition("data-toast")[2], "/ui/customers/bulk")
        assert button.values("action") == [undo]
        send(ann, "/ui/customers/bulk", MultiDict(button.fields))
        assert versions(store)["Bob"] == before
        for each in (ids[0], ids[2]):
            (service.delete if action == "delete" else service.restore)(each, ME)


@pytest.mark.parametrize("action", [None, "", "Delete", "explode"])
@pytest.mark.parametrize("path", ["/ui/customers/bulk", "/ui/mails/change", "/ui/dead-letters/change"])
@pytest.mark.parametrize("choice", [{}, {"all": "yes"}])
def test_a_form_without_the_word_of_a_button_does_nothing(
    ann: Visitor, store: Store, one: int, action: str | None, path: str, choice: dict[str, str]
) -> None:
    mail = Notification("m1", "event-1", None, 1, "test", "a@example.org", "Hi", "text", None)
    store.ledger.add([replace(mail, state="failed", reason="550 no such box")])
    ann.get("/ui/customers/new")
    given = {} if action is None else {"action": action}

    answer = ann.post(path, ids=f"{one}" if "customers" in path else "m1", **given, **choice)

    assert answer.status_code == 400
    assert versions(store) == {"Ann": 1}
    assert store.ledger.find(["m1"])[0].state == "failed"


def test_a_mail_is_sent_again_once(ann: Visitor, store: Store) -> None:
    mail = Notification("m1", "event-1", None, 1, "test", "a@example.org", "Hi", "text", None)
    store.ledger.add([replace(mail, state="failed", reason="550 no such box")])
    data = filled(ann, "/ui/mails", "/ui/mails/change", action="retry", ids="m1")

    first = send(ann, "/ui/mails/change", data)
    assert store.ledger.find(["m1"])[0].state == "queued"
    store.ledger.discard(["m1"], "given up since")
    second = send(ann, "/ui/mails/change", data)

    assert said(first) == said(second)
    assert store.ledger.find(["m1"])[0].state == "discarded"


def test_every_form_of_the_pages_that_changes_something_has_a_key(ann: Visitor, one: int) -> None:
    for page in ("/ui/customers", f"/ui/customers/{one}", f"/ui/customers/{one}/edit", "/ui/customers/new"):
        text = ann.get(page).text
        forms = text.count('method="post"')
        assert text.count('name="once"') >= forms - 1, page  # signing out is done as often as one likes
