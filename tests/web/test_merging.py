"""The pages that merge customers, asked without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from custsvc.domain.customers import Fields, Stored
from custsvc.ports.accounts import User
from custsvc.ports.store import Store
from custsvc.service.changes import Caller
from custsvc.service.customers import CustomerService

from .conftest import Visitor, words

ME = Caller("me")


@pytest.fixture
def service(store: Store) -> CustomerService:
    return CustomerService(store.customers)


@pytest.fixture
def clerk(visitor: Visitor, make_user: Callable[..., User]) -> Visitor:
    make_user("clerk")
    visitor.sign_in("clerk")
    return visitor


@pytest.fixture
def three(service: CustomerService) -> list[Stored]:
    return [
        service.create(Fields("Ada Lovelace", "ada@example.org", None, {"tier": "gold", "n": 1}), ME),
        service.create(Fields("A. Lovelace", None, "555 1", {"tier": "silver", "city": "London"}), ME),
        service.create(Fields("Ada Lovelace", "ada@example.org", None, {"n": True, "<b>": "<i>"}), ME),
    ]


def _sent(page: str, **changed: Any) -> dict[str, Any]:
    """The values of the merge form of a page, with other choices."""
    form = page[page.index('method="post" action="/ui/customers/') :]
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input [^>]*>", form):
        name, value = (unescape(re.search(rf' {what}="([^"]*)"', tag)[1]) for what in ("name", "value"))  # type: ignore[index]
        if "radio" not in tag or " checked" in tag:
            fields.setdefault(name, []).append(value)
    return fields | changed


def test_the_others_are_looked_for_and_compared(clerk: Visitor, three: list[Stored]) -> None:
    one, two, twin = (each.id for each in three)

    found = clerk.get(f"/ui/customers/{one}/merge")
    assert found.status_code == 200
    assert re.findall(r'name="from" value="(\d+)"', found.text) == [
        str(twin),
        str(two),
    ]  # the likeliest first
    assert "99 % likely: same email, same rare name" in words(found)
    assert "likely" not in words(clerk.get(f"/ui/customers/{one}/merge?q=lovelace"))
    assert f'name="from" value="{two}"' in clerk.get(f"/ui/customers/{one}/merge?q=lovelace").text
    assert "Nobody else is found" in words(clerk.get(f"/ui/customers/{one}/merge?q=zzz"))

    shown = words(clerk.get(f"/ui/customers/{one}/merge?from={two}"))
    assert "Merge 2 customers" in shown
    assert "E-mail Ada Lovelace #1 ada@example.org A. Lovelace #2 none" in shown


def test_picked_values_are_previewed_merged_and_undone(
    clerk: Visitor, three: list[Stored], service: CustomerService
) -> None:
    one, two, three_ = (each.id for each in three)
    path = f"/ui/customers/{one}"
    page = clerk.get(f"{path}/merge?from={two}&from={three_}").text
    picks = {"pick:name": str(two), "pick:metadata.tier": str(three_), "pick:metadata.n": str(three_)}

    preview = clerk.post(f"{path}/merge", **_sent(page, step="preview", **picks))

    assert preview.status_code == 200
    assert (
        "#1 will be Name A. Lovelace E-mail ada@example.org Phone 555 1 <b> <i> city London n yes"
        in words(preview)
    )
    assert service.get(one) == three[0]

    merged = clerk.post(f"{path}/merge", **_sent(preview.text, step="merge"))
    assert (merged.status_code, merged.headers["Location"]) == (303, path)
    after = service.get(one).customer().fields
    assert after == Fields(
        "A. Lovelace", "ada@example.org", "555 1", {"city": "London", "n": True, "<b>": "<i>"}
    )
    shown = clerk.get(path)
    assert "A. Lovelace, Ada Lovelace are part of A. Lovelace now." in words(shown)
    assert "#2 , #3 became part of it." in words(shown)
    assert f"It was merged into customer #{one}" in words(clerk.get(f"/ui/customers/{two}"))

    assert clerk.post(f"{path}/unmerge", version="2").status_code == 303
    assert "The merge was undone" in words(clerk.get(path))
    assert [service.get(each.id).customer().fields for each in three] == [
        each.customer().fields for each in three
    ]
    assert "Undo this merge" not in words(clerk.get(path))


def test_a_form_without_a_choice_merges_as_the_api_does(
    clerk: Visitor, three: list[Stored], service: CustomerService
) -> None:
    one, two, _ = (each.id for each in three)
    page = clerk.get(f"/ui/customers/{one}/merge?from={two}").text

    clerk.post(f"/ui/customers/{one}/merge", **_sent(page, step="merge"))

    assert service.get(one).customer().fields == Fields(
        "Ada Lovelace", "ada@example.org", "555 1", {"tier": "gold", "n": 1, "city": "London"}
    )


def test_a_form_that_is_sent_twice_merges_once(
    clerk: Visitor, three: list[Stored], service: CustomerService
) -> None:
    one, two, _ = (each.id for each in three)
    sent = _sent(clerk.get(f"/ui/customers/{one}/merge?from={two}").text, step="merge")

    first = clerk.post(f"/ui/customers/{one}/merge", **sent)
    again = clerk.post(f"/ui/customers/{one}/merge", **sent)

    assert (again.status_code, again.headers["Location"]) == (first.status_code, first.headers["Location"])
    assert service.get(one).version == 2


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_was_changed_meanwhile_is_shown_again(
    clerk: Visitor, three: list[Stored], service: CustomerService, which: int
) -> None:
    one, two, _ = (each.id for each in three)
    sent = _sent(clerk.get(f"/ui/customers/{one}/merge?from={two}").text, step="merge")
    service.replace(three[which].id, Fields("Changed"), ME)

    again = clerk.post(f"/ui/customers/{one}/merge", **sent)

    assert again.status_code == 409
    assert "was changed meanwhile" in words(again)
    assert service.get(two).version == 1 + (which == 1)
    done = clerk.post(f"/ui/customers/{one}/merge", **_sent(again.text, step="merge"))
    assert done.status_code == 303


def test_a_missing_customer_and_a_merge_that_cannot_be_undone_are_reported(
    clerk: Visitor, three: list[Stored], service: CustomerService
) -> None:
    one, two, _ = (each.id for each in three)
    service.delete(two, ME)
    assert clerk.get(f"/ui/customers/{one}/merge?from={two}").status_code == 404

    clerk.post(f"/ui/customers/{one}/unmerge")
    assert "The merge cannot be undone" in words(clerk.get(f"/ui/customers/{one}"))


def test_merging_on_the_pages_needs_the_role_write(
    visitor: Visitor, make_user: Callable[..., User], three: list[Stored]
) -> None:
    make_user("reader", "read")
    visitor.sign_in("reader")
    one, two, _ = (each.id for each in three)

    assert "Merge" not in words(visitor.get(f"/ui/customers/{one}"))
    assert visitor.get(f"/ui/customers/{one}/merge?from={two}").status_code == 403
    for action in ("merge", "unmerge"):
        assert visitor.post(f"/ui/customers/{one}/{action}", **{"from": str(two)}).status_code == 403
