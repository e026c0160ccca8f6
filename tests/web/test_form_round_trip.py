"""The form of a customer sends back the values that it was opened with, for all that the API accepts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from custsvc.domain.canonical import canonical_fields, edited
from custsvc.domain.customers import Fields
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.web.forms import CustomerForm
from tests.browser_form import Form, form_of
from tests.customers import accepted

from .conftest import Visitor
from .hard import HARD

ME = Caller("me")


def sent(form: Form, **changes: str) -> MultiDict[str, str]:
    fields = form.fields
    for name, value in changes.items():
        fields = Form(fields=fields).changed(name, value)
    return MultiDict(fields)


def fields_of(store: Store, customer_id: int) -> bytes:
    stored = store.customers.get(customer_id)
    assert stored is not None
    customer = orjson.loads(stored.doc)
    return orjson.dumps([customer[name] for name in ("version", "name", "email", "phone", "metadata")])


def post(visitor: Visitor, path: str, data: MultiDict[str, str]) -> Any:
    return visitor.client.post(path, base_url=visitor.base_url, data=data)


@given(accepted)
def test_any_customer_that_is_opened_and_saved_stays_as_it_is(app: Flask, body: dict[str, Any]) -> None:
    before = canonical_fields(body)
    form = form_of(page_of(app, before))

    for change, name in (({}, before.name), ({"name": "Changed"}, "Changed")):
        read = CustomerForm.of_request(sent(form, **change), before)
        body_sent = read.body(before)

        assert body_sent is not None, read
        after = edited(before, body_sent)
        assert after == edited(before, {"name": name})
        assert orjson.dumps(after.metadata) == orjson.dumps(before.metadata)


def page_of(app: Flask, fields: Fields) -> str:
    from custsvc.web.forms import KINDS

    template = app.jinja_env.get_template("customers/form.html")
    page = {"form": CustomerForm.of_customer(fields), "kinds": KINDS, "customer": None, "version": 1}
    with app.test_request_context("/ui/customers/1/edit"):
        return template.render(**page, csrf="x", asset=str, take_toast=lambda: None)


def test_a_customer_is_saved_unchanged_without_a_version(ann: Visitor, store: Store) -> None:
    one = CustomerService(store.customers).create(Fields("Ann", metadata=HARD), ME).id
    before = fields_of(store, one)
    path = f"/ui/customers/{one}/edit"

    assert post(ann, path, sent(form_of(ann.get(path).text))).status_code == 303

    assert fields_of(store, one) == before


def test_untouched_fields_stay_through_an_error_and_a_conflict(ann: Visitor, store: Store) -> None:
    service = CustomerService(store.customers)
    one = service.create(Fields("Ann", phone="1", metadata=HARD), ME).id
    path = f"/ui/customers/{one}/edit"
    opened = form_of(ann.get(path).text)
    service.replace(one, Fields("Theirs", phone="2", metadata={**HARD, "one": 5}), ME)

    refused = post(ann, path, sent(opened, email="nobody", phone="3", name="Mine"))
    assert refused.status_code == 400
    asked = post(ann, path, sent(form_of(refused.text), email=""))
    assert asked.status_code == 409
    choice = form_of(asked.text, f"/ui/customers/{one}/resolve")
    data = MultiDict([*choice.fields, ("pick:name", "mine"), ("pick:phone", "theirs")])
    assert post(ann, f"/ui/customers/{one}/resolve", data).status_code == 303

    assert fields_of(store, one) == orjson.dumps(
        [3, "Mine", None, "2", dict(sorted({**HARD, "one": 5}.items()))]
    )


def test_no_form_brings_back_what_was_erased_since(ann: Visitor, store: Store) -> None:
    service = CustomerService(store.customers)
    for page, after, typed in itertools.product(
        ("edit", "conflict", "deleted"), ("", "changed", "deleted"), ("", "Typed")
    ):
        one = service.create(Fields("Ann", "ann@example.org", "1", {"city": "Lima"}), ME).id
        path = f"/ui/customers/{one}/edit"
        form = form_of(ann.get(path).text)
        if page == "conflict":
            service.replace(one, Fields("Theirs", "their@example.org"), ME)
            path = f"/ui/customers/{one}/resolve"
            form = form_of(post(ann, f"/ui/customers/{one}/edit", sent(form, name="Mine")).text, path)
            form.fields += [("pick:name", "mine")]
        elif page == "deleted":
            service.delete(one, ME)
            form = form_of(post(ann, path, sent(form, name="Mine")).text)
            form.fields += [("restore", "1")]
        service.erase(one, ME)
        if page == "deleted" or after == "deleted":
            service.delete(one, ME)
        elif after == "changed":
            service.update(one, lambda was: replace(was, phone="2"), ME)
        before = fields_of(store, one)

        answer = post(ann, path, sent(form, **({"name": typed} if typed and page != "conflict" else {})))

        assert answer.status_code == 409, (page, after)
        assert "was erased after this page was opened" in answer.text
        assert fields_of(store, one) == before


def test_a_conflict_distinguishes_a_text_from_a_number_that_looks_the_same(
    ann: Visitor, store: Store
) -> None:
    service = CustomerService(store.customers)
    one = service.create(Fields("Ann", metadata={"n": 0}), ME).id
    path = f"/ui/customers/{one}/edit"
    opened = form_of(ann.get(path).text)
    service.replace(one, Fields("Ann", metadata={"n": 1}), ME)

    page = post(ann, path, sent(opened, meta_value="1", meta_kind="text")).text

    assert '1 <small class="quiet">Number</small>' in page
    assert '1 <small class="quiet">Text</small>' in page


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_that_is_edited_keeps_its_own_line_ends(end: str) -> None:
    before = Fields("Ann", metadata={"text": f"a{end}b"})
    data = MultiDict(
        [("name", "Ann"), ("meta_key", "text"), ("meta_value", "a\r\nb\r\nc"), ("meta_kind", "text")]
    )

    body = CustomerForm.of_request(data, before).body(before)

    assert body is not None
    assert body["metadata"] == {"text": f"a{end}b{end}c"}


WRONG_NUMBERS = [
    "1,000",
    "1.000,5",
    "1,5",
    "1 000",
    "0x10",
    "1_000",
    "+1",
    "01",
    ".5",
    "1.",
    "NaN",
    "Infinity",
]
WRONG_NUMBERS += ["1e999", "", "true", '"1"', "\u0661", "[" * 5000, "9" * 5000, "0.12345678901234567890"]


@given(st.sampled_from(WRONG_NUMBERS) | st.text(max_size=6))
def test_a_number_is_what_was_typed_or_refused(text: str) -> None:
    data = MultiDict([("meta_key", "n"), ("meta_value", text), ("meta_kind", "number")])

    body = CustomerForm.of_request(data).body()

    assert body is None or orjson.loads(text.strip()) == body["metadata"]["n"]
    assert text not in WRONG_NUMBERS or body is None


def test_an_empty_entry_that_has_a_value_is_not_thrown_away() -> None:
    data = MultiDict([("meta_key", "n"), ("meta_value", "typed"), ("meta_kind", "null")])
    form = CustomerForm.of_request(data)

    assert form.body() is None
    assert "clear it" in form.pairs[0].wrong


def test_spaces_around_a_new_key_are_dropped() -> None:
    data = MultiDict(
        [("meta_key", " city "), ("meta_value", "Lima"), ("meta_kind", "text"), ("meta_was", "")]
    )

    assert (CustomerForm.of_request(data).body() or {})["metadata"] == {"city": "Lima"}


def test_the_form_of_the_conflict_page_is_checked(ann: Visitor, store: Store) -> None:
    one = CustomerService(store.customers).create(Fields("Ann"), ME).id
    ann.get(f"/ui/customers/{one}/edit")
    for mine in (
        "",
        "{",
        "1",
        "[]",
        "null",
        '{"name":null}',
        "[" * 5000,
        '{"metadata":{"a":' + "9" * 99 + "}}",
    ):
        answer = ann.post(f"/ui/customers/{one}/resolve", base="1", version="1", mine=mine)
        assert answer.status_code == 400, mine
