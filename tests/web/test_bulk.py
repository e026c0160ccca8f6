"""One change to many customers on the pages, asked without a browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from custsvc.domain.customers import Fields
from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.transfer import plan
from custsvc.web import jobs
from tests.waiting import until

from .conftest import Visitor, words

ME = Caller("me")


@pytest.fixture
def service(store: Store) -> CustomerService:
    return CustomerService(store.customers)


@pytest.fixture
def many(service: CustomerService) -> list[int]:
    """Sixty customers named Smith, and one of another name."""
    found = [service.create(Fields(f"Smith {n}", metadata={"tier": "tin"}), ME).id for n in range(60)]
    service.create(Fields("Jones", metadata={"tier": "tin"}), ME)
    return found


def ended(visitor: Visitor, path: str) -> Any:
    """The page of a job, once it is no longer running."""
    return until(
        "the job ends", lambda: (page := visitor.get(path)) and "hx-trigger" not in page.text and page
    )


def planned(visitor: Visitor, **fields: Any) -> tuple[str, Any]:
    """Start the plan of an edit; gives the address of its page, and the page."""
    answer = visitor.post("/ui/bulk", **{"field": "metadata", "key": "tier", "value": "gold", **fields})
    assert answer.status_code == 303, words(answer)
    return answer.location, ended(visitor, answer.location)


def tiers(store: Store) -> list[Any]:
    found = store.customers.get_many(range(1, 200)).values()
    return sorted(str(each.customer().fields.metadata.get("tier")) for each in found)


def test_all_that_match_are_edited_as_shown_and_undone(
    ann: Visitor, service: CustomerService, store: Store, many: list[int]
) -> None:
    listed = ann.get("/ui/customers?q=smith&sort=name")
    assert "All 60 that match" in words(listed)
    assert "50 of 60 customers" in words(listed)
    asked = ann.post(
        "/ui/customers/bulk", action="edit", all="1", ids="1", back="/ui/customers?q=smith&sort=name"
    )
    form = ann.get(asked.location)
    assert "Edit 60 customers" in words(form)

    path, shown = planned(ann, of="q=smith&sort=name")
    assert "60 to change 0 have it already 0 cannot be changed" in words(shown)
    assert shown.text.count("<del>tin</del>") == 5
    assert tiers(store) == ["tin"] * 61
    service.update(many[7], lambda old: Fields("Smith 7", phone="1", metadata=old.metadata), ME)
    service.delete(many[8], ME)
    applied = ann.post(f"{path}/apply")
    again = ann.post(f"{path}/apply")
    assert applied.location == again.location
    result = ended(ann, applied.location)

    assert "58 changed 1 stayed as they were 1 left out" in words(result)
    assert f'<a href="/ui/customers/{many[7]}">' in result.text
    assert tiers(store) == ["gold"] * 58 + ["tin"] * 3
    assert store.customers.get_many([many[7]])[many[7]].version == 2

    (undo,) = re.findall(r'href="(/ui/imports/\w+)"', result.text)
    assert "Bulk edit by ann" in words(ann.get(undo))
    assert "bulk edit by ann: 58 changed" in words(ann.get("/ui/import"))
    done = ended(ann, ann.post(f"{undo}/undo").location)
    assert "58 changed back" in words(done)
    assert tiers(store) == ["tin"] * 61
    assert "It was undone" in words(ann.get(applied.location))
    ann.post(f"{path}/apply")
    assert "This was undone" in words(ann.get(path))
    assert tiers(store) == ["tin"] * 61


def test_all_that_match_are_deleted_restored_and_exported(
    ann: Visitor, store: Store, many: list[int]
) -> None:
    back = "/ui/customers?q=smith"
    for action, state in (("delete", ""), ("restore", "&state=trash")):
        shown = ann.post("/ui/customers/bulk", action=action, all="1", back=back + state)
        assert f"60 to {action}" in words(ended(ann, shown.location))
        result = ended(ann, ann.post(f"{shown.location}/apply").location)
        assert f"60 {action}d" in words(result)
        deleted = [each.deleted for each in store.customers.get_many(many).values()]
        assert deleted == [action == "delete"] * 60
    file = ann.post("/ui/customers/export", all="1", ids="1", format="csv", back=back).text
    assert len(file.splitlines()) == 61
    assert "Jones" not in file


def test_some_that_were_chosen_are_edited(ann: Visitor, store: Store, many: list[int]) -> None:
    asked = ann.post("/ui/customers/bulk", action="edit", ids=many[:2], back="/ui/customers?q=smith&limit=5")
    form = ann.get(asked.location)
    assert "Edit 2 customers" in words(form)
    assert 'href="/ui/customers?q=smith&amp;limit=5"' in form.text
    path, shown = planned(ann, ids=",".join(map(str, many[:2])), how="remove")
    assert "Remove: Metadata “tier”. Nothing was changed yet." in words(shown)
    ended(ann, ann.post(f"{path}/apply").location)
    assert tiers(store) == ["None"] * 2 + ["tin"] * 59


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"field": "email", "value": "nobody"}, "E-mail is not an e-mail address"),
        ({"field": "email", "value": " "}, "Give the new value"),
        ({"field": "name", "how": "remove"}, "always has a name"),
        ({"field": "metadata", "key": " "}, "Name the key"),
        (
            {"field": "metadata", "key": "a.b", "value": "x"},
            "Metadata “a.b” keys must not be empty, contain a dot",
        ),
        ({"field": "metadata", "key": "n", "value": "many", "kind": "number"}, "must be a number"),
        ({"field": "version", "value": "9"}, "Choose the field"),
    ],
)
def test_a_change_that_no_customer_can_have_is_refused_in_words(
    ann: Visitor, store: Store, fields: dict[str, str], why: str
) -> None:
    answer = ann.post("/ui/bulk", of="", **fields)
    assert answer.status_code == 400
    assert why in words(answer)
    assert store.shelf.all("job.") == {}


def test_a_wrong_filter_never_means_all(ann: Visitor, store: Store, many: list[int]) -> None:
    for back in (
        "/ui/customers?sort=shoe_size",
        "/ui/customers?updated__gte=never&q=smith",
        "/ui/customers?value=x",
    ):
        for action in ("delete", "edit"):
            assert ann.post("/ui/customers/bulk", action=action, all="1", back=back).status_code == 400
        assert ann.post("/ui/bulk", of=back.partition("?")[2], field="phone", value="1").status_code == 400
    assert ann.post("/ui/customers/bulk", action="drop", all="1", back="/ui/customers").status_code == 400
    assert store.shelf.all("job.") == {}


def test_changing_many_customers_needs_the_role_write(
    app: Flask, ann: Visitor, make_user: Callable[[str, Role], User], many: list[int]
) -> None:
    path, _ = planned(ann, of="q=smith")
    make_user("reader", "read")
    reader = Visitor(app)
    reader.sign_in("reader")
    reader.get("/ui/customers")
    for answer in (
        reader.get("/ui/bulk?of="),
        reader.get(path),
        reader.post("/ui/bulk", of="", field="phone", value="1"),
        reader.post(f"{path}/apply"),
        reader.post("/ui/customers/bulk", action="delete", all="1", back="/ui/customers"),
    ):
        assert answer.status_code == 403


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("then", ["goes on", "is undone"])
def test_a_change_whose_process_was_killed_goes_on_or_is_undone(
    ann: Visitor, store: Store, many: list[int], monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 10)
    path, _ = planned(ann, of="q=smith")
    save_many, left = store.customers.save_many, [3]

    def dies(changes: Any, answer: Any = None) -> None:
        if not left[0]:
            raise SystemExit  # ends the thread without a word, as kill -9 does
        left[0] -= 1
        save_many(changes, answer)

    with monkeypatch.context() as patched:
        patched.setattr(store.customers, "save_many", dies)
        applied = ann.post(f"{path}/apply").location
        until("the thread is dead", lambda: all(each.name != "bulk" for each in threading.enumerate()))
    assert tiers(store) == ["gold"] * 30 + ["tin"] * 31
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "_SILENT", 0.0)
        page = until(
            "it counts as lost", lambda: "ended half-way" in (found := ann.get(applied)).text and found
        )
        if then == "goes on":
            ann.post(f"{path}/apply")

    if then == "goes on":
        assert "60 changed" in words(ended(ann, applied))
        assert tiers(store) == ["gold"] * 60 + ["tin"]
        assert {each.version for each in store.customers.get_many(many).values()} == {2}
    (undo,) = re.findall(r'href="(/ui/imports/\w+)"', page.text)
    assert f"{60 if then == 'goes on' else 30} changed back" in words(
        ended(ann, ann.post(f"{undo}/undo").location)
    )
    assert tiers(store) == ["tin"] * 61
